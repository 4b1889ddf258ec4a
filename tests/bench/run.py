# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The speed of everything, as ratios against bare libvirt-python, measured in turn in one run.

Run by `make bench [DOMAINS=1000]`. Nothing here is asserted: machines are noisy, and a person reads the ratios.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import libvirt

from ansible_collections.kvmops.console.plugins.module_utils import _libvirt, _qemu_facts, _qemu_probe
from ansible_collections.kvmops.console.tests.bench import power, proxy, scale, screens
from ansible_collections.kvmops.console.tests.lab.kvmlab import AFFECTED_QEMU, FIXED_QEMU, Host, Lab, domain_xml
from ansible_collections.kvmops.console.tests.lab.kvmlab.build import QEMU
from ansible_collections.kvmops.console.tests.lab.kvmlab.machine import cache

HERE = Path(__file__).resolve().parent
RUNNER = HERE.parent / "integration/run_module.py"
DOMAINS = int(os.environ.get("DOMAINS", "1000"))
ROUNDS = int(os.environ.get("ROUNDS", "3"))


class Bench:
    """One host with many domains, and what is timed there."""

    def __init__(self, host: Host, folder: Path) -> None:
        self.host = host
        self.folder = folder

    def define(self) -> None:
        """The domains: affected QEMU, powerControl on, with a password."""
        connection = libvirt.open(self.host.uri)
        for number in range(DOMAINS):
            xml = domain_xml(f"guest-{number:05}", emulator=AFFECTED_QEMU, power_control="yes", password="geheim-7")
            connection.defineXML(xml)

    def bare(self, what: str) -> float:
        """Seconds of the bare loop, its process's start not counted."""
        return float(self.host.exec("/usr/bin/python3", str(HERE / "bare.py"), what, seconds=600).stdout)

    def task(self, module: str, arguments: str = "{}") -> float:
        """Seconds of a playbook of one task on the host itself."""
        playbook = self.folder / "task.yml"
        playbook.write_text(
            f"- hosts: localhost\n  gather_facts: false\n  tasks: [{{{module}: {arguments}}}]\n", encoding="utf-8"
        )
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        library = {"ANSIBLE_LIBRARY": str(HERE / "library")}
        words = [program, "-i", "localhost,", "-c", "local", "-e", "ansible_python_interpreter=/usr/bin/python3"]
        begin = time.perf_counter()
        self.host.exec(*words, str(playbook), seconds=600, env=library)
        return time.perf_counter() - begin

    def module(self, name: str) -> str:
        """What a module returns, as JSON."""
        environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
        words = [sys.executable, str(RUNNER), name, "0", "0"]
        return self.host.exec(*words, stdin="{}", seconds=600, env=environment).stdout

    def memory(self, module: str) -> float:
        """The most that a module's processes had at a time, in MiB."""
        words = ["/usr/bin/python3", str(HERE / "peak.py"), sys.executable, str(RUNNER), module, "0", "0"]
        environment = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
        return float(self.host.exec(*words, stdin="{}", seconds=600, env=environment).stdout)


def rounds(*measures: Callable[[], float]) -> list[list[float]]:
    """Each measure ROUNDS times, in turn, so that a machine that gets slower slows all of them."""
    return [list(one) for one in zip(*([measure() for measure in measures] for _round in range(ROUNDS)))]


def told(values: list[float], unit: str = "s") -> str:
    """Median and range."""
    return f"{statistics.median(values):8.3f} {unit}  ({min(values):.3f} to {max(values):.3f})"


def against_bare(bench: Bench, what: str, task: tuple[str, str], loops: Sequence[str], limit: float) -> None:
    """Print the ratios of a task to bare loops, the cost of an empty Ansible task taken off.

    Ansible walks over every value that a task returns, on the host and on the controller. What that costs is shown by
    an empty task with the same result.
    """
    result = bench.folder / "result.json"
    result.write_text(bench.module(task[0].rpartition(".")[2]), encoding="utf-8")
    full, empty, same, *bare = rounds(
        lambda: bench.task(*task),
        lambda: bench.task("ansible.builtin.ping"),
        lambda: bench.task("same_result", f"{{path: {result}}}"),
        *(partial(bench.bare, loop) for loop in loops),
    )
    print(f"{what} of {DOMAINS} domains\n  the task                   {told(full)}")
    print(f"  an empty task              {told(empty)}\n  one with the same result   {told(same)}")
    for loop, seconds in zip(loops, bare):
        print(f"  the bare loop, {loop:12}{told(seconds)}")
        for name, less in (("an empty task", empty), ("one with the same result", same)):
            ratios = [(one - two) / three for one, two, three in zip(full, less, seconds)]
            print(f"    ratio, less {name:25}{told(ratios, '')}  limit {limit}", flush=True)
    print()


def probes(host: Host) -> None:
    """Print how long one question takes."""
    for name, path in (("affected", str(cache() / QEMU / "bin/qemu-system-x86_64")), ("fixed", FIXED_QEMU)):
        seconds = []
        for _round in range(10):
            begin = time.perf_counter()
            verdict = _qemu_probe.probe_binary(path).verdict.verdict
            seconds.append(time.perf_counter() - begin)
            assert verdict == name
        print(f"probe of the {name} binary   {told(seconds)}  limit 0.5 s")
    for name, path in (("affected", AFFECTED_QEMU), ("fixed", FIXED_QEMU)):
        connection = libvirt.open(host.uri)
        domain = connection.defineXML(domain_xml("zz-live", emulator=path, power_control="yes", password="geheim-7"))
        domain.create()
        milliseconds = []
        with _libvirt.connect(host.uri) as ours:
            listed = next(one for one in ours.domains() if one.name == "zz-live")
            for _round in range(20):
                begin = time.perf_counter()
                verdict = _qemu_facts.ask_descriptor(_libvirt.graphics_socket(listed, 0), True).verdict
                milliseconds.append((time.perf_counter() - begin) * 1000)
                assert verdict == name
        domain.destroy()
        domain.undefine()
        print(f"probe of a running {name} domain  {told(milliseconds, 'ms')}  limit 30 ms")


def main() -> None:
    """Print everything."""
    libvirt.registerErrorHandler(lambda context, error: None, None)
    with Lab("bench") as lab, tempfile.TemporaryDirectory(prefix="kvmops-bench-") as folder:
        Path(folder).chmod(0o755)
        bench = Bench(lab["bench"], Path(folder))
        probes(bench.host)
        bench.define()
        against_bare(bench, "audit", ("kvmops.console.domain_info", "{}"), ("audit", "read"), 2)
        # The bare loop turns all of them on again.
        against_bare(bench, "edit", ("kvmops.console.domain_power_control", "{state: disabled}"), ("edit",), 1.5)
        for module in ("domain_info", "domain_power_control"):
            print(f"peak memory of {module}: {bench.memory(module):.0f} MiB  limit 150 MiB")
    screens.main()
    power.main()
    proxy.main()
    scale.main()


if __name__ == "__main__":
    main()
