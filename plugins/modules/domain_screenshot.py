# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation, arguments and the call; the work is in module_utils/_run/domain_screenshot.py.

The action plugin of the same name brings the pictures to the controller.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: domain_screenshot
short_description: Take pictures of the screens of many domains at once
version_added: 1.0.0
description:
  - Takes a picture of what each running domain shows, whoever holds its console, and disturbs nobody.
  - Always PNG. One capture is shared by all who ask at the same time, and within O(max_age).
  - Tells what kind of screen it is, and reads the text of screens that show characters.
author:
  - The kvmops.console authors (@kvmops)
extends_documentation_fragment:
  - kvmops.console.attributes
  - kvmops.console.attributes.group
  - kvmops.console.domains
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
options:
  head:
    description:
      - Which screen of each domain, a number from 0, or V(all).
    type: str
    default: '0'
  capture:
    description:
      - V(vnc) reads the framebuffer of head 0 over a socket that libvirt hands out, which holds QEMU up for the
        shortest time
        and needs VNC graphics. V(screendump) has libvirt take the picture. V(auto) takes V(vnc) where that can be, else
        V(screendump).
    type: str
    choices:
      - auto
      - screendump
      - vnc
    default: auto
  wake:
    description:
      - Wake a screen that sleeps. V(key) presses Shift, V(pointer) moves the pointer by a pixel, which needs VNC.
    type: str
    choices:
      - none
      - key
      - pointer
    default: none
  concurrency:
    description:
      - How many domains are captured at a time. Most of that time is spent waiting for QEMU.
      - From 16 on, several processes share the work, one for each eight, but no more than four and than there are
        processors.
    type: int
    default: 16
seealso:
  - module: kvmops.console.domain_info
"""

EXAMPLES = r"""
- name: Bring home what every domain shows
  kvmops.console.domain_screenshot:
    fetch_to: screens

- name: Wait until the installer has finished, and keep a picture when it does not
  kvmops.console.domain_screenshot:
    domains:
      - new-1
    wait_for:
      text: 'login:'
      timeout: 900

- name: Look at all screens once a minute, however many ask
  kvmops.console.domain_screenshot:
    max_age: 60
    thumbnail: 320
    text: true
    history:
      keep: 100
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
    changed:
      description: Always false on the host; pictures change nothing.
      type: bool
      sample: false
    skipped:
      description: Why there is no picture, where that is no error. Absent otherwise.
      type: str
      sample: it is off
    error:
      description: What went wrong. Absent otherwise.
      type: str
      sample: "web-1: it has no head 3: its heads are 0 to 0."
    screens:
      description: One record a picture.
      type: list
      elements: dict
      contains:
        head:
          description: The number of the screen.
          type: int
          sample: 0
        path:
          description: The picture, on the host.
          type: str
          sample: /var/lib/kvmops-console/screens/4dea22b3-1d52-d8f3-2516-782e98ab3fa0-0/latest.png
        fetched_to:
          description: The picture, on the controller.
          returned: with O(fetch_to)
          type: str
          sample: screens/kvm-1/web-1.png
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
          sample: 1024
        height:
          description: In pixels.
          type: int
          sample: 768
        captured_at:
          description: When it was taken, in UTC.
          type: str
          sample: '2026-11-20T12:00:00.000000Z'
        cached:
          description: Whether it was taken for somebody else.
          type: bool
          sample: false
        capture:
          description: How it was taken, V(vnc) or V(screendump).
          type: str
          sample: vnc
        blocked_ms:
          description: For how many milliseconds the guest's QEMU was held up, where that is known.
          type: float
          sample: 4.1
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
  description: Counts over all domains.
  returned: always
  type: dict
  sample: {"domains": 12, "screens": 9, "skipped": 3, "errors": 0}
unmatched:
  description: The patterns of O(domains) that mean no domain of this host.
  returned: always
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.console.plugins.module_utils._domain_screens import AUTO, CAPTURES
from ansible_collections.kvmops.console.plugins.module_utils._run._domain_options import domain_options
from ansible_collections.kvmops.console.plugins.module_utils._run._screen_options import screen_spec
from ansible_collections.kvmops.console.plugins.module_utils._run._task import finish
from ansible_collections.kvmops.console.plugins.module_utils._run.domain_screenshot import CONCURRENCY, run
from ansible_collections.kvmops.console.plugins.module_utils._vnc import WAKE


def main() -> None:
    spec = domain_options(
        **screen_spec(
            head={"type": "str", "default": "0"},
            capture={"type": "str", "choices": list(CAPTURES), "default": AUTO},
            wake={"type": "str", "choices": list(WAKE), "default": "none"},
            concurrency={"type": "int", "default": CONCURRENCY},
        )
    )
    finish(AnsibleModule(argument_spec=spec, supports_check_mode=True), run)


if __name__ == "__main__":
    main()
