# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rules of switching a machine on and off: what may be asked of it when, what counts as done, when to give up.

Private to this collection.

Pure: no I/O, and no clock but the `now` that it is handed (seconds of any monotonic clock). One `Power` is one machine
that shall come to one state. Whoever drives it does this, for as many machines at once as there are:

    power = Power("stopped", methods, force)
    while True:
        action = power.next(now())
        if isinstance(action, Look):      power.observed(now(), <read the machine's state, now>)
        elif isinstance(action, Request): <have action.method done, in a thread where that may block>, and once it has
                                          returned: power.answered(now(), action, None or why not)
        elif isinstance(action, Wait):    <sleep until action.until, or until something happens to the machine:
                                          then power.event(now(), CHANGED, REBOOTED or GAP)>
        else: break                       # Done

What holds whatever the driver, the machine and the clock do (tests/fuzz/test_fuzz_power.py):

- One observation serves one decision: each request comes right after a fresh look, so a machine that went off in the
  last moment of a budget is a success and is not forced.
- FORCE is requested only where `force` allows it, once, and never of a process that was started after we began.
- The end comes by `patience` seconds after the first `next`, provided that `next` is called when a wait is over.
- `Done.ok` is said on an observation (or, for rebooted and reset, an event; for nmi_sent, the answer), never on a hope.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError

# What is wanted

STARTED = "started"
STOPPED = "stopped"
POWER_CYCLED = "power_cycled"
REBOOTED_STATE = "rebooted"
RESET_STATE = "reset"
PAUSED_STATE = "paused"
RESUMED = "resumed"
SAVED = "saved"
NMI_SENT = "nmi_sent"
PENDING_APPLIED = "pending_applied"
STATES = (
    STARTED,
    STOPPED,
    POWER_CYCLED,
    REBOOTED_STATE,
    RESET_STATE,
    PAUSED_STATE,
    RESUMED,
    SAVED,
    NMI_SENT,
    PENDING_APPLIED,
)
"""`pending_applied` is power_cycled for a machine with something pending; whether it has is the driver's to know."""

ENDING = (STOPPED, POWER_CYCLED, PENDING_APPLIED, SAVED)
"""The states that end the machine's process."""

METHODICAL = (STOPPED, POWER_CYCLED, PENDING_APPLIED, REBOOTED_STATE)
"""The states that ask the guest, by `methods`, and may be forced."""

NEVER = "never"
AFTER_METHODS = "after_methods"
AT_ONCE = "at_once"
FORCES = (NEVER, AFTER_METHODS, AT_ONCE)

# What is observed

ON = "on"
STOPPING = "stopping"
"""On its way off; counts as on, but is not asked a second time."""
PAUSED = "paused"
SUSPENDED = "suspended"
"""By the guest itself, to memory."""
CRASHED = "crashed"
"""The guest, with its process kept."""
OFF = "off"
UNKNOWN = "unknown"
"""It could not be read: nothing is requested, and nothing is a success, until it can be."""


class Observation(t.NamedTuple):
    """A machine as it is right now.

    `process` names the process that runs it (libvirt's domain id, a pid with its start time, ...): another value is
    another process; None where that cannot be told. `boot` names the guest's boot, where an agent tells. `saved`:
    whether its memory lies on the disk.
    """

    power: str
    process: str | None = None
    boot: str | None = None
    saved: bool = False


# Events

CHANGED = "changed"
"""Something happened to the machine: look."""
REBOOTED = "rebooted"
"""Its guest began anew in the same process (libvirt's reboot event, QMP's RESET)."""
GAP = "gap"
"""Events may have been missed, since a connection was lost for a while."""

# What can be requested, besides the names of the caller's methods

START = "start"
RESUME = "resume"
WAKE = "wake"
PAUSE = "pause"
SAVE = "save"
RESET = "reset"
NMI = "nmi"
FORCE = "force"
"""End the process without asking the guest; for rebooted: reset the guest without asking it."""

# How a step ended

DONE = "done"
FAILED = "failed"
"""It had an effect, and not the one that was wanted."""
REFUSED = "refused"
TIMED_OUT = "timed_out"
UNUSABLE = "unusable"

GRACE = 15.0
"""Seconds beyond all budgets, for a machine that cannot be observed for a while."""


class Method(t.NamedTuple):
    """A way to ask, the seconds it has to take effect, and how often to ask again meanwhile (None: never)."""

    method: str
    timeout: float
    resend_every: float | None = None


class Look(t.NamedTuple):
    """Read the machine's state, now, and hand it to `observed`."""


class Request(t.NamedTuple):
    """Have this done, and hand what became of it to `answered`. `number` tells one request from another."""

    method: str
    number: int


class Wait(t.NamedTuple):
    """Nothing to do until then, unless something happens."""

    until: float


class Done(t.NamedTuple):
    """The end. `reason` says why it failed or why there was nothing to do; `ended_by`: the method that did it."""

    ok: bool
    changed: bool
    skipped: bool
    ended_by: str | None
    reason: str | None


Action = t.Union[Look, Request, Wait, Done]
Step = dict[str, t.Any]
"""{method, seconds, outcome} and, unless that is `done`, `reason`."""


def read_methods(given: t.Sequence[t.Mapping[str, t.Any]], known: t.Sequence[str]) -> tuple[Method, ...]:
    """A module's `methods` option, checked. Raises InputError."""
    methods = tuple(Method(one["method"], one["timeout"], one.get("resend_every")) for one in given)
    for one in methods:
        if one.method not in known:
            raise InputError(f"methods knows no {one.method!r}: take {', '.join(known)}.")
        if not 0 < one.timeout < float("inf"):
            raise InputError(f"methods gives {one.method} {one.timeout:g} seconds: give it more than none.")
        if one.resend_every is not None and not one.resend_every > 0:
            raise InputError(f"methods sends {one.method} again every {one.resend_every:g} s: leave resend_every out.")
    return methods


class _Phase(t.NamedTuple):
    """One thing to bring about. `ways`: what to request, by what is observed. `forced`: whether FORCE may end it."""

    goal: str
    ways: dict[str, tuple[Method, ...]]
    forced: bool
    budget: float


def _phases(
    state: str, methods: tuple[Method, ...], force: str, timeout: float, start_timeout: float, grace: float
) -> list[_Phase]:
    """What leads to `state`, in order."""

    def phase(goal: str, ways: dict[str, tuple[Method, ...]], forced: bool = False) -> _Phase:
        longest = max(sum(one.timeout for one in way) for way in ways.values())
        return _Phase(goal, ways, forced, longest + (timeout if forced else 0.0) + grace)

    def one(method: str, seconds: float = timeout) -> tuple[Method, ...]:
        return (Method(method, seconds),)

    asked = () if force == AT_ONCE else methods
    graceful = {ON: asked, STOPPING: asked}
    start = phase(STARTED, {OFF: one(START, start_timeout), PAUSED: one(RESUME), SUSPENDED: one(WAKE)})
    if state == STOPPED:
        return [phase(STOPPED, graceful, force != NEVER)]
    if state in (POWER_CYCLED, PENDING_APPLIED):
        return [phase(STOPPED, graceful, force != NEVER), start]
    return {
        STARTED: [start],
        REBOOTED_STATE: [phase(REBOOTED_STATE, graceful, force != NEVER)],
        RESET_STATE: [phase(RESET_STATE, dict.fromkeys((ON, STOPPING, PAUSED, CRASHED), one(RESET)))],
        PAUSED_STATE: [phase(PAUSED_STATE, {ON: one(PAUSE)})],
        RESUMED: [phase(RESUMED, {PAUSED: one(RESUME), SUSPENDED: one(WAKE)})],
        SAVED: [phase(SAVED, {ON: one(SAVE), PAUSED: one(SAVE)})],
        NMI_SENT: [phase(NMI_SENT, {ON: one(NMI)})],
    }[state]


class _Attempt:
    """A method that is being tried. `pending`: it has not returned; `heard`: it once returned without an error."""

    def __init__(self, method: Method, began: float, until: float) -> None:
        self.method = method
        self.began = began
        self.until = until
        self.number = 0
        self.pending = False
        self.heard = False
        self.error: str | None = None
        self.resend_at = float("inf")


_DEAF = {
    PAUSED: "it is paused, so its guest hears nothing: resume it first, or allow force",
    SUSPENDED: "its guest sleeps (suspended to memory) and hears nothing: wake it first (resumed), or allow force",
    CRASHED: "its guest has crashed and hears nothing: allow force",
}

_SKIPPED_WHEN_OFF = {
    POWER_CYCLED: "it is off, so it has no process to replace",
    PENDING_APPLIED: "it is off: its next start uses what is configured",
    **dict.fromkeys((REBOOTED_STATE, RESET_STATE, PAUSED_STATE, RESUMED, SAVED, NMI_SENT), "it is off"),
}


class Power:
    """One machine on its way to one state; see above for how it is driven.

    `unusable`: methods that need not be tried, each with the reason in words. `timeout`: for each request that is none
    of `methods` (force, resume, pause, ...), `start_timeout` for a start. `steps` is what was tried, `first` and `last`
    what was observed; they may be read at any time. `patience`: seconds after which it is over, whatever happens.
    """

    def __init__(
        self,
        state: str,
        methods: t.Sequence[Method] = (),
        force: str = NEVER,
        *,
        unusable: t.Mapping[str, str] | None = None,
        timeout: float = 60.0,
        start_timeout: float | None = None,
        grace: float = GRACE,
    ) -> None:
        start = timeout if start_timeout is None else start_timeout
        self._phases = _phases(state, tuple(methods), force, timeout, start, grace)
        self._cycles = len(self._phases) > 1
        self.state = state
        self.patience = sum(phase.budget for phase in self._phases)
        self.steps: list[Step] = []
        self.first: Observation | None = None
        self.last: Observation | None = None
        self._timeout = timeout
        self._unusable = dict(unusable or {})
        self._deadline: float | None = None
        self._sight: Observation | None = None
        self._attempt: _Attempt | None = None
        self._tried: dict[tuple[Method, ...], int] = {}
        self._forced = False
        self._requests = 0
        self._refusals = 0
        self._rebooted = False
        self._gap = False
        self._ended_by: str | None = None
        self._done: Done | None = None

    # What the driver tells

    def observed(self, now: float, observation: Observation) -> None:
        """The machine's state, read since `next` asked for it."""
        self._sight = observation
        if observation.power == UNKNOWN:
            return
        self.last = observation
        if self.first is None:
            self.first = observation

    def event(self, now: float, what: str) -> None:
        """CHANGED, REBOOTED or GAP; call `next` afterwards."""
        if self._requests:
            self._rebooted = self._rebooted or what == REBOOTED
            self._gap = self._gap or what == GAP
        self._sight = None

    def answered(self, now: float, request: Request, error: str | None = None) -> None:
        """What became of a request, once it has returned: nothing wrong, or one sentence. Call `next` afterwards.

        One whose answer was lost with the connection is told without error: whether it was heard will be seen.
        """
        self._sight = None
        self._refusals += error is not None
        attempt = self._attempt
        if attempt is None or attempt.number != request.number:
            return  # it was given up before
        attempt.pending = False
        attempt.heard = attempt.heard or error is None
        attempt.error = None if attempt.heard else error  # an earlier one that was heard may still take effect

    # What the driver is told

    def awaits(self, request: Request) -> bool:
        """Whether the request is still of use. A driver that lets requests queue drops it where it is not."""
        attempt = self._attempt
        return attempt is not None and attempt.pending and attempt.number == request.number

    def next(self, now: float) -> Action:
        """What to do now."""
        if self._done:
            return self._done
        if self._deadline is None:
            self._deadline = now + self._phases[0].budget
        sight, self._sight = self._sight, None
        if sight is None:
            return Look()
        if sight.power == UNKNOWN:
            return self._wait_for_sight(now, self._deadline)
        if self._is_to_be_skipped(sight):
            return self._finish(True, _SKIPPED_WHEN_OFF[self.state], skipped=True)
        while self._is_reached(sight):
            self._close(now, DONE)
            self._phases.pop(0)
            if not self._phases:
                return self._finish(True)
            self._deadline = now + self._phases[0].budget
        reason = self._is_hopeless(sight)
        if reason is not None:
            self._close(now, FAILED, reason)
            return self._finish(False, self._why(sight))
        return self._carry_on(now, sight)

    def foresee(self, observation: Observation) -> Done:
        """What is to be expected of a machine that is like this, for check mode: `Done` as it would be at best.

        The instance is of no other use afterwards.
        """
        self.next(0.0)
        self.observed(0.0, observation)
        action = self.next(0.0)
        return action if isinstance(action, Done) else Done(True, True, False, None, None)

    def _is_to_be_skipped(self, sight: Observation) -> bool:
        if self._requests or sight.power != OFF or self.state not in _SKIPPED_WHEN_OFF:
            return False
        return not (self.state == SAVED and sight.saved)

    def _is_reached(self, sight: Observation) -> bool:
        goal = self._phases[0].goal
        if goal == STOPPED:
            return sight.power == OFF or (self._cycles and self._is_new(sight))
        if goal in (STARTED, RESUMED):
            return sight.power == ON and not (self._cycles and self._is_old(sight))
        if goal == PAUSED_STATE:
            return sight.power == PAUSED
        if goal == SAVED:
            return sight.power == OFF and sight.saved
        if goal == NMI_SENT:
            return self._attempt is not None and self._attempt.heard
        anew = self._rebooted or self._is_new_boot(sight)
        return anew and (sight.power == ON or (goal == RESET_STATE and sight.power == PAUSED))

    def _is_new(self, sight: Observation) -> bool:
        """Whether another process runs the machine than when we began, as far as that is known."""
        known = self.first is not None and self.first.process is not None and sight.process is not None
        return known and sight.power != OFF and not self._is_old(sight)

    def _is_old(self, sight: Observation) -> bool:
        return self.first is not None and sight.process is not None and sight.process == self.first.process

    def _is_new_boot(self, sight: Observation) -> bool:
        if self.first is None or sight.boot is None or self.first.boot is None:
            return False
        return sight.boot != self.first.boot

    def _is_hopeless(self, sight: Observation) -> str | None:
        """Why nothing leads to the goal any more; None where something may."""
        goal = self._phases[0].goal
        if goal == STARTED:
            attempt = self._attempt
            died = attempt is not None and attempt.method.method == START and attempt.heard and sight.power == OFF
            return "it went off again right after its start" if died else None
        if sight.power == OFF:
            return "it went off instead" if self._requests else "it is off"
        if self._requests and self._is_new(sight):
            return "it went off, and somebody else started it again"
        return None

    def _wait_for_sight(self, now: float, deadline: float) -> Action:
        if now < deadline:
            return Wait(deadline)
        self._close(now, TIMED_OUT, "nothing could be read of the machine any more")
        return self._finish(False, "its state could not be read any more, so nothing more was done to it")

    def _carry_on(self, now: float, sight: Observation) -> Action:
        """Wait for what is being tried, or try the next."""
        attempt = self._attempt
        if attempt is None:
            return self._try_next(now, sight)
        if attempt.error is not None:
            self._close(now, REFUSED, attempt.error)
        elif now >= attempt.until:
            hangs = attempt.pending and not attempt.heard
            self._close(now, TIMED_OUT, "the request did not return" if hangs else "it had no effect in time")
        elif self._is_half_way(attempt, sight):
            self._close(now, DONE)
        elif attempt.pending or sight.power != ON:
            return Wait(attempt.until)
        elif now >= attempt.resend_at:
            return self._send(now, attempt)
        else:
            return Wait(min(attempt.until, attempt.resend_at))
        return self._try_next(now, sight)

    def _is_half_way(self, attempt: _Attempt, sight: Observation) -> bool:
        """Whether it was started, but into a pause or a sleep (that was saved with it), for which there is a way."""
        return attempt.method.method == START and attempt.heard and sight.power in (PAUSED, SUSPENDED)

    def _try_next(self, now: float, sight: Observation) -> Action:
        phase = self._phases[0]
        for method in self._left(phase, sight.power):
            if method.method in self._unusable:
                self._skip(method, self._unusable[method.method])
            elif now < (self._deadline or now):
                return self._begin(now, method)
        if not phase.forced or self._forced or now >= (self._deadline or now):
            return self._finish(False, self._why(sight))
        if self._gap and phase.goal == REBOOTED_STATE:
            return self._finish(False, "whether it rebooted was missed while the connection was lost: look at it")
        for method in self._left(phase, ON):
            self._skip(method, _DEAF.get(sight.power, "there was no time left"))
        self._forced = True
        return self._begin(now, Method(FORCE, self._timeout))

    def _left(self, phase: _Phase, power: str) -> t.Iterator[Method]:
        """The methods not tried yet; each counts as tried from here on."""
        way = phase.ways.get(power, ())
        while self._tried.get(way, 0) < len(way):
            self._tried[way] = self._tried.get(way, 0) + 1
            yield way[self._tried[way] - 1]

    def _begin(self, now: float, method: Method) -> Request:
        until = now + method.timeout
        self._attempt = _Attempt(method, now, until if self._deadline is None else min(until, self._deadline))
        return self._send(now, self._attempt)

    def _send(self, now: float, attempt: _Attempt) -> Request:
        self._requests += 1
        attempt.number = self._requests
        attempt.pending = True
        if attempt.method.resend_every is not None:
            attempt.resend_at = now + attempt.method.resend_every
        return Request(attempt.method.method, self._requests)

    def _close(self, now: float, outcome: str, reason: str | None = None) -> None:
        attempt, self._attempt = self._attempt, None
        if attempt is None:
            return
        step: Step = {"method": attempt.method.method, "seconds": round(now - attempt.began, 3), "outcome": outcome}
        if reason is not None:
            step["reason"] = reason
        if outcome == DONE and self._ended_by is None:
            self._ended_by = attempt.method.method
        self.steps.append(step)

    def _skip(self, method: Method, reason: str) -> None:
        self.steps.append({"method": method.method, "seconds": 0.0, "outcome": UNUSABLE, "reason": reason})

    def _why(self, sight: Observation) -> str:
        """Why it failed: what it is instead, and what was tried."""
        said = f"it is {sight.power}"
        if sight.power in _DEAF and self._phases[0].goal in METHODICAL:
            said = _DEAF[sight.power]
        if self._rebooted and self._phases[0].goal == STOPPED:
            said = "its guest rebooted instead of going off"
        tried = [f"{step['method']}: {step['reason']}" for step in self.steps if "reason" in step]
        return f"{said} ({'; '.join(tried)})" if tried else said

    def _finish(self, ok: bool, reason: str | None = None, skipped: bool = False) -> Done:
        heard = self._requests > self._refusals
        moved = self.first is not None and self.last is not None and self.first[:2] != self.last[:2]
        self._done = Done(ok, heard and (ok or moved), skipped, self._ended_by, reason)
        return self._done
