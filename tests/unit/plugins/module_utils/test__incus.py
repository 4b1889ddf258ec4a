# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Talking to Incus: a scripted server, on a unix socket and over HTTPS, answers as the real ones were seen to."""

from __future__ import annotations

import contextlib
import datetime as dt
import gzip
import ipaddress
import json
import os
import socket
import socketserver
import ssl
import struct
import threading
import zlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, Callable, NamedTuple, Optional, Union

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ansible_collections.kvmops.console.plugins.module_utils import _incus, _power, _power_drive
from ansible_collections.kvmops.console.plugins.module_utils._errors import (
    IncusError,
    IncusRefused,
    IncusUnreachable,
    InputError,
    MissingLibrary,
    TookTooLong,
)
from ansible_collections.kvmops.console.plugins.module_utils._image import Rectangle
from ansible_collections.kvmops.console.plugins.module_utils._incus import Client, Instance, NotRunning, Way
from ansible_collections.kvmops.console.plugins.module_utils._power import Observation, Request

UUID = "d65ab792-3a02-4077-a202-9c7edf3bcf61"
VM = Instance("vm1", "default", UUID, True, "Running", "fast")
OPERATION = "/1.0/operations/2cdabbc1-7e78-45bc-bb97-53e418805e1f"
STATE = "/1.0/instances/vm1/state"
CONSOLE = "/1.0/instances/vm1/console"


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


PNG = (
    b"\x89PNG\r\n\x1a\n"
    + chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0))
    + chunk(b"IDAT", zlib.compress(b"\0\0\0\0"))
    + chunk(b"IEND", b"")
)


# --- The scripted server ----------------------------------------------------------------------------------------------


class Reply(NamedTuple):
    """What the server answers. `length` is what it claims; None: the truth."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    length: Optional[int] = None
    headers: tuple[tuple[str, str], ...] = ()


def sync(metadata: Any, status: int = 200) -> Reply:
    body = {"type": "sync", "status": "Success", "status_code": status, "error_code": 0, "metadata": metadata}
    return Reply(200, json.dumps(body).encode())


def refused(status: int, sentence: str, *, http: Optional[int] = None) -> Reply:
    body = {"type": "error", "status_code": 0, "error_code": status, "error": sentence, "metadata": None}
    return Reply(http or status, json.dumps(body).encode())


def operation(status: int, err: str = "") -> Reply:
    name = {103: "Running", 200: "Success", 400: "Failure"}[status]
    return sync({"id": OPERATION[-36:], "class": "task", "status": name, "status_code": status, "err": err})


STARTED = Reply(202, json.dumps({"type": "async", "status_code": 100, "operation": OPERATION}).encode())
PICTURE = Reply(200, PNG, "image/png")
EMPTY = Reply(200, b"", "image/png")

Answer = Union[Reply, Callable[[], Reply]]


class Script(socketserver.ThreadingMixIn):
    """Answers the requests in turn, and remembers them as (method, target, body)."""

    daemon_threads = True
    block_on_close = False

    def begin(self) -> None:
        self.answers: list[Answer] = []
        self.asked: list[tuple[str, str, Any]] = []
        self.headers: list[dict[str, str]] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that break off are part of the tests."""


class UnixScript(Script, socketserver.UnixStreamServer):
    pass


class TcpScript(Script, socketserver.TCPServer):
    pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Any

    def reply(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append((self.command, self.path, json.loads(body) if body else None))
        self.server.headers.append(dict(self.headers))
        answer = self.server.answers.pop(0)
        reply = answer() if callable(answer) else answer
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        self.send_header("Content-Length", str(len(reply.body) if reply.length is None else reply.length))
        for name, value in reply.headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(reply.body)
        if reply.length is not None:
            self.close_connection = True

    do_GET = do_PUT = do_POST = reply

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def serving(server: Any) -> Iterator[Any]:
    server.begin()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def script(tmp_path: Path) -> Iterator[Any]:
    with serving(UnixScript(str(tmp_path / "unix.socket"), Handler)) as server:
        yield server


@pytest.fixture
def client(script: Any) -> Iterator[Client]:
    with Client(_incus.unix(script.server_address), 20.0) as client:
        yield client


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_incus, "RACE_PAUSE", 0.0)


# --- Requests ---------------------------------------------------------------------------------------------------------


def test_server(client: Client, script: Any) -> None:
    environment = {"server_version": "6.0.4", "certificate_fingerprint": "ab" * 32}
    script.answers = [
        sync({"auth": "trusted", "api_extensions": ["one", _incus.SCREENSHOT], "environment": environment})
    ]
    server = client.server()
    assert server == _incus.Server(True, "6.0.4", frozenset({"one", _incus.SCREENSHOT}), "ab" * 32)
    assert script.asked == [("GET", "/1.0", None)]
    assert script.headers[0]["User-Agent"] == "kvmops.console"


def test_server_that_does_not_know_us(client: Client, script: Any) -> None:
    script.answers = [sync({"auth": "untrusted", "api_extensions": [_incus.SCREENSHOT]})]
    with pytest.raises(IncusRefused, match=r"does not know this client: .* `incus config trust add-certificate`"):
        client.server()


def listed(name: str = "vm1", **more: Any) -> dict[str, Any]:
    devices = {"eth0": {"type": "nic"}, "root": {"type": "disk", "path": "/", "pool": "fast"}}
    config = {"volatile.uuid": UUID, **more.pop("config", {})}
    told = {"name": name, "project": "default", "type": "virtual-machine", "status": "Running"}
    return {**told, "expanded_config": config, "expanded_devices": devices, **more}


def test_instances(client: Client, script: Any) -> None:
    box = {"name": "box", "project": "default", "type": "container", "status": "Stopped"}
    script.answers = [sync([listed(), box])]
    assert client.instances("a b&c") == [
        VM,
        Instance("box", "default", _incus.NO_UUID, False, "Stopped"),
    ]
    assert script.asked == [("GET", "/1.0/instances?recursion=1&project=a+b%26c", None)]


@pytest.mark.parametrize(
    ("config", "capture", "masks"),
    [
        ({}, True, ()),
        ({"user.kvmops.console.capture": "no"}, False, ()),
        ({"user.kvmops.console.capture": "True"}, True, ()),
        ({"user.kvmops.console.capture": "perhaps"}, False, ()),
        (
            {"user.kvmops.console.mask": "1,2,3,4; 50,60,7,8;"},
            True,
            (Rectangle(1, 2, 3, 4), Rectangle(50, 60, 7, 8)),
        ),
        ({"user.kvmops.console.mask": "1,2,3"}, False, ()),
        ({"user.kvmops.console.mask": "top"}, False, ()),
    ],
)
def test_what_the_owner_lets_others_see(
    client: Client, script: Any, config: dict[str, str], capture: bool, masks: tuple[Rectangle, ...]
) -> None:
    script.answers = [sync([listed(config=config)])]
    (instance,) = client.instances("default")
    assert (instance.capture, instance.masks) == (capture, masks)


@pytest.mark.parametrize("uid", ["", "../../etc", UUID + "/..", UUID + "\n", UUID.upper(), "d65ab792"])
def test_a_uuid_that_is_none_becomes_no_part_of_a_path(client: Client, script: Any, uid: str) -> None:
    script.answers = [sync([listed(config={"volatile.uuid": uid})])]
    assert client.instances("default")[0].uuid == _incus.NO_UUID


def test_projects(client: Client, script: Any) -> None:
    script.answers = [sync([{"name": "web"}, {"name": "default"}])]
    assert client.projects() == ["default", "web"]


def test_status(client: Client, script: Any) -> None:
    script.answers = [sync({"status": "Frozen", "status_code": 110})]
    assert client.status(VM._replace(name="../x", project="p")) == "Frozen"
    assert script.asked == [("GET", "/1.0/instances/..%2Fx/state?project=p", None)]


def test_a_refusal_is_told_in_the_servers_words(client: Client, script: Any) -> None:
    script.answers = [refused(404, 'Failed to fetch project "nope":\n Project not found'), refused(403, "x" * 1000)]
    with pytest.raises(IncusRefused, match=r'refused GET /1\.0/instances: .* "nope": Project not found\.$'):
        client.instances("nope")
    with pytest.raises(IncusRefused) as long:
        client.instances("nope")
    assert len(str(long.value)) < 500


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, b"<html>Welcome to nginx!</html>", "text/html"),
        Reply(200, b"[]"),
        Reply(200, b"not JSON"),
        Reply(502, b"", "text/plain"),
        Reply(302, b"", headers=(("Location", "/elsewhere"),)),
    ],
)
def test_what_is_not_incus_is_told(client: Client, script: Any, reply: Reply) -> None:
    script.answers = [reply]
    with pytest.raises(IncusError, match="is not Incus: check url or socket_path"):
        client.server()
    # A redirect is not followed.
    assert len(script.asked) == 1


def test_an_answer_has_a_bound(client: Client, script: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_incus, "MOST_PICTURE", 1000)
    bomb = Reply(200, gzip.compress(b"x" * 5000), "image/png", headers=(("Content-Encoding", "gzip"),))
    script.answers = [bomb]
    with pytest.raises(IncusError, match="sent more than 1000 bytes"):
        client.screenshot(VM)


def test_an_answer_that_breaks_off(client: Client, script: Any) -> None:
    script.answers = [PICTURE._replace(length=len(PNG) + 1)]
    with pytest.raises(IncusUnreachable, match="cannot be reached: the connection broke off"):
        client.screenshot(VM)


def test_a_server_that_never_answers(script: Any) -> None:
    never = threading.Event()

    def hang() -> Reply:
        never.wait(60)
        return PICTURE

    script.answers = [hang]
    try:
        with (
            Client(_incus.unix(script.server_address), 0.2) as client,
            pytest.raises(TookTooLong, match=r"did not answer within 0\.2 s"),
        ):
            client.screenshot(VM)
    finally:
        never.set()


def test_a_server_that_sends_drop_by_drop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Each drop comes in time; all together do not.
    monkeypatch.setattr(_incus, "MOST_PICTURE", 1 << 23)
    path = str(tmp_path / "slow.socket")
    stop = threading.Event()

    def drip() -> None:
        connection, _address = listener.accept()
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: 1000000000000\r\n\r\n")
            while not stop.wait(0.001):
                connection.sendall(b"x" * 8192)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        thread = threading.Thread(target=drip)
        thread.start()
        try:
            with Client(_incus.unix(path), 0.3) as client, pytest.raises(TookTooLong):
                client.screenshot(VM)
        finally:
            stop.set()
            thread.join()


def test_no_socket(tmp_path: Path) -> None:
    with (
        Client(_incus.unix(str(tmp_path / "none")), 5.0) as client,
        pytest.raises(IncusUnreachable, match=r"There is no Incus at .*/none: start it, or set socket_path"),
    ):
        client.server()


def test_nobody_listens(tmp_path: Path) -> None:
    path = str(tmp_path / "left")
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    with (
        Client(_incus.unix(path), 5.0) as client,
        pytest.raises(IncusUnreachable, match="cannot be reached: Connection refused"),
    ):
        client.server()


def test_a_socket_that_is_not_ours(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(_incus._UnixConnection, "connect", denied)
    with pytest.raises(IncusUnreachable, match=r"not open to this user: become root, or a member of .* incus-admin"):
        client.server()


def test_threads_have_their_own_sessions(client: Client, script: Any) -> None:
    meet = threading.Barrier(4)

    def together() -> Reply:
        meet.wait(20)
        return sync({"status": "Running"})

    script.answers = [together] * 4
    seen: list[str] = []
    threads = [threading.Thread(target=lambda: seen.append(client.status(VM))) for _turn in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert seen == ["Running"] * 4
    assert len(client._sessions) == 4


def test_without_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_incus, "REQUESTS_TRACEBACK", "Traceback: no requests")
    with pytest.raises(MissingLibrary, match="install python3-requests"):
        Client(_incus.unix("/x"), 1.0)


# --- Ways -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environment", "path"),
    [
        ({"INCUS_SOCKET": "/a", "INCUS_DIR": "/b"}, "/a"),
        ({"INCUS_DIR": "/b"}, "/b/unix.socket"),
        ({}, "/var/lib/incus/unix.socket"),
    ],
)
def test_find_socket(environment: dict[str, str], path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "lexists", lambda _path: False)
    assert _incus.find_socket(environment) == path


def test_find_socket_in_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "lexists", lambda path: path == "/run/incus/unix.socket")
    assert _incus.find_socket({}) == "/run/incus/unix.socket"


def test_a_socket_path_has_a_length() -> None:
    assert _incus.unix("x" * 107).name == "x" * 107
    with pytest.raises(InputError, match="more than the 107 bytes"):
        _incus.unix("x" * 108)


class Pair(NamedTuple):
    """A certificate and its key, as files, and its fingerprint."""

    cert: str
    key: str
    fingerprint: str


def make_pair(folder: Path, name: str, *, passphrase: bytes = b"") -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = dt.datetime.now(dt.timezone.utc)
    names = x509.SubjectAlternativeName(
        [x509.DNSName(name)] + ([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))] if name == "server" else [])
    )
    cert = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    lock: Any = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
    (folder / f"{name}.crt").write_bytes(cert.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(private)
    return Pair(str(folder / f"{name}.crt"), str(folder / f"{name}.key"), cert.fingerprint(hashes.SHA256()).hex())


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    folder = tmp_path_factory.mktemp("pki")
    return {name: make_pair(folder, name) for name in ("server", "client", "other", "elsewhere")}


@contextlib.contextmanager
def https_server(pair: Pair, known: Pair) -> Iterator[tuple[Any, str]]:
    """A server that shows `pair` and lets `known` in, and its URL."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    context.load_verify_locations(known.cert)
    context.verify_mode = ssl.CERT_REQUIRED
    server = TcpScript(("127.0.0.1", 0), Handler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    with serving(server):
        yield server, f"https://127.0.0.1:{server.server_address[1]}"


TRUSTED = sync({"auth": "trusted"})


@pytest.mark.parametrize("how", ["server_cert", "fingerprint", "ca_path"])
def test_https(pki: dict[str, Pair], how: str) -> None:
    value = pki["server"].fingerprint.upper() if how == "fingerprint" else pki["server"].cert
    with https_server(pki["server"], pki["client"]) as (server, url):
        server.answers = [TRUSTED]
        way = _incus.https(url, pki["client"].cert, pki["client"].key, **{how: value})
        with Client(way, 20.0) as client:
            assert client.server().trusted
    assert way.name == url


@pytest.mark.parametrize("how", ["server_cert", "fingerprint"])
def test_a_pinned_certificate_may_be_for_another_name(pki: dict[str, Pair], how: str) -> None:
    pair = pki["elsewhere"]
    with https_server(pair, pki["client"]) as (server, url):
        server.answers = [TRUSTED]
        value = pair.fingerprint if how == "fingerprint" else pair.cert
        way = _incus.https(url, pki["client"].cert, pki["client"].key, **{how: value})
        with Client(way, 20.0) as client:
            assert client.server().trusted


@pytest.mark.parametrize(
    ("shown", "trust", "sentence"),
    [
        ("other", {"server_cert": "server"}, "shows another certificate than the one that was given"),
        ("other", {"fingerprint": "server"}, "shows another certificate than the one that was given"),
        ("other", {"ca_path": "server"}, "nobody known vouches for its certificate"),
        ("server", {}, "nobody known vouches for its certificate"),
        ("elsewhere", {"ca_path": "elsewhere"}, "its certificate is for another name"),
    ],
)
def test_a_server_that_cannot_be_trusted_gets_no_request(
    pki: dict[str, Pair], shown: str, trust: dict[str, str], sentence: str
) -> None:
    options = {how: pki[who].fingerprint if how == "fingerprint" else pki[who].cert for how, who in trust.items()}
    with https_server(pki[shown], pki["client"]) as (server, url):
        way = _incus.https(url, pki["client"].cert, pki["client"].key, **options)
        with Client(way, 20.0) as client, pytest.raises(IncusUnreachable, match=sentence):
            client.server()
        assert server.asked == []


def test_a_key_that_is_another_certificates(pki: dict[str, Pair]) -> None:
    with https_server(pki["server"], pki["client"]) as (_server, url):
        way = _incus.https(url, pki["client"].cert, pki["other"].key, server_cert=pki["server"].cert)
        with Client(way, 20.0) as client, pytest.raises(IncusUnreachable, match="no certificate and key that belong"):
            client.server()


def test_an_encrypted_key(pki: dict[str, Pair], tmp_path: Path) -> None:
    locked = make_pair(tmp_path, "locked", passphrase=b"geheim")
    with https_server(pki["server"], pki["client"]) as (_server, url):
        way = _incus.https(url, locked.cert, locked.key, server_cert=pki["server"].cert)
        with Client(way, 20.0) as client, pytest.raises(IncusUnreachable, match="client_key is encrypted"):
            client.server()


def test_the_environment_leads_nowhere_else(pki: dict[str, Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", pki["server"].cert)
    with https_server(pki["server"], pki["client"]) as (server, url):
        server.answers = [TRUSTED]
        way = _incus.https(url, pki["client"].cert, pki["client"].key, server_cert=pki["server"].cert)
        with Client(way, 20.0) as client:
            assert client.server().trusted
        way = _incus.https(url, pki["client"].cert, pki["client"].key)
        with Client(way, 20.0) as client, pytest.raises(IncusUnreachable, match="nobody known vouches"):
            client.server()


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://incus", "https://incus:8443"),
        ("https://incus:443/", "https://incus:443"),
        ("https://[2001:db8::1]", "https://[2001:db8::1]:8443"),
    ],
)
def test_url(pki: dict[str, Pair], url: str, name: str) -> None:
    way = _incus.https(url, pki["client"].cert, pki["client"].key)
    assert way == Way(name, name, client=(pki["client"].cert, pki["client"].key))


@pytest.mark.parametrize(
    "url",
    ["incus", "http://incus", "https://", "https://x:99999", "https://[x", "https://a/b", "https://me:geheim@a"],
)
def test_a_url_that_is_none(pki: dict[str, Pair], url: str) -> None:
    with pytest.raises(InputError) as error:
        _incus.https(url, pki["client"].cert, pki["client"].key)
    assert str(error.value) == "url is the server's address, as https://HOST or https://HOST:PORT, and nothing else."


def test_https_wants_a_certificate(pki: dict[str, Pair]) -> None:
    with pytest.raises(InputError, match="set client_cert and client_key"):
        _incus.https("https://incus", None, None)


@pytest.mark.parametrize("option", ["client_cert", "client_key", "ca_path", "server_cert"])
def test_a_file_that_cannot_be_read(pki: dict[str, Pair], option: str) -> None:
    options: dict[str, Any] = {"client_cert": pki["client"].cert, "client_key": pki["client"].key, option: "/none"}
    with pytest.raises(InputError, match=rf"{option} cannot be read: /none: No such file or directory\."):
        _incus.https("https://incus", **options)


@pytest.mark.parametrize("fingerprint", ["", "ab", "ab" * 31, "xy" * 32])
def test_a_fingerprint_that_is_none(pki: dict[str, Pair], fingerprint: str) -> None:
    with pytest.raises(InputError, match="64 hexadecimal digits"):
        _incus.https("https://incus", pki["client"].cert, pki["client"].key, fingerprint=fingerprint)


def test_fingerprints_may_have_colons(pki: dict[str, Pair]) -> None:
    way = _incus.https("https://incus", pki["client"].cert, pki["client"].key, fingerprint=":".join(["AB"] * 32))
    assert way.fingerprint == "ab" * 32


@pytest.mark.parametrize(
    "text", ["", "no PEM", "-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----", "\udcff\0"]
)
def test_a_server_cert_that_is_none(pki: dict[str, Pair], tmp_path: Path, text: str) -> None:
    path = tmp_path / "server.crt"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InputError, match="server_cert has no certificate in PEM form"):
        _incus.https("https://incus", pki["client"].cert, pki["client"].key, server_cert=str(path))


# --- Screenshots ------------------------------------------------------------------------------------------------------

OLD_RACE = refused(
    500, "Failed taking screenshot: GenericError: Could not create '/tmp/incus_screenshot_1': Permission denied"
)
NEW_RACE = refused(500, "Couldn't create screenshot file: open /tmp/incus_screenshot_1: file exists")
TORN = Reply(200, PNG[:-6], "image/png")


def test_screenshot(client: Client, script: Any) -> None:
    script.answers = [PICTURE]
    assert client.screenshot(VM._replace(project="p")) == PNG
    assert script.asked == [("GET", f"{CONSOLE}?type=vga&project=p", None)]


@pytest.mark.parametrize("first", [EMPTY, TORN, OLD_RACE, NEW_RACE])
def test_a_collision_is_tried_once_more(client: Client, script: Any, first: Reply) -> None:
    script.answers = [first, PICTURE]
    assert client.screenshot(VM) == PNG
    assert len(script.asked) == 2


@pytest.mark.parametrize(
    ("second", "words"),
    [(EMPTY, "a picture of 0 bytes"), (TORN, f"a picture of {len(PNG) - 6} bytes"), (NEW_RACE, "file exists")],
)
def test_and_not_a_third_time(client: Client, script: Any, second: Reply, words: str) -> None:
    script.answers = [OLD_RACE, second, PICTURE]
    with pytest.raises(IncusError, match=f"no whole screenshot of vm1 twice in a row .*{words}") as error:
        client.screenshot(VM)
    assert not isinstance(error.value, NotRunning)
    assert len(script.asked) == 2


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, b"SeaBIOS (version 1.16.2)\nlogin: root\n", "application/octet-stream"),
        Reply(200, b"", "application/json"),
    ],
)
def test_what_is_no_picture_means_a_machine_that_is_off(client: Client, script: Any, reply: Reply) -> None:
    script.answers = [reply]
    with pytest.raises(NotRunning, match="no picture of vm1: it is off, or only just starting") as error:
        client.screenshot(VM)
    assert "login" not in str(error.value)
    assert len(script.asked) == 1


def test_a_text_console_is_not_even_read(client: Client, script: Any) -> None:
    # It claims to be endless, and is not waited for.
    script.answers = [Reply(200, b"x", "application/octet-stream", length=1 << 40)]
    with pytest.raises(NotRunning):
        client.screenshot(VM)


@pytest.mark.parametrize(("pool", "folder"), [("fast", "fast"), ("", "POOL")])
def test_the_fault_of_debians_package(client: Client, script: Any, pool: str, folder: str) -> None:
    path = "/var/lib/incus/virtual-machines/web_vm1/screenshot-2002084137.png"
    script.answers = [refused(500, f"Failed taking screenshot: failed to open file '{path}': Permission denied")]
    with pytest.raises(IncusError) as error:
        client.screenshot(VM._replace(pool=pool))
    assert "upgrade Incus to 6.0.6 or later" in str(error.value)
    assert f"`chmod 711 /var/lib/incus/storage-pools/{folder}/virtual-machines`" in str(error.value)
    # Each try leaves an empty file on the server.
    assert len(script.asked) == 1


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (refused(404, "Instance not found"), "refused a screenshot of vm1: Instance not found"),
        (refused(500, "Failed taking screenshot: monitor gone"), "Failed taking screenshot: monitor gone"),
        (Reply(500, b"Internal Server Error", "text/plain"), "is not Incus"),
    ],
)
def test_other_refusals_are_told_at_once(client: Client, script: Any, reply: Reply, words: str) -> None:
    script.answers = [reply]
    with pytest.raises(IncusError, match=words):
        client.screenshot(VM)
    assert len(script.asked) == 1


# --- Operations -------------------------------------------------------------------------------------------------------

BODY = {"action": "stop", "timeout": 30, "force": False}


def test_follow(client: Client, script: Any) -> None:
    script.answers = [STARTED, operation(200)]
    assert client.follow("PUT", STATE, BODY, 30.0, project="p")
    assert script.asked == [
        ("PUT", f"{STATE}?project=p", BODY),
        ("GET", f"{OPERATION}/wait?timeout=30", None),
    ]


def test_follow_what_was_done_at_once(client: Client, script: Any) -> None:
    script.answers = [sync({})]
    assert client.follow("PUT", STATE, BODY, 30.0)


def test_follow_what_is_forgotten(client: Client, script: Any) -> None:
    script.answers = [STARTED, refused(404, "Operation not found")]
    assert not client.follow("PUT", STATE, BODY, 30.0)


@pytest.mark.parametrize(
    "failure",
    [
        refused(500, "The instance is already stopped", http=200),
        refused(400, "The instance is already stopped"),
        operation(400, "The instance is already stopped"),
    ],
)
def test_follow_to_a_failure(client: Client, script: Any, failure: Reply) -> None:
    script.answers = [STARTED, failure]
    with pytest.raises(IncusRefused, match="failed: The instance is already stopped"):
        client.follow("PUT", STATE, BODY, 30.0)


def test_follow_what_is_refused(client: Client, script: Any) -> None:
    script.answers = [refused(400, "Unknown action: 'bogus'")]
    with pytest.raises(IncusRefused, match=r"refused PUT .*: Unknown action: 'bogus'"):
        client.follow("PUT", STATE, BODY, 30.0)


@pytest.mark.parametrize(
    "answers",
    [[operation(103)], [refused(500, "context deadline exceeded", http=200), operation(103)]],
)
def test_follow_what_takes_too_long(client: Client, script: Any, answers: list[Reply]) -> None:
    script.answers = [STARTED, *answers]
    with pytest.raises(TookTooLong, match="longer than 0 s for PUT"):
        client.follow("PUT", STATE, BODY, 0.0)


def test_follow_what_failed_in_the_last_moment(client: Client, script: Any) -> None:
    failed = refused(500, 'Failed shutting down instance, status is "Running": context deadline exceeded', http=200)
    script.answers = [STARTED, failed, operation(400, "x")]
    with pytest.raises(IncusRefused, match="failed: Failed shutting down instance"):
        client.follow("PUT", STATE, BODY, 0.0)


def test_follow_leads_nowhere_else(client: Client, script: Any) -> None:
    script.answers = [Reply(202, json.dumps({"type": "async", "operation": "/1.0/../../x"}).encode())]
    with pytest.raises(IncusError, match="an operation that is none"):
        client.follow("PUT", STATE, BODY, 30.0)
    assert len(script.asked) == 1


# --- Power ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def machine(client: Client) -> _incus.Machine:
    return _incus.Machine(client, VM._replace(project="p"), {"acpi": 7.0})


def state(status: str, **more: Any) -> Reply:
    return sync({"status": status, **more})


@pytest.mark.parametrize(
    ("status", "power"),
    [
        ("Running", _power.ON),
        ("Ready", _power.ON),
        ("Stopping", _power.STOPPING),
        ("Frozen", _power.PAUSED),
        ("Error", _power.CRASHED),
        ("Stopped", _power.OFF),
        ("Starting", _power.UNKNOWN),
        ("what-is-this", _power.UNKNOWN),
    ],
)
def test_machine_is_seen(machine: _incus.Machine, script: Any, status: str, power: str) -> None:
    script.answers = [state(status, pid=4711, started_at="2026-11-20T12:00:00Z")]
    process = None if power == _power.OFF else "4711 2026-11-20T12:00:00Z"
    assert machine.look() == Observation(power, process)
    assert script.asked == [("GET", f"{STATE}?project=p", None)]
    assert machine.trouble == (f"its status is {status}." if power == _power.UNKNOWN else None)


def test_machine_that_has_no_process(machine: _incus.Machine, script: Any) -> None:
    script.answers = [state("Error", pid=0)]
    assert machine.look() == Observation(_power.CRASHED)


def test_machine_that_was_deleted_is_off(machine: _incus.Machine, script: Any) -> None:
    script.answers = [refused(404, "Instance not found")]
    assert machine.look() == Observation(_power.OFF)


def test_machine_that_cannot_be_read_is_not_known(machine: _incus.Machine, script: Any) -> None:
    script.answers = [refused(500, "Database is down"), state("Running")]
    assert machine.look() == Observation(_power.UNKNOWN)
    assert "Database is down" in str(machine.trouble)
    assert machine.look() == Observation(_power.ON)
    assert machine.trouble is None


@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("acpi", {"action": "stop", "timeout": 7, "force": False}),
        (_power.FORCE, {"action": "stop", "timeout": 20, "force": True}),
        (_power.SAVE, {"action": "stop", "timeout": 20, "force": False, "stateful": True}),
        (_power.PAUSE, {"action": "freeze", "timeout": 20, "force": False}),
        (_power.RESUME, {"action": "unfreeze", "timeout": 20, "force": False}),
    ],
)
def test_request_is_followed_to_its_end(
    machine: _incus.Machine, script: Any, method: str, body: dict[str, Any]
) -> None:
    script.answers = [STARTED, operation(103), operation(200)]
    request = Request(method, 1)
    assert machine.request(request) is None
    assert machine.wait(0.0) is None
    assert machine.wait(30.0) == _power_drive.Answer(request)
    assert script.asked[0] == ("PUT", f"{STATE}?project=p", body)
    assert [path for _method, path, _body in script.asked[1:]] == [
        f"{OPERATION}/wait?timeout=1",
        f"{OPERATION}/wait?timeout=31",
    ]
    assert machine.wait(0.0) == _power.CHANGED, "it is over, and not asked for again"
    assert len(script.asked) == 3


@pytest.mark.parametrize("stateful", [True, False])
def test_start_goes_on_from_what_was_saved(machine: _incus.Machine, script: Any, stateful: bool) -> None:
    script.answers = [sync(listed(stateful=stateful)), STARTED]
    assert machine.request(Request(_power.START, 1)) is None
    body = {"action": "start", "timeout": 20, "force": False, **({"stateful": True} if stateful else {})}
    assert script.asked == [("GET", f"{STATE[:-6]}?project=p", None), ("PUT", f"{STATE}?project=p", body)]


def test_nothing_is_started_whose_saved_memory_is_not_known(machine: _incus.Machine, script: Any) -> None:
    script.answers = [refused(500, "Database is down")]
    with pytest.raises(IncusRefused, match="Database is down"):
        machine.request(Request(_power.START, 1))
    assert [method for method, _path, _body in script.asked] == ["GET"]


def test_saved_memory_is_looked_for_where_it_matters(client: Client, script: Any) -> None:
    machine = _incus.Machine(client, VM, {}, saves=True)
    script.answers = [state("Running"), state("Stopped"), sync(listed(stateful=True)), state("Stopped"), sync(listed())]
    seen = [machine.look() for _time in range(3)]
    assert [(one.power, one.saved) for one in seen] == [("on", False), ("off", True), ("off", False)]
    script.answers = [state("Stopped"), refused(404, "Instance not found")]
    assert machine.look() == Observation(_power.OFF)


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (refused(500, "The instance is already stopped", http=200), "failed: The instance is already stopped."),
        (operation(400, "The instance is already stopped"), "failed: The instance is already stopped."),
        (refused(500, "Failed shutting down: context deadline exceeded", http=200), None),
        (refused(404, "Operation not found"), None),
    ],
)
def test_request_that_fails_later(machine: _incus.Machine, script: Any, failure: Reply, error: Optional[str]) -> None:
    script.answers = [STARTED, failure]
    machine.request(Request("acpi", 1))
    answer = machine.wait(30.0)
    assert isinstance(answer, _power_drive.Answer)
    assert (answer.error is None) == (error is None)
    assert str(answer.error).endswith(error or "None")


def test_request_that_is_refused(machine: _incus.Machine, script: Any) -> None:
    script.answers = [refused(400, "Unknown action")]
    with pytest.raises(IncusRefused, match="Unknown action"):
        machine.request(Request("acpi", 1))


def test_request_that_is_done_at_once(machine: _incus.Machine, script: Any) -> None:
    script.answers = [sync({})]
    assert machine.request(Request("acpi", 1)) == _power_drive.Answer(Request("acpi", 1))


def test_request_whose_answer_is_lost_may_have_been_heard(machine: _incus.Machine, script: Any) -> None:
    script.answers = [Reply(202, b"{", length=100)]
    assert machine.request(Request("acpi", 1)) == _power_drive.Answer(Request("acpi", 1))


def test_wait_that_breaks_is_taken_up_again(machine: _incus.Machine, script: Any) -> None:
    script.answers = [STARTED, Reply(200, b"{", length=100), operation(200)]
    machine.request(Request("acpi", 1))
    assert machine.wait(0.01) == _power.CHANGED
    assert machine.wait(30.0) == _power_drive.Answer(Request("acpi", 1))
