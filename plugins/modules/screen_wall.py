# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation only: the work is done on the controller, by plugins/action/screen_wall.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: screen_wall
short_description: Write a wall of screens, on the controller
version_added: 1.0.0
description:
  - Makes web pages of the pictures that M(kvmops.console.domain_screenshot), M(kvmops.console.qmp_screenshot) or
    M(kvmops.console.incus_screenshot) brought to the controller.
  - The page of the fleet is one file without script or network, with a small picture of every screen, its host, state,
    kind, time and text. Each machine has a page with its history beside it.
  - Also writes the same as JSON, and as metrics for the textfile collector of node_exporter.
  - A host that cannot be reached is on the wall as that, with the last pictures that there are, marked as old.
author:
  - The kvmops.console authors (@kvmops)
extends_documentation_fragment:
  - kvmops.console.attributes
options:
  dest:
    description:
      - The folder on the controller to write to. It is created when it is not there.
      - The O(kvmops.console.domain_screenshot#module:fetch_to) of the tasks before is to be C(pictures) in this
        folder.
      - A relative path is taken from the folder of the playbook.
    type: path
    required: true
  hosts:
    description:
      - The inventory names of the hosts that are on the wall.
      - All hosts of the play when not set, those included that failed or could not be reached.
    type: list
    elements: str
  variable:
    description:
      - The name of the variable that the screenshot module was registered as; several names where a host was asked by
        several modules. A host needs to have one of them only.
      - No two machines of a host may have the same name, or one's pictures take the place of the other's.
    type: list
    elements: str
    default:
      - kvmops_screens
  title:
    description:
      - The title of the page.
    type: str
    default: Screens
  metrics:
    description:
      - Where to write the metrics, the path of a file on the controller.
      - C(kvmops-screens.prom) in O(dest) when not set.
    type: path
  refresh:
    description:
      - After how many seconds the page of the fleet loads itself again, for a monitor on a wall; V(0) for never.
      - Who reads it with a screen reader, or filters, is thrown back each time, so leave it for monitors.
    type: int
    default: 0
  thumbnail:
    description:
      - The width of the small pictures, in pixels.
    type: int
    default: 360
  animate:
    description:
      - Of how many pictures the animation on a machine's page is made; V(0) for no animation.
    type: int
    default: 12
  history:
    description:
      - What to keep of earlier pictures, below C(history) in O(dest). Only pictures that differ from the one before
        are kept. The oldest go first.
    type: dict
    suboptions:
      keep:
        description: How many of each screen.
        type: int
        default: 48
      keep_for:
        description: For how many seconds.
        type: float
        default: 604800.0
      max_bytes:
        description: How many bytes all histories together may take.
        type: int
        default: 1073741824
attributes:
  action:
    description: Has an action plugin of the same name, which does all the work.
    support: full
  bypass_host_loop:
    description:
      - Runs once for all hosts of the play, or of the batch where the play has C(serial).
      - For this reason it does not work with the C(free) strategy.
    support: full
  check_mode:
    support: full
  delegation:
    description: Runs on the controller, whatever C(delegate_to) says.
    support: none
  diff_mode:
    support: none
  idempotent:
    support: full
    details:
      - When nothing but times differs, nothing has changed. The files are brought up to date all the same.
  platform:
    platforms: posix
    support: full
notes:
  - Never connects to a host.
  - Screens may show secrets. New files have the mode V(0644) less the umask, so choose a folder that only the right
    people can enter.
  - When a running machine's owner lets nobody see its screen any more, its earlier pictures are removed.
  - Do not let two runs write to one folder at the same time.
requirements:
  - Pillow, on the controller
seealso:
  - module: kvmops.console.domain_screenshot
  - module: kvmops.console.qmp_screenshot
  - module: kvmops.console.incus_screenshot
"""

EXAMPLES = r"""
- name: Take pictures of all screens
  kvmops.console.domain_screenshot:
    fetch_to: /srv/wall/pictures
    text: true
  register: kvmops_screens
  ignore_errors: true
  ignore_unreachable: true

- name: Write the wall
  kvmops.console.screen_wall:
    dest: /srv/wall
    history:
      keep: 100
  run_once: true
"""

RETURN = r"""
files:
  description: The path of each file that is about the whole fleet.
  returned: success
  type: dict
  sample:
    html: /srv/wall/index.html
    json: /srv/wall/wall.json
    prometheus: /srv/wall/kvmops-screens.prom
summary:
  description: The counts of the fleet, flat, for M(ansible.builtin.set_stats) and for conditions.
  returned: success
  type: dict
  sample:
    kvmops_screen_hosts: 2
    kvmops_screen_hosts_failed: 0
    kvmops_screens: 3
    kvmops_screens_seen: 2
    kvmops_screens_failed: 0
    kvmops_screens_stale: 0
    kvmops_screens_off: 1
    kvmops_screens_private: 0
    kvmops_screens_blank: 0
    kvmops_screens_no_signal: 0
    kvmops_screens_boot_menu: 0
    kvmops_screens_login: 2
    kvmops_screens_panic: 0
    kvmops_screens_text: 0
    kvmops_screens_graphics: 0
"""
