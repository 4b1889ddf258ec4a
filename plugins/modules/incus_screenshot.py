# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation, arguments and the call; the work is in module_utils/_run/incus_screenshot.py.

The action plugin of the same name brings the pictures to the controller.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: incus_screenshot
short_description: Take pictures of the screens of many Incus virtual machines at once
version_added: 1.0.0
description:
  - Takes a picture of what each running virtual machine of an Incus server shows, over its REST API. Consoles that are
    open are not disturbed, and the picture is that of the VGA console, whoever holds it.
  - Always PNG, and whole. One capture is shared by all who ask at the same time on the host that the task runs on, and
    within O(max_age); Incus is asked for one picture of a machine at a time.
  - Tells what kind of screen it is, and reads the text of screens that show characters.
author:
  - The kvmops.console authors (@kvmops)
extends_documentation_fragment:
  - kvmops.console.attributes
  - kvmops.console.incus
  - kvmops.console.screens
attributes:
  check_mode:
    support: full
    details:
      - The pictures are taken in C(check_mode), too, since that changes nothing on the machines; nothing is written to
        O(fetch_to).
  diff_mode:
    support: none
  idempotent:
    support: N/A
    details:
      - A screen may show something else at any time.
  platform:
    platforms: linux
    support: full
requirements:
  - Incus 6.0.3 or later of the 6.0 series, or 6.8 or later (API extension C(instance_console_screenshot))
notes:
  - Debian's Incus 6.0.4 cannot write screenshots as it is shipped (U(https://github.com/lxc/incus/issues/2708)). The
    module tells so, and what helps. Upgrade Incus, or run C(chmod 711) on the folder C(virtual-machines) of the storage
    pool.
  - The owner of an instance hides its screen with C(incus config set NAME user.kvmops.console.capture=no), and parts
    of it with C(user.kvmops.console.mask="X,Y,WIDTH,HEIGHT"), more rectangles after semicolons. A profile may say the
    same.
seealso:
  - module: kvmops.console.domain_screenshot
"""

EXAMPLES = r"""
- name: Bring home what every virtual machine of this host's Incus shows
  kvmops.console.incus_screenshot:
    fetch_to: screens

- name: Look at the web servers of two projects, from the controller
  kvmops.console.incus_screenshot:
    url: https://incus-1.example.com
    client_cert: "{{ lookup('env', 'HOME') }}/.config/incus/client.crt"
    client_key: "{{ lookup('env', 'HOME') }}/.config/incus/client.key"
    server_cert: "{{ lookup('env', 'HOME') }}/.config/incus/servercerts/incus-1.crt"
    projects:
      - shop
      - blog
    instances:
      - web-*
    text: true
  delegate_to: localhost

- name: Wait until the installer has finished, and keep a picture when it does not
  kvmops.console.incus_screenshot:
    instances:
      - new-1
    wait_for:
      text: 'login:'
      timeout: 900
"""

RETURN = r"""
instances:
  description: One record an instance, sorted by project and name.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: The instance's name.
      type: str
      sample: web-1
    project:
      description: Its project.
      type: str
      sample: default
    uuid:
      description: Its UUID (C(volatile.uuid)), all zeros where it has none.
      type: str
      sample: d65ab792-3a02-4077-a202-9c7edf3bcf61
    type:
      description: V(virtual-machine) or V(container).
      type: str
      sample: virtual-machine
    state:
      description: Its state, in Incus's words.
      type: str
      sample: Running
    changed:
      description: Whether a picture on the controller is new or another than before; pictures change nothing else.
      type: bool
      sample: false
    skipped:
      description: Why there is no picture, where that is no error. Absent otherwise.
      type: str
      sample: it is off
    error:
      description: What went wrong. Absent otherwise.
      type: str
      sample: "Incus at https://incus-1.example.com:8443 did not answer within 30 s."
    screens:
      description: The pictures, of which there is one at most.
      type: list
      elements: dict
      contains:
        head:
          description: The number of the screen, always 0.
          type: int
          sample: 0
        path:
          description: The picture, on the host.
          type: str
          sample: /var/lib/kvmops-console/screens/incus-d65ab792-3a02-4077-a202-9c7edf3bcf61/latest.png
        fetched_to:
          description: The picture, on the controller.
          returned: with O(fetch_to)
          type: str
          sample: screens/kvm-1/web-1~incus.png
        thumbnail_path:
          description: The small picture, on the host; null without O(thumbnail).
          type: str
          sample: /srv/screens/web-1~thumbnail.png
        sha256:
          description: Of the file.
          type: str
          sample: 9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
        width:
          description: In pixels.
          type: int
          sample: 1280
        height:
          description: In pixels.
          type: int
          sample: 800
        captured_at:
          description: When it was taken, in UTC.
          type: str
          sample: '2026-11-20T12:00:00.000000Z'
        cached:
          description: Whether it was taken for somebody else.
          type: bool
          sample: false
        capture:
          description: How it was taken, always V(incus).
          type: str
          sample: incus
        blocked_ms:
          description: Always null; Incus does not tell for how long the guest's QEMU was held up.
          type: float
        screen:
          description:
            - What kind of screen it seems to be, and why. A hint.
            - V(blank), V(no_signal), V(boot_menu), V(login), V(panic), V(text), V(graphics), or V(unknown) where the
              text would have to be read to tell, which O(text) does.
          type: dict
          sample: {"kind": "login", "reason": "a line ends with \"login:\""}
        text:
          description: What it says; null where it shows no characters, and without O(text).
          type: str
          sample: "Debian GNU/Linux 12 web-1 tty1\n\nweb-1 login:"
        text_confidence:
          description: The share of its cells that are known characters, or of its words that were recognized surely.
          type: float
          sample: 0.9995
        text_source:
          description: V(glyphs) for text that is exact, V(ocr) for text that was recognized; null without text.
          type: str
          sample: glyphs
        changed_since_last:
          description: Whether it differs from the picture before; null for the first.
          type: bool
          sample: true
        unchanged_for:
          description: For how many seconds it has shown the same, at least.
          type: float
          sample: 61.2
summary:
  description: Counts over all instances.
  returned: always
  type: dict
  sample: {"instances": 12, "screens": 9, "skipped": 3, "errors": 0}
unmatched:
  description: The patterns of O(projects) and O(instances) that mean nothing there.
  returned: always
  type: list
  elements: str
  sample: []
server:
  description: The server that was asked.
  returned: always
  type: dict
  contains:
    name:
      description: Its address, or the path of its socket.
      type: str
      sample: https://incus-1.example.com:8443
    version:
      description: Its version.
      type: str
      sample: 6.0.4
    fingerprint:
      description: The fingerprint of its certificate, as O(fingerprint) takes it.
      type: str
      sample: 5eb3c4ed8a9b53b1e0bcf9bce5a6d0ab1cb0b6c1b0b8b8f6d6f2b7dd3c6f0d5e
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.console.plugins.module_utils._run._incus_options import incus_arguments
from ansible_collections.kvmops.console.plugins.module_utils._run._screen_options import screen_spec
from ansible_collections.kvmops.console.plugins.module_utils._run._task import finish
from ansible_collections.kvmops.console.plugins.module_utils._run.incus_screenshot import run


def main() -> None:
    finish(AnsibleModule(**incus_arguments(**screen_spec())), run, records="instances")


if __name__ == "__main__":
    main()
