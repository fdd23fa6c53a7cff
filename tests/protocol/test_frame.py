#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Headers, sizes and descriptors of any message, before its command is looked at."""

from common import *


def broken(data, fds=(), error=errno.EPROTO, text=""):
    """Sends something that is no message: it is answered, and the connection ends."""
    with daemons.client() as c:
        c.send_raw(data, fds)
        reply = c.receive()
        assert reply is not None and reply.error == error, reply and (reply.error, reply.text)
        assert text in reply.text, reply.text
        assert c.closed(), "the connection ends"


def header(command=VERSION, size=None, flags=0, error=0, payload=b""):
    return HEADER.pack(1, command, HEADER.size + len(payload) if size is None else size, flags, error) + payload


def test_shorter_than_a_header():
    for n in 1, 2, 15:
        broken(header()[:n], text="shorter than a header")


def test_an_empty_packet_ends_the_connection():
    with daemons.client() as c:
        c.send_raw(b"")
        assert c.closed()


def test_size_is_not_that_of_the_message():
    for size in 0, 15, 17, 0xFFFFFFFF:
        broken(header(size=size), text="size in the header")


def test_a_reply_is_no_command():
    broken(header(flags=REPLY), text="no command")


def test_unknown_flags():
    for bit in range(32):
        broken(header(flags=1 << bit), text="no command")


def test_an_error_in_a_command():
    broken(header(error=5), text="no command")


def test_a_message_that_is_too_long():
    broken(header(payload=bytes(MAX_MESSAGE)), error=errno.EMSGSIZE, text="longer than any command")


def test_a_message_that_is_too_long_and_its_descriptors():
    fds = [memfd(4096) for _ in range(3)]
    broken(header(payload=bytes(MAX_MESSAGE)), fds, error=errno.EMSGSIZE)
    for fd in fds:
        os.close(fd)


def test_more_descriptors_than_any_command_has():
    fds = [memfd(4096) for _ in range(36)]
    broken(header(), fds, error=errno.EBADF, text="descriptors")
    for fd in fds:
        os.close(fd)


def test_as_many_descriptors_as_a_packet_can_carry():
    fds = [memfd(4096)] * 253
    broken(header(), fds, error=errno.EBADF, text="descriptors")
    os.close(fds[0])


def test_unknown_commands():
    with daemons.client() as c:
        c.version()
        for command in 0, 12, 13, 64, 0xFFFF:
            c.refused(errno.ENOSYS, "unknown command", command)


def test_descriptors_of_an_unknown_command_are_closed():
    with daemons.client() as c:
        c.version()
        fds = [memfd(4096) for _ in range(5)]
        c.refused(errno.ENOSYS, "unknown command", 99, b"", fds)
        for fd in fds:
            os.close(fd)
        wait_for(lambda: daemons.fd_count() == daemons.idle_fds + 2, "socket and pidfd are all there is")


def test_commands_that_are_not_offered():
    with daemons.client() as c:
        c.version()
        fd = memfd(4096)
        for command in SAVE, RESTORE, RESET, ADD_MEMORY:
            c.refused(errno.EOPNOTSUPP, "not offered", command)
            c.refused(errno.EOPNOTSUPP, "not offered", command, bytes(100), [fd])
        os.close(fd)


def test_every_command_is_acknowledged_in_order():
    with daemons.client() as c:
        for _ in range(20):
            c.send(PAUSE)
        ids = [c.receive().id for _ in range(20)]
        assert ids == list(range(ids[0], ids[0] + 20))


def test_a_peer_that_reads_no_answers_is_not_waited_for():
    with daemons.client() as c:
        c.socket.settimeout(0.5)
        try:
            for _ in range(100000):
                c.send(PAUSE)
        except (socket.timeout, BrokenPipeError, ConnectionResetError):
            pass
        with daemons.client() as other:
            other.version()


def test_a_connection_may_close_at_any_time():
    for n in range(30):
        c = daemons.client()
        if n % 2:
            c.send(VERSION, VERSION_BODY.pack(MAJOR, MINOR, CONTROL_VERSION, 0, 0, 0, 0, 0))
        c.close()


run(globals())
