# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation only: the work is done on the controller, by plugins/action/rolling_plan.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rolling_plan
short_description: Plan in which batches the domains of a fleet are power-cycled
version_added: 1.0.0
description:
  - Takes the domains of all hosts whose QEMU process is older than their definition or than the QEMU that is installed,
    and puts them into batches. Domains that OpenStack Nova, oVirt or the like start by definitions of their own are
    left to them (RV(kvmops.console.domain_info#module:domains[].managed_by)).
  - The lowest priority goes first, and a batch has one priority. A domain comes in a later batch than all that it waits
    for. What waits for a domain that needs no power cycle waits for nothing.
  - Priority and dependencies come from the metadata of the domains, as
    RV(kvmops.console.domain_info#module:domains[].order), and from O(order).
  - Plans only. The role P(kvmops.console.fleet#role) carries the plan out.
author:
  - The kvmops.console authors (@kvmops)
extends_documentation_fragment:
  - kvmops.console.attributes
options:
  hosts:
    description:
      - The inventory names of the hosts to plan for; all hosts of the play when not set.
      - A host without an audit has no part in the plan.
    type: list
    elements: str
  audit:
    description:
      - The name of the variable that M(kvmops.console.domain_info) was registered as.
    type: str
    required: true
  changes:
    description:
      - The name of the variable that M(kvmops.console.domain_power_control) was registered as. In check mode it tells
        what would wait for a power cycle.
    type: str
  batch:
    description:
      - How many domains a batch has at most.
    type: int
    default: 1
  order:
    description:
      - What the play says of the turns of domains. Of several priorities for a domain the last counts, and more than
        that of its metadata; what it waits for adds up.
    type: list
    elements: dict
    default: []
    suboptions:
      domains:
        description:
          - Globs of names, V(db-*), or of host and name, V(hv-1/db-*).
        type: list
        elements: str
        required: true
      priority:
        description:
          - The lowest number goes first. Domains without one have 50.
        type: int
      after:
        description:
          - Globs of the domains that go before, in the same form.
        type: list
        elements: str
        default: []
      before:
        description:
          - Globs of the domains that go later.
        type: list
        elements: str
        default: []
  gates:
    description:
      - How to see that a domain is well after its power cycle. All that mean a domain are handed on with it.
    type: list
    elements: dict
    default: []
    suboptions:
      domains:
        description:
          - Globs of names, V(db-*), or of host and name, V(hv-1/db-*).
        type: list
        elements: str
        required: true
      check:
        description:
          - V(agent) waits until the guest agent answers, V(text) until its screen shows a text, V(tcp) until a port can
            be reached from the controller, V(command) until a command on the controller succeeds.
        type: str
        required: true
        choices:
          - agent
          - text
          - tcp
          - command
      text:
        description:
          - The regular expression for V(text).
        type: str
      host:
        description:
          - The name or address for V(tcp).
        type: str
      port:
        description:
          - The port for V(tcp).
        type: int
      command:
        description:
          - The words of the command for V(command).
        type: list
        elements: str
      timeout:
        description:
          - How many seconds to wait at most.
        type: int
        default: 300
  again:
    description:
      - Domains to plan in any case, as V(HOST/NAME), because their gates are to be passed still.
    type: list
    elements: str
    default: []
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
  platform:
    platforms: posix
    support: full
seealso:
  - module: kvmops.console.domain_info
  - module: kvmops.console.domain_power
"""

EXAMPLES = r"""
- name: Audit
  kvmops.console.domain_info:
  register: audit

- name: Plan to power-cycle databases first, two domains at a time
  kvmops.console.rolling_plan:
    audit: audit
    batch: 2
    order:
      - domains: ["db-*"]
        priority: 10
      - domains: ["web-*"]
        after: ["cache-*"]
  register: rolling

- name: Show the plan
  ansible.builtin.debug:
    var: rolling.plan
"""

RETURN = r"""
batches:
  description: The batches in order, each a list of domains.
  type: list
  elements: list
  returned: success
  sample:
    - - host: hv-1
        name: db-1
        label: hv-1/db-1
        uuid: 5d1f3f2e-3e9c-4c0b-9d68-6f7b1a3f2c11
        gates: []
plan:
  description: A line for each batch.
  type: list
  elements: str
  returned: success
  sample: ["1. hv-1/db-1", "2. hv-1/web-1, hv-2/web-2"]
again:
  description:
    - What is left of O(again). Domains are left out that are no longer there, by the audit of their host. Those of a
      host without an audit stay, since it was not looked at.
  type: list
  elements: str
  returned: success
  sample: ["hv-1/db-1"]
"""
