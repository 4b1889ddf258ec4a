# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""noVNC's files on this host: where they are, what is in them, and how one is replaced by another.

Private to this collection.

Every file tells by itself whether it is patched and what its original's hash is, so that there is no record that could
differ from what is there: a run that was killed leaves files that are old or new, each of them whole, and the next run
finishes. Originals are kept under their hash, for what cannot be computed back: compressed files.
"""

from __future__ import annotations

import contextlib
import glob
import gzip
import json
import os
import re
import stat
import subprocess
import typing as t
import zlib

from ansible_collections.kvmops.console.plugins.module_utils import _novnc_pages, _novnc_patch, _packages
from ansible_collections.kvmops.console.plugins.module_utils._files import private_folder, write_whole
from ansible_collections.kvmops.console.plugins.module_utils._novnc_patch import OTHER_WAY, PatchRefused, digest

ROOTS = (
    "/opt",
    "/snap/novnc/current",
    "/srv",
    "/usr/lib/node_modules",
    "/usr/lib/python3*/site-packages",
    "/usr/lib/python3/dist-packages",
    "/usr/local/lib",
    "/usr/local/share",
    "/usr/share/cockpit/machines",
    "/usr/share/kimchi",
    "/usr/share/nodejs/@novnc",
    "/usr/share/noVNC",
    "/usr/share/novnc",
    "/usr/share/novnc-pve",
    "/usr/share/webapps",
    "/var/www",
)
"""Where noVNC is looked for, beside what package managers and running websockify processes name."""

NOVA = ("/etc/nova/nova.conf", "/etc/nova/nova-novncproxy.conf")
NAMES = frozenset(("rfb.js", "rfb.min.js"))
BUNDLES = ("/usr/share/novnc-pve/app.js", "/usr/share/cockpit/machines/*.js", "/usr/share/cockpit/machines/*.js.gz")
SCRIPTS = (".js", ".mjs", ".cjs", ".js.gz")
PAGES = (".html", ".htm", ".tpl")
UNTOUCHED = (".br", ".zst")
"""Compressed twins that Python's standard library cannot make anew."""

MAP, QUERY, LOADER = "map", "query", "loader"
"""Ways in which pages load a script: a module among others, a script element, a loader of noVNC's own."""

LIMIT = 64 * 1024 * 1024
"""Bytes of a file beyond which nobody's noVNC is in it."""
ROOM = 1024 * 1024
"""Bytes that have to stay free on a file system that is written to."""

# How the SHA-256 of upstream's core/rfb.js (before 1.0: include/rfb.js) begins; distributions ship the same.
RELEASES = {
    "9e0f30aa6812a368": "0.5.1",
    "7f99f0ac2bbac870": "0.6.2",
    "708f8abd828b5b45": "1.0.0",
    "09a7645120a1e0fc": "1.1.0",
    "0ec774f788c658a7": "1.2.0",
    "331109966c80bef6": "1.3.0",
    "f497c8b080f76aee": "1.4.0",
    "18b16349b4475188": "1.5.0",
    "563a8c8469dfb55d": "1.6.0",
    "c46dfefbf869eda0": "1.7.0",
}


class Content(t.NamedTuple):
    """A file: its bytes, and its text without compression."""

    path: str
    data: bytes
    text: str

    @property
    def compressed(self) -> bool:
        return self.path.endswith(".gz")

    @property
    def sha256(self) -> str:
        return digest(self.data)

    def with_text(self, text: str) -> bytes:
        """The bytes of the file with another text; the same for the same text at any time."""
        data = _novnc_patch.encode(text)
        return gzip.compress(data, 9, mtime=0) if self.compressed else data


class Installation(t.NamedTuple):
    """One noVNC: the folder it is in, its files with the RFB class, and the pages that may load them."""

    root: str
    scripts: tuple[str, ...]
    pages: tuple[str, ...]


class Owner(t.NamedTuple):
    """The package that a file belongs to."""

    manager: str
    name: str
    version: str


def read(path: str) -> Content:
    """A file of noVNC. Raises PatchRefused."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise PatchRefused(f"{path} is no regular file.")
            data = stream.read(LIMIT + 1)
    except OSError as e:
        raise PatchRefused(f"{path} cannot be read: {e.strerror}.") from e
    return content_of(path, data)


def content_of(path: str, data: bytes) -> Content:
    """What a file with these bytes has in it. Raises PatchRefused."""
    plain = _decompressed(path, data) if path.endswith(".gz") else data
    if len(data) > LIMIT or len(plain) > LIMIT:
        raise PatchRefused(f"{path} is too large to be noVNC.")
    return Content(path, data, _novnc_patch.decode(plain))


def _decompressed(path: str, data: bytes) -> bytes:
    worker = zlib.decompressobj(wbits=31)
    try:
        plain = worker.decompress(data, LIMIT + 1)
    except zlib.error as e:
        raise PatchRefused(f"{path} is not what its name says: {e}.") from e
    if not worker.eof and len(plain) <= LIMIT:
        raise PatchRefused(f"{path} ends in the middle: reinstall it.")
    return plain


# --- Looking for it ---------------------------------------------------------------------------------------------------


def find() -> list[Installation]:
    """Every noVNC in the places where one is looked for, sorted by folder."""
    files: set[str] = set()
    for root in _folders():
        files.update(_walk(root, lambda name: _plain(name) in NAMES))
    for pattern in BUNDLES:
        files.update(glob.glob(pattern))
    return _grouped(files)


def find_in(paths: t.Sequence[str]) -> list[Installation]:
    """Every noVNC in these files and folders, whatever their names. Raises PatchRefused for what is not there."""
    files: set[str] = set()
    for path in paths:
        if not os.path.exists(path):
            raise PatchRefused(f"There is no {path} on this host: name a file or folder that is there.")
        files.update(_walk(path, lambda name: name.endswith(SCRIPTS)) if os.path.isdir(path) else [path])
    return _grouped(files)


def _plain(name: str) -> str:
    return name[: -len(".gz")] if name.endswith(".gz") else name


def _walk(root: str, wanted: t.Callable[[str], bool]) -> t.Iterator[str]:
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name != ".git"]
        yield from (os.path.join(folder, name) for name in names if wanted(name))


def _folders() -> set[str]:
    named = {path for pattern in ROOTS for path in glob.glob(pattern)}
    named.update(_served(), _nova(), _packaged())
    # Anybody may start something that is called websockify and serves all of the host: that is no noVNC.
    found = {os.path.realpath(path) for path in named if os.path.isdir(path)} - {"/"}
    # A folder inside another one is walked with that.
    return {path for path in found if not any(path.startswith(other + "/") for other in found)}


def _served() -> t.Iterator[str]:
    """What running websockify processes serve: --web DIR."""
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            with open(path, "rb") as stream:
                words = stream.read().decode(errors="surrogateescape").split("\0")
            if not any("websockify" in word or "novnc" in word for word in words):
                continue
            for word, following in zip(words, [*words[1:], ""]):
                folder = following if word == "--web" else word.partition("--web=")[2]
                # Relative to where the process is.
                if folder:
                    yield os.path.join(os.readlink(os.path.join(os.path.dirname(path), "cwd")), folder)


def _nova() -> t.Iterator[str]:
    """What nova-novncproxy serves: [DEFAULT] web."""
    for path in NOVA:
        with contextlib.suppress(OSError), open(path, encoding="utf-8", errors="replace") as stream:
            yield from re.findall(r"^web\s*=\s*(/\S+)\s*$", stream.read(), re.MULTILINE)


def _packaged() -> t.Iterator[str]:
    """Folders of the packages whose names say noVNC."""
    for names, files in (
        (("dpkg-query", "-W", "-f", "${Package}\\n", "*novnc*"), ("dpkg-query", "-L")),
        (("rpm", "-qa", "--qf", "%{NAME}\\n", "*[nN]o[vV][nN][cC]*"), ("rpm", "-ql")),
        (("pacman", "-Qqs", "novnc"), ("pacman", "-Qlq")),
    ):
        for name in sorted(set((_asked(*names) or "").split())):
            for line in (_asked(*files, name) or "").splitlines():
                if os.path.basename(line) in NAMES:
                    yield os.path.dirname(line)


def _asked(*command: str) -> str | None:
    """What a package manager says; None where there is none, or it has nothing to say."""
    try:
        # This part knows nothing of Ansible, so it has no module to run commands by.
        done = subprocess.run(  # pylint: disable=ansible-bad-function
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, "LC_ALL": "C"},
            timeout=_packages.TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="surrogateescape") if done.returncode == 0 else None


def _grouped(files: t.Iterable[str]) -> list[Installation]:
    roots: dict[str, set[str]] = {}
    for path in {os.path.realpath(path) for path in files}:
        if _has_class(path):
            roots.setdefault(_root(path), set()).add(path)
    return [Installation(root, tuple(sorted(scripts)), tuple(_pages(root))) for root, scripts in sorted(roots.items())]


def _has_class(path: str) -> bool:
    """A file that cannot be read is kept, where its name says noVNC: it shall be told of, not passed over."""
    try:
        return _novnc_patch.may_have_rfb(_novnc_patch.encode(read(path).text))
    except PatchRefused:
        return _plain(os.path.basename(path)) in NAMES and os.path.lexists(path)


def _root(path: str) -> str:
    folder = os.path.dirname(path)
    return os.path.dirname(folder) if os.path.basename(folder) in ("core", "lib", "include", "dist") else folder


def _pages(root: str) -> t.Iterator[str]:
    """Pages beside the code. A link stands for a page that is found under its own name, or is somebody else's."""
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        if entry.name.endswith(PAGES) and entry.is_file(follow_symlinks=False):
            yield entry.path


# --- What is known of it ----------------------------------------------------------------------------------------------


def owner(path: str) -> Owner | None:
    """The package that a file belongs to, by whatever package manager knows it."""
    found = _asked("dpkg-query", "-S", path)
    if found:
        name = found.partition(":")[0].partition(",")[0]
        return Owner("dpkg", name, _asked("dpkg-query", "-W", "-f", "${Version}", name) or "")
    found = _asked("rpm", "-qf", "--qf", "%{NAME}\\t%{EVR}\\n", path)
    if found:
        name, _tab, version = found.splitlines()[0].partition("\t")
        return Owner("rpm", name, version)
    found = _asked("pacman", "-Qo", "--quiet", path)
    if found:
        name = found.strip()
        return Owner("pacman", name, (_asked("pacman", "-Q", name) or "").rpartition(" ")[2].strip())
    return _other_owner(path)


def _other_owner(path: str) -> Owner | None:
    """npm, pip and git, which leave their marks in the tree."""
    for folder in _parents(path):
        if os.path.basename(os.path.dirname(folder)) == "node_modules" or "/node_modules/@" in folder + "/":
            told = _package_json(folder)
            if told:
                return Owner("npm", *told)
        if os.path.basename(folder) in ("site-packages", "dist-packages"):
            return Owner("pip", os.path.relpath(path, folder).partition("/")[0], "")
        if os.path.lexists(os.path.join(folder, ".git")):
            return Owner("git", folder, "")
        if re.match(r"/snap/[^/]+/[^/]+$", folder):
            return Owner("snap", folder.split("/")[2], "")
    return None


def _parents(path: str) -> t.Iterator[str]:
    folder = os.path.dirname(path)
    while folder != "/":
        yield folder
        folder = os.path.dirname(folder)


def _package_json(folder: str) -> tuple[str, str] | None:
    try:
        with open(os.path.join(folder, "package.json"), encoding="utf-8") as stream:
            told = json.load(stream)
        return str(told["name"]), str(told["version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def version(root: str, originals: t.Iterable[str], package: Owner | None) -> str | None:
    """The release: by the hash of an original, else as its package.json says, else as the package's version says."""
    for sha256 in originals:
        if sha256[:16] in RELEASES:
            return RELEASES[sha256[:16]]
    told = _package_json(root)
    if told and "novnc" in told[0].lower():
        return told[1]
    found = re.search(r"(?:^|:)(\d+\.\d+(?:\.\d+)?)", package.version) if package and "novnc" in package.name else None
    return found[1] if found else None


# --- Replacing a file -------------------------------------------------------------------------------------------------


class Originals:
    """A folder of files as they were before they were patched, each under its hash."""

    def __init__(self, directory: str) -> None:
        self._directory = directory

    def keep(self, content: Content) -> None:
        """Raises InputError where there is no room for it."""
        folder = private_folder(self._directory, "backup_dir")
        path = os.path.join(folder, content.sha256)
        if self.get(content.sha256) is None:
            write_whole(path, content.data)

    def get(self, sha256: str) -> bytes | None:
        """The bytes with that hash; None where they are not kept, or are not what they were."""
        try:
            with open(os.path.join(self._directory, sha256), "rb") as stream:
                data = stream.read()
        except OSError:
            return None
        return data if digest(data) == sha256 else None


def original(content: Content, originals: Originals, *, force: bool = False) -> bytes:
    """The bytes of a patched file before it was patched, proven by their hash. Raises PatchRefused.

    With `force` what somebody changed in it since is given up, where the original is kept.
    """
    patch = _novnc_patch.find_patch(content.text)
    if patch is None or patch.original is None:
        raise PatchRefused("it was built from a patched file: build it again from the original.")
    plain = _novnc_patch.remove(content.text)
    kept = originals.get(patch.original)
    if not content.compressed and digest(_novnc_patch.encode(plain)) == patch.original:
        return _novnc_patch.encode(plain)
    if kept is not None and (force or (content.compressed and _same(content.path, kept, plain))):
        return kept
    if kept is None and content.compressed:
        raise PatchRefused(f"its original is not kept on this host any more: reinstall it, or {OTHER_WAY}.")
    raise PatchRefused(
        f"somebody changed it after it was patched: take that back, reinstall it or use force, or {OTHER_WAY}."
    )


def _same(path: str, kept: bytes, plain: str) -> bool:
    with contextlib.suppress(PatchRefused):
        return _novnc_patch.decode(_decompressed(path, kept)) == plain
    return False


def check_writable(path: str, size: int) -> None:
    """Raise PatchRefused where a file surely cannot be replaced by one of `size` bytes; changes nothing."""
    folder = os.path.dirname(path)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PatchRefused(f"{folder} cannot be written to: patch it where it is built, or {OTHER_WAY}.")
    room = os.statvfs(folder)
    free = (room.f_bfree if os.geteuid() == 0 else room.f_bavail) * room.f_frsize
    if free < size + ROOM:
        raise PatchRefused(f"the disk of {folder} has no room for {size} bytes more: make some.")
    for suffix in UNTOUCHED:
        if os.path.lexists(path + suffix):
            raise PatchRefused(f"{path}{suffix} would be served in its place, and cannot be made anew: remove it.")


def replace(content: Content, data: bytes) -> None:
    """Put `data` in the place of a file that still is as it was read, with its owner, mode and labels.

    All of it or nothing. The time of change is new, also when an original comes back: browsers ask for what has changed
    since the time that they were told.
    """
    folder, name = os.path.split(content.path)
    temporary = f".{name}.kvmops-novnc"
    try:
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            # One that a killed run has left: there is no other run while this one holds the lock.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=place)
            try:
                _write_beside(place, temporary, name, content, data)
                os.replace(temporary, name, src_dir_fd=place, dst_dir_fd=place)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(temporary, dir_fd=place)
                raise
            os.fsync(place)
        finally:
            os.close(place)
    except OSError as e:
        raise PatchRefused(f"{content.path} cannot be replaced: {e.strerror}; mend that, or {OTHER_WAY}.") from e


def _write_beside(place: int, temporary: str, name: str, content: Content, data: bytes) -> None:
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    with os.fdopen(os.open(name, os.O_RDONLY | flags, dir_fd=place), "rb") as old:
        if old.read(LIMIT + 1) != content.data:
            raise PatchRefused(f"{content.path} is being changed by somebody else: run this again.")
        status = os.fstat(old.fileno())
        created = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | flags, 0o600, dir_fd=place)
        with os.fdopen(created, "wb") as new:
            new.write(data)
            new.flush()
            made = os.fstat(new.fileno())
            if (made.st_uid, made.st_gid) != (status.st_uid, status.st_gid):
                os.fchown(new.fileno(), status.st_uid, status.st_gid)
            os.fchmod(new.fileno(), stat.S_IMODE(status.st_mode))
            _copy_labels(old.fileno(), new.fileno())
            os.fsync(new.fileno())


def _copy_labels(old: int, new: int) -> None:
    """SELinux's label, access lists and the like, as far as the file system and our rights go."""
    with contextlib.suppress(OSError):
        for name in os.listxattr(old):
            with contextlib.suppress(OSError):
                os.setxattr(new, name, os.getxattr(old, name))


def sweep(installation: Installation) -> None:
    """Remove what a killed run has left beside the files."""
    for path in (*installation.scripts, *installation.pages):
        folder, name = os.path.split(path)
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(folder, f".{name}.kvmops-novnc"))


def load(page: Content, script: Content) -> str | None:
    """How a page loads a script: MAP, QUERY or LOADER; None when it does not, as far as can be seen."""
    folder, name = os.path.split(script.path)
    if script.compressed:
        return None
    if _novnc_pages.loads_module(page.text) and script.path == os.path.join(os.path.dirname(page.path), "core/rfb.js"):
        return MAP
    if _novnc_pages.loads_script(page.text, name):
        return QUERY
    # 0.x: Util.load_scripts() of include/util.js
    if os.path.basename(folder) == "include" and _novnc_pages.loads_script(page.text, "util.js"):
        return LOADER
    return None
