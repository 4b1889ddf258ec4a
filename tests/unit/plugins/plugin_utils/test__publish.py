# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import base64
import socket
import threading
import typing as t
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError, InputError
from ansible_collections.kvmops.console.plugins.plugin_utils import _publish
from ansible_collections.kvmops.console.plugins.plugin_utils._publish import File, Server

TOKEN = "t0ken-of-nobody"
SECRET = Server({"Authorization": f"Bearer {TOKEN}"})


class Request(t.NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    data: bytes


class Place(HTTPServer):
    """A web server that takes what it is sent, or answers with `status`."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.status = 201
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    """Keeps every request."""

    server: Place

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append(Request(self.command, self.path, dict(self.headers), data))
        self.send_response(self.server.status, "signature sesame is wrong")
        if 300 <= self.server.status < 400:
            self.send_header("Location", f"{self.server.url}/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_PUT

    def log_message(self, format: str, *args: object) -> None:
        """To nobody."""


@pytest.fixture
def place() -> Iterator[Place]:
    with Place() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def wall(tmp_path: Path) -> Path:
    folder = tmp_path / "wall"
    for name in ("index.html", "wall.json", "machines/hv 1/web-1.html", "pictures/hv 1/web-1.png", ".tmp", ".git/x"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, encoding="utf-8")
    return folder


def test_folder_is_everything_below_it_and_nothing_twice(wall: Path) -> None:
    found = _publish.collect([f"{wall}/wall.json", str(wall)], str(wall))
    assert [file.name for file in found] == [
        "wall.json",
        "index.html",
        "machines/hv 1/web-1.html",
        "pictures/hv 1/web-1.png",
    ]
    assert all(Path(file.path).read_text(encoding="utf-8") == file.name for file in found)


def test_file_elsewhere_has_its_own_name(wall: Path, tmp_path: Path) -> None:
    (tmp_path / "metrics.prom").touch()
    (found,) = _publish.collect([f"{tmp_path}/metrics.prom"], str(wall))
    assert found == File(f"{tmp_path}/metrics.prom", "metrics.prom")
    (alone,) = _publish.collect([f"{wall}/machines/hv 1/web-1.html"], None)
    assert alone.name == "web-1.html"


def test_what_cannot_be_meant(wall: Path, tmp_path: Path) -> None:
    (tmp_path / "index.html").touch()
    with pytest.raises(InputError, match="would both be published as index"):
        _publish.collect([f"{tmp_path}/index.html", f"{wall}/index.html"], None)
    with pytest.raises(InputError, match="nowhere is to be published and is not there"):
        _publish.collect([f"{tmp_path}/nowhere"], None)
    with pytest.raises(InputError, match="by http or https, not by s3"):
        _publish.is_url("s3://bucket/")


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("https://h/a/", "https://h/a/machines/hv%201/x.html"),
        ("https://h/", "https://h/machines/hv%201/x.html"),
        ("https://h/a/?sv=1&sig=s%2F", "https://h/a/machines/hv%201/x.html?sv=1&sig=s%2F"),
        ("https://h/a/b.html?X-Amz-Signature=s", "https://h/a/b.html?X-Amz-Signature=s"),
    ],
    ids=["folder", "top", "shared-access", "presigned"],
)
def test_targets(url: str, where: str) -> None:
    assert _publish.target(url, "machines/hv 1/x.html") == where


def test_url_of_one_file_takes_the_first_alone() -> None:
    files = [File("/w/index.html", "index.html"), File("/w/wall.json", "wall.json")]
    assert _publish.chosen(files, "https://bucket.example.com/wall.html?sig=1") == files[:1]
    assert _publish.chosen(files, "https://bucket.example.com/walls/?sig=1") == files
    assert _publish.chosen(files, "/mnt/wall") == files


def test_addresses_tell_no_secret() -> None:
    assert _publish.address("https://user:sesame@h:8443/a/b?sig=sesame#sesame") == "https://h:8443/a/b"


def test_folder_gets_what_is_new(wall: Path, tmp_path: Path) -> None:
    there = str(tmp_path / "there")
    (wall / "index.html").chmod(0o640)
    files = _publish.collect([str(wall)], None)
    assert all(_publish.differs(file, there) for file in files)
    for file in files:
        _publish.copy(file, there)
    assert not any(_publish.differs(file, there) for file in files)
    copy = tmp_path / "there/machines/hv 1/web-1.html"
    assert copy.read_text(encoding="utf-8") == "machines/hv 1/web-1.html"
    assert (tmp_path / "there/index.html").stat().st_mode & 0o777 == 0o640
    (wall / "index.html").write_text("new", encoding="utf-8")
    assert [file.name for file in files if _publish.differs(file, there)] == ["index.html"]


def test_put(place: Place, wall: Path) -> None:
    files = _publish.collect([str(wall)], None)
    server = Server({**SECRET.headers, "x-ms-blob-type": "BlockBlob"})
    told = [_publish.put(file, f"{place.url}/walls/?sig=sesame", server) for file in files]
    assert [(request.method, request.path, request.data.decode()) for request in place.requests] == [
        ("PUT", "/walls/index.html?sig=sesame", "index.html"),
        ("PUT", "/walls/wall.json?sig=sesame", "wall.json"),
        ("PUT", "/walls/machines/hv%201/web-1.html?sig=sesame", "machines/hv 1/web-1.html"),
        ("PUT", "/walls/pictures/hv%201/web-1.png?sig=sesame", "pictures/hv 1/web-1.png"),
    ]
    headers = [{name.lower(): value for name, value in request.headers.items()} for request in place.requests]
    assert [each["content-type"] for each in headers] == [
        "text/html; charset=utf-8",
        "application/json",
        "text/html; charset=utf-8",
        "image/png",
    ]
    assert {(each["authorization"], each["x-ms-blob-type"]) for each in headers} == {(f"Bearer {TOKEN}", "BlockBlob")}
    assert told[2] == f"{place.url}/walls/machines/hv%201/web-1.html"


def test_user_of_the_url(place: Place, wall: Path) -> None:
    url = place.url.replace("//", "//me:sesame@") + "/report.html"
    assert _publish.put(File(f"{wall}/index.html", "index.html"), url, Server({})) == f"{place.url}/report.html"
    (request,) = place.requests
    assert request.headers["Authorization"] == "Basic " + base64.b64encode(b"me:sesame").decode()


@pytest.mark.parametrize(
    ("status", "said"), [(403, "403 Forbidden"), (307, "307 Temporary Redirect"), (303, "303 See Other"), (599, "599")]
)
def test_refusal_names_the_place_and_no_secret(place: Place, wall: Path, status: int, said: str) -> None:
    place.status = status
    url = place.url.replace("//", "//me:sesame@") + "/walls/?sig=sesame"
    with pytest.raises(ConsoleError) as caught:
        _publish.put(File(f"{wall}/index.html", "index.html"), url, Server({"X-Key": TOKEN}))
    assert str(caught.value) == f"{place.url}/walls/index.html did not take the file: the server says {said}."
    assert caught.value.__suppress_context__
    assert len(place.requests) == 1, "a redirect is not followed: what is secret goes nowhere else"


def test_nobody_there(wall: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/walls/?sig=sesame"
        with pytest.raises(ConsoleError, match=r"walls/index.html could not be reached: .*[Rr]efused") as caught:
            _publish.put(File(f"{wall}/index.html", "index.html"), url, SECRET)
    assert "sesame" not in str(caught.value)


def test_no_header_smuggles_or_tells(place: Place, wall: Path) -> None:
    with pytest.raises(ConsoleError) as caught:
        _publish.put(
            File(f"{wall}/index.html", "index.html"), f"{place.url}/", Server({"X-Key": "sesame\r\nX-Other: 1"})
        )
    assert "sesame" not in str(caught.value)
    assert place.requests == []
