# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Domains that others manage, on a real libvirt, which keeps what they leave in definitions."""

from __future__ import annotations

from typing import Any

from ansible_collections.kvmops.console.tests.lab.kvmlab import AFFECTED_QEMU, domain_xml

LEFT = {
    "nova": '<nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1"><nova:name>a</nova:name></nova:instance>',
    "ovirt": '<ovirt-vm:vm xmlns:ovirt-vm="http://ovirt.org/vm/1.0"><ovirt-vm:clusterVersion>4.7</ovirt-vm:clusterVersion></ovirt-vm:vm>',
    "kubevirt": '<kubevirt xmlns="http://kubevirt.io"><uid/></kubevirt>',
    "opennebula": '<one:vm xmlns:one="http://opennebula.org/xmlns/libvirt/1.0"><one:system_datastore/></one:vm>',
    "cockpit": '<c:data xmlns:c="https://github.com/cockpit-project/cockpit-machines"><c:os_variant>x</c:os_variant></c:data>',
    "libosinfo": '<l:libosinfo xmlns:l="http://libosinfo.org/xmlns/libvirt/domain/1.0"><l:os id="x"/></l:libosinfo>',
    "terraform": '<k:console xmlns:k="https://kvmops.github.io/console/1"><k:managed by="terraform"/></k:console>',
}
REWRITTEN = {"nova", "ovirt", "kubevirt", "opennebula"}


def settings(hypervisor: Any) -> dict[str, str]:
    return {name: hypervisor.vnc(name)["powerControl"] for name in LEFT}


def test_domains_that_others_manage(hypervisor: Any) -> None:
    for name, left in LEFT.items():
        xml = domain_xml(name, emulator=AFFECTED_QEMU, power_control="yes")
        hypervisor.connection.defineXML(xml.replace("<memory", f"<metadata>{left}</metadata><memory", 1))
    audit = hypervisor.module("domain_info")
    assert {record["name"]: record["managed_by"]["id"] for record in audit["domains"]} == {name: name for name in LEFT}
    assert audit["summary"]["findings"]["managed_elsewhere"] == len(REWRITTEN) + 1
    assert audit["host"]["not_seen"] == []

    changed = hypervisor.module("domain_power_control")
    assert {record["name"] for record in changed["domains"] if "skipped" in record} == REWRITTEN
    assert [record["name"] for record in changed["domains"] if record["note"]] == ["terraform"]
    assert settings(hypervisor) == {name: "yes" if name in REWRITTEN else "no" for name in LEFT}

    forced = hypervisor.module("domain_power_control", managed="edit")
    assert forced["summary"]["changed"] == len(REWRITTEN)
    audit = hypervisor.module("domain_info")
    told = {
        record["name"]: finding["severity"]
        for record in audit["domains"]
        for finding in record["findings"]
        if finding["id"] == "managed_elsewhere"
    }
    assert told == {**dict.fromkeys(REWRITTEN, "medium"), "terraform": "low"}
    assert {record["name"]: record["managed_by"]["id"] for record in audit["domains"]} == {name: name for name in LEFT}

    assert hypervisor.module("domain_power_control", state="restored")["summary"]["changed"] == len(LEFT)
    assert settings(hypervisor) == dict.fromkeys(LEFT, "yes")
