# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real Incus daemon with real virtual machines, beside the machine's QEMU; nothing is installed, nothing is left.

    with Incus() as incus:
        vm = incus.vm("web", "HELLO")
        incus.get("/1.0/instances")

Needs root, and nothing beyond the standard library of Python 3.9.
"""

from __future__ import annotations

from ...kvmlab.machine import LabError
from .daemon import Incus
from .fetch import fetch
from .vm import Vm, boot_sector

__all__ = ["Incus", "LabError", "Vm", "boot_sector", "fetch"]
