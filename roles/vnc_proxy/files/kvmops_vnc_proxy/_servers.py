# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connections to VNC servers at unix sockets and at TCP ports, and which process it is that answers there.

Private to this collection.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import functools
import ipaddress
import os
import socket
import struct
from collections.abc import Hashable
from typing import NamedTuple

from ansible_collections.kvmops.console.plugins.module_utils import _vnc
from ansible_collections.kvmops.console.plugins.module_utils._errors import VncUnreachable

from ._sockets import ready

_CREDENTIALS = struct.Struct("iII")
"""struct ucred of unix(7): process, user, group."""
_TIME = struct.Struct("@ll")
"""struct timeval, for SO_SNDTIMEO."""
_ESTABLISHED = 1
"""TCP_ESTABLISHED, in the first byte of struct tcp_info (tcp(7))."""
_FIRST_PAUSE, _LONGEST_PAUSE = 0.002, 0.1
"""Seconds between two tries to connect to a server that has no room."""


class ProcessAt(NamedTuple):
    """The process behind a unix socket; two of these are equal as long as the same process answers at `path`.

    `process` is its number and its start time, or what stands for them: the socket's own inode and change time.
    """

    path: str
    process: tuple[int, ...]


class Address(NamedTuple):
    """A server's address, as numbers, and what else `socket.connect` wants for its family."""

    family: int
    where: tuple[object, ...]


# --- Unix sockets -----------------------------------------------------------------------------------------------------


def peer_process(connection: socket.socket) -> tuple[int, ...] | None:
    """Return number and start time of the process that listens at, or made, the other end of a unix socket.

    None when it can't be seen: it runs in another PID namespace, or /proc is hidden from us.
    """
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, _uid, _gid = _CREDENTIALS.unpack(credentials)
    if not pid:
        return None
    try:
        number = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
        try:
            fields = os.read(number, 4096).rpartition(b")")[2].split()
        finally:
            os.close(number)
        return pid, int(fields[19])  # starttime, the 22nd field (proc(5)); two stand before the bracket
    except (OSError, IndexError, ValueError):
        return None


def process_at(connection: socket.socket, path: str) -> ProcessAt:
    """Return which process `connection` has reached at `path`. Raises OSError."""
    process = peer_process(connection)
    if process is None:
        found = os.stat(path)
        process = found.st_dev, found.st_ino, found.st_ctime_ns
    return ProcessAt(path, process)


def _connect_blocking(path: str, seconds: float) -> socket.socket:
    """Connect, waiting as long for a server that is slow to accept: QEMU lets two connections wait, no more.

    A socket with Python's timeout gives up at once there (EAGAIN); only one that blocks waits.
    """
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        whole = int(seconds)
        limit = _TIME.pack(whole, int((seconds - whole) * 1e6) or 1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        connection.connect(path)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _TIME.pack(0, 0))
    except BlockingIOError as error:
        connection.close()
        raise socket.timeout("it accepts no connection") from error
    except BaseException:
        connection.close()
        raise
    return connection


async def open_unix(path: str, seconds: float) -> socket.socket:
    """Return a connected socket that does not block. Raises OSError.

    A unix socket connects at once, or there is no room for it now; no event tells when there is.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    pause = _FIRST_PAUSE
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        while True:
            try:
                connection.connect(path)
            except BlockingIOError:
                if loop.time() >= end:
                    raise socket.timeout("it accepts no connection") from None
            else:
                return connection
            await asyncio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
    except BaseException:
        connection.close()
        raise


def unix_way(path: str, expected: Hashable, name: str | None = None) -> _vnc.Way:
    """Return the way to the process at a unix socket that `process_at` has told, and to no other one.

    `name` is for sentences, in place of the path.
    """

    def open_(seconds: float) -> _vnc.Stream:
        connection = _connect_blocking(path, seconds)
        try:
            if process_at(connection, path) != expected:
                raise VncUnreachable("another process answers there by now.")
        except BaseException:
            connection.close()
            raise
        return _vnc.Stream(connection)

    return _vnc.Way(name or path, open_)


# --- TCP --------------------------------------------------------------------------------------------------------------


@functools.lru_cache(1024)
def numeric(host: str, port: int) -> Address | None:
    """Return the address that a host is named by; None when it has a name, which has to be resolved."""
    try:
        number = ipaddress.ip_address(host)
    except ValueError:
        return None
    if number.version == 4:
        return Address(socket.AF_INET, (str(number), port))
    return None if getattr(number, "scope_id", None) else Address(socket.AF_INET6, (str(number), port, 0, 0))


async def resolve(host: str, port: int) -> list[Address]:
    """Return the addresses of a host, as numbers. Raises OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(Address(family, where) for family, _kind, _protocol, _name, where in found))


async def open_tcp(address: Address, seconds: float) -> socket.socket:
    """Return a connected socket that does not block. Raises OSError.

    A server of this host answers within the first call, which says so when it is called again: then nobody waits.
    """
    connection = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        number = connection.connect_ex(address.where)
        if number == errno.EINPROGRESS:
            number = connection.connect_ex(address.where)
        if number == errno.EALREADY:
            await asyncio.wait_for(ready(connection, to_write=True), seconds)
            number = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if number:
            raise OSError(number, os.strerror(number))
        # A server whose host has gone without a word ends its sessions, some day: what is known of it rests on them.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    except asyncio.TimeoutError as error:
        connection.close()
        raise socket.timeout("it did not answer in time") from error
    except BaseException:
        connection.close()
        raise
    return connection


def tcp_way(address: Address) -> _vnc.Way:
    """Return the way to an address."""

    def open_(seconds: float) -> _vnc.Stream:
        connection = socket.socket(address.family, socket.SOCK_STREAM)
        try:
            connection.settimeout(seconds)
            connection.connect(address.where)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # Short messages, each waited for
        except BaseException:
            connection.close()
            raise
        return _vnc.Stream(connection)

    return _vnc.Way(_vnc.tcp(str(address.where[0]), int(str(address.where[1]))).name, open_)


def is_established(connection: socket.socket) -> bool:
    """Whether neither side has begun to close a TCP connection."""
    with contextlib.suppress(OSError):
        return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == _ESTABLISHED
    return False


def reason(error: OSError) -> str:
    """Return why a connection failed, without a full stop."""
    if error.errno:  # asyncio puts words of its own, and the address, in its place
        return os.strerror(error.errno)
    return (str(error) or type(error).__name__).rstrip(".")
