# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a token stands for: websockify's token files and directories, and signed tokens that expire (JWT, RFC 7519).

Private to this collection.

No token, and nothing that stands beside one in a file, is ever in a sentence or a log line.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import heapq
import logging
import math
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from typing import Any, Callable, NamedTuple

from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError, MissingLibrary

from ._config import POWER, JwtSettings
from ._denied import Denied

MOST_TOKEN = 8192
"""Characters of a token in a request."""
MOST_FILE = 4 << 20
"""Bytes of one token file: some 50,000 lines."""
MOST_FILES = 4096
"""Files of a directory of token files."""
MOST_LINE = 4096
"""Bytes of a line."""
_MOST_FILE_NAME = 255
MOST_MISTAKES = 20
"""Bad lines that are told one by one."""
MOST_USED = 100_000
"""Tokens that were used up and have not expired yet. With more of them no other one is taken."""
MOST_KEY = 65536
"""Bytes of a key file."""

_log = logging.getLogger(__name__)


class Place(NamedTuple):
    """Where a VNC server is.

    `kind` "domain": `address` is a libvirt domain's name or UUID; "unix": a socket's path; "tcp": a host, with `port`.
    `name`: what it is called in logs where the address would tell a secret.
    """

    kind: str
    address: str
    port: int = 0
    name: str | None = None


class Claims(NamedTuple):
    """What a signed token allows. `place` or else `target`, a name of the configuration's; `power` and `view_only` can
    only narrow the policy. `subject`: for whom it was made.
    """

    place: Place | None
    target: str | None
    power: str | None
    view_only: bool
    subject: str | None


# --- websockify's token files -----------------------------------------------------------------------------------------


class _Stamp(NamedTuple):
    """What tells one content of a file from another, without reading it."""

    device: int
    inode: int
    size: int
    modified: int
    changed: int

    @classmethod
    def of(cls, found: os.stat_result) -> _Stamp:
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


_SETTLED = 2_000_000_000
"""Nanoseconds after which a file that is changed again gets another time for certain."""


class TokenFiles:
    """websockify's TokenFile plugin: files, or directories of files, with lines `token: host:port`.

    `token: unix_socket:/path` is one, too. Read again when a file has changed. A file that can't be read and a line
    that is none are told in the log, by number and not by content, and cost nobody else his token.
    """

    def __init__(self, paths: tuple[str, ...]) -> None:
        self._paths = paths
        self._stamps: dict[str, _Stamp | None] | None = None
        self._settled = False
        self._places: dict[bytes, Place] = {}

    def find(self, token: str) -> Place | None:
        """Return what the token stands for; None when no file has it."""
        self._refresh()
        return self._places.get(_digest(token.encode("utf-8", "surrogatepass")))

    def _refresh(self) -> None:
        stamps = dict(self._look())
        changed = stamps != self._stamps
        if not changed and self._settled:
            return
        self._settled = _settled(stamps)
        self._stamps = stamps
        places: dict[bytes, Place] = {}
        for path in stamps:
            places.update(_read_token_file(path, _log.warning if changed else _tell_nobody))
        self._places = places

    def _look(self) -> Iterator[tuple[str, _Stamp | None]]:
        """Find each file and what it is like; a later one overrules the earlier ones, as with websockify."""
        for path in self._paths:
            try:
                found = os.stat(path)
                if not stat.S_ISDIR(found.st_mode):
                    yield path, _Stamp.of(found)
                    continue
                yield from _files_of(path)
            except OSError:
                yield path, None


class TokenDirectories:
    """websockify's TokenFileName and UnixDomainSocketDirectory.

    In one of `folders`, a file is named as the token, and holds `host:port` or `unix_socket:/path`. In one of
    `socket_folders`, it is the VNC server's socket that is named so. Only what lies in the folder itself counts, and
    nothing hidden.
    """

    def __init__(self, folders: tuple[str, ...], socket_folders: tuple[str, ...]) -> None:
        self._folders = folders
        self._socket_folders = socket_folders

    def find(self, token: str) -> Place | None:
        """Return what the token stands for; None when nothing is named so."""
        if not token or token.startswith(".") or "/" in token or "\0" in token or len(token) > _MOST_FILE_NAME:
            return None
        with contextlib.suppress(UnicodeError):
            for folder in self._folders:
                place = _read_place(os.path.join(folder, token))
                if place:
                    return place
            for folder in self._socket_folders:
                path = os.path.join(folder, token)
                if _is_socket(path):
                    digest = hashlib.sha256(token.encode()).hexdigest()
                    return Place("unix", path, name=f"{folder}/#{digest[:12]}")
        return None


def _read_place(path: str) -> Place | None:
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            data = file.read(MOST_LINE + 1) if stat.S_ISREG(os.fstat(file.fileno()).st_mode) else b""
    except FileNotFoundError:
        return None
    except OSError as error:  # without the name, which is the token
        _log.warning("A token's file in %s can't be read: %s.", os.path.dirname(path), error.strerror)
        return None
    try:
        place = parse_target(data.decode()) if len(data) <= MOST_LINE else None
    except UnicodeDecodeError:
        place = None
    if not place:
        _log.warning("A token's file in %s holds no 'host:port'.", os.path.dirname(path))
    return place


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False


def _files_of(folder: str) -> Iterator[tuple[str, _Stamp]]:
    """Find the files of a directory by name, but for hidden ones, which are editors' own."""
    with os.scandir(folder) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith("."))
    if len(names) > MOST_FILES:
        _log.warning("%s has more than %d files; the others are passed over.", folder, MOST_FILES)
    for name in names[:MOST_FILES]:
        path = os.path.join(folder, name)
        with contextlib.suppress(OSError):  # gone meanwhile
            found = os.stat(path)
            if stat.S_ISREG(found.st_mode):
                yield path, _Stamp.of(found)


def _settled(stamps: Mapping[str, _Stamp | None]) -> bool:
    """Whether every file is old enough that its next change shows in its times, whose steps are some milliseconds."""
    youngest = max((stamp.changed for stamp in stamps.values() if stamp), default=0)
    return time.time_ns() - youngest > _SETTLED


def _digest(token: bytes) -> bytes:
    """Stand for a token: so that neither memory nor the time of a look-up tells it."""
    return hashlib.sha256(token).digest()


def _tell_nobody(_sentence: str, *_words: object) -> None:
    """Stand for the log when the same was told before."""


def _read_token_file(path: str, tell: Callable[..., None]) -> dict[bytes, Place]:
    try:
        with open(path, "rb", opener=_without_waiting) as file:
            data = file.read(MOST_FILE + 1)
    except OSError as error:
        tell("The token file %s can't be read: %s.", path, error.strerror)
        return {}
    if len(data) > MOST_FILE:
        tell("The token file %s has more than %d bytes, and is passed over.", path, MOST_FILE)
        return {}
    places: dict[bytes, Place] = {}
    mistakes = 0
    for number, line in enumerate(data.splitlines(), 1):
        line = line.strip()
        if not line or line.startswith(b"#"):
            continue
        found = _parse_line(line)
        if found:
            places[_digest(found[0])] = found[1]
            continue
        mistakes += 1
        if mistakes <= MOST_MISTAKES:
            tell("The token file %s, line %d: this is no 'token: host:port'.", path, number)
    if mistakes > MOST_MISTAKES:
        tell("The token file %s has %d more such lines.", path, mistakes - MOST_MISTAKES)
    return places


def _without_waiting(path: str, flags: int) -> int:
    """Open what may have become a pipe since we looked, which must not hold us up."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


_SEPARATOR = re.compile(rb":\s+")


def _parse_line(line: bytes) -> tuple[bytes, Place] | None:
    if len(line) > MOST_LINE:
        return None
    parts = _SEPARATOR.split(line, maxsplit=1)
    if len(parts) != 2 or not parts[0]:
        return None
    try:
        place = parse_target(parts[1].decode())
    except UnicodeDecodeError:
        return None
    return (parts[0], place) if place else None


def parse_target(text: str) -> Place | None:
    """Return the place of `host:port`, `[address]:port` or `unix_socket:/path`; None when it is none of them."""
    host, _colon, port = text.strip().rpartition(":")
    if host == "unix_socket":
        return Place("unix", port) if port.startswith("/") and "\0" not in port else None
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    if not host or re.search(r"[\s\[\]/\0]", host) or not re.fullmatch(r"[0-9]{1,5}", port, re.ASCII):
        return None
    return Place("tcp", host, int(port)) if 0 < int(port) < 65536 else None


# --- Signed tokens ----------------------------------------------------------------------------------------------------

_PARTS = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", re.ASCII)
_LEAST_SECRET = {"HS256": 32, "HS384": 48, "HS512": 64}
"""Bytes: as many as the hash has (RFC 7518, section 3.2)."""


def looks_signed(token: str) -> bool:
    """Whether this has the form of a JWT."""
    return _PARTS.fullmatch(token) is not None


class SignedTokens:
    """Tokens that somebody with the key has signed, and the ones among them that are used up.

    The algorithm is the configuration's: what a token says about it decides nothing. The key is read again when its
    file has changed. `used_file` keeps the tokens that are used up over a restart. Raises MissingLibrary or InputError
    at once when tokens can't be checked here.
    """

    def __init__(
        self, settings: JwtSettings, *, used_file: str | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._jwt = _library()
        self._key: Any = None
        self._stamp: _Stamp | None = None
        self._used = _Used(used_file, clock, settings.leeway_seconds + _GRACE) if settings.single_use else None
        self._clock = clock
        self._load_key()

    def check(self, token: str) -> Claims:
        """Return what the token allows, and use it up when it is good for one session. Raises Denied."""
        if len(token) > MOST_TOKEN:
            raise Denied(401, "The token is longer than any that is taken here.")
        self._refresh_key()
        payload = self._decode(token)
        claims = _claims(payload)
        if self._used:
            self._used.take(payload)
        return claims

    def _decode(self, token: str) -> dict[str, Any]:
        errors = self._jwt.exceptions
        settings = self._settings
        try:
            if "crit" in self._jwt.get_unverified_header(token):  # RFC 7515, section 4.1.11: we know none of them
                raise Denied(401, "The token has critical extensions, which are not known here.")
            payload = self._jwt.decode(
                token,
                self._key,
                algorithms=[settings.algorithm],
                options={"require": ["exp", "jti"] if settings.single_use else ["exp"], "verify_iat": False},
                audience=settings.audience,
                issuer=settings.issuer,
                leeway=settings.leeway_seconds,
            )
        except Denied:
            raise
        except errors.ExpiredSignatureError:
            raise Denied(401, "The token has expired.") from None
        except errors.ImmatureSignatureError:
            raise Denied(401, "The token is not valid yet.") from None
        except errors.MissingRequiredClaimError as error:
            raise Denied(401, f"The token lacks the claim {error.claim}, which is required here.") from None
        except errors.InvalidAudienceError:
            raise Denied(401, "The token was made for another audience.") from None
        except errors.InvalidIssuerError:
            raise Denied(401, "The token was made by another issuer.") from None
        except errors.InvalidAlgorithmError:
            raise Denied(401, f"The token is not signed with {settings.algorithm}.") from None
        except Exception:  # whatever a stranger's bytes make of a parser  # pylint: disable=broad-exception-caught
            raise Denied(401, "The token's signature does not fit, or it is no token.") from None
        return self._with_a_life(dict(payload))

    def _with_a_life(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Check what the library leaves open: what kind of number the times are, and how long a token may live."""
        for name in ("exp", "nbf"):
            if name in payload and not _is_time(payload[name]):
                raise Denied(401, f"The token's claim {name} is no time.")
        most = self._settings.most_seconds
        if most is not None and payload["exp"] - self._clock() > most + self._settings.leeway_seconds:
            raise Denied(401, f"The token lives longer than the {most:g} seconds that are accepted here.")
        return payload

    # The key

    def _refresh_key(self) -> None:
        try:
            stamp = _Stamp.of(os.stat(self._settings.key))
        except OSError:
            return  # in the middle of being replaced: the last one holds
        if stamp == self._stamp:
            return
        try:
            self._load_key()
        except InputError as error:
            self._stamp = stamp  # told once
            _log.error("%s The key before it still holds.", error)

    def _load_key(self) -> None:
        path, algorithm = self._settings.key, self._settings.algorithm
        try:
            with open(path, "rb") as file:
                stamp = _Stamp.of(os.fstat(file.fileno()))
                data = file.read(MOST_KEY + 1)
        except OSError as error:
            raise InputError(f"The key of the signed tokens, {path}, can't be read: {error.strerror}.") from error
        self._key = self._prepared(data, path, algorithm)
        self._stamp = stamp if _settled({path: stamp}) else None

    def _prepared(self, data: bytes, path: str, algorithm: str) -> Any:
        if algorithm in _LEAST_SECRET:
            data = data.strip()
            if len(data) < _LEAST_SECRET[algorithm]:
                raise InputError(
                    f"{path} is too short: {algorithm} needs a secret of {_LEAST_SECRET[algorithm]} bytes."
                )
        if len(data) > MOST_KEY:
            raise InputError(f"{path} is no key: it has more than {MOST_KEY} bytes.")
        algorithms = self._jwt.algorithms.get_default_algorithms()
        if algorithm not in algorithms:
            raise MissingLibrary(
                f"Tokens signed with {algorithm} need the Python library cryptography: install the package "
                "python3-cryptography (Debian, Ubuntu, Fedora, RHEL, SUSE)."
            )
        try:
            prepared = algorithms[algorithm].prepare_key(data)
        except Exception as error:  # pylint: disable=broad-exception-caught  # cryptography has many
            wanted = "a secret, not a key pair's" if algorithm in _LEAST_SECRET else "a public key in PEM"
            raise InputError(f"{path} is no key for {algorithm}: it has to be {wanted}.") from error
        if hasattr(prepared, "private_bytes"):
            _log.warning("%s is a private key; to check tokens the public one is enough.", path)
            prepared = prepared.public_key()
        return data if algorithm in _LEAST_SECRET else prepared


def _library() -> Any:
    try:
        import jwt
        import jwt.algorithms
        import jwt.exceptions
    except ImportError as error:
        raise MissingLibrary(
            "Signed tokens need the Python library PyJWT: install the package python3-jwt "
            "(Debian, Ubuntu, Fedora, RHEL) or python3-PyJWT (SUSE)."
        ) from error
    return jwt


def _is_time(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0


_WAYS = ("domain", "target", "unix", "host")


def _claims(payload: dict[str, Any]) -> Claims:
    """Return what the claims mean. Raises Denied for what can't be meant."""
    ways = [name for name in _WAYS if payload.get(name) is not None]
    if len(ways) != 1:
        raise Denied(403, "The token has to name one domain, target, unix socket, or host with port.")
    name = payload[ways[0]]
    if not isinstance(name, str) or not name or "\0" in name:
        raise Denied(403, f"The token's claim {ways[0]} is no name.")
    power, view_only, subject = payload.get("power"), payload.get("view_only"), payload.get("sub")
    if power is not None and power not in POWER:
        raise Denied(403, "The token's claim power is none of " + ", ".join(POWER) + ".")
    if view_only is not None and not isinstance(view_only, bool):
        raise Denied(403, "The token's claim view_only is neither true nor false.")
    if subject is not None and not isinstance(subject, str):
        raise Denied(403, "The token's claim sub is no name.")
    target = name if ways[0] == "target" else None
    return Claims(None if target else _place(ways[0], name, payload), target, power, bool(view_only), subject)


def _place(way: str, name: str, payload: dict[str, Any]) -> Place:
    if way == "domain":
        return Place("domain", name)
    if way == "unix":
        return Place("unix", name)
    port = payload.get("port")
    if isinstance(port, str) and re.fullmatch(r"[0-9]{1,5}", port, re.ASCII):  # as websockify takes it
        port = int(port)
    if not isinstance(port, int) or isinstance(port, bool) or not 0 < port < 65536:
        raise Denied(403, "The token's claim port is no port.")
    return Place("tcp", name, port)


# --- Tokens that are used up ------------------------------------------------------------------------------------------


class _Used:
    """The tokens that were used, until they expire: a digest each, on disk too when there is a file.

    A file that can't be written is an error, since a token could be used again after a restart.
    """

    def __init__(self, path: str | None, clock: Callable[[], float], grace: float) -> None:
        self._path = path
        self._clock = clock
        self._grace = grace
        self._digests: set[str] = set()
        self._ends: list[tuple[int, str]] = []
        self._lines = 0
        if path:
            try:
                with _alone_with(path):
                    self._read(path)
                    self._rewrite(path)
            except OSError as error:
                raise InputError(f"The used tokens, {path}, can't be kept there: {error.strerror}.") from error

    def take(self, payload: dict[str, Any]) -> None:
        """Use a token up. Raises Denied when it was used before."""
        jti = payload["jti"]
        if not isinstance(jti, str) or not jti:
            raise Denied(401, "The token's claim jti is no name.")
        self._expire()
        digest = hashlib.sha256(jti.encode("utf-8", "surrogatepass")).hexdigest()
        if digest in self._digests:
            raise Denied(410, "The token was good for one session, and was used already.")
        if len(self._digests) >= MOST_USED:
            raise Denied(503, "Too many tokens were used that have not expired yet.")
        end = math.ceil(payload["exp"] + self._grace)
        self._write(end, digest)
        self._add(end, digest)

    def _add(self, end: int, digest: str) -> None:
        self._digests.add(digest)
        heapq.heappush(self._ends, (end, digest))

    def _expire(self) -> None:
        now = self._clock()
        while self._ends and self._ends[0][0] < now:
            self._digests.discard(heapq.heappop(self._ends)[1])

    def _write(self, end: int, digest: str) -> None:
        if not self._path:
            return
        try:
            with _alone_with(self._path):
                if self._lines > 2 * len(self._digests) + _SPARE_LINES:
                    self._rewrite(self._path)
                with open(self._path, "a", encoding="ascii", opener=_privately) as file:
                    file.write(f"{end} {digest}\n")
        except OSError as error:
            _log.error("%s can't be written, so no token for one session is taken: %s.", self._path, error.strerror)
            raise Denied(503, "It can't be noted that the token is used.") from error
        self._lines += 1

    def _read(self, path: str) -> None:
        now = self._clock()
        with contextlib.suppress(FileNotFoundError), open(path, encoding="ascii", errors="replace") as file:
            for line in file:
                found = re.fullmatch(r"([0-9]{1,15}) ([0-9a-f]{64})\n", line)
                if found and int(found[1]) >= now and found[2] not in self._digests:
                    self._add(int(found[1]), found[2])

    def _rewrite(self, path: str) -> None:
        """Write the file without what has expired."""
        with open(path + ".new", "w", encoding="ascii", opener=_privately) as file:
            file.writelines(f"{end} {digest}\n" for end, digest in self._ends)
        os.replace(path + ".new", path)
        self._lines = len(self._ends)


@contextlib.contextmanager
def _alone_with(path: str) -> Iterator[None]:
    """Keep out another process that serves the same tokens: one that hands over, or takes over."""
    with open(path + ".lock", "w", encoding="ascii", opener=_privately) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


_SPARE_LINES = 1000
_GRACE = 600.0
"""Seconds for which a used token is remembered beyond its end, besides the leeway: a clock may be put back."""


def _privately(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)
