# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import re
import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import jwt
import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _rfb
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy import _connections
from ansible_collections.kvmops.console.tests.unit.roles.vnc_proxy.serving import (
    SECONDS,
    WEB,
    Browser,
    Certificates,
    Refused,
    Serving,
    connect,
    exchange,
    open_desktop,
    request,
    take,
    viewer,
    wait_for,
)
from ansible_collections.kvmops.console.tests.unit.roles.vnc_proxy.vnc_server import Nature, VncServer

SECRET = "a secret of at least thirty-two bytes"


@pytest.fixture(name="server")
def _server(tmp_path: Path) -> Iterator[VncServer]:
    with VncServer.at_unix(str(tmp_path / "vnc.sock")) as server:
        yield server


@pytest.fixture(name="one")
def _one(tmp_path: Path) -> dict[str, Any]:
    """A document with the target `one`."""
    return {"targets": {"one": {"unix": str(tmp_path / "vnc.sock")}}}


@pytest.fixture(name="novnc")
def _novnc(tmp_path: Path) -> Path:
    folder = tmp_path / "novnc"
    folder.mkdir()
    (folder / "vnc.html").write_text("<html>")
    (folder / "large.js").write_bytes(bytes(range(256)) * 12_000)
    return folder


def refused(proxy: Serving, path: str = "/target/one", **headers: Any) -> int:
    with pytest.raises(Refused) as caught:
        Browser(proxy.port, path, **headers)
    return caught.value.response.status


# --- Pages ------------------------------------------------------------------------------------------------------------


def test_pages(tmp_path: Path, novnc: Path) -> None:
    document = {"novnc": {"directory": str(novnc)}, "metrics": {}}
    with Serving(document, tmp_path) as proxy:
        health = request(proxy.port, "/healthz")
        assert (health.status, health.body.split()[:3]) == (200, [b"ok", b"sessions", b"0"])
        assert health.headers["cache-control"] == "no-store"
        assert health.headers["connection"] == "close"
        page = request(proxy.port, "/novnc/vnc.html")
        assert (page.status, page.body) == (200, b"<html>")
        assert request(proxy.port, "/novnc/vnc.html", If_None_Match=page.headers["etag"]).status == 304
        only_head = request(proxy.port, "/novnc/vnc.html", method="HEAD")
        assert (only_head.status, only_head.body, only_head.headers["content-length"]) == (200, b"", "6")
        assert request(proxy.port, "/novnc/large.js").body == (novnc / "large.js").read_bytes()
        for path, location in (
            ("/", "novnc/"),
            ("/novnc", "novnc/"),
            ("/novnc/", "vnc.html"),
            ("/console/web-1", "../novnc/vnc.html#&autoconnect=true&path=..%2Fdomain%2Fweb-1"),
        ):
            found = request(proxy.port, path)
            assert (found.status, found.headers["location"]) == (302, location)
        for path, status in (
            ("/none", 404),
            ("/console/a/b", 404),
            ("/novnc/none", 404),
            ("/novnc/../audit.jsonl", 404),
            ("/novnc/%2e%2e/audit.jsonl", 404),
            ("/target/one", 426),
            ("/domain/web-1", 426),
        ):
            assert request(proxy.port, path).status == status
        assert request(proxy.port, "/healthz", method="POST").status == 405
    assert (tmp_path / "audit.jsonl").read_text() == ""


def test_without_novnc_and_metrics_there_are_none(tmp_path: Path) -> None:
    with Serving({}, tmp_path) as proxy:
        for path in ("/", "/novnc/", "/novnc/vnc.html", "/console/web-1", "/metrics"):
            assert request(proxy.port, path).status == 404


def test_metrics_are_for_those_who_may(tmp_path: Path) -> None:
    document = {"metrics": {"from": ["192.0.2.0/24"]}, "trusted_proxies": ["127.0.0.1"]}
    with Serving(document, tmp_path) as proxy:
        assert request(proxy.port, "/metrics").status == 403
        assert request(proxy.port, "/metrics", X_Forwarded_For="192.0.2.1").status == 200
        assert request(proxy.port, "/metrics", X_Forwarded_For="192.0.2.1, 198.51.100.1").status == 403


def test_a_draining_proxy_says_so(tmp_path: Path) -> None:
    with Serving({}, tmp_path) as proxy:
        proxy.do(lambda: setattr(proxy.connections, "draining", True))
        found = request(proxy.port, "/healthz")
        assert (found.status, found.body.splitlines()[0]) == (503, b"draining")


@pytest.mark.parametrize(
    ("data", "status"),
    [(b"nonsense\r\n\r\n", 400), (b"GET /" + b"a" * 20_000, 431), (b"\x16\x03\x01\r\n\r\n", 400)],
    ids=["nonsense", "long", "tls"],
)
def test_what_is_no_request_gets_an_answer(tmp_path: Path, data: bytes, status: int) -> None:
    with Serving({}, tmp_path) as proxy:
        assert exchange(proxy.port, data).status == status


def test_a_request_may_come_byte_by_byte(tmp_path: Path) -> None:
    with Serving({}, tmp_path) as proxy, connect(proxy.port) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n":
            sock.sendall(bytes((byte,)))
        assert take(sock, 15) == b"HTTP/1.1 200 OK"


def test_whoever_takes_too_long_is_dropped(tmp_path: Path) -> None:
    """Also one who sends a byte now and then: the limit is for the whole head."""
    with Serving({"limits": {"request_seconds": 0.3}}, tmp_path) as proxy, connect(proxy.port) as sock:
        sock.sendall(b"GET /healthz HTTP/1.1\r\n")
        with pytest.raises((BrokenPipeError, ConnectionResetError)):  # noqa: PT012
            for _turn in range(6000):
                sock.sendall(b"X")
                time.sleep(0.01)
        assert proxy.do(lambda: proxy.connections._requests) == 0


def test_one_address_does_not_take_the_room_of_all(tmp_path: Path) -> None:
    with Serving({"limits": {"requests_per_source": 2}, "metrics": {}}, tmp_path) as proxy:
        waiting = [connect(proxy.port) for _turn in range(2)]
        wait_for(lambda: [1] * int(proxy.do(lambda: proxy.connections._requests)), 2)
        with connect(proxy.port) as third:
            assert third.recv(1) == b""
        with socket.socket() as other:
            other.bind(("127.0.0.2", 0))
            other.settimeout(SECONDS)
            other.connect(("127.0.0.1", proxy.port))
            other.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert other.recv(12) == b"HTTP/1.1 200"
        for sock in waiting:
            sock.close()
        wait_for(lambda: [1] if proxy.do(lambda: proxy.connections._requests) == 0 else [])
        assert proxy.do(lambda: proxy.connections._requests_of_source) == {}
        assert b'refused_total{cause="requests_per_source"} 1.0' in request(proxy.port, "/metrics").body


def test_a_trusted_proxy_brings_the_requests_of_many(tmp_path: Path) -> None:
    document = {"limits": {"requests_per_source": 1}, "trusted_proxies": ["127.0.0.1"]}
    with Serving(document, tmp_path) as proxy, connect(proxy.port):
        wait_for(lambda: [1] * int(proxy.do(lambda: proxy.connections._requests)))
        assert request(proxy.port, "/healthz").status == 200


def test_connections_that_have_only_just_come_are_closed_at_the_end(tmp_path: Path) -> None:
    """Their tasks have not begun yet, so nothing of theirs would run any more."""
    with Serving({}, tmp_path) as proxy:
        connections = proxy.connections

        async def end() -> tuple[int, int]:
            ours, theirs = socket.socketpair()
            with ours:
                connections._requests += 1
                connections._requests_of_source["unix"] = 1
                task = asyncio.get_running_loop().create_task(connections._serve(proxy.listeners[0], theirs, "unix"))
                connections._tasks.add(task)
                task.add_done_callback(connections._tasks.discard)
                await connections.end()
                return connections._requests, theirs.fileno()

        assert proxy.run(end()) == (0, -1)


def test_as_many_requests_as_there_may_be(tmp_path: Path) -> None:
    with Serving({"limits": {"requests": 2}, "metrics": {}}, tmp_path) as proxy:
        waiting = [connect(proxy.port) for _turn in range(2)]
        wait_for(lambda: [1] * int(proxy.do(lambda: proxy.connections._requests)), 2)
        with connect(proxy.port) as third:
            assert third.recv(1) == b""
        for sock in waiting:
            sock.close()
        wait_for(lambda: [1] if proxy.do(lambda: proxy.connections._requests) == 0 else [])
        assert b'refused_total{cause="requests"} 1.0' in request(proxy.port, "/metrics").body


class Failing:
    """A listening socket that fails before it gives a connection."""

    def __init__(self, real: socket.socket, *numbers: int) -> None:
        self._real = real
        self._numbers = list(numbers)
        self.tries = 0

    def accept(self) -> Any:
        self.tries += 1
        if self._numbers:
            raise OSError(self._numbers[0], os.strerror(self._numbers.pop(0)))
        return self._real.accept()

    def fileno(self) -> int:
        return self._real.fileno()


def accept_at(proxy: Serving, failing: Failing) -> None:
    """Let the proxy accept there, from now on."""
    accept: Callable[..., None] = proxy.connections._accept
    proxy.do(lambda: proxy._loop.add_reader(failing.fileno(), accept, proxy.listeners[0], failing))


def test_a_system_without_descriptors_is_tried_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Serving({}, tmp_path) as proxy:
        failing = Failing(proxy.listeners[0].sockets[0], errno.EMFILE, errno.ENFILE)
        accept_at(proxy, failing)
        assert request(proxy.port, "/healthz").status == 200
        assert [record.getMessage() for record in caplog.records] == [
            "No connection can be accepted: Too many open files; it is tried again every 0.5 s."
        ]


def test_connections_that_broke_before_they_were_accepted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with Serving({}, tmp_path) as proxy:
        failing = Failing(proxy.listeners[0].sockets[0], errno.ECONNABORTED, errno.EPROTO)
        accept_at(proxy, failing)
        assert request(proxy.port, "/healthz").status == 200
        assert failing.tries >= 3
    assert caplog.text == ""


# --- Consoles ---------------------------------------------------------------------------------------------------------


def test_a_console_from_beginning_to_end(tmp_path: Path, server: VncServer, one: dict[str, Any]) -> None:
    with Serving({**one, "metrics": {}}, tmp_path) as proxy:
        with Browser(proxy.port, "/target/one", Origin="http://localhost") as browser:
            assert "sec-websocket-protocol" not in browser.headers
            browser.open_desktop()
            browser.say(_rfb.set_encodings(_rfb.RAW, _rfb.DESKTOP_SIZE, _rfb.XVP))
            assert browser.hear(4) == b"\xfa\x00\x01\x01"
            browser.say(_rfb.xvp(_rfb.XVP_RESET))
            assert browser.hear(4) == b"\xfa\x00\x01\x00"
            metrics = request(proxy.port, "/metrics").body.decode()
            assert "kvmops_vnc_proxy_sessions_open 1.0" in metrics
            assert re.search(r'bytes_total\{direction="to_client"\} [1-9]', metrics)
            browser.close()
            with pytest.raises(EOFError):
                browser.hear(1)
        end = proxy.wait_for("session_end")
        start = proxy.wait_for("session_start")
        (power,) = [line for line in proxy.audit() if line["event"] == "power_message"]
        metrics = request(proxy.port, "/metrics").body.decode()
    assert server.power == [_rfb.XVP_RESET]
    common = {"session": start["session"], "source": "127.0.0.1", "target": "one", "kind": "unix"}
    for line in (start, power, end):
        assert {key: line[key] for key in common} == common
    assert (start["server"], start["power"], start["listener"]) == ("affected", "as_configured", "web-0")
    assert (power["action"], power["passed"]) == ("reset", True)
    assert (end["reason"], end["power_messages"]) == ("client_closed", {"passed": 1})
    assert end["bytes_to_client"] > 40
    assert end["bytes_to_server"] > 14
    for sample in (
        "sessions_open 0.0",
        "sessions_opened_total 1.0",
        'sessions_ended_total{reason="client_closed"} 1.0',
        'power_messages_total{outcome="passed"} 1.0',
        'offers_total{outcome="made"} 1.0',
        f'bytes_total{{direction="to_client"}} {float(end["bytes_to_client"])}',
        "audit_lines_lost_total 0.0",
        "process_open_fds",
    ):
        assert sample in metrics


def test_what_a_mere_viewer_does_is_told_once_and_counted(
    tmp_path: Path, server: VncServer, one: dict[str, Any]
) -> None:
    one["targets"]["one"]["policy"] = {"view_only": True}
    with Serving({**one, "metrics": {}}, tmp_path) as proxy:
        with Browser(proxy.port, "/target/one") as browser:
            browser.open_desktop()
            for _turn in range(5):
                browser.say(_rfb.key_event(65, down=True))
            browser.say(_rfb.xvp(_rfb.XVP_RESET))
            browser.close()
        end = proxy.wait_for("session_end")
        assert end["dropped"]["key_event"] == 5
        assert len([line for line in proxy.audit() if line["event"] == "dropped"]) == 1 + ("xvp" in end["dropped"])
        assert 'messages_dropped_total{message="key_event"} 5.0' in request(proxy.port, "/metrics").body.decode()
    assert server.power == []


def test_a_flood_of_power_messages_fills_no_log(tmp_path: Path, server: VncServer, one: dict[str, Any]) -> None:
    one["targets"]["one"]["policy"] = {"power": "deny"}
    with Serving(one, tmp_path) as proxy:
        with Browser(proxy.port, "/target/one") as browser:
            browser.open_desktop()
            browser.say(_rfb.xvp(_rfb.XVP_RESET) * 1000)
            browser.close()
        end = proxy.wait_for("session_end")
        lines = [line for line in proxy.audit() if line["event"] == "power_message"]
    assert len(lines) == 100
    assert not lines[0]["passed"]
    assert end["power_messages"] == {"dropped": 1000}


@pytest.mark.parametrize("asked", ["binary", "base64, binary"])
def test_the_sub_protocol_of_older_novnc(tmp_path: Path, server: VncServer, one: dict[str, Any], asked: str) -> None:
    with Serving(one, tmp_path) as proxy, Browser(proxy.port, "//target/one", Sec_WebSocket_Protocol=asked) as browser:
        assert browser.headers["sec-websocket-protocol"] == "binary"
        browser.open_desktop()


def test_what_comes_right_behind_the_request_is_not_lost(
    tmp_path: Path, server: VncServer, one: dict[str, Any]
) -> None:
    frame = b"\x82\x8c" + bytes(4) + b"RFB 003.008\n"
    lines = b"GET /target/one HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
    keys = b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    with Serving(one, tmp_path) as proxy, connect(proxy.port) as sock:
        sock.sendall(lines + keys + frame)
        data = b""
        while not data.endswith(b"\x82\x02\x01\x01"):
            data += sock.recv(4096)
        assert data.startswith(b"HTTP/1.1 101 ")


@pytest.mark.parametrize(
    "headers",
    [{"Sec_WebSocket_Version": "8"}, {"Sec_WebSocket_Key": "short"}, {"Connection": "close"}],
    ids=["version", "key", "connection"],
)
def test_what_is_no_upgrade_is_refused(
    tmp_path: Path, server: VncServer, one: dict[str, Any], headers: dict[str, str]
) -> None:
    with Serving(one, tmp_path) as proxy:
        assert refused(proxy, **headers) in (400, 426)
        assert proxy.audit()[0]["cause"] == "bad_request"
    assert server.connections == 0


def test_a_server_that_is_away(tmp_path: Path, one: dict[str, Any]) -> None:
    with Serving(one, tmp_path) as proxy:
        assert refused(proxy) == 503
        assert refused(proxy, "/target/two") == 404
        assert refused(proxy, "/domain/web-1") == 403
        assert refused(proxy, "/healthz") == 404
        causes = [line["cause"] for line in proxy.audit()]
        assert proxy.do(lambda: proxy.connections.seats.all) == 0
    assert causes == ["unavailable", "not_found", "forbidden", "not_found"]


def test_a_server_that_takes_too_long(tmp_path: Path, one: dict[str, Any]) -> None:
    with (
        VncServer.at_unix(str(tmp_path / "vnc.sock"), Nature(silent=True)),
        Serving({**one, "limits": {"open_seconds": 0.2}}, tmp_path) as proxy,
    ):
        assert refused(proxy) == 504
        assert proxy.do(lambda: (proxy.connections.seats.all, proxy.connections.sessions)) == (0, 0)


# --- Who may ----------------------------------------------------------------------------------------------------------


def test_pages_of_others_open_nothing(tmp_path: Path, server: VncServer, one: dict[str, Any]) -> None:
    with Serving({**one, "origins": ["same_host", "https://portal.example"]}, tmp_path) as proxy:
        assert refused(proxy, Origin="https://evil.example") == 403
        assert refused(proxy, Origin="null") == 403
        Browser(proxy.port, "/target/one", Origin="https://portal.example").sock.close()
        lines = [line for line in proxy.audit() if line["event"] == "refused"]
    assert [line["cause"] for line in lines] == ["origin", "origin"]
    assert lines[0]["reason"] == "Pages of the origin 'https://evil.example' may not open consoles here."


def test_nobody_gets_in_without_what_is_asked_for(tmp_path: Path, server: VncServer, one: dict[str, Any]) -> None:
    (tmp_path / "tokens").write_text(f"good: unix_socket:{tmp_path}/vnc.sock\n")
    document = {**one, "users": {"by": ["token"]}, "tokens": {"files": [str(tmp_path / "tokens")]}}
    with Serving(document, tmp_path) as proxy:
        for path in ("/target/one", "/target/one?token=", "/target/one?token=bad", "/?token=bad"):
            assert refused(proxy, path) == 401
        for path in ("/?token=good", "/websockify?token=good", "/target/one?token=good"):
            with Browser(proxy.port, path) as browser:
                browser.open_desktop()
        assert refused(proxy, "/target/two?token=good") == 403


def test_a_user_whom_a_trusted_proxy_names(tmp_path: Path, server: VncServer, one: dict[str, Any]) -> None:
    document = {
        **one,
        "listeners": [{"kind": "web", "unix": str(tmp_path / "web.sock")}, WEB],
        "users": {"by": ["header"], "header": "X-User"},
        "trusted_proxies": ["unix"],
    }
    with Serving(document, tmp_path) as proxy:
        with Browser(str(tmp_path / "web.sock"), "/target/one", X_User="bob", X_Forwarded_For="192.0.2.7") as browser:
            browser.open_desktop()
            start = proxy.wait_for("session_start")
        assert (start["user"], start["source"]) == ("bob", "192.0.2.7")
        with pytest.raises(Refused):
            Browser(str(tmp_path / "web.sock"), "/target/one")
        with pytest.raises(Refused):
            Browser(proxy.listeners[1].sockets[0].getsockname()[1], "/target/one", X_User="bob")


def test_a_token_lets_nobody_in_where_it_is_no_way_in(tmp_path: Path, server: VncServer, one: dict[str, Any]) -> None:
    (tmp_path / "tokens").write_text(f"good: unix_socket:{tmp_path}/vnc.sock\n")
    document = {
        **one,
        "users": {"by": ["header"], "header": "X-User"},
        "trusted_proxies": ["127.0.0.1"],
        "tokens": {"files": [str(tmp_path / "tokens")]},
    }
    with Serving(document, tmp_path) as proxy:
        assert refused(proxy, "/target/one?token=good") == 401
        with Browser(proxy.port, "/target/one?token=good", X_User="bob") as browser:
            browser.open_desktop()


def test_a_user_with_a_certificate(tmp_path: Path, server: VncServer, one: dict[str, Any]) -> None:
    made = Certificates(tmp_path / "tls")
    document = {
        **one,
        "listeners": [{**WEB, "tls": {**made.settings, "client_ca": made.authority}}],
        "users": {"by": ["certificate", "token"]},
        "tokens": {"files": [str(tmp_path / "tokens")]},
    }
    with Serving(document, tmp_path) as proxy:
        assert refused(proxy, tls=made.context()) == 401
        with Browser(proxy.port, "/target/one", tls=made.context(client=True)) as browser:
            browser.open_desktop()
            assert proxy.wait_for("session_start")["user"] == "alice"
        assert request(proxy.port, "/healthz", tls=made.context()).status == 200


def test_certificates_of_strangers_are_turned_away(tmp_path: Path, one: dict[str, Any]) -> None:
    made, others = Certificates(tmp_path / "tls"), Certificates(tmp_path / "others")
    document = {
        **one,
        "listeners": [{**WEB, "tls": {**made.settings, "client_ca": made.authority}}],
        "users": {"by": ["certificate"]},
    }
    stranger = made.context()
    stranger.load_cert_chain(others.client, others.client_key)
    with Serving(document, tmp_path) as proxy:
        for context in (stranger, made.context()):
            with pytest.raises((ssl.SSLError, ConnectionResetError, EOFError)):
                request(proxy.port, "/healthz", tls=context)
        assert request(proxy.port, "/healthz", tls=made.context(client=True)).status == 200


def test_tls_carries_large_files_and_consoles(
    tmp_path: Path, server: VncServer, one: dict[str, Any], novnc: Path
) -> None:
    made = Certificates(tmp_path / "tls")
    document = {**one, "listeners": [{**WEB, "tls": made.settings}], "novnc": {"directory": str(novnc)}}
    with Serving(document, tmp_path) as proxy:
        found = request(proxy.port, "/novnc/large.js", tls=made.context())
        assert found.body == (novnc / "large.js").read_bytes()
        with Browser(proxy.port, "/target/one", tls=made.context(), Origin="https://localhost") as browser:
            browser.open_desktop()
        with connect(proxy.port) as sock:  # who speaks no TLS gets nothing, and costs nothing
            sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                while sock.recv(4096):
                    pass
        wait_for(lambda: [1] if proxy.do(lambda: proxy.connections._requests) == 0 else [])


def test_no_secret_is_ever_written(
    tmp_path: Path, server: VncServer, one: dict[str, Any], novnc: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    (tmp_path / "key").write_text(SECRET)
    (tmp_path / "tokens").write_text(f"filetoken: unix_socket:{tmp_path}/vnc.sock\nbadline\n")
    document = {
        **one,
        "users": {"by": ["token"]},
        "novnc": {"directory": str(novnc)},
        "tokens": {"files": [str(tmp_path / "tokens")], "jwt": {"key": str(tmp_path / "key"), "algorithm": "HS256"}},
    }
    good = jwt.encode({"exp": time.time() + 60, "target": "one", "sub": "portal-user"}, SECRET, algorithm="HS256")
    expired = jwt.encode({"exp": 1, "target": "one"}, SECRET, algorithm="HS256")
    forged = jwt.encode({"exp": time.time() + 60, "target": "one"}, SECRET + "!", algorithm="HS256")
    said = b""
    with Serving(document, tmp_path) as proxy:
        for token in (good, "filetoken"):
            with Browser(proxy.port, f"/target/one?token={token}") as browser:
                browser.open_desktop()
        proxy.wait_for("session_end", 2)
        for path in (
            f"/?token={expired}",
            f"/target/one?token={forged}",
            f"/target/two?token={good}",
            "/domain/a?token=filetoken",
            "/?token=filetoken2",
            "/?token=filetoken&token=filetoken",
        ):
            with pytest.raises(Refused) as caught:
                Browser(proxy.port, path)
            said += caught.value.response.body
        said += request(proxy.port, "/console/a/b?token=filetoken").body
        start = next(line for line in proxy.audit() if line["event"] == "session_start")
    assert start["token_for"] == "portal-user"
    written = (tmp_path / "audit.jsonl").read_text() + caplog.text + said.decode()
    assert '"cause":"authentication"' in written
    for secret in (good, expired, forged, "filetoken", "badline", SECRET, *good.split(".")):
        assert secret not in written


# --- How many ---------------------------------------------------------------------------------------------------------


def opened(proxy: Serving, path: str = "/target/one") -> Browser:
    browser = Browser(proxy.port, path)
    browser.open_desktop()
    return browser


@pytest.mark.parametrize(
    ("limits", "policy", "status", "cause"),
    [
        ({"sessions": 1}, {}, 503, "sessions"),
        ({"sessions_per_source": 1}, {}, 429, "source"),
        ({}, {"most_sessions": 1}, 429, "target"),
        ({}, {"viewers": "exclusive"}, 409, "exclusive"),
    ],
    ids=["all", "source", "target", "exclusive"],
)
def test_as_many_sessions_as_there_may_be(
    tmp_path: Path,
    server: VncServer,
    one: dict[str, Any],
    limits: dict[str, int],
    policy: dict[str, Any],
    status: int,
    cause: str,
) -> None:
    one["targets"]["one"]["policy"] = policy
    with Serving({**one, "limits": limits}, tmp_path) as proxy:
        with opened(proxy):
            assert refused(proxy) == status
            assert proxy.wait_for("refused")["cause"] == cause
        proxy.wait_for("session_end")
        with opened(proxy):
            pass
        proxy.wait_for("session_end", 2)
        seats = proxy.connections.seats
        assert proxy.do(lambda: (seats.all, seats._taken, seats._of_source, seats._of_target)) == (0, {}, {}, {})


def test_one_console_under_two_names_is_one(tmp_path: Path, server: VncServer, one: dict[str, Any]) -> None:
    policy = {"viewers": "exclusive"}
    place = {**one["targets"]["one"], "policy": policy}
    with Serving({"targets": {"one": place, "also": place}}, tmp_path) as proxy, opened(proxy):
        assert refused(proxy, "/target/also") == 409


def test_clients_that_vanish_leave_nothing(tmp_path: Path, server: VncServer, one: dict[str, Any]) -> None:
    with Serving(one, tmp_path) as proxy:
        opened(proxy).sock.close()
        proxy.wait_for("session_end")
        before = len(os.listdir("/proc/self/fd"))
        for turn in range(30):
            browser = opened(proxy)
            if turn % 3 == 0:
                browser.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            browser.sock.close()
            connect(proxy.port).close()
            refused(proxy, "/target/two")
        proxy.wait_for("session_end", 31)
        wait_for(lambda: [1] if len(proxy.connections._tasks) == 0 else [])
        wait_for(lambda: [1] if len(os.listdir("/proc/self/fd")) <= before else [])


def test_a_server_that_ends_is_asked_anew(tmp_path: Path) -> None:
    with (
        VncServer.at_tcp() as server,
        Serving({"targets": {"one": {"host": "127.0.0.1", "port": server.port}}}, tmp_path) as proxy,
    ):
        for ended in (2, 4):
            before = server.connections
            with opened(proxy) as first:
                assert server.connections == before + 2
                with opened(proxy) as second:  # as long as a session is open, it is the same server
                    assert server.connections == before + 3
                    server.drop_all()
                    for browser in (first, second):
                        with pytest.raises(EOFError):
                            browser.hear(1)
                        browser.close()
                    proxy.wait_for("session_end", ended)
        assert proxy.audit()[-1]["reason"] == "server_closed"
        assert proxy.directory._sessions._now == {}


# --- Native viewers ---------------------------------------------------------------------------------------------------


def test_a_native_viewer(tmp_path: Path, server: VncServer, one: dict[str, Any]) -> None:
    listener = {**WEB, "kind": "vnc", "target": "one"}
    one["targets"]["one"]["policy"] = {"viewers": "exclusive"}
    with Serving({**one, "listeners": [listener]}, tmp_path) as proxy:
        with viewer(proxy.port) as sock:
            open_desktop(lambda size: take(sock, size), sock.sendall)
            assert proxy.wait_for("session_start")["listener"] == "vnc-0"
            with viewer(proxy.port) as second:
                assert take(second, 16) == b"RFB 003.003\n" + bytes(4)
                length = int.from_bytes(take(second, 4), "big")
                assert take(second, length) == b"Somebody has this console open, and it is for one at a time."
                assert second.recv(1) == b""
        assert proxy.wait_for("session_end")["reason"] == "client_closed"
        assert proxy.wait_for("refused")["wanted"] == "one"


def test_a_native_viewer_with_a_certificate(tmp_path: Path, server: VncServer, one: dict[str, Any]) -> None:
    made = Certificates(tmp_path / "tls")
    tls = {**made.settings, "client_ca": made.authority}
    listener = {**WEB, "kind": "vnc", "target": "one", "tls": tls}
    with Serving({**one, "listeners": [listener]}, tmp_path) as proxy:
        with viewer(proxy.port, made.context(client=True)) as sock:
            open_desktop(lambda size: take(sock, size), sock.sendall)
            assert proxy.wait_for("session_start")["user"] == "alice"
        with pytest.raises((ssl.SSLError, ConnectionResetError, EOFError)), viewer(proxy.port, made.context()) as sock:
            take(sock, 12)


# --- The end ----------------------------------------------------------------------------------------------------------


def test_sessions_are_told_when_the_proxy_goes(tmp_path: Path, server: VncServer, one: dict[str, Any]) -> None:
    proxy = Serving(one, tmp_path)
    with proxy:
        browser = opened(proxy)

        def answer() -> None:
            try:
                browser.hear(1)
            except EOFError:
                browser.close()

        reader = threading.Thread(target=answer)
        reader.start()
    reader.join(SECONDS)
    browser.sock.close()
    assert browser.closed_with == 1001
    assert proxy.audit()[-1]["reason"] == "drained"


def test_within_raises_what_it_says() -> None:
    import asyncio

    async def test() -> None:
        with pytest.raises(TimeoutError, match=r"it took longer than 0\.01 seconds"), _connections.Within(0.01):
            await asyncio.sleep(SECONDS)
        with _connections.Within(SECONDS):
            await asyncio.sleep(0)
        task = asyncio.ensure_future(cancelled())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def cancelled() -> None:
        with _connections.Within(SECONDS):
            await asyncio.sleep(SECONDS)

    asyncio.run(test())


def test_connections_leave_nothing_behind(tmp_path: Path) -> None:
    """Whoever comes, by whichever way, and however he goes: no task, no descriptor, no seat and no request is left."""

    def vanish(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    def come_and_go() -> None:
        assert request(proxy.port, "/healthz").status == 200
        assert refused(proxy, "/target/none") == 404
        assert refused(proxy, "/target/away") == 503
        for path in ("/target/one", "/target/two"):
            with Browser(proxy.port, path) as browser:
                browser.open_desktop()
                browser.close()
            browser = Browser(proxy.port, path)
            browser.open_desktop()
            vanish(browser.sock)
            vanish(Browser(proxy.port, path).sock)
        for said in (b"", b"GET /heal", b"\x16\x03\x01", b"GET /healthz HTTP/1.1\r\nHost: x\r\n"):
            sock = connect(proxy.port)
            sock.sendall(said)
            vanish(sock)

    def left() -> tuple[int, ...]:
        """Tasks, descriptors (of this process, so the servers' too), and what is counted."""
        connections = proxy.connections
        counted = connections._requests, len(connections._requests_of_source), len(connections._tasks)
        tasks: int = proxy.do(lambda: len(asyncio.all_tasks()))
        held = len(list(Path("/proc/self/fd").iterdir()))
        return (tasks, held, *counted, connections.seats.all, connections.sessions)

    def served() -> bool:
        """Whether a server still has somebody."""
        return any(sock.fileno() >= 0 for sock in [*server._open, *other._open])

    with VncServer.at_unix(str(tmp_path / "vnc.sock")) as server, VncServer.at_tcp() as other:
        targets = {
            "one": {"unix": str(tmp_path / "vnc.sock")},
            "two": {"host": "127.0.0.1", "port": other.port},
            "away": {"unix": str(tmp_path / "none")},
        }
        with Serving({"targets": targets}, tmp_path) as proxy:
            come_and_go()
            proxy.wait_for("session_end", 6)
            wait_for(lambda: [True] if left()[2:] == (0, 0, 0, 0, 0) and not served() else [])
            before = left()
            for _turn in range(5):
                come_and_go()
            proxy.wait_for("session_end", 36)
            wait_for(lambda: [True] if left() == before else [])
