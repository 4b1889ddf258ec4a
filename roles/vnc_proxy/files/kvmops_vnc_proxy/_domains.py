# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The consoles of libvirt's domains, through virDomainOpenGraphicsFD: without a network port, whatever the port is.

Private to this collection.

Calls into libvirt block, and one that waits for the monitor of a hung QEMU never returns. So they run in a few threads,
each with a connection of its own (threads that share one of libvirt 9.0 lose wake-ups), never two at a time for the
same domain; a call that takes too long is left behind with its thread and its connection, and until it returns its
domain is turned away at once. A connection that was lost is opened again, and the call made again.

No event loop of libvirt's runs, so there is no keep-alive either: the connection is a unix socket, as descriptors can't
be handed over anywhere else, and its end shows at the next call.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import logging
import socket
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Hashable, Iterator
from typing import Any, Callable, NamedTuple
from xml.etree import ElementTree as ET

from ansible_collections.kvmops.console.plugins.module_utils import _vnc
from ansible_collections.kvmops.console.plugins.module_utils._errors import VncUnreachable

from ._denied import Denied, shown
from ._servers import peer_process

MOST_KNOWN = 4096
"""Domains whose graphics elements are remembered."""
_TRIES = 3
_MOST_LEFT_BEHIND = 64
"""Calls that hang. With more of them nothing is asked any more."""

_log = logging.getLogger(__name__)


class Found(NamedTuple):
    """A domain that libvirt has."""

    name: str
    uuid: str


class RunningDomain(NamedTuple):
    """A domain's QEMU process; two of these are equal as long as it is the same.

    libvirt numbers its domains as they start; `libvirtd` is the process that gave the number, since another may give it
    again.
    """

    uuid: str
    number: int
    libvirtd: tuple[int, ...]


class Console(NamedTuple):
    """A connection to a domain's VNC server, which does not block, and whose server that is."""

    sock: socket.socket
    identity: RunningDomain


class Domains:
    """libvirt at `uri`. `connections`: threads at most; `seconds` bounds each call."""

    def __init__(
        self, uri: str = "qemu:///system", *, connections: int = 2, seconds: float = 10.0, library: Any = None
    ) -> None:
        self._pool = _Pool(uri, connections, seconds, library)
        self._uri = uri
        self._indexes: OrderedDict[tuple[str, int], int] = OrderedDict()
        self._lock = threading.Lock()

    async def find(self, wanted: str) -> Found:
        """Return the domain of this name or UUID. Raises Denied."""

        def work(call: _Call) -> Found:
            handle = self._look_up(call, wanted)
            return Found(str(handle.name()), str(handle.UUIDString()))

        found: Found = await self._pool.run(None, work)
        return found

    async def open(self, domain: Found, *, skip_authentication: bool = False) -> Console:
        """Return a connection to the domain's VNC server, without its password if that is to be skipped.

        Raises Denied.
        """
        console: Console = await self._pool.run(domain.name, lambda call: self._open(call, domain, skip_authentication))
        return console

    def way(self, domain: Found, expected: Hashable) -> _vnc.Way:
        """Return the way to a domain's VNC server past its password, and to no other process than the expected one.

        To be opened in a thread that is not the event loop's.
        """

        def open_(seconds: float) -> _vnc.Stream:
            try:
                console: Console = self._pool.run_blocking(
                    domain.name, lambda call: self._open(call, domain, True), seconds
                )
            except Denied as error:
                raise VncUnreachable(error.sentence) from error
            if console.identity != expected:
                console.sock.close()
                raise VncUnreachable("the domain was started anew meanwhile.")
            return _vnc.Stream(console.sock)

        return _vnc.Way(f"the domain {shown(domain.name)}", open_)

    def close(self) -> None:
        """End the threads that have nothing to do; those that wait for libvirt are daemons."""
        self._pool.close()

    # In the threads

    def _look_up(self, call: _Call, wanted: str) -> Any:
        """Find by UUID what looks like one, and by name: a name may look like a UUID, too."""
        lookups = [call.connection.lookupByName]
        with contextlib.suppress(ValueError):
            uuid.UUID(wanted)
            lookups.insert(0, call.connection.lookupByUUIDString)
        for look_up in lookups:
            try:
                return look_up(wanted)
            except call.library.libvirtError as error:
                if error.get_error_code() != call.library.VIR_ERR_NO_DOMAIN:
                    raise
        raise Denied(404, f"There is no domain {shown(wanted)} on this host.")

    def _open(self, call: _Call, domain: Found, skip_authentication: bool) -> Console:
        flags = call.library.VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH if skip_authentication else 0
        for _turn in range(_TRIES):
            handle = self._look_up(call, domain.uuid)
            number = handle.ID()
            if number < 0:
                raise Denied(503, f"The domain {shown(domain.name)} is off: it has a console when it runs.")
            index = self._vnc_index(handle, domain, number)
            connection = socket.socket(fileno=handle.openGraphicsFD(index, flags))
            try:
                if self._look_up(call, domain.uuid).ID() == number:  # else it was started anew in between
                    connection.setblocking(False)
                    identity = RunningDomain(domain.uuid, number, peer_process(connection) or call.stand_in)
                    return Console(connection, identity)
            except BaseException:
                connection.close()
                raise
            connection.close()
        raise Denied(503, f"The domain {shown(domain.name)} is started anew again and again.")

    def _vnc_index(self, handle: Any, domain: Found, number: int) -> int:
        """Return the place of the first VNC element among all graphics elements; a running domain's don't change."""
        key = domain.uuid, number
        with self._lock:
            index = self._indexes.get(key)
        if index is None:
            index = vnc_index(handle.XMLDesc(0))
            if index is None:
                raise Denied(404, f"The domain {shown(domain.name)} has no VNC console.")
            with self._lock:
                self._indexes[key] = index
                while len(self._indexes) > MOST_KNOWN:
                    self._indexes.popitem(last=False)
        return index


def vnc_index(xml: str) -> int | None:
    """Return the place of the first VNC element among a domain's graphics elements, None without one."""
    types = [element.get("type") for element in ET.fromstring(xml).findall("devices/graphics")]
    return types.index("vnc") if "vnc" in types else None


# --- Calls into libvirt, bounded --------------------------------------------------------------------------------------


class _Call(NamedTuple):
    """What a piece of work is given: libvirt's bindings, and a connection that is nobody else's meanwhile.

    `stand_in` is the connection's own number, where libvirt's process can't be seen.
    """

    library: Any
    connection: Any
    stand_in: tuple[int, ...]


_Work = Callable[[_Call], Any]


class _Job:
    """A piece of work, and who waits for it. `key`: no two of the same at a time."""

    def __init__(self, key: str | None, work: _Work) -> None:
        self.key = key
        self.work = work
        self.future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        self.began: float | None = None
        self.unwanted = False
        self.left_behind = False


class _Pool:
    """Threads, each with a connection of its own, that work jobs off."""

    def __init__(self, uri: str, most: int, seconds: float, library: Any) -> None:
        self._uri = uri
        self._most = most
        self._seconds = seconds
        self._library = library
        self._links = itertools.count()
        self._changed = threading.Condition()
        self._waiting: list[_Job] = []
        self._running: list[_Job] = []
        self._left_behind: list[_Job] = []
        self._threads = 0
        self._idle = 0
        self._closed = False

    async def run(self, key: str | None, work: _Work) -> Any:
        """Return what `work` returns. Raises Denied, also when it takes too long."""
        job = self._submit(key, work)
        future = asyncio.wrap_future(job.future)
        try:
            await asyncio.wait((future,), timeout=self._seconds)
        except asyncio.CancelledError:
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            self._drop(job)
            raise
        if not future.done():
            raise self._too_slow(job)
        return future.result()

    def run_blocking(self, key: str | None, work: _Work, seconds: float) -> Any:
        """Do the same from a thread."""
        job = self._submit(key, work)
        try:
            return job.future.result(min(seconds, self._seconds))
        except concurrent.futures.TimeoutError:
            raise self._too_slow(job) from None

    def close(self) -> None:
        with self._changed:
            self._closed = True
            waiting, self._waiting = self._waiting, []
            self._changed.notify_all()
        for job in waiting:
            job.future.set_exception(Denied(503, "The proxy is about to end."))

    def _submit(self, key: str | None, work: _Work) -> _Job:
        job = _Job(key, work)
        with self._changed:
            if self._closed:
                raise Denied(503, "The proxy is about to end.")
            self._leave_slow_ones()
            if key is not None and any(other.key == key for other in self._left_behind):
                raise Denied(
                    503, f"libvirt still waits for the QEMU of the domain {shown(key)}, which does not answer."
                )
            if len(self._left_behind) >= _MOST_LEFT_BEHIND:
                raise Denied(503, "libvirt does not answer.")
            self._waiting.append(job)
            self._start_threads()
            self._changed.notify()
        return job

    def _start_threads(self) -> None:
        while self._threads < self._most and self._idle < len(self._waiting):
            self._threads += 1
            self._idle += 1
            threading.Thread(target=self._work_off, name="libvirt", daemon=True).start()

    def _leave_slow_ones(self) -> None:
        """Nobody may wait any more for a call that takes too long; it takes a thread away all the same."""
        now = time.monotonic()
        for job in [job for job in self._running if job.began is not None and now - job.began > self._seconds]:
            self._leave(job)

    def _leave(self, job: _Job) -> None:
        self._running.remove(job)
        self._left_behind.append(job)
        job.left_behind = True
        self._threads -= 1

    def _too_slow(self, job: _Job) -> Denied:
        self._drop(job)
        with self._changed:
            if job in self._running:
                self._leave(job)
            self._start_threads()
            hung = job.left_behind and job.key is not None
        if hung:
            return Denied(
                503, f"The domain {shown(job.key or '')} did not answer libvirt within {self._seconds:g} seconds."
            )
        return Denied(503, f"libvirt did not answer within {self._seconds:g} seconds.")

    def _drop(self, job: _Job) -> None:
        """Nobody wants the result any more."""
        with self._changed:
            job.unwanted = True
            if job in self._waiting:
                self._waiting.remove(job)
                job.future.cancel()
            elif job.future.done() and not job.future.cancelled() and not job.future.exception():
                _close_result(job.future.result())

    # In the threads

    def _work_off(self) -> None:
        link = _Link(self._uri, self._library, self._links)
        stays = True
        while stays:
            job = self._next()
            if job is None:
                break
            result, failure = None, None
            try:
                result = link.do(job.work)
            except Exception as error:  # pylint: disable=broad-exception-caught  # whoever waits raises it
                failure = error
            stays = self._finish(job, result, failure)
        link.close()

    def _next(self) -> _Job | None:
        """Wait for a job whose key no other one has that runs; None at the end."""
        with self._changed:
            while True:
                busy = {job.key for job in self._running if job.key is not None}
                job = next((job for job in self._waiting if job.key not in busy), None)
                if job is not None:
                    break
                if self._closed:
                    self._idle -= 1
                    self._threads -= 1
                    return None
                self._changed.wait()
            self._waiting.remove(job)
            self._running.append(job)
            self._idle -= 1
            job.began = time.monotonic()
            return job

    def _finish(self, job: _Job, result: Any, error: Exception | None) -> bool:
        """Hand over what came of a job. Returns whether the thread goes on."""
        with self._changed:
            if job.unwanted:
                _close_result(result)
            elif error is not None:
                job.future.set_exception(error)
            else:
                job.future.set_result(result)
            if job.left_behind:
                self._left_behind.remove(job)
                return False
            self._running.remove(job)
            self._idle += 1
            self._changed.notify_all()
            return True


def _close_result(result: Any) -> None:
    if isinstance(result, Console):
        result.sock.close()


class _Link:
    """One thread's connection to libvirt: opened when it is needed, and again when it was lost."""

    def __init__(self, uri: str, library: Any, numbers: Iterator[int]) -> None:
        self._uri = uri
        self._library = library
        self._numbers = numbers
        self._call: _Call | None = None

    def do(self, work: _Work) -> Any:
        """Return what `work` returns. Raises Denied."""
        for turn in (1, 2):
            call = self._call or self._open()
            try:
                return work(call)
            except call.library.libvirtError as error:
                if turn == 2 or self._is_alive(call):
                    raise Denied(503, f"libvirt at {self._uri} does not open the console: {_said(error)}.") from error
                _log.info("The connection to libvirt at %s was lost, and is made again.", self._uri)
                self.close()
        raise AssertionError  # the second turn returns or raises

    def close(self) -> None:
        call, self._call = self._call, None
        if call:
            with contextlib.suppress(call.library.libvirtError):
                call.connection.close()

    def _open(self) -> _Call:
        library = self._library or _import_libvirt()
        try:
            connection = library.open(self._uri)
        except library.libvirtError as error:
            raise Denied(503, f"libvirt at {self._uri} can't be reached: {_said(error)}.") from error
        self._call = _Call(library, connection, (next(self._numbers),))
        return self._call

    def _is_alive(self, call: _Call) -> bool:
        try:
            return bool(call.connection.isAlive())
        except call.library.libvirtError:
            return False


def _said(error: Any) -> str:
    return str(error.get_error_message() or error).rstrip(".")


def _import_libvirt() -> Any:
    try:
        import libvirt
    except ImportError as error:
        raise Denied(
            503,
            "Domains need libvirt's Python bindings on the proxy's host: install the package python3-libvirt "
            "(Debian, Ubuntu, Fedora, RHEL) or python3-libvirt-python (SUSE).",
        ) from error
    libvirt.registerErrorHandler(lambda _context, _error: None, None)  # else the library writes to stderr, too
    return libvirt
