# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What many guests cost that are switched at once: one connection to libvirtd, and no thread for each."""

from __future__ import annotations

import os
import socket
import stat
import threading
from typing import Any

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _domain_power, _libvirt, _power
from ansible_collections.kvmops.console.plugins.module_utils._domain_power import EventLoop, Job, Switchboard
from ansible_collections.kvmops.console.plugins.module_utils._power import Method, Power

GUESTS = 6


def connections() -> set[int]:
    """This process's, to libvirtd, by the numbers of their sockets: those of tests before may end at any time."""
    found = map(_socket_to_libvirtd, map(int, os.listdir("/proc/self/fd")))
    return {number for number in found if number is not None}


def _socket_to_libvirtd(descriptor: int) -> int | None:
    try:
        told = os.fstat(descriptor)
        if not stat.S_ISSOCK(told.st_mode):
            return None
        with socket.socket(fileno=os.dup(descriptor)) as other:
            leads_there = other.family == socket.AF_UNIX and str(other.getpeername()).endswith("/libvirt-sock")
            return told.st_ino if leads_there else None
    except OSError:
        return None  # the one that listed them, or one that was not connected


def test_one_connection_and_few_threads(guests: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"deaf-{number}" for number in range(GUESTS)]
    for name in names:
        guests.deaf(name)
    seen: list[tuple[set[int], int]] = []
    all_asked = threading.Event()
    ask = _domain_power._ask

    def asked(domain: Any, method: str, state: str) -> None:
        ask(domain, method, state)
        seen.append((connections(), len(os.listdir("/proc/self/task"))))
        if len(seen) == GUESTS:
            all_asked.set()

    monkeypatch.setattr(_domain_power, "_ask", asked)
    # A machine may be so busy that libvirtd's answer takes longer than a QEMU that hangs is given.
    monkeypatch.setattr(_domain_power, "SLOW", 60.0)
    EventLoop.prepare()
    others = connections()
    with _libvirt.connect(guests.hypervisor.uri) as connection:
        jobs = [Job(domain, Power(_power.STOPPED, [Method("acpi", 100.0)])) for domain in connection.domains()]
        with Switchboard(connection, 50) as board:
            threads = len(os.listdir("/proc/self/task"))
            running = threading.Thread(target=board.run, args=(jobs,))
            running.start()
            assert all_asked.wait(100)
            guests.until(
                lambda: len(os.listdir("/proc/self/task")) == threads + 1, "all to be waited for by one thread"
            )
            seen.append((connections(), threads + 1))
            for name in names:
                guests.host.virsh("destroy", name)
            running.join(100)
            assert not running.is_alive()
    assert {job.done.ok for job in jobs if job.done} == {True}
    assert {len(found - others) for found, _threads in seen} == {1}
    assert max(number for _connections, number in seen) - threads <= 3, "who decides, who asks, and who asked before"
