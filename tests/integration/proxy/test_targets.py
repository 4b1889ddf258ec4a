# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The proxy's way to real domains: libvirt's own descriptors, QEMU 7.2.0 (affected) and the distribution's (fixed)."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import Any, Optional
from urllib.parse import quote

import pytest

pytest.importorskip("libvirt", reason="needs libvirt's bindings")

from ansible_collections.kvmops.console.plugins.module_utils import _rfb
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._asking import Asking
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._config import (
    DomainSettings,
    NamedTarget,
    TargetSettings,
    TokenSettings,
)
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._targets import (
    ConsoleRequest,
    Denied,
    Directory,
    Opened,
)
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._treatment import Behaviour, Policy
from ansible_collections.kvmops.console.tests.lab.kvmlab import AFFECTED_QEMU, FIXED_QEMU
from ansible_collections.kvmops.console.tests.lab.kvmlab.domains import PASSWORD, spice_xml, vnc_xml

SECONDS = 60.0
AFFECTED = Behaviour(True, True, True, None)
FIXED = Behaviour(True, False, True, None)
OFF = Behaviour(False, False, True, None)


class Gateway:
    """What finds and opens the domains of a host, as the proxy does it."""

    def __init__(self, directory: Directory, told: list[Optional[Behaviour]]) -> None:
        self._directory = directory
        self.told = told

    async def open(self, name: str) -> Opened:
        request = ConsoleRequest(f"/domain/{quote(name, safe='')}", {}, None, "192.0.2.1")
        return await (await self._directory.find(request)).open()

    async def behaviour(self, name: str) -> Optional[Behaviour]:
        """Open a domain, see an RFB greeting, end the session."""
        opened = await self.open(name)
        with opened.sock:
            assert await in_thread(receive, opened.sock, 12) == b"RFB 003.008\n"
        opened.release()
        return opened.behaviour

    async def denied(self, name: str) -> tuple[int, str]:
        with pytest.raises(Denied) as caught:
            await self.open(name)
        return caught.value.status, caught.value.sentence


def run(
    hypervisor: Any,
    work: Callable[[Gateway], Awaitable[None]],
    *,
    power: str = "as_configured",
    skip_authentication: bool = False,
    seconds: float = SECONDS,
    targets: Optional[dict[str, NamedTarget]] = None,
) -> None:
    policy = Policy(power=power)
    domains = DomainSettings(hypervisor.uri, True, skip_authentication, 2, seconds, policy, "shared", None, "session")
    settings = TargetSettings(
        policy, "shared", None, "session", domains, targets or {}, TokenSettings((), None, (), ())
    )

    async def main() -> None:
        told: list[Optional[Behaviour]] = []
        asking = Asking(seconds=SECONDS, told=told.append)
        directory = Directory(settings, asking)
        try:
            await asyncio.wait_for(work(Gateway(directory, told)), 5 * SECONDS)
        finally:
            directory.close()
            asking.close()

    asyncio.run(main())


async def in_thread(work: Callable[..., Any], *arguments: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, work, *arguments)


def receive(connection: socket.socket, size: int) -> bytes:
    connection.settimeout(SECONDS)
    data = b""
    while len(data) < size:
        more = connection.recv(size - len(data))
        assert more, "the connection was closed"
        data += more
    return data


class Viewer:
    """Somebody who looks at a domain, as one of several."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        assert receive(connection, 12) == b"RFB 003.008\n"
        connection.sendall(b"RFB 003.008\n")
        assert receive(connection, 2) == b"\1\1"
        connection.sendall(b"\1")
        assert receive(connection, 4) == bytes(4)
        connection.sendall(b"\1")
        (length,) = struct.unpack("!20xI", receive(connection, 24))
        receive(connection, length)

    def still_there(self) -> None:
        self._connection.sendall(_rfb.set_encodings(_rfb.EXTENDED_KEY))
        assert receive(self._connection, 16)[12:] == struct.pack("!i", _rfb.EXTENDED_KEY)


def test_domains_are_opened_and_tell_what_they_are(hypervisor: Any) -> None:
    """By name and by UUID, whatever else shows their screens; asked once each, and in nobody's way."""
    on = hypervisor.put("web 1 büro", power_control="yes", running=True)
    graphics = (spice_xml(), vnc_xml(power_control="yes"))
    hypervisor.put("fixed", emulator=FIXED_QEMU, graphics=graphics, running=True)
    hypervisor.put("affected-off", power_control="no", running=True)
    hypervisor.put("fixed-off", emulator=FIXED_QEMU, running=True)
    hypervisor.put("off")
    hypervisor.put("blind", graphics=(), running=True)

    async def as_configured(gateway: Gateway) -> None:
        opened = await gateway.open(on.UUIDString().upper())
        with opened.sock:
            assert opened.behaviour == AFFECTED
            viewer = await in_thread(Viewer, opened.sock)
            for name in ("web 1 büro", on.UUIDString()):
                assert await gateway.behaviour(name) == AFFECTED
            assert gateway.told == [AFFECTED]
            await in_thread(viewer.still_there)
        assert await gateway.behaviour("fixed") == FIXED
        assert [await gateway.behaviour(name) for name in ("affected-off", "fixed-off")] == [OFF, OFF]
        assert await gateway.denied("off") == (503, "The domain 'off' is off: it has a console when it runs.")
        assert await gateway.denied("blind") == (404, "The domain 'blind' has no VNC console.")
        assert await gateway.denied("none") == (404, "There is no domain 'none' on this host.")
        assert await gateway.denied("web 1") == (404, "There is no domain 'web 1' on this host.")

    async def allow(gateway: Gateway) -> None:
        """Now the gate is tried where nothing else can tell; the guest is none the wiser."""
        opened = await gateway.open("affected-off")
        with opened.sock:
            assert opened.behaviour == OFF._replace(gated=False)
            viewer = await in_thread(Viewer, opened.sock)
            assert await gateway.behaviour("fixed-off") == OFF._replace(gated=True)
            assert await gateway.behaviour("web 1 büro") == AFFECTED
            await in_thread(viewer.still_there)

    numbers = {domain.name(): domain.ID() for domain in hypervisor.connection.listAllDomains(0)}
    run(hypervisor, as_configured)
    run(hypervisor, allow, power="allow")
    assert {domain.name(): domain.ID() for domain in hypervisor.connection.listAllDomains(0)} == numbers


def test_password(hypervisor: Any) -> None:
    """The session meets it, unless the configuration skips it; the question never does."""
    graphics = (vnc_xml(power_control="yes", password=PASSWORD),)
    hypervisor.put("secret", graphics=graphics, running=True)

    async def offered(gateway: Gateway) -> bytes:
        opened = await gateway.open("secret")
        with opened.sock:
            assert opened.behaviour == AFFECTED
            opened.sock.setblocking(True)
            assert await in_thread(receive, opened.sock, 12) == b"RFB 003.008\n"
            await in_thread(opened.sock.sendall, b"RFB 003.008\n")
            types: bytes = await in_thread(receive, opened.sock, 2)
        return types

    async def asked(gateway: Gateway) -> None:
        assert await offered(gateway) == b"\1\2"

    async def skipped(gateway: Gateway) -> None:
        assert await offered(gateway) == b"\1\1"

    run(hypervisor, asked)
    run(hypervisor, skipped, skip_authentication=True)


def test_restarts(hypervisor: Any) -> None:
    """libvirtd's costs nobody anything; a domain's may bring another QEMU, which is asked anew."""
    domain = hypervisor.put("web", emulator=AFFECTED_QEMU, power_control="yes", running=True)

    async def work(gateway: Gateway) -> None:
        assert await gateway.behaviour("web") == AFFECTED
        for action in ("restart", "kill"):
            await in_thread(hypervisor.host.libvirtd, action)
            if action == "kill":
                status, sentence = await gateway.denied("web")
                assert status == 503
                assert sentence.startswith(f"libvirt at {hypervisor.uri} can't be reached: ")
                await in_thread(hypervisor.host.libvirtd, "start")
            assert await gateway.behaviour("web") == AFFECTED
        asked = len(gateway.told)
        await in_thread(hypervisor.reconnect)
        again = hypervisor.connection.lookupByName("web")
        again.destroy()
        assert (await gateway.denied("web"))[1] == "The domain 'web' is off: it has a console when it runs."
        hypervisor.put("web", emulator=FIXED_QEMU, power_control="yes", running=True)
        assert [await gateway.behaviour("web") for _turn in range(3)] == [FIXED] * 3
        assert len(gateway.told) == asked + 1

    assert domain.isActive()
    run(hypervisor, work)


def test_domain_that_hangs(hypervisor: Any) -> None:
    """libvirt waits for it without end; its viewers are told, and those of other domains do not wait with it."""
    hypervisor.put("hung", power_control="yes", running=True)
    hypervisor.put("web", power_control="yes", running=True)
    pid = hypervisor.host.exec("cat", "/run/libvirt/qemu/hung.pid").stdout.strip()

    async def work(gateway: Gateway) -> None:
        assert await gateway.behaviour("hung") == AFFECTED
        hypervisor.host.exec("kill", "-STOP", pid)
        try:
            assert await gateway.denied("hung") == (503, "The domain 'hung' did not answer libvirt within 10 seconds.")
            assert "which does not answer" in (await gateway.denied("hung"))[1]
            assert await gateway.behaviour("web") == AFFECTED
        finally:
            hypervisor.host.exec("kill", "-CONT", pid)
        behaviour = None
        while behaviour != AFFECTED:  # until libvirt has noticed that it goes on
            with contextlib.suppress(Denied):
                behaviour = await gateway.behaviour("hung")
            await asyncio.sleep(0.05)

    run(hypervisor, work, seconds=10.0)
