# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every module needs that talks to QEMU over its QMP socket."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
requirements:
  - qemu.qmp (Python library) 0.0.6 or newer, in the Python that runs the module
notes:
  - Run as root, or as the user that QEMU runs as, unless the socket is open to others.
  - A QMP socket serves one program at a time, and others wait. Give each its own by repeating C(-qmp) on QEMU's command
    line.
  - For domains of libvirt, use the C(domain_*) modules; libvirt holds their monitors.
"""
