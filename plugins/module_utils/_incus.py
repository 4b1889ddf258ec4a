# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Talks to Incus over its REST API: by unix socket, or by HTTPS with a client certificate.

Private to this collection.

- `unix`, `https`: the way to a server. `find_socket`: where this host's own is.
- `Client`: the server, its projects and instances, a screenshot, an operation followed to its end.
- `Machine`: a virtual machine, to be switched on and off.

Built on requests, which every distribution packages. It knows no unix sockets, and the library that teaches it
(requests-unixsocket) is not packaged everywhere and breaks with new releases of requests; an adapter takes a few lines.

What Incus answers was seen on 6.0.4 and 7.0.2. A status of 200 promises nothing: neither that a screenshot is a picture
(see `_picture`) nor that an operation went well (see `Client.follow`).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import ssl
import threading
import time
import traceback
import typing as t
from urllib.parse import quote, urlencode, urlsplit

from ansible_collections.kvmops.console.plugins.module_utils import _image, _power
from ansible_collections.kvmops.console.plugins.module_utils._errors import (
    ConsoleError,
    ImageError,
    IncusError,
    IncusRefused,
    IncusUnreachable,
    InputError,
    MissingLibrary,
    TookTooLong,
)
from ansible_collections.kvmops.console.plugins.module_utils._image import Rectangle
from ansible_collections.kvmops.console.plugins.module_utils._power_drive import Answer

if t.TYPE_CHECKING:
    from types import TracebackType

try:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.connection import HTTPConnection
    from urllib3.connectionpool import HTTPConnectionPool
except ImportError:
    REQUESTS_TRACEBACK: str | None = traceback.format_exc()
    HTTPAdapter = HTTPConnection = HTTPConnectionPool = object  # type: ignore[assignment,misc]
else:
    REQUESTS_TRACEBACK = None

SCREENSHOT = "instance_console_screenshot"
"""The API extension; without it Incus does not know `type=vga` and answers with a text console. In 6.0.3 and 6.8."""

PORT = 8443
"""Where Incus listens for HTTPS."""

# shared/api/status_code.go
SUCCESS = 200
STOPPED, ERROR = "Stopped", "Error"

NO_UUID = "00000000-0000-0000-0000-000000000000"
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")

CAPTURE_KEY = "user.kvmops.console.capture"
"""In an instance's configuration, or a profile's: anything that is not true means that nobody may see its screen."""
MASK_KEY = "user.kvmops.console.mask"
"""Likewise: `X,Y,WIDTH,HEIGHT` of a rectangle in pixels that nobody may see; more of them after semicolons."""

MOST_JSON = 64 * 1024 * 1024
"""Bytes of an answer: some ten thousand instances with all that is known of them."""
MOST_PICTURE = 256 * 1024 * 1024
"""Bytes of a screenshot: more than the largest picture that _image looks at."""
LONGEST_SOCKET = 107
"""Bytes of a unix socket's path (sun_path of unix(7), less its end)."""
_MOST_WORDS = 300
"""Characters of what a server says that are shown to people."""

RACE_PAUSE = 0.1
"""Seconds before a screenshot is asked for again when another client's request got in the way; one takes 20 ms."""
WAIT_MARGIN = 5.0
"""Seconds that an answer to a wait may come late."""


# --- Ways to a server -------------------------------------------------------------------------------------------------


class Way(t.NamedTuple):
    """How to reach a server. `name` is for people and has no secret; `base` is what paths are put after."""

    name: str
    base: str
    socket_path: str | None = None
    client: tuple[str, str] | None = None
    """Files of the client's certificate and key."""
    fingerprint: str | None = None
    """SHA-256 of the only certificate (DER) that the server may show."""
    ca_path: str | None = None


def find_socket(environment: t.Mapping[str, str]) -> str:
    """Where Incus's own client looks for the socket, by these variables (client/connection.go)."""
    named = environment.get("INCUS_SOCKET")
    if named:
        return named
    folder = environment.get("INCUS_DIR")
    if not folder:
        folder = "/run/incus" if os.path.lexists("/run/incus/unix.socket") else "/var/lib/incus"
    return os.path.join(folder, "unix.socket")


def unix(path: str) -> Way:
    """Over a unix socket of this host. Raises InputError."""
    if len(os.fsencode(path)) > LONGEST_SOCKET:
        raise InputError(
            f"socket_path has more than the {LONGEST_SOCKET} bytes that the path of a unix socket may have: make a"
            " shorter symbolic link to its folder."
        )
    return Way(path, "http://incus", socket_path=path)


def https(
    url: str,
    client_cert: str | None,
    client_key: str | None,
    *,
    server_cert: str | None = None,
    fingerprint: str | None = None,
    ca_path: str | None = None,
) -> Way:
    """Over HTTPS, with the files of a client certificate and its key.

    The server has to show the certificate in the file `server_cert`, or the one with `fingerprint`; without either, one
    that the authorities in the file `ca_path` (or the system's) vouch for. Raises InputError.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or PORT
    except ValueError:
        host, port = None, PORT
    if not host or parts.scheme != "https" or parts.username is not None or parts.path.strip("/") or parts.query:
        raise InputError("url is the server's address, as https://HOST or https://HOST:PORT, and nothing else.")
    if not (client_cert and client_key):
        raise InputError("Over HTTPS Incus knows people by certificate: set client_cert and client_key.")
    for option, path in (("client_cert", client_cert), ("client_key", client_key), ("ca_path", ca_path)):
        if path is not None:
            _read_file(option, path)
    if server_cert is not None:
        fingerprint = _fingerprint_of(server_cert)
    elif fingerprint is not None:
        fingerprint = _plain_fingerprint(fingerprint)
    address = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
    return Way(address, address, client=(client_cert, client_key), fingerprint=fingerprint, ca_path=ca_path)


def _read_file(option: str, path: str) -> bytes:
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError as e:
        raise InputError(f"{option} cannot be read: {path}: {e.strerror}.") from e


def _plain_fingerprint(text: str) -> str:
    plain = text.replace(":", "").strip().lower()
    if not re.fullmatch(r"[0-9a-f]{64}", plain):
        raise InputError(
            "fingerprint is the whole SHA-256 of the server's certificate, 64 hexadecimal digits: `incus info` shows it"
            " on the server."
        )
    return plain


def _fingerprint_of(path: str) -> str:
    """Of the first certificate in a PEM file."""
    found = re.search(
        r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----",
        _read_file("server_cert", path).decode("ascii", "replace"),
        re.DOTALL,
    )
    try:
        if found is None:
            raise ValueError("no certificate")
        certificate = ssl.PEM_cert_to_DER_cert(found[0])
        if not certificate.startswith(b"\x30"):  # a SEQUENCE of DER
            raise ValueError("not DER")
        return hashlib.sha256(certificate).hexdigest()
    except ValueError as e:
        raise InputError(f"server_cert has no certificate in PEM form: {path}.") from e


# --- HTTP -------------------------------------------------------------------------------------------------------------


class _UnixConnection(HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("incus")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _UnixPool(HTTPConnectionPool):
    """Connections to one unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("incus")
        self._path = path

    def _new_conn(self) -> _UnixConnection:
        return _UnixConnection(self._path)


class _UnixAdapter(HTTPAdapter):
    """Leads requests to a unix socket, whatever host they name."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._pool = _UnixPool(path)

    def get_connection(self, url: t.Any, proxies: t.Any = None) -> t.Any:
        """requests up to 2.31."""
        return self._pool

    def get_connection_with_tls_context(self, *args: t.Any, **kwargs: t.Any) -> t.Any:
        """requests from 2.32 on."""
        return self._pool

    def close(self) -> None:
        self._pool.close()
        super().close()


class _PinnedAdapter(HTTPAdapter):
    """Talks to a server that shows one certificate and to no other; urllib3 compares before it sends anything."""

    def __init__(self, fingerprint: str) -> None:
        self._fingerprint = fingerprint
        super().__init__()

    def init_poolmanager(self, *args: t.Any, **kwargs: t.Any) -> None:
        super().init_poolmanager(*args, assert_fingerprint=self._fingerprint, **kwargs)


class _Answer(t.NamedTuple):
    status: int
    content_type: str
    data: bytes
    """Empty where nobody will look at it."""


def _open(way: Way) -> requests.Session:
    session = requests.Session()
    # Neither a proxy nor a password file nor other authorities: the options say everything.
    session.trust_env = False
    session.headers.update({"User-Agent": "kvmops.console", "Accept-Encoding": "identity"})
    if way.socket_path is not None:
        session.mount(way.base, _UnixAdapter(way.socket_path))
        return session
    session.cert = way.client
    session.verify = way.ca_path or True
    if way.fingerprint is not None:
        session.verify = False
        session.mount(way.base, _PinnedAdapter(way.fingerprint))
    return session


def _unreachable(way: Way, error: BaseException, seconds: float) -> ConsoleError:
    """What a failed request means, in one sentence; `error` is requests' or, while a body is read, urllib3's."""
    causes = list(_causes(error))
    if any(isinstance(cause, (requests.exceptions.Timeout, socket.timeout)) for cause in causes):
        return _no_answer(way, seconds)
    words = " ".join(str(cause) for cause in causes)
    if isinstance(error, requests.exceptions.SSLError):
        return IncusUnreachable(f"Incus at {way.name} cannot be trusted, or does not trust us: {_tls_reason(words)}")
    reason = next((cause for cause in causes if isinstance(cause, OSError) and cause.strerror), None)
    if way.socket_path is not None and isinstance(reason, FileNotFoundError):
        return IncusUnreachable(
            f"There is no Incus at {way.name}: start it, or set socket_path (or url, for another host's)."
        )
    if way.socket_path is not None and isinstance(reason, PermissionError):
        return IncusUnreachable(
            f"Incus at {way.name} is not open to this user: become root, or a member of the group incus-admin."
        )
    why = reason.strerror if reason is not None else "the connection broke off"
    return IncusUnreachable(f"Incus at {way.name} cannot be reached: {why}.")


def _no_answer(way: Way, seconds: float) -> TookTooLong:
    return TookTooLong(f"Incus at {way.name} did not answer within {seconds:g} s.")


def _causes(error: BaseException) -> t.Iterator[BaseException]:
    """An error and what it came of, as requests and urllib3 hide it: in `args`, `reason` and `__context__`."""
    waiting = [error]
    seen: set[int] = set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inner = [*one.args, getattr(one, "reason", None), one.__cause__, one.__context__]
        waiting += [part for part in inner if isinstance(part, BaseException)]


def _tls_reason(words: str) -> str:
    if "ingerprint" in words:
        return (
            "it shows another certificate than the one that was given as server_cert or fingerprint; make sure that it"
            " is your server before you give the new one."
        )
    if "encrypted" in words or "password is required" in words:
        return "client_key is encrypted, which Incus's own keys are not; give a key without a passphrase."
    if "doesn't match" in words or "ostname mismatch" in words or "IP address mismatch" in words:
        return "its certificate is for another name; set server_cert or fingerprint, which need none."
    if "CERTIFICATE_VERIFY_FAILED" in words:
        return "nobody known vouches for its certificate; set server_cert, fingerprint or ca_path."
    if "KEY_VALUES_MISMATCH" in words or "PEM" in words:
        return "client_cert and client_key are no certificate and key that belong together."
    return "the TLS handshake failed; see that url leads to Incus's HTTPS port."


class NotFound(IncusRefused):
    """The server has no such thing, or none that we may see."""


# --- The server -------------------------------------------------------------------------------------------------------


class Server(t.NamedTuple):
    """What a server says of itself. `version` and `fingerprint` are empty where we are not trusted."""

    trusted: bool
    version: str
    extensions: frozenset[str]
    fingerprint: str


class Instance(t.NamedTuple):
    """A virtual machine or a container, as the server lists it. `pool` is that of its root disk, "" where unknown.

    `capture` and `masks`: what its owner lets others see of its screen. `ephemeral`: Incus deletes it when it stops.
    """

    name: str
    project: str
    uuid: str
    is_vm: bool
    status: str
    pool: str = ""
    capture: bool = True
    masks: tuple[Rectangle, ...] = ()
    ephemeral: bool = False


def state_path(instance: Instance) -> str:
    """Where its state is read, and changed."""
    return f"/1.0/instances/{quote(instance.name, safe='')}/state"


class Client:
    """A client of one server; its methods may be called from many threads. Use it with `with`.

    `timeout`: seconds for each request. Every method raises IncusError and those below it.
    """

    def __init__(self, way: Way, timeout: float) -> None:
        require_requests()
        self.way = way
        self.timeout = timeout
        # requests does not promise that threads may share a session.
        self._own = threading.local()
        self._sessions: list[requests.Session] = []

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for session in self._sessions:
            session.close()

    def server(self) -> Server:
        """What the server says of itself. Raises IncusRefused when it does not know us."""
        told = self.get("/1.0")
        environment = told.get("environment") or {}
        server = Server(
            told.get("auth") == "trusted",
            str(environment.get("server_version", "")),
            frozenset(told.get("api_extensions") or ()),
            str(environment.get("certificate_fingerprint", "")),
        )
        if not server.trusted:
            raise IncusRefused(
                f"Incus at {self.way.name} does not know this client: have its certificate trusted with `incus config"
                " trust add-certificate`."
            )
        return server

    def projects(self) -> list[str]:
        """The names of the projects that we may see."""
        return sorted(str(project["name"]) for project in self.get("/1.0/projects", recursion=1))

    def instances(self, project: str) -> list[Instance]:
        """The instances of a project; of one that is not there, none (as seen on 6.0.4)."""
        return [_instance(told) for told in self.get("/1.0/instances", recursion=1, project=project)]

    def status(self, instance: Instance) -> str:
        """Its status in Incus's words: Running, Stopped, Frozen, Error, ..."""
        return str(self.state(instance)["status"])

    def state(self, instance: Instance) -> dict[str, t.Any]:
        """All that Incus tells of its state."""
        return dict(self.get(state_path(instance), project=instance.project))

    def is_stateful(self, instance: Instance) -> bool:
        """Whether its memory lies on the disk, to go on from at its next start."""
        path = f"/1.0/instances/{quote(instance.name, safe='')}"
        return bool(self.get(path, project=instance.project).get("stateful"))

    def screenshot(self, instance: Instance) -> bytes:
        """A PNG, whole, of what a virtual machine shows.

        Raises NotRunning where there is nothing to show. Incus 7 and some before it write every screenshot of a machine
        to the same file: see to it that this host asks for one at a time; a collision with another host's request is
        tried once more.
        """
        path = f"/1.0/instances/{quote(instance.name, safe='')}/console"
        for last in (False, True):
            answer = self._request("GET", path, {"type": "vga", "project": instance.project}, most=MOST_PICTURE)
            try:
                return _picture(answer, instance, self.way.name)
            except _Collision as e:
                if last:
                    raise IncusError(
                        f"Incus gave no whole screenshot of {instance.name} twice in a row ({e}): another client asks"
                        " for the same screen all the time; let one of them ask less often."
                    ) from e
                time.sleep(RACE_PAUSE)
        raise AssertionError("not reached")

    def follow(self, method: str, path: str, body: t.Any, seconds: float, **query: t.Any) -> bool:
        """Send a request that starts an operation, and wait for its end.

        True: it ended well. False: it is over and forgotten (Incus remembers for 5 s), so the caller has to look at
        what it was to bring about. Raises IncusRefused when it failed, TookTooLong when it still goes on.
        """
        deadline = time.monotonic() + seconds
        operation = self.begin(method, path, body, **query)
        if operation is None:
            return True
        ended = self.ended(operation, max(0.0, deadline - time.monotonic()))
        if ended is None:
            raise TookTooLong(f"Incus at {self.way.name} took longer than {seconds:g} s for {method} {path}.")
        return ended

    def begin(self, method: str, path: str, body: t.Any, **query: t.Any) -> str | None:
        """Send a request that starts an operation; the operation, None where all was done at once."""
        operation = self._json(self._request(method, path, query, body=body), f"{method} {path}").get("operation")
        if not operation:
            return None
        if not re.fullmatch(r"/1\.0/operations/[0-9a-f-]{36}", str(operation)):
            raise IncusError(f"Incus at {self.way.name} named an operation that is none: {_words(operation)}.")
        return str(operation)

    def ended(self, operation: str, seconds: float) -> bool | None:
        """How an operation ended, as follow() tells it; None when it goes on after `seconds`, and up to one more.

        Raises IncusRefused when it failed.
        """
        deadline = time.monotonic() + seconds
        answer = self._request("GET", f"{operation}/wait", {"timeout": int(seconds) + 1}, wait=seconds + 1)
        if answer.status == 404:
            return False
        told = _load(answer.data)
        # 6.0.4 tells of a failure as an error under status 200, 7.0.2 as an operation that failed.
        if told.get("type") == "error":
            if time.monotonic() >= deadline and self._goes_on(operation):
                return None
            raise IncusRefused(f"Incus at {self.way.name} failed: {_words(told.get('error'))}.")
        state = told.get("metadata") or {}
        if state.get("status_code") == SUCCESS:
            return True
        if not _is_over(state):
            return None
        raise IncusRefused(f"Incus at {self.way.name} failed: {_words(state.get('err') or state.get('status'))}.")

    def get(self, path: str, **query: t.Any) -> t.Any:
        """The metadata of a GET's answer. Raises IncusRefused for an error."""
        return self._json(self._request("GET", path, query), f"GET {path}").get("metadata")

    def _goes_on(self, operation: str) -> bool:
        answer = self._request("GET", operation, {})
        return answer.status == 200 and not _is_over(_load(answer.data).get("metadata") or {})

    def _json(self, answer: _Answer, doing: str) -> dict[str, t.Any]:
        told = _load(answer.data)
        if answer.status < 400 and told.get("type") != "error" and told:
            return told
        raise _refusal(self.way.name, doing, answer.status, told.get("error"))

    def _session(self) -> requests.Session:
        if not hasattr(self._own, "session"):
            self._own.session = _open(self.way)
            self._sessions.append(self._own.session)
        return t.cast("requests.Session", self._own.session)

    def _request(
        self,
        method: str,
        path: str,
        query: t.Mapping[str, t.Any],
        *,
        body: t.Any = None,
        most: int = MOST_JSON,
        wait: float = 0.0,
    ) -> _Answer:
        """One request and its whole answer, at most `most` bytes, in our time and `wait` more."""
        seconds = self.timeout + (wait + WAIT_MARGIN if wait else 0.0)
        deadline = time.monotonic() + seconds
        url = f"{self.way.base}{path}" + (f"?{urlencode(query)}" if query else "")
        try:
            with self._session().request(
                method, url, json=body, timeout=(self.timeout, seconds), stream=True, allow_redirects=False
            ) as response:
                kind = response.headers.get("Content-Type", "").split(";")[0].strip().lower()
                if kind not in ("application/json", "image/png"):
                    # A text console, which may be long and which nobody asked for.
                    return _Answer(response.status_code, kind, b"")
                return _Answer(response.status_code, kind, self._body(response, most, deadline, seconds))
        except (requests.exceptions.RequestException, OSError) as e:
            raise _unreachable(self.way, e, seconds) from e

    def _body(self, response: requests.Response, most: int, deadline: float, seconds: float) -> bytes:
        data = bytearray()
        for part in response.iter_content(65536):
            data += part
            if len(data) > most:
                raise IncusError(f"Incus at {self.way.name} sent more than {most} bytes, which nobody asked for.")
            if time.monotonic() > deadline:
                raise _no_answer(self.way, seconds)
        # requests before 2.32 does not look whether all has come.
        if len(data) < int(response.headers.get("Content-Length") or 0) and "Content-Encoding" not in response.headers:
            raise IncusUnreachable(f"Incus at {self.way.name} cannot be reached: the connection broke off.")
        return bytes(data)


def require_requests() -> None:
    """Raise MissingLibrary unless requests is there."""
    if REQUESTS_TRACEBACK is not None:
        raise MissingLibrary("Talking to Incus needs requests: install python3-requests on the host that talks to it.")


def _instance(told: t.Mapping[str, t.Any]) -> Instance:
    devices = told.get("expanded_devices") or {}
    roots = [device for device in devices.values() if device.get("type") == "disk" and device.get("path") == "/"]
    config = told.get("expanded_config") or {}
    # It becomes part of a path.
    uid = str(config.get("volatile.uuid", ""))
    capture, masks = _privacy(config)
    return Instance(
        str(told["name"]),
        str(told.get("project") or "default"),
        uid if _UUID.fullmatch(uid) else NO_UUID,
        told.get("type") == "virtual-machine",
        str(told.get("status")),
        str(roots[0].get("pool", "")) if roots else "",
        capture,
        masks,
        bool(told.get("ephemeral")),
    )


def _privacy(config: t.Mapping[str, t.Any]) -> tuple[bool, tuple[Rectangle, ...]]:
    """A mask that cannot be understood hides everything, since somebody wants it hidden."""
    capture = str(config.get(CAPTURE_KEY, "true")).lower() in ("true", "1", "yes", "on")
    try:
        masks = tuple(
            Rectangle(*map(int, words.split(",")))
            for words in str(config.get(MASK_KEY, "")).split(";")
            if words.strip()
        )
    except (TypeError, ValueError):
        return False, ()
    return capture, masks


def _is_over(state: t.Mapping[str, t.Any]) -> bool:
    """Whether an operation has ended (shared/api/status_code.go: 200 and above are final)."""
    return int(state.get("status_code") or 0) >= SUCCESS


def _load(data: bytes) -> dict[str, t.Any]:
    try:
        told = json.loads(data)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _words(said: t.Any) -> str:
    """What a server says, fit to stand in a sentence."""
    text = " ".join(str(said).split()).rstrip(".")
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= _MOST_WORDS else text[:_MOST_WORDS] + "..."


def _refusal(name: str, doing: str, status: int, error: t.Any) -> IncusError:
    if error is None:
        return IncusError(
            f"What answers {doing} at {name} with status {status} is not Incus: check url or socket_path."
        )
    refused = NotFound if status == 404 else IncusRefused
    return refused(f"Incus at {name} refused {doing}: {_words(error)}.")


# --- Power ------------------------------------------------------------------------------------------------------------

POWERS = {
    "Running": _power.ON,
    "Ready": _power.ON,
    "Stopping": _power.STOPPING,
    "Frozen": _power.PAUSED,
    ERROR: _power.CRASHED,
    STOPPED: _power.OFF,
}
"""What a status means; in any other, such as Starting, nothing is done yet."""

ACPI = "acpi"
"""The method that asks a guest."""

_ACTIONS = {
    ACPI: "stop",
    _power.FORCE: "stop",
    _power.SAVE: "stop",
    _power.START: "start",
    _power.PAUSE: "freeze",
    _power.RESUME: "unfreeze",
}

_OUT_OF_TIME = "context deadline exceeded"

_LOOK_AGAIN = 0.5
"""Seconds before a machine is looked at again for which no operation is under way."""


class Machine:
    """A virtual machine to be switched, as _power_drive wants it: `look`, `request`, `wait`.

    `budgets`: by method, how many seconds Incus itself gives the guest. `saves`: whether to look for saved memory.
    `trouble` says why it could not be read last.
    """

    def __init__(self, client: Client, instance: Instance, budgets: t.Mapping[str, float], saves: bool = False) -> None:
        self.trouble: str | None = None
        self._client = client
        self._instance = instance
        self._budgets = budgets
        self._saves = saves
        self._pending: tuple[_power.Request, str] | None = None

    def look(self) -> _power.Observation:
        """What it does now."""
        try:
            state = self._client.state(self._instance)
            is_off = POWERS.get(str(state.get("status"))) == _power.OFF
            saved = is_off and self._saves and self._client.is_stateful(self._instance)
        except NotFound:
            self.trouble = None
            return _power.Observation(_power.OFF)
        except (IncusError, TookTooLong) as e:
            self.trouble = str(e)
            return _power.Observation(_power.UNKNOWN)
        status = str(state.get("status"))
        self.trouble = None if status in POWERS else f"its status is {status}."
        power = POWERS.get(status, _power.UNKNOWN)
        running = state.get("pid") and power != _power.OFF
        return _power.Observation(power, f"{state['pid']} {state.get('started_at')}" if running else None, saved=saved)

    def request(self, request: _power.Request) -> Answer | None:
        """Have it begun. Whether a request was heard whose answer did not come will be seen."""
        self._pending = None
        seconds = max(1, round(self._budgets.get(request.method, self._client.timeout)))
        body = {
            "action": _ACTIONS[request.method],
            "timeout": seconds,
            "force": request.method == _power.FORCE,
        }
        try:
            # A start that says nothing of the memory that was saved throws it away (driver_qemu.go, start).
            saved = request.method == _power.START and self._client.is_stateful(self._instance)
            if saved or request.method == _power.SAVE:
                body["stateful"] = True
            operation = self._client.begin("PUT", state_path(self._instance), body, project=self._instance.project)
        except (IncusUnreachable, TookTooLong):
            return Answer(request)
        if operation is None:
            return Answer(request)
        self._pending = (request, operation)
        return None

    def wait(self, seconds: float) -> str | Answer | None:
        """How the operation that is under way ends; it is not asked for again after that."""
        if self._pending is None:
            time.sleep(min(seconds, _LOOK_AGAIN))
            return _power.CHANGED
        request, operation = self._pending
        try:
            ended = self._client.ended(operation, seconds)
        except IncusRefused as e:
            self._pending = None
            # That the guest did not listen in its time is no refusal.
            return Answer(request, None if _OUT_OF_TIME in str(e) else str(e))
        except (IncusError, TookTooLong):
            # It may be found out about when the server is back; should it be over by then, the state tells.
            time.sleep(min(seconds, _LOOK_AGAIN))
            return _power.CHANGED
        if ended is None:
            return None
        self._pending = None
        return Answer(request)


# --- Screenshots ------------------------------------------------------------------------------------------------------


class NotRunning(IncusError):
    """There is nothing to show: the machine is off, broken, or only just starting."""


class _Collision(Exception):
    """Another request for the same screen got in the way."""


def _picture(answer: _Answer, instance: Instance, server: str) -> bytes:
    """The PNG in the answer to a request for a screenshot.

    Incus answers 200 with the text console's log, or with nothing, for a machine that is off; 200 with an empty or
    torn picture, or one of two 500s, when two requests for one machine meet (Incus 6.0.6, 6.19 and later); 500 where
    Debian's 6.0.4 keeps QEMU from writing the file.
    """
    if answer.status == 200 and answer.content_type == "image/png":
        try:
            _image.check_png(answer.data)
        except ImageError as e:
            raise _Collision(f"a picture of {len(answer.data)} bytes") from e
        return answer.data
    if answer.status == 200:
        raise NotRunning(f"Incus has no picture of {instance.name}: it is off, or only just starting.")
    error = str(_load(answer.data).get("error", ""))
    if "/tmp/incus_screenshot_" in error:
        raise _Collision(_words(error))
    closed = re.search(r"'(/[^']*)/virtual-machines/[^/']+/screenshot-[^']*': Permission denied", error)
    if closed is not None:
        folder = f"{closed[1]}/storage-pools/{instance.pool or 'POOL'}/virtual-machines"
        raise IncusError(
            f"Incus cannot write the screenshot of {instance.name}: QEMU may not enter the folder of its storage pool,"
            " a known fault of Debian's Incus 6.0.4 (https://github.com/lxc/incus/issues/2708); upgrade Incus to 6.0.6"
            f" or later, or run `chmod 711 {folder}` on its server."
        )
    raise _refusal(server, f"a screenshot of {instance.name}", answer.status, error or None)
