# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who looks at a machine: the connections of its QEMU process to its VNC and SPICE servers, as the kernel knows them.

Private to this collection.

QEMU is not asked: a monitor command of ours would taint the domain. A connection counts as a viewer when QEMU has it
open and it came in at a port or a path that the machine's graphics listen at, or when it is one end of a pair of
sockets whose other end somebody else has (virDomainOpenGraphicsFD gives such a pair to the VNC proxy, to virt-viewer,
to a screenshot being taken).
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import socket
import struct
import typing as t
from pathlib import Path

from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError

if t.TYPE_CHECKING:
    from lxml.etree import _Element

Viewer = dict[str, t.Any]
"""{via: "tcp", address, port}, {via: "socket", path}, or {via: "descriptor"}."""


class Doors(t.NamedTuple):
    """Where the machine's graphics listen."""

    ports: frozenset[int]
    paths: frozenset[str]


_PORTS = ("port", "tlsPort", "websocket")
"""Of `<graphics>`: SPICE has a port of its own for TLS, and may have no other."""


def doors(graphics: t.Iterable[_Element]) -> Doors:
    """Of the `<graphics>` elements of a live definition; a port that is not there is missing, 0 or -1."""
    elements = list(graphics)
    ports = {int(one.get(name, "-1")) for one in elements for name in _PORTS}
    paths = {element.get("socket") for one in elements for element in (one, *one.findall("listen"))}
    return Doors(frozenset(port for port in ports if port > 0), frozenset(path for path in paths if path))


def connected(pid: int, where: Doors, proc: Path = Path("/proc")) -> list[Viewer]:
    """The viewers of the QEMU process `pid`; none of one that has ended. Raises ConsoleError where it cannot be looked
    into.
    """
    try:
        mine = _sockets(proc / str(pid))
        found = _over_tcp(proc / str(pid), mine, where.ports)
        named, unnamed = _over_unix(proc / str(pid), mine, where.paths)
    except OSError as e:
        if _has_ended(proc / str(pid)):
            return []
        raise ConsoleError(
            f"who is connected to the graphics of process {pid} cannot be seen ({e.strerror}): run this as root on its"
            " host"
        ) from e
    paired = _paired(unnamed) if unnamed else 0
    return [*found, *named, *[{"via": "descriptor"}] * paired]


def _has_ended(process: Path) -> bool:
    """Whether it is no more, or only waits for its parent to notice; libvirt may take a moment, too."""
    try:
        state = (process / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in ("Z", "X")


_SOCKET = re.compile(r"socket:\[(\d+)\]")


def _sockets(process: Path) -> set[int]:
    """The inodes of the sockets that the process has open."""
    inodes = set()
    for entry in os.scandir(process / "fd"):
        with contextlib.suppress(FileNotFoundError):
            match = _SOCKET.fullmatch(os.readlink(entry.path))
            if match:
                inodes.add(int(match[1]))
    return inodes


_ESTABLISHED = "01"


def _over_tcp(process: Path, mine: set[int], ports: frozenset[int]) -> list[Viewer]:
    """From the tables of the process's own network namespace (Linux: Documentation/networking/proc_net_tcp.rst)."""
    found = []
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):  # no IPv6
            for line in (process / "net" / name).read_text().splitlines()[1:]:
                words = line.split()
                local, remote, state, inode = words[1], words[2], words[3], int(words[9])
                if state == _ESTABLISHED and inode in mine and int(local.rpartition(":")[2], 16) in ports:
                    address, _colon, port = remote.rpartition(":")
                    found.append({"via": "tcp", "address": _address(address), "port": int(port, 16)})
    return found


def _address(words: str) -> str:
    """The kernel writes each 32 bits as a number of its own byte order."""
    numbers = [int(words[place : place + 8], 16) for place in range(0, len(words), 8)]
    address = ipaddress.ip_address(b"".join(struct.pack("=I", number) for number in numbers))
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


_CONNECTED = "03"
_STREAM = "0001"


def _over_unix(process: Path, mine: set[int], paths: frozenset[str]) -> tuple[list[Viewer], set[int]]:
    """Those that came in at a path, and the inodes of connected sockets without a name."""
    found: list[Viewer] = []
    unnamed = set()
    for line in (process / "net" / "unix").read_text(errors="surrogateescape").splitlines()[1:]:
        words = line.split(None, 7)
        if int(words[6]) not in mine or (words[4], words[5]) != (_STREAM, _CONNECTED):
            continue
        if len(words) == 7:
            unnamed.add(int(words[6]))
        elif words[7] in paths:
            found.append({"via": "socket", "path": words[7]})
    return found, unnamed


# Pairs: a connected socket without a name is one of a pair when its peer has no name either, else QEMU is the client of
# some service (a TPM, virtiofsd). QEMU has pairs of its own, too, with both ends (SPICE's threads talk over some). Only
# the kernel's socket diagnosis tells the peer (linux/unix_diag.h).

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301
_DONE = 3
_ERROR = 2
_SHOW_NAME = 1
_SHOW_PEER = 4
_ATTRIBUTE_NAME = 0
_ATTRIBUTE_PEER = 2
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")


def _paired(inodes: set[int]) -> int:
    """How many of these sockets of a process are ends of pairs whose other end it has not. Where the kernel does not
    tell (another network namespace): all.
    """
    try:
        known = _diagnose()
    except OSError:
        return len(inodes)
    peers = [known.get(inode, (False, 0))[1] for inode in inodes]
    return sum(peer not in inodes and not known.get(peer, (False, 0))[0] for peer in peers)


def _diagnose() -> dict[int, tuple[bool, int]]:
    """By inode: whether the socket has a name, and its peer's inode (0: none)."""
    known: dict[int, tuple[bool, int]] = {}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as asked:
        asked.settimeout(5)
        request = struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, _SHOW_NAME | _SHOW_PEER, 0, 0)
        asked.send(_HEADER.pack(_HEADER.size + len(request), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0) + request)
        while True:
            data = asked.recv(1 << 18)
            while data:
                length, kind = _HEADER.unpack_from(data)[:2]
                if kind == _DONE:
                    return known
                if kind == _ERROR or length < _HEADER.size:
                    raise OSError("the kernel tells nothing about its sockets")
                inode, named, peer = _read_diagnosis(data[_HEADER.size : length])
                known[inode] = (named, peer)
                data = data[(length + 3) & ~3 :]


def _read_diagnosis(message: bytes) -> tuple[int, bool, int]:
    """struct unix_diag_msg: family, type, state, padding, inode, cookie; then attributes."""
    inode = struct.unpack_from("=I", message, 4)[0]
    named, peer, place = False, 0, 16
    while place + _ATTRIBUTE.size <= len(message):
        length, kind = _ATTRIBUTE.unpack_from(message, place)
        if length < _ATTRIBUTE.size:
            break
        if kind == _ATTRIBUTE_NAME:
            named = True
        if kind == _ATTRIBUTE_PEER:
            peer = struct.unpack_from("=I", message, place + _ATTRIBUTE.size)[0]
        place += (length + 3) & ~3
    return inode, named, peer


def spoken(viewer: Viewer) -> str:
    """One viewer in words."""
    if viewer["via"] == "tcp":
        return f"from {viewer['address']} port {viewer['port']}"
    if viewer["via"] == "socket":
        return f"through {viewer['path']}"
    return "through a connection that libvirt handed out"
