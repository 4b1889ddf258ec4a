# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The speed of pictures of screens, as ratios, measured in turn in one run.

Run by `make bench`, or by itself. Nothing here is asserted: machines are noisy, and a person reads the ratios.

The guests are what 32 of them can be on a small machine: no disk, little memory, TCG. Either their firmware has found
nothing to boot and waits, so each shows a text screen of 720x400: the least that a picture can cost, and so the most
that Ansible's own part can weigh; what that is, an empty task and the task without a domain to picture show. Or a
boot sector has drawn 1024x768 of noise: the most. That is what the guest whose QEMU is watched shows, too.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import libvirt

from ansible_collections.kvmops.console.plugins.module_utils import _domain_screens, _domain_xml, _libvirt
from ansible_collections.kvmops.console.plugins.module_utils._run.domain_screenshot import CONCURRENCY
from ansible_collections.kvmops.console.plugins.module_utils._screens import Shot
from ansible_collections.kvmops.console.tests.bench import png
from ansible_collections.kvmops.console.tests.integration.conftest import Hypervisor
from ansible_collections.kvmops.console.tests.integration.screens import guest
from ansible_collections.kvmops.console.tests.lab.kvmlab import FIXED_QEMU, Lab, domain_xml
from ansible_collections.kvmops.console.tests.lab.kvmlab.domains import GUEST_ARGUMENTS, GUEST_FOLDER

HERE = Path(__file__).resolve().parent
GUESTS = int(os.environ.get("GUESTS", "32"))
CALLERS = int(os.environ.get("CALLERS", "100"))
ROUNDS = int(os.environ.get("SCREEN_ROUNDS", "5"))

# A disk that draws noise: 16-bit code of a boot sector, in AT&T's syntax.
NOISE_DISK = bytes.fromhex(
    "b8024f bb1801 cd10"  # mov $0x4f02,%ax; mov $0x118,%bx; int $0x10: VBE, 1024x768
    "6800a0 07 6631d2 66bd01000000"  # push $0xa000; pop %es; xor %edx,%edx; mov $1,%ebp
    "52 b8054f 31db cd10 5a 31ff"  # bank: push %dx; mov $0x4f05,%ax; xor %bx,%bx; int $0x10; pop %dx; xor %di,%di
    "6669ed6d4ec641 6681c539300000"  # pixel: imul $1103515245,%ebp,%ebp; add $12345,%ebp
    "6689e8 66c1e810 ab 85ff 75e6"  # mov %ebp,%eax; shr $16,%eax; stosw; test %di,%di; jnz pixel
    "42 80fa30 75d5 f4 ebfd"  # inc %dx; cmp $48,%dl; jne bank; stop: hlt; jmp stop
).ljust(510, b"\0") + b"\x55\xaa".ljust((1440 << 10) - 510, b"\0")
NOISE_PATH = "/srv/noise.img"
NOISE_XML = (
    f"<disk type='file' device='floppy'><driver name='qemu' type='raw'/><source file='{NOISE_PATH}'/>"
    "<target dev='fda'/><readonly/><boot order='1'/></disk>"
)

NOISE = "printf '\\033[?25l' >/dev/tty1; dd if=/dev/urandom of=/dev/fb0 bs=65536 2>/dev/null; exec sleep 100000\n"
MONITOR = "/var/lib/libvirt/qemu/second.qmp"
SECOND_MONITOR = f"unix:{MONITOR},server=on,wait=off"
QEMU_NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"

WATCH = """
import json, socket, sys, time

monitor = socket.socket(socket.AF_UNIX)
monitor.connect(sys.argv[1])
lines = monitor.makefile("rb")
lines.readline()

def ask(command):
    begin = time.perf_counter()
    monitor.sendall(json.dumps({"execute": command}).encode() + b"\\n")
    while b'"return"' not in lines.readline():
        pass
    return time.perf_counter() - begin

ask("qmp_capabilities")
sys.stdin.readline()
worst = count = 0
import threading
done = threading.Event()
threading.Thread(target=lambda: (sys.stdin.readline(), done.set()), daemon=True).start()
print("watching", flush=True)
while not done.is_set():
    worst, count = max(worst, ask("query-status")), count + 1
print(worst * 1000, count)
"""
"""The worst round trip of a monitor while somebody else has QEMU take a picture, in milliseconds, and how many."""


def told(values: list[float], unit: str) -> str:
    """Median and range."""
    return f"{statistics.median(values):8.3f} {unit:2}  ({min(values):.3f} to {max(values):.3f})"


def rounds(*measures: Callable[[], float]) -> list[list[float]]:
    """Each measure ROUNDS times, in turn, so that a machine that gets slower slows all of them."""
    return [list(one) for one in zip(*([measure() for measure in measures] for _round in range(ROUNDS)))]


def ratio(name: str, values: list[float], limit: float) -> None:
    print(f"  {name:46} {told(values, '')}  limit {limit}", flush=True)


def await_noise(hypervisor: Hypervisor, names: list[str]) -> None:
    """Wait until all of them show 1024x768 of noise, and no more of it comes."""
    for _turn in range(120):
        result = hypervisor.module("domain_screenshot", domains=names, wait_for={"still": 1, "timeout": 20})
        screens = [screen for record in result["domains"] for screen in record["screens"]]
        sizes = {(screen["width"], screen["height"]) for screen in screens if screen["screen"]["kind"] == "graphics"}
        if "failed" not in result and len(screens) == len(names) and sizes == {(1024, 768)}:
            return
    raise AssertionError(f"not all guests show their noise: {result}")


# --- Many guests ------------------------------------------------------------------------------------------------------


class Fleet:
    """One host with many running guests, and the ways to take their pictures."""

    def __init__(self, hypervisor: Hypervisor, folder: Path, devices: str = "") -> None:
        self.host = hypervisor.host
        self.folder = folder
        self._stores = f"/srv/stores/{time.monotonic_ns()}"
        self._numbers = itertools.count()
        self.names = [f"guest-{number:02}" for number in range(GUESTS)]
        for name in self.names:
            hypervisor.put(name, emulator=FIXED_QEMU, running=True, devices=devices)
        if devices:
            await_noise(hypervisor, self.names)
            return
        waited = hypervisor.module("domain_screenshot", wait_for={"text": "No bootable device", "timeout": 110})
        assert "failed" not in waited, waited

    def play(self, *tasks: str) -> float:
        """Seconds of a playbook, ansible-playbook's own start included."""
        playbook = self.folder / "play.yml"
        lines = "".join(f"    - {task}\n" for task in tasks)
        playbook.write_text(
            f"- hosts: localhost\n  gather_facts: false\n  tasks:\n{lines or '    []'}", encoding="utf-8"
        )
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        words = [program, "-i", "localhost,", "-c", "local", "-e", "ansible_python_interpreter=/usr/bin/python3"]
        begin = time.perf_counter()
        self.host.exec(*words, str(playbook), seconds=600)
        return time.perf_counter() - begin

    def pictures(self, store: str | None = None) -> float:
        """With a store that nobody has used: every picture is encoded, written and looked at."""
        store = store or str(next(self._numbers))
        return self.play(f"kvmops.console.domain_screenshot: {{store: {self._stores}/{store}}}")

    def nothing(self) -> float:
        """The module without a domain to picture: it is brought to the host, imports its libraries, and connects."""
        return self.play("kvmops.console.domain_screenshot: {exclude: ['*']}")

    def bare(self) -> float:
        """The loop alone: neither Python's start nor the connection to libvirt is counted."""
        words = ["/usr/bin/python3", str(HERE / "bare_screens.py"), "/srv/bare", str(CONCURRENCY)]
        return float(self.host.exec(*words, seconds=600).stdout)

    def virsh(self) -> float:
        """As people write it in a shell."""
        shoot = 'for name; do virsh -q -c qemu:///system screenshot "$name" "/srv/virsh-$name"; done'
        begin = time.perf_counter()
        self.host.exec("sh", "-ec", shoot, "sh", *self.names, seconds=600)
        return time.perf_counter() - begin


def many_guests(fleet: Fleet, shown: str) -> None:
    """Print how one task compares with the two other ways."""
    fleet.pictures("known")
    full, again, nothing, empty, start, bare, virsh = rounds(
        fleet.pictures,
        lambda: fleet.pictures("known"),
        fleet.nothing,
        lambda: fleet.play("ansible.builtin.ping:"),
        fleet.play,
        fleet.bare,
        fleet.virsh,
    )
    print(f"pictures of {GUESTS} running guests that show {shown}")
    for name, values in (
        ("the task", full),
        ("the same, of screens that have not changed", again),
        ("the task without a domain to picture", nothing),
        ("an empty task", empty),
        ("ansible-playbook without a task", start),
        (f"bare libvirt, {CONCURRENCY} threads", bare),
        ("virsh, one after the other", virsh),
    ):
        print(f"  {name:46} {told(values, 's')}")
    ratio("task / virsh", [(one - zero) / two for one, zero, two in zip(full, start, virsh)], 0.5)
    ratio("  with ansible-playbook's start", [one / two for one, two in zip(full, virsh)], 0.5)
    ratio("  the pictures alone", [(one - zero) / two for one, zero, two in zip(full, nothing, virsh)], 0.5)
    ratio("(task - empty task) / bare libvirt", [(a - b) / c for a, b, c in zip(full, empty, bare)], 1.3)
    ratio("  the pictures alone", [(a - b) / c for a, b, c in zip(full, nothing, bare)], 1.3)
    print(flush=True)


def many_callers(fleet: Fleet) -> None:
    """Print how many captures many callers cost."""
    module = [sys.executable, "-B", str(HERE.parent / "integration/run_module.py"), "domain_screenshot", "0", "0"]
    words = f'{{"domains": ["{fleet.names[0]}"], "max_age": 600, "store": "/srv/shared"}}'
    environment = {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}

    def call(_number: int) -> dict[str, Any]:
        out = fleet.host.exec(*module, stdin=words, env=environment, seconds=600).stdout
        return dict(json.loads(out)["domains"][0]["screens"][0])

    with ThreadPoolExecutor(CALLERS) as pool:
        screens = list(pool.map(call, range(CALLERS)))
    captures = sum(not screen["cached"] for screen in screens)
    times = len({screen["captured_at"] for screen in screens})
    print(f"{CALLERS} callers at once: {captures} capture(s), {times} picture(s)  limit 1\n", flush=True)


def _arguments(*words: str) -> str:
    return "".join(f"<qemu:arg value='{word}'/>" for word in words)


# --- One QEMU, watched ------------------------------------------------------------------------------------------------


class Watched:
    """A guest that shows noise, and a second monitor of its QEMU."""

    def __init__(self, hypervisor: Hypervisor, folder: Path) -> None:
        self._socket = os.fspath(hypervisor.host.root / MONITOR.lstrip("/"))
        initrd = guest.initrd(folder, NOISE)
        xml = domain_xml("noise", emulator=FIXED_QEMU, guest=True)
        for before, after in (
            ("<domain ", f"<domain xmlns:qemu='{QEMU_NAMESPACE}' "),
            (f"{GUEST_FOLDER}/initrd.gz", os.fspath(initrd)),
            (GUEST_ARGUMENTS, f"{guest.COMMAND_LINE} vga=0x318"),
            ("</domain>", f"<qemu:commandline>{_arguments('-qmp', SECOND_MONITOR)}</qemu:commandline></domain>"),
        ):
            assert xml.count(before) == 1, before
            xml = xml.replace(before, after)
        hypervisor.connection.defineXML(xml).create()
        await_noise(hypervisor, ["noise"])
        self._connection = hypervisor.uri

    def worst(self, meanwhile: Callable[[], object]) -> float:
        """The worst round trip of the second monitor, in milliseconds."""
        words = [sys.executable, "-c", WATCH, self._socket]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as watch:
            assert watch.stdin is not None
            assert watch.stdout is not None
            print(file=watch.stdin, flush=True)
            assert watch.stdout.readline() == "watching\n"
            meanwhile()
            print(file=watch.stdin, flush=True)
            worst, count = watch.stdout.readline().split()
        assert int(count) > 0
        return float(worst)

    @contextlib.contextmanager
    def camera(self, capture: str) -> Iterator[Callable[[], Shot]]:
        """What takes a picture by `capture`, everything but that done before."""
        with _libvirt.connect(self._connection) as connection:
            (listed,) = (domain for domain in connection.domains() if domain.name == "noise")
            live = _domain_xml.parse(_libvirt.live_xml(listed, connection))
            camera = _domain_screens.Camera(connection, listed, live, capture, "none", 60.0)
            yield lambda: camera.take(0)


def one_watched(watched: Watched) -> None:
    """Print for how long QEMU's main loop is held up by one capture."""
    with (
        watched.camera(_domain_screens.AUTO) as auto,
        watched.camera(_domain_screens.SCREENDUMP) as dump,
    ):
        ways = {auto().capture, dump().capture}
        assert ways == {"vnc", "screendump"}, ways
        ours, png_, idle = rounds(
            lambda: watched.worst(auto), lambda: watched.worst(dump), lambda: watched.worst(lambda: time.sleep(0.2))
        )
    print("worst round trip of a second monitor, 1024x768 of noise")
    for name, values in (("one capture, as auto chooses", ours), ("QEMU's own PNG", png_), ("nobody asks", idle)):
        print(f"  {name:46} {told(values, 'ms')}")
    ratio("auto / QEMU's own PNG", [one / two for one, two in zip(ours, png_)], 0.1)
    print(flush=True)


def main() -> None:
    """Print everything."""
    libvirt.registerErrorHandler(lambda context, error: None, None)
    with Lab("bench-screens") as lab, tempfile.TemporaryDirectory(prefix="kvmops-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        hypervisor = Hypervisor(lab["bench-screens"])
        one_watched(Watched(hypervisor, folder))
        hypervisor.clear()
        fleet = Fleet(hypervisor, folder)
        many_guests(fleet, "a text screen")
        many_callers(fleet)
        hypervisor.clear()
        (hypervisor.host.root / NOISE_PATH.lstrip("/")).write_bytes(NOISE_DISK)
        many_guests(Fleet(hypervisor, folder, NOISE_XML), "1024x768 of noise")
    png.main()


if __name__ == "__main__":
    main()
