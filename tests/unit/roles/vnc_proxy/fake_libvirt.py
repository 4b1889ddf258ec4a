# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""libvirt's bindings as far as the proxy uses them, over domains that are made up, with VNC servers that answer."""

from __future__ import annotations

import contextlib
import socket
import threading
import uuid
from typing import Any, Callable, Optional

from ansible_collections.kvmops.console.tests.unit.roles.vnc_proxy.vnc_server import SECONDS, Nature, VncServer

VNC = "<graphics type='vnc'/>"


class LibvirtError(Exception):
    """What libvirt raises."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self._message = message
        self._code = code

    def get_error_message(self) -> str:
        return self._message

    def get_error_code(self) -> int:
        return self._code


class Machine:
    """A domain: `number` is None when it is off. Each start is a new VNC server."""

    def __init__(self, name: str, graphics: str = VNC, identity: Optional[str] = None) -> None:
        self.name = name
        self.uuid = identity or str(uuid.uuid5(uuid.NAMESPACE_URL, name))
        self.graphics = graphics
        self.number: Optional[int] = None
        self.nature = Nature()
        self.server: Optional[VncServer] = None
        self.opened: list[tuple[int, int]] = []
        self.failure: Optional[LibvirtError] = None
        self.before_open: Callable[[], None] = lambda: None


class FakeLibvirt:
    """Stands for the module `libvirt`. `down`: libvirtd is not there. `cut()`: it was, until now."""

    libvirtError = LibvirtError
    VIR_ERR_NO_DOMAIN = 42
    VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH = 1

    def __init__(self) -> None:
        self.machines: dict[str, Machine] = {}
        self.connections: list[Connection] = []
        self.down = False
        self.running = 0
        self.most_running = 0
        self._numbers = 0
        self._servers: list[VncServer] = []

    def __enter__(self) -> FakeLibvirt:
        return self

    def __exit__(self, *_failure: object) -> None:
        for server in self._servers:
            server.__exit__()

    def put(self, name: str, *, running: bool = True, nature: Nature = Nature(), **what: Any) -> Machine:  # noqa: B008
        machine = self.machines[name] = Machine(name, **what)
        machine.nature = nature
        if running:
            self.start(machine)
        return machine

    def start(self, machine: Machine) -> None:
        self._numbers += 1
        machine.number = self._numbers
        nature = machine.nature._replace(password=False)  # as they show themselves past their authentication
        machine.server = VncServer(socket.socket(socket.AF_UNIX), nature)
        self._servers.append(machine.server)

    def cut(self) -> None:
        for connection in self.connections:
            connection.alive = False

    def open(self, _uri: str) -> Connection:
        if self.down:
            raise LibvirtError("Failed to connect socket: No such file or directory")
        connection = Connection(self)
        self.connections.append(connection)
        return connection


class Connection:
    """virConnect."""

    def __init__(self, library: FakeLibvirt) -> None:
        self.library = library
        self.alive = True
        self.closed = False
        self.thread: Optional[int] = None

    def check(self) -> None:
        """One thread's own; and it is there."""
        self.thread = self.thread or threading.get_ident()
        assert self.thread == threading.get_ident()
        if not self.alive:
            raise LibvirtError("internal error: client socket is closed")

    def isAlive(self) -> int:
        return int(self.alive)

    def close(self) -> None:
        self.closed = True

    def lookupByName(self, name: str) -> Domain:
        self.check()
        if name not in self.library.machines:
            raise LibvirtError(f"Domain not found: no domain with matching name '{name}'", 42)
        return Domain(self, self.library.machines[name])

    def lookupByUUIDString(self, wanted: str) -> Domain:
        self.check()
        for machine in self.library.machines.values():
            if uuid.UUID(machine.uuid) == uuid.UUID(wanted):
                return Domain(self, machine)
        raise LibvirtError(f"Domain not found: no domain with matching uuid '{wanted}'", 42)


class Domain:
    """virDomain. Its number is the one that it had when it was looked up."""

    def __init__(self, connection: Connection, machine: Machine) -> None:
        self._connection = connection
        self._machine = machine
        self._number = -1 if machine.number is None else machine.number

    def name(self) -> str:
        return self._machine.name

    def UUIDString(self) -> str:
        return self._machine.uuid

    def ID(self) -> int:
        return self._number

    def XMLDesc(self, _flags: int) -> str:
        self._connection.check()
        return f"<domain><devices>{self._machine.graphics}</devices></domain>"

    def openGraphicsFD(self, index: int, flags: int) -> int:
        self._connection.check()
        library, machine = self._connection.library, self._machine
        library.running += 1
        library.most_running = max(library.running, library.most_running)
        try:
            machine.before_open()
        finally:
            library.running -= 1
        self._connection.check()
        if machine.failure:
            raise machine.failure
        assert machine.server
        machine.opened.append((index, flags))
        ours, theirs = socket.socketpair()
        machine.server.connections += 1
        server = machine.server
        if machine.nature.password and not flags:
            server = VncServer(socket.socket(socket.AF_UNIX), machine.nature)
            library._servers.append(server)
        server._open.append(theirs)
        server._start(server._serve, theirs)
        return ours.detach()


def ended(connection: socket.socket) -> bool:
    """Whether the other end of a connection has been closed."""
    connection.settimeout(SECONDS)
    with contextlib.suppress(ConnectionResetError):
        while connection.recv(65536):
            pass
    return True
