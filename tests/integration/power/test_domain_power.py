# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""domain_power on a real libvirtd and real QEMUs: guests that obey, that hear nothing, that hang."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.kvmops.console.tests.lab.kvmlab import AFFECTED_QEMU, FIXED_QEMU

PRESS = [{"method": "acpi", "timeout": 100, "resend_every": 3}]
CHANNEL = '<channel type="unix"><target type="virtio" name="org.qemu.guest_agent.0"/></channel>'
BRIEFLY = [{"method": "acpi", "timeout": 2}]


def test_guest_that_obeys(guests: Any, steps: Any) -> None:
    guests.linux("linux", wait=False, emulator=AFFECTED_QEMU)
    rebooted = guests.one("linux", state="rebooted", methods=PRESS)
    assert steps(rebooted) == [("acpi", "done")]
    assert (rebooted["changed"], rebooted["ended_by"], rebooted["after"]) == (True, "acpi", "on")
    assert rebooted["process"]["before"] == rebooted["process"]["after"]
    assert str(rebooted["process"]["after"]["pid"]) == guests.pid("linux")

    cycled = guests.one("linux", state="power_cycled", methods=PRESS)
    assert steps(cycled) == [("acpi", "done"), ("start", "done")]
    assert (cycled["changed"], cycled["before"], cycled["after"], cycled["state"]) == (True, "on", "on", "running")
    assert cycled["process"]["before"] == rebooted["process"]["after"]
    assert cycled["process"]["before"]["pid"] != cycled["process"]["after"]["pid"]
    assert str(cycled["process"]["after"]["pid"]) == guests.pid("linux")

    foreseen = guests.one("linux", state="stopped", methods=PRESS, check=True)
    assert (foreseen["changed"], foreseen["after"], foreseen["steps"]) == (True, "off", [])
    assert guests.state("linux") == "running"
    stopped = guests.power("linux", state="stopped", force="at_once", diff=True)
    assert stopped["diff"] == [{"before_header": "linux", "after_header": "linux", "before": "on\n", "after": "off\n"}]
    record = stopped["domains"][0]
    assert (record["changed"], record["state"], record["process"]["after"]) == (True, "shutoff", None)
    assert guests.state("linux") == "shut off"
    again = guests.power("linux", state="stopped", methods=PRESS, force="at_once")
    assert (again["changed"], again["domains"][0]["steps"]) == (False, [])


def test_guest_that_hears_nothing_is_forced_only_where_that_is_allowed(guests: Any, steps: Any) -> None:
    guests.deaf("deaf")
    pid = guests.pid("deaf")
    never = guests.power("deaf", state="stopped", methods=BRIEFLY)
    assert never["failed"] is True
    record = never["domains"][0]
    assert (record["changed"], record["error"]) == (False, "it is on (acpi: it had no effect in time).")
    assert guests.pid("deaf") == pid
    rebooted = guests.one("deaf", state="rebooted", methods=BRIEFLY, force="after_methods")
    assert steps(rebooted) == [("acpi", "timed_out"), ("force", "done")]
    assert guests.pid("deaf") == pid
    cycled = guests.one("deaf", state="power_cycled", methods=BRIEFLY, force="after_methods")
    assert steps(cycled) == [("acpi", "timed_out"), ("force", "done"), ("start", "done")]
    assert (cycled["ended_by"], str(cycled["process"]["before"]["pid"])) == ("force", pid)
    assert guests.pid("deaf") != pid
    stopped = guests.one("deaf", state="stopped", force="at_once")
    assert steps(stopped) == [("force", "done")]
    assert guests.state("deaf") == "shut off"


@pytest.mark.parametrize("emulator", [FIXED_QEMU, AFFECTED_QEMU], ids=["fixed", "affected"])
def test_every_other_state_there_and_back(guests: Any, steps: Any, emulator: str) -> None:
    guests.deaf("deaf", emulator=emulator)
    for state, method, words in (
        ("paused", "pause", ("on", "paused")),
        ("reset", "reset", ("paused", "paused")),
        ("started", "resume", ("paused", "on")),
        ("paused", "pause", ("on", "paused")),
        ("resumed", "resume", ("paused", "on")),
        ("reset", "reset", ("on", "on")),
        ("nmi_sent", "nmi", ("on", "on")),
        ("saved", "save", ("on", "off")),
        ("started", "start", ("off", "on")),
    ):
        record = guests.one("deaf", state=state)
        assert "error" not in record, record
        assert steps(record) == [(method, "done")], state
        assert (record["changed"], record["before"], record["after"]) == (True, *words), state
        if state in ("paused", "resumed", "saved", "started"):
            assert guests.one("deaf", state=state)["changed"] is False, state
        if state == "saved":
            assert guests.host.virsh("list", "--all", "--with-managed-save", "--name").split() == ["deaf"]
    assert "memory was saved" in record["notes"][0]


def test_guest_that_is_off_is_left_alone(guests: Any) -> None:
    guests.hypervisor.put("off")
    for state in ("power_cycled", "pending_applied", "rebooted", "reset", "paused", "resumed", "saved", "nmi_sent"):
        record = guests.one("off", state=state, force="at_once")
        assert (record["changed"], record["skipped"].startswith("it is off")) == (False, True)
    assert guests.state("off") == "shut off"


def test_paused_guest_is_not_waited_for(guests: Any, steps: Any) -> None:
    guests.deaf("paused").suspend()
    record = guests.one("paused", state="stopped", methods=PRESS)
    assert "it is paused, so its guest hears nothing" in record["error"]
    record = guests.one("paused", state="stopped", methods=PRESS, force="after_methods")
    assert steps(record) == [("acpi", "unusable"), ("force", "done")]


def test_frozen_machines_and_dead_agents_hold_nobody_up(guests: Any, steps: Any) -> None:
    """More of them than libvirtd answers to on one connection. And without a mode, libvirt would ask the agent wherever
    there is a channel for one.
    """
    frozen = [f"frozen-{number}" for number in range(6)]
    for name in frozen:
        guests.deaf(name)
    guests.linux("linux", devices=CHANNEL)
    for name in frozen:
        guests.signal(name, "STOP")
    methods = [{"method": "agent", "timeout": 60}, {"method": "acpi", "timeout": 20, "resend_every": 5}]
    result = guests.power("frozen-*", "linux", state="stopped", methods=methods)
    records = {record["name"]: record for record in result["domains"]}
    assert steps(records["linux"]) == [("agent", "unusable"), ("acpi", "done")], records["linux"]
    for name in frozen:
        assert records[name]["error"].endswith("acpi: the request did not return).")
        assert records[name]["after"] == "on"
    forced = guests.power("frozen-*", state="stopped", force="at_once")
    assert "failed" not in forced, forced
    assert {guests.state(name) for name in frozen} == {"shut off"}


def test_what_a_definition_makes_impossible(guests: Any, steps: Any) -> None:
    def edited(name: str, old: str, new: str) -> None:
        guests.hypervisor.put(name)
        xml = guests.hypervisor.definition(name)
        assert old in xml
        guests.hypervisor.connection.defineXML(xml.replace(old, new)).create()

    edited("no-acpi", "<acpi/>", "")
    edited("restarts", "<on_poweroff>destroy</on_poweroff>", "<on_poweroff>restart</on_poweroff>")
    edited("dies", "<on_reboot>restart</on_reboot>", "<on_reboot>destroy</on_reboot>")
    guests.deaf("agentless", devices=CHANNEL)

    usual = guests.one("no-acpi", state="stopped")
    assert "its definition has no <acpi/>" in usual["error"]
    assert "no channel for a guest agent" in usual["error"]
    assert steps(usual) == [("agent", "unusable"), ("acpi", "unusable")]
    assert "would reboot instead" in guests.one("restarts", state="stopped")["error"]
    forced = guests.one("restarts", state="stopped", force="after_methods")
    assert (steps(forced)[-1], forced["after"]) == (("force", "done"), "off")
    for state in ("rebooted", "reset"):
        record = guests.one("dies", state=state, force="at_once")
        assert "on_reboot destroy" in record["error"]
    assert guests.state("dies") == "running"
    asked = [{"method": "agent", "timeout": 60}]
    assert "no guest agent has opened" in guests.one("agentless", state="stopped", methods=asked)["error"]


def test_transient_domain_does_not_vanish_by_accident(guests: Any) -> None:
    guests.deaf("transient").undefine()
    for state in ("stopped", "power_cycled", "saved"):
        record = guests.one("transient", state=state, force="at_once")
        assert "it would vanish" in record["error"]
    assert guests.state("transient") == "running"
    record = guests.one("transient", state="stopped", force="at_once", allow_vanish=True)
    assert (record["changed"], record["after"], record["notes"]) == (True, "off", ["it was transient: it is gone"])
    assert guests.host.virsh("list", "--all", "--name").split() == []


def test_autostart_is_told(guests: Any) -> None:
    guests.deaf("auto").setAutostart(1)
    record = guests.one("auto", state="stopped", force="at_once")
    assert record["notes"] == ["autostart is on: it starts again with its host"]


def install(guests: Any) -> str:
    """A QEMU beside the usual one, which `upgrade` replaces. QEMU looks for its files beside itself."""
    libraries, shared, binary = "/run/swap/lib/x86_64-linux-gnu", "/run/swap/share", "/run/swap/bin/qemu"
    script = (
        f"mkdir -p {libraries} {shared} /run/swap/bin && ln -sfn /usr/lib/x86_64-linux-gnu/qemu {libraries}/qemu"
        f" && ln -sfn /usr/share/qemu /usr/share/seabios {shared} && chmod -R a+rX /run/swap"
        f" && cp {FIXED_QEMU} {binary}"
    )
    guests.host.exec("sh", "-c", script)
    return binary


def upgrade(guests: Any, binary: str) -> None:
    """As a package does it: a new file gets the name. What follows an ELF file's end is not looked at."""
    guests.host.exec("sh", "-c", f"cp {binary} {binary}.new && echo >> {binary}.new && mv {binary}.new {binary}")


def test_pending_changes_are_applied_where_there_are_any(guests: Any) -> None:
    names = ("pending", "settled", "upgraded")
    binary = install(guests)
    for name in names:
        guests.deaf(name, power_control="yes", emulator=binary if name == "upgraded" else FIXED_QEMU)
    assert guests.power(*names, state="pending_applied", force="at_once")["changed"] is False
    before = {name: guests.pid(name) for name in names}
    guests.hypervisor.set("pending", state="disabled")
    upgrade(guests, binary)
    result = guests.power(*names, state="pending_applied", force="at_once", check=True)
    assert [record["changed"] for record in result["domains"]] == [True, False, True]
    assert {name: guests.pid(name) for name in names} == before
    result = guests.power(*names, state="pending_applied", force="at_once")
    pending, settled, upgraded = result["domains"]
    for record, why in ((pending, "restart_pending"), (upgraded, "outdated_process")):
        assert (record["changed"], record["pending"]) == (True, [why])
        assert record["process"]["before"]["pid"] != record["process"]["after"]["pid"]
        assert str(record["process"]["after"]["pid"]) == guests.pid(record["name"])
    assert (settled["changed"], settled["pending"]) == (False, [])
    assert guests.pid("settled") == before["settled"]
    assert guests.hypervisor.record("pending")["restart_pending"] is False
    assert guests.hypervisor.record("upgraded")["outdated_process"] is False
    assert guests.power(*names, state="pending_applied", force="at_once")["changed"] is False
    guests.host.exec("rm", binary)
    for state in ("pending_applied", "power_cycled"):
        record = guests.one("upgraded", state=state, force="at_once")
        assert f"its emulator {binary} is not there, so it would not start again" in record["error"]
    assert guests.state("upgraded") == "running"


def test_one_domain_does_not_stop_the_others(guests: Any) -> None:
    image = '<disk type="file"><source file="/nowhere.img"/><target dev="vda" bus="virtio"/></disk>'
    guests.hypervisor.put("broken", devices=image)
    names = [f"guest-{number}" for number in range(4)]
    for name in names:
        guests.hypervisor.put(name)
    result = guests.power(state="started")
    records = {record["name"]: record for record in result["domains"]}
    assert result["failed"] is True
    assert "/nowhere.img" in records["broken"]["error"]
    assert {records[name]["state"] for name in names} == {"running"}
    assert result["summary"] == {"domains": 5, "changed": 4, "skipped": 0, "errors": 1}
