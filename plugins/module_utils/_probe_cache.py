# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Remembers the verdicts on QEMU binaries, for the whole host.

Private to this collection.

Apart from _qemu_probe, so that a task that finds all its answers here loads nothing of what asks: Ansible has every
module compiled anew at every task.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from ansible_collections.kvmops.console.plugins.module_utils._verdict import UNKNOWN, BinaryProbe, Verdict

_FORMAT = 1
"""Raised whenever the probe gets wiser: what older ones stored is then asked again."""
_MOST_ENTRY = 16384
_LOCK_PAUSE = 0.02


class Key(NamedTuple):
    """What a verdict belongs to: this very image, not its name."""

    path: str
    device: int
    inode: int
    size: int
    mtime_ns: int

    @staticmethod
    def of(path: str) -> Key:
        """The key of the image at `path`; of /proc/PID/exe that of the image that runs. Raises OSError."""
        found = os.stat(path)
        return Key(os.path.realpath(path), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    @property
    def name(self) -> str:
        text = "\0".join(str(part) for part in (self.path, self.device, self.inode))
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def default_folder() -> str:
    """Where verdicts are kept: /var/lib/kvmops-console/probes for root, else below $XDG_CACHE_HOME or ~/.cache."""
    if os.geteuid() == 0:
        return "/var/lib/kvmops-console/probes"
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(base, "kvmops-console", "probes")


class Cache:
    """Verdicts by image. They are kept in the process, and those that are no `unknown` in a folder too.

    The folder has to be ours and writable by nobody else, and so has each entry: else it is as if there were none.
    Without a usable folder (read-only, a full disk) everything still works, from memory. Entries that can't be read are
    ignored.
    """

    def __init__(self, folder: str | None = None) -> None:
        self._known: dict[Key, BinaryProbe] = {}
        self._folder = folder or default_folder()
        self._usable: bool | None = None

    def get(self, key: Key) -> BinaryProbe | None:
        """Return what is known about this image."""
        known = self._known.get(key) or (self._read(key) if self._ready() else None)
        if known:
            self._known[key] = known
        return known

    def put(self, key: Key, probe: BinaryProbe) -> None:
        """Remember it; an unknown only for as long as this process lives, since what hindered may go away."""
        self._known[key] = probe
        if probe.verdict.verdict == UNKNOWN or not self._ready():
            return
        entry = {
            "format": _FORMAT,
            "key": key._asdict(),
            "verdict": probe.verdict._asdict(),
            "version": probe.version,
            "package": probe.package,
        }
        with contextlib.suppress(OSError):
            self._write(self._file(key, "json"), json.dumps(entry, indent=1).encode())

    @contextlib.contextmanager
    def lock(self, key: Key, seconds: float) -> Iterator[None]:
        """Hold the lock of one image, so that callers at the same time start it once.

        After `seconds`, go on without.
        """
        descriptor = None
        if self._ready():
            with contextlib.suppress(OSError):
                descriptor = os.open(
                    self._file(key, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600
                )
        try:
            if descriptor is not None:
                with contextlib.suppress(OSError):
                    _lock(descriptor, seconds)
            yield
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _file(self, key: Key, kind: str) -> str:
        return os.path.join(self._folder, f"{key.name}.{kind}")

    def _ready(self) -> bool:
        if self._usable is None:
            with contextlib.suppress(OSError):
                os.makedirs(self._folder, 0o700, exist_ok=True)
            try:
                self._usable = _ours(os.lstat(self._folder), stat.S_IFDIR)
            except OSError:
                self._usable = False
        return self._usable

    def _read(self, key: Key) -> BinaryProbe | None:
        try:
            descriptor = os.open(self._file(key, "json"), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except OSError:
            return None
        try:
            if not _ours(os.fstat(descriptor), stat.S_IFREG):
                return None
            return _entry(key, os.read(descriptor, _MOST_ENTRY))
        except OSError:
            return None
        finally:
            os.close(descriptor)

    def _write(self, path: str, data: bytes) -> None:
        descriptor, temporary = tempfile.mkstemp(dir=self._folder)  # 0600
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def _ours(found: os.stat_result, kind: int) -> bool:
    return stat.S_IFMT(found.st_mode) == kind and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _entry(key: Key, data: bytes) -> BinaryProbe | None:
    """Return what an entry says, None when it is damaged, of another format, or about another image."""
    try:
        entry = json.loads(data)
        if entry["format"] != _FORMAT or entry["key"] != key._asdict():
            return None
        texts = [entry["verdict"][field] for field in Verdict._fields]
        optional = [entry["version"], entry["package"]]
    except (ValueError, KeyError, TypeError):
        return None
    if not all(isinstance(text, str) for text in texts):
        return None
    if not all(text is None or isinstance(text, str) for text in optional):
        return None
    return BinaryProbe(Verdict(*texts), optional[0], optional[1], key.path)


def _lock(descriptor: int, seconds: float) -> None:
    """flock has no time limit of its own, so ask again and again. Raises BlockingIOError after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= end:
                raise
            time.sleep(_LOCK_PAUSE)


def known_or_probed(path: str, cache: Cache, probe: Callable[[], BinaryProbe], patience: float = 10.0) -> BinaryProbe:
    """What `cache` knows about the image at `path`, else what `probe()` finds.

    Of callers at the same time, in any process, one probes; the others wait for it, `patience` seconds at most.
    """
    try:
        key = Key.of(path)
    except OSError:
        return probe()
    known = cache.get(key)
    if known:
        return known
    with cache.lock(key, patience):
        known = cache.get(key)
        if known:
            return known
        found = probe()
        cache.put(key, found)
        return found
