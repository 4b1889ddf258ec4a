# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Domains for tests and for the demo: small, without disks, without KVM."""

from __future__ import annotations

import uuid
from typing import NamedTuple, Optional
from xml.etree import ElementTree as ET

QEMU_FOLDER = "/opt/qemu-7.2.0"
GUEST_FOLDER = "/opt/lab-guest"
KERNEL_ARGUMENTS = "nokaslr no_timer_check quiet"
"""`no_timer_check`: where many guests boot at once, a slow clock makes Linux panic, 'IO-APIC + timer doesn't work'."""
GUEST_ARGUMENTS = f"console=tty1 console=ttyS0 {KERNEL_ARGUMENTS}"
"""The kernel's, of the lab's Linux guest."""
AFFECTED_QEMU = f"{QEMU_FOLDER}/bin/qemu-system-x86_64"
FIXED_QEMU = "/usr/bin/qemu-system-x86_64"
PASSWORD = "sesam-42"  # VNC passwords have eight characters

_GUEST_MIB = 192
_FIRMWARE_MIB = 16


def domain_uuid(name: str) -> str:
    """The UUID that domain_xml() gives a name when it is given none: always the same, to be defined again."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"kvmops-lab:{name}"))


def vnc_xml(
    *,
    power_control: Optional[str] = None,
    password: Optional[str] = None,
    listen: Optional[str] = "127.0.0.1",
    port: Optional[int] = None,
    socket: Optional[str] = None,
    share_policy: Optional[str] = None,
) -> str:
    """A VNC graphics element.

    `listen` None leaves the address to libvirt; `port` None lets libvirt choose; a `socket` is a path, or '' for one
    that libvirt names, and replaces both.
    """
    graphics = ET.Element("graphics", type="vnc")
    if socket is None:
        graphics.set("port", str(port or -1))
        graphics.set("autoport", "no" if port else "yes")
        if listen is not None:
            ET.SubElement(graphics, "listen", type="address", address=listen)
    else:
        element = ET.SubElement(graphics, "listen", type="socket")
        if socket:
            element.set("socket", socket)
    for attribute, value in (("passwd", password), ("sharePolicy", share_policy), ("powerControl", power_control)):
        if value is not None:
            graphics.set(attribute, value)
    return ET.tostring(graphics, encoding="unicode")


def spice_xml() -> str:
    """A SPICE graphics element that listens on the loopback address."""
    return '<graphics type="spice" autoport="yes"><listen type="address" address="127.0.0.1"/></graphics>'


def domain_xml(
    name: str,
    *,
    emulator: str = AFFECTED_QEMU,
    power_control: Optional[str] = None,
    password: Optional[str] = None,
    listen: Optional[str] = "127.0.0.1",
    tablet: Optional[bool] = True,
    graphics: Optional[tuple[str, ...]] = None,
    video: Optional[str] = "vga",
    guest: bool = False,
    serial: str = '<serial type="pty"/>',
    memory: Optional[int] = None,
    uuid: Optional[str] = None,
    devices: str = "",
) -> str:
    """The XML of a domain: one VNC display with what is given, or exactly the elements in `graphics` ( () for none).

    `tablet`: True for a USB tablet, False for a machine without USB, None for what libvirt adds by itself. `guest`
    boots the lab's Linux guest, which says LAB GUEST READY on `serial`; without it the firmware finds nothing to boot.
    `memory` is in MiB. `devices`: more XML.
    """
    domain = ET.Element("domain", type="qemu")
    _add(domain, "name", name)
    _add(domain, "uuid", uuid or domain_uuid(name))
    _add(domain, "memory", str(memory or (_GUEST_MIB if guest else _FIRMWARE_MIB)), unit="MiB")
    _add(domain, "vcpu", "1")
    system = _add(domain, "os")
    _add(system, "type", "hvm", arch="x86_64", machine="pc")
    if guest:
        _add(system, "kernel", f"{GUEST_FOLDER}/vmlinuz")
        _add(system, "initrd", f"{GUEST_FOLDER}/initrd.gz")
        _add(system, "cmdline", GUEST_ARGUMENTS)
    _add(_add(domain, "features"), "acpi")
    parts = _add(domain, "devices")
    _add(parts, "emulator", emulator)
    if tablet is not None:
        _add(parts, "controller", type="usb", index="0", model="piix3-uhci" if tablet else "none")
    if tablet:
        _add(parts, "input", type="tablet", bus="usb")
    if guest:
        parts.append(ET.fromstring(serial))
    given = (vnc_xml(power_control=power_control, password=password, listen=listen),) if graphics is None else graphics
    for element in given:
        parts.append(ET.fromstring(element))
    _add(_add(parts, "video"), "model", type=video or "none")
    _add(parts, "memballoon", model="none")
    if devices:
        parts.extend(ET.fromstring(f"<devices>{devices}</devices>"))
    return ET.tostring(domain, encoding="unicode")


def _add(parent: ET.Element, tag: str, text: Optional[str] = None, **attributes: str) -> ET.Element:
    element = ET.SubElement(parent, tag, attributes)
    element.text = text
    return element


class Demo(NamedTuple):
    """One domain of the demo. `state`: 'off', 'running' or 'saved'; `later`: powerControl defined when it is."""

    name: str
    state: str = "running"
    emulator: str = AFFECTED_QEMU
    power_control: Optional[str] = None
    later: Optional[str] = None
    password: Optional[str] = None
    listen: str = "127.0.0.1"
    tablet: bool = True
    graphics: Optional[tuple[str, ...]] = None
    guest: bool = False

    def xml(self, power_control: Optional[str]) -> str:
        """The domain's XML with this powerControl."""
        return domain_xml(
            self.name,
            emulator=self.emulator,
            power_control=power_control,
            password=self.password,
            listen=self.listen,
            tablet=self.tablet,
            graphics=self.graphics,
            guest=self.guest,
        )


DEMO = (
    Demo("web-1", power_control="yes", password=PASSWORD, guest=True),
    Demo("web-2", power_control="no"),
    Demo("build-runner", state="off", power_control="yes"),
    Demo("mail", emulator=FIXED_QEMU, power_control="yes", password=PASSWORD),
    Demo("backup", state="off", emulator=FIXED_QEMU, power_control="yes"),
    Demo("monitoring", emulator=FIXED_QEMU),
    Demo("database", power_control="yes", later="no", password=PASSWORD),
    Demo("kiosk", power_control="yes", listen="0.0.0.0"),
    Demo("legacy-dos", power_control="yes", tablet=False),
    Demo("archive", state="saved", power_control="yes", later="no", password=PASSWORD),
    Demo("büro pc 7", power_control="yes"),
    Demo("design", emulator=FIXED_QEMU, graphics=(spice_xml(),)),
    Demo("router", graphics=()),
)
