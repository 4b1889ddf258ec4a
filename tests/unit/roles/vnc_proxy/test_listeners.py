# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy import _config, _listeners
from ansible_collections.kvmops.console.tests.unit.roles.vnc_proxy.serving import Certificates


def settings(*listeners: dict[str, Any], **more: Any) -> _config.Settings:
    return _config.parse({"listeners": list(listeners), "users": {"by": ["none"]}, **more})


def opened(*listeners: dict[str, Any], inherited: _listeners.Inherited | None = None) -> list[_listeners.Listener]:
    return _listeners.open_all(settings(*listeners), inherited or {}, {})


def close(listeners: list[_listeners.Listener]) -> None:
    for listener in listeners:
        listener.close()


TCP = {"kind": "web", "address": "127.0.0.1", "port": 0}


def test_addresses_of_both_families() -> None:
    listeners = opened(TCP, {**TCP, "address": "::1"}, {**TCP, "address": "::"})
    places = [listener.places[0].rpartition(":")[0] for listener in listeners]
    assert places == ["127.0.0.1", "[::1]", "[::]"]
    port = listeners[2].sockets[0].getsockname()[1]
    with socket.create_connection(("127.0.0.1", port), 60):
        pass
    close(listeners)


def test_a_unix_socket_has_its_mode_at_once(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    (listener,) = opened({"kind": "web", "unix": str(path), "mode": "600"})
    assert path.stat().st_mode & 0o777 == 0o600
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    listener.close()


def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    close(opened({"kind": "web", "unix": str(path)}))
    assert path.is_socket()
    close(opened({"kind": "web", "unix": str(path)}))


def test_what_cannot_be_listened_at(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("dear")
    (first, second) = opened(TCP, {"kind": "web", "unix": str(tmp_path / "web.sock")})
    port = first.sockets[0].getsockname()[1]
    for listener, sentence in (
        ({**TCP, "port": port}, f"listeners[0]: 127.0.0.1, port {port} can't be listened at: another program listens"),
        ({**TCP, "address": "192.0.2.1"}, "can't be listened at: Cannot assign requested address."),
        ({"kind": "web", "unix": str(tmp_path / "web.sock")}, "web.sock can't be listened at: another program listens"),
        (
            {"kind": "web", "unix": str(tmp_path / "file")},
            "file can't be listened at: there is a file that is no socket",
        ),
        ({"kind": "web", "unix": str(tmp_path / "none" / "a")}, "can't be listened at: No such file or directory."),
        ({"kind": "web", "unix": "/" + "a" * 200}, "can't be listened at: AF_UNIX path too long."),
        ({"kind": "web", "systemd": "web"}, "listeners[0].systemd: systemd handed over no socket of the name web;"),
    ):
        with pytest.raises(InputError) as caught:
            opened(listener)
        assert sentence in str(caught.value)
    assert (tmp_path / "file").read_text() == "dear"
    close([first, second])


def test_sockets_that_systemd_hands_over(caplog: pytest.LogCaptureFixture) -> None:
    handed = [socket.create_server(("127.0.0.1", 0)) for _turn in range(3)]
    ports = [sock.getsockname()[1] for sock in handed]
    inherited = {"web": handed[:2], "other": handed[2:]}
    (listener,) = opened({"kind": "web", "systemd": "web"}, inherited=inherited)
    assert [sock.getsockname()[1] for sock in listener.sockets] == ports[:2]
    assert handed[2].fileno() == -1
    assert "The socket other was handed over, and no listener is for it." in caplog.text
    listener.close()


def test_the_variables_of_systemd_are_for_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LISTEN_PID", str(os.getpid() + 1))
    monkeypatch.setenv("LISTEN_FDS", "1")
    monkeypatch.setenv("LISTEN_FDNAMES", "web")
    assert _listeners.inherited_from_systemd() == {}
    assert not any(name in os.environ for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))


def test_what_is_handed_over_has_to_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        monkeypatch.setenv(_listeners.HAND_OVER, json.dumps([["web", theirs.detach()]]))
        with pytest.raises(InputError, match="The socket web that was handed over takes no connections; a socket unit"):
            _listeners.inherited_from_before()
    reading, writing = os.pipe()
    monkeypatch.setenv(_listeners.HAND_OVER, json.dumps([["web", reading]]))
    with pytest.raises(InputError, match="which is no socket"):
        _listeners.inherited_from_before()
    for number in (reading, writing):
        os.close(number)


def test_one_that_can_not_be_taken_leaves_none_open(monkeypatch: pytest.MonkeyPatch) -> None:
    handed = socket.create_server(("127.0.0.1", 0)).detach()
    reading, writing = os.pipe()
    monkeypatch.setenv(_listeners.HAND_OVER, json.dumps([["web", handed], ["other", reading]]))
    with pytest.raises(InputError, match="which is no socket"):
        _listeners.inherited_from_before()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handed)
    for number in (reading, writing):
        os.close(number)


def test_a_failure_leaves_nothing_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(InputError):
        opened(TCP, {"kind": "web", "unix": str(tmp_path / "none" / "a")})
    assert len(os.listdir("/proc/self/fd")) == before


def test_sockets_go_to_the_listeners_at_their_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "a,b=c.sock")
    before = opened({**TCP, "name": "a"}, {"kind": "web", "unix": path, "name": "b"})
    words, numbers = _listeners.handed_over(before)
    assert numbers == [sock.fileno() for each in before for sock in each.sockets]
    monkeypatch.setenv(
        _listeners.HAND_OVER, json.dumps([[place, os.dup(number)] for place, number in json.loads(words)])
    )
    after = _listeners.open_all(
        settings({"kind": "web", "unix": path, "name": "new"}, {**TCP, "name": "c"}, {**TCP, "name": "a"}),
        {},
        _listeners.inherited_from_before(),
    )
    assert after[0].sockets[0].getsockname() == path
    assert after[1].places != before[0].places
    assert after[2].places == before[0].places
    close([*before, *after])


# --- TLS --------------------------------------------------------------------------------------------------------------


def test_certificates_that_cannot_be_used(tmp_path: Path) -> None:
    made = Certificates(tmp_path / "tls")
    (tmp_path / "nonsense").write_text("nonsense")
    good = _config.TlsSettings(made.server, made.server_key, None)
    nonsense = str(tmp_path / "nonsense")
    for tls, sentence in (
        (good._replace(certificate="/none"), "The TLS certificate /none can't be read: No such file or directory."),
        (good._replace(key="/none"), "The TLS key /none can't be read"),
        (good._replace(certificate=nonsense), "are no certificate with its key in PEM"),
        (good._replace(key=nonsense), "are no certificate with its key in PEM"),
        (good._replace(key=made.client_key), "are no certificate with its key in PEM: key values mismatch."),
        (good._replace(client_ca=nonsense), "nonsense has no certificates in PEM"),
        (good._replace(client_ca="/none"), "The TLS certificates /none can't be read"),
    ):
        with pytest.raises(InputError) as caught:
            _listeners.make_context(tls, demand=False)
        assert sentence in str(caught.value)
        assert "\n" not in str(caught.value)


def test_a_key_with_a_passphrase_asks_nobody(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    made = Certificates(tmp_path / "tls")
    key = serialization.load_pem_private_key(Path(made.server_key).read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"open sesame"),
    )
    Path(made.server_key).write_bytes(locked)
    with pytest.raises(InputError, match="are no certificate with its key"):
        _listeners.make_context(_config.TlsSettings(made.server, made.server_key, None), demand=False)


@pytest.mark.parametrize(
    ("kind", "by", "demanded"),
    [("web", ["certificate"], True), ("web", ["certificate", "token"], False), ("vnc", ["none"], True)],
    ids=["alone", "or-token", "viewers"],
)
def test_who_has_to_show_a_certificate(tmp_path: Path, kind: str, by: list[str], demanded: bool) -> None:
    made = Certificates(tmp_path / "tls")
    listener = {**TCP, "kind": kind, "tls": {**made.settings, "client_ca": made.authority}}
    if kind == "vnc":
        listener["target"] = "one"
    found = _config.parse(
        {
            "listeners": [listener],
            "users": {"by": by},
            "targets": {"one": {"unix": "/one"}},
            "tokens": {"files": ["/tokens"]},
        }
    )
    (opened_,) = _listeners.open_all(found, {}, {})
    assert opened_.context is not None
    assert opened_.context.verify_mode == (ssl.CERT_REQUIRED if demanded else ssl.CERT_OPTIONAL)
    opened_.close()


def test_a_certificate_is_read_again_when_it_has_changed(tmp_path: Path) -> None:
    made = Certificates(tmp_path / "tls")
    (listener,) = opened({**TCP, "tls": made.settings})
    tls = listener.settings.tls
    before = listener.context
    assert not listener.reload_tls(tls, demand=False, only_changed=True)
    made.make("localhost", "server")
    assert listener.reload_tls(tls, demand=False, only_changed=True)
    assert listener.context is not before
    now = listener.context
    Path(made.server).write_text("nonsense")
    with pytest.raises(InputError):
        listener.reload_tls(tls, demand=False, only_changed=True)
    assert listener.context is now
    assert not listener.reload_tls(tls, demand=False, only_changed=True)
    listener.close()


def test_whom_a_certificate_names() -> None:
    named = {"subject": ((("organizationName", "o"),), (("commonName", "alice"),))}
    assert _listeners.name_in(named) == "alice"
    assert _listeners.name_in({"subject": (), "subjectAltName": (("email", "a@example"),)}) == "a@example"
    assert _listeners.name_in({"subject": ()}) is None
    assert _listeners.name_in({}) is None
    assert _listeners.name_in(None) is None
