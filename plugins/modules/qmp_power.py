# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation, arguments and the call; the work is in module_utils/_run/qmp_power.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: qmp_power
short_description: Switch QEMUs without libvirt, over QMP
version_added: 1.0.0
description:
  - Stops, reboots, resets, pauses and resumes machines whose QEMU was started by hand, by a script or by systemd, many
    at once, each over its QMP socket.
  - QEMU's events are waited for, and what is told as done was seen. A machine that is as it should be is left alone.
  - A guest is asked by O(methods), each with a budget of its own; its plug is pulled only where O(force) allows it.
  - QMP cannot start a QEMU that has ended. O(state=started) resumes one that is paused, or that was started with C(-S),
    and fails where there is none. O(state=power_cycled), O(state=pending_applied) and O(state=saved) fail always, with
    a sentence that says what to do instead.
author:
  - The kvmops.console authors (@kvmops)
extends_documentation_fragment:
  - kvmops.console.attributes
  - kvmops.console.qmp
  - kvmops.console.machine_power
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - V(rebooted), V(reset) and V(nmi_sent) do it once more.
  platform:
    platforms: linux
    support: full
options:
  sockets:
    description:
      - The QMP sockets of the machines, each a path, or a dictionary.
      - C(path) is the path of the unix socket. Required.
      - C(name) is what the machine is called in the result, by default the name of the socket without its suffix. Two
        machines of one name are refused.
      - C(agent) is the path of the unix socket of its guest agent, a chardev behind a C(virtserialport) of the name
        C(org.qemu.guest_agent.0). Without it, there is no method V(agent) for this machine.
      - A machine counts as off when nobody listens on its socket, or its folder has no such socket.
    type: list
    elements: raw
    required: true
  state:
    description:
      - V(stopped) ends when QEMU has ended, or, where it was started with C(-no-shutdown), when the guest is off.
      - V(rebooted) ends when the guest itself has reset the machine (event RESET with C(guest) true).
      - V(reset) resets the machine, without asking its guest.
      - V(paused) stops its processors, V(resumed) lets them go on and wakes a guest that sleeps.
      - V(nmi_sent) sends a non-maskable interrupt; what it does is the guest's affair.
      - V(started), V(power_cycled), V(pending_applied) and V(saved) are told above.
    type: str
    choices:
      - started
      - stopped
      - power_cycled
      - rebooted
      - reset
      - paused
      - resumed
      - saved
      - nmi_sent
      - pending_applied
    required: true
  methods:
    description:
      - How the guest is asked, in this order, until one works.
      - By default V(agent) for 20 seconds where O(sockets) names one. Then V(acpi) for 60 seconds, again every 15, for
        O(state=stopped), and V(ctrl_alt_del) for 60 seconds for O(state=rebooted).
      - Other states have none, and do not look at it.
    type: list
    elements: dict
    suboptions:
      method:
        description:
          - V(agent) asks the guest agent. One that shows no sign of life within 5 seconds is passed over.
          - V(acpi) presses the power button (O(state=stopped) only).
          - V(ctrl_alt_del) presses these keys (O(state=rebooted) only), which most guests take for a wish to reboot.
        type: str
        choices:
          - acpi
          - agent
          - ctrl_alt_del
        required: true
      timeout:
        description:
          - The seconds that it has to take effect.
        type: float
        default: 60.0
      resend_every:
        description:
          - Ask again after so many seconds, since a guest that still boots does not hear. By default never.
        type: float
notes:
  - The processes of a machine are told apart, so that force never ends a QEMU that was started meanwhile.
seealso:
  - module: kvmops.console.domain_power
  - module: kvmops.console.vnc_power
"""

EXAMPLES = r"""
- name: Shut two machines down, and pull the plug of one that does not listen for two minutes
  kvmops.console.qmp_power:
    sockets:
      - /run/vm/web-1.qmp
      - /run/vm/web-2.qmp
    state: stopped
    methods:
      - method: acpi
        timeout: 120
        resend_every: 15
    force: after_methods

- name: Hold a machine while its disk is copied
  kvmops.console.qmp_power:
    sockets:
      - name: db-1
        path: /run/vm/db-1/qmp.sock
    state: paused

- name: Reboot, as its guest does it
  kvmops.console.qmp_power:
    sockets:
      - /run/vm/web-1.qmp
    state: rebooted
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
      description: Whether something was done to it.
      type: bool
      sample: true
    before:
      description:
        - What it was. V(on), V(off), V(paused), V(suspended) (by its guest, to memory), V(crashed), or V(unknown).
      type: str
      sample: 'on'
    after:
      description: What it is, in the same words; in check mode, what it would be.
      type: str
      sample: 'off'
    steps:
      description:
        - What was tried, in order. C(outcome) is V(done), V(timed_out), V(refused), V(failed) or V(unusable), then with
          a C(reason).
      type: list
      elements: dict
      sample:
        - {"method": "acpi", "seconds": 60.0, "outcome": "timed_out", "reason": "it had no effect in time"}
        - {"method": "force", "seconds": 0.1, "outcome": "done"}
    ended_by:
      description: The method that did it, null for none.
      type: str
      sample: force
    skipped:
      description: Why nothing was to be done. Absent otherwise.
      type: str
      sample: it is off
    error:
      description: What went wrong. Absent otherwise.
      type: str
      sample: "it is on (acpi: it had no effect in time)."
summary:
  description: Counts over all machines.
  returned: always
  type: dict
  sample: {"machines": 12, "changed": 11, "skipped": 0, "errors": 1}
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.console.plugins.module_utils._run._task import finish
from ansible_collections.kvmops.console.plugins.module_utils._run.qmp_power import qmp_power_options, run


def main() -> None:
    finish(AnsibleModule(**qmp_power_options()), run, "machines")


if __name__ == "__main__":
    main()
