# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What instances of Incus are called in files.

Private to this collection.
"""

from __future__ import annotations


def file_name(project: str, name: str) -> str:
    """What files of an instance are called, as Incus itself does it: no instance's name has an underscore."""
    return name if project == "default" else f"{project}_{name}"
