# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A program: runs a command on a kernel without vhost-vsock as if it had one, for incusd and QEMU.

    python3 shim.py incusd

Incus starts virtual machines only where it can bind a vsock listener to the host's CID, and where QEMU's
/dev/vhost-vsock answers; and it lifts the limit on locked memory, which root without CAP_SYS_RESOURCE may not. The
command runs under a seccomp filter that hands these few system calls over, here to be answered (seccomp_unotify(2)):

- bind of a vsock socket to the host's CID: bound to any CID instead;
- ioctl of the vhost kind: success; the features asked for are those that QEMU wants;
- setrlimit and prlimit of the locked memory: success, nothing done.

Everything else runs as it is. The guest gets a vsock device that never connects, so no agent; a picture of its screen
needs none. x86-64, Linux 5.19 or later, Python 3.9, root.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import select
import socket
import struct
import sys
from collections.abc import Sequence
from typing import NamedTuple, Optional

# System calls of x86-64 (arch/x86/entry/syscalls/syscall_64.tbl).
BIND, IOCTL, SETRLIMIT, PRLIMIT, SECCOMP, PIDFD_OPEN, PIDFD_GETFD = 49, 16, 160, 302, 317, 434, 438

# linux/seccomp.h
SET_MODE_FILTER, NEW_LISTENER, WAIT_KILLABLE = 1, 1 << 3, 1 << 5
RET_ALLOW, RET_NOTIFY, RET_ERRNO = 0x7FFF0000, 0x7FC00000, 0x00050000
NOTIF_RECV, NOTIF_SEND = 0xC0502100, 0xC0182101
NOTIF, ANSWER = struct.Struct("<QIIiIQ6Q"), struct.Struct("<QqiI")
LET_IT_RUN = 1
ARCH_X86_64 = 0xC000003E  # linux/audit.h

# Where seccomp_data has things: the low half of an argument is what all our comparisons want.
DATA_CALL, DATA_ARCH = 0, 4

AF_VSOCK, HOST_CID, ANY_CID = 40, 2, 0xFFFFFFFF  # linux/vm_sockets.h
SOCKADDR_VM = struct.Struct("<HHII4x")  # family, reserved, port, cid
VHOST_IOCTLS, VHOST_GET_FEATURES = 0xAF00, 0x8008AF00  # linux/vhost.h
VHOST_FEATURES = 1 << 32 | 1 << 29 | 1 << 28  # VERSION_1, EVENT_IDX, INDIRECT_DESC
RLIMIT_MEMLOCK = 8

LOAD, EQUAL, AND, RETURN = 0x20, 0x15, 0x54, 0x06  # linux/filter.h

libc = ctypes.CDLL(None, use_errno=True)


class Step(NamedTuple):
    """One instruction of the filter; `yes` and `no` are labels, None is the next instruction."""

    code: int
    value: int
    yes: Optional[str] = None
    no: Optional[str] = None
    label: Optional[str] = None


def argument(number: int) -> int:
    """Where seccomp_data has the low half of an argument."""
    return 16 + 8 * number


FILTER = (
    Step(LOAD, DATA_ARCH),
    Step(EQUAL, ARCH_X86_64, None, "allow"),
    Step(LOAD, DATA_CALL),
    Step(EQUAL, BIND, "bind"),
    Step(EQUAL, IOCTL, "ioctl"),
    Step(EQUAL, PRLIMIT, "prlimit"),
    Step(EQUAL, SETRLIMIT, "setrlimit", "allow"),
    Step(LOAD, argument(2), label="bind"),
    Step(EQUAL, SOCKADDR_VM.size, "ask", "allow"),  # the size of a vsock address, and of an IPv4 one
    Step(LOAD, argument(1), label="ioctl"),
    Step(AND, 0xFF00),
    Step(EQUAL, VHOST_IOCTLS, "ask", "allow"),
    Step(LOAD, argument(2), label="prlimit"),
    Step(EQUAL, 0, "allow"),  # no new limit: it only reads
    Step(LOAD, argument(1)),
    Step(EQUAL, RLIMIT_MEMLOCK, "done", "allow"),
    Step(LOAD, argument(0), label="setrlimit"),
    Step(EQUAL, RLIMIT_MEMLOCK, "done", "allow"),
    Step(RETURN, RET_NOTIFY, label="ask"),
    Step(RETURN, RET_ERRNO, label="done"),  # with errno 0: not carried out, and successful
    Step(RETURN, RET_ALLOW, label="allow"),
)


def assemble(steps: Sequence[Step]) -> bytes:
    """The filter as the kernel wants it."""
    labels = {step.label: index for index, step in enumerate(steps) if step.label}

    def jump(index: int, label: Optional[str]) -> int:
        return labels[label] - index - 1 if label else 0

    return b"".join(
        struct.pack("<HBBI", step.code, jump(index, step.yes), jump(index, step.no), step.value)
        for index, step in enumerate(steps)
    )


def call(number: int, *arguments: int | ctypes.Array[ctypes.c_char]) -> int:
    """A system call that the standard library does not have."""
    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    result = libc.syscall(ctypes.c_long(number), *words)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return int(result)


def install() -> int:
    """Put this process, and all that comes of it, under the filter; return where its questions come."""
    code = ctypes.create_string_buffer(assemble(FILTER))
    program = ctypes.create_string_buffer(struct.pack("<HxxxxxxQ", len(FILTER), ctypes.addressof(code)))
    return call(SECCOMP, SET_MODE_FILTER, NEW_LISTENER | WAIT_KILLABLE, program)


def process_of(thread: int) -> int:
    """The process that a thread belongs to."""
    with open(f"/proc/{thread}/status", encoding="ascii", errors="replace") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("Tgid:"))


def borrow(thread: int, descriptor: int) -> int:
    """Another process's descriptor, as one of ours."""
    process = call(PIDFD_OPEN, process_of(thread), 0)
    try:
        return call(PIDFD_GETFD, process, descriptor, 0)
    finally:
        os.close(process)


def answer_bind(thread: int, descriptor: int, address: int) -> int:
    """Bind to any CID what was to be bound to the host's; return the flags of the answer."""
    with open(f"/proc/{thread}/mem", "rb", 0) as memory:
        memory.seek(address)
        family, _reserved, port, cid = SOCKADDR_VM.unpack(memory.read(SOCKADDR_VM.size))
    if family != AF_VSOCK or cid != HOST_CID:
        return LET_IT_RUN
    with contextlib.closing(socket.socket(fileno=borrow(thread, descriptor))) as borrowed:
        borrowed.bind((ANY_CID, port))
    return 0


def answer_ioctl(thread: int, request: int, address: int) -> int:
    """Say yes to QEMU; return the flags of the answer."""
    if request == VHOST_GET_FEATURES:
        with open(f"/proc/{thread}/mem", "wb", 0) as memory:
            memory.seek(address)
            memory.write(struct.pack("<Q", VHOST_FEATURES))
    return 0


def serve(listener: int) -> None:
    """Answer until nobody is left under the filter."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    while not any(event & select.POLLHUP for _descriptor, event in poll.poll()):
        question = bytearray(NOTIF.size)
        try:
            fcntl.ioctl(listener, NOTIF_RECV, question)
        except OSError as e:
            if e.errno in (errno.EINTR, errno.ENOENT):  # the one who asked is gone
                continue
            raise
        number, thread, _flags, name, _arch, _pointer, *words = NOTIF.unpack(question)
        error = flags = 0
        try:
            if name == BIND:
                flags = answer_bind(thread, words[0] & 0xFFFFFFFF, words[1])
            else:
                flags = answer_ioctl(thread, words[1] & 0xFFFFFFFF, words[2])
        except OSError as e:
            error = -(e.errno or errno.EIO)
        try:
            fcntl.ioctl(listener, NOTIF_SEND, ANSWER.pack(number, 0, error, flags))
        except OSError as e:
            if e.errno != errno.ENOENT:
                raise


def become_server(channel: socket.socket) -> None:
    """Be the one who answers: a grandchild in a session of its own, without the caller's pipes; it ends by itself."""
    os.setsid()
    _data, descriptors, _flags, _address = socket.recv_fds(channel, 1, 1)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):
        os.dup2(nothing, number)
    channel.close()
    serve(descriptors[0])


def main(command: Sequence[str]) -> None:
    """Run `command` in this very process, so that it keeps the pid that the caller knows."""
    ours, theirs = socket.socketpair()
    child = os.fork()
    if child == 0:
        if os.fork() == 0:
            ours.close()
            become_server(theirs)
        os._exit(0)
    os.waitpid(child, 0)
    theirs.close()
    listener = install()
    socket.send_fds(ours, [b"x"], [listener])
    os.close(listener)
    ours.close()
    os.execvp(command[0], list(command))


if __name__ == "__main__":
    main(sys.argv[1:])
