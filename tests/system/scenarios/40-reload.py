#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A policy is written, loaded, broken and mended while a guest runs."""

from system import *

REFUSE = "[match nobody]\nname=*\nallow-vtl1=no\n"
RULE = "/etc/polkit-1/rules.d/50-vtld-test.rules"


def refused(name):
    """A guest is refused VTL1 by the policy that holds now."""
    with guest("demo", name) as g:
        assert g.wait() != GUEST_OK, g.said()
        denied = message("VTL1_DENIED", VTLD_PARTITION=g.uuid)
        assert denied["VTLD_POLICY"] == "nobody" and denied["PRIORITY"] == "5"
        assert not messages("VTL1_ENABLED", VTLD_PARTITION=g.uuid)


def test_a_new_policy_holds_for_the_next_guest():
    write_policy(ALLOW_ALL)
    systemctl("start", "vtld.service")
    systemctl("reload", "vtld.service")
    pid = main_pid()
    with long_guest("before") as g:
        g.wait_for_vtl1()
        assert get_all(g.path(), PARTITION)["PolicyName"] == "all"
        write_policy(REFUSE)
        here = now()
        systemctl("reload", "vtld.service")
        refused("after")
        message("POLICY_LOADED", here)
        before = g.calls()
        wait_for(lambda: g.calls() > before, "the guest that ran before goes on")
        assert g.is_running() and get_all(g.path(), PARTITION)["PolicyName"] == "all"
    assert main_pid() == pid, "no restart was needed"


def test_a_broken_policy_is_a_reload_that_fails():
    write_policy("[match x]\nallow-vtl1=perhaps\n")
    here = now()
    answer = systemctl("reload", "vtld.service", check=False)
    assert answer.returncode != 0
    bad = message("POLICY_BAD", here)
    assert POLICY + ":2: " in bad["MESSAGE"]
    assert is_active("vtld.service"), unit("vtld.service", "ActiveState")
    refused("still refused")


def test_a_broken_policy_is_no_reason_to_start_again():
    systemctl("stop", "vtld.service")
    answer = systemctl("start", "vtld.service", check=False)
    assert answer.returncode != 0
    assert unit("vtld.service", "ExecMainStatus") == 65 and unit("vtld.service", "Result") == "exit-code"
    time.sleep(2)
    assert unit("vtld.service", "ActiveState") == "failed" and unit("vtld.service", "NRestarts") == 0
    write_policy(REFUSE)
    systemctl("reset-failed", "vtld.service", "vtld.socket")
    # Too many starts that fail take the socket with them.
    systemctl("start", "vtld.socket", "vtld.service")
    assert is_active("vtld.service")


def reload_as(user):
    return run("busctl", "--allow-interactive-authorization=no", "call", "org.vtld1", ROOT, MANAGER, "Reload",
               check=False, user=user)


def test_polkit_decides_who_else_may():
    make_users()
    here = now()
    answer = reload_as("vmm")
    assert answer.returncode != 0 and "nteractive" in answer.stderr, answer.stderr
    assert not messages("POLICY_LOADED", here)
    with open(RULE, "w") as f:
        f.write('polkit.addRule(function(action, subject) {\n'
                '  if (action.id == "org.vtld1.load-policy")\n'
                '    return subject.user == "vmm" ? polkit.Result.YES : polkit.Result.NO;\n'
                '});\n')
    # polkit notices by itself that there is a rule.
    wait_for(lambda: reload_as("vmm").returncode == 0, "the user may now")
    message("POLICY_LOADED", here)
    answer = reload_as("stranger")
    assert answer.returncode != 0 and "denied" in answer.stderr.lower(), answer.stderr
    assert message("UNAUTHORIZED", here)["VTLD_ACTION"] == "org.vtld1.load-policy"


def no_policy():
    for path in RULE, POLICY:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    systemctl("reload-or-restart", "vtld.service")


def test_without_a_policy_everything_is_allowed_again():
    no_policy()
    with guest("demo", "allowed again") as g:
        assert g.wait() == GUEST_OK, g.said()


main(globals(), no_policy)
