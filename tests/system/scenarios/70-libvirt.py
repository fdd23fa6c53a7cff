#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest in a domain of libvirt, as the two examples that are installed show it: the emulator is a script that starts
vtlrun beside QEMU, in the domain's scope.

libvirt asks an emulator over QMP what it can do, which vtlrun cannot answer; so QEMU is there, and does nothing."""

from system import *

EMULATOR = "/usr/local/libexec/vtld-emulator"
IMAGE = "/var/lib/libvirt/images/guest.elf"
OUTPUT = "/var/log/libvirt/qemu/vtld-example.vtlrun.log"
NAME, UUID = "vtld-example", "5f3c9b1e-6d0a-4c7b-9a52-1f0e8d7c6b5a"

# Nobody but domains that ask for it by that name
LIBVIRT_ONLY = "[match domains]\nlibvirt-policy=trusted\nallow-vtl1=yes\n[match others]\nname=*\nallow-vtl1=no\n"


def virsh(*arguments, **more):
    return run("virsh", "-q", "-c", "qemu:///system", *arguments, **{"timeout": 240, **more})


def libvirt_state():
    return get_all(ROOT, MANAGER)["LibvirtState"]


def helper():
    """PID of vtld-libvirt, a child of the broker; None if there is none"""
    children = run("pgrep", "--parent", str(main_pid()), "--exact", "vtld-libvirt", check=False).stdout.split()
    return int(children[0]) if children else None


def set_up():
    """The examples are installed, and the user of libvirt's emulators may do what they must."""
    os.makedirs(os.path.dirname(EMULATOR), exist_ok=True)
    shutil.copy(os.path.join(HOST, "libvirt-emulator.example"), EMULATOR)
    os.chmod(EMULATOR, 0o755)
    shutil.copy(os.path.join(HOST, "guests", "bench.elf"), IMAGE)
    os.chmod(IMAGE, 0o644)
    run("usermod", "--append", "--groups", "vtld,kvm", "libvirt-qemu")
    with open(OUTPUT, "w") as f:
        os.fchown(f.fileno(), pwd.getpwnam("libvirt-qemu").pw_uid, -1)
    with open(os.path.join(HOST, "libvirt-domain.xml.example")) as f:
        text = f.read()
    assert UUID in text and EMULATOR in text and IMAGE in text and OUTPUT in text
    options = "<qemu:env name='VTLD_OPTIONS' value='--memory 64 --timeout 300 --append switch=100000000'/>"
    with open("/tmp/domain.xml", "w") as f:
        f.write(text.replace("</qemu:commandline>", options + "</qemu:commandline>"))


@contextlib.contextmanager
def domain():
    """The domain runs, and its VM was attached."""
    domain.begin = now()
    virsh("start", NAME)
    try:
        message("VM_STARTED", domain.begin, VTLD_PARTITION=UUID)
        yield
    except BaseException:
        with open(OUTPUT) as f:
            diag(f.read())
        diag(run("journalctl", "--no-pager", "-n", "40", "-u", "vtld.service").stdout)
        raise
    finally:
        virsh("destroy", NAME, check=False)
        wait_for(lambda: not partitions(), "the VM goes with its domain")


def calls(path):
    return get_all(path + "/vp/0", PROCESSOR)["VtlCalls"]


def goes_on(path):
    before = calls(path)
    wait_for(lambda: calls(path) > before, "the guest runs")


def test_libvirt_and_vtld_know_each_other():
    set_up()
    assert "<domain>kvm</domain>" in virsh("domcapabilities", "--virttype", "kvm", "--emulatorbin", EMULATOR).stdout
    virsh("define", "/tmp/domain.xml")
    systemctl("restart", "vtld.service")
    wait_for(lambda: libvirt_state() == "connected", "vtld is connected to libvirt")
    text = run("vtlctl", "domain", "show", NAME, timeout=TIMEOUT).stdout
    assert UUID in text and "default" in text, text


def test_a_guest_of_a_domain_gets_the_policy_of_its_metadata():
    run("vtlctl", "domain", "enable", NAME, "trusted")
    write_policy(LIBVIRT_ONLY)
    systemctl("reload", "vtld.service")
    with domain():
        path = path_of(UUID)
        started = message("VM_STARTED", domain.begin, VTLD_PARTITION=UUID)
        assert started["VTLD_POLICY"] == "domains" and started["VTLD_NAME"] == NAME
        assert started["VTLD_UID"] == str(pwd.getpwnam("libvirt-qemu").pw_uid)
        message("VTL1_ENABLED", domain.begin, VTLD_PARTITION=UUID)
        properties = get_all(path, PARTITION)
        assert (properties["LibvirtDomain"], properties["LibvirtPolicy"]) == (NAME, "trusted")
        assert virsh("domstate", NAME).stdout.strip() == "running"

        # Its process is the domain's, as machined sees it.
        with open("/proc/%d/cgroup" % properties["Vmm"]) as f:
            group = f.read().strip().split(":", 2)[2]
        assert "machine-qemu" in group
        goes_on(path)
        no_domain_is_not_served_as_one()
        no_process_of_a_domain_is_another_vm(group)

        # What the guest was let do when it was started stays so.
        write_policy(LIBVIRT_ONLY.replace("trusted", "somebody"))
        systemctl("reload", "vtld.service")
        goes_on(path)
    assert not messages("WORKER_FAILED", domain.begin, VTLD_PARTITION=UUID)


def no_domain_is_not_served_as_one():
    """A process of no domain, by the same name"""
    with guest("demo", NAME) as g:
        assert g.wait() != GUEST_OK, g.said()
        assert message("VTL1_DENIED", VTLD_PARTITION=g.uuid)["VTLD_POLICY"] == "others"


def no_process_of_a_domain_is_another_vm(group):
    script = 'echo $$ >"/sys/fs/cgroup$0/cgroup.procs" && exec vtlrun --name other --uuid "$1" --memory 64 "$2"'
    answer = run("sh", "-c", script, group, str(uuid.uuid4()), IMAGE, check=False)
    assert answer.returncode == 69 and "domain" in answer.stdout + answer.stderr, answer
    wait_for(lambda: any("belongs to libvirt domain " + UUID in str(e.get("MESSAGE")) for e in follower().read()),
             "the journal says so")


def test_a_policy_that_does_not_name_it_refuses_it():
    write_policy(LIBVIRT_ONLY.replace("trusted", "somebody"))
    systemctl("reload", "vtld.service")
    with domain():
        assert message("VTL1_DENIED", domain.begin, VTLD_PARTITION=UUID)["VTLD_POLICY"] == "others"


def test_a_killed_helper_is_started_again():
    write_policy(LIBVIRT_ONLY)
    systemctl("reload", "vtld.service")
    with domain():
        path = path_of(UUID)
        message("VTL1_ENABLED", domain.begin, VTLD_PARTITION=UUID)
        broker, before = main_pid(), helper()
        assert status_of(before)["Seccomp"] == "2" and status_of(before)["CapEff"] == "0" * 16
        with open("/proc/%d/attr/current" % before) as f:
            assert f.read().strip("\0\n") == "vtld (enforce)"
        os.kill(before, signal.SIGKILL)
        wait_for(lambda: helper() not in (None, before), "another vtld-libvirt")
        wait_for(lambda: libvirt_state() == "connected", "it is connected")
        goes_on(path)
        assert get_all(path, PARTITION)["LibvirtDomain"] == NAME and main_pid() == broker


def test_a_libvirtd_that_goes_and_comes_changes_nothing_for_a_guest():
    with domain():
        path = path_of(UUID)
        systemctl("stop", "libvirtd.service", "libvirtd.socket", "libvirtd-ro.socket", "libvirtd-admin.socket")
        wait_for(lambda: libvirt_state() == "failed", "libvirt is missed")
        goes_on(path)
        systemctl("start", "libvirtd.socket", "libvirtd-ro.socket")
        wait_for(lambda: libvirt_state() == "connected", "libvirt is found again")
        goes_on(path)


def test_nothing_that_it_needs_was_denied():
    said = [e["MESSAGE"] for e in journal("_TRANSPORT=kernel") if isinstance(e["MESSAGE"], str)]
    denied = [m for m in said if 'apparmor="DENIED"' in m and 'profile="vtld' in m]
    assert not denied, denied


def clean_up():
    virsh("destroy", NAME, check=False)
    virsh("undefine", NAME, check=False)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(POLICY)
    systemctl("reload-or-restart", "vtld.service")


main(globals(), clean_up)
