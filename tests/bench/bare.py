# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules are measured against: libvirt-python in a loop, and nothing else.

bare.py read      reads every definition
bare.py audit     reads all that an audit tells of every domain
bare.py edit      reads, reads again, defines and reads again every definition, as a careful edit must
"""

from __future__ import annotations

import sys
import time

import libvirt

READ = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE


def other(xml: str) -> str:
    """The definition with powerControl turned over."""
    for one, two in (("yes", "no"), ("no", "yes")):
        if f"powerControl='{one}'" in xml:
            return xml.replace(f"powerControl='{one}'", f"powerControl='{two}'")
    raise SystemExit("a domain without powerControl is not part of this benchmark")


def read(domain: libvirt.virDomain) -> str:
    """The definition."""
    return str(domain.XMLDesc(READ))


def audit(domain: libvirt.virDomain) -> None:
    """All that an audit tells of a domain that is off."""
    read(domain)
    domain.state()
    domain.isPersistent()
    domain.autostart()
    domain.hasManagedSaveImage()
    domain.listAllSnapshots()
    domain.listAllCheckpoints()


def edit(domain: libvirt.virDomain) -> None:
    """What an edit asks of libvirt, so that nobody's work is lost."""
    xml = read(domain)
    domain.isPersistent()
    read(domain)
    domain.connect().defineXML(other(xml))
    read(domain)


def main() -> None:
    """Print the seconds that the loop took."""
    work = {"read": read, "audit": audit, "edit": edit}[sys.argv[1]]
    connection = libvirt.open("qemu:///system")
    begin = time.perf_counter()
    for domain in connection.listAllDomains(0):
        work(domain)
    print(time.perf_counter() - begin)


if __name__ == "__main__":
    main()
