# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""QEMUs of their own to be switched: with two monitors, VNC, and the lab's Linux guest where one has to listen."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

from ansible_collections.kvmops.console.plugins.module_utils import _qmp
from ansible_collections.kvmops.console.tests.lab.kvmlab.build import QEMU, build
from ansible_collections.kvmops.console.tests.lab.kvmlab.domains import FIXED_QEMU, GUEST_ARGUMENTS
from ansible_collections.kvmops.console.tests.lab.kvmlab.machine import cache

SECONDS = 120.0
POWER_EVENTS = ("RESET", "POWERDOWN", "SHUTDOWN", "STOP", "RESUME")
READY = "LAB GUEST READY"


def programs() -> dict[str, str]:
    """The affected QEMU, and the distribution's, which is fixed; both are there afterwards, and the guest is."""
    build()
    return {"affected": os.fspath(cache() / QEMU / "bin/qemu-system-x86_64"), "fixed": FIXED_QEMU}


class Machine:
    """A QEMU that runs meanwhile: `qmp` for a module, `vnc` its VNC server's socket; a monitor of its own watches it.

    Without `linux` its guest is the firmware, which finds nothing to boot and does not listen to anybody.
    """

    def __init__(self, program: str, *options: str, linux: bool = False, vnc: str = "power-control=on") -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="kvmops-power-", dir="/tmp"))
        self.qmp = os.fspath(self._folder / "web-1.qmp")
        self.vnc = os.fspath(self._folder / "v")
        watch = os.fspath(self._folder / "watch")
        ours, theirs = socket.socketpair()
        ours.settimeout(2 * SECONDS)
        with contextlib.ExitStack() as handed:
            handed.enter_context(theirs)
            listeners = [handed.enter_context(_listener(path)) for path in (self.qmp, watch)]
            words = [program, "-accel", "tcg", "-display", "none", "-nic", "none", "-name", "web-1"]
            words += ["-chardev", f"socket,id=s,fd={theirs.fileno()}", "-serial", "chardev:s"]
            for name, listener in zip(("q", "w"), listeners):
                words += ["-chardev", f"socket,id={name},fd={listener.fileno()},server=on,wait=off"]
                words += ["-mon", f"chardev={name},mode=control"]
            words += ["-vnc", f"unix:{self.vnc},{vnc}", *(_guest() if linux else ("-m", "32")), *options]
            numbers = [theirs.fileno(), *(listener.fileno() for listener in listeners)]
            self.process = subprocess.Popen(words, pass_fds=numbers, stdin=subprocess.DEVNULL)
        self._serial = ours
        self._lines = ours.makefile("r", errors="replace")
        self._stack = contextlib.ExitStack()
        try:
            self.watch = self._stack.enter_context(_qmp.connect(watch, SECONDS))
        except BaseException:
            self.end()
            raise

    def booted(self) -> None:
        """Return when Linux says so; once more after it has rebooted."""
        for line in self._lines:
            if READY in line:
                return
        raise AssertionError("the guest went away before it was ready")

    def event(self, name: str) -> dict[str, Any]:
        """What the next event of this name says."""
        event = self.watch.wait_event({name}, SECONDS)
        assert event is not None, f"no {name}"
        return event.data

    def events(self) -> list[str]:
        """The names of what has been done to it until now, since the last time."""
        self.watch.execute("query-status")
        found: list[str] = []
        while True:
            event = self.watch.wait_event(POWER_EVENTS, 0.05)
            if event is None:
                return found
            found.append(event.name)

    def ended(self) -> int:
        """Its exit status, once it has ended."""
        return self.process.wait(SECONDS)

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        self._stack.close()
        self._lines.close()
        self._serial.close()
        shutil.rmtree(self._folder)


def _listener(path: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen(16)
    return listener


def _guest() -> tuple[str, ...]:
    guest = cache() / "guest"
    return (
        *("-m", "256", "-kernel", os.fspath(guest / "vmlinuz"), "-initrd", os.fspath(guest / "initrd.gz")),
        *("-append", GUEST_ARGUMENTS),
    )


@contextlib.contextmanager
def machine(program: str, *options: str, linux: bool = False, vnc: Optional[str] = None) -> Iterator[Machine]:
    """A machine, ended and reaped at the end; Linux has booted."""
    made = Machine(program, *options, linux=linux, **({} if vnc is None else {"vnc": vnc}))
    try:
        if linux:
            made.booted()
        yield made
    finally:
        made.end()
