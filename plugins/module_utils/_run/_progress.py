# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How many of a task's machines are done, while a module is at work: in a file whose name an action plugin chose.

Private to this collection. A module says nothing until its end, so the plugin looks there, if that takes long. The file
has the number of machines in its first line, and a dot for each that is done; it is gone when the module ends.
"""

from __future__ import annotations

import contextlib
import os
import threading
import typing as t

VARIABLE = "KVMOPS_CONSOLE_PROGRESS"
"""Of the environment: the path of the file. Without it nobody wants to know."""

T = t.TypeVar("T")
R = t.TypeVar("R")


class Progress:
    """Use it with `with`. Good for threads, and for processes that are forked meanwhile.

    The file has to be a new one: nobody else's is written to, nor removed. One that cannot be written is none.
    """

    def __init__(self, total: int) -> None:
        self._path = os.environ.get(VARIABLE)
        self._total = total
        self._file: int | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> Progress:
        if self._path:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            with contextlib.suppress(OSError):
                self._file = os.open(self._path, flags, 0o600)
        self._write(b"%d\n" % self._total)
        return self

    def __exit__(self, *_exception: object) -> None:
        with self._lock:  # what was left behind may end just now
            file, self._file = self._file, None
        if file is not None and self._path:
            os.close(file)
            with contextlib.suppress(OSError):
                os.unlink(self._path)

    def counted(self, call: t.Callable[[T], R]) -> t.Callable[[T], R]:
        """The same, for a machine, which is done when that ends, in whatever way."""

        def count(item: T) -> R:
            try:
                return call(item)
            finally:
                self._write(b".")

        return count

    def _write(self, data: bytes) -> None:
        with self._lock, contextlib.suppress(OSError):
            if self._file is not None:
                os.write(self._file, data)


def told(content: str) -> str | None:
    """ "12 of 200", of what is in the file; None where that is not what it should be."""
    # Over SSH, Ansible asks for a terminal, which ends lines so.
    total, newline, dots = content.replace("\r\n", "\n").partition("\n")
    if not newline or not (total.isascii() and total.isdigit()) or dots.strip(".\n"):
        return None
    return f"{dots.count('.')} of {total}"
