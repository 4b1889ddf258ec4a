# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The speed of domain_power: many guests shut down in one task, and a task that finds everything as it is wanted.

power.py [GUESTS=50] [DOMAINS=1000]. Nothing here is asserted: machines are noisy, and a person reads the ratios.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import libvirt

from ansible_collections.kvmops.console.tests.lab.kvmlab import FIXED_QEMU, Host, Lab, domain_xml

HERE = Path(__file__).resolve().parent
RUNNER = HERE.parent / "integration/run_module.py"
GUESTS = int(os.environ.get("GUESTS", "50"))
DOMAINS = int(os.environ.get("DOMAINS", "1000"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))
READY = "/var/lib/libvirt/qemu/ready-{}"

LISTING = """
import time, libvirt
connection = libvirt.open("qemu:///system")
begin = time.perf_counter()
for domain in connection.listAllDomains(0):
    domain.name(), domain.UUIDString(), domain.state()
print(time.perf_counter() - begin)
"""


def boot(host: Host, number: int) -> None:
    """So many Linux guests, and wait until all of them hear the power button."""
    connection = libvirt.open(host.uri)
    names = [f"linux-{place:03}" for place in range(number)]
    for name in names:
        serial = f'<serial type="file"><source path="{READY.format(name)}"/></serial>'
        xml = domain_xml(name, emulator=FIXED_QEMU, guest=True, serial=serial, graphics=(), video=None)
        connection.defineXML(xml).create()
    ready = [host.root / READY.format(name)[1:] for name in names]
    end = time.monotonic() + 1800
    while not all(path.exists() and b"READY" in path.read_bytes() for path in ready):
        if time.monotonic() > end:
            raise SystemExit("the guests never booted")
        time.sleep(0.2)


class Watched:
    """A module that runs on the host, with the most threads and connections that were seen."""

    def __init__(self, host: Host, arguments: dict[str, Any]) -> None:
        words = host.command(sys.executable, "-B", str(RUNNER), "domain_power", "0", "0")
        environment = host.environment({"PYTHONPATH": ":".join(path for path in sys.path if path)})
        begin = time.perf_counter()
        self.threads = self.connections = 0
        with tempfile.TemporaryFile("w+") as told, tempfile.TemporaryFile("w+") as asked:
            json.dump(arguments, asked)
            asked.seek(0)
            with subprocess.Popen(words, env=environment, stdin=asked, stdout=told) as process:
                while process.poll() is None:
                    self._look(process.pid)
                    time.sleep(0.01)
            self.seconds = time.perf_counter() - begin
            told.seek(0)
            self.result = json.load(told)

    def _look(self, pid: int) -> None:
        """The process itself is the last of those that enter the host."""
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            while children:
                pid = int(children[0])
                children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
            self.threads = max(self.threads, len(os.listdir(f"/proc/{pid}/task")))
            sockets = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()]
            self.connections = max(self.connections, sum(name.startswith("socket:") for name in sockets))
        except OSError:
            pass


def shut_down(host: Host) -> None:
    """Print how long it took, against the guest that took longest."""
    boot(host, GUESTS)
    methods = [{"method": "acpi", "timeout": 600}]
    watched = Watched(host, {"state": "stopped", "domains": ["linux-*"], "methods": methods, "concurrency": 50})
    records = watched.result["domains"]
    assert not watched.result.get("failed"), watched.result["msg"]
    slowest = max(step["seconds"] for record in records for step in record["steps"])
    again = Watched(host, {"state": "stopped", "domains": ["linux-*"], "methods": methods, "concurrency": 50})
    assert not again.result["changed"]
    print(f"shutting {len(records)} guests down in one task")
    print(f"  the task           {watched.seconds:8.3f} s")
    print(f"  the slowest guest  {slowest:8.3f} s   ratio {watched.seconds / slowest:.2f}  limit 1.5")
    print(f"  nothing to do      {again.seconds:8.3f} s   Python, its imports, the connection and the listing")
    print(f"  most threads {watched.threads}, most sockets (libvirt's connections) {watched.connections}  limit 1")


def already(host: Host, folder: Path) -> None:
    """Print how long a task takes that has nothing to do."""
    connection = libvirt.open(host.uri)
    for number in range(DOMAINS):
        connection.defineXML(domain_xml(f"off-{number:05}", emulator=FIXED_QEMU))

    def task(module: str, arguments: str) -> float:
        playbook = folder / "task.yml"
        playbook.write_text(
            f"- hosts: localhost\n  gather_facts: false\n  tasks: [{{{module}: {arguments}}}]\n", encoding="utf-8"
        )
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        words = [program, "-i", "localhost,", "-c", "local", "-e", "ansible_python_interpreter=/usr/bin/python3"]
        begin = time.perf_counter()
        host.exec(*words, str(playbook), seconds=600)
        return time.perf_counter() - begin

    full, empty, bare = [], [], []
    for _round in range(ROUNDS):
        full.append(task("kvmops.console.domain_power", "{state: stopped, domains: ['off-*']}"))
        empty.append(task("ansible.builtin.ping", "{}"))
        bare.append(float(host.exec("/usr/bin/python3", "-c", LISTING).stdout))
    print(f"a task that finds {DOMAINS} domains as they are wanted")
    for what, values in (("the task", full), ("an empty task", empty), ("the bare listing", bare)):
        print(f"  {what:18}{statistics.median(values):8.3f} s")
    ratio = statistics.median(one / (two + three) for one, two, three in zip(full, empty, bare))
    print(f"  ratio to the two others together {ratio:.2f}  limit 2", flush=True)


def main() -> None:
    """Print everything."""
    libvirt.registerErrorHandler(lambda context, error: None, None)
    with Lab("bench-power") as lab, tempfile.TemporaryDirectory(prefix="kvmops-bench-") as folder:
        Path(folder).chmod(0o755)
        already(lab["bench-power"], Path(folder))
        shut_down(lab["bench-power"])


if __name__ == "__main__":
    main()
