# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real QEMUs at TCP ports: by host and port, by a token file of websockify's, and what each policy does there."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import struct
import tempfile
import time
import typing as t
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _rfb
from ansible_collections.kvmops.console.tests.browser.novnc.machine import SECONDS, Machine
from ansible_collections.kvmops.console.tests.browser.proxy.service import TARGET, Proxy
from ansible_collections.kvmops.console.tests.integration.proxy.test_streams import (
    AS_NOVNC,
    Client,
    Tap,
    plain,
    say_everything,
    web,
)

INIT = _rfb.build(_rfb.SERVER_MESSAGES, "xvp", version=1, code=_rfb.XVP_INIT)
RESET = "host-qmp-system-reset"
"""Why a machine is reset of which a power message wants it."""
ANY_PORT = "127.0.0.1:100,to=499"
"""A display of QEMU's, and so a port, that is free."""
MISTAKEN = ((_rfb.RAW, _rfb.DESKTOP_SIZE), (_rfb.RAW, 5), (_rfb.RAW, _rfb.POINTER_CHANGE))
"""Lists without -309 by which an affected QEMU takes power messages all the same."""

Open = t.Callable[[], t.ContextManager[Client]]


class Served(t.NamedTuple):
    """A machine whose two VNC servers have power control "on" and "off", and a proxy with a target for each policy."""

    machine: Machine
    proxy: Proxy
    ports: dict[str, int]

    def ways(self, server: str, power: str) -> list[Open]:
        """All ways in: WebSocket and viewer, and the token, for which the default policy counts."""
        target = TARGET if (server, power) == ("on", "as_configured") else f"{server}-{power}"
        ways: list[Open] = [
            lambda: web(self.proxy, f"target/{target}"),
            lambda: plain(self.proxy, target),
        ]
        if power == "as_configured":
            ways.append(lambda: web(self.proxy, f"websockify?token={server}"))
        return ways

    def seen(self, **fields: t.Any) -> int:
        return len(self.proxy.happened("power_message", **fields))


@contextlib.contextmanager
def short_folder() -> Iterator[Path]:
    """A socket's path has to be short."""
    folder = Path(tempfile.mkdtemp(prefix="kvmops-tcp-", dir="/tmp"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def ports_of(machine: Machine) -> dict[str, int]:
    """Where each VNC server of a machine listens."""
    found = {one["id"]: one["server"] for one in machine.ask("query-vnc-servers")}
    return {name: int(servers[0]["service"]) for name, servers in found.items() if servers[0]["family"] == "ipv4"}


@pytest.fixture(scope="module")
def served(programs: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with contextlib.ExitStack() as undo:
        folder = undo.enter_context(short_folder())
        options = ("-vnc", f"{ANY_PORT},id=on,power-control=on", "-vnc", f"{ANY_PORT},id=off")
        machine = Machine(programs["affected"], folder, *options)
        undo.callback(machine.end)
        ports = ports_of(machine)
        tokens = folder / "tokens"
        tokens.write_text("".join(f"{name}: 127.0.0.1:{port}\n" for name, port in ports.items()), encoding="utf-8")
        targets = {
            f"{server}-{power}": {"host": "127.0.0.1", "port": ports[server], "policy": {"power": power}}
            for server in ("on", "off")
            for power in ("allow", "deny", "as_configured")
        }
        proxy = Proxy(
            tmp_path_factory.mktemp("tcp") / "proxy",
            targets.pop("on-as_configured"),
            others=targets,
            tokens={"files": [os.fspath(tokens)]},
        )
        undo.callback(proxy.end)
        yield Served(machine, proxy, ports)


def was_reset(machine: Machine) -> bool:
    """By somebody outside: a machine whose BIOS is interrupted resets itself as well."""
    machine.ask("query-status")
    return any(event["event"] == "RESET" and event["data"]["reason"] == RESET for event in machine.events)


def wait_for_reset(machine: Machine) -> None:
    end = time.monotonic() + SECONDS
    while not was_reset(machine):
        assert time.monotonic() < end, "it is not reset"


def hear_all(client: Client) -> None:
    """Hear the server until it has come past all that was said to it, which it acknowledges (QEMU: -258)."""
    client.say(_rfb.set_encodings(_rfb.EXTENDED_KEY))
    client.hear_until(struct.pack("!i", _rfb.EXTENDED_KEY))


@pytest.mark.parametrize(
    ("server", "power"), [("on", "as_configured"), ("on", "allow"), ("off", "allow")], ids=lambda word: word
)
def test_healed_and_obeyed(served: Served, server: str, power: str) -> None:
    """The offer, and nothing before it: no rectangle of -257."""
    for way in served.ways(server, power):
        seen = served.seen(passed=True)
        served.machine.forget()
        with way() as client:
            client.enter()
            client.say(_rfb.set_encodings(*AS_NOVNC))
            assert client.hear(4) == INIT
            client.say(_rfb.xvp(_rfb.XVP_RESET))
            wait_for_reset(served.machine)
            session = served.proxy.wait_more("power_message", seen, passed=True)["session"]
            assert served.proxy.happened("server_asked", session=session)[0]["server"] == "affected"
        assert b"\xff\xff\xfe\xff" not in client.received


@pytest.mark.parametrize(
    ("server", "power"), [("on", "deny"), ("off", "as_configured"), ("off", "deny")], ids=lambda word: word
)
def test_not_offered_and_not_obeyed(served: Served, server: str, power: str) -> None:
    """Nor is there a rectangle of -257."""
    for way in served.ways(server, power):
        seen = served.seen(passed=False)
        served.machine.forget()
        with way() as client:
            client.enter()
            client.say(_rfb.set_encodings(*AS_NOVNC) + _rfb.xvp(_rfb.XVP_RESET))
            hear_all(client)
            assert not was_reset(served.machine)
            served.proxy.wait_more("power_message", seen, passed=False, action="reset")
        assert b"\xff\xff\xfe\xff" not in client.received
        assert INIT not in client.received


@pytest.mark.parametrize("server", ["on", "off"])
@pytest.mark.parametrize("power", ["allow", "deny", "as_configured"])
def test_raw_client_is_stopped(served: Served, server: str, power: str) -> None:
    """Who never asks for power control has none, whatever else he lists; without the proxy this very server obeys."""
    for way in served.ways(server, power):
        for encodings in MISTAKEN:
            seen = served.seen(passed=False)
            served.machine.forget()
            with way() as client:
                client.enter()
                client.say(_rfb.set_encodings(*encodings) + _rfb.xvp(_rfb.XVP_RESET))
                hear_all(client)
                assert not was_reset(served.machine)
                served.proxy.wait_more("power_message", seen, passed=False, action="reset")


@pytest.mark.parametrize("server", ["on", "off"])
def test_raw_client_is_obeyed_without_the_proxy(served: Served, server: str) -> None:
    """What makes the tests before this one worth something."""
    served.machine.forget()
    with socket.create_connection(("127.0.0.1", served.ports[server])) as connection:
        client = Client(connection.sendall, lambda: connection.recv(1 << 16))
        client.enter()
        client.say(_rfb.set_encodings(_rfb.RAW, _rfb.DESKTOP_SIZE) + _rfb.xvp(_rfb.XVP_RESET))
        wait_for_reset(served.machine)


def test_fixed_server_gets_and_gives_the_same_bytes(programs: dict[str, str], tmp_path: Path) -> None:
    """By host and port, and by token; it is asked, but never within a session."""
    with contextlib.ExitStack() as undo:
        machine = Machine(
            programs["fixed"],
            undo.enter_context(short_folder()),
            "-vnc",
            f"{ANY_PORT},id=on,power-control=on",
        )
        undo.callback(machine.end)
        tapped = Tap(tmp_path / "none", ports_of(machine)["on"])
        undo.callback(tapped.end)
        tokens = tmp_path / "tokens"
        tokens.write_text(f"fixed: 127.0.0.1:{tapped.port}\n", encoding="utf-8")
        proxy = Proxy(
            tmp_path / "proxy",
            {"host": "localhost", "port": tapped.port},
            tokens={"files": [os.fspath(tokens)]},
        )
        undo.callback(proxy.end)
        clients = []
        for way in (web(proxy), plain(proxy), web(proxy, "websockify?token=fixed")):
            with way as client:
                say_everything(client)
            clients.append(client)
        proxy.wait_more("session_end", 2)
        tapped.end()
        kept = [(bytes(up), bytes(down)) for up, down in tapped.conversations]
        for client in clients:
            assert (bytes(client.sent), bytes(client.received)) in kept
