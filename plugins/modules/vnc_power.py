# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation, arguments and the call; the work is in module_utils/_run/vnc_power.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vnc_power
short_description: Press noVNC's power buttons from a play
version_added: 1.0.0
description:
  - Sends a power message (XVP) to any VNC server that offers power control, as the buttons I(Shutdown), I(Reboot) and
    I(Reset) of noVNC do. Joins as one more shared viewer, lists XVP (-309), waits until the server announces it, and
    sends the message.
  - A server that obeys says nothing, so that a success by itself means that the message was sent and not refused, and
    RV(outcome) is V(sent). Set O(wait) to have it proven.
  - A server that does not offer power control fails the task, and is sent nothing. Some QEMUs obey power messages that
    they do not offer (M(kvmops.console.vnc_probe) tells them); this module makes no use of that.
  - For the domains of a libvirt host, M(kvmops.console.domain_power) does more, with guards, budgets and proof.
author:
  - The kvmops.console authors (@kvmops)
extends_documentation_fragment:
  - kvmops.console.attributes
  - kvmops.console.vnc
attributes:
  check_mode:
    support: full
    details:
      - The server is asked whether it offers power control. No power message is sent.
  diff_mode:
    support: none
  idempotent:
    support: none
    details:
      - Each run presses the button once more.
  platform:
    platforms: posix
    support: full
requirements:
  - qemu.qmp (Python library) 0.0.6 or newer, when O(qmp_socket) is used
options:
  action:
    description:
      - V(shutdown) presses the guest's power button (ACPI), which the guest may ignore. V(reset) resets it at once, as
        the reset button of a machine does.
      - V(reboot) is what QEMU always refuses; the task fails then. It is here so that this can be seen.
    type: str
    choices:
      - shutdown
      - reset
      - reboot
    required: true
  wait:
    description:
      - For how many seconds to look for a proof. Without one, the task fails then.
      - A V(shutdown) is proven by the server's end (it closes the connection, and no server is there any more), or,
        with O(qmp_socket), by QEMU's event. Nothing can be seen of a V(reset) over VNC, so it needs O(qmp_socket).
      - Leave it out to be content with a message that was sent and not refused.
    type: float
  qmp_socket:
    description:
      - A QMP socket of the same QEMU, on the host that the task runs on. Its events SHUTDOWN and RESET are the proof.
        It serves one program at a time; give this task one of its own. Needs O(wait).
    type: path
seealso:
  - module: kvmops.console.vnc_probe
  - module: kvmops.console.qmp_power
"""

EXAMPLES = r"""
- name: Test that noVNC's shutdown button shuts the machine down
  kvmops.console.vnc_power:
    address: "127.0.0.1::5901"
    action: shutdown
    wait: 60

- name: Reset a machine through websockify, as a browser would
  kvmops.console.vnc_power:
    url: "wss://console.example.com/websockify?token={{ token }}"
    password: "{{ vnc_password }}"
    action: reset
  delegate_to: localhost

- name: Reset a QEMU without libvirt, and see that it was
  kvmops.console.vnc_power:
    socket: /run/vm/web-1.vnc
    action: reset
    qmp_socket: /run/vm/web-1.watch.qmp
    wait: 10

- name: Find out that reboot is refused
  kvmops.console.vnc_power:
    socket: /run/vm/web-1.vnc
    action: reboot
  register: reboot
  failed_when: reboot.outcome | default('') != 'refused'
"""

RETURN = r"""
target:
  description: What was talked to, without any secret.
  returned: when the server let us in
  type: str
  sample: 127.0.0.1::5901
action:
  description: What was asked for.
  returned: when the server let us in
  type: str
  sample: shutdown
offered:
  description: Whether the server offers power control.
  returned: when the server let us in
  type: bool
  sample: true
sent:
  description: Whether the power message was sent.
  returned: when the server let us in
  type: bool
  sample: true
outcome:
  description:
    - V(done) is proven. V(sent) was sent and not refused, and no more is known. V(refused) was answered with XVP FAIL.
      V(unanswered) was sent, and the server did not speak any more. V(not_sent) is that of check mode, and
      V(not_offered) that of a server without power control.
  returned: when the server let us in
  type: str
  sample: done
proof:
  description:
    - By what RV(outcome) is V(done). V(event) is QEMU's own, V(connection) the end of the VNC server. Null otherwise.
  returned: when the server let us in
  type: str
  sample: connection
evidence:
  description: What was seen, in one line.
  returned: when the server let us in
  type: str
  sample: the server closed the connection, and no VNC server is there any more
desktop:
  description: The name of the desktop.
  returned: when the server let us in
  type: str
  sample: QEMU (web-1)
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.console.plugins.module_utils._run._task import finish
from ansible_collections.kvmops.console.plugins.module_utils._run.vnc_power import run, vnc_power_options


def main() -> None:
    finish(AnsibleModule(**vnc_power_options()), run)


if __name__ == "__main__":
    main()
