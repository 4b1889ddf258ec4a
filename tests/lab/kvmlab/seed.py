# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Puts the demo's domains on a host, in the state that the demo begins with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from xml.etree import ElementTree as ET

from .domains import DEMO, FIXED_QEMU, Demo
from .host import Host
from .machine import LabError


def _knows_spice(host: Host) -> bool:
    told = ET.fromstring(host.virsh("domcapabilities", "--emulatorbin", FIXED_QEMU, "--virttype", "qemu"))
    return any(value.text == "spice" for value in told.iterfind("devices/graphics/enum[@name='type']/value"))


def _remove(host: Host, name: str) -> None:
    known = host.virsh("list", "--all", "--name").splitlines()
    if name not in (line.strip() for line in known):
        return
    host.virsh("destroy", name, check=False)  # may be off
    host.virsh("undefine", name, "--managed-save", "--snapshots-metadata", "--checkpoints-metadata", "--nvram")


def put(host: Host, domain: Demo) -> None:
    """Put a domain on a host, in its state; one of that name is removed first."""
    _remove(host, domain.name)
    host.virsh("define", "/dev/stdin", stdin=domain.xml(domain.power_control))
    if domain.state == "off":
        return
    host.virsh("start", domain.name)
    if domain.state == "saved":
        host.virsh("managedsave", domain.name)
    if domain.later is not None:
        host.virsh("define", "/dev/stdin", stdin=domain.xml(domain.later))


def seed(host: Host, names: Sequence[str] = (), *, say: Callable[[str], None] = lambda line: None) -> list[str]:
    """Put the demo's domains (all, or those named) on a host; what it has of these names is removed first.

    Returns the names of the domains. The one with SPICE alone is left out where the host's QEMU has none.
    """
    unknown = set(names) - {domain.name for domain in DEMO}
    if unknown:
        raise LabError(f"the demo has no domain {', '.join(sorted(unknown))}.")
    done = []
    for domain in DEMO:
        if names and domain.name not in names:
            continue
        if any("spice" in element for element in domain.graphics or ()) and not _knows_spice(host):
            say(f"{host.name}: {domain.name} is left out, since this QEMU has no SPICE")
            continue
        put(host, domain)
        say(f"{host.name}: {domain.name} is {domain.state}")
        done.append(domain.name)
    return done
