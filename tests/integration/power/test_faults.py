# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Everything that can break while a domain is waited for: never a force that is forbidden or too late, never a success
that is none, never a wait without an end.
"""

from __future__ import annotations

import os
import socket
import stat
import threading
from collections.abc import Iterator
from typing import Any, Callable

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _domain_power, _libvirt, _power
from ansible_collections.kvmops.console.plugins.module_utils._domain_power import EventLoop, Job, Switchboard
from ansible_collections.kvmops.console.plugins.module_utils._libvirt import Connection
from ansible_collections.kvmops.console.plugins.module_utils._power import Done, Method, Power

LONG = Method("acpi", 100.0)
SHORT = Method("acpi", 2.0)


class Run:
    """One domain being switched in a thread of this process. `asked` is what libvirt was asked for, in order."""

    def __init__(self, guests: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.guests = guests
        self.asked: list[str] = []
        self.was_asked = threading.Event()
        self.before: dict[str, Callable[[], object]] = {}
        self.after: dict[str, Callable[[], object]] = {}
        self.board: type[Switchboard] = Switchboard
        self._ask = _domain_power._ask
        monkeypatch.setattr(_domain_power, "_ask", self.ask)

    def ask(self, domain: Any, method: str, state: str) -> None:
        self.asked.append(method)
        self.before.get(method, lambda: None)()
        try:
            self._ask(domain, method, state)
        finally:
            self.after.get(method, lambda: None)()
            self.was_asked.set()

    def start(self, name: str, power: Power) -> None:
        EventLoop.prepare()
        self.connected = threading.Event()
        self.thread = threading.Thread(target=self._run, args=(name, power))
        self.thread.start()

    def _run(self, name: str, power: Power) -> None:
        with _libvirt.connect(self.guests.hypervisor.uri) as connection:
            self.connection: Connection = connection
            (listed,) = (domain for domain in connection.domains() if domain.name == name)
            self.job = Job(listed, power)
            self.first = connection.handle
            self.connected.set()
            with self.board(connection, 4) as board:
                board.run([self.job])

    def until_asked(self) -> None:
        assert self.was_asked.wait(60)

    def until_reconnected(self) -> None:
        self.guests.until(lambda: self.connection.handle is not self.first, "the connection to be there again")

    def result(self) -> Done:
        self.thread.join(120)
        assert not self.thread.is_alive(), "a wait without an end"
        assert self.job.done is not None
        return self.job.done


@pytest.fixture
def run(guests: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    run = Run(guests, monkeypatch)
    yield run
    run.thread.join(120)


def destroyer(guests: Any, name: str) -> Callable[[], object]:
    return lambda: guests.host.virsh("destroy", name)


def test_libvirtd_restarted_during_the_wait(guests: Any, run: Run) -> None:
    guests.deaf("deaf")
    run.start("deaf", Power(_power.STOPPED, [LONG], _power.AFTER_METHODS))
    run.until_asked()
    guests.host.libvirtd("restart")
    run.until_reconnected()
    guests.host.virsh("destroy", "deaf")
    assert run.result() == Done(True, True, False, "acpi", None)
    assert run.asked == ["acpi"]


def test_guest_that_goes_off_while_libvirtd_is_dead(guests: Any, run: Run) -> None:
    guests.deaf("deaf")
    run.start("deaf", Power(_power.STOPPED, [LONG], _power.AFTER_METHODS))
    run.until_asked()
    guests.host.libvirtd("kill")
    guests.signal("deaf", "KILL")
    guests.host.libvirtd("start")
    assert run.result().ok
    assert run.asked == ["acpi"]


@pytest.mark.parametrize("force", [_power.NEVER, _power.AFTER_METHODS])
def test_budget_that_ends_while_libvirtd_is_dead(guests: Any, run: Run, force: str) -> None:
    """Nothing is forced blindly; the force comes when the machine can be seen again, where it may come at all."""
    guests.deaf("deaf")
    pid = guests.pid("deaf")
    run.start("deaf", Power(_power.STOPPED, [SHORT], force, grace=60.0))
    run.until_asked()
    guests.host.libvirtd("kill")
    guests.until(lambda: run.job.trouble is not None, "the loss to be noticed")
    run.thread.join(2.5)
    assert run.asked == ["acpi"]
    assert run.job.done is None
    guests.host.libvirtd("start")
    done = run.result()
    assert done.ok is (force == _power.AFTER_METHODS)
    assert run.asked == ["acpi", "force"][: 1 + done.ok]
    if force == _power.NEVER:
        assert (guests.pid("deaf"), guests.state("deaf")) == (pid, "running")


def test_libvirtd_that_never_comes_back(guests: Any, run: Run) -> None:
    guests.deaf("deaf")
    pid = guests.pid("deaf")
    run.start("deaf", Power(_power.STOPPED, [SHORT], _power.AFTER_METHODS, timeout=1.0, grace=1.0))
    run.until_asked()
    guests.host.libvirtd("kill")
    done = run.result()
    guests.host.libvirtd("start")
    assert (done.ok, done.changed) == (False, False)
    assert "could not be read any more" in str(done.reason)
    assert run.job.trouble == "the connection to libvirt is lost"
    assert run.asked == ["acpi"]
    assert guests.pid("deaf") == pid


def cut_connections() -> int:
    """Break this process's connections to libvirtd, as an administrator can; returns how many there were."""
    cut = 0
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            if not stat.S_ISSOCK(os.fstat(number).st_mode):
                continue
        except OSError:
            continue  # the one that lists them
        with socket.socket(fileno=os.dup(number)) as other:
            if other.family == socket.AF_UNIX and str(other.getpeername()).endswith("/libvirt-sock"):
                other.shutdown(socket.SHUT_RDWR)
                cut += 1
    return cut


@pytest.mark.parametrize("goes_off", [True, False])
def test_connection_that_breaks_while_libvirtd_goes_on(guests: Any, run: Run, goes_off: bool) -> None:
    """What happens meanwhile sends no event any more."""
    guests.deaf("deaf")
    run.start("deaf", Power(_power.STOPPED, [Method("acpi", 100.0 if goes_off else 5.0)], _power.NEVER))
    run.until_asked()
    assert cut_connections()
    if goes_off:
        guests.host.virsh("destroy", "deaf")
    run.until_reconnected()
    done = run.result()
    assert (done.ok, done.changed) == (goes_off, goes_off)
    assert run.asked == ["acpi"]
    assert guests.state("deaf") == ("shut off" if goes_off else "running")


class Deaf(Switchboard):
    """Hears of nothing."""

    def _on_lifecycle(self, *_event: Any) -> None:
        pass


def test_guest_that_goes_off_at_the_very_end_of_the_budget(guests: Any, run: Run) -> None:
    """No event comes any more: only the last look can tell."""
    guests.deaf("deaf")
    run.board = Deaf
    run.after["acpi"] = destroyer(guests, "deaf")
    run.start("deaf", Power(_power.STOPPED, [SHORT], _power.AFTER_METHODS))
    assert run.result() == Done(True, True, False, "acpi", None)
    assert run.asked == ["acpi"]


def test_guest_that_goes_off_between_the_last_look_and_the_force(guests: Any, run: Run) -> None:
    guests.deaf("deaf")
    run.before["force"] = destroyer(guests, "deaf")
    run.start("deaf", Power(_power.STOPPED, [SHORT], _power.AFTER_METHODS))
    done = run.result()
    assert (done.ok, done.changed) == (True, True)
    assert run.asked == ["acpi", "force"]


def test_guest_that_somebody_starts_again_is_not_forced(guests: Any, run: Run) -> None:
    guests.deaf("deaf")
    run.start("deaf", Power(_power.STOPPED, [Method("acpi", 5.0)], _power.AFTER_METHODS))
    run.board = Deaf
    run.until_asked()
    guests.host.virsh("destroy", "deaf")
    guests.host.virsh("start", "deaf")
    done = run.result()
    assert run.asked == ["acpi"]
    if not done.ok:  # it saw the new process, else it saw the moment between
        assert "somebody else started it again" in str(done.reason)
    assert guests.state("deaf") == "running"


def test_qemu_killed_during_a_reboot(guests: Any, run: Run) -> None:
    guests.deaf("deaf")
    run.start("deaf", Power(_power.REBOOTED_STATE, [LONG], _power.AFTER_METHODS))
    run.until_asked()
    guests.signal("deaf", "KILL")
    done = run.result()
    assert (done.ok, done.changed) == (False, True)
    assert "it went off instead" in str(done.reason)
    assert run.asked == ["acpi"]


def test_qemu_killed_during_a_stop_is_off(guests: Any, run: Run) -> None:
    guests.deaf("deaf")
    run.start("deaf", Power(_power.STOPPED, [LONG]))
    run.until_asked()
    guests.signal("deaf", "KILL")
    assert run.result().ok


def test_reboot_that_may_have_been_missed_is_not_followed_by_a_reset(guests: Any, run: Run) -> None:
    guests.deaf("deaf")
    run.start("deaf", Power(_power.REBOOTED_STATE, [Method("acpi", 8.0)], _power.AFTER_METHODS))
    run.until_asked()
    guests.host.libvirtd("restart")
    done = run.result()
    assert not done.ok
    assert "was missed" in str(done.reason)
    assert run.asked == ["acpi"]


def test_frozen_qemu_answers_nothing_and_is_forced_all_the_same(guests: Any, run: Run) -> None:
    guests.deaf("deaf")
    guests.signal("deaf", "STOP")
    run.start("deaf", Power(_power.STOPPED, [SHORT], _power.AFTER_METHODS))
    assert run.result() == Done(True, True, False, "force", None)
    assert run.job.power.steps[0]["reason"] == "the request did not return"
