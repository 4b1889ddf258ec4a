# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation, arguments and the call; the work is in module_utils/_run/incus_power.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: incus_power
short_description: Switch many Incus virtual machines at once
version_added: 1.0.0
description:
  - Starts, stops, power-cycles, pauses, resumes and saves virtual machines of an Incus server, many at once, over its
    REST API.
  - What is told as done was seen in the machine's state. A machine that is as it should be is left alone.
  - A guest is asked by O(methods), with a budget; its plug is pulled only where O(force) allows it.
  - Containers are passed over.
author:
  - The kvmops.console authors (@kvmops)
extends_documentation_fragment:
  - kvmops.console.attributes
  - kvmops.console.incus
  - kvmops.console.machine_power
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - V(power_cycled) does it once more.
  platform:
    platforms: posix
    support: full
options:
  state:
    description:
      - V(started) has the machine run, V(stopped) not. A machine whose memory was saved goes on from there.
      - V(power_cycled) ends its QEMU and starts another one, as C(incus restart) does; a machine that is off is left
        off. This is what a change of its configuration, or of QEMU, needs.
      - V(paused) stops its processors (Incus calls it frozen), V(resumed) lets them go on.
      - V(saved) has Incus write its memory to its disk and end its QEMU, as C(incus stop --stateful) does. Incus
        refuses that where C(migration.stateful) is not true, or its QEMU is too old. O(timeout) is the time that the
        writing has.
      - V(rebooted), V(reset), V(nmi_sent) and V(pending_applied) are what Incus has no way to do. They fail, each with
        a sentence that says what to do instead.
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
      - How the guest is asked, in this order, with O(state=stopped) and O(state=power_cycled). Other states do not look
        at it.
      - By default V(acpi) for 60 seconds.
    type: list
    elements: dict
    suboptions:
      method:
        description:
          - V(acpi) presses the power button.
        type: str
        choices:
          - acpi
        required: true
      timeout:
        description:
          - The seconds that it has to take effect. Incus knows whole seconds.
        type: float
        default: 60.0
  allow_vanish:
    description:
      - Whether ephemeral instances may be V(stopped), although Incus deletes them then, disks and all. They are never
        V(power_cycled).
    type: bool
    default: false
notes:
  - A guest without an operating system does not hear the power button, and needs O(force).
seealso:
  - module: kvmops.console.domain_power
"""

EXAMPLES = r"""
- name: Shut the web servers of two projects down, and pull the plug of those that do not listen
  kvmops.console.incus_power:
    projects:
      - shop
      - blog
    instances:
      - web-*
    state: stopped
    methods:
      - method: acpi
        timeout: 120
    force: after_methods

- name: Have every virtual machine run again, from the controller
  kvmops.console.incus_power:
    url: https://incus-1.example.com
    client_cert: "{{ lookup('env', 'HOME') }}/.config/incus/client.crt"
    client_key: "{{ lookup('env', 'HOME') }}/.config/incus/client.key"
    server_cert: "{{ lookup('env', 'HOME') }}/.config/incus/servercerts/incus-1.crt"
    projects:
      - "*"
    state: started
  delegate_to: localhost

- name: Hold a machine
  kvmops.console.incus_power:
    instances:
      - db-1
    state: paused
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
    changed:
      description: Whether something was done to it.
      type: bool
      sample: true
    before:
      description:
        - What it was. V(on), V(off), V(stopping), V(paused), V(crashed) (Incus calls it Error), or V(unknown).
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
        - {"method": "acpi", "seconds": 62.0, "outcome": "timed_out", "reason": "it had no effect in time"}
        - {"method": "force", "seconds": 0.3, "outcome": "done"}
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
  description: Counts over all instances.
  returned: always
  type: dict
  sample: {"instances": 12, "changed": 9, "skipped": 3, "errors": 0}
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

from ansible_collections.kvmops.console.plugins.module_utils._run._task import finish
from ansible_collections.kvmops.console.plugins.module_utils._run.incus_power import incus_power_options, run


def main() -> None:
    finish(AnsibleModule(**incus_power_options()), run, records="instances")


if __name__ == "__main__":
    main()
