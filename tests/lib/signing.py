# SPDX-License-Identifier: LGPL-2.1-or-later
"""Keys and signatures of policy files, made by openssl(1) as vtl-policy(5) says."""

import os
import re
import shutil
import subprocess

from tap import Skip

ALGORITHMS = {
    "ed25519": ["-algorithm", "ed25519"],
    "ecdsa-p384-sha384": ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
}


def run(*command, data=None, **more):
    return subprocess.run(command, check=True, input=data or b"", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          **more).stdout


class Key:
    """A private key in a file, and its public key."""

    def __init__(self, directory, name, algorithm="ed25519", options=None):
        if not shutil.which("openssl"):
            raise Skip("no openssl here")
        os.makedirs(directory, exist_ok=True)
        self.algorithm = algorithm
        self.path = os.path.join(directory, name + ".pem")
        run("openssl", "genpkey", *(options or ALGORITHMS[algorithm]), "-out", self.path)
        self.public = run("openssl", "pkey", "-in", self.path, "-pubout")
        der = run("openssl", "pkey", "-in", self.path, "-pubout", "-outform", "DER")
        self.id = run("openssl", "dgst", "-sha256", "-r", data=der)[:16].decode()

    def sign(self, path, srcdir):
        """The commands of the manual page, with nothing but $f set."""
        script = recipe(srcdir)
        if self.algorithm != "ed25519":
            script = script.replace("algorithm ed25519", "algorithm " + self.algorithm)
            script = script.replace("-rawin", "-rawin -digest sha384")
        work = os.path.join(os.path.dirname(self.path), "work")
        os.makedirs(work, exist_ok=True)
        shutil.copy(self.path, os.path.join(work, "key.pem"))
        run("sh", "-eu", "-c", "f=$1\n" + script, "sh", path, cwd=work)
        return path + ".sig"


def recipe(srcdir, name="vtl-policy.5"):
    """The commands of a manual page."""
    with open(os.path.join(srcdir, "man", name)) as f:
        page = f.read()
    block = re.search(r'\.\\" A test runs the next lines as they are here\.\n\.Bd [^\n]*\n(.*?)\n\.Ed\n', page, re.DOTALL)
    assert block, "the manual page has no commands"
    return block[1].replace("\\e", "\\")
