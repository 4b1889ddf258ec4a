# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""libvirt's domains: found, opened, and never waited for longer than is bearable."""

from __future__ import annotations

import asyncio
import builtins
import os
import threading
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _vnc
from ansible_collections.kvmops.console.plugins.module_utils._errors import VncUnreachable
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy import _domains
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._denied import Denied
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._domains import (
    Console,
    Domains,
    Found,
    vnc_index,
)
from ansible_collections.kvmops.console.tests.unit.roles.vnc_proxy.fake_libvirt import FakeLibvirt, LibvirtError
from ansible_collections.kvmops.console.tests.unit.roles.vnc_proxy.vnc_server import Nature, greeting

SECONDS = 30.0
URI = "qemu:///system"


def run(
    work: Callable[[FakeLibvirt, Domains], Awaitable[None]], *, connections: int = 2, seconds: float = SECONDS
) -> None:
    async def main(library: FakeLibvirt) -> None:
        domains = Domains(URI, connections=connections, seconds=seconds, library=library)
        try:
            await asyncio.wait_for(work(library, domains), 10 * SECONDS)
        finally:
            domains.close()

    with FakeLibvirt() as library:
        asyncio.run(main(library))


async def denial(waiting: Awaitable[Any]) -> tuple[int, str]:
    with pytest.raises(Denied) as caught:
        await waiting
    return caught.value.status, caught.value.sentence


async def greet(console: Console) -> bytes:
    """What the server says first; the connection is closed."""
    assert not console.sock.getblocking()
    with console.sock:
        return await asyncio.get_running_loop().run_in_executor(None, greeting, console.sock)


@pytest.mark.parametrize(
    ("graphics", "index"),
    [
        ("<graphics type='vnc'/>", 0),
        ("<graphics type='spice'/><graphics type='vnc' port='5900'><listen type='address'/></graphics>", 1),
        ("<graphics type='vnc'/><graphics type='vnc'/>", 0),
        ("<video/><graphics type='dbus'/>", None),
        ("", None),
    ],
)
def test_place_of_the_vnc_element(graphics: str, index: int | None) -> None:
    assert vnc_index(f"<domain><devices><disk/>{graphics}</devices></domain>") == index


@pytest.mark.parametrize("name", ["web-1", "a b", "a/b", "..", "ümläut 消", "%41", "'\"<&"])
def test_domain_by_name_and_by_uuid(name: str) -> None:
    async def work(library: FakeLibvirt, domains: Domains) -> None:
        machine = library.put(name)
        library.put("another")
        for wanted in (name, machine.uuid, machine.uuid.upper(), machine.uuid.replace("-", "")):
            found = await domains.find(wanted)
            assert found == Found(name, machine.uuid)
            assert await greet(await domains.open(found)) == b"RFB 003.008\n"
        assert machine.opened == [(0, 0)] * 4

    run(work)


def test_name_that_looks_like_a_uuid() -> None:
    async def work(library: FakeLibvirt, domains: Domains) -> None:
        machine = library.put("another")
        odd = library.put("11111111-2222-3333-4444-555555555555")
        assert (await domains.find(odd.name)).uuid == odd.uuid
        library.put(machine.uuid)
        assert (await domains.find(machine.uuid)).name == "another", "the UUID is what nobody chooses"

    run(work)


def test_what_can_not_be_opened() -> None:
    async def work(library: FakeLibvirt, domains: Domains) -> None:
        off = library.put("off", running=False)
        blind = library.put("blind", graphics="<graphics type='spice'/>")
        assert await denial(domains.find("none\n")) == (
            404,
            "There is no domain 'none\N{REPLACEMENT CHARACTER}' on this host.",
        )
        assert await denial(domains.open(Found("off", off.uuid))) == (
            503,
            "The domain 'off' is off: it has a console when it runs.",
        )
        assert await denial(domains.open(Found("blind", blind.uuid))) == (
            404,
            "The domain 'blind' has no VNC console.",
        )
        machine = library.put("web")
        machine.failure = LibvirtError("access denied: 'QEMU' denied access")
        assert await denial(domains.open(Found("web", machine.uuid))) == (
            503,
            f"libvirt at {URI} does not open the console: access denied: 'QEMU' denied access.",
        )
        del library.machines["web"]
        assert (await denial(domains.open(Found("web", machine.uuid))))[0] == 404
        assert len(library.connections) <= 2, "none of this is a reason to connect anew"

    run(work)


def test_graphics_are_looked_for_once_in_each_process() -> None:
    async def work(library: FakeLibvirt, domains: Domains) -> None:
        machine = library.put("web", graphics="<graphics type='spice'/><graphics type='vnc'/>")
        found = await domains.find("web")
        for _turn in range(2):
            (await domains.open(found, skip_authentication=True)).sock.close()
        machine.graphics = "<graphics type='vnc'/>"
        library.start(machine)
        (await domains.open(found)).sock.close()
        assert machine.opened == [(1, 1), (1, 1), (0, 0)]

    run(work)


def test_identity_is_the_process() -> None:
    async def work(library: FakeLibvirt, domains: Domains) -> None:
        machine = library.put("web")
        found = await domains.find("web")
        identities = []
        for _turn in range(3):
            console = await domains.open(found)
            console.sock.close()
            identities.append(console.identity)
        assert len(set(identities)) == 1
        library.start(machine)
        again = await domains.open(found)
        again.sock.close()
        assert again.identity != identities[0]
        assert again.identity.libvirtd[0] == os.getpid(), "whoever made the connection: libvirtd"

    run(work)


def test_domain_that_is_started_anew_while_it_is_opened() -> None:
    """The connection leads to the process that it is said to lead to."""

    async def work(library: FakeLibvirt, domains: Domains) -> None:
        machine = library.put("web")
        old = machine.number
        found = await domains.find("web")

        def restart() -> None:
            machine.before_open = lambda: None
            library.start(machine)

        machine.before_open = restart
        console = await domains.open(found)
        assert console.identity.number == machine.number != old
        assert await greet(console) == b"RFB 003.008\n"
        machine.before_open = lambda: library.start(machine)
        assert (await denial(domains.open(found)))[1] == "The domain 'web' is started anew again and again."

    run(work)


def test_connection_that_was_lost_is_made_again() -> None:
    async def work(library: FakeLibvirt, domains: Domains) -> None:
        library.put("web")
        found = await domains.find("web")
        for turn in range(1, 4):
            library.cut()
            assert await greet(await domains.open(found)) == b"RFB 003.008\n"
            assert len(library.connections) == 1 + turn
            assert [connection.closed for connection in library.connections] == [True] * turn + [False]

    run(work, connections=1)


def test_libvirt_is_away_for_a_while() -> None:
    async def work(library: FakeLibvirt, domains: Domains) -> None:
        library.put("web")
        library.down = True
        assert await denial(domains.find("web")) == (
            503,
            f"libvirt at {URI} can't be reached: Failed to connect socket: No such file or directory.",
        )
        library.down = False
        found = await domains.find("web")
        library.down = True
        library.cut()
        assert (await denial(domains.open(found)))[0] == 503
        library.down = False
        assert await greet(await domains.open(found)) == b"RFB 003.008\n"

    run(work)


def test_domain_that_hangs_holds_nobody_else_up() -> None:
    async def work(library: FakeLibvirt, domains: Domains) -> None:
        machine = library.put("hung")
        library.put("web")
        go_on, entered = threading.Event(), threading.Event()

        def hang() -> None:
            entered.set()
            go_on.wait(SECONDS)

        machine.before_open = hang
        hung, web = await domains.find("hung"), await domains.find("web")
        opening = asyncio.ensure_future(denial(domains.open(hung)))
        await asyncio.get_running_loop().run_in_executor(None, entered.wait, SECONDS)
        pass_time()
        assert await opening == (503, "The domain 'hung' did not answer libvirt within 30 seconds.")
        for _turn in range(5):
            assert await denial(domains.open(hung)) == (
                503,
                "libvirt still waits for the QEMU of the domain 'hung', which does not answer.",
            )
        assert await greet(await domains.open(web)) == b"RFB 003.008\n"
        machine.before_open = lambda: None
        go_on.set()
        assert machine.server
        server = machine.server
        await asyncio.get_running_loop().run_in_executor(None, wait_for, lambda: bool(server._open))
        await asyncio.get_running_loop().run_in_executor(None, wait_for, lambda: not domains._pool._left_behind)
        await asyncio.get_running_loop().run_in_executor(None, server._threads[0].join, SECONDS)
        assert not server._threads[0].is_alive(), "what came too late is closed"
        assert await greet(await domains.open(hung)) == b"RFB 003.008\n"

    run(work)


def pass_time() -> None:
    """Let so much time pass for the event loop that a call has taken too long."""
    loop: Any = asyncio.get_running_loop()
    time_before = loop.time
    loop.time = lambda: time_before() + SECONDS + 1


def wait_for(happened: Callable[[], bool]) -> None:
    """Wait for what no event tells."""
    end = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_call_that_nobody_waits_for_any_more() -> None:
    async def work(library: FakeLibvirt, domains: Domains) -> None:
        machine = library.put("web")
        found = await domains.find("web")
        go_on, entered = threading.Event(), threading.Event()

        def hang() -> None:
            entered.set()
            go_on.wait(SECONDS)

        machine.before_open = hang
        opening = asyncio.ensure_future(domains.open(found))
        waiting = asyncio.ensure_future(domains.open(found))
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, entered.wait, SECONDS)
        for task in (opening, waiting):
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        go_on.set()
        assert machine.server
        server = machine.server
        await loop.run_in_executor(None, wait_for, lambda: bool(server._threads))
        await loop.run_in_executor(None, server._threads[0].join, SECONDS)
        assert not server._threads[0].is_alive(), "what nobody wants is closed"
        assert machine.opened == [(0, 0)], "what waited was not begun"

    run(work)


def test_call_that_hangs_is_left_behind_by_the_next_one_too() -> None:
    """When whoever waited has gone, and so can't notice."""

    async def work(library: FakeLibvirt, domains: Domains) -> None:
        machine = library.put("hung")
        library.put("web")
        hung, web = await domains.find("hung"), await domains.find("web")
        go_on, entered = threading.Event(), threading.Event()

        def hang() -> None:
            entered.set()
            go_on.wait(4 * SECONDS)

        machine.before_open = hang
        opening = asyncio.ensure_future(domains.open(hung))
        await asyncio.get_running_loop().run_in_executor(None, entered.wait, SECONDS)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        (job,) = domains._pool._running
        assert job.began is not None
        job.began -= 2 * SECONDS
        assert await greet(await domains.open(web)) == b"RFB 003.008\n"
        go_on.set()
        await asyncio.get_running_loop().run_in_executor(None, wait_for, lambda: not domains._pool._left_behind)

    run(work, connections=1)


def test_many_callers() -> None:
    """No more calls at a time than there are connections, and never two for one domain."""

    async def work(library: FakeLibvirt, domains: Domains) -> None:
        busy: set[str] = set()

        def opening(name: str) -> Callable[[], None]:
            def enter() -> None:
                assert name not in busy
                busy.add(name)
                time.sleep(0.001)
                busy.remove(name)

            return enter

        found = []
        for number in range(5):
            machine = library.put(f"web-{number}")
            machine.before_open = opening(machine.name)
            found.append(await domains.find(machine.name))
        consoles = await asyncio.gather(*(domains.open(found[number % 5]) for number in range(60)))
        for console in consoles:
            console.sock.close()
        assert sorted({console.identity.uuid for console in consoles}) == sorted(each.uuid for each in found)
        assert 1 <= library.most_running <= 3
        assert len(library.connections) <= 3

    run(work, connections=3)


def test_too_many_calls_that_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_domains, "_MOST_LEFT_BEHIND", 2)

    async def work(library: FakeLibvirt, domains: Domains) -> None:
        go_on, entered = threading.Event(), threading.Barrier(3, timeout=SECONDS)

        def hang() -> None:
            entered.wait()
            go_on.wait(SECONDS)

        opening = []
        for number in range(2):
            library.put(f"hung-{number}").before_open = hang
            found = await domains.find(f"hung-{number}")
            opening.append(asyncio.ensure_future(denial(domains.open(found))))
        await asyncio.get_running_loop().run_in_executor(None, entered.wait)
        pass_time()
        for _status, sentence in await asyncio.gather(*opening):
            assert "did not answer libvirt" in sentence
        assert await denial(domains.find("web")) == (503, "libvirt does not answer.")
        go_on.set()
        await asyncio.get_running_loop().run_in_executor(None, wait_for, lambda: not domains._pool._left_behind)
        assert await domains.find("hung-0")

    run(work)


def test_way_past_the_password() -> None:
    """A question goes past the authentication, and to the very process that it is about."""

    async def work(library: FakeLibvirt, domains: Domains) -> None:
        machine = library.put("web", nature=Nature(password=True))
        found = await domains.find("web")
        console = await domains.open(found)
        console.sock.close()
        way = domains.way(found, console.identity)
        assert way.name == "the domain 'web'"
        loop = asyncio.get_running_loop()

        def ask() -> Any:
            return _vnc.ask_server(way, _vnc.Deadline(SECONDS))

        _hello, answers = await loop.run_in_executor(None, ask)
        assert answers
        assert answers.pointer_change
        assert machine.opened == [(0, 0), (0, 1)]
        library.start(machine)
        with pytest.raises(VncUnreachable, match="the domain 'web': the domain was started anew meanwhile"):
            await loop.run_in_executor(None, ask)
        machine.number = None
        with pytest.raises(VncUnreachable, match="the domain 'web': The domain 'web' is off"):
            await loop.run_in_executor(None, ask)

    run(work)


def test_after_the_end() -> None:
    async def work(library: FakeLibvirt, domains: Domains) -> None:
        library.put("web")
        found = await domains.find("web")
        domains.close()
        assert await denial(domains.open(found)) == (503, "The proxy is about to end.")
        await asyncio.get_running_loop().run_in_executor(None, wait_for, lambda: library.connections[0].closed)

    run(work)


def test_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = builtins.__import__

    def import_(name: str, *arguments: Any) -> Any:
        if name == "libvirt":
            raise ImportError(name)
        return wanted(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", import_)

    async def main() -> None:
        domains = Domains(URI)
        try:
            status, sentence = await denial(domains.find("web"))
        finally:
            domains.close()
        assert status == 503
        assert "install the package python3-libvirt" in sentence

    asyncio.run(main())
