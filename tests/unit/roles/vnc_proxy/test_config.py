# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy import _config

FILES = Path(_config.__file__).parent
EXAMPLE: dict[str, Any] = json.loads((FILES / "example.json").read_text())
SCHEMA: dict[str, Any] = json.loads((FILES / "config.schema.json").read_text())
SMALL: dict[str, Any] = {
    "listeners": [{"kind": "web", "address": "127.0.0.1", "port": 6080}],
    "users": {"by": ["none"]},
}

_LEFT_OUT = object()


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """Return a copy with `value` at `path` (`listeners.0.port`); _LEFT_OUT takes the key away."""
    document = copy.deepcopy(document)
    found: Any = document
    *way, last = path.split(".")
    for step in way:
        found = found[int(step)] if isinstance(found, list) else found.setdefault(step, {})
    if value is _LEFT_OUT:
        del found[last]
    else:
        found[int(last) if isinstance(found, list) else last] = value
    return document


def schema_says(document: Any) -> list[str]:
    jsonschema = pytest.importorskip("jsonschema", reason="the schema is checked where jsonschema is installed")
    return [error.message for error in jsonschema.Draft202012Validator(SCHEMA).iter_errors(document)]


def mistakes_of(document: Any) -> list[str]:
    try:
        _config.parse(document)
    except _config.ConfigurationInvalid as error:
        return error.mistakes
    return []


def test_the_example_is_read() -> None:
    settings = _config.parse(EXAMPLE)
    assert schema_says(EXAMPLE) == []
    assert [listener.name for listener in settings.listeners] == [
        "browsers",
        "behind-nginx",
        "from-systemd",
        "viewers",
    ]
    assert settings.listeners[1].mode == 0o660
    assert settings.targets.targets["build-host"].policy.power == "deny"
    assert settings.targets.targets["build-host"].viewers == "exclusive"
    assert settings.targets.targets["appliance"].policy == settings.targets.policy
    assert settings.targets.domains is not None
    assert settings.targets.domains.policy.power == "allow"
    assert settings.targets.targets["node-100"].most_sessions == 3
    assert settings.web.trusts_unix


def test_a_small_document_has_defaults() -> None:
    settings = _config.parse(SMALL)
    assert schema_says(SMALL) == []
    assert settings.listeners[0].name == "web-0"
    assert settings.limits.ping_seconds == 20
    assert settings.limits.idle_seconds is None
    assert settings.web.origins == (_config.SAME_HOST,)
    assert settings.web.metrics_from == ()
    assert settings.targets.domains is None
    assert settings.audit_file is None


def defaults_in(schema: Any, path: str = "") -> dict[str, Any]:
    found = {}
    for key, value in schema.get("properties", {}).items():
        where = f"{path}.{key}".lstrip(".")
        if "default" in value:
            found[where] = value["default"]
        found.update(defaults_in(value, where))
    return found


def test_the_defaults_of_the_schema_are_the_defaults() -> None:
    """Written out, they make no difference."""
    base = changed(changed(SMALL, "domains", {}), "tokens.jwt", {"key": "/k", "algorithm": "HS256"})
    base = changed(changed(base, "novnc", {"directory": "/n"}), "limits", {})
    document = base
    for path, value in defaults_in(SCHEMA).items():
        document = changed(document, path, value)
    for key, value in defaults_in(SCHEMA["$defs"]["policy"]).items():
        document = changed(document, f"policy.{key}", value)
    assert _config.parse(document) == _config.parse(base)


def test_null_counts_as_left_out() -> None:
    document = {**SMALL, "tokens": None, "policy": {"power": None, "most_sessions": None}, "metrics": None}
    assert schema_says(document) == []
    assert _config.parse(document) == _config.parse(SMALL)
    assert _config.parse(changed(SMALL, "limits.ping_seconds", None)).limits.ping_seconds is None


WRONG: list[tuple[str, Any, str]] = [
    ("listeners", _LEFT_OUT, "listeners: has to be given: a list of at least one listener."),
    ("listeners", [], "listeners: has to be a list of at least one listener, and is []."),
    ("listeners", {}, "listeners: has to be a list of at least one listener, and is {}."),
    ("listeners.0", 5, "listeners[0] has to be an object, in braces, and is 5."),
    ("listeners.0.kind", _LEFT_OUT, "listeners[0].kind: has to be given: one of web, vnc."),
    ("listeners.0.kind", "ws", 'listeners[0].kind: has to be one of web, vnc, and is "ws".'),
    ("listeners.0.port", 70000, "listeners[0].port: has to be a whole number from 0 to 65535, and is 70000."),
    ("listeners.0.port", True, "listeners[0].port: has to be a whole number from 0 to 65535, and is true."),
    ("listeners.0.port", "80", 'listeners[0].port: has to be a whole number from 0 to 65535, and is "80".'),
    ("listeners.0.address", _LEFT_OUT, "listeners[0].address: address and port belong together: give both, or"),
    ("listeners.0.port", _LEFT_OUT, "listeners[0].port: a listener has exactly one of port (with address), unix and"),
    ("listeners.0.unix", "/a", "given: port and unix."),
    ("listeners.0.mode", "660", "listeners[0].mode: only a unix socket has a mode."),
    ("listeners.1.mode", "999", "listeners[1].mode: has to be an octal number of three digits"),
    ("listeners.1.unix", "a.sock", 'listeners[1].unix: has to be an absolute path, and is "a.sock".'),
    ("listeners.0.name", "a b", "listeners[0].name: has to be 1 to 128 letters, digits, dots, hyphens and"),
    ("listeners.0.tls", "/cert", 'listeners[0].tls has to be an object, in braces, and is "/cert".'),
    ("listeners.0.tls", {"certificate": "/c"}, "listeners[0].tls.key: has to be given: an absolute path."),
    ("listeners.0.tls", {"certificate": "c", "key": "/k"}, "listeners[0].tls.certificate: has to be an absolute path"),
    ("listeners.0.target", "build-host", "listeners[0].target: belongs to kind vnc; a browser names its target"),
    ("listeners.3.target", _LEFT_OUT, "listeners[3].target: has to be given for kind vnc: the name of one of"),
    ("listeners.0.backlog", 5, "listeners[0].backlog: is no key here; the keys are address, kind, mode, name,"),
    ("users", _LEFT_OUT, "users.by: has to be given: a list; each item one of none, token, certificate, header."),
    ("users", [], "users has to be an object, in braces, and is []."),
    ("users.by", [], "users.by: has to be a list; each item one of"),
    ("users.by", ["password"], 'users.by[0]: has to be one of none, token, certificate, header, and is "password".'),
    ("users.by", ["none", "header"], "users.by: none lets everybody in, so it can't stand beside others."),
    ("users.by", ["token"], "users.header: users.header and header in users.by belong together"),
    ("users.header", _LEFT_OUT, "users.header: users.header and header in users.by belong together"),
    ("users.header", "a b", 'users.header: has to be the name of a header, and is "a b".'),
    ("origins", ["portal.example.com"], "origins[0]: has to be http(s)://host[:port], same_host or *, and is"),
    ("origins", "*", "origins: has to be a list; each item http(s)://host[:port], same_host or *, and is"),
    ("origins", ["https://a/b"], "origins[0]: has to be"),
    ("allow_no_origin", "yes", 'allow_no_origin: has to be true or false, and is "yes".'),
    ("novnc.directory", _LEFT_OUT, "novnc.directory: has to be given: an absolute path."),
    ("novnc.page", "../vnc.html", "novnc.page: has to be the name of an .html file in noVNC's directory, and is"),
    ("novnc.base_path", "console", 'novnc.base_path: has to be a path like /console/, and is "console".'),
    ("novnc.parameters", {"a&b": "c"}, "novnc.parameters.a&b: is no name of a setting of noVNC"),
    ("novnc.parameters", {"scale": True}, "novnc.parameters.scale: has to be a text, and is true."),
    ("policy.power", "never", 'policy.power: has to be one of allow, deny, as_configured, and is "never".'),
    ("policy.view_only", 1, "policy.view_only: has to be true or false, and is 1."),
    ("policy.opaque_security", "drop", "policy.opaque_security: has to be one of pass, refuse"),
    ("policy.unknown_message", "drop", "policy.unknown_message: has to be one of relay, end"),
    ("policy.most_cut_text", -1, "policy.most_cut_text: has to be a whole number from 0 to"),
    ("policy.viewers", "one", "policy.viewers: has to be one of shared, exclusive"),
    ("policy.most_sessions", 0, "policy.most_sessions: has to be a whole number from 1 to"),
    ("policy.speed", 1, "policy.speed: is no key here; the keys are identity, most_cut_text,"),
    ("domains.uri", "", 'domains.uri: has to be libvirt\'s URI, and is "".'),
    ("domains.connections", 0, "domains.connections: has to be a whole number from 1 to 32, and is 0."),
    ("domains.timeout_seconds", 0, "domains.timeout_seconds: has to be a number of seconds from 0.1 to 31536000"),
    ("domains.policy", "deny", 'domains.policy has to be an object, in braces, and is "deny".'),
    (
        "targets.build-host",
        {},
        "targets.build-host.host: a target has exactly one of domain, unix and host (with port)",
    ),
    ("targets.build-host.unix", "/s", "targets.build-host.host: a target has exactly one of domain, unix and host"),
    ("targets.node-100.port", _LEFT_OUT, "targets.node-100.port: host and port belong together"),
    ("targets.node-100.port", 0, "targets.node-100.port: has to be a whole number from 1 to 65535, and is 0."),
    ("targets.node-100.host", "a b", 'targets.node-100.host: has to be a host\'s name or address, and is "a b".'),
    ("targets.a/b", {"unix": "/s"}, "targets.a/b: is no name: it has to be 1 to 128 letters"),
    ("targets.node-100.policy", {"power": 1}, "targets.node-100.policy.power: has to be one of allow"),
    ("tokens.files", "/etc/tokens", "tokens.files: has to be a list; each item an absolute path, and is"),
    ("tokens.files", ["tokens"], 'tokens.files[0]: has to be an absolute path, and is "tokens".'),
    ("tokens.jwt.algorithm", "none", "tokens.jwt.algorithm: has to be one of HS256"),
    ("tokens.jwt.key", _LEFT_OUT, "tokens.jwt.key: has to be given: an absolute path."),
    ("tokens.jwt.most_seconds", "1h", "tokens.jwt.most_seconds: has to be a number of seconds from 0.1 to"),
    ("tokens.allowed_targets", [{}], "tokens.allowed_targets[0].networks: has to be given: a list; each item a"),
    ("tokens.allowed_targets", [{"networks": []}], "tokens.allowed_targets[0].networks: has to be a list"),
    ("tokens.allowed_targets", [{"networks": ["::1"], "ports": [1]}], "ports: has to be the first and the last port"),
    ("tokens.allowed_sockets", ["run"], 'tokens.allowed_sockets[0]: has to be an absolute path, and is "run".'),
    ("limits.sessions", 0, "limits.sessions: has to be a whole number from 1 to 1000000, and is 0."),
    ("limits.sessions_per_source", 0, "limits.sessions_per_source: has to be a whole number from 1"),
    ("limits.request_seconds", "10", "limits.request_seconds: has to be a number of seconds from 0.1 to 31536000, and"),
    ("limits.idle_seconds", 0, "limits.idle_seconds: has to be a number of seconds from 0.1 to"),
    ("limits.drain_seconds", -1, "limits.drain_seconds: has to be a number of seconds from 0 to"),
    ("limits.cpu", 1, "limits.cpu: is no key here"),
    ("audit.file", "audit.log", 'audit.file: has to be an absolute path, and is "audit.log".'),
    ("audit.level", 1, "audit.level: is no key here; the keys are file."),
    ("debug", True, "debug: is no key here; the keys are allow_no_origin, audit, domains, limits, listeners,"),
]
"""What is wrong, and what is said about it: both by _config and, in its own words, by the schema."""


@pytest.mark.parametrize(
    ("path", "value", "sentence"), WRONG, ids=[f"{number:02}-{row[0]}" for number, row in enumerate(WRONG)]
)
def test_each_mistake_has_its_sentence(path: str, value: Any, sentence: str) -> None:
    document = changed(EXAMPLE, path, value)
    mistakes = mistakes_of(document)
    assert any(sentence in mistake for mistake in mistakes), mistakes
    assert all("\n" not in mistake for mistake in mistakes)
    assert schema_says(document)


BEYOND_THE_SCHEMA: list[tuple[str, Any, str]] = [
    ("listeners.0.address", "localhost", "listeners[0].address: has to be an IP address, like 127.0.0.1 or ::, and is"),
    ("listeners.1.name", "browsers", "listeners[1].name: listeners[0] has this name, too."),
    ("listeners.3.target", "other", 'listeners[3].target: targets has no "other".'),
    ("listeners.0.tls.client_ca", None, "users.by: certificate needs a listener of kind web with tls.client_ca."),
    (
        "trusted_proxies",
        ["10.0.0.1/8"],
        'trusted_proxies[0]: has to be a network like 10.0.0.0/8, an address, or "unix"',
    ),
    ("trusted_proxies", [], "users.by: header needs trusted_proxies, since anybody else could set the header."),
    ("metrics.from", ["everywhere"], "metrics.from[0]: has to be a network"),
    ("tokens", {}, "users.by: token needs tokens.jwt, or files or directories in tokens, else nobody has one."),
    ("tokens.allowed_targets", [{"networks": ["10.0.0.300"]}], "tokens.allowed_targets[0].networks[0]: has to be a"),
    ("tokens.allowed_targets", [{"networks": ["::1"], "ports": [9, 8]}], "has to be the first and the last port"),
    ("domains", None, "targets.build-host.domain: domains has to be given, be it empty, before a domain can be a"),
]


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    BEYOND_THE_SCHEMA,
    ids=[f"{number:02}-{row[0]}" for number, row in enumerate(BEYOND_THE_SCHEMA)],
)
def test_what_a_schema_cannot_say_is_said_too(path: str, value: Any, sentence: str) -> None:
    document = changed(EXAMPLE, path, value)
    assert any(sentence in mistake for mistake in mistakes_of(document)), mistakes_of(document)
    assert schema_says(document) == []


def test_all_mistakes_are_told_at_once() -> None:
    document = changed(changed(EXAMPLE, "listeners.0.port", -1), "policy.power", 7)
    assert len(mistakes_of(document)) == 2


@pytest.mark.parametrize("document", [None, [], "text", 5, True])
def test_a_document_that_is_no_object(document: Any) -> None:
    assert "The configuration has to be an object, in braces" in mistakes_of(document)[0]
    assert schema_says(document)


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"{", "is no JSON: Expecting property name enclosed in double quotes, line 1, column 2."),
        (b'{"users": {}, "users": {}}', 'the key "users" stands there twice in one object.'),
        (b'{"limits": {"sessions": NaN}}', "NaN is no JSON."),
        (b'{"a": "\xff"}', "is no UTF-8 text: byte 7 does not belong there."),
        (b"[" * 200_000, "is nested too deeply."),
        (b" " * ((1 << 20) + 1), "has more than 1048576 bytes, which no configuration has."),
    ],
    ids=["cut", "twice", "nan", "latin", "deep", "long"],
)
def test_a_file_that_is_no_document(tmp_path: Path, data: bytes, sentence: str) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(data)
    with pytest.raises(_config.ConfigurationInvalid) as caught:
        _config.load(str(file))
    assert sentence in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(_config.ConfigurationInvalid, match="can't be read: No such file or directory"):
        _config.load(str(tmp_path / "none"))


def test_files_that_have_to_be_there(tmp_path: Path) -> None:
    settings = _config.parse(EXAMPLE)
    missing = _config.missing_files(settings)
    assert [sentence.split(":", maxsplit=1)[0] for sentence in missing] == [
        "listeners[0].tls.certificate",
        "listeners[0].tls.key",
        "listeners[0].tls.client_ca",
        "novnc.directory",
        "tokens.jwt.key",
    ]
    document = changed(SMALL, "novnc", {"directory": str(tmp_path)})
    assert _config.missing_files(_config.parse(document)) == []
