# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The switching of libvirt's domains, on libvirt's own test driver; the real ones are in tests/integration/power."""

from __future__ import annotations

import base64
import json
import sys
import threading
import typing as t
from pathlib import Path
from unittest import mock

import pytest

libvirt = pytest.importorskip("libvirt", reason="libvirt's bindings are not installed for this Python")

from ansible_collections.kvmops.console.plugins.module_utils import _domain_power, _libvirt, _power, _qemu_process
from ansible_collections.kvmops.console.plugins.module_utils._domain_power import EventLoop, Hold, Job, Switchboard
from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError
from ansible_collections.kvmops.console.plugins.module_utils._libvirt import Connection
from ansible_collections.kvmops.console.plugins.module_utils._power import Done, Method, Power

ACPI = Method("acpi", 30.0)


WORLD = """
<node>
  <domain type="test">
    <name>test</name><uuid>6695eb01-f6a4-8304-79aa-97f2502e193f</uuid><memory>1024</memory>
    <os><type>hvm</type></os><features><acpi/></features>
  </domain>
</node>
"""


@pytest.fixture
def connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Connection]:
    """Of the test driver, with a world from a file: each connection has its own, so there is but one."""
    EventLoop.prepare()
    (tmp_path / "world.xml").write_text(WORLD)
    with _libvirt.connect(f"test://{tmp_path}/world.xml") as connection:
        monkeypatch.setattr(Switchboard, "_open", lambda board: connection.handle)
        monkeypatch.setattr(_domain_power, "_ask", ask)
        yield connection


really_ask = _domain_power._ask


def ask(domain: t.Any, method: str, state: str) -> None:
    """The test driver knows no modes of shutting down."""
    if method == "acpi":
        domain.shutdown()
    else:
        really_ask(domain, method, state)


def names(connection: Connection, number: int) -> None:
    """As many more domains, running."""
    for place in range(number):
        xml = f"<domain type='test'><name>more-{place:03}</name><memory>1024</memory><os><type>hvm</type></os></domain>"
        connection.handle.createXML(xml.replace("</os>", "</os><features><acpi/></features>"), 0)


def switch(connection: Connection, power: t.Callable[[], Power], concurrency: int = 4) -> list[Job]:
    jobs = [Job(domain, power()) for domain in connection.domains()]
    with Switchboard(connection, concurrency) as board:
        board.run(jobs)
    return jobs


def test_there_and_back(connection: Connection) -> None:
    for state, method, word in (
        (_power.PAUSED_STATE, "pause", "paused"),
        (_power.RESUMED, "resume", "running"),
        (_power.STOPPED, "acpi", "shutoff"),
        (_power.STARTED, "start", "running"),
        (_power.POWER_CYCLED, "acpi", "running"),
        (_power.SAVED, "save", "shutoff"),
    ):
        (job,) = switch(connection, lambda state=state: Power(state, [ACPI]))  # type: ignore[misc]
        assert job.done == Done(True, True, False, method, None), state
        assert job.state == word
        assert [domain.state for domain in connection.domains()] == [word]


def test_force_ends_the_process(connection: Connection) -> None:
    (job,) = switch(connection, lambda: Power(_power.STOPPED, [ACPI], _power.AT_ONCE))
    assert job.done == Done(True, True, False, "force", None)


def test_many_at_once_over_one_connection(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    names(connection, 60)
    opened: list[str] = []
    monkeypatch.setattr(Switchboard, "_open", lambda board: opened.append("one more"))
    jobs = switch(connection, lambda: Power(_power.STOPPED, [ACPI]), concurrency=50)
    assert len(jobs) == 61
    assert {job.done.ok for job in jobs if job.done} == {True}
    assert not opened


def test_all_are_asked_before_any_is_waited_for_and_none_is_polled(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They go off one after the other, once all have been asked; each event is worth one look, and nothing else is."""
    names(connection, 5)
    happened: list[str] = []
    look, take = Switchboard._look, Switchboard._take

    def looks(board: Switchboard, job: Job) -> t.Any:
        happened.append("look")
        return look(board, job)

    def takes(board: Switchboard, until: float) -> None:
        happened.append("wait")
        running = [domain for domain in connection.domains() if domain.active]
        going = threading.Thread(target=running[0].handle.destroy) if running else None
        if going is not None:
            going.start()
        take(board, until)
        if going is not None:
            going.join()

    monkeypatch.setattr(Switchboard, "_look", looks)
    monkeypatch.setattr(Switchboard, "_take", takes)
    monkeypatch.setattr(_domain_power, "_ask", lambda domain, method, state: happened.append("ask"))
    jobs = [Job(domain, Power(_power.STOPPED, [Method("acpi", 1e6)])) for domain in connection.domains()]

    def run() -> None:
        with Switchboard(connection, 50) as board:
            board.run(jobs)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert not thread.is_alive(), "it would wait until the budget ends"
    assert {job.done.ok for job in jobs if job.done} == {True}
    first = happened.index("wait")
    assert happened[:first].count("ask") == 6
    assert "ask" not in happened[first:]
    assert happened[first:].count("look") <= 2 * 6, "an event of each domain's end, and one of its definition's"


def test_no_more_requests_at_a_time_than_asked_for(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    names(connection, 12)
    busy, most, lock = [0], [0], threading.Lock()
    monkeypatch.setattr(_domain_power, "QUICK", ())
    gate = threading.Event()

    def count(domain: t.Any, method: str, state: str) -> None:
        with lock:
            busy[0] += 1
            most[0] = max(most[0], busy[0])
        if most[0] == 3:
            gate.set()
        gate.wait(30)
        ask(domain, method, state)
        with lock:
            busy[0] -= 1

    monkeypatch.setattr(_domain_power, "_ask", count)
    jobs = switch(connection, lambda: Power(_power.STOPPED, [ACPI]), concurrency=3)
    assert {job.done.ok for job in jobs if job.done} == {True}
    assert most == [3]


def test_refusal_is_told_in_libvirts_words(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_domain_power, "_ask", really_ask)
    (job,) = switch(connection, lambda: Power(_power.STOPPED, [ACPI]))
    assert job.done is not None
    assert not job.done.ok
    assert "unsupported flags" in str(job.done.reason)


def test_domain_that_vanishes_is_off(connection: Connection) -> None:
    names(connection, 1)
    jobs = switch(connection, lambda: Power(_power.STOPPED, [ACPI]))
    assert [(job.domain.persistent, job.state) for job in jobs] == [(False, "shutoff"), (True, "shutoff")]


def test_agent_that_has_left_is_not_asked(connection: Connection) -> None:
    (domain,) = connection.domains()
    job = Job(domain, Power(_power.STOPPED, [Method("agent", 30.0), ACPI]))
    job.agent_left = True
    with Switchboard(connection, 4) as board:
        board.run([job])
    assert [step.get("reason") for step in job.power.steps] == ["the guest agent has left", None]


def test_agent_that_comes_and_goes(connection: Connection) -> None:
    (domain,) = connection.domains()
    job = Job(domain, Power(_power.STOPPED))
    left = []
    with Switchboard(connection, 1) as board:
        board._jobs = {domain.uuid: job}
        for state in ("DISCONNECTED", "CONNECTED"):
            number = getattr(libvirt, f"VIR_CONNECT_DOMAIN_EVENT_AGENT_LIFECYCLE_STATE_{state}")
            board._on_agent(None, domain.handle, number, 0, None)
            board._take(0.0)
            left.append(job.agent_left)
    assert left == [True, False]


def test_force_that_had_to_wait_looks_again(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the decision and the call, the machine went off and somebody started it again."""
    asked = []
    begin = Switchboard._begin

    def late(board: Switchboard, call: t.Any) -> None:
        domain = connection.handle.lookupByName("test")
        domain.destroy()
        domain.create()
        begin(board, call)

    monkeypatch.setattr(Switchboard, "_begin", late)
    monkeypatch.setattr(_domain_power, "_ask", lambda domain, method, state: asked.append(method))
    (job,) = switch(connection, lambda: Power(_power.STOPPED, [], _power.AT_ONCE))
    assert not asked
    assert job.done is not None
    assert "somebody else started it again" in str(job.done.reason)
    assert [domain.state for domain in connection.domains()] == ["running"]


def test_after_a_lost_connection_events_are_not_relied_upon(connection: Connection) -> None:
    """A libvirtd that has come up again sends none for a QEMU that went meanwhile."""

    class Silent(Switchboard):
        """It was lost and found, and hears nothing since."""

        def _on_lifecycle(self, *_event: t.Any) -> None:
            pass

        def _hear(self, call: t.Any) -> None:
            super()._hear(call)
            connection.handle.lookupByName("test").destroy()

    (domain,) = connection.domains()
    job = Job(domain, Power(_power.STOPPED, [Method("knock", 60.0)]))
    with pytest.MonkeyPatch.context() as patch, Silent(connection, 4) as board:
        patch.setattr(_domain_power, "_ask", lambda domain, method, state: None)
        board._had_gap = True
        board.run([job])
    (step,) = job.power.steps
    assert (step["outcome"], step["seconds"] < 60) == ("done", True)


def test_hold_is_waited_for_and_has_an_end(connection: Connection) -> None:
    reasons = ["somebody looks", None]
    (domain,) = connection.domains()
    held = Job(domain, Power(_power.STOPPED, [ACPI]), Hold(float("inf"), lambda: reasons.pop(0)))
    with Switchboard(connection, 4) as board:
        board.run([held])
    assert held.done is not None
    assert held.done.ok
    assert not reasons
    (domain,) = connection.domains()
    refused = Job(domain, Power(_power.STARTED), Hold(0.0, lambda: "somebody looks"))
    with Switchboard(connection, 4) as board:
        board.run([refused])
    assert refused.done == Done(False, False, False, None, "somebody looks")
    assert [domain.state for domain in connection.domains()] == ["shutoff"]


def test_call_that_hangs_does_not_hold_up_the_others(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps the connection, and another takes its place; here both are one, since a test driver is a world apart."""
    names(connection, 3)
    handle = connection.handle
    hung = threading.Event()

    def hang(domain: t.Any, method: str, state: str) -> None:
        if domain.name() == "more-000":
            hung.wait(30)
        else:
            ask(domain, method, state)

    class Another:
        """The same world through another connection, whose events come from the first."""

        def domainEventRegisterAny(self, *_event: t.Any) -> int:
            return 0

        def domainEventDeregisterAny(self, _number: int) -> None:
            pass

        def __getattr__(self, name: str) -> t.Any:
            return getattr(handle, name)

    another = Another()
    monkeypatch.setattr(_domain_power, "_ask", hang)
    monkeypatch.setattr(Switchboard, "_open", lambda board: another)
    jobs = {domain.name: Job(domain, Power(_power.STOPPED, [Method("acpi", 0.6)])) for domain in connection.domains()}
    try:
        with Switchboard(connection, 4) as board:
            board.run(list(jobs.values()))
            assert connection.handle is another
    finally:
        hung.set()
        connection.handle = handle
    assert [name for name, job in jobs.items() if job.done and not job.done.ok] == ["more-000"]
    assert jobs["more-000"].power.steps[0]["reason"] == "the request did not return"


class Boots:
    """The boots of a guest, as its agent tells them; None: it does not."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *boots: str | None) -> None:
        self._boots = list(boots)
        monkeypatch.setattr(Switchboard, "_read_boot", lambda board, uuid: self.read())

    def read(self) -> str:
        boot = self._boots.pop(0) if len(self._boots) > 1 else self._boots[0]
        if boot is None:
            raise ConsoleError("the agent says nothing.")
        return boot


def reboot(connection: Connection, **more: t.Any) -> Job:
    """Of the guest, by an agent that comes back later; the test driver has no agents, so it tells of no reboot."""
    (domain,) = connection.domains()
    job = Job(domain, Power(_power.REBOOTED_STATE, [Method("knock", 0.5)]), by_boot=True)
    with pytest.MonkeyPatch.context() as patch, Switchboard(connection, 4) as board:
        for name, value in more.items():
            setattr(board, name, value)
        back = _domain_power._Agent(domain.uuid, True)
        patch.setattr(_domain_power, "_ask", lambda domain, method, state: board._items.put(back))
        board.run([job])
    return job


def test_reboot_is_proved_by_another_boot(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    Boots(monkeypatch, "a", "b")
    assert reboot(connection).done == Done(True, True, False, "knock", None)


def test_agent_that_came_back_in_the_same_boot_proves_nothing(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    Boots(monkeypatch, "a", "a")
    job = reboot(connection)
    assert job.done is not None
    assert not job.done.ok


def test_after_a_lost_connection_the_boot_is_asked_for_again(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    Boots(monkeypatch, "a", None, "b")
    monkeypatch.setattr(_domain_power, "LOOK_AGAIN", 0.01)
    assert reboot(connection, _had_gap=True).done == Done(True, True, False, "knock", None)


def test_guest_whose_boot_is_not_to_be_had(connection: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    Boots(monkeypatch, None)
    job = reboot(connection)
    assert job.done is not None
    assert not job.done.ok
    assert (job.by_boot, job.boot_trouble) == (False, "the agent says nothing.")


class Agent:
    """libvirt_qemu, with an agent behind it."""

    def __init__(self, said: bytes) -> None:
        self.said = said
        self.asked: list[str] = []

    def qemuAgentCommand(self, domain: t.Any, words: str, timeout: int, flags: int) -> str:
        asked = json.loads(words)
        self.asked.append(asked["execute"])
        if asked["execute"] == "guest-file-open":
            assert asked["arguments"] == {"path": "/proc/sys/kernel/random/boot_id"}
            return '{"return": 1000}'
        assert asked["arguments"]["handle"] == 1000
        said = {"count": len(self.said), "buf-b64": base64.b64encode(self.said).decode(), "eof": True}
        return json.dumps({"return": said if asked["execute"] == "guest-file-read" else {}})


def test_boot_id_of_a_guest(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = Agent(b"5d1f3f2e-3e9c-4c0b-9d68-6f7b1a3f2c11\n")
    monkeypatch.setitem(sys.modules, "libvirt_qemu", agent)
    assert _domain_power.boot_id(None) == "5d1f3f2e-3e9c-4c0b-9d68-6f7b1a3f2c11"
    assert agent.asked == ["guest-file-open", "guest-file-read", "guest-file-close"]
    agent.said = b"Windows"
    with pytest.raises(ConsoleError, match="holds no boot id"):
        _domain_power.boot_id(None)
    assert agent.asked[-1] == "guest-file-close"
    monkeypatch.setitem(sys.modules, "libvirt_qemu", None)
    with pytest.raises(ConsoleError, match="no libvirt_qemu"):
        _domain_power.boot_id(None)


@pytest.mark.parametrize(
    ("state", "asked"),
    [
        ((libvirt.VIR_DOMAIN_CRASHED, libvirt.VIR_DOMAIN_CRASHED_PANICKED), ["reset", "resume"]),
        ((libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_CRASHED), ["reset", "resume"]),
        ((libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_USER), ["reset"]),
        ((libvirt.VIR_DOMAIN_RUNNING, 0), ["reset"]),
    ],
    ids=["panicked", "reset before", "paused", "running"],
)
def test_guest_that_crashed_goes_on_after_its_reset(state: tuple[int, int], asked: list[str]) -> None:
    domain = mock.Mock()
    domain.state.return_value = [*state]
    for method, wanted in (("reset", _power.RESET_STATE), ("force", _power.REBOOTED_STATE)):
        domain.reset_mock()
        really_ask(domain, method, wanted)
        assert [call[0] for call in domain.method_calls if call[0] != "state"] == asked


@pytest.mark.parametrize(
    ("state", "reason", "power"),
    [
        ("running", 0, "on"),
        ("blocked", 0, "on"),
        ("shutdown", 0, "stopping"),
        ("paused", 1, "paused"),
        ("paused", libvirt.VIR_DOMAIN_PAUSED_CRASHED, "crashed"),
        ("paused", libvirt.VIR_DOMAIN_PAUSED_SHUTTING_DOWN, "stopping"),
        ("crashed", 0, "crashed"),
        ("pmsuspended", 0, "suspended"),
        ("shutoff", 0, "off"),
        ("nostate", 0, "unknown"),
    ],
)
def test_states_of_libvirt(state: str, reason: int, power: str) -> None:
    assert _domain_power.power_of(state, reason) == power


def test_process_is_named_by_its_start_too(connection: Connection, tmp_path: Path, monkeypatch: t.Any) -> None:
    uuid = "6695eb01-f6a4-8304-79aa-97f2502e193f"
    monkeypatch.setattr(_qemu_process, "pid_directories", lambda uri: [tmp_path])
    (tmp_path / "web.pid").write_text("42\n")
    proc = tmp_path / "proc"
    (proc / "42").mkdir(parents=True)
    (proc / "42" / "cmdline").write_bytes(f"qemu\0-uuid\0{uuid}\0".encode())
    (proc / "42" / "exe").symlink_to("/usr/bin/qemu")
    fields = " ".join(str(number) for number in range(4, 30))
    (proc / "42" / "stat").write_text(f"42 (a) b) S {fields}\n")
    assert _domain_power.process_of(connection, "web", uuid, proc) == _domain_power.Process(42, 22)
    assert _domain_power.process_of(connection, "web", "another", proc) is None
    away = Connection(connection.handle, "qemu+ssh://kvm-1/system", False)
    assert _domain_power.process_of(away, "web", uuid, proc) is None
    (proc / "42" / "stat").unlink()
    assert _domain_power.process_of(connection, "web", uuid, proc) is None


def test_identity_keeps_to_what_could_be_seen_first(connection: Connection) -> None:
    (domain,) = connection.domains()
    seen = Job(domain, Power(_power.STOPPED))
    process = _domain_power.Process(42, 22)
    assert seen.identity(1, process) == "1/42/22"
    assert seen.identity(1, None) is None, "it is the same or it is not: nobody knows"
    unseen = Job(domain, Power(_power.STOPPED))
    assert (unseen.identity(1, None), unseen.identity(2, process)) == ("1", "2")
