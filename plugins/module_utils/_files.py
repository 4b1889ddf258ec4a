# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files on the host that others may want at the same time: whole or not there, and one writer at a time.

Private to this collection.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from collections.abc import Iterator

from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError, LockTimeout

_PAUSE = 0.02
"""Seconds between two attempts at a lock: flock has no time limit of its own."""


def private_folder(path: str, option: str) -> str:
    """Make `path` a folder of mode 0700, or check that it is one of ours that nobody else may enter.

    `option` is what the play calls it. Raises InputError.
    """
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
        status = os.stat(path)
    except OSError as e:
        raise InputError(f"The folder {path} cannot be used: {e.strerror}; name another {option}.") from e
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise InputError(
            f"The folder {path} can be entered by others, and what is kept there is private: make it yours with mode"
            f" 0700, or name another {option}."
        )
    return path


def write_whole(path: str, data: bytes, mode: int = 0o600) -> None:
    """Put `data` under the name `path`, all of it or nothing: a full disk leaves what was there. Raises InputError."""
    folder, name = os.path.split(path)
    try:
        descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=f".{name[:64]}.")
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                os.fchmod(stream.fileno(), mode)
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as e:
        raise InputError(f"{path} cannot be written: {e.strerror}; make room there, or name another folder.") from e


def read_whole(path: str) -> bytes | None:
    """What is under the name `path`; None where there is nothing that can be read."""
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except OSError:
        return None


@contextlib.contextmanager
def locked(path: str, timeout: float) -> Iterator[None]:
    """Hold the lock file `path` alone, over all processes of the host. Raises LockTimeout after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise LockTimeout(f"{path} was held by somebody else for {timeout:g} s; try again.") from None
                time.sleep(_PAUSE)
        yield
    finally:
        os.close(descriptor)
