# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation, arguments and the call; the work is in module_utils/_run/domain_info.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: domain_info
short_description: Audit the consoles of a hypervisor's domains
version_added: 1.0.0
description:
  - Tells of every libvirt domain, running or not, whether its noVNC console is broken by QEMU's power control bug,
    whether
    anybody who reaches its VNC port can switch it off, and what else is wrong with its console.
  - Verdicts come from what QEMU does, not from its version. The binary of the next start is started for a moment
    without a
    guest; the process that runs now is judged by the image that it runs.
  - Changes nothing, sends no power message, disturbs no viewer and taints no domain.
author:
  - The kvmops.console authors (@kvmops)
extends_documentation_fragment:
  - kvmops.console.attributes
  - kvmops.console.attributes.info
  - kvmops.console.attributes.group
  - kvmops.console.domains
  - kvmops.console.domains.probe
attributes:
  platform:
    platforms: linux
    support: full
seealso:
  - module: kvmops.console.domain_power_control
  - module: kvmops.console.vnc_probe
  - module: kvmops.console.report
"""

EXAMPLES = r"""
- name: Find the domains whose noVNC console is broken, or will be
  kvmops.console.domain_info:
  register: audit

- name: Show what is wrong
  ansible.builtin.debug:
    msg: "{{ item.name }}: {{ item.findings | map(attribute='message') | join('; ') }}"
  loop: "{{ audit.domains | selectattr('findings') }}"
  loop_control:
    label: "{{ item.name }}"

- name: Audit the web servers, but not the one that is being rebuilt
  kvmops.console.domain_info:
    domains:
      - web-*
    exclude:
      - web-7

- name: Audit without starting any QEMU binary
  kvmops.console.domain_info:
    probe: false
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
    autostart:
      description: Whether it starts with the host.
      type: bool
      sample: true
    managed_save:
      description: Whether its next start resumes a managed save.
      type: bool
      sample: false
    error:
      description: Why it could not be audited. Absent when it could; then the keys below are there.
      type: str
      sample: "Reading the definition of web-1 failed: Domain not found"
    type:
      description: The hypervisor type of the definition.
      type: str
      sample: kvm
    arch:
      description: The architecture of the guest.
      type: str
      sample: x86_64
    machine:
      description: The machine type.
      type: str
      sample: pc-q35-7.2
    emulator:
      description: The QEMU that the next start uses.
      type: str
      sample: /usr/bin/qemu-system-x86_64
    pointer_devices:
      description: Its pointer devices, as C(kind:bus).
      type: list
      elements: str
      sample: ["tablet:usb", "mouse:ps2"]
    owner_wants:
      description: What the owner wants of powerControl, where the definition says otherwise because of this collection.
      returned: where it does
      type: str
      sample: enabled
    managed_by:
      description:
        - Who else writes the definition, as it tells by its metadata.
        - The owner has the last word, by an element C(<managed by="terraform"/>) (or V(nobody)) in the metadata, in the
          element C(console) of the namespace C(https://kvmops.github.io/console/1).
      returned: where somebody is known to
      type: dict
      contains:
        id:
          description: One of V(nova), V(ovirt), V(kubevirt), V(opennebula), V(cloudstack), V(terraform), V(cockpit),
            V(boxes), V(vagrant), V(libosinfo); V(other) where only the owner knows it.
          type: str
          sample: nova
        name:
          description: Its name, for people.
          type: str
          sample: OpenStack Nova
        rewrites:
          description: When it writes the definition anew, so that an edit is lost. V(start) is at each start, V(change)
            when it changes the domain, and V(never) means that it keeps what it does not know.
          type: str
          sample: start
    order:
      description:
        - Its turn when the fleet is power-cycled, as its owner says by an element
          C(<order priority="10"><after>db-*</after><before>web</before></order>) in its metadata, in the element
          C(console) of the namespace C(https://kvmops.github.io/console/1).
      returned: where the owner says one
      type: dict
      contains:
        priority:
          description: The lowest number goes first; null when not said.
          type: int
          sample: 10
        after:
          description: Names or globs of the domains that go before it.
          type: list
          elements: str
          sample: ["db-*"]
        before:
          description: Names or globs of the domains that go after it.
          type: list
          elements: str
          sample: []
    restart_pending:
      description: Whether the definition's powerControl has another effect than what the running QEMU was started with.
      type: bool
      sample: true
    outdated_process:
      description: Whether the running QEMU is not the installed one; null where its process cannot be seen. Absent when
        the domain is off.
      type: bool
      sample: false
    graphics:
      description: Its graphics, in the order of the definition (the live one when it runs).
      type: list
      elements: dict
      contains:
        index:
          description: Its number among the graphics.
          type: int
          sample: 0
        type:
          description: The kind of graphics.
          type: str
          sample: vnc
        port:
          description: The TCP port, when it is known.
          type: int
          sample: 5900
        autoport:
          description: Whether libvirt chooses the port.
          type: bool
          sample: true
        websocket:
          description: The WebSocket port, when there is one.
          type: int
          sample: 5700
        socket:
          description: The unix socket, when there is one.
          type: str
          sample: /run/vnc/web-1.sock
        listen:
          description: Where it listens.
          type: list
          elements: dict
          sample: [{"type": "address", "address": "127.0.0.1"}]
        password:
          description: Whether a password is set; null where the user may not see that. The password is never returned.
          type: bool
          sample: true
        password_valid_to:
          description: Until when the password is valid, as libvirt writes it.
          returned: where the definition says
          type: str
          sample: "2026-12-31T23:59:59"
        tls:
          description: Whether VNC is served over TLS; null where the user may not see that.
          type: bool
          sample: false
        sasl:
          description: Whether a SASL login is asked for; null where the user may not see that.
          type: bool
          sample: false
        share_policy:
          description: What happens when a second viewer comes.
          returned: where the definition says
          type: str
          sample: allow-exclusive
        power_control:
          description: C(live) is what the running QEMU was started with, C(config) what the definition says; null where
            nothing.
          type: dict
          sample: {"live": "yes", "config": "no"}
    qemu:
      description: What is known of the QEMU that runs now (null when the domain is off) and of the one that the next
        start uses.
      type: dict
      contains:
        running:
          description: Of the process; the same keys as RV(domains[].qemu.next_start).
          type: dict
          sample:
            verdict: affected
            basis: probe
            evidence: sends -257 unasked
            version: 7.2.0
            package:
            path: /usr/bin/qemu-system-x86_64
        next_start:
          description:
            - C(verdict) is V(affected), V(fixed), V(incapable) or V(unknown) (to be treated as affected).
            - C(basis) is V(probe), V(package), V(version) or V(none).
            - C(evidence) is one line that a person can check.
          type: dict
          sample:
            verdict: fixed
            basis: probe
            evidence: sends no -257 unasked
            version: 7.2.22
            package: Debian 1:7.2+dfsg-7+deb12u18
            path: /usr/bin/qemu-system-x86_64
    saved_states:
      description: Managed save, snapshots and checkpoints, and the powerControl that they would bring back.
      type: list
      elements: dict
      sample: [{"kind": "snapshot", "name": "before-upgrade", "power_control": ["yes"], "differs": true}]
    blind_spots:
      description:
        - What the user of the task had no right to see, so that nothing is known about it.
        - V(password) is whether a password is set, V(vnc_settings) what C(qemu.conf) adds, V(process) how the running
          QEMU was started, V(running_qemu) what it does, V(saved_states) what managed saves, snapshots and
          checkpoints bring back.
      type: list
      elements: str
      sample: ["password", "process"]
    findings:
      description: What is wrong, worst first.
      type: list
      elements: dict
      contains:
        id:
          description: The stable name of the finding.
          type: str
          sample: unsolicited_pointer_change
        severity:
          description: One of V(critical), V(high), V(medium), V(low), V(info).
          type: str
          sample: critical
        message:
          description: One sentence.
          type: str
          sample: noVNC cannot keep a connection
        remedy:
          description: What to do.
          type: str
          sample: Upgrade QEMU to 7.2.7, 8.1.2, 8.2 or later and power-cycle the domain
summary:
  description:
    - Counts over all domains. Of the verdicts, each domain counts once, for the worst that holds now or at its next
      start.
  returned: always
  type: dict
  sample:
    domains: 12
    running: 7
    affected: 5
    fixed: 7
    incapable: 0
    unknown: 0
    restart_pending: 1
    errors: 0
    findings: {"unsolicited_pointer_change": 3}
    severities: {"critical": 2, "high": 4, "medium": 1, "low": 0, "info": 9}
unmatched:
  description: The patterns of O(domains) that mean no domain of this host.
  returned: always
  type: list
  elements: str
  sample: []
host:
  description:
    - What the audit was told by.
    - C(read_only) means that libvirt lets the user look and no more, so that secrets could not be seen.
    - C(blind_spots) counts RV(domains[].blind_spots), by what could not be seen.
    - C(not_seen) lists what runs guests on this host without this libvirt (C(id), C(name), C(remedy)), Proxmox VE and
      Incus for two, so that they are in no audit.
  returned: always
  type: dict
  sample:
    hostname: kvm-1
    uri: qemu:///system
    libvirt_version: 9.0.0
    read_only: false
    not_seen: []
    blind_spots: {"process": 7}
    audited_at: '2026-11-20T12:00:00Z'
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.console.plugins.module_utils._run._domain_options import domain_options, probe_options
from ansible_collections.kvmops.console.plugins.module_utils._run._task import finish
from ansible_collections.kvmops.console.plugins.module_utils._run.domain_info import run


def main() -> None:
    finish(AnsibleModule(argument_spec=domain_options(**probe_options()), supports_check_mode=True), run)


if __name__ == "__main__":
    main()
