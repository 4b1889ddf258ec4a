# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules are measured against: libvirt-python in a loop, and nothing else.

bare.py read      reads every definition
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


def main() -> None:
    """Print the seconds that the loop took."""
    connection = libvirt.open("qemu:///system")
    begin = time.perf_counter()
    for domain in connection.listAllDomains(0):
        xml = domain.XMLDesc(READ)
        if sys.argv[1] == "edit":
            domain.XMLDesc(READ)
            connection.defineXML(other(xml))
            domain.XMLDesc(READ)
    print(time.perf_counter() - begin)


if __name__ == "__main__":
    main()
