# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What passes between clients and real QEMUs, byte by byte, at both ends of the proxy."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest
from websockets.sync.client import connect

from ansible_collections.kvmops.console.plugins.module_utils import _rfb
from ansible_collections.kvmops.console.tests.browser.novnc.conftest import Start
from ansible_collections.kvmops.console.tests.browser.novnc.machine import SECONDS
from ansible_collections.kvmops.console.tests.browser.proxy.conftest import Put
from ansible_collections.kvmops.console.tests.browser.proxy.service import TARGET, Proxy

AS_NOVNC = (7, 16, 5, 2, 0, -223, -224, -308, -309, -312, -313, -314, -239)
"""Encodings that a viewer asks for, none of them noVNC's own wish to be spared -257."""


class Tap:
    """A unix socket in front of another, or a port in front of a port, that keeps what passes, each way."""

    def __init__(self, path: Path, behind: str | int) -> None:
        self.path, self._behind = os.fspath(path), behind
        self.conversations: list[tuple[bytearray, bytearray]] = []
        self._sockets: list[socket.socket] = []
        if isinstance(behind, int):
            self._listener = socket.create_server(("127.0.0.1", 0))
        else:
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.bind(self.path)
            self._listener.listen(8)
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            server = self._connect()
            self._sockets += [client, server]
            kept = (bytearray(), bytearray())
            self.conversations.append(kept)
            for one, other, record in ((client, server, kept[0]), (server, client, kept[1])):
                self._threads.append(threading.Thread(target=self._pass, args=(one, other, record)))
                self._threads[-1].start()

    def _connect(self) -> socket.socket:
        if isinstance(self._behind, int):
            return socket.create_connection(("127.0.0.1", self._behind))
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        server.connect(self._behind)
        return server

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @staticmethod
    def _pass(one: socket.socket, other: socket.socket, record: bytearray) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(1 << 16):
                record += data
                other.sendall(data)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_WR)

    def end(self) -> None:
        """Let nobody pass any more: what was kept is whole."""
        if self._listener.fileno() < 0:
            return
        self._listener.shutdown(socket.SHUT_RDWR)
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(SECONDS)
        for sock in (self._listener, *self._sockets):
            sock.close()


class Client:
    """A client that keeps what it sends and receives. `send` and `receive` are those of a connection."""

    def __init__(self, send: t.Callable[[bytes], object], receive: t.Callable[[], bytes]) -> None:
        self._send, self._receive = send, receive
        self.sent, self.received = bytearray(), bytearray()
        self._used = 0

    def say(self, data: bytes) -> None:
        self.sent += data
        self._send(data)

    def hear(self, size: int) -> bytes:
        """The next so many bytes."""
        while len(self.received) < self._used + size:
            data = self._receive()
            assert data, f"it ended after {len(self.received)} bytes: {bytes(self.received[-64:])!r}"
            self.received += data
        self._used += size
        return bytes(self.received[self._used - size : self._used])

    def hear_until(self, end: bytes) -> None:
        """Up to and with these bytes."""
        while (place := self.received.find(end, self._used)) < 0:
            data = self._receive()
            assert data, "it ended"
            self.received += data
        self._used = place + len(end)

    def enter(self, password: str | None = None) -> None:
        """The handshake, with VNC authentication or none."""
        self.say(self.hear(12))
        security = _rfb.SECURITY_VNC if password else _rfb.SECURITY_NONE
        assert self.hear(2) == bytes((1, security))
        self.say(bytes((security,)))
        if password:
            self.say(_rfb.vnc_response(password, self.hear(16)))
        assert self.hear(4) == b"\0\0\0\0"
        self.say(b"\1")
        head = self.hear(24)
        self.hear(int.from_bytes(head[20:], "big"))

    def hear_raw(self) -> int:
        """A framebuffer update of Raw rectangles of four bytes a pixel; the number of bytes."""
        head = self.hear(4)
        assert head[0] == 0, head
        total = 0
        for _number in range(int.from_bytes(head[2:], "big")):
            _x, _y, width, height, encoding = _rfb._RECTANGLE.unpack(self.hear(12))
            assert encoding == _rfb.RAW
            total += len(self.hear(4 * width * height))
        return total


@contextlib.contextmanager
def web(proxy: Proxy, path: str = f"target/{TARGET}") -> Iterator[Client]:
    url = f"ws://127.0.0.1:{proxy.port}/{path}"
    with connect(url, max_size=None, compression=None, open_timeout=SECONDS) as connection:
        yield Client(connection.send, lambda: t.cast(bytes, connection.recv(SECONDS)))


@contextlib.contextmanager
def plain(proxy: Proxy, target: str = TARGET) -> Iterator[Client]:
    with socket.create_connection(("127.0.0.1", proxy.viewer_ports[target]), SECONDS) as connection:
        yield Client(connection.sendall, lambda: connection.recv(1 << 16))


WAYS = pytest.mark.parametrize("way", [web, plain])
Way = t.Callable[[Proxy], t.ContextManager[Client]]


@pytest.fixture
def tap(tmp_path: Path) -> Iterator[t.Callable[[str | int], Tap]]:
    made: list[Tap] = []

    def tap(behind: str | int) -> Tap:
        made.append(Tap(tmp_path / "tap", behind))
        return made[-1]

    yield tap
    for one in made:
        one.end()


def say_everything(client: Client) -> None:
    """What a viewer says to a fixed server with power control on, and what that answers."""
    client.enter()
    client.say(_rfb.build(_rfb.CLIENT_MESSAGES, "set_pixel_format", payload=_rfb.TRUE_COLOUR))
    client.say(_rfb.set_encodings(_rfb.RAW, _rfb.XVP))
    assert client.hear(4) == _rfb.build(_rfb.SERVER_MESSAGES, "xvp", version=1, code=_rfb.XVP_INIT)
    client.say(_rfb.update_request(0, 0, 640, 400))
    assert client.hear_raw() >= 640 * 400 * 4  # More, when the machine has changed its mode meanwhile
    for x in range(50):
        client.say(_rfb.pointer_event(x, x))
    client.say(_rfb.key_event(0xFFE1, down=True) + _rfb.key_event(0xFFE1, down=False)[:3])
    client.say(_rfb.key_event(0xFFE1, down=False)[3:])
    client.say(_rfb.xvp(_rfb.XVP_REBOOT))
    assert client.hear(4) == _rfb.build(_rfb.SERVER_MESSAGES, "xvp", version=1, code=_rfb.XVP_FAIL)


@WAYS
def test_fixed_server_gets_and_gives_the_same_bytes(
    start: Start, put: Put, tap: t.Callable[[str], Tap], way: Way
) -> None:
    machine = start("fixed")
    machine.vnc = (tapped := tap(machine.vnc)).path
    proxy = put(machine)
    with way(proxy) as client:
        say_everything(client)
    proxy.wait("session_end")
    tapped.end()
    kept = [(bytes(up), bytes(down)) for up, down in tapped.conversations]
    assert (bytes(client.sent), bytes(client.received)) in kept


@WAYS
def test_affected_server_never_hears_of_xvp(start: Start, put: Put, tap: t.Callable[[str], Tap], way: Way) -> None:
    machine = start("affected")
    machine.vnc = (tapped := tap(machine.vnc)).path
    proxy = put(machine)
    with way(proxy) as client:
        client.enter()
        client.say(_rfb.set_encodings(*AS_NOVNC))
        # The offer, and nothing before it: no rectangle of -257.
        assert client.hear(4) == _rfb.build(_rfb.SERVER_MESSAGES, "xvp", version=1, code=_rfb.XVP_INIT)
        machine.forget()
        client.say(_rfb.xvp(_rfb.XVP_REBOOT))
        client.hear_until(_rfb.build(_rfb.SERVER_MESSAGES, "xvp", version=1, code=_rfb.XVP_FAIL))
        client.say(_rfb.xvp(_rfb.XVP_RESET))
        assert machine.wait("RESET")["data"]["reason"] == "host-qmp-system-reset"
    proxy.wait("session_end")
    tapped.end()
    session = bytes(tapped.conversations[-1][0])
    assert _rfb.set_encodings(*(number for number in AS_NOVNC if number != _rfb.XVP)) in session
    assert _rfb.set_encodings(*AS_NOVNC) not in session
    assert b"\xff\xff\xfe\xff" not in client.received


@WAYS
@pytest.mark.parametrize("encodings", [(_rfb.RAW,), (_rfb.RAW, _rfb.DESKTOP_SIZE)])
def test_power_message_out_of_the_blue_is_stopped(
    start: Start, put: Put, tap: t.Callable[[str], Tap], way: Way, encodings: tuple[int, ...]
) -> None:
    """The hole of an affected QEMU: who lists DesktopSize can switch the guest off without ever having asked to."""
    machine = start("affected")
    machine.vnc = (tapped := tap(machine.vnc)).path
    proxy = put(machine)
    machine.forget()
    with way(proxy) as client:
        client.enter()
        client.say(_rfb.set_encodings(*encodings))
        client.say(_rfb.xvp(_rfb.XVP_RESET))
        client.say(_rfb.update_request(0, 0, 16, 16))
        assert client.hear_raw()  # The server has come past what stood before
        machine.ask("query-status")
        assert "RESET" not in {event["event"] for event in machine.events}
        assert proxy.wait("power_message", passed=False)["action"] == "reset"
    proxy.wait("session_end")
    tapped.end()
    assert not any(_rfb.xvp(_rfb.XVP_RESET) in up for up, _down in tapped.conversations)


@WAYS
@pytest.mark.parametrize("kind", ["affected", "fixed"])
def test_server_with_a_password_is_asked_within_the_session(
    start: Start, put: Put, tap: t.Callable[[str], Tap], tmp_path: Path, way: Way, kind: str
) -> None:
    """Nobody but the client has the password, so nobody can ask on a connection of his own."""
    locked = tmp_path / "locked"
    machine = start(kind, "-vnc", f"unix:{locked},power-control=on,password=on,id=locked")
    machine.ask("set_password", protocol="vnc", password="sesame", display="locked")
    machine.vnc = (tapped := tap(os.fspath(locked))).path
    proxy = put(machine)
    with way(proxy) as client:
        client.enter("sesame")
        client.say(_rfb.set_encodings(*AS_NOVNC))
        assert client.hear(4) == _rfb.build(_rfb.SERVER_MESSAGES, "xvp", version=1, code=_rfb.XVP_INIT)
        machine.forget()
        client.say(_rfb.xvp(_rfb.XVP_RESET))
        assert machine.wait("RESET")["data"]["reason"] == "host-qmp-system-reset"
    proxy.wait("session_end")
    tapped.end()
    assert b"\xff\xff\xfe\xff" not in client.received
    session = bytes(tapped.conversations[-1][0])
    assert (_rfb.set_encodings(*AS_NOVNC) in session) is (kind == "fixed")
    assert not any("sesame" in line for line in proxy.said.now())
