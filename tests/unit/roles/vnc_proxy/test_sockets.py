# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Connecting, TLS and the wires: what sessions do with them is tested with the sessions."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy import _sockets

from .ends import contexts, descriptors, noise, pair, run, secured


def test_unix_sockets_are_connected_to(tmp_path: Path) -> None:
    async def main() -> None:
        path = os.path.join(os.path.relpath(tmp_path), "s")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen()
            with await _sockets.connect_unix(path) as sock:
                assert not sock.getblocking()
                listener.accept()[0].close()
        before = descriptors()
        with pytest.raises(ConnectionRefusedError):
            await _sockets.connect_unix(path)
        with pytest.raises(FileNotFoundError):
            await _sockets.connect_unix(path + "-not")
        assert descriptors() == before

    run(main())


def test_unix_socket_with_a_full_queue_is_waited_for(tmp_path: Path) -> None:
    async def main() -> None:
        path = os.path.join(os.path.relpath(tmp_path), "s")
        with contextlib.ExitStack() as stack:
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(path)
            listener.listen(0)
            stack.enter_context(await _sockets.connect_unix(path))
            waiting = asyncio.ensure_future(_sockets.connect_unix(path))
            await asyncio.sleep(0.01)
            assert not waiting.done()
            listener.accept()[0].close()
            stack.enter_context(await waiting)

    run(main())


def test_tcp_is_connected_to() -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            with await _sockets.connect_tcp("localhost", port) as sock:
                assert not sock.getblocking()
                listener.accept()[0].close()
        before = descriptors()
        with pytest.raises(OSError, match=r"refused|Connect call failed"):
            await _sockets.connect_tcp("127.0.0.1", port)
        assert descriptors() == before

    run(main())


def test_failed_handshake_closes_the_socket() -> None:
    async def main() -> None:
        sockets = pair("tcp")
        sockets.theirs.send(b"GET / HTTP/1.1\r\n\r\n")
        before = descriptors()
        with pytest.raises(ssl.SSLError):
            await _sockets.secure(sockets.ours, contexts()[0])
        assert descriptors() == before - 1
        sockets.theirs.close()

    run(main())


def test_given_up_handshake_closes_the_socket() -> None:
    async def main() -> None:
        sockets = pair("tcp")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(_sockets.secure(sockets.ours, contexts()[0]), 0.01)
        sockets.theirs.setblocking(True)
        assert sockets.theirs.recv(1) == b""
        sockets.theirs.close()

    run(main())


def test_bytes_pass_before_a_session_plain_and_secure() -> None:
    async def main() -> None:
        for sockets in (pair("unix"), await secured(pair("tcp"))):
            data = noise(3_000_000)
            sending = asyncio.ensure_future(_sockets.send_all(sockets.ours, data))
            got = b""
            while len(got) < len(data):
                got += await _sockets.receive(sockets.theirs, 1 << 20)
            await sending
            assert got == data
            sockets.ours.close()
            assert await _sockets.receive(sockets.theirs, 1) == b""
            sockets.theirs.close()

    run(main())


def test_lost_wire_says_which_it_is() -> None:
    async def main() -> None:
        sockets = pair("tcp")
        wire = _sockets.wire(sockets.ours)
        sockets.theirs.close()
        with contextlib.suppress(_sockets.WireLost):
            wire.send(b"x")  # Answered by a reset
        await _sockets.ready(sockets.ours, to_write=False)
        with pytest.raises(_sockets.WireLost, match=r"Broken pipe|reset by peer") as lost:
            wire.send(b"x")
        assert lost.value.wire is wire
        wire.close()
        wire.close()
        assert wire.closed

    run(main())


def test_tuned_socket_keeps_the_backlog_short() -> None:
    async def main() -> None:
        for kind in ("tcp", "unix"):
            sockets = pair(kind)
            _sockets.tune(sockets.ours, client=True)
            if kind == "tcp":
                assert sockets.ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert sockets.ours.getsockopt(socket.IPPROTO_TCP, 25) == _sockets.NOT_SENT
            sockets.ours.close()
            sockets.theirs.close()

    run(main())


class _Fickle:
    """An SSLSocket that wants the other direction now and then, as OpenSSL does when it changes keys."""

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._sock = sock
        self._turn = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    def recv_into(self, buffer: memoryview, most: int) -> int:
        self._turn += 1
        if self._turn % 3 == 0:
            raise ssl.SSLWantWriteError
        return self._sock.recv_into(buffer, most)

    def send(self, data: memoryview) -> int:
        self._turn += 1
        if self._turn % 4 == 0 and self._turn < 20:  # As long as there is surely more to read
            raise ssl.SSLWantReadError
        return self._sock.send(data)


def test_tls_that_wants_the_other_direction_gets_it() -> None:
    """Reading waits for room to write, writing for something to read; nothing is lost, and nothing spins."""

    async def main() -> None:
        sockets = await secured(pair("tcp"))
        wire = _sockets.SecureWire(sockets.ours)  # type: ignore[arg-type]
        wire.sock = _Fickle(sockets.ours)  # type: ignore[assignment, arg-type]
        heard = bytearray()
        all_heard, all_sent = asyncio.Event(), asyncio.Event()
        data = noise(20_000_000)

        def readable() -> None:
            count = wire.read(_sockets.MOST_READ)
            heard.extend(_sockets.VIEW[_sockets.HEAD_ROOM : _sockets.HEAD_ROOM + (count or 0)])
            if len(heard) == len(data):
                all_heard.set()

        def writable() -> None:
            if wire.flush():
                all_sent.set()

        wire.attach(asyncio.get_running_loop(), readable, writable)
        wire.resume()
        assert not wire.send(data)
        got = bytearray()

        async def read() -> None:
            while len(got) < len(data):
                got.extend(await _sockets.receive(sockets.theirs, 1 << 20))

        await asyncio.gather(read(), _sockets.send_all(sockets.theirs, data), all_heard.wait(), all_sent.wait())
        assert bytes(got) == bytes(heard) == data
        wire.close()
        sockets.theirs.close()

    run(main())
