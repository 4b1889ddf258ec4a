# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The audit log: who opened what, from where, since when, and what was done about it. One JSON object a line.

Private to this collection.

Nothing that lets somebody in is ever written: no token, no password, no query of a URL.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time

MOST_TEXT = 512
"""Characters of one value: names come from outside."""

_encode = json.JSONEncoder(separators=(",", ":")).encode
_log = logging.getLogger(__name__)


class AuditLog:
    """Appends to `path`, or writes to standard output. A line is one write, so processes may share a file."""

    def __init__(self, path: str | None) -> None:
        """Raises OSError when the file can't be opened."""
        self._path = path
        self._failing = False
        self.lost = 0
        """Lines that could not be written."""
        self._number = sys.stdout.fileno() if path is None else _open(path)

    def reopen(self, path: str | None) -> None:
        """Go on in a new file: `path` may be another one, or the same after it was moved away. Raises OSError."""
        number = sys.stdout.fileno() if path is None else _open(path)
        self.close()
        self._path, self._number = path, number

    def write(self, event: str, **fields: object) -> None:
        """Append one line. A line that can't be written is counted, and told in the log once."""
        line: dict[str, object] = {"time": timestamp(time.time()), "event": event}
        for key, value in fields.items():
            if value is not None:
                line[key] = value[:MOST_TEXT] + "..." if isinstance(value, str) and len(value) > MOST_TEXT else value
        data = _encode(line).encode() + b"\n"
        try:
            written = os.write(self._number, data)
        except OSError as error:
            self._lose(error.strerror or str(error))
        else:
            if written != len(data):
                self._lose("only a part of it was taken")
            else:
                self._failing = False

    def close(self) -> None:
        """Close the file; standard output stays open."""
        if self._path is not None:
            os.close(self._number)
            self._path, self._number = None, sys.stdout.fileno()

    def _lose(self, reason: str) -> None:
        self.lost += 1
        if not self._failing:
            self._failing = True
            _log.error("A line of the audit log is lost: %s can't be written: %s.", self._path or "its output", reason)


def timestamp(seconds: float) -> str:
    """A moment as people and machines read it: UTC, to the millisecond."""
    whole = int(seconds)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{int((seconds - whole) * 1000):03}Z"


def _open(path: str) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
