# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A small VNC server that behaves as QEMU does, affected or fixed, in threads here or in a process of its own."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import NamedTuple, Optional

from ansible_collections.kvmops.console.plugins.module_utils import _rfb

SECONDS = 30.0
MISTAKEN = {_rfb.DESKTOP_SIZE, 5, _rfb.POINTER_CHANGE}
"""What an affected QEMU takes for XVP."""


class Nature(NamedTuple):
    """How a server behaves. `silent`: it accepts and says nothing."""

    affected: bool = True
    power_control: bool = True
    password: bool = False
    silent: bool = False
    name: str = "QEMU (web-1)"
    acknowledges: bool = True


class VncServer:
    """The server: `with VncServer.at_unix(path) as server`. What clients did is in its lists."""

    def __init__(self, listener: socket.socket, nature: Nature) -> None:
        self.nature = nature
        self.connections = 0
        self.shared: list[int] = []
        self.power: list[int] = []
        self.may_greet = threading.Event()
        self.may_greet.set()
        self.connected = threading.Event()
        self._listener = listener
        self._threads: list[threading.Thread] = []
        self._open: list[socket.socket] = []
        self._accepting: Optional[threading.Thread] = None

    @classmethod
    def at_unix(cls, path: str, nature: Nature = Nature()) -> VncServer:  # noqa: B008
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(16)
        return cls(listener, nature)

    @classmethod
    def at_tcp(cls, port: int = 0, nature: Nature = Nature()) -> VncServer:  # noqa: B008
        return cls(socket.create_server(("127.0.0.1", port)), nature)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def __enter__(self) -> VncServer:
        self._accepting = self._start(self._accept)
        return self

    def __exit__(self, *_failure: object) -> None:
        self.may_greet.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        if self._accepting:
            self._accepting.join(SECONDS)  # Else a connection may come in after all have been dropped
        self._listener.close()
        self.drop_all()
        for thread in self._threads:
            thread.join(SECONDS)
            assert not thread.is_alive()

    def drop_all(self) -> None:
        """End every session, as a server that ends."""
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _start(self, work: object, *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=work, args=arguments)  # type: ignore[arg-type]
        thread.start()
        self._threads.append(thread)  # Whoever finds it may wait for it
        return thread

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _address = self._listener.accept()
                if connection.family != socket.AF_UNIX:  # as QEMU does it
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self.connections += 1
                self._open.append(connection)
                self.connected.set()
                self._start(self._serve, connection)

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError, EOFError):
            self.may_greet.wait(SECONDS)
            if self.nature.silent:
                connection.recv(1)
                return
            self._talk(connection)

    def _talk(self, connection: socket.socket) -> None:
        connection.sendall(b"RFB 003.008\n")
        _take(connection, 12)
        connection.sendall(b"\x01\x02" if self.nature.password else b"\x01\x01")
        _take(connection, 1)
        connection.sendall(bytes(4))
        self.shared += _take(connection, 1)
        name = self.nature.name.encode()
        connection.sendall(struct.pack("!HH", 640, 480) + _rfb.TRUE_COLOUR + struct.pack("!I", len(name)) + name)
        listed: set[int] = set()
        buffer = bytearray()
        while True:
            message = _rfb.parse(_rfb.CLIENT_MESSAGES, buffer)
            if message is None:
                data = connection.recv(65536)
                if not data:
                    return
                buffer += data
                continue
            del buffer[: len(message.raw)]
            if message.name == "set_encodings":
                listed = {encoding for (encoding,) in message.items}
            if message.name == "xvp" and not self._obeys(listed):
                return
            connection.sendall(self._answer(message, listed))

    def _obeys(self, listed: set[int]) -> bool:
        if self.nature.affected:
            return bool(listed & MISTAKEN) or (_rfb.XVP in listed and self.nature.power_control)
        return _rfb.XVP in listed and self.nature.power_control

    def _answer(self, message: _rfb.Message, listed: set[int]) -> bytes:
        if message.name == "set_encodings":
            answer = b""
            if _rfb.XVP in listed and self.nature.power_control:
                answer += _rfb.build(_rfb.SERVER_MESSAGES, "xvp", version=1, code=_rfb.XVP_INIT)
                answer += _rectangle(_rfb.POINTER_CHANGE) if self.nature.affected else b""
            if _rfb.EXTENDED_KEY in listed and self.nature.acknowledges:
                answer += _rectangle(_rfb.EXTENDED_KEY)
            return answer
        if message.name == "xvp":
            self.power.append(message.fields["code"])
            return _rfb.build(_rfb.SERVER_MESSAGES, "xvp", version=1, code=_rfb.XVP_FAIL)
        if message.name == "framebuffer_update_request" and not message.fields["incremental"]:
            return struct.pack("!BxH HHHHi", 0, 1, 0, 0, 1, 1, _rfb.RAW) + bytes(4)
        return b""


def _rectangle(encoding: int) -> bytes:
    return struct.pack("!BxH HHHHi", 0, 1, 0, 0, 640, 480, encoding)


def _take(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def greeting(connection: socket.socket) -> bytes:
    """The first bytes that the server says to a session."""
    connection.setblocking(True)
    connection.settimeout(SECONDS)
    return _take(connection, 12)


@contextlib.contextmanager
def process(path: str, nature: Optional[Nature] = None) -> Iterator[subprocess.Popen[str]]:
    """A server of an own process at a unix socket."""
    words = [str(int(value)) for value in (nature or Nature())[:4]]
    child = subprocess.Popen(
        [sys.executable, "-B", __file__, path, *words],
        env={"PYTHONPATH": ":".join(word for word in sys.path if word)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        try:
            assert child.stdout
            assert child.stdout.readline() == "ready\n"
            yield child
        finally:
            child.kill()


def main() -> None:
    path, *words = sys.argv[1:]
    affected, power_control, password, silent = (bool(int(word)) for word in words)
    with VncServer.at_unix(path, Nature(affected, power_control, password, silent)):
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.read()


if __name__ == "__main__":
    main()
