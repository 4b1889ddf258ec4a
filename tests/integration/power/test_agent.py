# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest with the real QEMU guest agent: it reboots, sleeps, crashes and goes off."""

from __future__ import annotations

from typing import Any

from ansible_collections.kvmops.console.plugins.module_utils import _libvirt, _power
from ansible_collections.kvmops.console.plugins.module_utils._domain_power import EventLoop, Job, Switchboard
from ansible_collections.kvmops.console.plugins.module_utils._power import Done, Method, Power
from ansible_collections.kvmops.console.tests.integration.power import agent
from ansible_collections.kvmops.console.tests.lab.kvmlab import FIXED_QEMU

ASK = [{"method": "agent", "timeout": 100}]


class Unaware(Switchboard):
    """Hears of no reboot, as when the guest makes one by kexec."""

    def _on_reboot(self, *_event: Any) -> None:
        pass


def reboot_unaware(uri: str) -> Job:
    EventLoop.prepare()
    with _libvirt.connect(uri) as connection:
        (domain,) = connection.domains()
        job = Job(domain, Power(_power.REBOOTED_STATE, [Method("agent", 100.0)]), by_boot=True)
        with Unaware(connection, 4) as board:
            board.run([job])
    return job


def test_guest_with_an_agent(guests: Any, steps: Any) -> None:
    panics = {"words": "unknown_nmi_panic", "devices": '<panic model="isa"/>'}
    xml = agent.define(guests.hypervisor, "ga", emulator=FIXED_QEMU, **panics).XMLDesc()
    xml = xml.replace("<on_crash>destroy<", "<on_crash>preserve<")
    guests.hypervisor.connection.defineXML(xml).create()
    guests.until(lambda: agent.answers(guests.host, "ga"), "the agent")

    rebooted = guests.one("ga", state="rebooted", methods=ASK)
    assert steps(rebooted) == [("agent", "done")], rebooted
    assert rebooted["process"]["before"] == rebooted["process"]["after"]
    assert "tainted" not in guests.host.virsh("dominfo", "ga")
    guests.until(lambda: agent.answers(guests.host, "ga"), "the agent")
    job = reboot_unaware(guests.hypervisor.uri)
    assert job.done == Done(True, True, False, "agent", None)
    assert job.boot != (job.power.first and job.power.first.boot)

    guests.host.virsh("dompmsuspend", "ga", "mem")
    guests.until(lambda: guests.state("ga") == "pmsuspended", "the guest to sleep")
    assert "its guest sleeps" in guests.one("ga", state="stopped", methods=ASK)["error"]
    woken = guests.one("ga", state="resumed")
    assert (steps(woken), woken["before"], woken["after"]) == ([("wake", "done")], "suspended", "on")

    assert "error" not in guests.one("ga", state="nmi_sent")
    guests.until(lambda: guests.state("ga") == "crashed", "the guest to panic because of its NMI")
    for state in ("stopped", "rebooted"):
        crashed = guests.one("ga", state=state, methods=ASK)
        assert crashed["error"] == "its guest has crashed and hears nothing: allow force.", state
    reset = guests.one("ga", state="reset")
    assert (steps(reset), reset["before"], reset["after"]) == ([("reset", "done")], "crashed", "on")
    assert reset["process"]["before"] == reset["process"]["after"]
    guests.until(lambda: agent.answers(guests.host, "ga"), "the agent")

    stopped = guests.one("ga", state="stopped", methods=ASK)
    assert steps(stopped) == [("agent", "done")], stopped
    assert guests.state("ga") == "shut off"
