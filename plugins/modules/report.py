# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation only: the work is done on the controller, by plugins/action/report.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: report
short_description: Write a report on the consoles of a fleet, on the controller
version_added: 1.0.0
description:
  - Merges what M(kvmops.console.domain_info) and M(kvmops.console.domain_power_control) registered on every host into
    one report, and writes it to a folder on the controller.
  - The HTML page is one file without script or network. It works on a phone, in print, and for 10,000 domains.
  - JSON has everything, and is described by C(docs/schema/report-1.json) in the collection's repository. CSV has a row
    a domain. The Prometheus file is for the textfile collector of node_exporter.
  - A host whose result is missing, failed or unreachable is in the report as that, with its message, and without
    figures.
author:
  - The kvmops.console authors (@kvmops)
extends_documentation_fragment:
  - kvmops.console.attributes
options:
  dest:
    description:
      - The folder on the controller to write to. It is created when it is not there.
      - A relative path is taken from the folder of the playbook.
    type: path
    required: true
  hosts:
    description:
      - The inventory names of the hosts to report on.
      - All hosts of the play when not set, those included that failed or could not be reached.
    type: list
    elements: str
  before:
    description:
      - The name of the variable that M(kvmops.console.domain_info) was registered as.
    type: str
    default: kvmops_audit_before
  after:
    description:
      - The name of the variable with a second audit, made after the change.
      - The report then tells what is, and what it was before.
      - When no host has this variable, nor that of O(changes), the report is of the one audit.
    type: str
  changes:
    description:
      - The name of the variable that M(kvmops.console.domain_power_control) was registered as.
    type: str
  formats:
    description:
      - What to write.
    type: list
    elements: str
    choices:
      - html
      - json
      - csv
      - prometheus
    default:
      - html
      - json
      - csv
      - prometheus
  title:
    description:
      - The title of the page.
    type: str
    default: Console report
  basename:
    description:
      - The name of the files, without the folder and the extension.
    type: str
    default: console-report
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
    support: full
    details:
      - Shows the counts before and after, not the files. Those before are known where O(formats) has V(json).
  idempotent:
    support: full
    details:
      - A file in which nothing but the times differs has not changed. It is brought up to date all the same, so that
        a page and a metric always tell when the fleet was last audited.
  platform:
    platforms: posix
    support: full
notes:
  - Never connects to a host.
  - The files are put in place in one step. Whoever reads them meets the old one or the new one, and no half one.
  - New files have the mode V(0644) less the umask. Files that are there keep their mode. The report tells where
    consoles are open, so choose a folder that only the right people can read.
  - Only known keys are copied from the hosts' results. Where a text assigns a password, or a URI has one, it is masked.
  - Hosts that are unreachable leave the play. Put C(ignore_unreachable=true) on the tasks that register results, or
    write the report in a play of its own, with O(hosts) set.
  - In AWX the controller is a container that is thrown away. Write to a volume, or publish the files in the same job.
seealso:
  - module: kvmops.console.domain_info
  - module: kvmops.console.domain_power_control
  - module: ansible.builtin.set_stats
"""

EXAMPLES = r"""
- name: Audit all hypervisors
  kvmops.console.domain_info:
  register: kvmops_audit_before
  ignore_errors: true
  ignore_unreachable: true

- name: Report on all of them
  kvmops.console.report:
    dest: /srv/reports
  run_once: true

- name: Report what a remediation did
  kvmops.console.report:
    dest: "{{ playbook_dir }}/reports"
    title: Consoles of the Graz data centre
    before: kvmops_audit_before
    after: kvmops_audit_after
    changes: kvmops_changes
  register: report
  run_once: true

- name: Let the workflow in AWX branch on the counts
  ansible.builtin.set_stats:
    data: "{{ report.summary }}"
    per_host: false
  run_once: true

- name: Keep metrics for node_exporter up to date
  kvmops.console.report:
    dest: /var/lib/node_exporter/textfile
    formats:
      - prometheus
    basename: kvmops
  run_once: true
"""

RETURN = r"""
files:
  description: The path of each file, by its format.
  returned: success
  type: dict
  sample:
    html: /srv/reports/console-report.html
    json: /srv/reports/console-report.json
    csv: /srv/reports/console-report.csv
    prometheus: /srv/reports/console-report.prom
summary:
  description: The counts of the fleet, flat, for M(ansible.builtin.set_stats) and for conditions.
  returned: success
  type: dict
  contains:
    kvmops_hosts:
      description: Hosts in the report.
      type: int
      sample: 5
    kvmops_hosts_ok:
      description: Hosts with which all went well.
      type: int
      sample: 3
    kvmops_hosts_failed:
      description: Hosts with which it did not, unreachable and missing ones included.
      type: int
      sample: 2
    kvmops_hosts_unreachable:
      description: Hosts that could not be reached.
      type: int
      sample: 1
    kvmops_hosts_missing:
      description: Hosts without the result.
      type: int
      sample: 0
    kvmops_domains:
      description: Domains that were seen.
      type: int
      sample: 48
    kvmops_running:
      description: Those that are running or paused.
      type: int
      sample: 40
    kvmops_affected:
      description: Those whose QEMU has the bug, now or at the next start.
      type: int
      sample: 12
    kvmops_fixed:
      description: Those whose QEMU has power control and behaves.
      type: int
      sample: 35
    kvmops_incapable:
      description: Those whose QEMU has no power control.
      type: int
      sample: 0
    kvmops_unknown:
      description: Those whose QEMU could not be judged.
      type: int
      sample: 1
    kvmops_restart_pending:
      description: Those that need a power cycle for their definition to apply.
      type: int
      sample: 9
    kvmops_errors:
      description: Those that could not be audited.
      type: int
      sample: 0
    kvmops_changed:
      description: Those whose definition or saved states were changed.
      type: int
      sample: 12
    kvmops_skipped:
      description: Those that were left alone.
      type: int
      sample: 3
    kvmops_change_errors:
      description: Those that could not be changed.
      type: int
      sample: 0
    kvmops_findings:
      description: All findings.
      type: int
      sample: 31
    kvmops_findings_critical:
      description: Findings of that severity; likewise C(_high), C(_medium), C(_low) and C(_info).
      type: int
      sample: 0
"""
