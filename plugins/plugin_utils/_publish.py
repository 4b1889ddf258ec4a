# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Puts files somewhere else: into a folder, or to a web server by HTTP PUT.

Private to this collection.

No message and no address that comes out of here has what a URL may keep secret: its query and its user.
"""

from __future__ import annotations

import http.client
import mimetypes
import os
import typing as t
import urllib.error
import urllib.parse

from ansible.module_utils import urls

from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError, InputError
from ansible_collections.kvmops.console.plugins.module_utils._files import read_whole, write_whole

TYPES = {".prom": "text/plain; charset=utf-8", ".html": "text/html; charset=utf-8", ".json": "application/json"}
OTHER_TYPE = "application/octet-stream"


class File(t.NamedTuple):
    """A file on the controller, and its name where it goes, with slashes."""

    path: str
    name: str


class Server(t.NamedTuple):
    """How to talk to it; `headers` have the secrets, `timeout` is in seconds."""

    headers: t.Mapping[str, str]
    validate_certs: bool = True
    ca_path: str | None = None
    timeout: float = 30


def collect(paths: t.Iterable[str], root: str | None) -> list[File]:
    """All files of the paths, a folder standing for what is below it, hidden files left out.

    A name is relative to `root`, or to the folder that was named; a file elsewhere has its own name alone. Raises
    InputError where a path or two names cannot be meant.
    """
    found: list[File] = []
    for path in paths:
        if os.path.isdir(path):
            found += [File(each, _relative(each, root or path)) for each in _below(path)]
        elif os.path.isfile(path):
            found.append(File(path, _relative(path, root)))
        else:
            raise InputError(f"{path} is to be published and is not there.")
    taken: dict[str, str] = {}
    for file in found:
        other = taken.setdefault(file.name, file.path)
        if other != file.path:
            raise InputError(f"{other} and {file.path} would both be published as {file.name}: say root.")
    return list(dict.fromkeys(found))


def _below(folder: str) -> t.Iterator[str]:
    for here, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(here, name) for name in sorted(names) if not name.startswith("."))


def _relative(path: str, root: str | None) -> str:
    name = os.path.relpath(path, root) if root else os.path.basename(path)
    inside = name != os.pardir and not name.startswith(os.pardir + os.sep)
    return (name if inside else os.path.basename(path)).replace(os.sep, "/")


def is_url(place: str) -> bool:
    """Whether it is on a web server, and not a folder. Raises InputError for what is neither."""
    scheme = urllib.parse.urlsplit(place).scheme.lower()
    if scheme in ("http", "https"):
        return True
    if "://" in place:
        raise InputError(f"Files are published to a folder or by http or https, not by {scheme}.")
    return False


def target(url: str, name: str) -> str:
    """Where the file of that name goes: below a URL whose path ends with a slash, else to the very URL."""
    parts = urllib.parse.urlsplit(url)
    if not parts.path.endswith("/"):
        return url
    return urllib.parse.urlunsplit(parts._replace(path=parts.path + urllib.parse.quote(name)))


def address(url: str) -> str:
    """The URL as it may be shown."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def chosen(files: t.Sequence[File], place: str) -> list[File]:
    """Those that go there: the first alone where the URL is one file's, like a presigned one of S3."""
    one = is_url(place) and not urllib.parse.urlsplit(place).path.endswith("/")
    return list(files[:1] if one else files)


def differs(file: File, folder: str) -> bool:
    """Whether the folder lacks the file as it is."""
    return read_whole(os.path.join(folder, file.name)) != read_whole(file.path)


def copy(file: File, folder: str) -> str:
    """Put the file into the folder, in one step; returns its path. Raises InputError, OSError."""
    path = os.path.join(folder, file.name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(file.path, "rb") as source:
        write_whole(path, source.read(), mode=os.fstat(source.fileno()).st_mode & 0o777)
    return path


def put(file: File, url: str, server: Server) -> str:
    """Send the file by HTTP PUT; returns its address. Raises ConsoleError.

    A redirect is not followed: it could lead what is secret somewhere else.
    """
    where = target(url, file.name)
    kind = TYPES.get(os.path.splitext(file.name)[1]) or mimetypes.guess_type(file.name)[0] or OTHER_TYPE
    with open(file.path, "rb") as source:
        data = source.read()
    try:
        with urls.open_url(
            where,
            method="PUT",
            data=data,
            headers={"Content-Type": kind, **server.headers},
            timeout=server.timeout,
            validate_certs=server.validate_certs,
            ca_path=server.ca_path,
            force_basic_auth="@" in urllib.parse.urlsplit(where).netloc,
            follow_redirects="none",
        ) as answer:
            answer.read()
    except urllib.error.HTTPError as error:
        with error:
            said = f"{error.code} {http.client.responses.get(error.code, '')}".strip()
        raise ConsoleError(f"{address(where)} did not take the file: the server says {said}.") from None
    except (urllib.error.URLError, urls.ConnectionError, http.client.HTTPException, OSError, ValueError) as error:
        raise ConsoleError(f"{address(where)} could not be reached: {_reason(error, where, server)}.") from None
    return address(where)


def _reason(error: Exception, url: str, server: Server) -> str:
    """What went wrong, in the library's words, less what is secret."""
    if isinstance(error, (ValueError, http.client.HTTPException)):
        return type(error).__name__  # Their words repeat what they were given, in whatever form.
    parts = urllib.parse.urlsplit(url)
    text = str(getattr(error, "reason", None) or error).rstrip(".")
    for secret in (url, parts.query, parts.password, *server.headers.values()):
        if secret:
            text = text.replace(secret, "***")
    return text
