# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation, arguments and the call; the work is in module_utils/_run/novnc_patch.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: novnc_patch
short_description: Let noVNC keep the connection to a QEMU that has the power control bug
version_added: 1.0.0
description:
  - Puts a patch into noVNC, so that it takes the pointer change (encoding -257) that an affected QEMU sends unasked,
    and sends pointer events in the way that the server expects from then on. Merely ignoring -257 keeps the connection,
    but throws the guest's pointer into a corner.
  - Works on every release from 0.5.1 on, as source, as npm's library, concatenated, minified or compressed, by what the
    code looks like. Refuses what it does not recognise.
  - Changes nothing of what is there but adds to it, so that the patch can be taken out byte for byte. The mark of the
    patch remembers the hash of the original.
  - Gives the file a new address in the pages beside it, so that browsers fetch it at their next visit.
  - A package's next upgrade brings the original back. Run this again after it, or use the role
    P(kvmops.console.novnc_patch#role), which has the host put the patch back by itself. Taking the patch out of a file
    ends that for the file.
author:
  - The kvmops.console authors (@kvmops)
extends_documentation_fragment:
  - kvmops.console.attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
    details:
      - Lines of minified files are shortened.
  idempotent:
    support: full
  platform:
    platforms: linux
    support: full
options:
  state:
    description:
      - V(patched) puts the patch in, or another version or mode of it in the place of the one that is there. A patch of
        a newer version of this collection stays.
      - V(absent) takes it out.
    type: str
    choices:
      - patched
      - absent
    default: patched
  mode:
    description:
      - V(tolerant) takes what the server does, and asks for nothing.
      - V(full) also asks for it, and locks the browser's pointer on a click while the guest takes relative movements,
        so that it can go on beyond the edge of the picture. Esc, or Ctrl and Alt together, give the pointer back. Pages
        can listen to the event C(pointertypechange) of the RFB object.
    type: str
    choices:
      - tolerant
      - full
    default: tolerant
  paths:
    description:
      - Files and folders with noVNC in them. In a folder every script is looked at, whatever its name.
      - When empty, every noVNC that M(kvmops.console.novnc_info) finds.
    type: list
    elements: path
    default: []
  force:
    description:
      - Whether to give up what somebody changed in a file after it was patched. The original that was kept comes back
        then.
    type: bool
    default: false
  backup_dir:
    description:
      - The folder on the host for the originals, each under its hash, made with mode 0700 when it is not there.
      - For root C(/var/lib/kvmops-console/novnc) when not set, for other users a folder in their own state folder.
    type: path
seealso:
  - module: kvmops.console.novnc_info
  - module: kvmops.console.domain_power_control
    description: Its option O(kvmops.console.domain_power_control#module:viewers_handle_pointer_change) may be set once
      every noVNC is patched.
"""

EXAMPLES = r"""
- name: Patch every noVNC of the host
  kvmops.console.novnc_patch:

- name: See what would change in one
  kvmops.console.novnc_patch:
    paths:
      - /usr/share/novnc
  check_mode: true
  diff: true

- name: Lock the pointer for guests without a tablet, too
  kvmops.console.novnc_patch:
    mode: full

- name: Give all of them back as they were
  kvmops.console.novnc_patch:
    state: absent
"""

RETURN = r"""
installations:
  description: One record for each noVNC, sorted by folder.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The same as RV(installations[].path).
      type: str
      sample: /usr/share/novnc
    path:
      description: The folder that it is in.
      type: str
      sample: /usr/share/novnc
    changed:
      description: Whether one of its files changed.
      type: bool
      sample: true
    replaced:
      description: The files that changed, pages among them.
      type: list
      elements: str
      sample: ["/usr/share/novnc/core/rfb.js", "/usr/share/novnc/vnc.html", "/usr/share/novnc/vnc_lite.html"]
    skipped:
      description: Why there was nothing to do. Absent otherwise.
      type: str
      sample: "/opt/novnc/core/rfb.js: it knows encoding -257 by itself."
    error:
      description: What went wrong. Absent otherwise.
      type: str
      sample: "/snap/novnc/current/core cannot be written to: patch it where it is built"
    version:
      description: Its release; null where nothing tells.
      type: str
      sample: 1.3.0
    package:
      description: The package that it belongs to, null where there is none. C(manager) is V(dpkg), V(rpm), V(pacman),
        V(npm), V(pip), V(git) or V(snap).
      type: dict
      sample: {"manager": "dpkg", "name": "novnc", "version": "1:1.3.0-1"}
    patchable:
      description: Whether all its files can be patched, or are.
      type: bool
      sample: true
    patched:
      description: Whether all its files are patched.
      type: bool
      sample: true
    current:
      description: Whether all its files have the patch of this version of the collection, unchanged.
      type: bool
      sample: true
    files:
      description: Its files that have noVNC's RFB class in them.
      type: list
      elements: dict
      contains:
        path:
          description: The file.
          type: str
          sample: /usr/share/novnc/core/rfb.js
        kind:
          description: V(module) (an ES module), V(commonjs) (npm's lib), V(script) (0.x), V(bundle) or V(minified);
            null where it could not be read.
          type: str
          sample: module
        compressed:
          description: Whether it is compressed with gzip.
          type: bool
          sample: false
        sha256:
          description: The hash of the file.
          type: str
          sample: 331109966c80bef620bcd09242d43dbc05fa83cb44eba439ad20148f86aa479e
        original_sha256:
          description: The hash of the file without the patch; null where that is not known.
          type: str
          sample: 331109966c80bef620bcd09242d43dbc05fa83cb44eba439ad20148f86aa479e
        patchable:
          description: Whether it can be patched, or is.
          type: bool
          sample: true
        patched:
          description: Whether it is patched.
          type: bool
          sample: true
        patch_version:
          description: The version of the patch that is in it, null where there is none.
          type: int
          sample: 1
        mode:
          description: The mode of the patch that is in it, null where there is none.
          type: str
          sample: tolerant
        current:
          description: Whether that is the patch of this version of the collection, unchanged.
          type: bool
          sample: true
        reason:
          description: Why it cannot be patched, and what to do instead. Null where it can.
          type: str
          sample:
    pages:
      description: The pages beside it that load one of its files.
      type: list
      elements: dict
      contains:
        path:
          description: The page.
          type: str
          sample: /usr/share/novnc/vnc.html
        script:
          description: The file that it loads.
          type: str
          sample: /usr/share/novnc/core/rfb.js
        stale:
          description: Whether the file is patched and browsers that have the one before are not told of the new one.
          type: bool
          sample: false
        reason:
          description: Why the page cannot tell browsers of it, and what to do instead. Null where it can.
          type: str
          sample:
summary:
  description: Counts over all installations.
  returned: always
  type: dict
  sample: {"installations": 1, "changed": 1, "skipped": 0, "errors": 0}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.console.plugins.module_utils._novnc_script import MODES, TOLERANT
from ansible_collections.kvmops.console.plugins.module_utils._run._novnc_patcher import PATCHED, STATES
from ansible_collections.kvmops.console.plugins.module_utils._run._task import finish
from ansible_collections.kvmops.console.plugins.module_utils._run.novnc_patch import run


def main() -> None:
    spec = {
        "state": {"type": "str", "choices": list(STATES), "default": PATCHED},
        "mode": {"type": "str", "choices": list(MODES), "default": TOLERANT},
        "paths": {"type": "list", "elements": "path", "default": []},
        "force": {"type": "bool", "default": False},
        "backup_dir": {"type": "path"},
    }
    finish(AnsibleModule(argument_spec=spec, supports_check_mode=True), run, "installations")


if __name__ == "__main__":
    main()
