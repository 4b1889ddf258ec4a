# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a new process would bring, by pairs of definitions. What libvirt really makes of them is tested with libvirt."""

from __future__ import annotations

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _pending_changes
from ansible_collections.kvmops.console.plugins.module_utils._domain_xml import parse

OS = "<os><type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type>{}</os>"
DISK = (
    "<disk type='file' device='{}'><driver name='qemu' type='raw'/><source file='{}'/>"
    "<target dev='{}' bus='virtio'/>{}</disk>"
)
VNC = "<graphics type='vnc' {}><listen type='address' {}/></graphics>"
NIC = "<interface type='{}'><mac address='52:54:00:00:00:0{}'/><source {}/>{}</interface>"
CPU = "<cpu mode='{}' match='exact' check='full'><model fallback='forbid'>{}</model>{}</cpu>"
PTY = "<{0} type='pty'>{1}<target type='{2}' port='{3}'/></{0}>"
CHANNEL = "<channel type='unix'><source path='{}'/><target name='x' {}/></channel>"
DIMM = "<memory model='dimm'><target><size unit='KiB'>{}</size><node>{}</node></target></memory>"
LABEL = "<seclabel type='dynamic' model='dac' relabel='yes'><label>+64055:+64055</label></seclabel>"


def feature(policy: str, name: str = "vmx") -> str:
    return f"<feature policy='{policy}' name='{name}'/>"


def domain(inside: str = "", devices: str = "", kind: str = "kvm") -> str:
    return f"<domain type='{kind}'><name>web</name>{inside}<devices>{devices}</devices></domain>"


def find(live: str, config: str) -> list[str]:
    return _pending_changes.find(parse(live), parse(config))


NOTHING_INSIDE: dict[str, tuple[str, str]] = {
    "nothing": ("", ""),
    "labels": (LABEL, ""),
    "number": ("<resource><partition>/machine</partition></resource>", ""),
    "balloon": ("<currentMemory>1</currentMemory>", "<currentMemory>2</currentMemory>"),
    "units": ("<memory unit='KiB'>2048</memory>", "<memory unit='MiB'>2</memory>"),
    "rounded": ("<memory>61440</memory>", "<memory>60417</memory>"),
    "rounded on pSeries": (
        "<memory>524288</memory><os><type arch='ppc64le'/></os>",
        "<memory>262145</memory><os><type arch='ppc64le'/></os>",
    ),
    "rounded most": ("<maxMemory slots='2'>61440</maxMemory>", "<maxMemory slots='2'>60417</maxMemory>"),
    "rounded cells": (
        "<memory>61440</memory><cpu><numa><cell id='0' memory='30720'/><cell id='1' memory='30720'/></numa></cpu>",
        "<memory>60002</memory><cpu><numa><cell id='0' memory='30001'/><cell id='1' memory='30001'/></numa></cpu>",
    ),
    "plugged processors": ("<vcpu current='2'>4</vcpu>", "<vcpu current='1' placement='static'>4</vcpu>"),
    "iothreads added": ("<iothreads>2</iothreads>", "<iothreads>1</iothreads>"),
    "iothreads none": ("", ""),
    "tuning": ("<cputune><shares>1</shares></cputune>", "<cputune><shares>2</shares></cputune>"),
    "nodes": (
        "<numatune><memory mode='strict' nodeset='0'/></numatune>",
        "<numatune><memory nodeset='1'/></numatune>",
    ),
    "words for people": ("<title>a</title>", "<title>b</title><description>c</description>"),
    "metadata": ("<metadata><x xmlns='urn:x'/></metadata>", ""),
    "unheard of": ("", "<unheard/>"),
    "firmware": (
        OS.replace("<os", "<os firmware='efi'").format("<loader>/a</loader><nvram template='/t'>/n</nvram>"),
        OS.replace("<os", "<os firmware='efi'").format(
            "<loader secure='no'/><nvram>/m</nvram><firmware><feature name='x'/></firmware>"
        ),
    ),
    "nvram's file": (
        OS.format("<loader type='pflash'>/a</loader><nvram template='/t'>/n</nvram>"),
        OS.format("<loader type='pflash'>/a</loader><nvram template='/t'/>"),
    ),
    "short name": (OS.format(""), OS.format("").replace("pc-i440fx-7.2", "pc")),
    "spelled out": (
        "<features><hyperv mode='custom'><vapic state='on'/></hyperv></features>",
        "<features><hyperv mode='passthrough'/></features>",
    ),
    "spelled out of the model": (
        "<features><hyperv mode='custom'><vapic state='on'/></hyperv></features>",
        "<features><hyperv mode='host-model'/></features>",
    ),
    "filled in": ("<features><acpi/><gic version='3'/></features>", "<features><acpi/></features>"),
    "running clock": (
        "<clock offset='variable' adjustment='7' basis='utc'/>",
        "<clock offset='variable' adjustment='0' basis='utc'/>",
    ),
    "clock made variable": ("<clock offset='variable' adjustment='7' basis='utc'/>", "<clock offset='utc'/>"),
    "zone made variable": ("<clock offset='variable'/>", "<clock offset='timezone' timezone='Europe/Berlin'/>"),
    "clock with a start": ("<clock offset='absolute' start='1'/>", "<clock offset='absolute' start='2'/>"),
    "model of the host": (CPU.format("custom", "EPYC", feature("require")), "<cpu mode='host-model'/>"),
    "model of the host, in old words": (
        CPU.format("custom", "EPYC", ""),
        "<cpu mode='host-model'><model fallback='forbid'>Nehalem</model></cpu>",
    ),
    "feature refused": (
        CPU.format("custom", "Nehalem", feature("disable")),
        CPU.format("custom", "Nehalem", feature("require")),
    ),
    "feature unknown to QEMU": (
        CPU.format("custom", "Nehalem", ""),
        CPU.format("custom", "Nehalem", feature("disable")),
    ),
    "feature not required": (
        CPU.format("custom", "Nehalem", feature("disable")),
        CPU.format("custom", "Nehalem", feature("optional")),
    ),
    "feature added": (CPU.format("custom", "Nehalem", feature("require")), CPU.format("custom", "Nehalem", "")),
    "minimum": (
        CPU.format("custom", "EPYC", ""),
        CPU.format("custom", "Nehalem", "").replace("exact", "minimum"),
    ),
    "processor of libvirt's": (CPU.format("custom", "qemu64", ""), ""),
    "topology alone": (CPU.format("custom", "qemu64", "<topology cores='2'/>"), "<cpu><topology cores='2'/></cpu>"),
    "backing grown": ("<memoryBacking><locked/></memoryBacking>", "<memoryBacking><locked/></memoryBacking>"),
}


@pytest.mark.parametrize(("live", "config"), NOTHING_INSIDE.values(), ids=NOTHING_INSIDE)
def test_what_libvirt_makes_of_a_definition_is_no_change(live: str, config: str) -> None:
    assert find(domain(live), domain(config)) == []
    assert find(domain(config), domain(config)) == []
    assert find(domain(live), domain(live)) == []


INSIDE: dict[str, tuple[str, str, list[str]]] = {
    "memory": ("<memory unit='MiB'>512</memory>", "<memory unit='GiB'>1</memory>", ["memory"]),
    "less memory": ("<memory>2048</memory>", "<memory>1024</memory>", ["memory"]),
    "a little more": ("<memory>2048</memory>", "<memory>2049</memory>", ["memory"]),
    "not rounded": ("<memory>2047</memory>", "<memory>2046</memory>", ["memory"]),
    "a whole MiB less": ("<memory>2048</memory>", "<memory>1024</memory>", ["memory"]),
    "most memory": ("<maxMemory slots='2'>2048</maxMemory>", "<maxMemory slots='2'>8192</maxMemory>", ["maxMemory"]),
    "slots": ("<maxMemory slots='2'>2048</maxMemory>", "<maxMemory slots='4'>2048</maxMemory>", ["maxMemory"]),
    "most memory of its own": ("", "<maxMemory slots='2'>2048</maxMemory>", ["maxMemory"]),
    "no most memory": ("<maxMemory slots='2'>2048</maxMemory>", "", ["maxMemory"]),
    "vcpu": ("<vcpu>1</vcpu>", "<vcpu current='1'>2</vcpu>", ["vcpu"]),
    "iothreads": ("", "<iothreads>1</iothreads>", ["iothreads"]),
    "nodes' mode": (
        "<numatune><memory nodeset='0'/></numatune>",
        "<numatune><memory mode='interleave' nodeset='0'/></numatune>",
        ["numatune"],
    ),
    "nodes": ("", "<numatune><memory mode='strict' nodeset='0'/></numatune>", ["numatune"]),
    "machine": (OS.format(""), OS.format("").replace("7.2", "8.0"), ["os"]),
    "board": (
        OS.format("").replace("pc-i440fx-7.2", "raspi2b"),
        OS.format("").replace("pc-i440fx-7.2", "raspi3b"),
        ["os"],
    ),
    "order": (
        OS.format("<boot dev='hd'/><boot dev='cdrom'/>"),
        OS.format("<boot dev='cdrom'/><boot dev='hd'/>"),
        ["os"],
    ),
    "kernel": (OS.format("<kernel>/a</kernel>"), OS.format("<kernel>/b</kernel>"), ["os"]),
    "kernel's file": (OS.format("<kernel/>"), OS.format("<kernel>/b</kernel>"), ["os"]),
    "no kernel": (OS.format("<kernel>/a</kernel>"), OS.format(""), ["os"]),
    "loader": (OS.format("<loader>/a</loader>"), OS.format("<loader>/b</loader>"), ["os"]),
    "feature": ("<features><acpi/></features>", "<features><acpi/><apic/></features>", ["features"]),
    "features": ("", "<features><acpi/></features>", ["features"]),
    "no acpi": ("<features><acpi/></features>", "<features/>", ["features"]),
    "enlightenment": (
        "<features><hyperv mode='custom'><vapic state='on'/><relaxed state='on'/></hyperv></features>",
        "<features><hyperv mode='custom'><vapic state='on'/></hyperv></features>",
        ["features"],
    ),
    "enlightenment's value": (
        "<features><hyperv><spinlocks state='on' retries='9'/></hyperv></features>",
        "<features><hyperv><spinlocks state='on'/></hyperv></features>",
        ["features"],
    ),
    "clock": ("<clock offset='utc'/>", "<clock offset='localtime'/>", ["clock"]),
    "basis": (
        "<clock offset='variable' basis='utc'/>",
        "<clock offset='variable' basis='localtime'/>",
        ["clock"],
    ),
    "variable": ("<clock offset='utc'/>", "<clock offset='variable'/>", ["clock"]),
    "timer": ("<clock offset='utc'><timer name='hpet'/></clock>", "<clock offset='utc'/>", ["clock"]),
    "backing": ("", "<memoryBacking><hugepages/></memoryBacking>", ["memoryBacking"]),
    "no backing": ("<memoryBacking><hugepages/></memoryBacking>", "", ["memoryBacking"]),
    "less backing": (
        "<memoryBacking><hugepages/><locked/></memoryBacking>",
        "<memoryBacking><locked/></memoryBacking>",
        ["memoryBacking"],
    ),
    "at its end": ("<on_crash>destroy</on_crash>", "<on_crash>restart</on_crash>", ["on_crash"]),
    "product": (
        "<sysinfo type='smbios'><system><entry name='product'>a</entry></system></sysinfo>",
        "<sysinfo type='smbios'><system/></sysinfo>",
        ["sysinfo"],
    ),
    "arguments": (
        "<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><q:arg value='a'/></q:commandline>",
        "<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'><q:arg value='b'/></q:commandline>",
        ["commandline"],
    ),
    "cpu": ("", "<cpu mode='host-passthrough'/>", ["cpu"]),
    "cpu's mode": ("<cpu mode='host-passthrough'/>", "<cpu mode='host-model'/>", ["cpu"]),
    "cpu's other mode": (CPU.format("custom", "EPYC", ""), "<cpu mode='maximum'/>", ["cpu"]),
    "cpu's model": (CPU.format("custom", "EPYC", ""), CPU.format("custom", "Nehalem", ""), ["cpu"]),
    "cpu's feature": (CPU.format("custom", "EPYC", ""), CPU.format("custom", "EPYC", feature("require")), ["cpu"]),
    "cpu's feature forced": (CPU.format("custom", "EPYC", ""), CPU.format("custom", "EPYC", feature("force")), ["cpu"]),
    "cpu's feature off": (
        CPU.format("custom", "EPYC", feature("require")),
        CPU.format("custom", "EPYC", feature("disable")),
        ["cpu"],
    ),
    "cpu's shape": (
        CPU.format("custom", "EPYC", "<topology cores='2'/>"),
        CPU.format("custom", "EPYC", "<topology cores='1'/>"),
        ["cpu"],
    ),
    "cells": (
        "<cpu><numa><cell id='0' cpus='0-1'/></numa></cpu>",
        "<cpu><numa><cell id='0' cpus='0'/><cell id='1' cpus='1'/></numa></cpu>",
        ["cpu"],
    ),
    "several, in the tables' order": (
        "<vcpu>1</vcpu>" + OS.format(""),
        "<vcpu>2</vcpu>" + OS.format("<bootmenu enable='yes'/>"),
        ["os", "vcpu"],
    ),
}


@pytest.mark.parametrize(("live", "config", "expected"), INSIDE.values(), ids=INSIDE)
def test_change_of_the_machine(live: str, config: str, expected: list[str]) -> None:
    assert find(domain(live), domain(config)) == expected


def test_change_of_the_accelerator() -> None:
    assert find(domain(kind="qemu"), domain(kind="kvm")) == ["type"]


NOTHING: dict[str, tuple[str, str]] = {
    "what is given out": (
        "<sound model='ich6'><alias name='sound0'/><address type='pci' slot='0x04'/></sound>",
        "<sound model='ich6'><alias name='ua-mine'/><address type='pci' slot='0x05'/></sound>",
    ),
    "chain": (
        DISK.format("disk", "/a", "vda", "<backingStore type='file' index='2'><source file='/b'/></backingStore>"),
        DISK.format("disk", "/a", "vda", "<backingStore type='file'><source file='/c'/></backingStore>"),
    ),
    "index": (DISK.format("disk", "/a' index='1", "vda", ""), DISK.format("disk", "/a", "vda", "")),
    "copying": (DISK.format("disk", "/a", "vda", "<mirror ready='yes'/>"), DISK.format("disk", "/a", "vda", "")),
    "medium": (
        DISK.format("cdrom", "/a", "hda", "").replace("<driver name='qemu' type='raw'/>", "<driver name='qemu'/>"),
        DISK.format("cdrom", "/b", "hda", "").replace("type='file'", "type='block'"),
    ),
    "no medium": (
        "<disk device='floppy'><target dev='fda' bus='virtio'/></disk>",
        DISK.format("floppy", "/b", "fda", ""),
    ),
    "transient": (
        DISK.format("disk", "/a.TRANSIENT", "vda", "<transient/>").replace("raw", "qcow2"),
        DISK.format("disk", "/a", "vda", "<transient/>"),
    ),
    "limits": (
        DISK.format("disk", "/a", "vda", "<iotune><total_iops_sec>1</total_iops_sec></iotune>"),
        DISK.format("disk", "/a", "vda", "<iotune><total_iops_sec>2</total_iops_sec></iotune>"),
    ),
    "may be missing": ("", DISK.format("disk", "/a' startupPolicy='optional", "vda", "")),
    "device may be missing": ("", "<hostdev><source startupPolicy='requisite'><vendor id='1'/></source></hostdev>"),
    "plugged in": (DISK.format("disk", "/a", "vda", ""), ""),
    "plugged in elsewhere": (
        NIC.format("bridge", 2, "bridge='b'", "") + NIC.format("bridge", 1, "bridge='b'", ""),
        NIC.format("bridge", 1, "bridge='b'", ""),
    ),
    "order": (
        "<input type='mouse' bus='usb'/><input type='tablet' bus='usb'/>",
        "<input type='tablet' bus='usb'/><input type='mouse' bus='usb'/>",
    ),
    "network's bridge": (
        NIC.format("bridge", 1, "bridge='b'", "<target dev='vnet0'/>"),
        NIC.format("network", 1, "network='lan'", "<virtualport type='openvswitch'/>"),
    ),
    "link, limits and filters": (
        NIC.format("bridge", 1, "bridge='b'", ""),
        NIC.format("bridge", 1, "bridge='b'", "<link state='down'/><bandwidth/><filterref filter='x'/>"),
    ),
    "ports": (
        VNC.format("port='5901' autoport='yes' websocket='5701' listen='::1'", "address='::1'"),
        VNC.format("port='-1' autoport='yes' websocket='-1'", "address='::1'"),
    ),
    "secret": (
        VNC.format("passwdValidTo='1' connected='keep'", "address='::1'"),
        VNC.format("passwd='sesam' passwdValidTo='2' connected='disconnect'", "address='::1'"),
    ),
    "power control": (VNC.format("", "address='::1'"), VNC.format("powerControl='yes'", "address='::1'")),
    "qemu.conf's socket": (
        "<graphics type='vnc' socket='/s'><listen type='socket' socket='/s'/></graphics>",
        VNC.format("port='-1' autoport='yes'", ""),
    ),
    "tls": (
        "<graphics type='spice' port='5900' tlsPort='5901' autoport='yes'/>",
        "<graphics type='spice' port='-1' tlsPort='-1' autoport='yes'/>",
    ),
    "terminals": (
        PTY.format("console", "<source path='/dev/pts/1'/>", "virtio", 0),
        PTY.format("console", "<source path='/dev/pts/7'/>", "virtio", 1),
    ),
    "first serial port again": ("", PTY.format("console", "", "serial", 0)),
    "channel's socket": (
        CHANNEL.format("/v/channel/target/domain-2-web/x", "state='connected'"),
        CHANNEL.format("/v/channel/target/domain-1-web/x", ""),
    ),
    "vsock": (
        "<vsock><cid auto='yes' address='3'/></vsock>",
        "<vsock><cid auto='yes' address='4'/></vsock>",
    ),
    "pci": ("", "<controller type='pci' index='1' model='pcie-root-port'/>"),
    "pci otherwise": (
        "<controller type='pci' index='1' model='pcie-root-port'><target port='0x8'/></controller>",
        "<controller type='pci' index='1' model='pcie-root-port'><target port='0x9'/></controller>",
    ),
    "modules": (DIMM.format(131072, 0), DIMM.format(131000, 0)),
    "later libvirt's": ("", "<audio id='1' type='none'/><watchdog model='itco' action='reset'/>"),
    "unheard of": ("", "<unheard/>"),
    "statistics": (
        "<memballoon model='virtio'><stats period='1'/></memballoon>",
        "<memballoon model='virtio'><stats period='2'/></memballoon>",
    ),
}


@pytest.mark.parametrize(("live", "config"), NOTHING.values(), ids=NOTHING)
def test_what_libvirt_makes_of_devices_is_no_change(live: str, config: str) -> None:
    assert find(domain(devices=live), domain(devices=config)) == []
    assert find(domain(devices=config), domain(devices=config)) == []


CHANGED: dict[str, tuple[str, str, list[str]]] = {
    "emulator": ("<emulator>/a</emulator>", "<emulator>/b</emulator>", ["emulator"]),
    "disk": ("", DISK.format("disk", "/a", "vda", ""), ["disk vda"]),
    "file": (DISK.format("disk", "/a", "vda", ""), DISK.format("disk", "/b", "vda", ""), ["disk vda"]),
    "optional file": (
        DISK.format("disk", "/a' startupPolicy='optional", "vda", ""),
        DISK.format("disk", "/b' startupPolicy='optional", "vda", ""),
        ["disk vda"],
    ),
    "device": (DISK.format("disk", "/a", "vda", ""), DISK.format("cdrom", "/a", "vda", ""), ["disk vda"]),
    "boot order": (
        DISK.format("disk", "/a", "vda", "<boot order='1'/>"),
        DISK.format("disk", "/a", "vda", "<boot order='2'/>"),
        ["disk vda"],
    ),
    "no boot order": (
        DISK.format("disk", "/a", "vda", "<boot order='1'/>"),
        DISK.format("disk", "/a", "vda", ""),
        ["disk vda"],
    ),
    "writable": (DISK.format("disk", "/a", "vda", "<readonly/>"), DISK.format("disk", "/a", "vda", ""), ["disk vda"]),
    "interface": ("", NIC.format("bridge", 1, "bridge='b'", ""), ["interface 52:54:00:00:00:01"]),
    "bridge": (
        NIC.format("bridge", 1, "bridge='b'", ""),
        NIC.format("bridge", 1, "bridge='c'", ""),
        ["interface 52:54:00:00:00:01"],
    ),
    "network": (
        NIC.format("network", 1, "network='b'", ""),
        NIC.format("network", 1, "network='c'", ""),
        ["interface 52:54:00:00:00:01"],
    ),
    "card": (
        NIC.format("network", 1, "network='b'", "<model type='e1000'/>"),
        NIC.format("bridge", 1, "bridge='b'", "<model type='virtio'/>").replace("bridge", "network"),
        ["interface 52:54:00:00:00:01"],
    ),
    "listens": (VNC.format("", "address='::1'"), VNC.format("", "address='::'"), ["graphics vnc"]),
    "fixed port": (
        VNC.format("port='5901' autoport='yes'", "address='::1'"),
        VNC.format("port='5901' autoport='no'", "address='::1'"),
        ["graphics vnc"],
    ),
    "port": (VNC.format("port='5901'", "address='::1'"), VNC.format("port='5902'", "address='::1'"), ["graphics vnc"]),
    "websocket": (VNC.format("", "address='::1'"), VNC.format("websocket='5700'", "address='::1'"), ["graphics vnc"]),
    "sharing": (VNC.format("sharePolicy='ignore'", "address='::1'"), VNC.format("", "address='::1'"), ["graphics vnc"]),
    "one console less": (VNC.format("", "address='::1'"), "", ["graphics"]),
    "one console more": ("", VNC.format("", "address='::1'"), ["graphics vnc"]),
    "the other console": ("<graphics type='spice'/>", "<graphics type='vnc'/>", ["graphics vnc"]),
    "video": ("<video><model type='vga'/></video>", "<video><model type='qxl'/></video>", ["video"]),
    "one video less": ("<video><model type='vga'/></video>" * 2, "<video><model type='vga'/></video>", ["video"]),
    "scsi": (
        "<controller type='scsi' model='a'/>",
        "<controller type='scsi' index='0' model='b'/>",
        ["controller scsi 0"],
    ),
    "usb": ("", "<controller type='usb' index='1'/>", ["controller usb 1"]),
    "serial": (PTY.format("serial", "", "isa-serial", 0), "<serial type='tcp'/>", ["serial"]),
    "channel": ("", "<channel type='unix'><target name='x'/></channel>", ["channel x"]),
    "channel's own socket": (
        CHANNEL.format("/a", ""),
        CHANNEL.format("/b", ""),
        ["channel x"],
    ),
    "one more alike": ("<redirdev bus='usb'/>", "<redirdev bus='usb'/>" * 2, ["redirdev"]),
    "host's device": (
        "<hostdev type='pci'><source><address bus='0x01'/></source></hostdev>",
        "<hostdev type='pci'><source><address bus='0x02'/></source></hostdev>",
        ["hostdev"],
    ),
    "input": ("<input type='mouse' bus='ps2'/>", "<input type='tablet' bus='usb'/>", ["input tablet"]),
    "sound": ("", "<sound model='ich9'/>", ["sound ich9"]),
    "tpm": ("", "<tpm model='tpm-crb'/>", ["tpm tpm-crb"]),
    "watchdog": ("", "<watchdog model='i6300esb'/>", ["watchdog i6300esb"]),
    "folder": ("", "<filesystem><target dir='shared'/></filesystem>", ["filesystem shared"]),
    "module's place": (DIMM.format(1, 0), DIMM.format(1, 1), ["memory"]),
    "vsock": ("<vsock><cid auto='no' address='3'/></vsock>", "<vsock><cid auto='no' address='4'/></vsock>", ["vsock"]),
    "console": ("", PTY.format("console", "", "virtio", 1), ["console"]),
    "each once": ("", "<hub type='usb'/>" * 2, ["hub"]),
}


@pytest.mark.parametrize(("live", "config", "expected"), CHANGED.values(), ids=CHANGED)
def test_change_of_a_device(live: str, config: str, expected: list[str]) -> None:
    assert find(domain(devices=live), domain(devices=config)) == expected


def nested(path: str, leaf: bool) -> str:
    """A domain with the element or the attribute of a path, or only with what stands around it."""
    *around, last = path.split("/")
    inside = "" if not leaf or last.startswith("@") else f"<{last} x='1'/>"
    for number, tag in enumerate(reversed(around)):
        own = f" {last[1:]}='1'" if leaf and not number and last.startswith("@") else ""
        inside = f"<{tag}{own}>{inside}</{tag}>"
    return f"<domain type='kvm'>{inside}</domain>"


PARTS = (
    "os os/kernel features features/acpi memoryBacking clock on_poweroff on_reboot on_crash pm pm/suspend-to-mem"
    " sysinfo keywrap launchSecurity commandline capabilities override"
)
TAKEN_OUT = (
    "memoryBacking pm sysinfo launchSecurity commandline capabilities override os/boot os/bootmenu os/kernel os/initrd"
    " os/cmdline os/dtb os/bios os/smbios features/acpi features/apic features/pae features/hap features/pmu"
    " features/vmport features/vmcoreinfo features/hyperv features/kvm memoryBacking/hugepages memoryBacking/locked"
    " memoryBacking/nosharepages memoryBacking/source memoryBacking/access memoryBacking/allocation"
    " memoryBacking/discard clock/timer devices/disk/boot devices/hostdev/boot devices/disk/readonly"
    " devices/disk/shareable devices/disk/serial devices/graphics/@keymap devices/graphics/@sharePolicy sysinfo/system"
    " commandline/arg capabilities/add override/device features/hyperv/vapic features/kvm/hidden"
    " features/hyperv/vapic/@state"
)
SAYS_NOTHING = (
    "devices/rng/alias devices/rng/address devices/channel/seclabel devices/disk/source/seclabel"
    " devices/graphics/@listen devices/graphics/@powerControl devices/graphics/@passwd devices/disk/backingStore"
    " devices/disk/source/@index devices/tpm/backend/profile clock/@adjustment clock/@start"
    " devices/disk/target/@tray devices/disk/iotune devices/disk/throttlefilters devices/interface/link"
    " devices/interface/bandwidth devices/interface/filterref devices/graphics/@passwdValidTo"
    " devices/graphics/@connected devices/memballoon/stats vcpu/@placement unheard/of devices/unheard"
    " devices/audio devices/console/target/@port devices/memory/target/requested devices/memory/target/current"
    " devices/memory/target/size"
)
DEVICES = (
    "emulator disk controller filesystem interface serial parallel console channel input tpm graphics sound video"
    " hostdev redirdev smartcard hub watchdog memballoon rng panic shmem memory iommu vsock nvram"
)


@pytest.mark.parametrize("path", PARTS.split() + [f"devices/{tag}" for tag in DEVICES.split()])
def test_what_is_new_counts(path: str) -> None:
    found = find(nested(path, False), nested(path, True))
    assert [one.split()[0] for one in found] == [path.split("/")[path.startswith("devices/")]]


@pytest.mark.parametrize("path", TAKEN_OUT.split())
def test_what_was_taken_out_and_counts(path: str) -> None:
    assert len(find(nested(path, True), nested(path, False))) == 1


@pytest.mark.parametrize("path", SAYS_NOTHING.split())
def test_what_says_nothing(path: str) -> None:
    assert find(nested(path, False), nested(path, True)) == []
    assert find(nested(path, True), nested(path, False)) == []


@pytest.mark.parametrize(
    "path", ["features/gic", "os/loader/boot", "devices/rng/driver", "devices/rng/@model", "cpu", "devices/sound"]
)
def test_what_was_taken_out_or_filled_in(path: str) -> None:
    assert find(nested(path, True), nested(path, False)) == []


def test_plugged_memory_is_not_the_machines() -> None:
    live = domain("<memory>3072</memory>", DIMM.format(1024, 0) * 2)
    assert find(live, domain("<memory>2048</memory>", DIMM.format(1024, 0))) == []
    assert find(live, domain("<memory>4096</memory>", DIMM.format(1024, 0))) == ["memory"]
    rounded = domain("<memory>5120</memory>", DIMM.format(1024, 0) * 2)
    assert find(rounded, domain("<memory>3600</memory>", DIMM.format(1000, 0) * 2)) == [], "each piece by itself"


def test_those_that_say_less_leave_the_others_theirs() -> None:
    """The first would fit both."""
    live = "<redirdev bus='usb' type='tcp'/><redirdev bus='usb' type='pty'/>"
    for said in (("", "type='tcp'"), ("", "type='pty'")):
        assert find(domain(devices=live), domain(devices="".join(f"<redirdev bus='usb' {one}/>" for one in said))) == []


def test_comments_say_nothing() -> None:
    sound = "<sound model='ich6'>{}</sound>"
    live, config = domain("<!-- a -->", sound.format("")), domain("<!-- c -->", sound.format("<!-- d -->"))
    assert find(live, config) == []
    assert find(domain("<!-- a -->", "<!-- b -->"), config) == ["sound ich6"]


def live_only(live: str, config: str) -> list[str]:
    return _pending_changes.live_only(parse(domain(devices=live)), parse(domain(devices=config)))


def test_devices_that_would_go() -> None:
    disk, card = DISK.format("disk", "/a", "vdz", ""), NIC.format("bridge", 1, "bridge='b'", "")
    assert live_only(disk + card, "") == ["disk vdz", "interface 52:54:00:00:00:01"]
    assert live_only(disk + card, card + disk) == []
    assert live_only("", disk) == []
    hostdev = "<hostdev type='pci'/>"
    assert live_only(hostdev * 2, hostdev) == ["hostdev"]
    assert live_only(hostdev, hostdev) == []
    assert live_only("<sound/>", "") == []
