# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin

import pytest

from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy import _config, _http

GET = b"GET / HTTP/1.1\r\nHost: a\r\n"


def web(**changes: Any) -> _config.WebSettings:
    document = {"listeners": [{"kind": "web", "address": "::", "port": 1}], "users": {"by": ["none"]}, **changes}
    return _config.parse(document).web


def head(path: str = "/", **headers: str) -> _http.Head:
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in {"Host": "proxy.example", **headers}.items()]
    return _http.parse_head(f"GET {path} HTTP/1.1\r\n".encode() + "\r\n".join(lines).encode() + b"\r\n\r\n")


# --- Requests ---------------------------------------------------------------------------------------------------------


def test_a_request_is_understood() -> None:
    found = head("/domain/a%20b?token=x%2By&scale=", Origin="https://a", X_Two="1")
    assert found.method == "GET"
    assert found.path == "/domain/a%20b"
    assert found.query == {"token": "x+y", "scale": ""}
    assert found.headers == {"host": "proxy.example", "origin": "https://a", "x-two": "1"}
    assert not found.wants_upgrade


def test_headers_that_came_twice_are_known() -> None:
    found = _http.parse_head(GET + b"X-User: eve\r\nX-User: bob\r\n\r\n")
    assert found.repeated == ("x-user",)
    assert found.headers["x-user"] == "eve, bob"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 400),
        (b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /#a HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"get / HTTP/1.1\r\nHost: a\r\n\r\n", 405),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (GET + b"Content-Length: 5\r\n\r\n", 413),
        (GET + b"Transfer-Encoding: chunked\r\n\r\n", 413),
        (GET + b"Host: b\r\n\r\n", 400),
        (GET + b"Origin: http://a\r\nOrigin: http://b\r\n\r\n", 400),
        (GET + b"Folded: a\r\n b\r\n\r\n", 400),
        (GET + b"Space : a\r\n\r\n", 400),
        (GET + b"no colon\r\n\r\n", 400),
        (GET + b"X: a\0b\r\n\r\n", 400),
        (GET + b"X: a\nY: b\r\n\r\n", 400),
        (GET + b"X: 1\r\n" * 101 + b"\r\n", 431),
        (b"GET /?a=1&a=2 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /?a=%ff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /?" + b"a&" * 60 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 400),
    ],
    ids=range(24),
)
def test_what_is_no_request_is_refused(data: bytes, status: int) -> None:
    with pytest.raises(_http.BadRequest) as caught:
        _http.parse_head(data)
    assert caught.value.status == status


def test_a_head_may_come_in_pieces_and_not_be_too_long() -> None:
    whole = GET + b"\r\n"
    assert all(_http.end_of_head(whole[:size]) == 0 for size in range(len(whole)))
    assert _http.end_of_head(whole + b"more") == len(whole)
    longest = GET + b"X: " + b"a" * (_http.MOST_HEAD - len(GET) - 7) + b"\r\n\r\n"
    assert _http.end_of_head(longest) == _http.MOST_HEAD
    for data in (b"a" * _http.MOST_HEAD, longest.replace(b"X: ", b"X: a")):
        with pytest.raises(_http.BadRequest, match="more than 16384 bytes"):
            _http.end_of_head(data)


# --- Who asks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("192.0.2.1", "198.51.100.7", ("192.0.2.1", False)),
        ("10.0.0.1", None, ("10.0.0.1", True)),
        ("10.0.0.1", "198.51.100.7", ("198.51.100.7", True)),
        ("10.0.0.1", "203.0.113.9, 198.51.100.7", ("198.51.100.7", True)),
        ("10.0.0.1", "198.51.100.7, 10.0.0.2", ("198.51.100.7", True)),
        ("10.0.0.1", "nonsense, 10.0.0.2", ("10.0.0.2", True)),
        ("10.0.0.1", "::ffff:198.51.100.7", ("198.51.100.7", True)),
        ("10.0.0.1", "[2001:db8::1]", ("2001:db8::1", True)),
        ("unix", "198.51.100.7", ("198.51.100.7", True)),
    ],
    ids=range(9),
)
def test_the_source_behind_trusted_proxies(peer: str, forwarded: str | None, expected: tuple[str, bool]) -> None:
    settings = web(trusted_proxies=["10.0.0.0/8", "unix"])
    headers = {} if forwarded is None else {"x-forwarded-for": forwarded}
    assert _http.client_of(peer, headers, settings) == expected


def test_nobody_is_trusted_by_default() -> None:
    for peer in ("127.0.0.1", "unix", "::1"):
        assert _http.client_of(peer, {"x-forwarded-for": "1.2.3.4"}, web()) == (peer, False)


BY_HEADER = {"users": {"by": ["header"], "header": "X-User"}, "trusted_proxies": ["10.0.0.1"]}


def test_a_header_names_the_user_behind_a_trusted_proxy_alone() -> None:
    settings = web(**BY_HEADER)
    request = head(X_User="bob")
    assert _http.user_of(request, _http.Client("1.2.3.4", True), None, settings) == "bob"
    assert _http.user_of(request, _http.Client("1.2.3.4", False), None, settings) is None
    assert _http.user_of(head(X_User=""), _http.Client("1.2.3.4", True), None, settings) is None
    twice = _http.parse_head(GET + b"X-User: eve\r\nX-User: bob\r\n\r\n")
    assert _http.user_of(twice, _http.Client("1.2.3.4", True), None, settings) is None


def test_a_certificate_counts_where_it_is_configured() -> None:
    assert _http.user_of(head(), _http.Client("1.2.3.4", False), "alice", web(**BY_HEADER)) is None
    by_certificate = web()._replace(users=_config.UserSettings(("certificate",), None))
    assert _http.user_of(head(), _http.Client("1.2.3.4", False), "alice", by_certificate) == "alice"
    assert _http.user_of(head(), _http.Client("1.2.3.4", False), None, by_certificate) is None


@pytest.mark.parametrize(
    ("origin", "origins", "allowed"),
    [
        ("https://proxy.example", ["same_host"], True),
        ("https://proxy.example:443", ["same_host"], True),
        ("HTTPS://Proxy.Example", ["same_host"], True),
        ("https://proxy.example:8443", ["same_host"], False),
        ("https://proxy.example.evil", ["same_host"], False),
        ("https://evil.example", ["same_host"], False),
        ("null", ["same_host"], False),
        ("", ["same_host"], False),
        ("file://proxy.example", ["same_host"], False),
        ("https://proxy.example", ["https://portal.example"], False),
        ("https://portal.example", ["https://portal.example"], True),
        ("http://portal.example", ["https://portal.example"], False),
        ("https://evil.example", ["*"], True),
        ("null", ["*"], True),
        ("https://proxy.example", [], False),
    ],
    ids=range(15),
)
def test_origins(origin: str, origins: list[str], allowed: bool) -> None:
    client = _http.Client("1.2.3.4", False)
    assert _http.origin_allowed(head(Origin=origin), client, web(origins=origins)) is allowed


def test_the_host_that_a_trusted_proxy_was_asked_for_counts() -> None:
    request = head(Origin="https://public.example", X_Forwarded_Host="public.example")
    assert _http.origin_allowed(request, _http.Client("1.2.3.4", True), web())
    assert not _http.origin_allowed(request, _http.Client("1.2.3.4", False), web())


@pytest.mark.parametrize("allowed", [True, False])
def test_clients_without_an_origin(allowed: bool) -> None:
    settings = web(allow_no_origin=allowed)
    assert _http.origin_allowed(head(), _http.Client("1.2.3.4", False), settings) is allowed


# --- Files ------------------------------------------------------------------------------------------------------------


@pytest.fixture(name="folder")
def _folder(tmp_path: Path) -> Path:
    root = tmp_path / "novnc"
    (root / "app").mkdir(parents=True)
    (root / "vnc.html").write_text("<html>")
    (root / "app" / "ui.js").write_text("export {};")
    (root / ".git").mkdir()
    (root / ".git" / "config").write_text("secret")
    (root / ".hidden").write_text("secret")
    (tmp_path / "outside").write_text("secret")
    (tmp_path / "novnc-too").mkdir()
    (tmp_path / "novnc-too" / "secret").write_text("secret")
    (root / "inside-link").symlink_to("app/ui.js")
    (root / "outside-link").symlink_to("../outside")
    (root / "outside-folder").symlink_to("..")
    (root / "sibling").symlink_to("../novnc-too/secret")
    os.mkfifo(root / "pipe")
    return root


def find(folder: Path, path: str, **headers: str) -> _http.Answer | None:
    names = {name.replace("_", "-").lower(): value for name, value in headers.items()}
    found = _http.Files(str(folder), ("same_host",)).find(path, names)
    if found and found.file is not None:
        os.close(found.file)
    return found


def header_of(answer: _http.Answer, name: str) -> str:
    lines = answer.head.decode().split("\r\n")
    return next(line.partition(": ")[2] for line in lines if line.lower().startswith(name.lower() + ":"))


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("vnc.html", "text/html; charset=utf-8"),
        ("app/ui.js", "text/javascript; charset=utf-8"),
        ("app%2Fui.js", "text/javascript; charset=utf-8"),
        ("inside-link", "application/octet-stream"),
    ],
    ids=["html", "js", "encoded", "link"],
)
def test_files_are_served_with_what_browsers_need(folder: Path, path: str, kind: str) -> None:
    found = find(folder, path)
    assert found is not None
    assert found.status == 200
    assert header_of(found, "Content-Type") == kind
    assert header_of(found, "Cache-Control") == "no-cache"
    assert header_of(found, "X-Content-Type-Options") == "nosniff"
    assert header_of(found, "Content-Length") == str(found.size)
    assert header_of(found, "Content-Security-Policy") == "frame-ancestors 'self'"
    assert header_of(found, "Referrer-Policy") == "no-referrer"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "app",
        "app/",
        "none",
        "../outside",
        "app/../../outside",
        "%2e%2e/outside",
        "%2e%2e%2foutside",
        "..%2foutside",
        "%252e%252e/outside",
        "app/..%5c..%5coutside",
        "app\\..\\outside",
        "/etc/passwd",
        "//etc/passwd",
        "%2fetc/passwd",
        "vnc.html%00.js",
        "vnc.html%0a",
        "%ff",
        ".git/config",
        ".hidden",
        "app/./ui.js",
        "outside-link",
        "outside-folder/outside",
        "sibling",
        "pipe",
        "a" * 5000,
    ],
    ids=range(26),
)
def test_nothing_else_is_served(folder: Path, path: str) -> None:
    assert find(folder, path) is None


def test_what_a_browser_has_is_not_sent_again(folder: Path) -> None:
    found = find(folder, "vnc.html")
    assert found is not None
    tag, changed = header_of(found, "ETag"), header_of(found, "Last-Modified")
    for headers in (
        {"If_None_Match": tag},
        {"If_None_Match": f'"other", W/{tag}'},
        {"If_None_Match": "*"},
        {"If_Modified_Since": changed},
    ):
        again = find(folder, "vnc.html", **headers)
        assert again is not None
        assert (again.status, again.file, again.body) == (304, None, b"")
        assert header_of(again, "ETag") == tag
    for headers in (
        {"If_None_Match": '"other"'},
        {"If_None_Match": '"other"', "If_Modified_Since": changed},
        {"If_Modified_Since": "Thu, 01 Jan 1970 00:00:00 GMT"},
        {"If_Modified_Since": "nonsense"},
    ):
        again = find(folder, "vnc.html", **headers)
        assert again is not None
        assert again.status == 200


def test_a_changed_file_has_another_tag(folder: Path) -> None:
    before = find(folder, "vnc.html")
    (folder / "vnc.html").write_text("<html lang=en>")
    after = find(folder, "vnc.html")
    assert before is not None
    assert after is not None
    assert header_of(before, "ETag") != header_of(after, "ETag")


def test_pages_that_may_show_ours() -> None:
    assert _http.framing(("*",)) == ""
    assert "frame-ancestors 'self' https://a.example\r\n" in _http.framing(("same_host", "https://a.example"))
    assert "frame-ancestors 'none'\r\n" in _http.framing(())


# --- noVNC at a console -----------------------------------------------------------------------------------------------


def novnc(base_path: str = "/", **parameters: str) -> _config.NovncSettings:
    return _config.NovncSettings("/n", "vnc.html", parameters, base_path)


def opened_by_novnc(public: str, path: str, token: str | None, settings: _config.NovncSettings) -> list[str]:
    """Return the two URLs that noVNC opens: its own from version 1.6 on, and before."""
    location = _http.console_location(path, token, settings)
    assert location is not None
    page = urljoin(f"https://h{public.rstrip('/')}{path}", location)
    address, _mark, told = page.partition("#")
    assert address == f"https://h{public.rstrip('/')}/novnc/vnc.html"
    values = dict(word.split("=", 1) for word in told.strip("&").split("&"))
    assert values["autoconnect"] == "true"
    wanted = unquote(values["path"])
    return [urljoin(page, wanted), urljoin("https://h/", "/" + wanted)]


@pytest.mark.parametrize("public", ["/", "/vnc", "/a/b/"], ids=["root", "prefix", "deep"])
@pytest.mark.parametrize(
    ("path", "token", "expected"),
    [
        ("/console/web-1", None, "/domain/web-1"),
        ("/console/a%2520b", None, "/domain/a%2520b"),
        ("/console/web-1", "a.b+c/d=", "/domain/web-1?token=a.b%2Bc%2Fd%3D"),
        ("/console/target/appliance", None, "/target/appliance"),
        ("/console", "t", "/console?token=t"),
        ("/console/", "t", "/console?token=t"),
    ],
    ids=["domain", "encoded", "token", "target", "bare", "slash"],
)
def test_novnc_opens_the_console(public: str, path: str, token: str | None, expected: str) -> None:
    base = public.rstrip("/") + "/"
    wanted = f"https://h{base.rstrip('/')}{expected}"
    assert opened_by_novnc(public, path, token, novnc(base)) == [wanted, wanted]


def test_a_token_stays_behind_the_hash() -> None:
    location = _http.console_location("/console/web-1", "secret", novnc(resize="scale"))
    assert location is not None
    assert "secret" not in location.partition("#")[0]
    assert "&resize=scale" in location


@pytest.mark.parametrize("path", ["/console", "/console/", "/console/a/b", "/console/target/a/b", "/console//a"])
def test_what_names_no_console(path: str) -> None:
    assert _http.console_location(path, None, novnc()) is None
