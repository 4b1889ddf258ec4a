# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation, arguments and the call; the work is in module_utils/_run/domain_power.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: domain_power
short_description: Switch many domains on, off, or anew, and wait until they are
version_added: 1.0.0
description:
  - Asks the guests in the ways that O(methods) names, each with its own time, and pulls the plug only where O(force)
    allows it.
  - Sends all requests first, then waits once for all domains, on the events of libvirt.
  - Tells a success only when the state that is wanted was observed. A domain that is in that state already is left
    alone.
  - A domain that cannot come to its state does not stop the others. The task fails at the end, with every record
    returned.
author:
  - The kvmops.console authors (@kvmops)
extends_documentation_fragment:
  - kvmops.console.attributes
  - kvmops.console.attributes.group
  - kvmops.console.domains
attributes:
  check_mode:
    support: full
    details:
      - Nothing is asked of any guest, and no pictures are taken. RV(domains[].after) is what the domain would be when
        its guest obeys.
  diff_mode:
    support: full
  idempotent:
    support: partial
    details:
      - V(power_cycled), V(rebooted), V(reset) and V(nmi_sent) do what they say each time.
  platform:
    platforms: linux
    support: full
options:
  state:
    description:
      - What the domains shall come to.
      - V(started) starts what is off, resumes what is paused, and wakes what sleeps.
      - V(stopped) asks the guest to shut down. A guest that is paused, sleeps or has crashed hears nothing, which is
        told at once instead of waited for.
      - V(power_cycled) ends the QEMU process and starts a new one, which a change of powerControl or of QEMU needs. It
        is proved by the new process. What is off stays off.
      - V(rebooted) is the guest's own reboot, in the same process, and is proved by it.
      - V(reset) presses the reset button. The guest is not asked.
      - V(paused) and V(resumed) stop and continue its processors. V(saved) writes its memory to the disk of the host
        and ends the process.
      - V(nmi_sent) sends it a non-maskable interrupt.
      - V(pending_applied) power-cycles those domains that a new process would bring something, a change of their
        definition or another QEMU than the one that they were started by.
    type: str
    required: true
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
  methods:
    description:
      - How the guest is asked to shut down or to reboot, in order. One that cannot work is passed over, and
        RV(domains[].steps) says why.
      - When not set, the agent has 20 seconds, then ACPI 60, pressed again every 15.
      - For the states V(stopped), V(power_cycled), V(rebooted) and V(pending_applied).
    type: list
    elements: dict
    suboptions:
      method:
        description:
          - V(agent) asks the QEMU guest agent. It is asked only where it has opened its channel.
          - V(acpi) presses the power button. Guests that are still booting may not hear it, so it can be pressed again.
        type: str
        required: true
        choices:
          - acpi
          - agent
      timeout:
        description: How many seconds it has to take effect.
        type: float
        default: 60.0
      resend_every:
        description: Ask again after so many seconds without effect. Never when not set.
        type: float
  force:
    description:
      - Whether the plug may be pulled (or, with O(state=rebooted), the guest be reset) without asking its guest.
      - V(never) forbids it, whatever happens. V(after_methods) does it when all O(methods) have failed or run out of
        time, and the domain was seen running still. V(at_once) does not ask the guest at all.
      - For the same states as O(methods).
    type: str
    choices:
      - never
      - after_methods
      - at_once
    default: never
  timeout:
    description:
      - How many seconds each request has to take effect that is none of O(methods), like a start, or a force. Give more
        where much memory is to be V(saved).
    type: float
    default: 60.0
  concurrency:
    description:
      - How many requests may be under way at the same time. All domains are waited for together, however many they are.
    type: int
    default: 50
  boot_id:
    description:
      - With O(state=rebooted), take another boot id of the guest (Linux) for a proof of its reboot, too. Its agent is
        asked for it before, and when it is there again.
      - Usually a reboot is told by QEMU. This helps where a guest reboots by kexec, of which QEMU knows nothing, and
        where libvirtd was restarted meanwhile.
      - libvirt marks the domain as tainted until its process ends (C(custom-ga-command)). Where the agent may not open
        files, RV(domains[].notes) say so, and nothing else changes.
    type: bool
    default: false
  allow_vanish:
    description:
      - Whether transient domains may be V(stopped), although nothing is left of them then.
    type: bool
    default: false
  if_viewers:
    description:
      - What to do with a domain at whose VNC or SPICE console somebody looks.
      - V(refuse) fails it, V(wait) waits for them to go, for O(viewers_timeout) at most, and then fails it.
      - Who looks is read from the sockets of the QEMU process, for which the task has to run as root on the host.
      - The states V(started), V(resumed) and V(nmi_sent) do not look at it.
    type: str
    choices:
      - proceed
      - refuse
      - wait
    default: proceed
  viewers_timeout:
    description:
      - For how many seconds to wait for viewers to go.
    type: float
    default: 300.0
  if_locked:
    description:
      - What to do with a domain that its owner has locked, by an element C(<lock reason="..." by="..."/>) in its
        metadata, in the element C(console) of the namespace C(https://kvmops.github.io/console/1).
    type: str
    choices:
      - refuse
      - proceed
    default: refuse
  confirm_identity:
    description:
      - By the name of a domain, the UUID or the title that it must have. Then each domain that is to be touched has to
        be named here.
      - Guards against a name that means another machine on this host.
    type: dict
  evidence:
    description:
      - Take a picture of the screen before and after, of each domain that is touched. A picture that cannot be taken is
        told and holds nothing up.
      - Needs Pillow on the host.
    type: bool
    default: false
  evidence_dir:
    description:
      - Where the pictures go, in two folders a run, named by its time.
      - For root C(/var/lib/kvmops-console/evidence) when not set.
    type: path
  evidence_runs:
    description:
      - How many runs leave their pictures in O(evidence_dir). A run that takes some removes those of the oldest.
    type: int
    default: 100
seealso:
  - module: kvmops.console.domain_info
  - module: kvmops.console.domain_power_control
  - module: kvmops.console.qmp_power
  - module: kvmops.console.incus_power
"""

EXAMPLES = r"""
- name: Shut down everything, and let nobody's plug be pulled
  kvmops.console.domain_power:
    state: stopped

- name: Give the web servers a minute by the agent and two by the power button, then pull the plug
  kvmops.console.domain_power:
    domains:
      - web-*
    state: stopped
    methods:
      - method: agent
        timeout: 60
      - method: acpi
        timeout: 120
        resend_every: 15
    force: after_methods

- name: Have new definitions and a new QEMU take effect, but only where nobody looks at the console
  kvmops.console.domain_power:
    state: pending_applied
    if_viewers: refuse

- name: Reset the one machine that is meant, with a picture of how it hung
  kvmops.console.domain_power:
    domains:
      - db-1
    state: reset
    confirm_identity:
      db-1: 4dea22b3-1d52-d8f3-2516-782e98ab3fa0
    evidence: true
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
      description: Its state in the end, in libvirt's words.
      type: str
      sample: shutoff
    persistent:
      description: Whether it has a definition beside its process.
      type: bool
      sample: true
    changed:
      description: Whether it was brought to where it is.
      type: bool
      sample: true
    skipped:
      description: Why there was nothing to do, where that might surprise. Absent otherwise.
      type: str
      sample: it is off
    error:
      description: What went wrong. Absent otherwise.
      type: str
      sample: "it is on (acpi: it had no effect in time)."
    before:
      description:
        - What it was, one of V(on), V(stopping), V(paused), V(suspended), V(crashed), V(off) and V(unknown).
      type: str
      sample: 'on'
    after:
      description: What it is, in the same words.
      type: str
      sample: 'off'
    steps:
      description: What was tried, in order.
      type: list
      elements: dict
      contains:
        method:
          description:
            - One of O(methods), or V(force), V(start), V(resume), V(wake), V(pause), V(save), V(reset), V(nmi).
          type: str
          sample: acpi
        seconds:
          description: How long it took, or was waited for.
          type: float
          sample: 4.2
        outcome:
          description: One of V(done), V(failed), V(refused), V(timed_out), V(unusable).
          type: str
          sample: done
        reason:
          description: Why it was not done. Absent otherwise.
          type: str
          sample: no guest agent has opened its channel
    ended_by:
      description: The first step that took effect; null when none did.
      type: str
      sample: acpi
    process:
      description:
        - The QEMU processes of before and after, each with its pid and its start time in the kernel's ticks; null where
          there was none, or none could be seen.
      type: dict
      sample: {"before": {"pid": 4711, "started": 8123456}, "after": null}
    notes:
      description: What might surprise about it, a sentence each.
      type: list
      elements: str
      sample: ["autostart is on: it starts again with its host"]
    pending:
      description:
        - What its new process was to bring.
        - V(restart_pending) is another powerControl, V(outdated_process) another QEMU, and V(definition_changed) what
          RV(domains[].pending_changes) names.
      returned: with O(state=pending_applied), for domains that run
      type: list
      elements: str
      sample: ["restart_pending", "definition_changed"]
    pending_changes:
      description:
        - The parts of its definition that its process does not have yet, by their names and never by their values.
        - What can be changed while a domain runs is not counted, and neither is what only the process has.
      returned: with O(state=pending_applied), for domains that run
      type: list
      elements: str
      sample: ["memory", "disk vdb", "graphics vnc"]
    evidence:
      description: The pictures of before and after; C(skipped) or C(error) says why where there is none.
      returned: with O(evidence), for domains that were touched
      type: dict
      sample:
        before: {"path": "/var/lib/kvmops-console/evidence/20261120T120000.000000Z-before/web-1.png", "width": 720,
          "height": 400}
        after: {"skipped": "it is off"}
summary:
  description: Counts over all domains.
  returned: always
  type: dict
  sample: {"domains": 12, "changed": 9, "skipped": 3, "errors": 0}
unmatched:
  description: The patterns of O(domains) that mean no domain of this host.
  returned: always
  type: list
  elements: str
  sample: []
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.console.plugins.module_utils._run._task import finish
from ansible_collections.kvmops.console.plugins.module_utils._run.domain_power import run, spec


def main() -> None:
    finish(AnsibleModule(argument_spec=spec(), supports_check_mode=True), run)


if __name__ == "__main__":
    main()
