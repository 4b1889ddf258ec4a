# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation, arguments and the call; the work is in module_utils/_run/domain_power_control.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: domain_power_control
short_description: Set powerControl in the definitions of domains, safely
version_added: 1.0.0
description:
  - Sets the attribute C(powerControl) of a domain's VNC graphics by policy, so that noVNC keeps working on a QEMU that
    has the
    power control bug, and gets its power buttons back when QEMU is fixed.
  - Changes the persistent definition only, one attribute of it, and proves that by comparing afterwards. The VNC
    password
    stays, somebody else's concurrent edit stays, the old definition is kept in O(backup_dir), and a definition in which
    libvirt changed more than was asked is put back.
  - Never uses a live update, which libvirt answers with success, which changes nothing in QEMU, and which can drop the
    VNC
    password. Whether the running QEMU still has the old setting is told in RV(domains[].restart_pending).
  - Remembers in the domain's metadata what was there and what the owner wants.
author:
  - The kvmops.console authors (@kvmops)
extends_documentation_fragment:
  - kvmops.console.attributes
  - kvmops.console.attributes.group
  - kvmops.console.domains
  - kvmops.console.domains.probe
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - Shows the lines that change, with passwords masked.
  idempotent:
    support: full
  platform:
    platforms: linux
    support: full
options:
  state:
    description:
      - V(auto) gives the owner what the owner wants where the QEMU of the next start is fixed, and turns it off where
        that is
        affected or unknown. What the owner wants is what the definition said before this module changed it, or what was
        last
        asked for explicitly.
      - V(enabled) sets C(powerControl='yes'); refused where the QEMU of the next start is affected or unknown, unless
        O(viewers_handle_pointer_change) or O(force).
      - V(disabled) sets C(powerControl='no'). On an affected QEMU this heals noVNC, and does not close the power
        channel.
      - V(absent) removes the attribute, which has the same effect as V(disabled).
      - V(restored) puts back what was there before this collection first changed it, and forgets the rest.
    type: str
    choices:
      - auto
      - enabled
      - disabled
      - absent
      - restored
    default: auto
  viewers_handle_pointer_change:
    description:
      - Whether all viewers survive a -257 rectangle that they did not ask for, because noVNC is patched or reached
        through the
        proxy. O(state=auto) then leaves power control on where the owner wants it.
    type: bool
    default: false
  force:
    description:
      - With O(state=enabled), enable it whatever QEMU does.
    type: bool
    default: false
  backup_dir:
    description:
      - The folder on the host for the definitions as they were, made with mode 0700 when it is not there; the files
        have mode
        0600. They hold passwords.
      - For root C(/var/lib/kvmops-console/backups) when not set, for other users a folder in their own state folder.
    type: path
  include_saved_states:
    description:
      - Whether to set the same in the managed save, the snapshots and the checkpoints, which otherwise bring another
        value back.
    type: bool
    default: false
  managed:
    description:
      - What to do where another manager writes the definition anew at each start (OpenStack Nova, oVirt, KubeVirt and
        the like; see RV(kvmops.console.domain_info#module:domains[].managed_by)), so that an edit is lost with it.
      - V(skip) leaves such a domain alone, and RV(domains[].skipped) says where it is to be set instead.
      - V(edit) edits it all the same. O(state=restored) always does.
    type: str
    choices:
      - skip
      - edit
    default: skip
notes:
  - From 50 domains on, several processes share the work, one for each 25, but no more than four and than there are
    processors. Each has a connection to libvirt of its own, and one domain's edit is never shared.
seealso:
  - module: kvmops.console.domain_info
"""

EXAMPLES = r"""
- name: Make noVNC work again on every domain whose QEMU has the power control bug
  kvmops.console.domain_power_control:
    state: auto

- name: Give everybody their power buttons back, where noVNC is patched
  kvmops.console.domain_power_control:
    state: auto
    viewers_handle_pointer_change: true

- name: See what would change for the web servers
  kvmops.console.domain_power_control:
    state: auto
    domains:
      - web-*
  check_mode: true
  diff: true

- name: Undo what this collection did, in snapshots, too
  kvmops.console.domain_power_control:
    state: restored
    include_saved_states: true
"""

RETURN = r"""
domains:
  description: One record a domain, sorted by name.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The domain's name.
      type: str
      sample: web-1
    uuid:
      description: The domain's UUID.
      type: str
      sample: 4dea22b3-1d52-d8f3-2516-782e98ab3fa0
    state:
      description: Its state, in libvirt's words.
      type: str
      sample: running
    persistent:
      description: Whether it has a definition that outlives its process.
      type: bool
      sample: true
    changed:
      description: Whether its definition or a saved state changed.
      type: bool
      sample: true
    skipped:
      description: Why there was nothing to do. Absent otherwise.
      type: str
      sample: it has no VNC graphics
    error:
      description: What went wrong. Absent otherwise.
      type: str
      sample: The QEMU of the next start is affected
    graphics:
      description: powerControl of each VNC element, before and after; null where the attribute is absent.
      type: list
      elements: dict
      sample: [{"index": 0, "before": "yes", "after": "no"}]
    reason:
      description: Why it is as it is now.
      type: str
      sample: the QEMU of the next start is affected (sends -257 unasked)
    note:
      description: Who may write the change over, and where to set it instead; null where nobody is known to.
      type: str
      sample: Terraform writes its definition anew when it changes the domain, so an edit does not last
    restart_pending:
      description: Whether the running QEMU was started with another setting, so that the domain needs a power cycle.
      type: bool
      sample: true
    backup:
      description: The file with the definition as it was; null when nothing was changed.
      type: str
      sample: /var/lib/kvmops-console/backups/4dea22b3-1d52-d8f3-2516-782e98ab3fa0-20261120T120000.000000Z-domain.xml
    saved_states:
      description: The managed save, snapshots and checkpoints, before and after; C(differs) where one still brings
        another value back.
      type: list
      elements: dict
      sample: [{"kind": "snapshot", "name": "one", "before": ["yes"], "after": ["no"], "differs": false}]
summary:
  description: Counts over all domains.
  returned: always
  type: dict
  sample: {"domains": 12, "changed": 3, "skipped": 2, "errors": 0, "restart_pending": 2}
unmatched:
  description: The patterns of O(domains) that mean no domain of this host.
  returned: always
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.console.plugins.module_utils._power_policy import AUTO, STATES
from ansible_collections.kvmops.console.plugins.module_utils._run._domain_options import domain_options, probe_options
from ansible_collections.kvmops.console.plugins.module_utils._run._task import finish
from ansible_collections.kvmops.console.plugins.module_utils._run.domain_power_control import MANAGED, SKIP, run


def main() -> None:
    spec = domain_options(
        state={"type": "str", "choices": list(STATES), "default": AUTO},
        viewers_handle_pointer_change={"type": "bool", "default": False},
        force={"type": "bool", "default": False},
        backup_dir={"type": "path"},
        include_saved_states={"type": "bool", "default": False},
        managed={"type": "str", "choices": list(MANAGED), "default": SKIP},
        **probe_options(),
    )
    finish(AnsibleModule(argument_spec=spec, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
