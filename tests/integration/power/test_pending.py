# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is pending in running domains, by a real libvirtd and both QEMUs: nothing where nothing is, and each change."""

from __future__ import annotations

from typing import Any

import libvirt
import pytest
from lxml import etree

from ansible_collections.kvmops.console.plugins.module_utils import _pending_changes
from ansible_collections.kvmops.console.tests.lab.kvmlab import AFFECTED_QEMU, FIXED_QEMU, domain_xml
from ansible_collections.kvmops.console.tests.lab.kvmlab.domains import PASSWORD, spice_xml, vnc_xml

LIVE, CONFIG = libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG
IMAGES = "/srv/pending"
MAC = "52:54:00:00:00:01"
SCSI = '<disk type="file"><driver name="qemu" type="raw"/><source file="{}"/><target dev="{}" bus="scsi"/></disk>'
CDROM = '<disk type="file" device="cdrom"><source file="{}"/><target dev="hdc" bus="ide"/><readonly/></disk>'
NETWORK = '<interface type="ethernet"><mac address="{}"/><model type="{}"/><rom enabled="no"/></interface>'
DEVICES = (
    '<disk type="file"><driver name="qemu" type="qcow2" cache="none"/><source file="{folder}/{name}.qcow2"/>'
    '<target dev="vda" bus="virtio"/></disk>'
    + CDROM.format("{folder}/one.iso")
    + SCSI.format("{folder}/{name}.scsi", "sda")
    + '<controller type="scsi" model="virtio-scsi"/><controller type="virtio-serial"/>'
    '<serial type="pty"/><serial type="file"><source path="{folder}/{name}.serial"/></serial>'
    '<console type="pty"><target type="virtio"/></console>'
    '<channel type="unix"><target type="virtio" name="org.qemu.guest_agent.0"/></channel>'
    '<channel type="unix"><target type="virtio" name="mine"/></channel>'
    + NETWORK.format(MAC, "virtio")
    + '<rng model="virtio"><backend model="random">/dev/urandom</backend></rng><watchdog model="i6300esb"/>'
    '<panic model="isa"/><input type="keyboard" bus="virtio"/>'
)
SPICE = '<channel type="spicevmc"><target type="virtio" name="com.redhat.spice.0"/></channel>'
Q35 = (('machine="pc"', 'machine="q35"'), ("piix3-uhci", "qemu-xhci"), ("hdc", "sdc"), ('"ide"', '"sata"'))
SETTINGS = (
    '<sysinfo type="smbios"><system><entry name="product">x</entry></system></sysinfo><clock offset="utc">'
    '<timer name="hpet" present="no"/></clock><pm><suspend-to-mem enabled="no"/></pm>'
)
FULL = (
    ("<os>", "<iothreads>1</iothreads><os>"),
    ("</os>", '<boot dev="hd"/><boot dev="cdrom"/><bootmenu enable="yes"/><smbios mode="sysinfo"/></os>'),
    ("<acpi />", '<acpi/><apic/><pae/><hyperv><relaxed state="on"/></hyperv><vmport state="off"/>'),
    ("<vcpu>1<", '<vcpu current="1">2<'),
    ('<memory unit="MiB">16<', '<memory unit="KiB">70001<'),
    ("<devices>", f"{SETTINGS}<devices>"),
    ('<memballoon model="none" />', '<memballoon model="virtio"><stats period="5"/></memballoon>'),
)
CELL = '<cell id="{0}" cpus="{0}" memory="35001"/>'
NUMA = f'<cpu mode="maximum"><numa>{CELL.format(0)}{CELL.format(1)}</numa></cpu>'
CPU = (
    '<cpu match="exact" check="none"><model>Nehalem</model><feature policy="require" name="vmx"/>'
    '<feature policy="disable" name="sse4.2"/><feature policy="optional" name="avx"/></cpu>'
)

KINDS: dict[str, dict[str, Any]] = {
    "plain": {"power_control": "yes", "password": PASSWORD},
    "affected": {"emulator": AFFECTED_QEMU, "listen": None},
    "full": {"devices": DEVICES, "edits": FULL, "graphics": (vnc_xml(socket=""),)},
    "affected-full": {"emulator": AFFECTED_QEMU, "devices": DEVICES, "edits": (*FULL, ("<clock", f"{CPU}<clock"))},
    "q35": {
        "devices": DEVICES + SPICE,
        "edits": (*FULL, *Q35, ("<clock", f"{NUMA}<clock")),
        "graphics": (spice_xml(), '<graphics type="vnc" websocket="-1"/>'),
        "video": "qxl",
    },
}
"""Domains of many kinds, by what domain_xml() makes of them."""


class Bench:
    """Domains that are looked at without the module, which is quicker."""

    def __init__(self, guests: Any) -> None:
        self.guests = guests
        self.host = guests.hypervisor.host
        self.connection = guests.hypervisor.connection
        self.host.exec(
            "sh",
            "-c",
            f"mkdir -p {IMAGES}; cd {IMAGES}; rm -f over.qcow2; truncate -s 1M one.iso two.iso plugged.img both.img",
        )

    def begin(self, name: str, edits: tuple[tuple[str, str], ...] = (), devices: str = "", **what: Any) -> Any:
        """A domain that has just been started, and stands still."""
        self.host.exec(
            "sh", "-c", f"cd {IMAGES}; qemu-img create -q -f qcow2 {name}.qcow2 1M; truncate -s 1M {name}.scsi"
        )
        what.setdefault("emulator", FIXED_QEMU)
        xml = domain_xml(name, devices=devices.format(folder=IMAGES, name=name), **what)
        for old, new in edits:
            assert old in xml, old
            xml = xml.replace(old, new)
        domain = self.connection.defineXML(xml)
        domain.createWithFlags(libvirt.VIR_DOMAIN_START_PAUSED)
        return domain

    @staticmethod
    def definitions(domain: Any) -> list[Any]:
        return [etree.fromstring(domain.XMLDesc(flags)) for flags in (0, libvirt.VIR_DOMAIN_XML_INACTIVE)]

    def pending(self, domain: Any) -> list[str]:
        return _pending_changes.find(*self.definitions(domain))

    def live_only(self, domain: Any) -> list[str]:
        return _pending_changes.live_only(*self.definitions(domain))

    def edit(self, domain: Any, *edits: tuple[str, str]) -> None:
        """Change its definition as virsh edit does."""
        xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
        for old, new in edits:
            assert old in xml, (old, xml)
            xml = xml.replace(old, new, 1)
        self.connection.defineXML(xml)


@pytest.fixture
def bench(guests: Any) -> Bench:
    return Bench(guests)


def test_nothing_is_pending_in_a_process_that_has_just_begun(bench: Bench, guests: Any) -> None:
    domains = {name: bench.begin(name, **what) for name, what in KINDS.items()}
    assert {name: bench.pending(domain) for name, domain in domains.items()} == {name: [] for name in KINDS}
    assert {name: bench.live_only(domain) for name, domain in domains.items()} == {name: [] for name in KINDS}

    full = domains["full"]
    full.attachDeviceFlags(SCSI.format(f"{IMAGES}/both.img", "sdb"), LIVE | CONFIG)
    full.attachDeviceFlags(NETWORK.format("52:54:00:00:00:02", "virtio"), LIVE | CONFIG)
    full.setMemoryFlags(60000, LIVE | CONFIG)
    full.setVcpusFlags(2, LIVE)
    full.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, "another", None, None, CONFIG)
    full.setMetadata(libvirt.VIR_DOMAIN_METADATA_DESCRIPTION, "of another", None, None, LIVE)
    full.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, "<x/>", "x", "urn:x", CONFIG)
    full.updateDeviceFlags(CDROM.format(f"{IMAGES}/two.iso"), LIVE)
    full.updateDeviceFlags(NETWORK.format(MAC, "virtio").replace("</i", '<link state="down"/></i'), LIVE)
    full.setBlockIoTune("vda", {"total_iops_sec": 1000}, LIVE)
    full.snapshotCreateXML(
        f'<domainsnapshot><name>s</name><disks><disk name="vda"><source file="{IMAGES}/over.qcow2"/></disk>'
        '<disk name="sda" snapshot="no"/><disk name="sdb" snapshot="no"/></disks></domainsnapshot>',
        libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_DISK_ONLY | libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA,
    )
    assert bench.pending(full) == [], "what was done to it while it runs"
    full.attachDeviceFlags(SCSI.format(f"{IMAGES}/plugged.img", "sdz"), LIVE)
    assert (bench.pending(full), bench.live_only(full)) == ([], ["disk sdz"])

    bench.host.libvirtd("restart")
    result = guests.power(*KINDS, state="pending_applied", force="at_once")
    for record in result["domains"]:
        assert (record["pending"], record["pending_changes"], record["changed"]) == ([], [], False), record
    assert result["changed"] is False
    (note,) = result["domains"][sorted(KINDS).index("full")]["notes"]
    assert note == "its process has what its definition has not, and a new one would not have: disk sdz"


CHANGES: dict[str, tuple[list[tuple[str, str]], list[str]]] = {
    "memory": ([(">70656</memory>", ">81920</memory>")], ["memory"]),
    "vcpus": ([("'1'>2</vcpu>", "'1'>3</vcpu>")], ["vcpu"]),
    "iothreads": ([("<iothreads>1<", "<iothreads>2<")], ["iothreads"]),
    "machine": ([("pc-i440fx-7.2", "pc-i440fx-7.1")], ["os"]),
    "boot order": ([("<boot dev='hd'/>", ""), ("</os>", "<boot dev='hd'/></os>")], ["os"]),
    "one boot device less": ([("<boot dev='hd'/>", "")], ["os"]),
    "boot menu gone": ([("<bootmenu enable='yes'/>", "")], ["os"]),
    "product": ([(">x</entry>", ">y</entry>")], ["sysinfo"]),
    "feature": ([("<vmport state='off'/>", "<vmport state='on'/>")], ["features"]),
    "feature gone": ([("<pae/>", "")], ["features"]),
    "enlightenment gone": ([("<relaxed state='on'/>", "<vapic state='on'/>")], ["features"]),
    "timer gone": ([("<timer name='hpet' present='no'/>", "")], ["clock"]),
    "clock": ([("<clock offset='utc'", "<clock offset='localtime'")], ["clock"]),
    "crash": ([("<on_crash>destroy", "<on_crash>preserve")], ["on_crash"]),
    "sleep": ([("<suspend-to-mem enabled='no'/>", "<suspend-to-mem enabled='yes'/>")], ["pm"]),
    "processor": ([(">qemu64</model>", ">Nehalem</model>")], ["cpu"]),
    "disk's file": ([("one.iso", "two.iso"), ("{name}.qcow2", "other.qcow2")], ["disk vda"]),
    "disk's cache": ([("cache='none'", "cache='writeback'")], ["disk vda"]),
    "disk of its own": ([("<controller", SCSI.format("/srv/new.img", "sdb") + "<controller")], ["disk sdb"]),
    "disk's boot order": (
        [
            ("<boot dev='hd'/>", ""),
            ("<boot dev='cdrom'/>", ""),
            ("<target dev='vda'", "<boot order='1'/><target dev='vda'"),
        ],
        ["os", "disk vda"],
    ),
    "bus": ([("model='virtio-scsi'", "model='lsilogic'")], ["controller scsi 0"]),
    "network card": (
        [(f"{MAC}'/>\n      <model type='virtio'/>", f"{MAC}'/><model type='e1000'/>")],
        [f"interface {MAC}"],
    ),
    "serial port's file": ([("{name}.serial", "other.serial")], ["serial"]),
    "channel": ([("name='mine'", "name='yours'")], ["channel yours"]),
    "listens": (
        [(" listen='127.0.0.1'", ""), ("address='127.0.0.1'/>", "address='127.0.0.2'/>")],
        ["graphics vnc"],
    ),
    "port": ([("port='-1' autoport='yes'", "port='5955' autoport='no'")], ["graphics vnc"]),
    "console more": ([("<video>", "<graphics type='spice'/><video>")], ["graphics spice"]),
    "no console": ([("type='vnc'", "type='spice'")], ["graphics spice"]),
    "video": ([("<model type='vga' vram='16384'", "<model type='cirrus' vram='16384'")], ["video"]),
    "sound": ([("<video>", "<sound model='ich6'/><video>")], ["sound ich6"]),
    "watchdog": ([("action='reset'>", "action='poweroff'>")], ["watchdog i6300esb"]),
    "balloon": ([("<memballoon model='virtio'>", "<memballoon model='virtio' autodeflate='on'>")], ["memballoon"]),
    "qemu's arguments": (
        [
            ("<domain type='qemu'>", "<domain type='qemu' xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'>"),
            ("</domain>", "<q:commandline><q:arg value='-s'/></q:commandline></domain>"),
        ],
        ["commandline"],
    ),
    "emulator": ([(FIXED_QEMU, AFFECTED_QEMU)], ["emulator"]),
}


def test_every_change_of_the_definition_is_seen(bench: Bench) -> None:
    domain = bench.begin("web", FULL, DEVICES)
    base = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
    bench.edit(domain, (">70001</memory>", ">70656</memory>"))
    assert bench.pending(domain) == [], "libvirt has rounded it up"
    base = base.replace(">70001</memory>", ">70656</memory>")
    seen = {}
    for what, (edits, expected) in CHANGES.items():
        bench.edit(domain, *((old.format(name="web"), new) for old, new in edits))
        seen[what] = (bench.pending(domain), expected)
        bench.connection.defineXML(base)
        assert bench.pending(domain) == [], what
    assert {what: found for what, (found, _expected) in seen.items()} == {
        what: expected for what, (_found, expected) in seen.items()
    }


def test_pending_changes_are_applied_once(bench: Bench, guests: Any) -> None:
    changed = bench.begin("changed", password=PASSWORD)
    alone = bench.begin("alone", emulator=AFFECTED_QEMU)
    nova = "<metadata><n:instance xmlns:n='http://openstack.org/xmlns/libvirt/nova/1.1'/></metadata>"
    bench.edit(changed, ("</uuid>", f"</uuid>{nova}"), (">16384</memory>", ">32768</memory>"), (PASSWORD, "another"))
    pid = guests.pid("alone")
    for check in (True, False):
        result = guests.power("changed", "alone", state="pending_applied", force="at_once", check=check)
        settled, record = result["domains"]
        assert (record["changed"], record["pending"], record["pending_changes"]) == (
            True,
            ["definition_changed"],
            ["memory"],
        )
        assert PASSWORD not in str(result)
        assert settled["changed"] is False
    assert bench.definitions(changed)[0].findtext("memory") == "32768"
    again = guests.power("changed", "alone", state="pending_applied", force="at_once")
    assert (again["changed"], guests.pid("alone")) == (False, pid)
    (note,) = guests.one("changed", state="stopped", force="at_once")["notes"]
    assert note.startswith("OpenStack Nova runs it")
    assert alone.isActive()
