# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The proxy's configuration: one JSON document in, typed settings out, every mistake a sentence.

Private to this collection.

`config.schema.json` beside this file says the same for editors and validators, and describes each key; `example.json`
shows all of them. What a schema can't say is checked here alone: names that refer to something, networks, keys that
need one another.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from typing import Any, Callable, NamedTuple, TypeVar, Union

from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError

from ._treatment import Policy

MOST_BYTES = 1 << 20
"""Bytes of a configuration file."""

Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
_T = TypeVar("_T")

POWER = ("allow", "deny", "as_configured")
OPAQUE_SECURITY = ("pass", "refuse")
UNKNOWN_MESSAGE = ("relay", "end")
VIEWERS = ("shared", "exclusive")
SESSION, LISTENER = "session", "listener"
IDENTITY = (SESSION, LISTENER)
"""How a server at a TCP port is known again: while a session to it is open; while the same socket listens there."""
USERS_BY = ("none", "token", "certificate", "header")
ALGORITHMS = ("HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "EdDSA")

SAME_HOST = "same_host"
"""In `origins`: the host that the request names itself."""
UNIX = "unix"
"""In `trusted_proxies` and `metrics.from`: whoever connects over a unix socket."""


class ConfigurationInvalid(InputError):
    """The configuration can't be used. `mistakes` has a sentence for each thing that is wrong."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


# --- Settings ---------------------------------------------------------------------------------------------------------


class TlsSettings(NamedTuple):
    """Files in PEM. `client_ca`: clients are asked for a certificate of one of these authorities."""

    certificate: str
    key: str
    client_ca: str | None


class ListenerSettings(NamedTuple):
    """Where clients come in: at `address` and `port`, at the socket `unix`, or at sockets that systemd hands over.

    `kind`: "web" (HTTP and WebSocket) or "vnc" (viewers that speak RFB themselves; they all get `target`).
    `mode`: the unix socket's permissions.
    """

    name: str
    kind: str
    address: str | None
    port: int
    unix: str | None
    mode: int
    systemd: str | None
    tls: TlsSettings | None
    target: str | None


class UserSettings(NamedTuple):
    """Who may open a console: whoever passes one of `by` (USERS_BY). `header`: where a trusted proxy names the user."""

    by: tuple[str, ...]
    header: str | None


class NovncSettings(NamedTuple):
    """noVNC's files; `page` opens a domain, with `parameters` besides. `base_path`: the proxy's, as browsers see it."""

    directory: str
    page: str
    parameters: dict[str, str]
    base_path: str


class DomainSettings(NamedTuple):
    """libvirt. `open_by_name`: /domain/<name or UUID> opens any domain. `skip_authentication`: the VNC server's own
    password is not asked for (VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH). `connections`: threads, each with a connection.
    """

    uri: str
    open_by_name: bool
    skip_authentication: bool
    connections: int
    timeout_seconds: float
    policy: Policy
    viewers: str
    most_sessions: int | None
    identity: str


class NamedTarget(NamedTuple):
    """A target of the configuration. `address` is a name or UUID ("domain"), a path ("unix") or a host ("tcp")."""

    name: str
    kind: str
    address: str
    port: int
    policy: Policy
    viewers: str
    most_sessions: int | None
    identity: str


class JwtSettings(NamedTuple):
    """Signed tokens: `key` is a file (PEM, or the secret itself for HS…). `most_seconds`: the longest life accepted."""

    key: str
    algorithm: str
    single_use: bool
    issuer: str | None
    audience: str | None
    leeway_seconds: float
    most_seconds: float | None


class AllowedTarget(NamedTuple):
    """Addresses and ports, both ends included, that a signed token may name."""

    networks: tuple[Network, ...]
    first_port: int
    last_port: int


class TokenSettings(NamedTuple):
    """`files`: websockify's token files, or directories of them. `directories`: those with a file for each token, and
    `socket_directories`: those whose unix sockets are the tokens. `allowed_sockets`: directories whose unix sockets a
    signed token may name.
    """

    files: tuple[str, ...]
    jwt: JwtSettings | None
    allowed_targets: tuple[AllowedTarget, ...]
    allowed_sockets: tuple[str, ...]
    directories: tuple[str, ...] = ()
    socket_directories: tuple[str, ...] = ()

    @property
    def by_name(self) -> bool:
        """Whether there is any place but the token itself to look a token up in."""
        return bool(self.files or self.directories or self.socket_directories)


class TargetSettings(NamedTuple):
    """All that says what can be opened. `policy` to `identity` (one of IDENTITY) hold where nothing else is said."""

    policy: Policy
    viewers: str
    most_sessions: int | None
    identity: str
    domains: DomainSettings | None
    targets: dict[str, NamedTarget]
    tokens: TokenSettings


class LimitSettings(NamedTuple):
    """`sessions` in all, `sessions_per_source` from one address; `requests` that are no session (yet), likewise, but
    for trusted proxies. Seconds: None is without end. `drain_seconds`: after SIGTERM; `hand_over_seconds`: after a new
    process has taken over.
    """

    sessions: int
    sessions_per_source: int | None
    requests: int
    requests_per_source: int
    request_seconds: float
    open_seconds: float
    handshake_seconds: float
    idle_seconds: float | None
    session_seconds: float | None
    ping_seconds: float | None
    drain_seconds: float
    hand_over_seconds: float | None


class WebSettings(NamedTuple):
    """What holds for requests of browsers. `origins` may hold SAME_HOST, and "*" for any."""

    users: UserSettings
    origins: tuple[str, ...]
    allow_no_origin: bool
    trusted_proxies: tuple[Network, ...]
    trusts_unix: bool
    novnc: NovncSettings | None
    metrics_from: tuple[Network, ...]
    metrics_from_unix: bool


class Settings(NamedTuple):
    """The whole configuration. `audit_file`: None is standard output."""

    listeners: tuple[ListenerSettings, ...]
    web: WebSettings
    targets: TargetSettings
    limits: LimitSettings
    audit_file: str | None


# --- Reading ----------------------------------------------------------------------------------------------------------


def load(path: str) -> Settings:
    """Read the file. Raises ConfigurationInvalid."""
    try:
        with open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigurationInvalid([f"{path} can't be read: {error.strerror or error}."]) from error
    if len(data) > MOST_BYTES:
        raise ConfigurationInvalid([f"{path} has more than {MOST_BYTES} bytes, which no configuration has."])
    try:
        document = json.loads(data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise ConfigurationInvalid([f"{path} is no UTF-8 text: byte {error.start} does not belong there."]) from error
    except json.JSONDecodeError as error:
        raise ConfigurationInvalid(
            [f"{path} is no JSON: {error.msg}, line {error.lineno}, column {error.colno}."]
        ) from error
    except RecursionError as error:
        raise ConfigurationInvalid([f"{path} is nested too deeply."]) from error
    except ValueError as error:
        raise ConfigurationInvalid([f"{path}: {error}"]) from error
    return parse(document)


def parse(document: object) -> Settings:
    """Return the settings of a document, as `json` reads it. Raises ConfigurationInvalid with all mistakes."""
    mistakes: list[str] = []
    settings = _settings(_Object("", document, mistakes))
    if not mistakes:
        mistakes += _contradictions(settings)
    if mistakes:
        raise ConfigurationInvalid(mistakes)
    return settings


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {_shown(key)} stands there twice in one object.")
        found[key] = value
    return found


def _no_constant(word: str) -> object:
    raise ValueError(f"{word} is no JSON.")


def _shown(value: object) -> str:
    """A value in a sentence, not longer than one."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


class _Object:
    """One object of the document: hands out its values by key, checked, and notes what is wrong with them.

    `path` is where it stands, "" at the top. A value that is wrong is noted and replaced by something of its type, so
    that the rest is looked at, too.
    """

    def __init__(self, path: str, value: object, mistakes: list[str]) -> None:
        self.path = path
        self._mistakes = mistakes
        self._taken: set[str] = set()
        self._values: dict[str, Any] = value if isinstance(value, dict) else {}
        if not isinstance(value, dict):
            self._mistakes.append(
                f"{path or 'The configuration'} has to be an object, in braces, and is {_shown(value)}."
            )

    def where(self, key: str) -> str:
        return f"{self.path}.{key}" if self.path else key

    def has(self, key: str) -> bool:
        return self._values.get(key) is not None

    def names(self) -> list[str]:
        return list(self._values)

    def wrong(self, key: str, sentence: str) -> None:
        self._mistakes.append(f"{self.where(key)}: {sentence}")

    def _take(self, key: str) -> Any:
        self._taken.add(key)
        return self._values.get(key)

    def _typed(self, key: str, fits: Callable[[Any], bool], what: str, default: _T | None, stand_in: _T) -> _T:
        """Return the value, or `default`; None there makes the key one that has to be given."""
        value = self._take(key)
        if value is None:
            if default is not None:
                return default
            self.wrong(key, f"has to be given: {what}.")
            return stand_in
        if fits(value):
            typed: _T = value
            return typed
        self.wrong(key, f"has to be {what}, and is {_shown(value)}.")
        return stand_in

    def flag(self, key: str, default: bool) -> bool:
        return self._typed(key, lambda value: isinstance(value, bool), "true or false", default, default)

    def choice(self, key: str, choices: tuple[str, ...], default: str | None) -> str:
        what = "one of " + ", ".join(choices)
        return self._typed(key, lambda value: isinstance(value, str) and value in choices, what, default, choices[0])

    def whole(self, key: str, least: int, most: int, default: int | None) -> int:
        return self._typed(key, lambda value: _is_whole(value, least, most), _between(least, most), default, least)

    def whole_or_none(self, key: str, least: int, most: int) -> int | None:
        return self.whole(key, least, most, None) if self.has(key) else self._take(key)

    def seconds(self, key: str, default: float, least: float = 0.1) -> float:
        what = f"a number of seconds from {least:g} to {MOST_SECONDS}"
        return float(self._typed(key, lambda value: _is_number(value, least), what, default, default))

    def seconds_or_none(self, key: str, default: float | None) -> float | None:
        """None in the document means: without end; a key that is not there means `default`."""
        if key not in self._values:
            return default
        return self.seconds(key, 1.0) if self.has(key) else self._take(key)

    def text(self, key: str, what: str, pattern: re.Pattern[str], default: str | None = None) -> str:
        return self._typed(
            key, lambda value: isinstance(value, str) and bool(pattern.fullmatch(value)), what, default, ""
        )

    def text_or_none(self, key: str, what: str, pattern: re.Pattern[str]) -> str | None:
        return self.text(key, what, pattern) if self.has(key) else self._take(key)

    def path_(self, key: str) -> str:
        return self.text(key, "an absolute path", _PATH)

    def list_(self, key: str, what: str, default: list[Any] | None = None, least: int = 0) -> list[Any]:
        return self._typed(key, lambda value: isinstance(value, list) and len(value) >= least, what, default, [])

    def texts(
        self, key: str, what: str, fits: Callable[[str], bool], default: list[str] | None = None, least: int = 0
    ) -> tuple[str, ...]:
        found = []
        for index, value in enumerate(self.list_(key, f"a list; each item {what}", default, least)):
            if isinstance(value, str) and fits(value):
                found.append(value)
            else:
                self.wrong(f"{key}[{index}]", f"has to be {what}, and is {_shown(value)}.")
        return tuple(found)

    def object_(self, key: str, *, required: bool = False) -> _Object | None:
        value = self._take(key)
        if value is None and not required:
            return None
        return _Object(self.where(key), {} if value is None else value, self._mistakes)

    def objects(self, key: str, what: str, *, least: int = 0) -> list[_Object]:
        default: list[Any] | None = None if least else []
        values = self.list_(key, what, default, least)
        return [_Object(self.where(f"{key}[{index}]"), value, self._mistakes) for index, value in enumerate(values)]

    def named(self, key: str) -> dict[str, _Object]:
        """An object whose keys are names that the user chose."""
        found = self.object_(key)
        if found is None:
            return {}
        for name in found.names():
            if not _NAME.fullmatch(name):
                found.wrong(name, f"is no name: it has to be {_NAME_WORDS}.")
        return {name: _Object(found.where(name), found._take(name), self._mistakes) for name in found.names()}

    def end(self) -> None:
        """Note the keys that nobody asked for."""
        for key in self._values:
            if key not in self._taken:
                known = ", ".join(sorted(self._taken))
                self.wrong(key, f"is no key here; the keys are {known}.")


MOST_SECONDS = 31_536_000

_PATH = re.compile(r"/[^\0]*")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_NAME_WORDS = "1 to 128 letters, digits, dots, hyphens and underscores, the first no sign"
_ANY = re.compile(r"[^\0-\x1f]+")
_HOST = re.compile(r"[^\s/\0-\x1f]+")
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_MODE = re.compile(r"0?[0-7]{3}")
_PAGE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*\.html")
_BASE_PATH = re.compile(r"/|(/[A-Za-z0-9._~-]+)+/?")
_ORIGIN = re.compile(r"\*|same_host|https?://[^/\s]+")
_PARAMETER = re.compile(r"[A-Za-z0-9_]+")


def _is_whole(value: Any, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _is_number(value: Any, least: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and least <= value <= MOST_SECONDS


def _between(least: int, most: int) -> str:
    return f"a whole number from {least} to {most}"


# --- The parts of the document ----------------------------------------------------------------------------------------


def _settings(top: _Object) -> Settings:
    listeners = [_listener(each, index) for index, each in enumerate(top.objects("listeners", _LISTENERS, least=1))]
    settings = Settings(tuple(listeners), _web(top), _targets(top), _limits(top.object_("limits")), _audit(top))
    top.end()
    return settings


_LISTENERS = "a list of at least one listener"


def _listener(found: _Object, index: int) -> ListenerSettings:
    kind = found.choice("kind", ("web", "vnc"), None)
    tls = _tls(found.object_("tls"))
    places = [key for key in ("port", "unix", "systemd") if found.has(key)]
    if len(places) != 1:
        given = " and ".join(places) or "none of them"
        found.wrong("port", f"a listener has exactly one of port (with address), unix and systemd; given: {given}.")
    if found.has("address") != found.has("port"):
        found.wrong("address", "address and port belong together: give both, or neither.")
    if found.has("mode") and not found.has("unix"):
        found.wrong("mode", "only a unix socket has a mode.")
    target = found.text_or_none("target", _NAME_WORDS, _NAME)
    if kind == "vnc" and target is None:
        found.wrong("target", "has to be given for kind vnc: the name of one of targets.")
    if kind == "web" and target is not None:
        found.wrong("target", "belongs to kind vnc; a browser names its target in the URL.")
    listener = ListenerSettings(
        name=found.text("name", _NAME_WORDS, _NAME, f"{kind}-{index}"),
        kind=kind,
        address=_address(found),
        port=found.whole("port", 0, 65535, 0),
        unix=found.text_or_none("unix", "an absolute path", _PATH),
        mode=int(found.text("mode", 'an octal number of three digits, like "660"', _MODE, "660") or "660", 8),
        systemd=found.text_or_none("systemd", _NAME_WORDS, _NAME),
        tls=tls,
        target=target,
    )
    found.end()
    return listener


def _address(found: _Object) -> str | None:
    address = found.text_or_none("address", "an IP address", _HOST)
    if address and not _is_address(address):
        found.wrong("address", f"has to be an IP address, like 127.0.0.1 or ::, and is {_shown(address)}.")
    return address


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _tls(found: _Object | None) -> TlsSettings | None:
    if found is None:
        return None
    tls = TlsSettings(
        found.path_("certificate"), found.path_("key"), found.text_or_none("client_ca", "an absolute path", _PATH)
    )
    found.end()
    return tls


def _web(top: _Object) -> WebSettings:
    trusted, trusts_unix = _networks(top, "trusted_proxies", [])
    metrics = top.object_("metrics")
    metrics_from, metrics_from_unix = _networks(metrics, "from", ["127.0.0.0/8", "::1/128"]) if metrics else ((), False)
    if metrics:
        metrics.end()
    origins = top.texts("origins", "http(s)://host[:port], same_host or *", _is_origin, [SAME_HOST])
    return WebSettings(
        users=_users(top.object_("users", required=True)),
        origins=tuple(origin.lower() for origin in origins),
        allow_no_origin=top.flag("allow_no_origin", True),
        trusted_proxies=trusted,
        trusts_unix=trusts_unix,
        novnc=_novnc(top.object_("novnc")),
        metrics_from=metrics_from,
        metrics_from_unix=metrics_from_unix,
    )


def _is_origin(text: str) -> bool:
    return bool(_ORIGIN.fullmatch(text))


def _networks(found: _Object, key: str, default: list[str]) -> tuple[tuple[Network, ...], bool]:
    """The networks of a list, and whether it has the word `unix`."""
    words = found.texts(key, 'a network like 10.0.0.0/8, an address, or "unix"', _is_network, default)
    networks = tuple(ipaddress.ip_network(word) for word in words if word != UNIX)
    return networks, UNIX in words


def _is_network(text: str) -> bool:
    if text == UNIX:
        return True
    try:
        ipaddress.ip_network(text)
    except ValueError:
        return False
    return True


def _users(found: _Object | None) -> UserSettings:
    if found is None:  # object_(required=True) returns one
        return UserSettings(("none",), None)
    by = found.texts("by", "one of " + ", ".join(USERS_BY), lambda word: word in USERS_BY, None, 1)
    header = found.text_or_none("header", "the name of a header", _HEADER)
    if "none" in by and len(by) > 1:
        found.wrong("by", "none lets everybody in, so it can't stand beside others.")
    if ("header" in by) != (header is not None):
        found.wrong("header", "users.header and header in users.by belong together: give both, or neither.")
    found.end()
    return UserSettings(by, header)


def _novnc(found: _Object | None) -> NovncSettings | None:
    if found is None:
        return None
    parameters = found.object_("parameters")
    chosen: dict[str, str] = {}
    for key in parameters.names() if parameters else []:
        if parameters and not _PARAMETER.fullmatch(key):
            parameters.wrong(key, "is no name of a setting of noVNC: it has to be letters, digits and underscores.")
        elif parameters:
            chosen[key] = parameters.text(key, "a text", _ANY)
    novnc = NovncSettings(
        directory=found.path_("directory"),
        page=found.text("page", "the name of an .html file in noVNC's directory", _PAGE, "vnc.html"),
        parameters=chosen,
        base_path=found.text("base_path", "a path like /console/", _BASE_PATH, "/").rstrip("/") + "/",
    )
    found.end()
    return novnc


class _Held(NamedTuple):
    """What a target has of its own, or from above."""

    policy: Policy
    viewers: str
    most_sessions: int | None
    identity: str


def _held(found: _Object, key: str, above: _Held) -> _Held:
    """The policy under `key`, with what is not said there taken from `above`."""
    part = found.object_(key)
    if part is None:
        return above
    policy = above.policy
    held = _Held(
        Policy(
            power=part.choice("power", POWER, policy.power),
            view_only=part.flag("view_only", policy.view_only),
            opaque_security=part.choice("opaque_security", OPAQUE_SECURITY, policy.opaque_security),
            unknown_message=part.choice("unknown_message", UNKNOWN_MESSAGE, policy.unknown_message),
            most_cut_text=part.whole("most_cut_text", 0, 1 << 30, policy.most_cut_text),
        ),
        part.choice("viewers", VIEWERS, above.viewers),
        part.whole("most_sessions", 1, 1_000_000, None) if part.has("most_sessions") else above.most_sessions,
        part.choice("identity", IDENTITY, above.identity),
    )
    part._take("most_sessions")
    part.end()
    return held


def _targets(top: _Object) -> TargetSettings:
    default = _held(top, "policy", _Held(Policy(), "shared", None, SESSION))
    targets = {name: _target(name, found, default) for name, found in top.named("targets").items()}
    return TargetSettings(
        *default, domains=_domains(top.object_("domains"), default), targets=targets, tokens=_tokens(top)
    )


def _domains(found: _Object | None, default: _Held) -> DomainSettings | None:
    if found is None:
        return None
    held = _held(found, "policy", default)
    domains = DomainSettings(
        found.text("uri", "libvirt's URI", _ANY, "qemu:///system"),
        found.flag("open_by_name", False),
        found.flag("skip_authentication", False),
        found.whole("connections", 1, 32, 2),
        found.seconds("timeout_seconds", 10.0),
        *held,
    )
    found.end()
    return domains


def _target(name: str, found: _Object, default: _Held) -> NamedTarget:
    places = [key for key in ("domain", "unix", "host") if found.has(key)]
    if len(places) != 1:
        given = " and ".join(places) or "none of them"
        found.wrong("host", f"a target has exactly one of domain, unix and host (with port); given: {given}.")
    if found.has("host") != found.has("port"):
        found.wrong("port", "host and port belong together: give both, or neither.")
    domain = found.text_or_none("domain", "a domain's name or UUID", _ANY)
    unix = found.text_or_none("unix", "an absolute path", _PATH)
    host = found.text_or_none("host", "a host's name or address", _HOST)
    kind = "domain" if domain is not None else "unix" if unix is not None else "tcp"
    port = found.whole("port", 1, 65535, 1)
    target = NamedTarget(
        name, kind, domain or unix or host or "", port if kind == "tcp" else 0, *_held(found, "policy", default)
    )
    found.end()
    return target


def _tokens(top: _Object) -> TokenSettings:
    found = top.object_("tokens")
    if found is None:
        return TokenSettings((), None, (), ())
    tokens = TokenSettings(
        files=_paths(found, "files"),
        jwt=_jwt(found.object_("jwt")),
        allowed_targets=tuple(_allowed(each) for each in found.objects("allowed_targets", "a list of objects")),
        allowed_sockets=_paths(found, "allowed_sockets"),
        directories=_paths(found, "directories"),
        socket_directories=_paths(found, "socket_directories"),
    )
    found.end()
    return tokens


def _paths(found: _Object, key: str) -> tuple[str, ...]:
    return found.texts(key, "an absolute path", lambda text: bool(_PATH.fullmatch(text)), [])


def _jwt(found: _Object | None) -> JwtSettings | None:
    if found is None:
        return None
    jwt = JwtSettings(
        key=found.path_("key"),
        algorithm=found.choice("algorithm", ALGORITHMS, None),
        single_use=found.flag("single_use", False),
        issuer=found.text_or_none("issuer", "a text", _ANY),
        audience=found.text_or_none("audience", "a text", _ANY),
        leeway_seconds=found.seconds("leeway_seconds", 0.0, 0.0),
        most_seconds=found.seconds_or_none("most_seconds", None),
    )
    found.end()
    return jwt


def _allowed(found: _Object) -> AllowedTarget:
    what = "a network like 10.0.0.0/8, or an address"
    words = found.texts("networks", what, lambda text: text != UNIX and _is_network(text), None, 1)
    ports = found.list_("ports", "the first and the last port", [5900, 5999])
    if len(ports) != 2 or not all(_is_whole(port, 1, 65535) for port in ports) or ports[0] > ports[1]:
        found.wrong("ports", f"has to be the first and the last port, like [5900, 5999], and is {_shown(ports)}.")
        ports = [1, 1]
    found.end()
    return AllowedTarget(tuple(ipaddress.ip_network(word) for word in words), ports[0], ports[1])


def _limits(found: _Object | None) -> LimitSettings:
    here = found or _Object("limits", {}, [])
    limits = LimitSettings(
        sessions=here.whole("sessions", 1, 1_000_000, 5000),
        sessions_per_source=here.whole_or_none("sessions_per_source", 1, 1_000_000),
        requests=here.whole("requests", 1, 1_000_000, 1000),
        requests_per_source=here.whole("requests_per_source", 1, 1_000_000, 250),
        request_seconds=here.seconds("request_seconds", 10.0),
        open_seconds=here.seconds("open_seconds", 20.0),
        handshake_seconds=here.seconds("handshake_seconds", 60.0),
        idle_seconds=here.seconds_or_none("idle_seconds", None),
        session_seconds=here.seconds_or_none("session_seconds", None),
        ping_seconds=here.seconds_or_none("ping_seconds", 20.0),
        drain_seconds=here.seconds("drain_seconds", 10.0, 0.0),
        hand_over_seconds=here.seconds_or_none("hand_over_seconds", None),
    )
    here.end()
    return limits


def _audit(top: _Object) -> str | None:
    found = top.object_("audit")
    if found is None:
        return None
    file = found.text_or_none("file", "an absolute path", _PATH)
    found.end()
    return file


# --- What only holds together -----------------------------------------------------------------------------------------


def _contradictions(settings: Settings) -> list[str]:
    """Sentences for what each part can't know of the others."""
    users, tokens = settings.web.users, settings.targets.tokens
    mistakes = []
    if "token" in users.by and not tokens.by_name and not tokens.jwt:
        mistakes.append("users.by: token needs tokens.jwt, or files or directories in tokens, else nobody has one.")
    if "header" in users.by and not settings.web.trusted_proxies and not settings.web.trusts_unix:
        mistakes.append("users.by: header needs trusted_proxies, since anybody else could set the header.")
    if "certificate" in users.by and not any(
        each.kind == "web" and each.tls and each.tls.client_ca for each in settings.listeners
    ):
        mistakes.append("users.by: certificate needs a listener of kind web with tls.client_ca.")
    return mistakes + _broken_references(settings)


def _broken_references(settings: Settings) -> list[str]:
    mistakes = []
    named: dict[str, int] = {}
    for index, listener in enumerate(settings.listeners):
        if listener.target is not None and listener.target not in settings.targets.targets:
            mistakes.append(f"listeners[{index}].target: targets has no {_shown(listener.target)}.")
        if listener.name in named:
            mistakes.append(f"listeners[{index}].name: listeners[{named[listener.name]}] has this name, too.")
        named[listener.name] = index
    if settings.targets.domains is None:
        mistakes += [
            f"targets.{target.name}.domain: domains has to be given, be it empty, before a domain can be a target."
            for target in settings.targets.targets.values()
            if target.kind == "domain"
        ]
    return mistakes


# --- What the host has to have ----------------------------------------------------------------------------------------


def missing_files(settings: Settings) -> list[str]:
    """Return sentences for files and directories that can't be read now; for `check`, and before a start."""
    mistakes = []
    for index, listener in enumerate(settings.listeners):
        for key, path in (listener.tls or TlsSettings("", "", None))._asdict().items():
            mistakes += _unreadable(f"listeners[{index}].tls.{key}", path, os.path.isfile, "file")
    if settings.web.novnc:
        mistakes += _unreadable("novnc.directory", settings.web.novnc.directory, os.path.isdir, "directory")
    if settings.targets.tokens.jwt:
        mistakes += _unreadable("tokens.jwt.key", settings.targets.tokens.jwt.key, os.path.isfile, "file")
    return mistakes


def _unreadable(where: str, path: str | None, fits: Callable[[str], bool], what: str) -> list[str]:
    if not path:
        return []
    if not fits(path):
        return [f"{where}: {path} is no {what}."]
    if not os.access(path, os.R_OK):
        return [f"{where}: {path} may not be read by the user that the proxy runs as."]
    return []
