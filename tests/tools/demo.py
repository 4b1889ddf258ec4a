# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The whole job on real hypervisors: start the lab, remediate it, say where the report is.

Run by `make demo`. The lab stays up, so that a second run shows that there is nothing left to change.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from ansible_collections.kvmops.console.tests.lab.kvmlab import Host, Lab, LabError, seed

HOSTS = ("lab-a", "lab-b")


def say(line: str) -> None:
    """A line of progress."""
    print(f"==> {line}", flush=True)


def prepare(host: Host) -> None:
    """Put the demo's domains on a host that has none."""
    if host.virsh("list", "--all", "--name").strip():
        say(f"{host.name} has its domains from the last demo; they stay as they are")
        return
    say(f"{host.name} gets domains: affected and fixed QEMU, running and off, powerControl on and off, with passwords")
    seed(host, say=lambda line: print(f"    {line}", flush=True))


def remediate(lab: Lab, report: Path) -> int:
    """Run the playbook over the lab, as an operator would; its exit status."""
    with tempfile.NamedTemporaryFile("w", suffix=".yml", prefix="kvmops-demo-") as inventory:
        inventory.write(lab.inventory(*HOSTS))
        inventory.flush()
        say("ansible-playbook kvmops.console.remediate --diff")
        playbook = Path(sys.executable).with_name("ansible-playbook")
        command = [str(playbook), "-i", inventory.name, "kvmops.console.remediate", "--diff"]
        command += ["-e", f"fleet_report_dir={report}"]
        return subprocess.run(command, env={**os.environ, "ANSIBLE_FORCE_COLOR": "0"}, check=False).returncode


def main() -> int:
    """The exit status: 0 when the fleet was remediated and reported on."""
    report = Path(os.environ.get("KVMOPS_REPOSITORY", Path.cwd())) / "report"
    lab = Lab()
    try:
        say("the lab: " + ", ".join(HOSTS))
        for host in lab.up(*HOSTS):
            prepare(host)
    except LabError as e:
        print(f"The lab does not start: {e}", file=sys.stderr)
        return 1
    status = remediate(lab, report)
    if status == 0:
        say(f"the report: {report / 'console-report.html'} (and .json, .csv, .prom)")
        say("run make demo again to see that nothing is left to change; make lab-down ends the lab")
    return status


if __name__ == "__main__":
    sys.exit(main())
