# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest with the real QEMU guest agent."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from ansible_collections.kvmops.console.tests.integration.power import agent
from ansible_collections.kvmops.console.tests.lab.kvmlab import FIXED_QEMU

CHANNEL = '<channel type="unix"><target type="virtio" name="org.qemu.guest_agent.0"/></channel>'
ASK = [{"method": "agent", "timeout": 100}]
INITRD = "/srv/guest-agent.gz"


def answers(guests: Any) -> bool:
    """Whether the agent does: right after a reboot libvirt still takes the one that has gone for connected."""
    return bool(guests.host.exec("virsh", "domtime", "ga", check=False).returncode == 0)


def test_agent_reboots_the_guest_and_shuts_it_down(guests: Any, steps: Any) -> None:
    try:
        built = agent.initrd()
    except subprocess.CalledProcessError as e:
        pytest.skip(f"the packages of the agent and the kernel cannot be had: {e.stderr}")
    (guests.host.root / INITRD[1:]).write_bytes(built.read_bytes())
    guests.hypervisor.put("ga", emulator=FIXED_QEMU, guest=True, devices=CHANNEL)
    xml = guests.hypervisor.definition("ga").replace("/opt/lab-guest/initrd.gz", INITRD)
    guests.hypervisor.connection.defineXML(xml).create()
    guests.until(lambda: answers(guests), "the agent")

    rebooted = guests.one("ga", state="rebooted", methods=ASK)
    assert steps(rebooted) == [("agent", "done")], rebooted
    assert rebooted["process"]["before"] == rebooted["process"]["after"]
    guests.until(lambda: answers(guests), "the agent")
    stopped = guests.one("ga", state="stopped", methods=ASK)
    assert steps(stopped) == [("agent", "done")], stopped
    assert guests.state("ga") == "shut off"
