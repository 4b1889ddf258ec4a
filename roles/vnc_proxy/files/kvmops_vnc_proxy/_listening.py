# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which listening socket of this host a TCP connection has come in at: two that are the same had the same listener.

Private to this collection.

The kernel tells it to everybody, unlike the process (sock_diag(7)): each socket has a cookie, which no other one gets
until the next boot. Two look-ups, each of one socket, so their cost does not grow with the number of connections:

- the other end of our connection. It is found where the connection ends in a socket of this host and this network
  namespace. Behind a rule that leads elsewhere, or with a peer on another host, there is none at that address.
- who listens at the address that we connected to.

A listener says nothing about what stands behind it: a tunnel's and a forwarder's stay the same when the server at their
far end is another one. So this is for addresses of which somebody who knows has said that the VNC server itself listens
there.
"""

from __future__ import annotations

import errno
import socket
import struct
from typing import NamedTuple

_SOCK_DIAG_BY_FAMILY = 20  # linux/sock_diag.h; also the type of the answer
_NLM_F_REQUEST = 1  # linux/netlink.h
_NLMSG_ERROR = 2
_NETLINK_SOCK_DIAG = 4

_HEAD = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence number, port."""
_ERROR = struct.Struct("=i")
"""The first of struct nlmsgerr."""
_QUESTION = struct.Struct("=BBBxI")
"""struct inet_diag_req_v2 (linux/inet_diag.h): family, protocol, extensions, states; then the socket."""
_SOCKET = struct.Struct("!HH16s16s4s8s")
"""struct inet_diag_sockid: the socket's own port, its peer's, both addresses, interface, cookie."""
_ANSWER = struct.Struct("=BBxx")
"""The first of struct inet_diag_msg: family, state; then the socket."""
_ANY_COOKIE = b"\xff" * 8
_ESTABLISHED, _LISTEN = 1, 10  # TCP_ESTABLISHED, TCP_LISTEN
_EVERY_STATE = 0xFFFFFFFF


class Listener(NamedTuple):
    """A listening socket; two of these are equal as long as the same one listens at `where`."""

    where: tuple[object, ...]
    cookie: bytes


def listener_of(connection: socket.socket) -> Listener | None:
    """Return the socket at which this TCP connection of ours has come in; None when that is no socket of this host's.

    Raises OSError when it can't be asked.
    """
    ours, theirs = connection.getsockname(), connection.getpeername()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_SOCK_DIAG) as kernel:
        if _look_up(kernel, connection.family, theirs, ours, _ESTABLISHED) is None:
            return None
        cookie = _look_up(kernel, connection.family, theirs, None, _LISTEN)
    return None if cookie is None else Listener((connection.family, *theirs[:2]), cookie)


def _look_up(
    kernel: socket.socket, family: int, own: tuple[str, int], peer: tuple[str, int] | None, state: int
) -> bytes | None:
    """Return the cookie of the socket at `own`, connected to `peer`, or to nobody; None when none has this state."""
    asked = _SOCKET.pack(
        own[1], peer[1] if peer else 0, _packed(family, own[0]), _packed(family, peer[0] if peer else ""), b"", b"\0"
    )
    body = _QUESTION.pack(family, socket.IPPROTO_TCP, 0, _EVERY_STATE) + asked[: -len(_ANY_COOKIE)] + _ANY_COOKIE
    kernel.send(_HEAD.pack(_HEAD.size + len(body), _SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, 1, 0) + body)
    answer = kernel.recv(8192)
    kind = _HEAD.unpack_from(answer)[1]
    if kind == _NLMSG_ERROR:
        number = -_ERROR.unpack_from(answer, _HEAD.size)[0]
        if number == errno.ENOENT:
            return None
        raise OSError(number, "the kernel does not tell who listens")
    if kind != _SOCK_DIAG_BY_FAMILY or _ANSWER.unpack_from(answer, _HEAD.size)[1] != state:
        return None
    cookie: bytes = _SOCKET.unpack_from(answer, _HEAD.size + _ANSWER.size)[5]
    return cookie


def _packed(family: int, address: str) -> bytes:
    return socket.inet_pton(family, address.partition("%")[0]) if address else b""
