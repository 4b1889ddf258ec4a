# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a module does in check mode, in diff mode, and on a second run: said once."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and tell what would change, without changing anything.
  diff_mode:
    description: Tells what has changed, or would change in C(check_mode), when in diff mode.
  idempotent:
    description:
      - When run twice in a row outside check mode, with the same arguments, the second run tells that nothing has
        changed.
      - This assumes that the system controlled or queried by the module has not changed in a relevant way.
  platform:
    description: The operating systems that the module runs on.
    platforms: posix
"""

    # For modules that only look.
    INFO = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - This module changes nothing.
  diff_mode:
    support: N/A
    details:
      - This module changes nothing.
  idempotent:
    support: full
    details:
      - This module changes nothing.
"""

    GROUP = r"""
options: {}
attributes:
  action_group:
    description: Use C(group/kvmops.console.domains) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - kvmops.console.domains
"""
