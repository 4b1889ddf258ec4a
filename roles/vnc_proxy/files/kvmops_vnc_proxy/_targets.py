# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From a request to an open connection: which VNC server is meant, whether it may be opened, and what it is like.

Private to this collection.

A request names its target by its path, by a token, or both:

    /domain/<name or UUID>      where the configuration's domains.open_by_name allows it, or a token names the same one
    /target/<name>              one of the configuration's targets
    anything, with ?token=…     a signed token, or one of a token file

Where there is a token, it decides; a path of the first two kinds must then mean the same. Who the user is, is somebody
else's question: where a token is what lets people in, a request without one must not get here.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
import socket
from collections.abc import Awaitable, Hashable
from functools import partial
from typing import Callable, NamedTuple, Protocol
from urllib.parse import unquote_to_bytes

from ansible_collections.kvmops.console.plugins.module_utils import _vnc

from ._asking import Asking
from ._config import LISTENER, AllowedTarget, DomainSettings, NamedTarget, TargetSettings
from ._denied import Denied, shown
from ._domains import Domains, Found
from ._listening import Listener, listener_of
from ._servers import (
    Address,
    is_established,
    numeric,
    open_tcp,
    open_unix,
    process_at,
    reason,
    resolve,
    tcp_way,
    unix_way,
)
from ._tokens import Claims, Place, SignedTokens, TokenDirectories, TokenFiles, looks_signed
from ._treatment import ALLOW, AS_CONFIGURED, DENY, Behaviour, Policy

__all__ = ["ConsoleRequest", "Denied", "Directory", "Opened", "Target"]

_log = logging.getLogger(__name__)

MOST_NAME = 4096
"""Characters of a name in a path, as it is encoded there."""
_TRIES = 3
"""Times that a server may change into another process while it is asked and opened."""


class ConsoleRequest(NamedTuple):
    """What somebody asks for.

    `path` as it came, percent-encoded, without the query; `query` is decoded. `user` is who authenticated, None for
    nobody; `source` the client's address.
    """

    path: str
    query: dict[str, str]
    user: str | None
    source: str


class Opened(NamedTuple):
    """A connection to the VNC server: connected, not blocking, no byte of it read; it is the caller's.

    `behaviour` is None when it is not known. `ask()` then asks the server over another connection, while this one is
    open, and returns None when that does not tell; without `ask`, and where it does not tell, the server has to be
    asked within the session. `forget()`: the server has ended the session, so it may be another process by now.
    `release()`: the session is over, however it ended; to be called always, after `forget` where that is due.
    """

    sock: socket.socket
    behaviour: Behaviour | None
    forget: Callable[[], None]
    release: Callable[[], None]
    ask: Callable[[], Awaitable[Behaviour | None]] | None = None


class Target(Protocol):
    """What a request means.

    `kind` is "domain", "unix" or "tcp"; `name` is for logs, and no secret; `key` is the same for the same server by
    whichever way it was named, for limits. `viewers`: "shared" or "exclusive"; `most_sessions`: None is without limit.
    `subject`: for whom the token was made.
    """

    kind: str
    name: str
    key: Hashable
    policy: Policy
    viewers: str
    most_sessions: int | None
    subject: str | None

    async def open(self) -> Opened:
        """Connect to the server, once it is known how that behaves. Raises Denied."""


class _Rules(NamedTuple):
    """What holds for a target besides its place."""

    policy: Policy
    viewers: str
    most_sessions: int | None
    identity: str
    subject: str | None = None

    def narrowed(self, claims: Claims) -> _Rules:
        """Return what is left after a token's claims, which take away and never add."""
        policy = self.policy._replace(
            power=min((self.policy.power, claims.power or ALLOW), key=(DENY, AS_CONFIGURED, ALLOW).index),
            view_only=self.policy.view_only or claims.view_only,
        )
        return self._replace(policy=policy, subject=claims.subject)


class Directory:
    """All ways by which a request finds its target.

    `domains` is libvirt, and `signed` checks tokens; both are made from the settings when not given. `used_tokens` is a
    file that keeps tokens for one session used up over a restart. `seconds` bounds each connection. Raises
    MissingLibrary and InputError where the settings can't be followed on this host.
    """

    def __init__(
        self,
        settings: TargetSettings,
        asking: Asking,
        *,
        domains: Domains | None = None,
        signed: SignedTokens | None = None,
        used_tokens: str | None = None,
        seconds: float = 10.0,
    ) -> None:
        self._settings = settings
        self._asking = asking
        self._seconds = seconds
        self._sessions = _Sessions()
        tokens = settings.tokens
        self._files = TokenFiles(tokens.files) if tokens.files else None
        self._directories = TokenDirectories(tokens.directories, tokens.socket_directories)
        self._signed = signed
        if tokens.jwt and not signed:
            self._signed = SignedTokens(tokens.jwt, used_file=used_tokens)
        self._domains = domains
        if settings.domains and not domains:
            self._domains = Domains(
                settings.domains.uri,
                connections=settings.domains.connections,
                seconds=settings.domains.timeout_seconds,
            )

    async def find(self, request: ConsoleRequest) -> Target:
        """Return what the request means. A token for one session is used up by this. Raises Denied."""
        named = _parse_path(request.path)
        if "token" in request.query:
            return await self._by_token(request.query["token"], named)
        if named is None:
            raise Denied(404, "There is nothing to open at this path.")
        if named.kind == "target":
            return await self.fixed(named.name)
        if not self._settings.domains or not self._settings.domains.open_by_name:
            raise Denied(403, "Domains are not opened by their names here.")
        return await self._domain(named.name)

    async def fixed(self, name: str) -> Target:
        """Return the target of this name in the configuration. Raises Denied."""
        found = self._settings.targets.get(name)
        if not found:
            raise Denied(404, f"There is no target {shown(name)} here.")
        return await self._target(Place(found.kind, found.address, found.port), _rules(found), name=name)

    def renewed(self, settings: TargetSettings, *, used_tokens: str | None = None) -> Directory:
        """Return one of other settings in this one's place, which keeps libvirt, the used tokens and the sessions."""
        same = settings.tokens.jwt == self._settings.tokens.jwt
        directory = Directory(
            settings,
            self._asking,
            domains=self._domains,
            signed=self._signed if same else None,
            used_tokens=used_tokens,
            seconds=self._seconds,
        )
        directory._sessions = self._sessions
        return directory

    def close(self) -> None:
        """Let go of libvirt."""
        if self._domains:
            self._domains.close()

    # Tokens

    async def _by_token(self, token: str, named: _Named | None) -> Target:
        signed = bool(self._signed) and looks_signed(token)
        claims = self._claims(token, signed)
        target = await self._claimed(claims, signed)
        if named and not await self._means(named, claims, target):
            raise Denied(403, "The token is for another target than the path names.")
        return target

    def _claims(self, token: str, signed: bool) -> Claims:
        if signed and self._signed:
            return self._signed.check(token)
        place = (self._files.find(token) if self._files else None) or self._directories.find(token)
        if not place:
            raise Denied(401, "The token is not known.")
        return Claims(place, None, None, False, None)

    async def _claimed(self, claims: Claims, signed: bool) -> _Target:
        """Return the target that a token names; what a signed one may name is bounded by the configuration."""
        if claims.target is not None:
            found = self._settings.targets.get(claims.target)
            if not found:
                raise Denied(404, f"There is no target {shown(claims.target)} here, as the token names it.")
            return await self._target(
                Place(found.kind, found.address, found.port), _rules(found).narrowed(claims), name=claims.target
            )
        place = claims.place or Place("", "")
        if place.kind == "domain":
            return await self._domain(place.address, claims)
        if signed and place.kind == "unix":
            place = place._replace(address=_allowed_socket(place.address, self._settings.tokens.allowed_sockets))
        rules = _rules(self._settings).narrowed(claims)
        return await self._target(place, rules, allowed=self._settings.tokens.allowed_targets if signed else None)

    async def _means(self, named: _Named, claims: Claims, target: _Target) -> bool:
        """Whether the path means what the token does."""
        if named.kind == "domain":
            return isinstance(target, _DomainTarget) and target.is_called(named.name)
        if claims.target is not None:
            return named.name == claims.target
        with contextlib.suppress(Denied):
            return (await self.fixed(named.name)).key == target.key
        return False

    # Targets

    async def _domain(self, wanted: str, claims: Claims | None = None) -> _Target:
        settings = self._settings.domains
        if not settings:
            raise Denied(403, "No domains are served here.")
        rules = _rules(settings)
        return await self._target(Place("domain", wanted), rules.narrowed(claims) if claims else rules)

    async def _target(
        self, place: Place, rules: _Rules, *, name: str | None = None, allowed: tuple[AllowedTarget, ...] | None = None
    ) -> _Target:
        if place.kind == "unix":
            return _UnixTarget(self._asking, self._seconds, place.address, rules, name or place.name)
        if place.kind == "tcp":
            return _TcpTarget(self._asking, self._seconds, self._sessions, place, rules, name, allowed)
        if not self._domains or not self._settings.domains:
            raise Denied(403, "No domains are served here.")
        found = await self._domains.find(place.address)
        skip = self._settings.domains.skip_authentication
        return _DomainTarget(self._asking, self._domains, found, rules, name, skip)


def _rules(settings: TargetSettings | DomainSettings | NamedTarget) -> _Rules:
    return _Rules(settings.policy, settings.viewers, settings.most_sessions, settings.identity)


class _Named(NamedTuple):
    """What a path names: a "domain" or a "target"."""

    kind: str
    name: str


def _parse_path(path: str) -> _Named | None:
    """Return what a path names; None when it names nothing. Raises Denied for a name that is none.

    Names are whatever stands behind the prefix, decoded once: never a path, so that slashes and dots in them are
    letters like others.
    """
    for kind in ("domain", "target"):
        prefix = f"/{kind}/"
        if path.startswith(prefix):
            encoded = path[len(prefix) :]
            try:
                name = unquote_to_bytes(encoded).decode("utf-8")
            except UnicodeError:
                name = ""
            if not name or "\0" in name or "/" in encoded or len(encoded) > MOST_NAME:
                raise Denied(404, f"This path names no {kind}.")
            return _Named(kind, name)
    return None


def _allowed_socket(path: str, folders: tuple[str, ...]) -> str:
    """Return the socket's real path, which lies in one of these folders. Raises Denied."""
    try:
        real = os.path.realpath(path)
        if os.path.isabs(path) and any(_is_in(real, os.path.realpath(folder)) for folder in folders):
            return real
    except (OSError, ValueError):
        pass
    raise Denied(403, "The token names a unix socket that may not be opened here.")


def _is_in(path: str, folder: str) -> bool:
    return os.path.commonpath((path, folder)) == folder and path != folder


# --- The kinds of targets ---------------------------------------------------------------------------------------------


class _Target:
    """What all kinds have in common."""

    kind = ""

    def __init__(self, asking: Asking, name: str, key: Hashable, rules: _Rules) -> None:
        self.name = name
        self.key = key
        self.policy = rules.policy
        self.viewers = rules.viewers
        self.most_sessions = rules.most_sessions
        self.subject = rules.subject
        self._asking = asking

    async def open(self) -> Opened:
        """Connect to the server, once it is known how that behaves. Raises Denied."""
        raise NotImplementedError

    async def _ask_and_connect(
        self, connect: Callable[[], Awaitable[_Connected]], way: Callable[[Hashable], _vnc.Way]
    ) -> Opened:
        """Open a server that a connection tells the identity of.

        While it is asked, no connection of ours may wait: a server counts those, and drops the oldest when they are too
        many (QEMU: vnc_connect, connections_limit).
        """
        sock, identity = await connect()
        for _turn in range(_TRIES):
            if self._asking.knows(identity, self.policy.power):
                behaviour = await self._asking.behaviour(identity, partial(way, identity), self.policy.power)
                return self._opened(sock, identity, behaviour)
            sock.close()
            asked = identity
            behaviour = await self._asking.behaviour(asked, partial(way, asked), self.policy.power)
            sock, identity = await connect()
            if identity == asked:
                return self._opened(sock, identity, behaviour)
        return self._opened(sock, identity, None)

    def _opened(self, sock: socket.socket, identity: Hashable, behaviour: Behaviour | None) -> Opened:
        return Opened(sock, behaviour, lambda: self._asking.forget(identity), _nothing)

    def _unreachable(self, error: OSError) -> Denied:
        return Denied(503, f"The VNC server {shown(self.name)} can't be reached: {reason(error)}.")


class _Connected(NamedTuple):
    sock: socket.socket
    identity: Hashable


def _nothing() -> None:
    """Is what is left to do at the end of a session."""


class _DomainTarget(_Target):
    """A libvirt domain."""

    kind = "domain"

    def __init__(
        self, asking: Asking, domains: Domains, found: Found, rules: _Rules, name: str | None, skip: bool
    ) -> None:
        super().__init__(asking, name or found.name, ("domain", found.uuid), rules)
        self._domains = domains
        self._found = found
        self._skip = skip

    def is_called(self, name: str) -> bool:
        """Whether this is the domain's name or UUID."""
        return name == self._found.name or name.lower() == self._found.uuid

    async def open(self) -> Opened:
        """Connect through libvirt."""
        return await self._ask_and_connect(self._connect, self._way)

    async def _connect(self) -> _Connected:
        return _Connected(*await self._domains.open(self._found, skip_authentication=self._skip))

    def _way(self, identity: Hashable) -> _vnc.Way:
        return self._domains.way(self._found, identity)


class _UnixTarget(_Target):
    """A VNC server at a unix socket."""

    kind = "unix"

    def __init__(self, asking: Asking, seconds: float, path: str, rules: _Rules, name: str | None) -> None:
        super().__init__(asking, name or path, ("unix", path), rules)
        self._path = path
        self._seconds = seconds

    async def open(self) -> Opened:
        """Connect to the socket."""
        return await self._ask_and_connect(self._connect, lambda identity: unix_way(self._path, identity, self.name))

    async def _connect(self) -> _Connected:
        try:
            sock = await open_unix(self._path, self._seconds)
        except OSError as error:
            raise self._unreachable(error) from error
        try:
            return _Connected(sock, process_at(sock, self._path))
        except OSError as error:
            sock.close()
            raise self._unreachable(error) from error


class _Process:
    """Whatever answers at an address, as long as a session proves that it still does. `socks`: the sessions' ends."""

    __slots__ = ("socks",)

    def __init__(self) -> None:
        self.socks: set[socket.socket] = set()


class _Sessions:
    """The TCP sessions that are open, by address, and by the process that they have reached.

    A connection that nobody has ended proves that the process at its other end still lives, so that one that is made
    meanwhile has reached the same one. Nothing else tells over TCP.
    """

    def __init__(self) -> None:
        self._now: dict[Address, _Process] = {}

    def add(self, address: Address, sock: socket.socket) -> _Process:
        """Note a session that has just been connected; return which process it has reached."""
        process = self._now.get(address)
        if process is None or not any(map(is_established, process.socks)):
            process = self._now[address] = _Process()
        process.socks.add(sock)
        return process

    def forget(self, address: Address, process: _Process) -> None:
        """The process may be gone: whoever comes next may reach another one."""
        if self._now.get(address) is process:
            del self._now[address]

    def remove(self, address: Address, process: _Process, sock: socket.socket) -> bool:
        """The session is over. Returns whether it was there, and the last one."""
        if sock not in process.socks:
            return False
        process.socks.remove(sock)
        if process.socks:
            return False
        self.forget(address, process)
        return True


class _TcpTarget(_Target):
    """A VNC server at a TCP port. `allowed` is where it may be; None is anywhere."""

    kind = "tcp"

    def __init__(
        self,
        asking: Asking,
        seconds: float,
        sessions: _Sessions,
        place: Place,
        rules: _Rules,
        name: str | None,
        allowed: tuple[AllowedTarget, ...] | None,
    ) -> None:
        host = f"[{place.address}]" if ":" in place.address else place.address
        super().__init__(asking, name or f"{host}:{place.port}", ("tcp", place.address.lower(), place.port), rules)
        self._place = place
        self._seconds = seconds
        self._sessions = sessions
        self._allowed = allowed
        self._identity = rules.identity

    async def open(self) -> Opened:
        """Connect to the first of the host's addresses that answers."""
        failure: OSError = OSError("it has no address")
        for address in await self._addresses():
            try:
                return await self._open_at(address)
            except OSError as error:
                failure = error
        raise self._unreachable(failure)

    async def _addresses(self) -> list[Address]:
        """Return the host's addresses that may be opened. These very ones are connected to: names may change."""
        address = numeric(self._place.address, self._place.port)
        found = [address] if address else await self._resolved()
        if self._allowed is None:
            return found
        allowed = [address for address in found if _is_allowed(address, self._allowed)]
        if not allowed:
            raise Denied(403, "The token names an address that may not be opened here.")
        return allowed

    async def _resolved(self) -> list[Address]:
        try:
            return await asyncio.wait_for(resolve(self._place.address, self._place.port), self._seconds)
        except asyncio.TimeoutError as error:
            raise self._unreachable(OSError("its name can't be resolved in time")) from error
        except (OSError, UnicodeError) as error:
            raise self._unreachable(OSError("its name can't be resolved")) from error

    async def _open_at(self, address: Address) -> Opened:
        """Connect, and leave it to the session to have the server asked: some clients come and go before that is due.

        The other way round, the server that was asked would be another one than the session's now and then.
        """
        sock = await open_tcp(address, self._seconds)
        try:
            listener = self._listener(sock) if self._identity == LISTENER else None
        except BaseException:
            sock.close()
            raise
        process = self._sessions.add(address, sock)
        identity: Hashable = listener or process

        def forget() -> None:
            self._sessions.forget(address, process)
            self._asking.forget(identity)

        def release() -> None:
            if self._sessions.remove(address, process, sock) and identity is process:
                self._asking.forget(process)

        async def ask() -> Behaviour | None:
            behaviour = await self._asking.behaviour(identity, lambda: tcp_way(address), self.policy.power)
            # As long as the session is there, its server is; so the one that was asked is the same.
            same = is_established(sock) and (not listener or self._listener(sock) == listener)
            return behaviour if same else None

        if self._asking.knows(identity, self.policy.power):
            return Opened(sock, await ask(), forget, release)
        return Opened(sock, None, forget, release, ask)

    def _listener(self, sock: socket.socket) -> Listener | None:
        try:
            return listener_of(sock)
        except OSError as error:
            _log.warning("identity listener is of no use: %s; servers are asked for each session.", reason(error))
            return None


def _is_allowed(address: Address, allowed: tuple[AllowedTarget, ...]) -> bool:
    number = ipaddress.ip_address(str(address.where[0]).partition("%")[0])
    mapped = getattr(number, "ipv4_mapped", None) or number  # ::ffff:127.0.0.1 is 127.0.0.1
    port = int(str(address.where[1]))
    return any(
        rule.first_port <= port <= rule.last_port and any(mapped in network for network in rule.networks)
        for rule in allowed
    )
