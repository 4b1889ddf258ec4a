# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Talks to QEMU over a QMP socket: commands, events, descriptors lent to it, its power, and its screens.

Private to this collection.

The protocol is the `qemu.qmp` library's; here it gets a synchronous face, time limits, and our errors. A monitor of
QEMU has one client at a time: whoever comes second waits for its greeting until the first has gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import random
import socket
import struct
import time
import traceback
import typing as t

from ansible_collections.kvmops.console.plugins.module_utils import _image, _power
from ansible_collections.kvmops.console.plugins.module_utils._errors import (
    ConsoleError,
    ImageError,
    InputError,
    MissingLibrary,
    QmpError,
    QmpLost,
    QmpRefused,
    QmpUnreachable,
    TookTooLong,
)
from ansible_collections.kvmops.console.plugins.module_utils._power_drive import Answer

if t.TYPE_CHECKING:
    from types import TracebackType

try:
    from qemu.qmp import ExecuteError, Message, QMPClient, QMPError, Runstate
except ImportError:
    QMP_TRACEBACK: str | None = traceback.format_exc()
else:
    QMP_TRACEBACK = None

Arguments = t.Mapping[str, object]
R = t.TypeVar("R")

INSTALL = "install qemu.qmp, 0.0.6 or newer, with pip for the Python that runs this module."

LONGEST_PATH = 107
"""Bytes of a unix socket's path (sun_path of unix(7), less its end)."""

OURS = "kvmops.console"
"""What query-fdsets says of the descriptors that we lend."""

MOST_KEPT = 16
"""How many of our descriptors QEMU may be left with while its guest is paused.

Before 9.1 it takes note of remove-fd only, and closes them when the guest runs again (monitor_fdset_cleanup() in
monitor/misc.c, 7.2.0); it has but some hundred descriptors for all it does.
"""

_CLOSING = 2.0
"""Seconds for a decent end of a conversation; it is ended in any case."""

# The library tells its log what it raises, too; without a handler that would be written to stderr.
logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())


class Event(t.NamedTuple):
    """What QEMU tells unasked: `at` is its own time (seconds since 1970)."""

    name: str
    data: dict[str, t.Any]
    at: float


class NoQemu(QmpUnreachable):
    """No QEMU listens on the socket: there is none, or it is what one left behind that has ended."""


class Dump(t.NamedTuple):
    """A PPM of a screen, and for how many milliseconds the monitor was busy with it."""

    ppm: bytes
    blocked_ms: float


@contextlib.contextmanager
def connect(path: str, timeout: float) -> t.Iterator[Monitor]:
    """A conversation with the QEMU whose QMP socket is `path`.

    `timeout`: seconds to get through to it, and seconds for each command that does not say otherwise.
    Raises MissingLibrary, InputError (no such path can be), QmpUnreachable.
    """
    if QMP_TRACEBACK is not None:
        raise MissingLibrary(f"Talking to QEMU needs the library qemu.qmp: {INSTALL}")
    deadline = time.monotonic() + timeout
    monitor = Monitor(_reach(path, timeout), path, timeout, max(0.0, deadline - time.monotonic()))
    try:
        yield monitor
    finally:
        monitor.close()


def _reach(path: str, timeout: float) -> socket.socket:
    """A connected socket.

    Not by asyncio, which takes a queue of callers that is full (EAGAIN: a QEMU that hangs) for a connection under way.
    """
    if len(os.fsencode(path)) > LONGEST_PATH:
        raise InputError(
            f"The path of a unix socket may have {LONGEST_PATH} bytes, and {path} has more: make a shorter symbolic"
            " link to its folder."
        )
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", int(timeout), int(timeout % 1 * 1e6)))
        sock.connect(path)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", 0, 0))
        sock.setblocking(False)
    except OSError as e:
        sock.close()
        nobody = isinstance(e, (ConnectionRefusedError, FileNotFoundError))
        raise (NoQemu if nobody else QmpUnreachable)(_why_unreachable(path, e, timeout)) from e
    return sock


def _why_unreachable(path: str, error: OSError, timeout: float) -> str:
    if isinstance(error, BlockingIOError):
        return _no_greeting(path, timeout)
    if isinstance(error, ConnectionRefusedError):
        return f"No QEMU listens on {path} any more: start it, or leave this socket out."
    if isinstance(error, FileNotFoundError):
        return f"There is no socket {path}: start QEMU with -qmp unix:{path},server=on,wait=off, or correct the path."
    if isinstance(error, PermissionError):
        return f"The socket {path} is not ours to use: run this as root, or as the user that QEMU runs as."
    if error.errno in (errno.EPROTOTYPE, errno.ENOTSOCK):
        return f"{path} is no socket that QMP could be spoken on: correct the path."
    return f"The socket {path} cannot be reached: {error.strerror}; correct the path."


def _no_greeting(path: str, timeout: float) -> str:
    return (
        f"QEMU did not greet on {path} within {timeout:g} s: it hangs, or another program holds this monitor; give each"
        " program a monitor of its own."
    )


class Monitor:
    """One conversation. Not for several threads at once. Use connect()."""

    def __init__(self, sock: socket.socket, path: str, timeout: float, remaining: float) -> None:
        self.path = path
        self._timeout = timeout
        self._loop = asyncio.new_event_loop()
        # What the library's own tasks raise reaches us from disconnect(), or as the end of a command.
        self._loop.set_exception_handler(lambda loop, context: None)
        try:
            self._client = self._run(self._open(sock), remaining)
        except BaseException as e:
            sock.close()
            self._end_loop()
            if isinstance(e, asyncio.TimeoutError):
                raise QmpUnreachable(_no_greeting(path, timeout)) from e
            if isinstance(e, QMPError):
                raise QmpUnreachable(_why_no_session(path, e)) from e
            raise

    @staticmethod
    async def _open(sock: socket.socket) -> QMPClient:
        client = QMPClient()
        await client.connect(sock)
        return client

    @property
    def version(self) -> tuple[int, int, int]:
        """QEMU's version, as it greets."""
        greeting = self._client.greeting
        if greeting is None:
            raise QmpLost("QEMU has not greeted.")
        qemu: t.Any = greeting.QMP.version["qemu"]
        return (qemu["major"], qemu["minor"], qemu["micro"])

    def execute(self, command: str, arguments: Arguments | None = None, *, timeout: float | None = None) -> t.Any:
        """What QEMU returns. Raises QmpRefused, QmpLost, TookTooLong."""
        seconds = self._timeout if timeout is None else timeout
        try:
            return self._run(self._client.execute(command, arguments), seconds)
        except asyncio.TimeoutError as e:
            raise TookTooLong(
                f"QEMU on {self.path} did not answer {command} within {seconds:g} s: it hangs, or its host is"
                " overloaded."
            ) from e
        except ExecuteError as e:
            reason = e.error.error.desc
            raise QmpRefused(f"QEMU on {self.path} refuses {command}: {reason}.", e.error.error.class_, reason) from e
        except QMPError as e:
            raise QmpLost(self._lost(f"it was to execute {command}")) from e

    @contextlib.contextmanager
    def lend(self, descriptor: int) -> t.Iterator[str]:
        """The name under which QEMU can open the file behind `descriptor`, as which QEMU needs no right to any path.

        QEMU wants the access mode of `descriptor` to be the very one that it opens the file with. Raises as execute().
        """
        # Nobody else's: people give theirs small numbers. The name is read as an int (QEMU: util/osdep.c).
        number = random.randrange(1 << 20, 1 << 31)
        try:
            self._client.send_fd_scm(descriptor)
        except (QMPError, OSError) as e:
            raise QmpLost(self._lost("it was to be lent a file")) from e
        self.execute("add-fd", {"fdset-id": number, "opaque": OURS})
        try:
            yield f"/dev/fdset/{number}"
        except (TookTooLong, QmpLost):
            # Nobody is there to ask. QEMU lets go of it when its last monitor is disconnected.
            raise
        except BaseException:
            with contextlib.suppress(ConsoleError):
                self.execute("remove-fd", {"fdset-id": number})
            raise
        self.execute("remove-fd", {"fdset-id": number})

    def wait_event(self, names: t.Container[str], timeout: float) -> Event | None:
        """The first event of these names since the last that was waited for, or since connecting; None in `timeout`.

        Earlier ones of other names are dropped. Raises QmpLost, after the last event, when QEMU has gone.
        """
        try:
            return self._run(self._next_event(names), timeout)
        except asyncio.TimeoutError:
            return None

    def forget_events(self) -> None:
        """Drop the events that came with what was executed last, and before."""
        self._client.events.clear()

    async def _next_event(self, names: t.Container[str]) -> Event:
        while True:
            message = await self._next_message()
            if str(message["event"]) in names:
                return _event(message)

    async def _next_message(self) -> Message:
        if self._client.events.empty():
            if self._client.runstate != Runstate.RUNNING:
                raise QmpLost(self._lost("it was to tell of an event"))
            coming = asyncio.ensure_future(self._client.events.get())
            ending = asyncio.ensure_future(self._ended())
            try:
                await asyncio.wait((coming, ending), return_when=asyncio.FIRST_COMPLETED)
                if coming.done():
                    return coming.result()
            finally:
                coming.cancel()
                ending.cancel()
            return await self._next_message()
        return await self._client.events.get()

    async def _ended(self) -> None:
        # The library tells of a change only those who wait by then: a task that is yet to begin would miss it.
        while self._client.runstate == Runstate.RUNNING:
            await self._client.runstate_changed()

    def _lost(self, when: str) -> str:
        return f"The QEMU on {self.path} ended, or closed its monitor, when {when}."

    def close(self) -> None:
        """End the conversation; a second time, do nothing."""
        if self._loop.is_closed():
            return
        with contextlib.suppress(Exception):  # what ended it before is raised once more
            self._run(self._client.disconnect(), _CLOSING)
        self._end_loop()

    def _run(self, work: t.Coroutine[t.Any, t.Any, R], seconds: float) -> R:
        return self._loop.run_until_complete(asyncio.wait_for(work, seconds))

    def _end_loop(self) -> None:
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self._loop.run_until_complete(asyncio.wait(tasks, timeout=_CLOSING))
        self._loop.close()


def _event(message: t.Mapping[str, t.Any]) -> Event:
    stamp = message["timestamp"]
    return Event(message["event"], message.get("data", {}), stamp["seconds"] + stamp["microseconds"] / 1e6)


def _why_no_session(path: str, error: QMPError) -> str:
    cause = getattr(error, "exc", None)
    if isinstance(cause, (EOFError, OSError)):
        return f"The QEMU on {path} ended, or closed its monitor, when it was to greet."
    return f"What listens on {path} does not speak QMP: give the path of a -qmp socket of QEMU."


# --- Power ------------------------------------------------------------------------------------------------------------

RUNNING_STATES = {
    "running": _power.ON,
    "prelaunch": _power.PAUSED,
    "paused": _power.PAUSED,
    "io-error": _power.PAUSED,
    "watchdog": _power.PAUSED,
    "suspended": _power.SUSPENDED,
    "guest-panicked": _power.CRASHED,
    "internal-error": _power.CRASHED,
    "shutdown": _power.OFF,
}
"""What QEMU's RunState means (qapi/run-state.json). The others are of migrating or saving: nothing is done then."""

AGENT, ACPI, CTRL_ALT_DEL = "agent", "acpi", "ctrl_alt_del"
"""The methods that ask a guest."""

_COMMANDS: dict[str, tuple[str, Arguments | None]] = {
    ACPI: ("system_powerdown", None),
    CTRL_ALT_DEL: ("send-key", {"keys": [{"type": "qcode", "data": key} for key in ("ctrl", "alt", "delete")]}),
    _power.RESUME: ("cont", None),
    _power.WAKE: ("system_wakeup", None),
    _power.PAUSE: ("stop", None),
    _power.RESET: ("system_reset", None),
    _power.NMI: ("inject-nmi", None),
}

_TELLING = ("SHUTDOWN", "RESET", "STOP", "RESUME", "SUSPEND", "WAKEUP", "POWERDOWN", "GUEST_PANICKED")

_PAUSE = 0.2
"""Seconds before a QEMU is called once more that does not answer, or that is just ending."""


class Machine:
    """A QEMU to be switched, as _power_drive wants it: `look`, `request`, `wait`. Use it with `with`.

    `force`: the command that FORCE stands for, quit or system_reset. `agent`: has the guest's agent do what is wanted,
    and raises ConsoleError where that does not take it. `trouble` says why it could not be read last.
    """

    def __init__(self, path: str, timeout: float, force: str, agent: t.Callable[[], None] | None = None) -> None:
        self.path = path
        self._agent = agent
        self.trouble: str | None = None
        self._timeout = timeout
        self._force = force
        self._stack = contextlib.ExitStack()
        self._monitor: Monitor | None = None
        self._process: str | None = None
        self._resets = False
        self._crashed = False

    def __enter__(self) -> Machine:
        """Raises as connect() does; not where there is no QEMU, which is a machine that is off."""
        with contextlib.suppress(NoQemu):
            self._connected()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._drop()

    def look(self) -> _power.Observation:
        """What it does now. A connection that broke is made anew, since only that tells whether QEMU has ended."""
        for last in (False, True):
            try:
                state = str(self._connected().execute("query-status")["status"])
            except NoQemu:
                self.trouble = None
                return _power.Observation(_power.OFF)
            except QmpLost as e:
                self._drop()
                self.trouble = str(e)
                if last:
                    break
            except (QmpUnreachable, TookTooLong) as e:
                self._drop()
                self.trouble = str(e)
                break
            else:
                self.trouble = None if state in RUNNING_STATES else f"QEMU on {self.path} is in the state {state}."
                power = RUNNING_STATES.get(state, _power.UNKNOWN)
                self._crashed = power == _power.CRASHED
                return _power.Observation(power, self._process)
        return _power.Observation(_power.UNKNOWN)

    def request(self, request: _power.Request) -> Answer:
        """Have it done. Whether a command was heard whose answer did not come will be seen, but for an NMI."""
        if request.method == AGENT and self._agent is not None:
            self._connected().forget_events()
            self._agent()
            return Answer(request)
        command, arguments = _COMMANDS.get(request.method, (self._force, None))
        monitor = self._connected()
        monitor.forget_events()
        resets = command == "system_reset"
        self._resets = self._resets or resets
        try:
            monitor.execute(command, arguments)
            if resets and self._crashed:
                # QEMU keeps what it had stopped for stopped (softmmu/runstate.c, main_loop_should_exit, 7.2.0).
                monitor.execute("cont")
        except (QmpLost, TookTooLong) as e:
            self._drop()
            return Answer(request, str(e) if request.method == _power.NMI else None)
        except QmpRefused as e:
            return Answer(request, str(e))
        return Answer(request)

    def wait(self, seconds: float) -> str | None:
        """What it tells next. A reset counts as the guest's own, or as one that was requested here."""
        if self._monitor is None:
            time.sleep(min(seconds, _PAUSE))
            return _power.GAP
        try:
            event = self._monitor.wait_event(_TELLING, seconds)
        except QmpLost:
            self._drop()
            return _power.CHANGED
        if event is None:
            return None
        own = event.name == "RESET" and (self._resets or event.data.get("guest"))
        return _power.REBOOTED if own else _power.CHANGED

    def _connected(self) -> Monitor:
        if self._monitor is None:
            monitor = self._stack.enter_context(connect(self.path, self._timeout))
            try:
                # The thread of its first processor is another one in another process.
                processors = monitor.execute("query-cpus-fast")
            except BaseException:
                self._stack.close()
                raise
            self._process = str(processors[0]["thread-id"]) if processors else None
            self._monitor = monitor
        return self._monitor

    def _drop(self) -> None:
        self._monitor = None
        self._stack.close()


# --- Screens ----------------------------------------------------------------------------------------------------------


def screendump(monitor: Monitor, device: str | None, head: int) -> Dump:
    """What a screen shows: of the primary console, or of a head of the display device whose id is `device`.

    Always PPM, which is screendump's default in every version (QEMU: qapi/ui.json), and the only format before 7.1.
    Raises InputError for a screen that is not there, ImageError for one too large, and what execute() raises.
    """
    _check_kept(monitor)
    wanted = {} if device is None else {"device": device, "head": head}
    memory = os.memfd_create("kvmops-screen")
    try:
        # A memfd is open for reading and writing, which is not what QEMU opens the file with.
        writer = os.open(f"/proc/self/fd/{memory}", os.O_WRONLY | os.O_CLOEXEC)
        try:
            with monitor.lend(writer) as name:
                began = time.monotonic()
                monitor.execute("screendump", {"filename": name, **wanted})
                took = time.monotonic() - began
        finally:
            os.close(writer)
        return Dump(_content(memory), round(took * 1000, 3))
    except QmpRefused as e:
        raise _explain(e, device, head) from e
    finally:
        # Where QEMU keeps its copy for the time being, it keeps no picture.
        os.ftruncate(memory, 0)
        os.close(memory)


def _check_kept(monitor: Monitor) -> None:
    """Refuse to lend a paused QEMU more and more. Raises QmpError."""
    if monitor.execute("query-status")["running"]:
        return
    sets = monitor.execute("query-fdsets")
    kept = sum(entry.get("opaque") == OURS for one in sets for entry in one["fds"])
    if kept >= MOST_KEPT:
        raise QmpError(
            f"QEMU on {monitor.path} is paused, and this version closes none of the {kept} files that it was lent until"
            " it runs again: resume it, or use the pictures that were taken."
        )


def _content(memory: int) -> bytes:
    size = os.fstat(memory).st_size
    if size > 3 * _image.MOST_PIXELS + 1024:
        raise ImageError(f"The picture has {size} bytes, more than is looked at: give the guest a smaller screen.")
    with os.fdopen(os.dup(memory), "rb") as stream:
        stream.seek(0)
        return stream.read(size)


def _explain(refused: QmpRefused, device: str | None, head: int) -> ConsoleError:
    """QEMU's refusal of a screendump in terms of what the play can change (words: ui/console.c, 7.2.0)."""
    if "no console" in refused.reason:
        return InputError("it has no display device, so there is no screen.")
    if refused.kind == "DeviceNotFound":
        return InputError(f"it has no device {device}: give the id= of a display device, or leave device out.")
    if "not bound to a QemuConsole" in refused.reason:
        return InputError(f"its device {device} has no screen {head}: name another head, or a display device.")
    return refused


def press_shift(monitor: Monitor) -> None:
    """Press and release Shift, which wakes a screen and types nothing."""
    monitor.execute("send-key", {"keys": [{"type": "qcode", "data": "shift"}]})


def nudge_pointer(monitor: Monitor) -> None:
    """Move the pointer by a pixel and back; one that knows positions only (a tablet) goes to the upper left corner."""
    try:
        for step in (1, -1):
            monitor.execute("input-send-event", {"events": [_axis("rel", "x", step)]})
    except QmpRefused:
        for position in (64, 0):
            monitor.execute("input-send-event", {"events": [_axis("abs", "x", position), _axis("abs", "y", position)]})


def _axis(kind: str, axis: str, value: int) -> Arguments:
    return {"type": kind, "data": {"axis": axis, "value": value}}
