# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Brings many libvirt domains to the power state that is wanted of them, all at once. The rules are _power's.

Private to this collection.

One thread turns libvirt's event loop, another decides (the caller's). Requests that take their time have a thread and a
connection of their own each, for two calls on one connection can hang when one of them does: libvirt's client loses
wake-ups (seen with 9.0: g_main_loop_quit() before g_main_loop_run() in virnetclient.c), and libvirtd reads nothing more
from a client that has five calls under way (libvirtd.conf, max_client_requests). Quick ones go over the connection that
looks, while nothing else does; one that turns out to hang keeps it, and looking goes on over another.
"""

from __future__ import annotations

import base64
import json
import queue
import re
import threading
import time
import typing as t
from collections import deque
from contextlib import suppress
from pathlib import Path

from ansible_collections.kvmops.console.plugins.module_utils import _libvirt, _power, _qemu_process
from ansible_collections.kvmops.console.plugins.module_utils._concurrent import (
    bounded_map,
    leave_behind,
    left_behind,
)
from ansible_collections.kvmops.console.plugins.module_utils._domain_traps import ACPI, AGENT
from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError
from ansible_collections.kvmops.console.plugins.module_utils._libvirt import Connection, DefinitionWatch, Listed
from ansible_collections.kvmops.console.plugins.module_utils._power import (
    Done,
    Look,
    Observation,
    Power,
    Request,
    Wait,
)

with suppress(ImportError):  # _libvirt.LIBVIRT_TRACEBACK says so
    import libvirt

QUICK = (ACPI, _power.PAUSE, _power.RESUME, _power.WAKE, _power.RESET, _power.NMI)
"""What a QEMU that is alive does in milliseconds."""

SLOW = 0.25
"""Seconds after which a quick request is taken to hang."""

OPENING = 5.0
"""Seconds that libvirtd has for a connection more."""

AGAIN = 0.25
"""Seconds between two attempts to connect again."""

LOOK_AGAIN = 1.0
"""Seconds until a machine that could not be read is read again."""

AGENT_ANSWER = 5.0
"""Seconds that a guest agent has for an answer."""

LAST_WORDS = 5.0
"""Seconds that calls have to return at the end, when what they were for has happened."""


class Process(t.NamedTuple):
    """A process of the host; the pid alone could be given to another one day."""

    pid: int
    started: int


def process_of(connection: Connection, name: str, uuid: str, proc: Path = Path("/proc")) -> Process | None:
    """The QEMU of a domain; None where it cannot be seen."""
    if not connection.is_local:
        return None
    found = _qemu_process.find(connection.uri, name, uuid, proc)
    if found is None:
        return None
    try:
        stat = (proc / str(found.pid) / "stat").read_text(errors="replace")
        return Process(found.pid, int(stat.rpartition(")")[2].split()[19]))  # proc(5): the 22nd, starttime
    except (OSError, ValueError, IndexError):
        return None


def power_of(state: str, reason: int = 0) -> str:
    """_power's word for a state of libvirt's, and the reason that came with it."""
    if state == "paused" and reason in (libvirt.VIR_DOMAIN_PAUSED_CRASHED, libvirt.VIR_DOMAIN_PAUSED_SHUTTING_DOWN):
        return _power.CRASHED if reason == libvirt.VIR_DOMAIN_PAUSED_CRASHED else _power.STOPPING
    return {
        "running": _power.ON,
        "blocked": _power.ON,
        "paused": _power.PAUSED,
        "shutdown": _power.STOPPING,
        "shutoff": _power.OFF,
        "crashed": _power.CRASHED,
        "pmsuspended": _power.SUSPENDED,
    }.get(state, _power.UNKNOWN)


def as_listed(domain: Listed) -> Observation:
    """What the listing says of a domain, without a call; the process is not told."""
    return Observation(power_of(domain.state), saved=domain.managed_save)


class Hold(t.NamedTuple):
    """What keeps a domain from being switched for a while: `reason()` says why, or None when it may go on."""

    until: float
    reason: t.Callable[[], t.Optional[str]]


class Job:
    """One domain on its way. Afterwards `done` says what became of it, and `state` is libvirt's word for what it is.

    `before` and `after` are its QEMU processes. `trouble`: why it could not be read in the end. `by_boot`: whether its
    agent is asked for the guest's boot id, which libvirt takes note of (it taints the domain); `boot` is what it was
    last, and `boot_trouble` why it is not known.
    """

    def __init__(self, domain: Listed, power: Power, hold: Hold | None = None, by_boot: bool = False) -> None:
        self.domain = domain
        self.power = power
        self.hold = hold
        self.state = domain.state
        self.until = 0.0
        self.done: Done | None = None
        self.before: Process | None = None
        self.after: Process | None = None
        self.trouble: str | None = None
        self.agent_left = False
        self.by_boot = by_boot
        self.boot: str | None = None
        self.boot_trouble: str | None = None
        self._by_process: bool | None = None

    def identity(self, number: int, process: Process | None) -> str | None:
        """Names the process: by its pid where that could be seen from the beginning, else by libvirt's number."""
        if self._by_process is None:
            self._by_process = process is not None
            self.before = process
        self.after = process
        if self._by_process:
            return f"{number}/{process.pid}/{process.started}" if process else None
        return str(number)


class _Call:
    """A request under way, in its own thread."""

    def __init__(self, job: Job, request: Request, line: t.Any) -> None:
        self.job = job
        self.request = request
        self.line = line
        self.error: str | None = None
        self.thread: threading.Thread | None = None
        self.returned = threading.Event()

    @property
    def is_about_to_return(self) -> bool:
        """Whether it has not been given up: its effect is waited for still, or was seen."""
        done = self.job.done
        return self.job.power.awaits(self.request) or (done is not None and done.ok)


class _Event(t.NamedTuple):
    uuid: str
    what: str


class _Agent(t.NamedTuple):
    uuid: str
    connected: bool


class _Answer(t.NamedTuple):
    call: _Call


class _Boot(t.NamedTuple):
    """What an agent said, or None."""

    uuid: str
    boot: str | None


class _Lost(t.NamedTuple):
    handle: t.Any


class _Found(t.NamedTuple):
    handle: t.Any


_Item = t.Union[_Event, _Agent, _Boot, _Answer, _Lost, _Found]


class EventLoop:
    """libvirt's own event loop, turned by a thread. `prepare` has to come before the connection is made."""

    @staticmethod
    def prepare() -> None:
        DefinitionWatch.prepare()

    def __init__(self) -> None:
        self._ended = False
        self._timer = libvirt.virEventAddTimeout(-1, lambda timer, opaque: None, None)
        self._thread = threading.Thread(target=self._turn, daemon=True)
        self._thread.start()

    def _turn(self) -> None:
        while not self._ended:
            try:
                libvirt.virEventRunDefaultImpl()
            except libvirt.libvirtError:
                time.sleep(0.01)  # nothing says why, and it must not spin

    def close(self) -> None:
        self._ended = True
        libvirt.virEventUpdateTimeout(self._timer, 0)
        self._thread.join(5)
        libvirt.virEventRemoveTimeout(self._timer)


class Switchboard:
    """Switches the domains of one connection. To be used in a `with` block, once."""

    def __init__(self, connection: Connection, concurrency: int, clock: t.Callable[[], float] = time.monotonic) -> None:
        self._connection = connection
        self._concurrency = concurrency
        self._clock = clock
        self._items: queue.Queue[_Item] = queue.Queue()
        self._backlog: deque[tuple[Job, Request]] = deque()
        self._sight = connection.handle
        self._idle: list[t.Any] = []
        self._calls: list[_Call] = []
        self._own: list[t.Any] = []
        self._lost = False
        self._had_gap = False
        self._closed = threading.Event()
        self._jobs: dict[str, Job] = {}
        self._readers: dict[str, threading.Thread] = {}

    def __enter__(self) -> Switchboard:
        self._loop = EventLoop()
        self._callbacks: list[int] = []
        with _libvirt.translated(f"Listening to the events of {self._connection.uri}", needs=_libvirt.SEARCH):
            self._listen(self._connection.handle)
        return self

    def __exit__(self, *_error: object) -> None:
        self._closed.set()
        for thread in (*(call.thread for call in self._calls), *self._readers.values()):
            if thread is not None:
                leave_behind(thread)
        self._stop_listening()
        self._loop.close()
        if not left_behind():
            for handle in self._own:
                with suppress(libvirt.libvirtError):
                    handle.close()

    # Events

    def _listen(self, handle: t.Any) -> None:
        events = (
            (libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_lifecycle),
            (libvirt.VIR_DOMAIN_EVENT_ID_REBOOT, self._on_reboot),
            (libvirt.VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, self._on_agent),
        )
        self._callbacks = []
        for number, callback in events:
            try:
                self._callbacks.append(handle.domainEventRegisterAny(None, number, callback, None))
            except libvirt.libvirtError as e:
                if number == libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE or e.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT:
                    raise
        with suppress(libvirt.libvirtError):  # some drivers have nothing to lose
            handle.registerCloseCallback(self._on_close, None)
            handle.setKeepAlive(5, 3)

    def _stop_listening(self) -> None:
        if self._lost or left_behind():
            return
        for number in self._callbacks:
            with suppress(libvirt.libvirtError):
                self._sight.domainEventDeregisterAny(number)
        with suppress(libvirt.libvirtError):
            self._sight.unregisterCloseCallback()

    def _on_lifecycle(self, connection: t.Any, domain: t.Any, event: int, detail: int, opaque: t.Any) -> None:
        self._items.put(_Event(domain.UUIDString(), _power.CHANGED))

    def _on_reboot(self, connection: t.Any, domain: t.Any, opaque: t.Any) -> None:
        self._items.put(_Event(domain.UUIDString(), _power.REBOOTED))

    def _on_agent(self, connection: t.Any, domain: t.Any, state: int, reason: int, opaque: t.Any) -> None:
        connected = state == libvirt.VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_CONNECTED
        self._items.put(_Agent(domain.UUIDString(), connected))

    def _on_close(self, connection: t.Any, reason: int, opaque: t.Any) -> None:
        self._items.put(_Lost(connection))

    # The one wait for all

    def run(self, jobs: t.Sequence[Job]) -> None:
        """Bring every job to its end."""
        self._jobs = {job.domain.uuid: job for job in jobs}
        self._learn_boots([job for job in jobs if job.by_boot])
        for job in jobs:
            self._advance(job)
        while True:
            self._dispatch()
            waiting = [job for job in jobs if job.done is None]
            if not waiting:
                break
            self._take(min(job.until for job in waiting))
            now = self._clock()
            for job in waiting:
                if job.done is None and job.until <= now:
                    self._advance(job)
        self._hear_last_words()

    def _take(self, until: float) -> None:
        """Everything that has happened, or the first thing that happens before `until`."""
        with suppress(queue.Empty):
            self._handle(self._items.get(timeout=max(0.0, until - self._clock())))
            while True:
                self._handle(self._items.get_nowait())

    def _hear_last_words(self) -> None:
        """Let calls return whose purpose is fulfilled; those that hang are not waited for."""
        end = self._clock() + LAST_WORDS
        while self._clock() < end and any(call.job.done is not None and call.job.done.ok for call in self._calls):
            self._take(end)

    def _handle(self, item: _Item) -> None:
        if isinstance(item, _Lost):
            self._lose(item.handle)
        elif isinstance(item, _Found):
            self._find(item.handle)
        elif isinstance(item, _Answer):
            self._hear(item.call)
        else:
            job = self._jobs.get(item.uuid)
            if job is None or job.done is not None:
                return
            if isinstance(item, _Agent):
                job.agent_left = not item.connected
                if item.connected:
                    self._ask_boot(job)
            elif isinstance(item, _Boot):
                self._hear_boot(job, item.boot)
            else:
                job.power.event(self._clock(), item.what)
                self._advance(job)

    def _hear(self, call: _Call) -> None:
        if call not in self._calls:
            return  # heard already
        self._calls.remove(call)
        error = call.error
        if call.line is not None and _is_alive(call.line):
            if call.line is not self._sight:
                self._idle.append(call.line)
        elif error is not None and self._is_to_be_sent_again(call):
            self._backlog.append((call.job, call.request))
            return
        elif call.line is not None:
            error = None  # lost with the connection: whether it was heard will be seen
        if call.job.done is None:
            call.job.power.answered(self._clock(), call.request, error)
            self._advance(call.job)

    def _is_to_be_sent_again(self, call: _Call) -> bool:
        """Whether the request was lost with the connection, and either never left or, being a start, does no harm."""
        if call.line is not None:
            self._lose(call.line)
            return call.request.method == _power.START
        if not _is_alive(self._sight):
            self._lose(self._sight)
        return self._lost

    def _advance(self, job: Job) -> None:
        """Do what the rules say, until they say to wait."""
        if job.hold is not None and self._is_held(job, job.hold):
            return
        if self._may_miss_events(job):
            self._ask_boot(job)
        while True:
            now = self._clock()
            action = job.power.next(now)
            if isinstance(action, Look):
                job.power.observed(self._clock(), self._look(job))
            elif isinstance(action, Request):
                if action.method == AGENT and job.agent_left:
                    job.power.answered(now, action, "the guest agent has left")
                else:
                    self._backlog.append((job, action))
            elif isinstance(action, Wait):
                job.until = min(action.until, now + LOOK_AGAIN) if self._may_miss_events(job) else action.until
                return
            else:
                job.done = action
                return

    def _may_miss_events(self, job: Job) -> bool:
        """A libvirtd that has just come up finds out one by one which QEMUs are gone, and sends no event of it."""
        return not self._lost and (self._had_gap or job.trouble is not None)

    def _is_held(self, job: Job, hold: Hold) -> bool:
        reason = hold.reason()
        if reason is None:
            job.hold = None
            return False
        now = self._clock()
        if now < hold.until:
            job.until = min(hold.until, now + LOOK_AGAIN)
        else:
            job.done = Done(False, False, False, None, reason)
        return True

    # Looking

    def _look(self, job: Job) -> Observation:
        if self._lost:
            job.trouble = "the connection to libvirt is lost"
            return Observation(_power.UNKNOWN)
        try:
            job.trouble = None
            return self._read(self._sight, job)
        except libvirt.libvirtError as e:
            job.trouble = _libvirt.denied(e, _libvirt.READ) or str(e.get_error_message())
            if not _is_alive(self._sight):
                self._lose(self._sight)
            return Observation(_power.UNKNOWN)

    def _read(self, handle: t.Any, job: Job) -> Observation:
        """The domain as it is. A transient one that has gone is off."""
        try:
            domain = handle.lookupByUUIDString(job.domain.uuid)
            number, reason = domain.state()[:2]
        except libvirt.libvirtError as e:
            if e.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:
                raise
            job.state, job.after = "shutoff", None
            return Observation(_power.OFF)
        job.state = _libvirt.STATES[number] if number < len(_libvirt.STATES) else "nostate"
        power = power_of(job.state, reason)
        if power == _power.CRASHED and domain.ID() < 0:
            power = _power.OFF
        if power == _power.OFF:
            job.after = None
            wanted = job.power.state == _power.SAVED
            return Observation(power, saved=wanted and bool(domain.hasManagedSaveImage(0)))
        if power == _power.UNKNOWN:
            job.trouble = "libvirt does not know its state"
        process = process_of(self._connection, job.domain.name, job.domain.uuid)
        return Observation(power, job.identity(domain.ID(), process) if domain.ID() >= 0 else None, job.boot)

    # Boots

    def _learn_boots(self, jobs: t.Sequence[Job]) -> None:
        """What they are before anything is requested. Where an agent does not tell, its events have to do."""
        outcomes = bounded_map(
            self._read_boot,
            [job.domain.uuid for job in jobs],
            concurrency=self._concurrency,
            timeout=OPENING + 3 * AGENT_ANSWER,
            doing=lambda uuid: f"Asking the guest agent of {self._jobs[uuid].domain.name}",
        )
        for job, outcome in zip(jobs, outcomes):
            if isinstance(outcome, BaseException):
                job.by_boot, job.boot_trouble = False, str(outcome)
            else:
                job.boot = outcome

    def _read_boot(self, uuid: str) -> str:
        """Over a connection of its own, for an agent may take its time. Raises ConsoleError."""
        doing = "Reading the guest's boot id"
        with _libvirt.connect(self._connection.uri) as own, _libvirt.translated(doing, needs="domain.write"):
            return boot_id(own.handle.lookupByUUIDString(uuid))

    def _ask_boot(self, job: Job) -> None:
        """Have a thread ask, unless one does."""
        uuid = job.domain.uuid
        if not job.by_boot or self._lost or uuid in self._readers:
            return

        def ask() -> None:
            boot = None
            with suppress(ConsoleError):
                boot = self._read_boot(uuid)
            self._items.put(_Boot(uuid, boot))

        self._readers[uuid] = threading.Thread(target=ask, daemon=True)
        self._readers[uuid].start()

    def _hear_boot(self, job: Job, boot: str | None) -> None:
        self._readers.pop(job.domain.uuid).join()
        if boot is not None:
            job.boot = boot
            job.power.event(self._clock(), _power.CHANGED)
            self._advance(job)

    # Asking

    def _dispatch(self) -> None:
        """Begin what may begin."""
        while self._backlog and not self._lost and self._busy() < self._concurrency:
            job, request = self._backlog.popleft()
            if not job.power.awaits(request):
                continue
            if request.method in QUICK:
                self._do_quickly(job, request)
            else:
                self._begin(_Call(job, request, self._idle.pop() if self._idle else None))

    def _busy(self) -> int:
        return sum(call.is_about_to_return for call in self._calls)

    def _do_quickly(self, job: Job, request: Request) -> None:
        call = _Call(job, request, self._sight)
        self._begin(call)
        if call.returned.wait(SLOW):
            self._hear(call)
        else:
            self._look_elsewhere()

    def _begin(self, call: _Call) -> None:
        self._calls.append(call)
        call.thread = threading.Thread(target=self._perform, args=(call,), daemon=True)
        call.thread.start()

    def _perform(self, call: _Call) -> None:
        """In its own thread: ask, and tell what became of it."""
        try:
            if call.line is None:
                call.line = self._open()
            if call.request.method == _power.FORCE and not self._is_as_seen(call):
                call.error = "it changed in the last moment"
            else:
                domain = call.line.lookupByUUIDString(call.job.domain.uuid)
                _ask(domain, call.request.method, call.job.power.state)
        except libvirt.libvirtError as e:
            needs = _NEEDS[call.request.method, call.job.power.state == _power.REBOOTED_STATE]
            call.error = _libvirt.denied(e, needs) or str(e.get_error_message() or e)
        except Exception as e:  # pylint: disable=broad-exception-caught
            call.error = f"{type(e).__name__}: {e}"
        call.returned.set()
        self._items.put(_Answer(call))

    def _open(self) -> t.Any:
        """One more connection. One that hangs is noticed by its silence."""
        handle = libvirt.open(self._connection.uri)
        self._own.append(handle)
        with suppress(libvirt.libvirtError):
            handle.setKeepAlive(5, 3)
        return handle

    def _is_as_seen(self, call: _Call) -> bool:
        """Whether the machine still runs, in the process that was to be forced: the request may have queued."""
        seen = call.job.power.last
        now = self._read(call.line, call.job)
        known = seen is not None and seen.process is not None and now.process is not None
        return now.power not in (_power.OFF, _power.UNKNOWN) and not (
            known and seen is not None and now.process != seen.process
        )

    # Losing the connection, and finding another

    def _look_elsewhere(self) -> None:
        """Go on over another connection: a call hangs on this one, whose events still count."""
        opened: queue.Queue[t.Any] = queue.Queue()

        def open_another() -> None:
            with suppress(libvirt.libvirtError):
                opened.put(self._open())

        threading.Thread(target=open_another, daemon=True).start()
        try:
            self._look_through(opened.get(timeout=OPENING))
        except (queue.Empty, libvirt.libvirtError):
            self._lose(self._sight)
            return
        self._tell_all(_power.CHANGED)

    def _look_through(self, handle: t.Any) -> None:
        self._sight = self._connection.handle = handle
        self._listen(handle)

    def _lose(self, handle: t.Any) -> None:
        if self._lost or handle is not self._sight:
            return
        self._lost = True
        threading.Thread(target=self._reconnect, daemon=True).start()

    def _reconnect(self) -> None:
        while not self._closed.wait(AGAIN):
            with suppress(libvirt.libvirtError):
                self._items.put(_Found(self._open()))
                return

    def _find(self, handle: t.Any) -> None:
        self._lost = False
        self._had_gap = True
        self._idle = []
        try:
            self._look_through(handle)
        except libvirt.libvirtError:
            self._lose(handle)
            return
        self._tell_all(_power.GAP)

    def _tell_all(self, what: str) -> None:
        for job in self._jobs.values():
            if job.done is None:
                job.power.event(self._clock(), what)
                self._advance(job)


def _is_alive(handle: t.Any) -> bool:
    try:
        return bool(handle.isAlive())
    except libvirt.libvirtError:
        return False


_NEEDS: t.Mapping[tuple[str, bool], str] = {
    (method, reboots): needs
    for reboots in (False, True)
    for method, needs in {
        AGENT: "domain.init-control and domain.write",
        ACPI: "domain.init-control",
        _power.START: "domain.start",
        _power.RESUME: "domain.suspend",
        _power.WAKE: "domain.pm-control",
        _power.PAUSE: "domain.suspend",
        _power.SAVE: "domain.hibernate",
        _power.RESET: "domain.reset",
        _power.NMI: "domain.inject-nmi",
        _power.FORCE: "domain.reset" if reboots else "domain.stop",
    }.items()
}
"""The permissions that a method takes, and whether it is to reboot the guest."""


def _ask(domain: t.Any, method: str, state: str) -> None:
    """Have libvirt do it. The mode is always named: libvirt's own choice is the agent, even a dead one."""
    reboots = state == _power.REBOOTED_STATE
    if method == AGENT:
        if reboots:
            domain.reboot(libvirt.VIR_DOMAIN_REBOOT_GUEST_AGENT)
        else:
            domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT)
        return
    if method == ACPI:
        if reboots:
            domain.reboot(libvirt.VIR_DOMAIN_REBOOT_ACPI_POWER_BTN)
        else:
            domain.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)
        return
    {
        _power.START: domain.create,
        _power.RESUME: domain.resume,
        _power.WAKE: domain.pMWakeup,
        _power.PAUSE: domain.suspend,
        _power.SAVE: lambda: domain.managedSave(0),
        _power.RESET: lambda: _reset(domain),
        _power.NMI: lambda: domain.injectNMI(0),
        _power.FORCE: (lambda: _reset(domain)) if reboots else domain.destroy,
    }[method]()


def _reset(domain: t.Any) -> None:
    """libvirt leaves a guest that had crashed paused behind its reset (qemu_driver.c, qemuDomainReset)."""
    number, reason = domain.state()[:2]
    domain.reset(0)
    if power_of(_libvirt.STATES[number], reason) == _power.CRASHED:
        domain.resume()


_BOOT_ID = "/proc/sys/kernel/random/boot_id"
"""Linux: another one with each boot (random(4))."""

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def boot_id(domain: t.Any) -> str:
    """The boot that a Linux guest is in, as its agent reads it (QEMU: qga/qapi-schema.json, guest-file-*).

    Raises ConsoleError, also where the agent may not open files, and libvirtError.
    """
    try:
        import libvirt_qemu
    except ImportError as e:
        raise ConsoleError("libvirt's Python bindings have no libvirt_qemu here: install all of them.") from e

    def ask(command: str, **arguments: object) -> t.Any:
        words = json.dumps({"execute": command, "arguments": arguments})
        return json.loads(libvirt_qemu.qemuAgentCommand(domain, words, int(AGENT_ANSWER), 0))["return"]

    handle = ask("guest-file-open", path=_BOOT_ID)
    try:
        said = base64.b64decode(ask("guest-file-read", handle=handle, count=64)["buf-b64"]).decode(errors="replace")
    finally:
        ask("guest-file-close", handle=handle)
    if not _UUID.fullmatch(said.strip()):
        raise ConsoleError(f"the guest's {_BOOT_ID} holds no boot id.")
    return said.strip()
