# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a definition makes of a power action."""

from __future__ import annotations

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _domain_traps, _power
from ansible_collections.kvmops.console.plugins.module_utils._domain_traps import Circumstances, Traps
from ansible_collections.kvmops.console.plugins.module_utils._domain_xml import NAMESPACE, parse

ORDINARY = Circumstances(persistent=True, autostart=False, managed_save=False)
CHANNEL = '<channel type="unix"><target type="virtio" name="org.qemu.guest_agent.0" {}/></channel>'


def definition(more: str = "", devices: str = "", features: str = "<acpi/>", arch: str = "x86_64") -> str:
    return (
        f'<domain type="kvm"><name>web</name><os><type arch="{arch}">hvm</type></os><features>{features}</features>'
        f"{more}<devices>{devices}</devices></domain>"
    )


def find(state: str, xml: str, domain: Circumstances = ORDINARY, allow_vanish: bool = False) -> Traps:
    return _domain_traps.find(parse(xml), state, domain, allow_vanish)


def test_ordinary_domain_has_no_traps() -> None:
    xml = definition(devices=CHANNEL.format('state="connected"'))
    for state in _power.STATES:
        assert find(state, xml) == Traps(None, {}, [])


@pytest.mark.parametrize(
    ("state", "word"),
    [("", "has opened"), ('state="disconnected"', "has opened"), (None, "no channel")],
    ids=["untold", "disconnected", "none"],
)
def test_agent_that_cannot_be_asked(state: str | None, word: str) -> None:
    devices = "" if state is None else CHANNEL.format(state)
    assert word in find(_power.STOPPED, definition(devices=devices)).unusable["agent"]


def test_other_channels_are_no_agent() -> None:
    other = CHANNEL.replace("org.qemu.guest_agent.0", "com.redhat.spice.0").format('state="connected"')
    assert "no channel" in find(_power.STOPPED, definition(devices=other)).unusable["agent"]


def test_missing_acpi_matters_where_there_is_acpi() -> None:
    assert "<acpi/>" in find(_power.STOPPED, definition(features="")).unusable["acpi"]
    assert "acpi" not in find(_power.STOPPED, definition(features="", arch="s390x")).unusable


def test_on_poweroff_restart_makes_reboots_of_shutdowns() -> None:
    xml = definition("<on_poweroff>restart</on_poweroff>", CHANNEL.format('state="connected"'))
    for state in (_power.STOPPED, _power.POWER_CYCLED, _power.PENDING_APPLIED):
        unusable = find(state, xml).unusable
        assert set(unusable) == {"agent", "acpi"}
        assert "would reboot" in unusable["acpi"]
    assert find(_power.REBOOTED_STATE, xml).unusable == {}


@pytest.mark.parametrize("action", ["destroy", "preserve"])
def test_on_reboot_that_ends_the_domain(action: str) -> None:
    xml = definition(f"<on_reboot>{action}</on_reboot>")
    for state in (_power.REBOOTED_STATE, _power.RESET_STATE):
        assert f"on_reboot {action}" in str(find(state, xml).refusal)
    assert find(_power.STOPPED, xml).refusal is None
    assert find(_power.RESET_STATE, definition("<on_reboot>restart</on_reboot>")).refusal is None


def test_transient_domain_would_vanish() -> None:
    transient = ORDINARY._replace(persistent=False)
    for state in (_power.STOPPED, _power.POWER_CYCLED, _power.PENDING_APPLIED, _power.SAVED):
        assert "would vanish" in str(find(state, definition(), transient).refusal)
    for state in (_power.REBOOTED_STATE, _power.RESET_STATE, _power.PAUSED_STATE, _power.NMI_SENT):
        assert find(state, definition(), transient).refusal is None
    assert find(_power.STOPPED, definition(), transient, allow_vanish=True).refusal is None
    assert find(_power.POWER_CYCLED, definition(), transient, allow_vanish=True).refusal is not None


def test_notes() -> None:
    assert "autostart" in find(_power.STOPPED, definition(), ORDINARY._replace(autostart=True)).notes[0]
    assert find(_power.POWER_CYCLED, definition(), ORDINARY._replace(autostart=True)).notes == []
    off = ORDINARY._replace(managed_save=True)
    assert "memory was saved" in find(_power.STARTED, definition(), off).notes[0]


def test_domain_that_another_runs() -> None:
    """Only those that keep their own record of what runs, and only where its process ends, begins or stands still."""
    xml = definition('<metadata><n:x xmlns:n="http://openstack.org/xmlns/libvirt/nova/1.1"/></metadata>')
    (note,) = find(_power.STOPPED, xml).notes
    assert note.startswith("OpenStack Nova runs it, and may take this for a crash or undo it: do it there")
    told = [state for state in _power.STATES if find(state, xml).notes]
    assert [state for state in _power.STATES if state not in told] == [
        _power.REBOOTED_STATE,
        _power.RESET_STATE,
        _power.NMI_SENT,
    ]
    kept = definition('<metadata><l:x xmlns:l="http://libosinfo.org/xmlns/libvirt/domain/1.0"/></metadata>')
    assert find(_power.STOPPED, kept).notes == []


def locked(attributes: str, text: str = "") -> str:
    ours = f'<k:console xmlns:k="{NAMESPACE}"><k:lock {attributes}>{text}</k:lock></k:console>'
    return definition(f"<metadata>{ours}</metadata>")


@pytest.mark.parametrize(
    ("attributes", "text", "said"),
    [
        ("", "", "locked by its owner"),
        ('reason="migration of the data"', "", "locked by its owner: migration of the data"),
        ('reason="r" by="ann"', "", "locked by ann: r"),
        ("", " ask first ", "locked by its owner: ask first"),
    ],
    ids=["bare", "reason", "both", "text"],
)
def test_lock(attributes: str, text: str, said: str) -> None:
    found = _domain_traps.lock([parse(definition()), parse(locked(attributes, text))])
    assert str(found) == said


def test_lock_of_somebody_else_is_none() -> None:
    assert _domain_traps.lock([parse(definition())]) is None
    assert _domain_traps.lock([parse(locked("").replace(NAMESPACE, "urn:other"))]) is None


def test_title() -> None:
    assert _domain_traps.title(parse(definition("<title>The shop</title>"))) == "The shop"
    assert _domain_traps.title(parse(definition())) is None
