# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who else writes a definition, by what managers leave in theirs."""

from __future__ import annotations

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _managers
from ansible_collections.kvmops.console.plugins.module_utils._domain_xml import NAMESPACE, parse

LIBOSINFO = (
    '<libosinfo:libosinfo xmlns:libosinfo="http://libosinfo.org/xmlns/libvirt/domain/1.0">'
    '<libosinfo:os id="http://debian.org/debian/12"/></libosinfo:libosinfo>'
)
NOVA = '<nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1"><nova:name/></nova:instance>'
OVIRT = '<ovirt-vm:vm xmlns:ovirt-vm="http://ovirt.org/vm/1.0"/>'
CLOUDSTACK = "<sysinfo type='smbios'><system><entry name='uuid'/><entry name='product'>{}</entry></system></sysinfo>"


def definition(metadata: str = "", more: str = "") -> str:
    kept = f"<metadata>{metadata}</metadata>" if metadata else ""
    return f"<domain type='kvm'><name>web</name>{kept}{more}<devices/></domain>"


def told(by: str, more: str = "") -> str:
    return f'{more}<kvmops:console xmlns:kvmops="{NAMESPACE}"><kvmops:managed by="{by}"/></kvmops:console>'


def manager(metadata: str = "", more: str = "") -> str | None:
    found = _managers.manager_of(parse(definition(metadata, more)))
    return found and found.id


@pytest.mark.parametrize(
    ("metadata", "more", "expected"),
    [
        (NOVA, "", "nova"),
        (NOVA.replace("1.1", "1.0"), "", "nova"),
        (OVIRT, "", "ovirt"),
        ('<ovirt-tune:qos xmlns:ovirt-tune="http://ovirt.org/vm/tune/1.0"/>', "", "ovirt"),
        ('<kubevirt xmlns="http://kubevirt.io"><uid/></kubevirt>', "", "kubevirt"),
        ('<one:vm xmlns:one="http://opennebula.org/xmlns/libvirt/1.0"/>', "", "opennebula"),
        ("", CLOUDSTACK.format("CloudStack KVM Hypervisor"), "cloudstack"),
        ('<c:data xmlns:c="https://github.com/cockpit-project/cockpit-machines"/>', "", "cockpit"),
        ('<c:data xmlns:c="https://github.com/cockpit-project/cockpit/tree/master/pkg/machines"/>', "", "cockpit"),
        ('<boxes:gnome-boxes xmlns:boxes="https://wiki.gnome.org/Apps/Boxes"/>', "", "boxes"),
        ("", "<description>Source: /home/me/lab/Vagrantfile</description>", "vagrant"),
        (LIBOSINFO, "", "libosinfo"),
        # The one that writes over an edit first.
        (LIBOSINFO + NOVA, "", "nova"),
        # Nobody's.
        ("", "", None),
        ('<mine xmlns="http://example.org/nova"/>', "", None),
        ('<copy xmlns="urn:copy:http://kubevirt.io"/>', "", None),
        (f'<copy xmlns="urn:copy"><managed xmlns="{NAMESPACE}" by="terraform"/></copy>', "", None),
        ("<nova/><!-- http://openstack.org/xmlns/libvirt/nova/1.1 -->", "", None),
        ("", CLOUDSTACK.format("Standard PC"), None),
        ("", "<description>Source: the archive</description>", None),
        ("", "<description>See lab/Vagrantfile</description>", None),
        # The owner's word.
        (told("terraform"), "", "terraform"),
        (told(" Terraform "), "", "terraform"),
        (told("terraform", NOVA), "", "terraform"),
        (told("nobody", NOVA), "", None),
        (told("", NOVA), "", "nova"),
        (told("Packer"), "", "other"),
    ],
)  # fmt: skip
def test_manager(metadata: str, more: str, expected: str | None) -> None:
    assert manager(metadata, more) == expected


def test_what_looks_alike_elsewhere_is_not_metadata() -> None:
    assert _managers.manager_of(parse(f"<domain><devices><metadata>{NOVA}</metadata></devices></domain>")) is None


def test_the_owners_own_manager_is_named_and_may_write_everything_over() -> None:
    assert _managers.describe(parse(definition(told("Packer")))) == {
        "id": "other",
        "name": "Packer",
        "rewrites": "change",
    }
    assert _managers.describe(parse(definition())) is None


def test_an_owner_cannot_fill_the_report() -> None:
    name = _managers.by_name("x\n\t" + "y" * 500).name
    assert name == "x" + "y" * (_managers.LONGEST_NAME - 1)


def test_ids_are_found_again_and_every_manager_says_where_to_go() -> None:
    assert [_managers.by_name(one.id) for one in _managers.MANAGERS] == list(_managers.MANAGERS)
    anew = {one.id: one.rewrites for one in _managers.MANAGERS if one.rewrites != _managers.NEVER}
    at_each_start = ("nova", "ovirt", "kubevirt", "opennebula", "cloudstack")
    assert anew == {**dict.fromkeys(at_each_start, _managers.START), "terraform": _managers.CHANGE}
    remedies = [one.remedy for one in _managers.MANAGERS] + [one.remedy for one in _managers.BESIDE]
    assert all(remedy.endswith(".") for remedy in remedies)


@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ([], []),
        (["/etc/pve/nodes"], ["proxmox"]),
        (["/run/incus/unix.socket", "/var/run/kubevirt"], ["incus", "kubevirt"]),
        (["/var/lib/lxd/unix.socket", "/var/snap/lxd/common/lxd/unix.socket"], ["lxd"]),
    ],
    ids=["nothing", "proxmox", "incus-kubevirt", "lxd"],
)
def test_what_libvirt_knows_nothing_of(there: list[str], expected: list[str]) -> None:
    found = _managers.not_seen(there.__contains__)
    assert [one["id"] for one in found] == expected
    assert all(set(one) == {"id", "name", "remedy"} for one in found)
