# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""libvirtd dies half way: every domain is either old or new."""

from __future__ import annotations

import time
from typing import Any

import libvirt

from ansible_collections.kvmops.console.tests.lab.kvmlab import domain_xml

PASSWORD = "geheim-7"
DOMAINS = 120
"""So many that several processes share the work, where there are processors."""
EARLY, LATER = 12, 36
"""Places in the same share, whether one, two, three or four processes take turns."""


def test_libvirtd_killed_half_way_leaves_every_domain_old_or_new(hypervisor: Any) -> None:
    names = [f"guest-{number:03}" for number in range(DOMAINS)]
    before = {}
    for name in names:
        hypervisor.connection.defineXML(domain_xml(name, power_control="yes", password=PASSWORD))
        before[name] = hypervisor.definition(name)
    hypervisor.set(names[0])  # its definition is what every other one will look like
    expected = hypervisor.definition(names[0])

    folder = hypervisor.host.root / "etc/libvirt/qemu"
    module = hypervisor.start_module("domain_power_control", {"domains": names})
    later = folder / f"{names[LATER]}.xml"
    deadline = time.monotonic() + 60
    while "powerControl='no'" not in later.read_text():
        assert time.monotonic() < deadline, "the module never came so far"
        assert module.process.poll() is None, "the module was done before libvirtd could be killed"
    hypervisor.host.libvirtd("kill")
    result = module.result()
    hypervisor.host.libvirtd("start")
    hypervisor.reconnect()

    assert result["failed"] is True
    records = {record["name"]: record for record in result["domains"]}
    after = {name: hypervisor.definition(name) for name in names}
    new = {name for name in names if _as(name, expected, names[0]) == _anonymous(after[name])}
    old = {name for name in names if after[name] == before[name]}
    assert new | old == set(names)
    assert {names[EARLY], names[LATER]} <= new
    assert old, "libvirtd was killed when all was done"
    assert all(PASSWORD in definition for definition in after.values())
    assert all("error" in records[name] for name in old)
    told_new = {name for name in names if records[name]["changed"] and "error" not in records[name]}
    assert told_new <= new, "a domain that was told as changed is changed"

    repaired = hypervisor.module("domain_power_control", domains=names, diff=True)
    assert "failed" not in repaired
    assert [record["name"] for record in repaired["domains"]] == names
    assert [record["name"] for record in repaired["domains"] if record["changed"]] == sorted(old)
    assert [diff["before_header"] for diff in repaired["diff"]] == sorted(old)
    assert {hypervisor.vnc(name)["powerControl"] for name in names} == {"no"}
    assert {hypervisor.vnc(name)["passwd"] for name in names} == {PASSWORD}


def test_guests_survive_their_libvirtd(hypervisor: Any) -> None:
    domain = hypervisor.put("guest", power_control="yes", password=PASSWORD, running=True)
    hypervisor.host.libvirtd("kill")
    hypervisor.host.libvirtd("start")
    hypervisor.reconnect()
    record = hypervisor.record("guest")
    assert record["state"] == "running"
    assert record["qemu"]["running"]["verdict"] == "affected"
    assert hypervisor.connection.lookupByName("guest").state()[0] == libvirt.VIR_DOMAIN_RUNNING
    assert domain.name() == "guest"


def _anonymous(xml: str) -> str:
    """A definition without what is its own alone."""
    return "\n".join(line for line in xml.splitlines() if "<name>" not in line and "<uuid>" not in line)


def _as(name: str, xml: str, template: str) -> str:
    return _anonymous(xml.replace(template, name))
