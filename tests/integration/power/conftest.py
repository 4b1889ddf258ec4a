# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Guests that obey, guests that do not, and somebody who looks at them."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, Optional

import pytest

from ansible_collections.kvmops.console.tests.lab.kvmlab import FIXED_QEMU

SECONDS = 120.0
"""The bound of every wait: ten times what the slowest takes on a busy machine."""

READY = "/var/lib/libvirt/qemu/ready-{}"

VIEWER = """
import socket, sys
at = sys.argv[1]
family, address = (socket.AF_UNIX, at) if "/" in at else (socket.AF_INET, ("127.0.0.1", int(at)))
with socket.socket(family) as viewer:
    viewer.connect(address)
    viewer.recv(12, socket.MSG_WAITALL)
    viewer.send(b"RFB 003.008\\n")
    viewer.recv(2, socket.MSG_WAITALL)
    viewer.send(b"\\x01")
    viewer.recv(4, socket.MSG_WAITALL)
    viewer.send(b"\\x01")
    viewer.recv(24, socket.MSG_WAITALL)
    print("looking", flush=True)
    sys.stdin.read()
"""


class Guests:
    """Makes guests on a host of the lab, and knows their processes."""

    def __init__(self, hypervisor: Any) -> None:
        self.hypervisor = hypervisor
        self.host = hypervisor.host

    def deaf(self, name: str, *, emulator: str = FIXED_QEMU, **what: Any) -> Any:
        """One that stands in its firmware and hears no button."""
        return self.hypervisor.put(name, emulator=emulator, running=True, **what)

    def linux(self, *names: str, wait: bool = True, emulator: str = FIXED_QEMU, **what: Any) -> None:
        """Some that hear the ACPI button, as soon as they have booted."""
        for name in names:
            serial = f'<serial type="file"><source path="{READY.format(name)}"/></serial>'
            self.hypervisor.put(name, emulator=emulator, guest=True, serial=serial, running=True, **what)
        for name in names:
            if wait:
                self.until_ready(name)

    def until_ready(self, name: str) -> None:
        path = self.host.root / READY.format(name)[1:]
        self.until(lambda: path.exists() and "LAB GUEST READY" in path.read_text(errors="replace"), f"{name} to boot")

    @staticmethod
    def until(happens: Any, what: str) -> None:
        end = time.monotonic() + SECONDS
        while not happens():
            assert time.monotonic() < end, f"waited too long for {what}"
            time.sleep(0.02)

    def pid(self, name: str) -> str:
        """The pid of its QEMU, as the host counts."""
        return str((self.host.root / f"run/libvirt/qemu/{name}.pid").read_text().strip())

    def signal(self, name: str, which: str) -> None:
        self.host.exec("kill", f"-{which}", self.pid(name))

    def power(self, *names: str, check: bool = False, diff: bool = False, **arguments: Any) -> dict[str, Any]:
        """The module's result."""
        return dict(self.hypervisor.module("domain_power", check=check, diff=diff, domains=list(names), **arguments))

    def one(self, name: str, **arguments: Any) -> dict[str, Any]:
        """The module's record of one domain."""
        result = self.power(name, **arguments)
        assert [record["name"] for record in result["domains"]] == [name], result
        return dict(result["domains"][0])

    def state(self, name: str) -> str:
        return str(self.host.virsh("domstate", name))

    def look(self, at: str) -> subprocess.Popen[str]:
        """A viewer, at a port or a socket; it looks until its standard input ends."""
        viewer = subprocess.Popen(
            self.host.command(sys.executable, "-c", VIEWER, at),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert viewer.stdout is not None
        if viewer.stdout.readline() != "looking\n":
            raise AssertionError(f"nothing to look at: {viewer.communicate()[1]}")
        return viewer


def leave(viewer: subprocess.Popen[str]) -> None:
    viewer.communicate(timeout=SECONDS)


@pytest.fixture
def guests(hypervisor: Any) -> Iterator[Guests]:
    guests = Guests(hypervisor)
    yield guests
    for name in hypervisor.host.virsh("list", "--name").split():
        with contextlib.suppress(FileNotFoundError):  # It has just ended
            guests.signal(name, "CONT")


def steps(record: dict[str, Any]) -> list[tuple[str, str]]:
    return [(step["method"], step["outcome"]) for step in record["steps"]]


@pytest.fixture(name="steps")
def _steps() -> Any:
    return steps


@pytest.fixture(name="leave")
def _leave() -> Any:
    return leave


@pytest.fixture(name="error")
def _error() -> Any:
    def error(record: dict[str, Any]) -> Optional[str]:
        return record.get("error")

    return error
