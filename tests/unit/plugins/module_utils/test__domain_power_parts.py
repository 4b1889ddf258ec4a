# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The switchboard's decisions one by one, on handles that are told what to say: lost, hanging, silent, refusing."""

from __future__ import annotations

import typing as t
from unittest import mock

import pytest

libvirt = pytest.importorskip("libvirt", reason="libvirt's bindings are not installed for this Python")

from ansible_collections.kvmops.console.plugins.module_utils import _domain_power, _libvirt, _power
from ansible_collections.kvmops.console.plugins.module_utils._domain_power import Hold, Job, Process, Switchboard
from ansible_collections.kvmops.console.plugins.module_utils._domain_traps import ACPI, AGENT
from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError
from ansible_collections.kvmops.console.plugins.module_utils._libvirt import STATES, Connection, Listed
from ansible_collections.kvmops.console.plugins.module_utils._power import Done, Look, Observation, Request, Wait

END = Done(True, True, False, None, None)
UUID = "6695eb01-f6a4-8304-79aa-97f2502e193f"


def failure(code: int = libvirt.VIR_ERR_INTERNAL_ERROR, said: str = "it broke") -> Exception:
    error: Exception = libvirt.libvirtError("the call failed")
    vars(error)["err"] = (code, 10, said, 2, None, None, None, -1, -1)
    return error


class Rules:
    """A power that says what it is told to, and remembers what it hears."""

    def __init__(self, *actions: t.Any, state: str = _power.STOPPED, awaits: bool = True) -> None:
        self.actions = list(actions) or [END]
        self.state = state
        self.heard: list[t.Any] = []
        self.last: Observation | None = None
        self._awaits = awaits

    def next(self, now: float) -> t.Any:
        return self.actions.pop(0)

    def answered(self, now: float, request: Request, error: str | None) -> None:
        self.heard.append((request.method, error))

    def observed(self, now: float, sight: Observation) -> None:
        self.heard.append(sight)

    def event(self, now: float, what: str) -> None:
        self.heard.append(what)

    def awaits(self, request: Request) -> bool:
        return self._awaits


class Domain:
    def __init__(self, state: str = "running", reason: int = 1, number: int = 7, saved: bool = False) -> None:
        self._state = [STATES.index(state), reason]
        self._number = number
        self._saved = saved
        self.asked: list[str] = []

    def state(self) -> list[int]:
        return self._state

    def ID(self) -> int:
        return self._number

    def hasManagedSaveImage(self, _flags: int) -> bool:
        return self._saved

    def UUIDString(self) -> str:
        return UUID


class Handle:
    """A connection's; `domain` is what it finds, an exception is raised."""

    def __init__(self, domain: t.Any = None, alive: t.Any = True) -> None:
        self.domain = domain
        self.alive = alive

    def isAlive(self) -> bool:
        if isinstance(self.alive, Exception):
            raise self.alive
        return bool(self.alive)

    def lookupByUUIDString(self, uuid: str) -> t.Any:
        if isinstance(self.domain, Exception):
            raise self.domain
        return self.domain


class Board(Switchboard):
    """One that was not entered: nothing is listened to, and what would go on by itself is only written down."""

    def __init__(self, handle: Handle, concurrency: int = 2) -> None:
        super().__init__(Connection(handle, "test:///default", False), concurrency, lambda: 100.0)
        self.done: list[t.Any] = []

    def _listen(self, handle: t.Any) -> None:
        self.done.append(("listen", handle))

    def _reconnect(self) -> None:
        self.done.append("reconnect")


def job(rules: Rules, *, hold: Hold | None = None, by_boot: bool = False) -> Job:
    listed = Listed(None, "web", UUID, "running", True, False, False, False, False)
    return Job(listed, t.cast("_power.Power", rules), hold, by_boot)


def rules_of(one: Job) -> Rules:
    return t.cast("Rules", one.power)


def call(one: Job, line: t.Any, method: str = ACPI, error: str | None = None) -> t.Any:
    made = _domain_power._Call(one, Request(method, 1), line)
    made.error = error
    return made


# What became of a request


def heard(board: Board, one: Job, made: t.Any) -> list[t.Any]:
    board._calls.append(made)
    board._hear(made)
    assert board._calls == []
    return rules_of(one).heard


def test_answer_of_a_line_that_lives_is_told_and_the_line_is_kept() -> None:
    sight, line = Handle(), Handle()
    board = Board(sight)
    one = job(Rules())
    assert heard(board, one, call(one, line, error="no")) == [(ACPI, "no")]
    assert (board._idle, one.done) == ([line], END)
    one = job(Rules())
    assert heard(board, one, call(one, sight)) == [(ACPI, None)]
    assert board._idle == [line], "the one that looks is not lent"


def test_answer_is_heard_once_and_none_is_told_at_the_end() -> None:
    board, one = Board(Handle()), job(Rules())
    board._hear(call(one, Handle()))
    assert rules_of(one).heard == []
    one.done = END
    assert heard(board, one, call(one, Handle())) == []


@pytest.mark.parametrize(("method", "again"), [(_power.START, True), (ACPI, False), (_power.FORCE, False)])
def test_request_that_was_lost_with_the_connection(method: str, again: bool) -> None:
    """Only what does no harm is sent again; of the rest, it will be seen whether it was heard."""
    sight = Handle(alive=False)
    board, one = Board(sight), job(Rules(END))
    said = heard(board, one, call(one, sight, method, "end of file"))
    assert board._lost
    assert [request.method for _job, request in board._backlog] == ([method] if again else [])
    assert said == ([] if again else [(method, None)])


def test_request_that_did_what_it_should_before_its_line_was_lost() -> None:
    board, one = Board(Handle()), job(Rules())
    assert heard(board, one, call(one, Handle(alive=False), _power.START)) == [(_power.START, None)]
    assert (list(board._backlog), board._idle) == ([], [])


@pytest.mark.parametrize(
    ("alive", "lost", "again"),
    [(True, False, False), (False, False, True), (True, True, True), (failure(), False, True)],
    ids=["no line to be had", "nobody there", "lost already", "not even that is told"],
)
def test_request_that_never_left(alive: t.Any, lost: bool, again: bool) -> None:
    board, one = Board(Handle(alive=alive)), job(Rules())
    board._lost = lost
    said = heard(board, one, call(one, None, error="refused"))
    assert len(board._backlog) == again
    assert said == ([] if again else [(ACPI, "refused")])
    assert board._lost is again


# What to do next


@pytest.mark.parametrize(
    ("lost", "gap", "trouble", "until"),
    [
        (False, False, None, 500.0),
        (False, True, None, 101.0),
        (False, False, "no", 101.0),
        (True, True, "no", 500.0),
    ],
)
def test_where_events_may_be_missed_it_is_looked_again(
    lost: bool, gap: bool, trouble: str | None, until: float
) -> None:
    board, one = Board(Handle()), job(Rules(Wait(500.0)))
    board._lost, board._had_gap, one.trouble = lost, gap, trouble
    board._advance(one)
    assert one.until == until
    one = job(Rules(Wait(100.5)))
    board._advance(one)
    assert one.until == 100.5


def test_boot_is_asked_for_where_events_may_be_missed() -> None:
    board = Board(Handle())
    with mock.patch.object(board, "_ask_boot") as asked:
        board._advance(job(Rules()))
        assert not asked.called
        board._had_gap = True
        board._advance(job(Rules()))
        assert asked.called


def test_agent_that_has_left_is_answered_for() -> None:
    board = Board(Handle())
    for method, left, expected in ((AGENT, True, 0), (AGENT, False, 1), ("acpi", True, 1)):
        one = job(Rules(Request(method, 1), END))
        one.agent_left = left
        board._backlog.clear()
        board._advance(one)
        assert len(board._backlog) == expected
        assert rules_of(one).heard == ([] if expected else [(method, "the guest agent has left")])


@pytest.mark.parametrize(("until", "wakes"), [(500.0, 101.0), (100.5, 100.5)])
def test_hold_is_looked_at_again(until: float, wakes: float) -> None:
    board, one = Board(Handle()), job(Rules(), hold=Hold(until, lambda: "somebody looks"))
    board._advance(one)
    assert (one.done, one.until) == (None, wakes)
    assert rules_of(one).actions == [END], "nothing was decided"


def test_hold_ends_at_its_time_and_with_its_reason() -> None:
    board, one = Board(Handle()), job(Rules(), hold=Hold(100.0, lambda: "somebody looks"))
    board._advance(one)
    assert one.done == Done(False, False, False, None, "somebody looks")
    one = job(Rules(), hold=Hold(100.0, lambda: None))
    board._advance(one)
    assert (one.done, one.hold) == (END, None)


# Looking


def look(board: Board, one: Job) -> Observation:
    rules_of(one).actions = [Look(), END]
    board._advance(one)
    (seen,) = rules_of(one).heard
    return t.cast("Observation", seen)


def test_machine_is_not_looked_for_while_the_connection_is_lost() -> None:
    board, one = Board(Handle(Domain())), job(Rules())
    board._lost = True
    assert look(board, one) == Observation(_power.UNKNOWN)
    assert one.trouble == "the connection to libvirt is lost"


@pytest.mark.parametrize("alive", [True, False])
def test_machine_that_cannot_be_read(alive: bool) -> None:
    board, one = Board(Handle(failure(said="no bus"), alive)), job(Rules())
    assert look(board, one) == Observation(_power.UNKNOWN)
    assert (one.trouble, board._lost) == ("no bus", not alive)
    board, one = Board(Handle(failure(libvirt.VIR_ERR_ACCESS_DENIED))), job(Rules())
    look(board, one)
    assert "libvirt's access control denies it" in str(one.trouble)


def test_machine_that_can_be_read_again_has_no_trouble() -> None:
    board, one = Board(Handle(Domain())), job(Rules())
    one.trouble = "it broke"
    assert look(board, one) == Observation(_power.ON, "7")
    assert not one.trouble
    assert one.state == "running"


def test_transient_machine_that_has_gone_is_off() -> None:
    board, one = Board(Handle(failure(libvirt.VIR_ERR_NO_DOMAIN))), job(Rules())
    one.after = Process(1, 1)
    assert look(board, one) == Observation(_power.OFF)
    assert (one.state, [one.after, one.trouble]) == ("shutoff", [None, None])


@pytest.mark.parametrize(
    ("domain", "wanted", "expected"),
    [
        (Domain("shutoff", number=-1, saved=True), _power.SAVED, Observation(_power.OFF, saved=True)),
        (Domain("shutoff", number=-1, saved=True), _power.STOPPED, Observation(_power.OFF)),
        (Domain("shutoff", number=-1), _power.SAVED, Observation(_power.OFF)),
        (Domain("crashed", number=-1), _power.STOPPED, Observation(_power.OFF)),
        (Domain("crashed", number=0), _power.STOPPED, Observation(_power.CRASHED, "0")),
        (Domain("crashed", number=7), _power.STOPPED, Observation(_power.CRASHED, "7")),
        (Domain("running", number=0), _power.STOPPED, Observation(_power.ON, "0")),
        (Domain("running", number=-1), _power.STOPPED, Observation(_power.ON, None)),
    ],
)  # fmt: skip
def test_what_is_seen_of_a_machine(domain: Domain, wanted: str, expected: Observation) -> None:
    one = job(Rules(state=wanted))
    one.after = Process(1, 1)
    assert look(Board(Handle(domain)), one) == expected
    assert one.trouble is None
    assert (one.after is None) is (expected.power == _power.OFF or domain.ID() >= 0)


def test_state_that_libvirt_does_not_know() -> None:
    domain = Domain()
    for number, state in ((0, "nostate"), (99, "nostate"), (len(STATES), "nostate")):
        domain._state = [number, 0]
        one = job(Rules())
        assert look(Board(Handle(domain)), one).power == _power.UNKNOWN
        assert (one.state, one.trouble) == (state, "libvirt does not know its state")
    domain._state = [len(STATES) - 1, 0]
    one = job(Rules())
    look(Board(Handle(domain)), one)
    assert one.state == STATES[-1]


# Boots


def test_agent_is_asked_by_one_thread_and_only_where_that_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Switchboard, "_read_boot", lambda board, uuid: "a boot")
    board = Board(Handle())
    board._ask_boot(job(Rules()))
    one = job(Rules(), by_boot=True)
    board._lost = True
    board._ask_boot(one)
    assert board._readers == {}
    board._lost = False
    board._ask_boot(one)
    reader = next(iter(board._readers.values()))
    board._ask_boot(one)
    assert list(board._readers.values()) == [reader]
    board._jobs = {UUID: one}
    board._take(100.0)
    assert (board._readers, one.boot, one.done, rules_of(one).heard) == ({}, "a boot", END, [_power.CHANGED])
    assert not reader.is_alive()


def test_boot_is_read_over_a_line_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    own = mock.MagicMock()
    own.__enter__.return_value = Connection(Handle("the domain"), "test:///default", False)
    monkeypatch.setattr(_libvirt, "connect", lambda uri: own)
    monkeypatch.setattr(_domain_power, "boot_id", lambda domain: f"boot of {domain}")
    assert Board(Handle())._read_boot(UUID) == "boot of the domain"
    assert own.__exit__.called


def test_agent_that_does_not_tell_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(board: Switchboard, uuid: str) -> str:
        raise ConsoleError("no.")

    monkeypatch.setattr(Switchboard, "_read_boot", fail)
    board, one = Board(Handle()), job(Rules(), by_boot=True)
    board._jobs = {UUID: one}
    one.boot = "a boot"
    board._ask_boot(one)
    board._handle(board._items.get(timeout=60))
    assert (board._readers, one.boot, one.done, rules_of(one).heard) == ({}, "a boot", None, [])


# Asking


class Begins(Board):
    """Calls do not begin; they are `begun`."""

    def __init__(self, handle: Handle, concurrency: int = 2) -> None:
        super().__init__(handle, concurrency)
        self.begun: list[t.Any] = []

    def _begin(self, call: t.Any) -> None:
        self._calls.append(call)
        self.begun.append(call)
        call.returned.set()


def test_as_many_begin_as_may() -> None:
    board = Begins(Handle())
    one = job(Rules())
    board._backlog.extend((one, Request(_power.START, number)) for number in range(3))
    spare = Handle()
    board._idle = [spare]
    board._dispatch()
    assert [made.line for made in board.begun] == [spare, None]
    assert (len(board._backlog), board._idle) == (1, [])
    board._calls.clear()
    board._lost = True
    board._dispatch()
    assert len(board._backlog) == 1, "not while the connection is lost"


def test_call_that_was_given_up_takes_no_place() -> None:
    board = Begins(Handle(), concurrency=1)
    given_up, fulfilled, failed = job(Rules(awaits=False)), job(Rules(awaits=False)), job(Rules(awaits=False))
    fulfilled.done = END
    failed.done = END._replace(ok=False)
    for one, busy in ((given_up, 0), (fulfilled, 1), (failed, 0), (job(Rules()), 1)):
        board._calls = [call(one, None)]
        assert board._busy() == busy


def test_request_that_nobody_awaits_is_dropped() -> None:
    board = Begins(Handle())
    board._backlog.extend([(job(Rules(awaits=False)), Request(_power.START, 1)), (job(Rules()), Request("acpi", 2))])
    board._dispatch()
    assert [made.request.method for made in board.begun] == ["acpi"]
    assert (list(board._backlog), board._calls) == ([], []), "heard at once, for it returned"


def performed(board: Board, one: Job, method: str, line: t.Any = None) -> t.Any:
    made = call(one, line, method)
    board._perform(made)
    assert made.returned.is_set()
    answer: t.Any = board._items.get_nowait()
    assert answer.call is made
    return made


def test_call_opens_a_line_where_it_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    opened, asked = Handle(Domain("shutoff", number=-1)), []
    opened.setKeepAlive = mock.Mock(side_effect=failure())  # type: ignore[attr-defined]
    monkeypatch.setattr(libvirt, "open", lambda uri: opened)
    monkeypatch.setattr(_domain_power, "_ask", lambda domain, method, state: asked.append((domain, method, state)))
    board, one = Board(Handle()), job(Rules())
    made = performed(board, one, _power.START)
    assert (made.error, made.line, board._own) == (None, opened, [opened])
    assert asked == [(opened.domain, _power.START, _power.STOPPED)]
    assert opened.setKeepAlive.called  # type: ignore[attr-defined]
    assert performed(board, one, _power.START, opened).line is opened
    assert board._own == [opened]


def test_call_tells_why_it_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    board = Board(Handle())
    refused = Handle(failure(libvirt.VIR_ERR_ACCESS_DENIED))
    said = performed(board, job(Rules()), _power.FORCE, Handle(failure(said="no bus"))).error
    assert said == "no bus"
    wordless = libvirt.libvirtError("the call failed")
    wordless.err = None
    assert performed(board, job(Rules()), _power.START, Handle(wordless)).error == "the call failed"
    assert "domain.start" in performed(board, job(Rules()), _power.START, refused).error
    monkeypatch.setattr(Board, "_is_as_seen", lambda board, call: True)
    assert "domain.stop" in performed(board, job(Rules()), _power.FORCE, refused).error
    rebooting = job(Rules(state=_power.REBOOTED_STATE))
    assert "domain.reset" in performed(board, rebooting, _power.FORCE, refused).error
    assert performed(board, job(Rules()), _power.START, Handle(ValueError("odd"))).error == "ValueError: odd"


FORCED = Observation(_power.ON, "7")


@pytest.mark.parametrize(
    ("before", "now", "same"),
    [
        (FORCED, FORCED, True),
        (FORCED, FORCED._replace(process="8"), False),
        (FORCED, FORCED._replace(process=None), True),
        (FORCED._replace(process=None), FORCED, True),
        (None, FORCED, True),
        (FORCED, FORCED._replace(power=_power.CRASHED), True),
        (FORCED, FORCED._replace(power=_power.OFF), False),
        (FORCED, FORCED._replace(power=_power.UNKNOWN), False),
    ],
)
def test_force_is_only_for_what_was_seen(
    before: Observation | None, now: Observation, same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(_domain_power, "_ask", lambda domain, method, state: asked.append(method))
    monkeypatch.setattr(Board, "_read", lambda board, handle, job: now)
    one = job(Rules())
    rules_of(one).last = before
    made = performed(Board(Handle()), one, _power.FORCE, Handle(Domain()))
    assert (made.error, asked) == ((None, [_power.FORCE]) if same else ("it changed in the last moment", []))


# Losing the connection, and finding another


def test_only_the_line_that_looks_can_be_lost_and_only_once() -> None:
    sight = Handle()
    board = Board(sight)
    board._lose(Handle())
    assert (board._lost, board.done) == (False, [])
    for _time in range(2):
        board._lose(sight)
        assert board._lost
    assert board.done == ["reconnect"]


def test_found_again_everybody_is_told_and_looked_at() -> None:
    board, sight = Board(Handle()), Handle()
    one, ended = job(Rules()), job(Rules())
    ended.done = END
    board._jobs = {"one": one, "ended": ended}
    board._lost, board._idle = True, [Handle()]
    board._find(sight)
    assert (board._lost, board._had_gap, board._idle, board._sight) == (False, True, [], sight)
    assert board._connection.handle is sight
    assert board.done == [("listen", sight)]
    assert (rules_of(one).heard, one.done, rules_of(ended).heard) == ([_power.GAP], END, [])


def test_found_and_lost_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(board: Switchboard, handle: t.Any) -> None:
        raise failure()

    board, one = Board(Handle()), job(Rules())
    board._jobs = {UUID: one}
    monkeypatch.setattr(Board, "_listen", fail)
    board._find(Handle())
    assert (board._lost, board.done, rules_of(one).heard) == (True, ["reconnect"], [])


def test_looking_goes_on_elsewhere_where_a_call_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    board, another, one = Board(Handle()), Handle(), job(Rules())
    board._jobs = {UUID: one}
    monkeypatch.setattr(Board, "_open", lambda board: another)
    board._look_elsewhere()
    assert (board._sight, board._lost, rules_of(one).heard) == (another, False, [_power.CHANGED])


def test_nowhere_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(board: Switchboard) -> t.Any:
        raise failure()

    monkeypatch.setattr(_domain_power, "OPENING", 0.01)
    monkeypatch.setattr(Board, "_open", fail)
    board, one = Board(Handle()), job(Rules())
    board._jobs = {UUID: one}
    board._look_elsewhere()
    assert (board._lost, rules_of(one).heard) == (True, [])


def test_it_is_tried_until_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_domain_power, "AGAIN", 0.0)
    found = Handle()
    answers = [failure(), failure(), found]

    def opened(board: Switchboard) -> t.Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(Board, "_open", opened)
    board = Board(Handle())
    Switchboard._reconnect(board)
    assert board._items.get_nowait() == _domain_power._Found(found)
    assert not answers
    board._closed.set()
    Switchboard._reconnect(board)
    assert board._items.empty()


# What libvirt is asked


@pytest.mark.parametrize(
    ("method", "state", "expected"),
    [
        ("agent", _power.STOPPED, mock.call.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_GUEST_AGENT)),
        ("agent", _power.REBOOTED_STATE, mock.call.reboot(libvirt.VIR_DOMAIN_REBOOT_GUEST_AGENT)),
        ("acpi", _power.STOPPED, mock.call.shutdownFlags(libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)),
        ("acpi", _power.REBOOTED_STATE, mock.call.reboot(libvirt.VIR_DOMAIN_REBOOT_ACPI_POWER_BTN)),
        (_power.START, _power.STARTED, mock.call.create()),
        (_power.RESUME, _power.STARTED, mock.call.resume()),
        (_power.WAKE, _power.STARTED, mock.call.pMWakeup()),
        (_power.PAUSE, _power.PAUSED_STATE, mock.call.suspend()),
        (_power.SAVE, _power.SAVED, mock.call.managedSave(0)),
        (_power.NMI, _power.NMI_SENT, mock.call.injectNMI(0)),
        (_power.FORCE, _power.STOPPED, mock.call.destroy()),
    ],
)
def test_what_libvirt_is_asked(method: str, state: str, expected: t.Any) -> None:
    domain = mock.Mock()
    _domain_power._ask(domain, method, state)
    assert domain.mock_calls == [expected]


@pytest.mark.parametrize(("method", "state"), [("force", _power.REBOOTED_STATE), ("reset", _power.RESET_STATE)])
def test_reset_of_one_that_runs(method: str, state: str) -> None:
    domain = mock.Mock()
    domain.state.return_value = [1, 1]
    _domain_power._ask(domain, method, state)
    assert domain.mock_calls == [mock.call.state(), mock.call.reset(0)]


@pytest.mark.parametrize(
    ("method", "reboots", "needs"),
    [
        ("agent", False, "domain.init-control and domain.write"),
        ("acpi", True, "domain.init-control"),
        (_power.START, False, "domain.start"),
        (_power.RESUME, False, "domain.suspend"),
        (_power.WAKE, False, "domain.pm-control"),
        (_power.PAUSE, False, "domain.suspend"),
        (_power.SAVE, False, "domain.hibernate"),
        (_power.RESET, False, "domain.reset"),
        (_power.NMI, False, "domain.inject-nmi"),
        (_power.FORCE, False, "domain.stop"),
        (_power.FORCE, True, "domain.reset"),
    ],
)
def test_permissions_that_are_named(method: str, reboots: bool, needs: str) -> None:
    assert _domain_power._NEEDS[method, reboots] == needs
