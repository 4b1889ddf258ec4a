# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation, arguments and the call; the work is in module_utils/_run/novnc_info.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: novnc_info
short_description: Find every noVNC on a host, and tell whether it is patched
version_added: 1.0.0
description:
  - Finds noVNC as distributions, npm, pip, git and Proxmox put it on a host, plain, concatenated, minified or
    compressed, and what running websockify processes serve.
  - Tells of each its release, the package it belongs to, whether M(kvmops.console.novnc_patch) can patch it or has done
    so, and whether browsers that have been there before would go on with the old file.
  - Changes nothing.
author:
  - The kvmops.console authors (@kvmops)
extends_documentation_fragment:
  - kvmops.console.attributes
  - kvmops.console.attributes.info
attributes:
  platform:
    platforms: linux
    support: full
options:
  paths:
    description:
      - Files and folders to look at instead of the usual places. In a folder every script is looked at, whatever its
        name.
      - When empty, the places where packages and people put noVNC, what the package managers know by that name, and
        what running websockify processes and nova-novncproxy serve.
    type: list
    elements: path
    default: []
seealso:
  - module: kvmops.console.novnc_patch
"""

EXAMPLES = r"""
- name: Find noVNC
  kvmops.console.novnc_info:
  register: novnc

- name: Name those that break on an affected QEMU
  ansible.builtin.debug:
    msg: "{{ item.path }} ({{ item.version }}): {{ item.files | map(attribute='reason') | select | join('; ') }}"
  loop: "{{ novnc.installations | rejectattr('patched') }}"
  loop_control:
    label: "{{ item.path }}"

- name: Look at one that no package manager knows
  kvmops.console.novnc_info:
    paths:
      - /home/vnc/noVNC
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
  sample: {"installations": 1, "patchable": 1, "patched": 1, "outdated": 0, "stale": 0}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.console.plugins.module_utils._run._task import finish
from ansible_collections.kvmops.console.plugins.module_utils._run.novnc_info import run


def main() -> None:
    spec = {"paths": {"type": "list", "elements": "path", "default": []}}
    finish(AnsibleModule(argument_spec=spec, supports_check_mode=True), run, "installations")


if __name__ == "__main__":
    main()
