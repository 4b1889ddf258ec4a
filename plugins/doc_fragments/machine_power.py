# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of the modules that switch machines other than libvirt's domains."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  force:
    description:
      - Whether the plug may be pulled (with O(state=stopped)), or the machine be reset (with O(state=rebooted)),
        without asking its guest.
      - V(never) forbids it, whatever happens. V(after_methods) does it when all O(methods) have failed or run out of
        time. V(at_once) does not ask the guest at all.
      - Other states do not look at it.
    type: str
    choices:
      - never
      - after_methods
      - at_once
    default: never
  timeout:
    description:
      - How many seconds each request has to take effect that is none of O(methods), and how many seconds a server or
        QEMU has for each answer.
    type: float
    default: 30.0
  concurrency:
    description:
      - How many machines are switched at the same time. All requests are sent before any is waited for, as long as
        there are no more machines than this.
    type: int
    default: 50
"""
