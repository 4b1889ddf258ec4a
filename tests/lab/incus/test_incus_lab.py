# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The Incus lab itself: a real daemon, real virtual machines, side by side, and nothing left behind."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.kvmops.console.tests.lab.incus.incuslab import Incus, LabError, boot_sector, daemon
from ansible_collections.kvmops.console.tests.lab.kvmlab.machine import cache

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="the lab makes namespaces and mounts, and needs root for it")


@pytest.fixture(scope="module")
def incus() -> Iterator[Incus]:
    with Incus() as running:
        yield running


def alive_in(namespace: str) -> list[int]:
    """The processes of the machine that are in a process namespace."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.readlink(entry / "ns/pid") == namespace:
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def namespace_of(incus: Incus) -> str:
    return os.readlink(f"/proc/{incus.pid}/ns/pid_for_children")


def traces() -> list[str]:
    """What is there on the machine of any incusd of the lab."""
    state = cache() / "incus" / "state"
    mounts = [line for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines() if "incus" in line]
    return [*mounts, *os.listdir(state), *(str(path) for path in (Path("/var/lib/incus"),) if path.exists())]


@needs_root
class TestIncus:
    def test_runs_a_machine_that_shows_its_text(self, incus: Incus) -> None:
        vm = incus.vm("shows", "HELLO LAB")
        assert vm.state() == "Running"
        _answer, log = incus.raw("GET", "/1.0/instances/shows/console")
        assert b"HELLO LAB" in log
        # In namespaces, by a QEMU that has no rights.
        owners = {Path(f"/proc/{pid}").stat().st_uid for pid in alive_in(namespace_of(incus))}
        assert 65534 in owners

    def test_can_do_what_tests_want_of_a_machine(self, incus: Incus) -> None:
        incus.project("other")
        vm = incus.vm("acts", "AGAIN", project="other")
        seen = [vm.state()]
        for act in (vm.freeze, vm.unfreeze, vm.stop, vm.start):
            act()
            seen.append(vm.state())
        assert seen == ["Running", "Frozen", "Running", "Stopped", "Running"]
        assert vm.folder.is_dir()

    def test_tells_a_refusal(self, incus: Incus) -> None:
        with pytest.raises(LabError, match=r"GET /1\.0/instances/none was refused: .*Instance not found"):
            incus.get("/1.0/instances/none")

    def test_stands_beside_another(self, incus: Incus) -> None:
        incus.vm("mine", start=False)
        with Incus() as other:
            assert other.get("/1.0/instances") == []
            assert namespace_of(other) != namespace_of(incus)
        assert "/1.0/instances/mine" in incus.get("/1.0/instances")

    def test_listens_on_the_loopback_only(self, incus: Incus) -> None:
        host, port = incus.listen().removeprefix("https://").split(":")
        assert host == "127.0.0.1"
        socket.create_connection((host, int(port)), 20).close()


@needs_root
class TestStop:
    def test_leaves_nothing(self) -> None:
        with Incus() as incus:
            incus.vm("left", "LEFT")
            namespace = namespace_of(incus)
            # incusd, its helpers and QEMU
            assert len(alive_in(namespace)) >= 3
            assert incus.folder.is_dir()
        assert alive_in(namespace) == []
        assert traces() == []

    def test_leaves_nothing_when_the_caller_is_killed(self) -> None:
        script = (
            "import os, signal\n"
            "from ansible_collections.kvmops.console.tests.lab.incus.incuslab import Incus\n"
            "incus = Incus()\n"
            "incus.start()\n"
            "incus.vm('orphan', 'ORPHAN')\n"
            "print(incus.pid, flush=True)\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        done = subprocess.run(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment, timeout=120, check=False
        )
        assert done.returncode == -signal.SIGKILL
        try:
            descriptor = os.pidfd_open(int(done.stdout))
        except ProcessLookupError:
            pass
        else:
            assert select.select([descriptor], [], [], 60)[0]
            os.close(descriptor)
        assert traces() == []

    def test_is_fine_twice_and_then_there_is_no_process(self) -> None:
        incus = Incus()
        incus.start()
        incus.stop()
        incus.stop()
        with pytest.raises(LabError, match="not running"):
            assert incus.pid


class TestParts:
    def test_boot_sector(self) -> None:
        sector = boot_sector("HELLO")
        assert len(sector) == 512
        assert sector[510:] == b"\x55\xaa"
        message = int.from_bytes(sector[sector.index(b"\xbe") + 1 :][:2], "little") - 0x7C00
        assert sector[message : message + 6] == b"HELLO\0"

    def test_boot_sector_holds_so_much(self) -> None:
        with pytest.raises(LabError, match="has 500 characters"):
            boot_sector("x" * 500)

    def test_a_cache_that_qemu_cannot_reach_is_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        closed = tmp_path / "closed"
        closed.mkdir(mode=0o700)
        monkeypatch.setenv("KVMOPS_CACHE", str(closed / "cache"))
        with pytest.raises(LabError, match="QEMU can't get through"):
            daemon._memory()
