# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""HTTP as far as consoles need it: requests understood, who sent them, and answers made. One request a connection.

Private to this collection.

Nothing here waits or touches a socket. RFC 9110 and RFC 9112 say what a request looks like; whatever leaves room for
two readings is refused, since a proxy in front may have read it in the other one.
"""

from __future__ import annotations

import email.utils
import functools
import ipaddress
import mimetypes
import os
import re
import stat
import time
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote_to_bytes

from ._config import SAME_HOST, Network, NovncSettings, WebSettings

MOST_HEAD = 16 * 1024
"""Bytes of a request's line and headers."""
_MOST_HEADERS = 100
_END = b"\r\n\r\n"


class BadRequest(Exception):
    """What came is no request that is answered here. `status` says how, `sentence` why."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


class Head(NamedTuple):
    """A request without its body. `path` as it came, percent-encoded; `query` decoded; `headers` by lower-case name.

    `repeated`: the headers that came more than once; their values stand joined.
    """

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    repeated: tuple[str, ...] = ()

    @property
    def wants_upgrade(self) -> bool:
        """Whether this asks for a WebSocket."""
        return self.method == "GET" and "websocket" in self.headers.get("upgrade", "").lower()


# --- Requests ---------------------------------------------------------------------------------------------------------

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_TARGET = re.compile(r"/[^\x00-\x20\x7f-\xff#]*")
_ONCE = frozenset(("host", "origin", "content-length", "sec-websocket-key", "sec-websocket-version"))


def end_of_head(data: bytes | bytearray) -> int:
    """Return where the head ends, its empty line included; 0 when more has to come. Raises BadRequest when too long."""
    found = data.find(_END)
    if found < 0 and len(data) < MOST_HEAD:
        return 0
    if found < 0 or found + len(_END) > MOST_HEAD:
        raise BadRequest(431, f"The request's line and headers have more than {MOST_HEAD} bytes.")
    return found + len(_END)


def parse_head(data: bytes) -> Head:
    """Understand a head, its empty line included. Raises BadRequest."""
    line, *lines = data[: -len(_END)].decode("latin-1").split("\r\n")
    words = line.split(" ")
    if len(words) != 3 or words[2] not in ("HTTP/1.1", "HTTP/1.0"):
        raise BadRequest(400, "This is no request of HTTP/1.")
    method, target, _version = words
    if method not in ("GET", "HEAD"):
        raise BadRequest(405, "Only GET is known here.")
    if not _TARGET.fullmatch(target):
        raise BadRequest(400, "The request's target is no path.")
    headers, repeated = _parse_headers(lines)
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        raise BadRequest(413, "A request brings no body here.")
    if words[2] == "HTTP/1.1" and not headers.get("host"):
        raise BadRequest(400, "The request names no host.")
    path, _mark, query = target.partition("?")
    return Head(method, path, _parse_query(query) if query else {}, headers, repeated)


def _parse_headers(lines: list[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    if len(lines) > _MOST_HEADERS:
        raise BadRequest(431, f"The request has more than {_MOST_HEADERS} headers.")
    headers: dict[str, str] = {}
    repeated: list[str] = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise BadRequest(400, "A header of the request is none.")
        name, value = name.lower(), value.strip(" \t")
        if name in headers:
            if name in _ONCE:
                raise BadRequest(400, f"The request has the header {name} twice.")
            repeated.append(name)
            value = f"{headers[name]}, {value}"
        headers[name] = value
    return headers, tuple(repeated)


def _parse_query(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, max_num_fields=50, errors="strict")
    except (ValueError, UnicodeDecodeError):
        raise BadRequest(400, "The request's query can't be read.") from None
    found = dict(pairs)
    if len(found) != len(pairs):
        raise BadRequest(400, "The request's query says the same thing twice.")
    return found


# --- Who asks ---------------------------------------------------------------------------------------------------------


class Client(NamedTuple):
    """Who is at the other end: `source` is an address, or "unix"; `by_proxy`: a trusted proxy brought the request."""

    source: str
    by_proxy: bool


def is_in(source: str, networks: tuple[Network, ...]) -> bool:
    """Whether an address belongs to one of these networks."""
    if not networks:
        return False
    try:
        address = ipaddress.ip_address(source)
    except ValueError:
        return False
    return any(address.version == network.version and address in network for network in networks)


@functools.lru_cache(1024)
def plain_address(text: str) -> str:
    """An address without its zone, and as IPv4 where it is that in disguise; "" for what is none."""
    try:
        address = ipaddress.ip_address(text.strip().strip("[]").partition("%")[0])
    except ValueError:
        return ""
    if address.version == 6 and isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(address)


def client_of(peer: str, headers: dict[str, str], web: WebSettings) -> Client:
    """Return who asks. `peer` is who connected: an address, or "unix".

    Behind trusted proxies it is the last address in X-Forwarded-For that is no such proxy's: what stands before that
    one anybody may have written.
    """
    if not _is_trusted(peer, web):
        return Client(peer, False)
    source = peer
    for word in reversed(headers.get("x-forwarded-for", "").split(",")):
        address = plain_address(word)
        if not address:
            break
        source = address
        if not _is_trusted(source, web):
            break
    return Client(source, True)


def _is_trusted(source: str, web: WebSettings) -> bool:
    return web.trusts_unix if source == "unix" else is_in(source, web.trusted_proxies)


def user_of(head: Head, client: Client, certificate: str | None, web: WebSettings) -> str | None:
    """Return the name of who authenticated, in one of the configured ways but the token; None for nobody."""
    if "certificate" in web.users.by and certificate:
        return certificate
    if web.users.header and client.by_proxy:
        name = web.users.header.lower()
        if name not in head.repeated:
            return head.headers.get(name) or None
    return None


_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def origin_allowed(head: Head, client: Client, web: WebSettings) -> bool:
    """Whether the page that asks may (RFC 6454); without this check, any page in a user's browser could."""
    origin = head.headers.get("origin")
    if origin is None:
        return web.allow_no_origin
    origin = origin.lower()
    if "*" in web.origins or origin in web.origins:
        return True
    scheme, mark, authority = origin.partition("://")
    if SAME_HOST not in web.origins or not mark or scheme not in _DEFAULT_PORTS:
        return False
    host = head.headers.get("host", "")
    if client.by_proxy:
        host = head.headers.get("x-forwarded-host", host)
    port = _DEFAULT_PORTS[scheme]
    return _without(authority, port) == _without(host.lower(), port)


def _without(host: str, port: str) -> str:
    return host[: -len(port)] if host.endswith(port) else host


# --- Answers ----------------------------------------------------------------------------------------------------------


class Answer(NamedTuple):
    """An answer: `head` with its empty line; then `body`, or `size` bytes of the open file `file`."""

    status: int
    head: bytes
    body: bytes = b""
    file: int | None = None
    size: int = 0


_ALWAYS = "Connection: close\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"


def answer(status: int, body: bytes | str = b"", kind: str = "text/plain; charset=utf-8", more: str = "") -> Answer:
    """Make an answer with this body. `more`: further headers, each with its end of line."""
    data = body.encode() if isinstance(body, str) else body
    return Answer(status, _head(status, len(data), kind, more or "Cache-Control: no-store\r\n"), data)


def refusal(status: int, sentence: str) -> Answer:
    """Make an answer that turns a request away."""
    more = "Cache-Control: no-store\r\n"
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        more += "Allow: GET, HEAD\r\n"
    if status == HTTPStatus.UPGRADE_REQUIRED:
        more += "Upgrade: websocket\r\n"
    return answer(status, sentence + "\n", more=more)


def redirect(location: str) -> Answer:
    """Send the browser elsewhere."""
    return answer(302, b"", more=f"Location: {location}\r\nCache-Control: no-store\r\n")


def _head(status: int, size: int | None, kind: str, more: str) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Refused"
    length = "" if size is None else f"Content-Length: {size}\r\nContent-Type: {kind}\r\n"
    date = email.utils.formatdate(usegmt=True)
    return f"HTTP/1.1 {status} {phrase}\r\nDate: {date}\r\n{length}{more}{_ALWAYS}\r\n".encode("latin-1")


# --- noVNC's files ----------------------------------------------------------------------------------------------------

_KINDS = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "ico": "image/vnd.microsoft.icon",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "map": "application/json",
    "md": "text/plain; charset=utf-8",
    "mjs": "text/javascript; charset=utf-8",
    "mp3": "audio/mpeg",
    "oga": "audio/ogg",
    "png": "image/png",
    "svg": "image/svg+xml",
    "ttf": "font/ttf",
    "txt": "text/plain; charset=utf-8",
    "wasm": "application/wasm",
    "wav": "audio/wav",
    "woff": "font/woff",
    "woff2": "font/woff2",
}
"""The kinds of noVNC's files. A browser runs no module whose kind is wrong, so the host's own table can't decide."""


class Files:
    """The files of one directory, and of nowhere else."""

    __slots__ = ("_framing", "_root")

    def __init__(self, directory: str, origins: tuple[str, ...]) -> None:
        self._root = os.path.realpath(directory)
        self._framing = framing(origins)

    def find(self, path: str, headers: dict[str, str]) -> Answer | None:
        """Return the answer for a path below the directory, None when it is not there.

        `path` is percent-encoded, without a slash before it. The answer's file is closed by whoever sends it.
        """
        name = _plain_path(path)
        if name is None:
            return None
        try:
            number = os.open(os.path.join(self._root, name), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            found = os.fstat(number)
            # Where the file is, as the kernel knows it: whatever links led there.
            real = os.readlink(f"/proc/self/fd/{number}")
            if not stat.S_ISREG(found.st_mode) or not real.startswith(self._root + "/"):
                os.close(number)
                return None
        except BaseException:
            os.close(number)
            raise
        return self._answer(name, number, found, headers)

    def _answer(self, name: str, number: int, found: os.stat_result, headers: dict[str, str]) -> Answer:
        tag = f'"{found.st_mtime_ns:x}-{found.st_size:x}-{found.st_ino:x}"'
        changed = email.utils.formatdate(int(found.st_mtime), usegmt=True)
        more = f"ETag: {tag}\r\nLast-Modified: {changed}\r\nCache-Control: no-cache\r\n{self._framing}"
        if _is_known(tag, int(found.st_mtime), headers):
            os.close(number)
            return Answer(304, _head(304, None, "", more))
        return Answer(200, _head(200, found.st_size, kind_of(name), more), b"", number, found.st_size)


def framing(origins: tuple[str, ...]) -> str:
    """The header that says which pages may show ours inside of theirs: those that may open consoles."""
    if "*" in origins:
        return ""
    allowed = " ".join("'self'" if origin == SAME_HOST else origin for origin in origins) or "'none'"
    return f"Content-Security-Policy: frame-ancestors {allowed}\r\n"


def kind_of(name: str) -> str:
    """The Content-Type of a file."""
    ending = name.rpartition(".")[2].lower()
    return _KINDS.get(ending) or mimetypes.guess_type(name, strict=True)[0] or "application/octet-stream"


def _plain_path(path: str) -> str | None:
    """Decode a path; None for one that has hidden parts, leads elsewhere or can't be a file's."""
    try:
        name = unquote_to_bytes(path).decode("utf-8")
    except UnicodeDecodeError:
        return None
    if not name.isprintable() or "\\" in name:
        return None
    return name if all(part and part[0] != "." for part in name.split("/")) else None


def _is_known(tag: str, changed: int, headers: dict[str, str]) -> bool:
    """Whether the browser has it already (RFC 9110, 13.1.2 and 13.1.3)."""
    tags = headers.get("if-none-match")
    if tags is not None:
        return tags.strip() == "*" or tag in [word.strip().removeprefix("W/") for word in tags.split(",")]
    since = headers.get("if-modified-since")
    if since is None:
        return False
    try:
        return email.utils.parsedate_to_datetime(since).timestamp() >= changed
    except (TypeError, ValueError, OverflowError, IndexError):
        return False


# --- noVNC at a console -----------------------------------------------------------------------------------------------


def console_location(path: str, token: str | None, novnc: NovncSettings) -> str | None:
    """Return where /console/<domain>, /console/target/<name> or /console leads: to noVNC, and on from there.

    What noVNC is told stands behind the `#`: that reaches no server, so no log keeps the token. Its `path` climbs up
    from noVNC's page first; versions before 1.6 begin at the root instead, where there is nothing to climb.
    """
    words = path.strip("/").split("/")[1:]
    if len(words) > 2 or (len(words) == 2 and words[0] != "target") or not all(words):
        return None
    if not words and token is None:
        return None
    way = "/".join(words if len(words) == 2 else ["domain", *words] if words else ["console"])
    base = novnc.base_path.strip("/")
    climb = "../" * (base.count("/") + 2 if base else 1)
    target = climb + (f"{base}/" if base else "") + way
    if token is not None:
        target += f"?token={quote(token, safe='')}"
    told = {"autoconnect": "true", **novnc.parameters, "path": target}
    settings = "".join(f"&{name}={quote(value, safe='')}" for name, value in told.items())
    return "../" * (path.count("/") - 1) + f"novnc/{novnc.page}#{settings}"


def uptime_line(since: float, sessions: int, *, draining: bool) -> str:
    """What /healthz says."""
    state = "draining" if draining else "ok"
    return f"{state}\nsessions {sessions}\nseconds {int(time.monotonic() - since)}\n"
