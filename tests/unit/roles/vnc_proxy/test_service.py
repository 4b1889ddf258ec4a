# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service as a process: how it starts, reloads, hands over and ends."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jwt
import pytest

from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy import __main__, _listeners, _service
from ansible_collections.kvmops.console.tests.unit.roles.vnc_proxy.serving import (
    MODULE,
    NOBODY_ASKED,
    SECONDS,
    WEB,
    Browser,
    Certificates,
    Proxy,
    Refused,
    connect,
    request,
    wait_for,
)
from ansible_collections.kvmops.console.tests.unit.roles.vnc_proxy.vnc_server import VncServer

SECRET = "a secret of at least thirty-two bytes"


@pytest.fixture(name="server")
def _server(tmp_path: Path) -> Iterator[VncServer]:
    with VncServer.at_unix(str(tmp_path / "vnc.sock")) as server:
        yield server


@pytest.fixture(name="one")
def _one(tmp_path: Path) -> dict[str, Any]:
    return {"targets": {"one": {"unix": str(tmp_path / "vnc.sock")}}}


@pytest.fixture(name="manager")
def _manager(tmp_path: Path) -> Iterator[socket.socket]:
    """What systemd hears."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(SECONDS)
        yield sock


class Outcome(NamedTuple):
    status: int
    out: str
    errors: str


def run(capsys: pytest.CaptureFixture[str], *words: str) -> Outcome:
    """Run the command here."""
    status = __main__.main(list(words))
    return Outcome(status, *capsys.readouterr())


def opened(proxy: Proxy, path: str = "/target/one", tls: ssl.SSLContext | None = None) -> Browser:
    browser = Browser(proxy.port, path, tls=tls)
    browser.open_desktop()
    return browser


def is_alive(browser: Browser) -> bool:
    """Whether the session still relays: a request for one pixel has an answer."""
    browser.say(bytes((3, 0, 0, 0, 0, 0, 0, 1, 0, 1)))
    return browser.hear(20)[0] == 0


def hear_the_end(browser: Browser) -> int | None:
    """Answer the goodbye; return its code."""
    with pytest.raises(EOFError):
        browser.hear(1)
    browser.close()
    browser.sock.close()
    return browser.closed_with


# --- Start and stop ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ("{", "is no JSON: Expecting property name enclosed in double quotes, line 1, column 2."),
        ({"users": {"by": ["all"]}}, 'users.by[0]: has to be one of none, token, certificate, header, and is "all".'),
        ({"listeners": [{**WEB, "address": "192.0.2.1"}]}, "can't be listened at: Cannot assign requested address."),
        ({"listeners": [{"kind": "web", "systemd": "web"}]}, "systemd handed over no socket of the name web;"),
        ({"novnc": {"directory": "/none"}}, "novnc.directory: /none is no directory."),
        ({"audit": {"file": "/none/audit"}}, "audit.file: /none/audit can't be opened: No such file or directory."),
        ({"tokens": {"jwt": {"key": "/dev/null", "algorithm": "HS256"}}}, "tokens.jwt.key: /dev/null is no file."),
    ],
    ids=["json", "value", "address", "systemd", "novnc", "audit", "key"],
)
def test_what_keeps_it_from_starting_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], document: Any, sentence: str
) -> None:
    config = tmp_path / "config.json"
    text = (
        json.dumps({"listeners": [WEB], "users": NOBODY_ASKED, **document}) if isinstance(document, dict) else document
    )
    config.write_text(text)
    found = run(capsys, "serve", "--config", str(config))
    assert (found.status, found.out) == (2, "")
    assert sentence in found.errors
    assert len(found.errors.splitlines()) == 1


@pytest.mark.parametrize("fails", ["audit", "hand-over"])
def test_what_cannot_start_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    """Neither what leads to the process before it, nor what that and systemd have handed over."""
    config = tmp_path / "config.json"
    audit = {"audit": {"file": "/none/audit"}} if fails == "audit" else {}
    listener = {"kind": "web", "systemd": "web", "name": "web"}
    config.write_text(json.dumps({"listeners": [listener], "users": NOBODY_ASKED, **audit}))
    before, after = socket.socketpair()
    handed = socket.create_server(("127.0.0.1", 0))
    monkeypatch.setattr(_listeners, "FIRST_DESCRIPTOR", handed.detach())
    for name, value in {
        "LISTEN_PID": str(os.getpid()),
        "LISTEN_FDS": "1",
        "LISTEN_FDNAMES": "web",
        _service.PARENT: str(after.detach()),
        _listeners.HAND_OVER: "[]" if fails == "audit" else json.dumps([["web", 100_000]]),
    }.items():
        monkeypatch.setenv(name, value)
    with before:
        with pytest.raises(InputError):
            asyncio.run(_service.Service(str(config)).run())
        before.settimeout(SECONDS)
        assert before.recv(1) == b""
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(_listeners.FIRST_DESCRIPTOR)


def test_its_exit_status_when_it_cannot_start(tmp_path: Path) -> None:
    with Proxy({"users": {"by": ["all"]}}, tmp_path) as proxy:
        assert proxy.end() == 2
        assert proxy.lines == []
        assert len(proxy.log) == 1


def test_a_life_as_systemd_sees_it(
    tmp_path: Path, server: VncServer, one: dict[str, Any], manager: socket.socket
) -> None:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "60000000"}
    with Proxy({**one, "limits": {"drain_seconds": 0}}, tmp_path, environment=environment) as proxy:
        assert manager.recv(4096).startswith(b"READY=1\n")
        assert manager.recv(4096) == b"WATCHDOG=1"
        with opened(proxy) as browser:
            proxy.process.send_signal(signal.SIGTERM)
            assert manager.recv(4096).startswith(b"STOPPING=1\n")
            assert hear_the_end(browser) == 1001
        assert proxy.end() == 0
        assert proxy.wait_for_event("session_end")["reason"] == "drained"
    messages = [line.split(" ", 3)[3] for line in proxy.log]
    assert messages == [
        f"Listening at 127.0.0.1:{proxy.port}, for browsers.",
        "Stopping; 1 sessions are open.",
        "Stopped.",
    ]


def test_the_journal_gets_priorities(tmp_path: Path) -> None:
    with Proxy({}, tmp_path, environment={"JOURNAL_STREAM": "8:1"}) as proxy:
        assert proxy.wait_for_log("^<6>Listening at")
        proxy.process.terminate()
        assert proxy.end() == 0


def test_sessions_may_end_by_themselves_while_it_drains(tmp_path: Path, server: VncServer, one: dict[str, Any]) -> None:
    with Proxy({**one, "limits": {"drain_seconds": 1000}}, tmp_path) as proxy:
        with opened(proxy) as browser:
            proxy.process.terminate()
            proxy.wait_for_log("Stopping; 1 sessions are open")
            with pytest.raises(ConnectionRefusedError):
                connect(proxy.port)
            assert is_alive(browser)
            browser.close()
            assert proxy.end() == 0
        assert proxy.wait_for_event("session_end")["reason"] == "client_closed"


def test_a_second_signal_does_not_wait(tmp_path: Path, server: VncServer, one: dict[str, Any]) -> None:
    with Proxy({**one, "limits": {"drain_seconds": 1000}}, tmp_path) as proxy:
        browser = opened(proxy)
        proxy.process.terminate()
        proxy.wait_for_log("Stopping; 1 sessions are open")
        proxy.process.terminate()
        assert hear_the_end(browser) == 1001
        assert proxy.end() == 0


def test_a_unix_socket_goes_with_the_service(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    with Proxy({"listeners": [{"kind": "web", "unix": str(path)}]}, tmp_path) as proxy:
        proxy.wait_for_log("Listening at unix:")
        assert request(str(path), "/healthz").status == 200
        proxy.process.terminate()
        assert proxy.end() == 0
    assert not path.exists()


ACTIVATE = """
import os, sys
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="web")
number = int(sys.argv[1])
if number != 3:
    os.dup2(number, 3)
os.set_inheritable(3, True)
os.execv(sys.executable, [sys.executable, "-B", "-m", *sys.argv[2:]])
"""
"""Does what systemd does between fork and exec."""


def test_sockets_of_systemd(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
        words = [MODULE, "serve", "--config", str(tmp_path / "config.json")]
        command = [sys.executable, "-B", "-c", ACTIVATE, str(sock.fileno()), *words]
        document = {"listeners": [{"kind": "web", "systemd": "web"}]}
        with Proxy(document, tmp_path, command=command, pass_fds=(sock.fileno(),)) as proxy:
            assert proxy.port == port
            assert request(port, "/healthz").status == 200
            proxy.process.terminate()
            assert proxy.end() == 0
        # The socket lives on, and what comes now waits for the next one.
        with connect(port):
            pass


# --- Reload -----------------------------------------------------------------------------------------------------------


def served_certificate(proxy: Proxy, made: Certificates) -> dict[str, Any] | None:
    with connect(proxy.port, made.context()) as sock:
        assert isinstance(sock, ssl.SSLSocket)
        return sock.getpeercert()


def test_a_reload_changes_what_it_can(
    tmp_path: Path, server: VncServer, one: dict[str, Any], manager: socket.socket
) -> None:
    made = Certificates(tmp_path / "tls")
    audit = tmp_path / "audit"
    document: dict[str, Any] = {**one, "listeners": [{**WEB, "tls": made.settings}], "audit": {"file": str(audit)}}
    with Proxy(document, tmp_path, environment={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as proxy:
        assert manager.recv(4096).startswith(b"READY=1\n")
        before = served_certificate(proxy, made)
        with opened(proxy, tls=made.context()) as browser:
            with pytest.raises(Refused):
                Browser(proxy.port, "/target/two", tls=made.context())
            audit.rename(tmp_path / "audit.1")
            made.make("localhost", "server")
            document["targets"]["two"] = one["targets"]["one"]
            proxy.write(document)
            proxy.process.send_signal(signal.SIGHUP)
            assert manager.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            assert manager.recv(4096).startswith(b"READY=1\n")
            proxy.wait_for_log("Reloaded")
            assert served_certificate(proxy, made) != before
            assert is_alive(browser)
            opened(proxy, "/target/two", made.context()).sock.close()
        wait_for(lambda: [line for line in audit.read_text().splitlines() if "session_end" in line], 2)
        assert "session_start" in (tmp_path / "audit.1").read_text()
        proxy.process.terminate()
        assert proxy.end() == 0


def test_a_mistake_in_a_reload_changes_nothing(tmp_path: Path, server: VncServer, one: dict[str, Any]) -> None:
    made = Certificates(tmp_path / "tls")
    document: dict[str, Any] = {**one, "listeners": [{**WEB, "tls": made.settings}]}
    with Proxy(document, tmp_path) as proxy:
        assert proxy.port
        mistakes: list[tuple[dict[str, Any], str]] = [
            ({"policy": {"power": "maybe"}}, "The configuration was not taken over: policy.power: has to be one of"),
            ({"novnc": {"directory": "/none"}}, "not taken over: novnc.directory: /none is no directory"),
            ({"audit": {"file": "/none/audit"}}, "The audit log /none/audit can't be opened"),
            (
                {"tokens": {"jwt": {"key": str(tmp_path / "config.json"), "algorithm": "ES256"}}},
                "not taken over: .*config.json is no key for ES256",
            ),
        ]
        for changes, pattern in mistakes:
            proxy.write({**document, **changes})
            proxy.process.send_signal(signal.SIGHUP)
            proxy.wait_for_log(pattern)
        Path(made.server).write_text("nonsense")
        proxy.write({**document, "listeners": [{**WEB, "port": 1, "tls": made.settings}]})
        proxy.process.send_signal(signal.SIGHUP)
        proxy.wait_for_log("What has changed in listeners counts after a hand-over")
        proxy.wait_for_log("The certificate of web-0 stays as it was")
        proxy.wait_for_log("Reloaded")
        with opened(proxy, tls=made.context()):
            pass
        proxy.process.terminate()
        assert proxy.end() == 0


# --- Hand-over --------------------------------------------------------------------------------------------------------


def successor_of(proxy: Proxy, count: int = 1) -> int:
    return int(proxy.wait_for_log(r"Process ([0-9]+) takes over", count)[1])


def test_a_hand_over_loses_no_session(
    tmp_path: Path, server: VncServer, one: dict[str, Any], manager: socket.socket
) -> None:
    document = {**one, "listeners": [WEB, {"kind": "web", "unix": str(tmp_path / "web.sock")}]}
    with Proxy(document, tmp_path, environment={"NOTIFY_SOCKET": str(tmp_path / "notify")}) as proxy:
        assert manager.recv(4096).startswith(b"READY=1\n")
        with opened(proxy) as browser:
            proxy.process.send_signal(signal.SIGUSR2)
            assert manager.recv(4096).startswith(b"RELOADING=1\n")
            successor = successor_of(proxy)
            assert manager.recv(4096).startswith(b"READY=1\nMAINPID=%d\n" % successor)
            proxy.wait_for_log("Handed over; 1 sessions go on here")
            assert is_alive(browser)
            with opened(proxy) as second:
                assert proxy.wait_for_event("session_start", 2)["session"].startswith(f"{successor:x}-")
                assert request(str(tmp_path / "web.sock"), "/healthz").body.split()[2] == b"1"
                assert is_alive(browser)
                browser.close()
                proxy.wait_for_log("The last session here has ended")
                assert proxy.process.wait(SECONDS) == 0
                assert is_alive(second)
                second.close()
        os.kill(successor, signal.SIGTERM)
        proxy.wait_for_log("Stopped")
    assert not (tmp_path / "web.sock").exists()


def test_one_hand_over_after_the_other(tmp_path: Path, server: VncServer, one: dict[str, Any]) -> None:
    with Proxy(one, tmp_path) as proxy:
        browsers = [opened(proxy)]
        proxy.process.send_signal(signal.SIGUSR2)
        for count in (1, 2):
            process = successor_of(proxy, count)
            proxy.wait_for_log("Listening at", count + 1)
            browsers.append(opened(proxy))
            if count == 1:
                os.kill(process, signal.SIGUSR2)
        for browser in browsers:
            assert is_alive(browser)
            browser.close()
            browser.sock.close()
        os.kill(process, signal.SIGTERM)
        proxy.wait_for_log("Stopped")


def test_sessions_of_the_process_before_count_too(tmp_path: Path, server: VncServer, one: dict[str, Any]) -> None:
    """A console for one at a time has one, over two hand-overs, whichever process it is open in."""
    one["targets"]["one"]["policy"] = {"viewers": "exclusive"}
    with Proxy(one, tmp_path) as proxy:
        browser = opened(proxy)
        process = proxy.process.pid
        for count in (1, 2):
            os.kill(process, signal.SIGUSR2)
            process = successor_of(proxy, count)
            proxy.wait_for_log("Listening at", count + 1)
            assert refused(proxy) == 409
        proxy.wait_for_log("The last session here has ended")  # That of the process between the two had none
        assert is_alive(browser)
        assert refused(proxy) == 409
        browser.close()
        browser.sock.close()
        assert proxy.process.wait(SECONDS) == 0
        wait_for(lambda: [1] if refused(proxy) == 0 else [])
        os.kill(process, signal.SIGTERM)
        proxy.wait_for_log("Stopped")


def refused(proxy: Proxy) -> int:
    """The status that the console is not opened with; 0 when it is."""
    try:
        opened(proxy).sock.close()
    except Refused as refusal:
        return refusal.response.status
    return 0


def test_no_request_is_lost_while_it_hands_over(tmp_path: Path) -> None:
    with Proxy({}, tmp_path) as proxy:
        port = proxy.port
        proxy.process.send_signal(signal.SIGUSR2)
        answers = 0
        while proxy.process.poll() is None or answers < 20:
            assert request(port, "/healthz").status == 200
            answers += 1
        assert proxy.process.returncode == 0
        assert request(port, "/healthz").status == 200


def test_a_new_process_that_cannot_start_leaves_the_old_one(
    tmp_path: Path, server: VncServer, one: dict[str, Any]
) -> None:
    with Proxy(one, tmp_path) as proxy, opened(proxy) as browser:
        proxy.write({**one, "policy": {"power": "maybe"}})
        proxy.process.send_signal(signal.SIGUSR2)
        proxy.wait_for_log("policy.power: has to be one of allow, deny, as_configured")
        proxy.wait_for_log("The new process did not get ready, so this one goes on")
        assert is_alive(browser)
        opened(proxy).sock.close()
        proxy.write(one)
        proxy.process.send_signal(signal.SIGUSR2)
        assert successor_of(proxy)
        assert is_alive(browser)


def test_the_old_process_ends_its_sessions_in_time(tmp_path: Path, server: VncServer, one: dict[str, Any]) -> None:
    with Proxy({**one, "limits": {"hand_over_seconds": 0.1}}, tmp_path) as proxy:
        browser = opened(proxy)
        proxy.process.send_signal(signal.SIGUSR2)
        assert hear_the_end(browser) == 1001
        assert proxy.process.wait(SECONDS) == 0
        assert proxy.wait_for_event("session_end")["reason"] == "drained"


def test_the_old_process_stops_when_told(tmp_path: Path, server: VncServer, one: dict[str, Any]) -> None:
    with Proxy({**one, "limits": {"drain_seconds": 0}}, tmp_path) as proxy:
        browser = opened(proxy)
        proxy.process.send_signal(signal.SIGUSR2)
        proxy.wait_for_log("Handed over")
        proxy.process.terminate()
        assert hear_the_end(browser) == 1001
        assert proxy.process.wait(SECONDS) == 0
        assert proxy.wait_for_event("session_end")["reason"] == "drained"


def test_a_used_token_stays_used_after_a_reload(
    tmp_path: Path, server: VncServer, one: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where nothing is kept over a restart."""
    (tmp_path / "key").write_text(SECRET)
    document = {
        **one,
        "users": {"by": ["token"]},
        "tokens": {"jwt": {"key": str(tmp_path / "key"), "algorithm": "HS256", "single_use": True}},
    }
    with Proxy(document, tmp_path) as proxy:
        proxy.wait_for_log("used tokens are forgotten at a restart, since there is no STATE_DIRECTORY")
        token = run(capsys, "token", "--config", str(proxy.config), "--target", "one").out.strip()
        opened(proxy, f"/?token={token}").sock.close()
        proxy.process.send_signal(signal.SIGHUP)
        proxy.wait_for_log("Reloaded")
        with pytest.raises(Refused) as caught:
            Browser(proxy.port, f"/?token={token}")
        assert caught.value.response.status == 410


def test_a_used_token_stays_used_in_the_next_process(
    tmp_path: Path, server: VncServer, one: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "key").write_text(SECRET)
    (tmp_path / "state").mkdir()
    document = {
        **one,
        "users": {"by": ["token"]},
        "tokens": {"jwt": {"key": str(tmp_path / "key"), "algorithm": "HS256", "single_use": True}},
    }
    words = ("token", "--config", str(tmp_path / "config.json"), "--target", "one", "--user", "bob")
    with Proxy(document, tmp_path, environment={"STATE_DIRECTORY": str(tmp_path / "state")}) as proxy:
        token = run(capsys, *words).out.strip()
        with opened(proxy, f"/?token={token}"):
            assert proxy.wait_for_event("session_start")["token_for"] == "bob"
        proxy.process.send_signal(signal.SIGHUP)
        proxy.wait_for_log("Reloaded")
        for turn in range(2):
            with pytest.raises(Refused) as caught:
                Browser(proxy.port, f"/?token={token}")
            assert caught.value.response.status == 410
            if turn == 0:
                proxy.process.send_signal(signal.SIGUSR2)
                proxy.wait_for_log("Listening at", 2)
        assert token not in "".join(proxy.lines + proxy.log)


# --- Other actions ----------------------------------------------------------------------------------------------------


def test_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"listeners": [WEB], "users": NOBODY_ASKED}))
    found = run(capsys, "check", "--config", str(config))
    assert (found.status, found.out, found.errors) == (0, f"{config} can be used.\n", "")
    config.write_text(json.dumps({"listeners": [{**WEB, "tls": {"certificate": "/a", "key": "/b"}}], "users": {}}))
    found = run(capsys, "check", "--config", str(config))
    assert (found.status, found.out) == (2, "")
    assert found.errors == "users.by: has to be given: a list; each item one of none, token, certificate, header.\n"
    config.write_text(
        json.dumps({"listeners": [{**WEB, "tls": {"certificate": "/a", "key": "/b"}}], "users": NOBODY_ASKED})
    )
    found = run(capsys, "check", "--config", str(config))
    assert found.status == 2
    assert found.errors.splitlines() == [
        "listeners[0].tls.certificate: /a is no file.",
        "listeners[0].tls.key: /b is no file.",
    ]


def test_making_a_token(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "key").write_text(SECRET + "\n")
    config = tmp_path / "config.json"
    settings = {
        "key": str(tmp_path / "key"),
        "algorithm": "HS256",
        "issuer": "me",
        "audience": "you",
        "most_seconds": 600,
    }
    config.write_text(json.dumps({"listeners": [WEB], "users": {"by": ["token"]}, "tokens": {"jwt": settings}}))
    words = ("token", "--config", str(config))
    made = run(
        capsys, *words, "--domain", "web-1", "--seconds", "30", "--power", "deny", "--view-only", "--user", "bob"
    )
    claims = jwt.decode(made.out.strip(), SECRET, algorithms=["HS256"], issuer="me", audience="you")
    assert claims["exp"] - claims["iat"] == 30
    assert len(claims["jti"]) == 32
    wanted = {"domain": "web-1", "power": "deny", "view_only": True, "sub": "bob"}
    assert {name: claims.get(name) for name in wanted} == wanted
    assert "target" not in claims
    for more, sentence in (
        (("--host", "a"), "--host and --port belong together: give both, or neither."),
        (("--domain", "a", "--seconds", "601"), "--seconds 601 can't be: tokens.jwt.most_seconds is 600"),
        (("--domain", "a", "--key", "/none"), "The key /none can't be read: No such file or directory."),
    ):
        found = run(capsys, *words, *more)
        assert (found.status, found.out) == (2, "")
        assert sentence in found.errors
        assert len(found.errors.splitlines()) == 1
    config.write_text(json.dumps({"listeners": [WEB], "users": NOBODY_ASKED}))
    assert "has no tokens.jwt" in run(capsys, *words, "--domain", "a").errors


def test_a_token_needs_the_private_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Certificates(tmp_path / "tls")
    config = tmp_path / "config.json"
    settings = {"key": made.server_key, "algorithm": "ES256"}
    config.write_text(json.dumps({"listeners": [WEB], "users": {"by": ["token"]}, "tokens": {"jwt": settings}}))
    words = ("token", "--config", str(config), "--domain", "a")
    assert run(capsys, *words).out.count(".") == 2
    found = run(capsys, *words, "--key", made.server)
    assert found.status == 2
    assert "is no key that signs with ES256; a public key can't sign: give the private one by --key." in found.errors
