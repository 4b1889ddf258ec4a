# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation, arguments and the call; the work is in module_utils/_run/qmp_screenshot.py.

The action plugin of the same name brings the pictures to the controller.
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: qmp_screenshot
short_description: Take pictures of the screens of QEMUs without libvirt, over QMP
version_added: 1.0.0
description:
  - Takes a picture of what each QEMU shows, whoever holds its console, over its QMP socket.
  - QEMU writes the picture into memory that it is lent over the socket, so it needs no right to any path. It writes the
    format that holds the guest up least; the PNG is made outside of QEMU.
  - Always PNG. One capture is shared by all who ask at the same time, and within O(max_age).
  - A QEMU that hangs, or that nobody listens for any more, fails alone.
author:
  - The kvmops.console authors (@kvmops)
extends_documentation_fragment:
  - kvmops.console.attributes
  - kvmops.console.qmp
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
  sockets:
    description:
      - The QMP sockets of the machines, each a path, or a dictionary.
      - C(path) is the path of the unix socket. Required.
      - C(name) is what the machine is called in the result and in the names of files, by default the name of the socket
        without its suffix. Two machines of one name are refused.
      - C(device) is the C(id=) of the display device whose screens are meant, by default all of the machine.
      - C(head) is O(head) for this machine.
    type: list
    elements: raw
    required: true
  head:
    description:
      - Which screen of each machine, a number from 0, or V(all). V(0) is the primary console.
      - The others can be pictured when their display devices have an C(id=).
    type: str
    default: '0'
  wake:
    description:
      - Wake a screen that sleeps. V(key) presses Shift. V(pointer) moves the pointer by a pixel and back, and to the
        upper left corner where the guest has a tablet only.
    type: str
    choices:
      - none
      - key
      - pointer
    default: none
notes:
  - While a guest is paused, QEMU before 9.1 keeps what it was lent, without the picture, until the guest runs again.
    After 16 pictures it is lent no more, and the machine fails with a sentence that says so.
seealso:
  - module: kvmops.console.domain_screenshot
"""

EXAMPLES = r"""
- name: Bring home what two machines show
  kvmops.console.qmp_screenshot:
    sockets:
      - /run/vm/web-1.qmp
      - /run/vm/web-2.qmp
    fetch_to: screens

- name: Every screen of one machine, and the second one of another's graphics card
  kvmops.console.qmp_screenshot:
    sockets:
      - name: desk-1
        path: /run/vm/desk-1/qmp.sock
        head: all
      - name: desk-2
        path: /run/vm/desk-2/qmp.sock
        device: video0
        head: 1

- name: Wait until the installer has finished, and keep a picture when it does not
  kvmops.console.qmp_screenshot:
    sockets:
      - /run/vm/new-1.qmp
    wait_for:
      text: 'login:'
      timeout: 900
"""

RETURN = r"""
machines:
  description: One record a socket, sorted by name.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: What it is called.
      type: str
      sample: web-1
    socket:
      description: The path of its QMP socket.
      type: str
      sample: /run/vm/web-1.qmp
    changed:
      description: Always false on the host; pictures change nothing.
      type: bool
      sample: false
    skipped:
      description: Why there is no picture, where that is no error. Absent otherwise.
      type: str
      sample: its owner lets nobody see its screen
    error:
      description: What went wrong. Absent otherwise.
      type: str
      sample: "web-1: No QEMU listens on /run/vm/web-1.qmp any more: start it, or leave this socket out."
    screens:
      description: One record a picture.
      type: list
      elements: dict
      contains:
        head:
          description: The number of the screen, among its device's where one was named, else among the machine's.
          type: int
          sample: 0
        path:
          description: The picture, on the host.
          type: str
          sample: /var/lib/kvmops-console/screens/qmp-5a105e8b9d40e1329780d62ea2265d8a/latest.png
        fetched_to:
          description: The picture, on the controller.
          returned: with O(fetch_to)
          type: str
          sample: screens/kvm-1/web-1~qmp.png
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
          description: How it was taken, V(qmp).
          type: str
          sample: qmp
        blocked_ms:
          description: For how many milliseconds QEMU's monitor was busy with it; the guest was held up for no longer.
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
  description: Counts over all machines.
  returned: always
  type: dict
  sample: {"machines": 12, "screens": 11, "skipped": 0, "errors": 1}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.console.plugins.module_utils._run._screen_options import screen_spec
from ansible_collections.kvmops.console.plugins.module_utils._run._task import finish
from ansible_collections.kvmops.console.plugins.module_utils._run.qmp_screenshot import WAKE, run


def main() -> None:
    spec = screen_spec(
        sockets={"type": "list", "elements": "raw", "required": True},
        head={"type": "str", "default": "0"},
        wake={"type": "str", "choices": list(WAKE), "default": "none"},
    )
    finish(AnsibleModule(argument_spec=spec, supports_check_mode=True), run, "machines")


if __name__ == "__main__":
    main()
