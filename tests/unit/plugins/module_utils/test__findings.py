# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Each finding: where it applies, how severe it is, and where it does not apply."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _managers
from ansible_collections.kvmops.console.plugins.module_utils._findings import RULES, SEVERITIES, Record, findings
from ansible_collections.kvmops.console.plugins.module_utils._verdict import AFFECTED, FIXED, INCAPABLE, UNKNOWN


def qemu(verdict: str, version: str | None = "7.2.0") -> Record:
    return {"verdict": verdict, "version": version, "evidence": "as was seen"}


def vnc(**more: t.Any) -> Record:
    return {
        "type": "vnc",
        "socket": None,
        "listen": [{"type": "address", "address": "127.0.0.1"}],
        "password": True,
        "tls": False,
        "sasl": False,
        "power_control": {"live": None, "config": None},
        **more,
    }


def power(live: str | None, config: str | None) -> Record:
    return vnc(power_control={"live": live, "config": config})


def listening(*addresses: str, **more: t.Any) -> Record:
    return vnc(listen=[{"type": "address", "address": address} for address in addresses], **more)


def domain(**more: t.Any) -> Record:
    """A domain with nothing to find."""
    return {
        "persistent": True,
        "restart_pending": False,
        "pointer_devices": ["tablet:usb", "mouse:ps2"],
        "graphics": [vnc()],
        "saved_states": [],
        "qemu": {"running": qemu(FIXED), "next_start": qemu(FIXED)},
        **more,
    }


def verdicts(running: str | None, next_start: str) -> Record:
    return {"qemu": {"running": running and qemu(running), "next_start": qemu(next_start)}}


def managed(by: str, owner_wants: str | None = None) -> Record:
    manager = _managers.by_name(by)
    return {
        "managed_by": {"id": manager.id, "name": manager.name, "rewrites": manager.rewrites},
        "owner_wants": owner_wants,
    }


def found(record: Record) -> dict[str, str]:
    """Severity by id."""
    return {finding["id"]: finding["severity"] for finding in findings(record)}


def test_a_sound_domain_has_none() -> None:
    assert findings(domain()) == []
    assert findings(domain(graphics=[], pointer_devices=[])) == []


SPICE = vnc(type="spice", password=False, listen=[{"type": "address", "address": "0.0.0.0"}],
            power_control={"live": "yes", "config": "yes"})  # fmt: skip


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        # The bug itself, and the hole that stays open without powerControl.
        ({**verdicts(AFFECTED, FIXED), "graphics": [power("yes", "yes")]},
         {"unsolicited_pointer_change": "critical", "ungated_power_messages": "high"}),
        ({**verdicts(AFFECTED, AFFECTED), "graphics": [power("no", "yes")]},
         {"unsolicited_pointer_change": "high", "ungated_power_messages": "high"}),
        ({**verdicts(None, AFFECTED), "graphics": [power(None, "yes")]},
         {"unsolicited_pointer_change": "high", "ungated_power_messages": "medium"}),
        ({**verdicts(FIXED, AFFECTED), "graphics": [power("yes", "no")]}, {"ungated_power_messages": "medium"}),
        ({**verdicts(AFFECTED, AFFECTED), "graphics": [power("no", "no")]}, {"ungated_power_messages": "high"}),
        ({**verdicts(AFFECTED, AFFECTED), "graphics": [vnc(), power("yes", "no")]},
         {"unsolicited_pointer_change": "critical", "ungated_power_messages": "high"}),
        ({**verdicts(FIXED, FIXED), "graphics": [power("yes", "yes")]}, {}),
        # A transient domain has no next start.
        ({**verdicts(FIXED, AFFECTED), "graphics": [power("yes", "yes")], "persistent": False},
         {"ungated_power_messages": "medium"}),
        # Nothing of this is about SPICE.
        ({**verdicts(AFFECTED, AFFECTED), "graphics": [SPICE], "pointer_devices": []}, {}),
        ({**verdicts(UNKNOWN, UNKNOWN), "graphics": [SPICE]}, {}),
        ({"restart_pending": True}, {"restart_pending": "medium"}),
        ({"outdated_process": True}, {"outdated_process": "medium"}),
        ({"outdated_process": False}, {}),
        ({"saved_states": [{"kind": "snapshot", "name": "a", "differs": False}]}, {}),
        ({"saved_states": [{"kind": "snapshot", "name": "a", "differs": True}]}, {"saved_state_differs": "medium"}),
        # Who may look.
        ({"graphics": [vnc(password=False)]}, {"vnc_without_authentication": "info"}),
        ({"graphics": [vnc(password=None)]}, {}),
        ({"graphics": [vnc(password=False, tls=True)]}, {}),
        ({"graphics": [vnc(password=False, sasl=True)]}, {}),
        ({"graphics": [vnc(password=False, listen=[], socket="/run/a")]}, {}),
        ({"graphics": [listening("10.0.0.1", password=False)]}, {"vnc_without_authentication": "high"}),
        ({"graphics": [listening("127.0.0.9", "10.0.0.1", password=False)]}, {"vnc_without_authentication": "high"}),
        ({"graphics": [listening("::1", password=False)]}, {"vnc_without_authentication": "info"}),
        ({"graphics": [listening("localhost", password=False)]}, {"vnc_without_authentication": "info"}),
        ({"graphics": [listening("console.example.org", password=False)]}, {"vnc_without_authentication": "high"}),
        ({"graphics": [vnc(), listening("10.0.0.1", password=False)]}, {"vnc_without_authentication": "high"}),
        ({"graphics": [listening("0.0.0.0")]}, {"vnc_listens_everywhere": "medium"}),
        ({"graphics": [listening("::")]}, {"vnc_listens_everywhere": "medium"}),
        ({"graphics": [listening("10.0.0.1")]}, {}),
        ({"graphics": [vnc(listen=[{"type": "network", "network": "default"}])]}, {}),
        # What the pointer is.
        ({"pointer_devices": ["mouse:ps2"]}, {"relative_pointer": "info"}),
        ({"pointer_devices": ["mouse:ps2", "tablet:virtio"]}, {}),
        # What cannot start.
        ({**verdicts(None, INCAPABLE), "graphics": [power(None, "yes")]}, {"power_control_unsupported": "high"}),
        ({**verdicts(None, INCAPABLE), "graphics": [power(None, "no")]}, {"power_control_unsupported": "high"}),
        ({**verdicts(None, INCAPABLE), "graphics": [power(None, None)]}, {}),
        ({**verdicts(FIXED, INCAPABLE), "graphics": [power("no", "no")], "persistent": False}, {}),
        ({**verdicts(None, FIXED), "graphics": [power(None, "no")]}, {}),
        # Who else writes the definition: worse where that undoes what was done here.
        (managed("nova"), {"managed_elsewhere": "info"}),
        (managed("nova", "enabled"), {"managed_elsewhere": "medium"}),
        (managed("terraform"), {"managed_elsewhere": "info"}),
        (managed("terraform", "disabled"), {"managed_elsewhere": "low"}),
        (managed("cockpit", "enabled"), {}),
        ({**managed("nova", "enabled"), "graphics": [SPICE]}, {}),
        # What is not known.
        (verdicts(UNKNOWN, FIXED), {"qemu_verdict_unknown": "medium"}),
        (verdicts(None, UNKNOWN), {"qemu_verdict_unknown": "medium"}),
    ],
)  # fmt: skip
def test_findings(more: Record, expected: dict[str, str]) -> None:
    assert found(domain(**more)) == expected


WHEN_IT_CHANGES = "writes the definition anew when it changes the domain"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({**verdicts(AFFECTED, FIXED), "graphics": [power("yes", None)]},
         "noVNC cannot keep a connection: the running QEMU sends a -257 rectangle unasked"),
        ({"outdated_process": True, "qemu": {"running": qemu(FIXED, "7.2.0"), "next_start": qemu(FIXED, "8.2.0")}},
         "the guest runs QEMU 7.2.0, while 8.2.0 is installed and waits for its next start"),
        ({"outdated_process": True, "qemu": {"running": qemu(FIXED, None), "next_start": qemu(FIXED, None)}},
         "the guest runs QEMU of unknown version, while another build is installed and waits for its next start"),
        ({"saved_states": [{"kind": "managed_save", "name": None, "differs": True},
                           {"kind": "snapshot", "name": "a", "differs": False},
                           {"kind": "checkpoint", "name": "b", "differs": True}]},
         "another powerControl comes back with the managed save, checkpoint b"),
        ({"graphics": [listening("::"), listening("0.0.0.0", "10.0.0.1"), listening("0.0.0.0")]},
         "the VNC server listens on every address of the host (0.0.0.0, ::)"),
        (verdicts(UNKNOWN, UNKNOWN),
         "nothing is known about the running QEMU, so it is treated as affected: as was seen"),
        (managed("ovirt", "enabled"),
         "oVirt writes the definition anew at each start: the powerControl that this collection has set is lost then"),
        (managed("I"),
         f"I {WHEN_IT_CHANGES}: powerControl is then as I makes it, whatever is set here"),
        (verdicts(FIXED, UNKNOWN),
         "nothing is known about the QEMU of the next start, so it is treated as affected: as was seen"),
    ],
)  # fmt: skip
def test_messages(more: Record, message: str) -> None:
    assert findings(domain(**more))[0]["message"] == message


EVERYTHING = domain(
    graphics=[vnc(power_control={"live": "yes", "config": "no"}, password=False,
                  listen=[{"type": "address", "address": "0.0.0.0"}])],
    restart_pending=True,
    outdated_process=True,
    pointer_devices=[],
    saved_states=[{"kind": "managed_save", "name": None, "differs": True}],
    qemu={"running": qemu(AFFECTED), "next_start": qemu(INCAPABLE)},
)  # fmt: skip


def test_findings_come_worst_first_with_their_remedies() -> None:
    listed = findings(EVERYTHING)
    assert [finding["id"] for finding in listed] == [
        "unsolicited_pointer_change",
        "ungated_power_messages",
        "vnc_without_authentication",
        "power_control_unsupported",
        "restart_pending",
        "outdated_process",
        "saved_state_differs",
        "vnc_listens_everywhere",
        "relative_pointer",
    ]
    assert [SEVERITIES.index(finding["severity"]) for finding in listed] == [0, 1, 1, 1, 2, 2, 2, 2, 4]
    remedies = {rule.id: rule.remedy for rule in RULES}
    for finding in listed:
        assert set(finding) == {"id", "severity", "message", "remedy"}
        assert finding["remedy"] == remedies[finding["id"]]


def test_the_ids_are_stable() -> None:
    assert [rule.id for rule in RULES] == [
        "unsolicited_pointer_change",
        "ungated_power_messages",
        "restart_pending",
        "outdated_process",
        "saved_state_differs",
        "vnc_without_authentication",
        "vnc_listens_everywhere",
        "relative_pointer",
        "power_control_unsupported",
        "qemu_verdict_unknown",
        "managed_elsewhere",
    ]


@pytest.mark.parametrize("manager", ["nova", "ovirt", "kubevirt", "opennebula", "cloudstack", "terraform", "Packer"])
def test_each_manager_has_a_remedy_of_its_own(manager: str) -> None:
    (finding,) = findings(domain(**managed(manager)))
    assert finding["remedy"] == _managers.by_name(manager).remedy
