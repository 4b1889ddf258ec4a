# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How many sessions there are: in all, from each address, to each target. Across a hand-over, too.

Private to this collection.

After a hand-over the process before this one still has sessions, which count here as well: else a console for one at a
time would have two. It tells of them over the socket of the hand-over: a line of JSON, `[1, source, target]`, for each
that it has, then an empty line, and from then on such a line for each that begins, and one with -1 for each that ends.
What it had counts no more when it has gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections import Counter
from collections.abc import Hashable, Iterator
from typing import Callable, TypeVar

_Key = TypeVar("_Key", bound=Hashable)
_Tell = Callable[[int, str, Hashable], None]

END = b"\n"
"""What follows the sessions that there are already."""
_MOST_LINE = 65536

_log = logging.getLogger(__name__)


class Seats:
    """The seats that are taken. `all`: how many."""

    def __init__(self) -> None:
        self.all = 0
        self._taken: Counter[tuple[str, Hashable]] = Counter()
        self._of_source: Counter[str] = Counter()
        self._of_target: Counter[Hashable] = Counter()
        self._tell: _Tell | None = None

    def of_source(self, source: str) -> int:
        """How many from this address."""
        return self._of_source.get(source, 0)

    def of_target(self, target: Hashable) -> int:
        """How many to the target of this key."""
        return self._of_target.get(target, 0)

    def take(self, source: str, target: Hashable) -> None:
        """A session begins."""
        self.all += 1
        self._taken[source, target] += 1
        self._of_source[source] += 1
        self._of_target[target] += 1
        if self._tell:
            self._tell(1, source, target)

    def give_up(self, source: str, target: Hashable) -> None:
        """A session is over."""
        self.all -= 1
        _less(self._taken, (source, target))
        _less(self._of_source, source)
        _less(self._of_target, target)
        if self._tell:
            self._tell(-1, source, target)

    def tell(self, tell: _Tell) -> None:
        """Tell of all that there are, and from now on of each that begins or ends."""
        for source, target in self._taken.elements():
            tell(1, source, target)
        self._tell = tell


def _less(seats: Counter[_Key], key: _Key) -> None:
    """One less, and no zero is kept."""
    seats[key] -= 1
    if not seats[key]:
        del seats[key]


class Heir:
    """The process after this one, at the other end of `sock`, which this takes over. Nothing waits for it."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._unsent = bytearray()
        self._loop = asyncio.get_running_loop()
        self._waits = False

    def say(self, data: bytes) -> None:
        """Send it, behind what was said before; an heir that has gone needs to hear nothing."""
        if self._sock.fileno() < 0:
            return
        self._unsent += data
        if not self._waits:
            self._flush()

    def tell(self, change: int, source: str, target: Hashable) -> None:
        """Send one line."""
        self.say(json.dumps([change, source, target]).encode() + b"\n")

    def close(self) -> None:
        """The heir is on its own. May be called twice."""
        if self._waits:
            self._waits = False
            self._loop.remove_writer(self._sock.fileno())
        self._unsent.clear()
        self._sock.close()

    def _flush(self) -> None:
        try:
            del self._unsent[: self._sock.send(self._unsent)]
        except (BlockingIOError, InterruptedError):
            pass
        except OSError:
            self.close()
            return
        waits = bool(self._unsent)
        if waits and not self._waits:
            self._loop.add_writer(self._sock.fileno(), self._flush)
        elif self._waits and not waits:
            self._loop.remove_writer(self._sock.fileno())
        self._waits = waits


class Heritage:
    """The sessions of the process before this one, at the other end of `sock`, which this takes over.

    `said`: what was read from it already. `over` is set once that process has gone.
    """

    def __init__(self, sock: socket.socket, seats: Seats, said: bytes) -> None:
        sock.setblocking(False)
        self.over = asyncio.Event()
        self._sock = sock
        self._seats = seats
        self._rest = b""
        self._taken: Counter[tuple[str, Hashable]] = Counter()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(sock.fileno(), self._readable)
        self._hear(said)

    def close(self) -> None:
        """Nothing of it counts any more. May be called twice."""
        if self._sock.fileno() < 0:
            return
        self._loop.remove_reader(self._sock.fileno())
        self._sock.close()
        for source, target in self._taken.elements():
            self._seats.give_up(source, target)
        self._taken.clear()
        self.over.set()

    def _readable(self) -> None:
        try:
            data = self._sock.recv(65536)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""
        if data:
            self._hear(data)
        else:
            self.close()

    def _hear(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        try:
            for change, source, target in _understood(lines):
                self._count(change, source, target)
            if len(self._rest) > _MOST_LINE:
                raise ValueError("a line without end")
        except ValueError:
            _log.exception("What the process before this one says of its sessions is not understood.")
            self.close()

    def _count(self, change: int, source: str, target: Hashable) -> None:
        if change > 0:
            self._taken[source, target] += 1
            self._seats.take(source, target)
        elif self._taken[source, target]:
            _less(self._taken, (source, target))
            self._seats.give_up(source, target)


def _understood(lines: list[bytes]) -> Iterator[tuple[int, str, Hashable]]:
    """What lines mean. Raises ValueError (json.JSONDecodeError is one)."""
    for line in filter(None, lines):
        found = json.loads(line)
        fits = isinstance(found, list) and len(found) == 3 and found[0] in (1, -1) and isinstance(found[2], list)
        if not fits or not all(isinstance(part, (str, int)) for part in found[2]):
            raise ValueError("no line of one session")
        yield found[0], str(found[1]), tuple(found[2])


def read_until_end(sock: socket.socket) -> bytes:
    """Read, waiting as long as the socket's timeout, what a process says up to END, and what of it came behind.

    One that says nothing of its sessions closes the connection instead. Raises OSError.
    """
    said = b""
    with contextlib.suppress(ConnectionResetError):
        while not said.startswith(END) and b"\n" + END not in said:
            data = sock.recv(65536)
            if not data:
                break
            said += data
    return said
