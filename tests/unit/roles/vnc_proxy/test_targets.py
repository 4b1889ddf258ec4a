# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a request to an open connection, over real sockets: what may be opened, and how often a server is asked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Awaitable, Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Optional
from urllib.parse import quote

import pytest

pytest.importorskip("jwt", reason="signed tokens need PyJWT")
import jwt

from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy import _servers, _targets
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._asking import Asking
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._config import (
    AllowedTarget,
    DomainSettings,
    JwtSettings,
    NamedTarget,
    TargetSettings,
    TokenSettings,
)
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._domains import Domains
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._targets import (
    ConsoleRequest,
    Denied,
    Directory,
    Opened,
    Target,
)
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._treatment import Behaviour, Policy
from ansible_collections.kvmops.console.tests.unit.roles.vnc_proxy.fake_libvirt import FakeLibvirt
from ansible_collections.kvmops.console.tests.unit.roles.vnc_proxy.vnc_server import (
    Nature,
    VncServer,
    greeting,
    process,
)

SECONDS = 30.0
SECRET = "0123456789abcdef0123456789abcdef"
LATER = int(time.time()) + 3600
AFFECTED = Behaviour(True, True, True, None)
FIXED = Behaviour(True, False, True, None)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


async def known(opened: Opened) -> Optional[Behaviour]:
    """What is known of a server as soon as a client has got in."""
    return await opened.ask() if opened.ask else opened.behaviour


class World:
    """A directory, made from settings, and what it needs. Use it with `async with`."""

    def __init__(self, directory: Directory, asking: Asking, library: FakeLibvirt, told: list[Any]) -> None:
        self.directory = directory
        self.asking = asking
        self.library = library
        self.told = told
        self.opened: list[Opened] = []

    async def find(self, path: str, token: Optional[str] = None) -> Target:
        query = {} if token is None else {"token": token, "other": "x"}
        return await self.directory.find(ConsoleRequest(path, query, None, "192.0.2.1"))

    async def denied(self, path: str, token: Optional[str] = None) -> tuple[int, str]:
        with pytest.raises(Denied) as caught:
            await self.find(path, token)
        if token:
            assert token not in caught.value.sentence
        return caught.value.status, caught.value.sentence

    async def open(self, target: Target) -> Opened:
        opened = await target.open()
        self.opened.append(opened)
        assert not opened.sock.getblocking()
        return opened

    async def behaviour(self, target: Target) -> Optional[Behaviour]:
        """Open a target, see that it greets, end the session."""
        opened = await self.open(target)
        assert await self.greets(opened)
        behaviour = await known(opened)
        opened.sock.close()
        opened.release()
        return behaviour

    async def greets(self, opened: Opened) -> bool:
        said = await asyncio.get_running_loop().run_in_executor(None, greeting, opened.sock)
        return said == b"RFB 003.008\n"


def run(
    work: Callable[[World], Awaitable[None]],
    *,
    policy: Policy = Policy(),  # noqa: B008
    domains: Optional[dict[str, Any]] = None,
    targets: Optional[dict[str, tuple[Any, ...]]] = None,
    files: tuple[str, ...] = (),
    key: Optional[Path] = None,
    single_use: bool = False,
    allowed_targets: tuple[AllowedTarget, ...] = (),
    allowed_sockets: tuple[str, ...] = (),
    identity: str = "session",
    directories: tuple[str, ...] = (),
    socket_directories: tuple[str, ...] = (),
    seconds: float = SECONDS,
) -> None:
    """Run `work` in a world with these settings. `targets`: name -> kind, address, port, and a policy if need be."""
    signed = None
    if key:
        (key / "key").write_text(SECRET)
        signed = JwtSettings(str(key / "key"), "HS256", single_use, None, None, 0.0, None)
    about_domains = None
    if domains is not None:
        default = {"uri": "x", "open_by_name": True, "skip_authentication": False, "connections": 2}
        about_domains = DomainSettings(
            **{
                **default,
                "timeout_seconds": SECONDS,
                "policy": policy,
                "viewers": "shared",
                "most_sessions": 3,
                "identity": identity,
                **domains,
            }
        )
    named = {
        name: NamedTarget(name, kind, address, port, own[0] if own else policy, "exclusive", 7, identity)
        for name, (kind, address, port, *own) in (targets or {}).items()
    }
    tokens = TokenSettings(files, signed, allowed_targets, allowed_sockets, directories, socket_directories)
    settings = TargetSettings(policy, "shared", 5, identity, about_domains, named, tokens)

    async def main(library: FakeLibvirt) -> None:
        told: list[Any] = []
        asking = Asking(told=told.append)
        libvirt = Domains(library=library) if about_domains else None
        directory = Directory(settings, asking, domains=libvirt, seconds=seconds)
        world = World(directory, asking, library, told)
        try:
            await asyncio.wait_for(work(world), 2 * SECONDS)
        finally:
            directory.close()
            asking.close()
            for opened in world.opened:
                opened.sock.close()

    with FakeLibvirt() as library:
        asyncio.run(main(library))


def signed(**claims: Any) -> str:
    return str(jwt.encode({"exp": LATER, **claims}, SECRET, "HS256"))


# --- Paths ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["web-1", "a b", "a/b", "..", "../../etc", ".", "ümläut 消", "%41", "a?b#c", "a+b", "'\"<&"]
)
def test_domain_by_its_name_and_its_uuid(name: str) -> None:
    async def work(world: World) -> None:
        machine = world.library.put(name)
        world.library.put("A")
        world.library.put("a")
        for path in (quote(name, safe=""), machine.uuid, machine.uuid.upper()):
            target = await world.find(f"/domain/{path}")
            assert (target.kind, target.name, target.key) == ("domain", name, ("domain", machine.uuid))
            assert (target.viewers, target.most_sessions, target.subject) == ("shared", 3, None)
            assert await world.behaviour(target) == AFFECTED

    run(work, domains={})


@pytest.mark.parametrize(
    "path",
    [
        *("", "/", "/domain", "/domain/", "/domainx/web", "/Domain/web", "//domain/web", "/x/domain/web", "domain/web"),
        *(
            "/domain/web/",
            "/domain/web/x",
            "/domain//web",
            "/domain/web/..",
            "/domain/./web",
            "/domain/%00web",
            "/domain/web%00",
        ),
        *(
            "/domain/%ff",
            "/domain/%c0%ae",
            "/domain/we%62%",
            "/domain/%2577eb",
            "/domain/none",
            "/domain/" + "a" * 5000,
        ),
        *(
            "/target/",
            "/target/web",
            "/target/%2e%2e",
            "/target/../domain/web",
            "/websockify",
            "/domain/web ",
            "/domain/*",
        ),
    ],
)
def test_paths_that_name_nothing(path: str) -> None:
    async def work(world: World) -> None:
        world.library.put("web")
        world.library.put("%65")
        world.library.put("web/x")
        status, sentence = await world.denied(path)
        assert status == 404
        assert len(sentence) < 200
        assert sentence.isprintable()

    run(work, domains={})


def test_domains_that_are_not_opened_by_name() -> None:
    async def work(world: World) -> None:
        world.library.put("web")
        assert await world.denied("/domain/web") == (403, "Domains are not opened by their names here.")
        assert (await world.find("/target/it")).name == "it"

    run(work, domains={"open_by_name": False}, targets={"it": ("domain", "web", 0)})


def test_no_domains_at_all() -> None:
    async def work(world: World) -> None:
        assert (await world.denied("/domain/web"))[0] == 403

    run(work)


def test_named_targets(tmp_path: Path) -> None:
    own = Policy(power="deny", view_only=True)

    async def work(world: World) -> None:
        machine = world.library.put("web")
        target = await world.find("/target/the%20socket")
        assert (target.kind, target.name, target.key) == ("unix", "the socket", ("unix", path))
        assert (target.policy, target.viewers, target.most_sessions) == (Policy(), "exclusive", 7)
        assert await world.behaviour(target) == AFFECTED
        target = await world.find("/target/port")
        assert (target.kind, target.name, target.key) == ("tcp", "port", ("tcp", "localhost", server.port))
        assert target.policy == own
        assert await world.behaviour(target) == FIXED
        target = await world.find("/target/machine")
        assert (target.kind, target.name, target.key) == ("domain", "machine", ("domain", machine.uuid))
        assert (await world.directory.fixed("port")).name == "port"
        with pytest.raises(Denied, match="There is no target 'none' here"):
            await world.directory.fixed("none")

    path = str(tmp_path / "v")
    with VncServer.at_unix(path), VncServer.at_tcp(nature=Nature(affected=False)) as server:
        targets = {
            "the socket": ("unix", path, 0),
            "port": ("tcp", "localhost", server.port, own),
            "machine": ("domain", "web", 0),
        }
        run(work, domains={}, targets=targets)


# --- Tokens -----------------------------------------------------------------------------------------------------------


def test_token_file(tmp_path: Path) -> None:
    file = tmp_path / "tokens"

    async def work(world: World) -> None:
        target = await world.find("/websockify", "one")
        assert (target.kind, target.key, target.most_sessions) == ("tcp", ("tcp", "127.0.0.1", server.port), 5)
        assert await world.behaviour(target) == AFFECTED
        assert await world.behaviour(await world.find("/", "two")) == AFFECTED
        assert await world.denied("/websockify", "three") == (401, "The token is not known.")
        assert await world.denied("/websockify", "") == (401, "The token is not known.")
        file.write_text(f"three: 127.0.0.1:{server.port}\n")
        assert (await world.denied("/websockify", "one"))[0] == 401
        assert await world.behaviour(await world.find("/websockify", "three")) == AFFECTED

    with VncServer.at_tcp() as server, VncServer.at_unix(str(tmp_path / "v")):
        file.write_text(f"one: 127.0.0.1:{server.port}\ntwo: unix_socket:{tmp_path}/v\n")
        run(work, files=(str(file),))


def test_token_directories(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As with websockify's plugins of that kind; the socket's name is told to nobody."""
    (tmp_path / "ports").mkdir()
    (tmp_path / "sockets").mkdir()

    async def work(world: World) -> None:
        assert await world.behaviour(await world.find("/websockify", "one")) == AFFECTED
        target = await world.find("/websockify", "secret-1")
        assert target.key == ("unix", str(tmp_path / "sockets/secret-1"))
        assert "secret-1" not in target.name
        assert await world.behaviour(target) is None
        assert await world.denied("/websockify", "two") == (401, "The token is not known.")
        (tmp_path / "sockets/secret-1").unlink()
        with pytest.raises(Denied) as caught:
            await target.open()
        assert "secret-1" not in caught.value.sentence

    password = Nature(password=True)
    with VncServer.at_tcp() as server, VncServer.at_unix(str(tmp_path / "sockets/secret-1"), password):
        (tmp_path / "ports/one").write_text(f"127.0.0.1:{server.port}\n")
        run(work, directories=(str(tmp_path / "ports"),), socket_directories=(str(tmp_path / "sockets"),))
    assert "lets nobody in without authentication" in caplog.text
    assert "secret-1" not in caplog.text


def test_token_decides_and_the_path_has_to_mean_the_same(tmp_path: Path) -> None:
    """An empty or a wrong token never falls back to what the path alone would open."""

    async def work(world: World) -> None:
        web, _db = world.library.put("web"), world.library.put("db")
        other = (403, "The token is for another target than the path names.")
        for path in ("/websockify", "/domain/web", f"/domain/{web.uuid}", f"/domain/{web.uuid.upper()}", "/target/it"):
            assert (await world.find(path, signed(domain="web"))).name == "web"
            assert (await world.find(path, signed(domain=web.uuid))).name == "web"
        for path in ("/domain/db", "/domain/none", "/target/none", "/target/socket"):
            assert await world.denied(path, signed(domain="web")) == other
        assert (await world.find("/target/it", signed(target="it"))).name == "it"
        assert (await world.find("/domain/web", signed(target="it"))).name == "it"
        assert await world.denied("/target/socket", signed(target="it")) == other
        assert await world.denied("/domain/db", signed(target="it")) == other
        for token in ("", "x", signed(domain="web")[:-3]):
            for path in ("/domain/web", "/target/it", "/target/socket"):
                assert (await world.denied(path, token))[0] == 401
        assert (await world.denied("/domain/", signed(domain="web")))[0] == 404

    targets = {"it": ("domain", "web", 0), "socket": ("unix", str(tmp_path / "v"), 0)}
    run(work, domains={}, targets=targets, key=tmp_path)


def test_signed_token_opens_what_has_no_name_to_open_it_by(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        world.library.put("../a b/消")
        target = await world.find("/websockify", signed(domain="../a b/消", sub="ada"))
        assert (target.name, target.subject) == ("../a b/消", "ada")
        assert await world.behaviour(target) == AFFECTED
        assert await world.find(f"/domain/{quote('../a b/消', safe='')}", signed(domain="../a b/消"))
        assert (await world.denied("/websockify", signed(domain="none")))[0] == 404
        assert (await world.denied("/websockify", signed(target="none")))[0] == 404

    run(work, domains={"open_by_name": False}, key=tmp_path)


def test_signed_token_for_a_domain_where_there_are_none(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        assert (await world.denied("/websockify", signed(domain="web")))[0] == 403

    run(work, key=tmp_path)


POWERS = ("deny", "as_configured", "allow")


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("claimed", [*POWERS, None])
def test_claims_only_narrow_the_policy(tmp_path: Path, power: str, claimed: Optional[str]) -> None:
    async def work(world: World) -> None:
        world.library.put("web")
        for claim in ({"domain": "web"}, {"target": "it"}, {"host": "127.0.0.1", "port": 5900}):
            for view_only in (True, False, None):
                wishes = {"power": claimed, "view_only": view_only}
                token = signed(**claim, **{name: value for name, value in wishes.items() if value is not None})
                policy = (await world.find("/websockify", token)).policy
                wished = POWERS.index(claimed) if claimed else len(POWERS)
                assert POWERS.index(policy.power) == min(POWERS.index(power), wished)
                assert policy.view_only is bool(view_only)
                assert policy.most_cut_text == 77
        assert (await world.find("/target/looked_at", signed(target="looked_at", view_only=False))).policy.view_only

    policy = Policy(power=power, most_cut_text=77)
    targets = {"it": ("domain", "web", 0), "looked_at": ("domain", "web", 0, Policy(view_only=True))}
    local = AllowedTarget((ip_network("127.0.0.0/8"),), 5900, 5999)
    run(work, policy=policy, domains={}, targets=targets, key=tmp_path, allowed_targets=(local,))


def test_token_for_one_session(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        world.library.put("web")
        token = signed(domain="web", jti="1")
        assert await world.find("/domain/web", token)
        assert (await world.denied("/domain/web", token))[0] == 410

    run(work, domains={}, key=tmp_path, single_use=True)


def test_addresses_that_a_signed_token_may_name(tmp_path: Path) -> None:
    """What a name resolves to is what counts, and what is connected to."""

    async def work(world: World) -> None:
        ports = (server.port, server.port)
        assert ports[0] == allowed.first_port == allowed.last_port
        for host in ("127.0.0.1", "localhost", "127.0.0.1"):
            target = await world.find("/websockify", signed(host=host, port=server.port))
            assert await world.behaviour(target) == AFFECTED
        wrong = (("127.0.0.1", server.port - 1), ("127.0.0.2", server.port), ("::ffff:127.0.0.2", server.port))
        for host, port in (*wrong, ("::1", server.port), ("0.0.0.0", server.port)):
            target = await world.find("/websockify", signed(host=host, port=port))
            with pytest.raises(Denied, match="names an address that may not be opened") as caught:
                await target.open()
            assert caught.value.status == 403

    with VncServer.at_tcp() as server:
        allowed = AllowedTarget((ip_network("10.0.0.0/8"), ip_network("127.0.0.1/32")), server.port, server.port)
        run(work, key=tmp_path, allowed_targets=(allowed,))


def test_no_address_may_be_named_unless_it_is_allowed(tmp_path: Path) -> None:
    async def work(world: World) -> None:
        target = await world.find("/websockify", signed(host="127.0.0.1", port=5900))
        with pytest.raises(Denied, match="may not be opened"):
            await target.open()

    run(work, key=tmp_path)


def test_address_in_another_dress() -> None:
    """An IPv4 address stays one when it is written as an IPv6 one."""
    allowed = (AllowedTarget((ip_network("127.0.0.0/8"),), 1, 65535),)
    is_allowed = __import__(Directory.__module__, fromlist=["_is_allowed"])._is_allowed
    for where, fits in ((("::ffff:127.0.0.1", 5900, 0, 0), True), (("::ffff:10.0.0.1", 5900, 0, 0), False)):
        assert is_allowed(_servers.Address(socket.AF_INET6, where), allowed) is fits
    link = _servers.Address(socket.AF_INET6, ("fe80::1%eth0", 5900, 0, 2))
    assert not is_allowed(link, allowed)
    assert is_allowed(link, (AllowedTarget((ip_network("fe80::/10"),), 1, 65535),))


def test_sockets_that_a_signed_token_may_name(tmp_path: Path) -> None:
    folder, other = tmp_path / "vnc", tmp_path / "vnc-not"
    for each in (folder, other):
        each.mkdir()

    async def work(world: World) -> None:
        target = await world.find("/websockify", signed(unix=str(folder / "v")))
        assert await world.behaviour(target) == AFFECTED
        assert (await world.find("/", signed(unix=f"{folder}/../vnc/./v"))).key == target.key
        wrong = [other / "v", folder / "../vnc-not/v", folder / "out", folder / "up/vnc-not/v", folder, "vnc/v", "/"]
        for path in wrong:
            assert await world.denied("/", signed(unix=str(path))) == (
                403,
                "The token names a unix socket that may not be opened here.",
            )

    (folder / "out").symlink_to(other / "v")
    (folder / "up").symlink_to(tmp_path)
    with VncServer.at_unix(str(folder / "v")), VncServer.at_unix(str(other / "v")):
        run(work, key=tmp_path, allowed_sockets=(str(folder),))


def test_settings_that_can_not_be_followed(tmp_path: Path) -> None:
    signed_by = JwtSettings(str(tmp_path / "none"), "HS256", False, None, None, 0.0, None)
    settings = TargetSettings(Policy(), "shared", None, "session", None, {}, TokenSettings((), signed_by, (), ()))
    asking = Asking()
    with pytest.raises(InputError, match="can't be read"):
        Directory(settings, asking)
    asking.close()


# --- Asked once for each process --------------------------------------------------------------------------------------


def test_domain_is_asked_once_for_each_start(tmp_path: Path) -> None:
    """Also for those who open it at the same time; past its password; and not by who may not press anything."""

    async def work(world: World) -> None:
        machine = world.library.put("web", nature=Nature(password=True))
        target = await world.find("/domain/web")
        assert [await world.behaviour(each) for each in (target, target, await world.find("/domain/web"))] == [
            AFFECTED
        ] * 3
        assert len(world.told) == 1
        machine.nature = Nature(affected=False)
        world.library.start(machine)
        sessions = await asyncio.gather(*(world.open(target) for _turn in range(6)))
        assert [opened.behaviour for opened in sessions] == [FIXED] * 6
        assert len(world.told) == 2
        assert [flags for _index, flags in machine.opened].count(1) == 2, "only the questions go past the password"
        for server in world.library._servers:
            assert set(server.shared) <= {1}
            assert not server.power

    run(work, domains={})


def test_domain_without_its_password() -> None:
    async def work(world: World) -> None:
        machine = world.library.put("web", nature=Nature(password=True))
        assert await world.behaviour(await world.find("/domain/web")) == AFFECTED
        assert {flags for _index, flags in machine.opened} == {1}

    run(work, domains={"skip_authentication": True})


def test_domain_that_is_off() -> None:
    async def work(world: World) -> None:
        machine = world.library.put("web", running=False)
        target = await world.find("/domain/web")
        with pytest.raises(Denied, match="The domain 'web' is off: it has a console when it runs"):
            await target.open()
        world.library.start(machine)
        assert await world.behaviour(target) == AFFECTED

    run(work, domains={})


def test_gate_is_tried_where_power_is_allowed() -> None:
    async def work(world: World) -> None:
        machine = world.library.put("web", nature=Nature(power_control=False))
        assert await world.behaviour(await world.find("/domain/web")) == Behaviour(False, False, True, False)
        assert machine.server
        assert machine.server.power == [3], "REBOOT, which no QEMU obeys"

    run(work, policy=Policy(power="allow"), domains={})


def test_unix_socket_is_asked_once_for_each_process(tmp_path: Path) -> None:
    path = str(tmp_path / "v")

    async def work(world: World) -> None:
        target = await world.find("/target/it")
        with process(path):
            assert [await world.behaviour(target) for _turn in range(3)] == [AFFECTED] * 3
            assert len(world.told) == 1
        os.unlink(path)
        with pytest.raises(Denied, match=r"The VNC server 'it' can't be reached: No such file or directory\."):
            await target.open()
        with process(path, Nature(affected=False)):
            assert [await world.behaviour(target) for _turn in range(3)] == [FIXED] * 3
            assert len(world.told) == 2

    run(work, targets={"it": ("unix", path, 0)})


def test_unix_socket_of_a_process_that_can_not_be_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the socket itself tells: another server makes another one."""
    monkeypatch.setattr(_servers, "peer_process", lambda _connection: None)
    path = tmp_path / "v"

    async def work(world: World) -> None:
        target = await world.find("/target/it")
        with VncServer.at_unix(str(path)):
            assert [await world.behaviour(target) for _turn in range(3)] == [AFFECTED] * 3
            assert len(world.told) == 1
        path.rename(tmp_path / "old")  # so that its inode is not given away again
        with VncServer.at_unix(str(path), Nature(affected=False)):
            assert [await world.behaviour(target) for _turn in range(3)] == [FIXED] * 3

    run(work, targets={"it": ("unix", str(path), 0)})


def test_server_that_is_replaced_while_it_is_asked(tmp_path: Path) -> None:
    """What was asked of one process is never told of another."""
    path = tmp_path / "v"

    async def work(world: World) -> None:
        target = await world.find("/target/it")
        asked = world.asking.behaviour
        replaced = contextlib.ExitStack()

        async def replace(*arguments: Any) -> Optional[Behaviour]:
            answer = await asked(*arguments)
            if not world.told[1:]:
                path.rename(tmp_path / "old")
                replaced.enter_context(VncServer.at_unix(str(path), Nature(affected=False)))
            return answer

        world.asking.behaviour = replace  # type: ignore
        with VncServer.at_unix(str(path)), replaced:
            assert await world.behaviour(target) == FIXED
            assert world.told == [AFFECTED, FIXED]

    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(_servers, "peer_process", lambda _connection: None)
    with monkeypatch.context():
        run(work, targets={"it": ("unix", str(path), 0)})
    monkeypatch.undo()


def test_question_goes_to_no_other_process(tmp_path: Path) -> None:
    path = str(tmp_path / "v")
    with VncServer.at_unix(path) as server:
        way = _servers.unix_way(path, _servers.ProcessAt(path, (1, 2)))
        with pytest.raises(Exception, match="another process answers there by now"):
            way.open(SECONDS)
    assert not server.shared


def test_server_that_ends_a_session_is_asked_again(tmp_path: Path) -> None:
    """Behind a socket that stays, another server may stand: somebody may relay it."""
    path = str(tmp_path / "v")

    async def work(world: World) -> None:
        target = await world.find("/target/it")
        opened = await world.open(target)
        opened.forget()
        opened.release()
        assert len(world.told) == 1
        assert await world.behaviour(target) == AFFECTED
        assert len(world.told) == 2

    with VncServer.at_unix(path):
        run(work, targets={"it": ("unix", path, 0)})


def test_server_with_room_for_few_connections(tmp_path: Path) -> None:
    """A queue of one: who comes while it is full waits, and is not turned away."""
    path = str(tmp_path / "v")

    async def work(world: World) -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(0)
            waiting = [asyncio.ensure_future(_servers.open_unix(path, SECONDS)) for _turn in range(8)]
            for _turn in range(8):
                connection, _address = await asyncio.get_running_loop().run_in_executor(None, listener.accept)
                connection.close()
            for connection in await asyncio.gather(*waiting):
                assert not connection.getblocking()
                connection.close()
            with await _servers.open_unix(path, SECONDS), pytest.raises(OSError, match="accepts no connection"):
                await _servers.open_unix(path, 0.05)

    run(work)


# --- TCP --------------------------------------------------------------------------------------------------------------


def test_tcp_server_is_asked_once_as_long_as_a_session_proves_that_it_lives() -> None:
    async def work(world: World) -> None:
        target = await world.find("/target/it")
        first = await world.open(target)
        assert first.behaviour is None
        assert not world.told, "nobody has got in yet"
        assert await known(first) == AFFECTED
        for _turn in range(3):
            assert await world.behaviour(target) == AFFECTED
        assert len(world.told) == 1
        second = await world.open(target)
        assert (second.behaviour, second.ask) == (AFFECTED, None)
        first.sock.close()
        first.release()
        assert await world.behaviour(target) == AFFECTED
        assert len(world.told) == 1, "the second one proves it, too"
        second.sock.close()
        second.release()
        second.release()
        assert await world.behaviour(target) == AFFECTED
        assert len(world.told) == 2, "nothing has proved it in between"

    with VncServer.at_tcp() as server:
        run(work, targets={"it": ("tcp", "127.0.0.1", server.port)})


@pytest.mark.parametrize("told", [True, False], ids=["told", "not-told"])
def test_tcp_server_that_is_replaced(told: bool) -> None:
    """An end that the session has not come to tell yet shows in the connection itself."""

    async def work(world: World) -> None:
        target = await world.find("/target/it")
        with VncServer.at_tcp(port):
            opened = await world.open(target)
            assert await known(opened) == AFFECTED
        with pytest.raises(Denied, match=r"The VNC server 'it' can't be reached: Connection refused\."):
            await target.open()
        if told:
            opened.forget()
            opened.release()
        with VncServer.at_tcp(port, Nature(affected=False)):
            assert await world.behaviour(target) == FIXED
        opened.release()

    port = free_port()
    run(work, targets={"it": ("tcp", "127.0.0.1", port)})


def test_tcp_server_that_is_opened_by_many_at_once() -> None:
    async def work(world: World) -> None:
        target = await world.find("/target/it")
        server.may_greet.clear()
        every = await asyncio.gather(*[world.open(target) for _turn in range(8)])
        asking = asyncio.gather(*map(known, every))
        server.may_greet.set()
        assert await asking == [AFFECTED] * 8
        assert len(world.told) == 1
        for opened in world.opened:
            opened.sock.close()
            opened.release()
        assert not world.asking._known, "nothing is kept of what nothing proves"

    with VncServer.at_tcp() as server:
        run(work, targets={"it": ("tcp", "127.0.0.1", server.port)})


def test_tcp_server_that_changes_while_it_is_asked() -> None:
    """What another one has told is not believed: the session's own server is asked within it."""

    async def work(world: World) -> None:
        target = await world.find("/target/it")
        with VncServer.at_tcp(port):
            opened = await world.open(target)
        with VncServer.at_tcp(port, Nature(affected=False)):
            assert await known(opened) is None
            assert world.told == [FIXED]
            another = await world.open(target)
            assert await known(another) == FIXED
            assert world.told == [FIXED, FIXED], "what was told to the dead session is not kept for others"

    port = free_port()
    run(work, targets={"it": ("tcp", "127.0.0.1", port)})


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_listener_that_is_the_same_is_not_asked_anew(host: str) -> None:
    async def work(world: World) -> None:
        target = await world.find("/target/it")
        with VncServer.at_tcp(port):
            assert await world.behaviour(target) == AFFECTED
            opened = await world.open(target)
            assert (opened.behaviour, opened.ask) == (AFFECTED, None)
            assert world.told == [AFFECTED]
            opened.forget()
            opened.release()
            assert await world.behaviour(target) == AFFECTED
            assert world.told == [AFFECTED] * 2, "it has ended a session"
        with VncServer.at_tcp(port, Nature(affected=False)):
            assert await world.behaviour(target) == FIXED
        with VncServer.at_tcp(port):
            opened = await world.open(target)
        with VncServer.at_tcp(port, Nature(affected=False)):
            assert await known(opened) is None, "it was another one that was asked"

    port = free_port()
    run(work, targets={"it": ("tcp", host, port)}, identity="listener")


def test_listener_that_goes_while_its_session_stays() -> None:
    """Whoever listens there by then is somebody else, and is asked for nobody but himself."""

    async def work(world: World) -> None:
        target = await world.find("/target/it")
        opened = await world.open(target)
        with listener.accept()[0]:
            listener.close()
            with VncServer.at_tcp(port):
                assert await known(opened) is None
                assert world.told == [AFFECTED]

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        run(work, targets={"it": ("tcp", "127.0.0.1", port)}, identity="listener")


def test_listener_that_the_kernel_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is asked for each session, as without the setting."""

    def refuse(_connection: socket.socket) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(_targets, "listener_of", refuse)

    async def work(world: World) -> None:
        target = await world.find("/target/it")
        for number in (1, 2):
            assert await world.behaviour(target) == AFFECTED
            assert len(world.told) == number

    with VncServer.at_tcp() as server:
        run(work, targets={"it": ("tcp", "127.0.0.1", server.port)}, identity="listener")


def test_names_that_lead_nowhere() -> None:
    async def work(world: World) -> None:
        for name in ("nobody", "odd"):
            with pytest.raises(Denied, match="can't be reached: its name can't be resolved") as caught:
                await (await world.find(f"/target/{name}")).open()
            assert caught.value.status == 503

    run(work, targets={"nobody": ("tcp", "nobody.invalid", 5900), "odd": ("tcp", "a" * 70 + ".invalid", 5900)})


def test_host_with_several_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first that answers is taken."""

    async def resolve(_host: str, port: int) -> list[_servers.Address]:
        return [_servers.Address(socket.AF_INET, (host, port)) for host in ("127.0.0.9", "127.0.0.1")]

    module = __import__(Directory.__module__, fromlist=["resolve"])
    monkeypatch.setattr(module, "resolve", resolve)

    async def work(world: World) -> None:
        assert await world.behaviour(await world.find("/target/it")) == AFFECTED

    with VncServer.at_tcp() as server:
        run(work, targets={"it": ("tcp", "both.example.org", server.port)})


def test_password_over_tcp() -> None:
    """Nobody can tell, so it is as affected; and the session is opened all the same."""

    async def work(world: World) -> None:
        target = await world.find("/target/it")
        opened = await world.open(target)
        assert opened.behaviour is None
        assert await world.behaviour(target) is None
        assert world.told == [None]
        opened.release()

    with VncServer.at_tcp(nature=Nature(password=True)) as server:
        run(work, targets={"it": ("tcp", "127.0.0.1", server.port)})
