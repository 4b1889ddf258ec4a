# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Managed saves and snapshots: what they carry, and what a restore brings back."""

from __future__ import annotations

from typing import Any

import libvirt
import pytest
from lxml import etree

PASSWORD = "geheim-7"


def command_line(hypervisor: Any, name: str) -> str:
    script = f"tr '\\0' ' ' < /proc/$(cat /run/libvirt/qemu/{name}.pid)/cmdline"
    return str(hypervisor.host.exec("sh", "-c", script).stdout)


def test_a_managed_save_is_left_alone_unless_the_play_asks(hypervisor: Any) -> None:
    domain = hypervisor.put("guest", power_control="yes", password=PASSWORD, running=True)
    domain.managedSave(0)
    record = hypervisor.set("guest")
    assert record["saved_states"] == [
        {"kind": "managed_save", "name": None, "before": ["yes"], "after": ["yes"], "differs": True}
    ]
    domain.create()
    assert "power-control=on" in command_line(hypervisor, "guest")
    assert hypervisor.record("guest")["restart_pending"] is True


def test_a_managed_save_is_changed_where_the_play_asks(hypervisor: Any) -> None:
    domain = hypervisor.put("guest", power_control="yes", password=PASSWORD, running=True)
    domain.managedSave(0)
    predicted = hypervisor.module("domain_power_control", check=True, include_saved_states=True)
    assert predicted["domains"][0]["saved_states"][0]["after"] == ["no"]
    record = hypervisor.set("guest", include_saved_states=True)
    (state,) = record["saved_states"]
    assert (state["before"], state["after"], state["differs"]) == (["yes"], ["no"], False)
    backup = (hypervisor.host.root / state["backup"].lstrip("/")).read_text()
    assert PASSWORD in backup
    assert "powerControl" in backup
    assert hypervisor.set("guest", include_saved_states=True)["changed"] is False
    domain.create()
    assert "power-control=off" in command_line(hypervisor, "guest")
    assert "password=on" in command_line(hypervisor, "guest")
    assert hypervisor.record("guest")["restart_pending"] is False


@pytest.fixture
def snapshots(hypervisor: Any) -> Any:
    """A guest with two snapshots in a row, made by redefinition (there is no disk to take one of)."""
    domain = hypervisor.put("guest", power_control="yes", password=PASSWORD)
    definition = hypervisor.definition("guest")
    for name, parent in (("one", ""), ("two", "<parent><name>one</name></parent>")):
        flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
        if parent:
            flags |= libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT
        domain.snapshotCreateXML(
            f"<domainsnapshot><name>{name}</name><description>of mine</description><state>shutoff</state>{parent}"
            f"<creationTime>1700000000</creationTime><memory snapshot='no'/>{definition}</domainsnapshot>",
            flags,
        )
    return domain


def carried(domain: Any, name: str) -> dict[str, str]:
    xml = domain.snapshotLookupByName(name).getXMLDesc(libvirt.VIR_DOMAIN_SNAPSHOT_XML_SECURE)
    found = etree.fromstring(xml).find(".//graphics")
    assert found is not None
    return {str(key): str(value) for key, value in found.attrib.items()}


def test_snapshots_are_told_and_changed_and_stay_snapshots(hypervisor: Any, snapshots: Any) -> None:
    record = hypervisor.set("guest")
    assert [(state["name"], state["differs"]) for state in record["saved_states"]] == [("one", True), ("two", True)]
    assert [state["differs"] for state in hypervisor.record("guest")["saved_states"]] == [True, True]

    hypervisor.set("guest", include_saved_states=True)
    for name in ("one", "two"):
        assert carried(snapshots, name)["powerControl"] == "no"
        assert carried(snapshots, name)["passwd"] == PASSWORD
    assert snapshots.snapshotCurrent(0).getName() == "two"
    assert snapshots.snapshotLookupByName("two").getParent(0).getName() == "one"
    assert [state["differs"] for state in hypervisor.record("guest")["saved_states"]] == [False, False]
    assert hypervisor.set("guest", include_saved_states=True)["changed"] is False


def test_restored_reaches_snapshots_too(hypervisor: Any, snapshots: Any) -> None:
    hypervisor.set("guest", include_saved_states=True)
    hypervisor.set("guest", state="restored", include_saved_states=True)
    assert {carried(snapshots, name)["powerControl"] for name in ("one", "two")} == {"yes"}
