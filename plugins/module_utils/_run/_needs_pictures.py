# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a module with pictures needs: Pillow.

Private to this collection.
"""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule, missing_required_lib

from ansible_collections.kvmops.console.plugins.module_utils import _image


def need_pictures(module: AnsibleModule) -> None:
    """Make sure of Pillow, which reads and writes the pictures."""
    if _image.PILLOW_TRACEBACK:
        module.fail_json(
            msg=f"{missing_required_lib('Pillow')} Install python3-pil (Debian, Ubuntu), python3-pillow (RHEL, Fedora)"
            " or python3-Pillow (SUSE).",
            exception=_image.PILLOW_TRACEBACK,
        )
