# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real hypervisors on one machine: hosts in namespaces of their own, each with libvirtd, sshd and QEMU.

    with Lab("lab-a", "lab-b") as lab:
        lab["lab-a"].virsh("list", "--all")

Needs root, and nothing beyond the standard library of Python 3.9.
"""

from __future__ import annotations

from .build import build
from .domains import AFFECTED_QEMU, DEMO, FIXED_QEMU, Demo, domain_xml
from .host import Host
from .lab import Lab
from .machine import LabError
from .seed import seed

__all__ = ["AFFECTED_QEMU", "DEMO", "FIXED_QEMU", "Demo", "Host", "Lab", "LabError", "build", "domain_xml", "seed"]
