# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One host of the lab, as a test sees it."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

from . import inventory, namespace, services, state
from .machine import LabError

# Go to where the caller is, where that exists inside too; then be the command.
_IN_FOLDER = 'cd "$1" 2>/dev/null || cd /; shift; exec "$@"'


class Host:
    """A host that is up. `pid` is its PID 1 as the machine counts."""

    def __init__(self, record: state.Record) -> None:
        self._record = record
        self.name = record["name"]
        self.address = record["address"]
        self.pid = record["pid"]
        self.ssh_port = services.SSH_PORT
        self.uri = services.libvirt_uri(self.pid)
        self.folder = state.folder(self.name)

    @classmethod
    def find(cls, name: str) -> Host:
        """The host of that name; LabError when it is not up."""
        record = state.read(name)
        if record is None or not record["ready"] or not state.alive(record):
            raise LabError(f"the host {name} is not up: start it with 'lab up {name}'.")
        return cls(record)

    @property
    def root(self) -> Path:
        """The host's file system, as the machine reaches it."""
        return Path(f"/proc/{self.pid}/root")

    def command(self, *words: str) -> list[str]:
        """The words that run a command inside, in the current folder where that exists."""
        if not words:
            raise LabError("no command was named.")
        return [*namespace.enter(self.pid), "/bin/sh", "-c", _IN_FOLDER, "sh", os.getcwd(), *words]

    def environment(self, extra: Optional[Mapping[str, str]] = None) -> dict[str, str]:
        """The environment for command(): the caller's, with the host's home."""
        return {**os.environ, "HOME": services.HOME, **(extra or {})}

    def exec(
        self,
        *words: str,
        stdin: str = "",
        check: bool = True,
        seconds: float = 120,
        env: Optional[Mapping[str, str]] = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside; its output comes as text. With `check`, a failure is a LabError with its last words."""
        try:
            done = subprocess.run(
                self.command(*words),
                input=stdin,
                capture_output=True,
                text=True,
                encoding="utf-8",
                timeout=seconds,
                env=self.environment(env),
                check=False,
            )
        except subprocess.TimeoutExpired:
            sentence = f"'{' '.join(words)}' did not end within {seconds:g} seconds on {self.name}."
            raise LabError(sentence) from None
        if check and done.returncode:
            raise LabError(f"'{' '.join(words)}' failed on {self.name} ({done.returncode}): {done.stderr.strip()}")
        return done

    def virsh(self, *words: str, stdin: str = "", check: bool = True) -> str:
        """Run virsh inside; returns what it printed, in English."""
        command = ("virsh", "--quiet", "--connect", "qemu:///system", *words)
        return self.exec(*command, stdin=stdin, check=check, env={"LC_ALL": "C.UTF-8"}).stdout.strip()

    def processes(self) -> list[tuple[int, str]]:
        """The host's processes: PID as the machine counts, and name."""
        return namespace.processes(self.pid)

    def libvirtd(self, action: str) -> None:
        """'start', 'stop', 'kill' (-9) or 'restart' the host's libvirtd; returns when that is done."""
        if action not in ("start", "stop", "kill", "restart"):
            raise LabError(f"libvirtd can't {action!r}: it is start, stop, kill or restart.")
        if action != "start":
            services.end_libvirtd(self._record, signal.SIGKILL if action == "kill" else signal.SIGTERM)
        if action in ("start", "restart"):
            services.start_libvirtd(self._record)

    def sshd(self, action: str) -> None:
        """'start' or 'stop' the host's sshd; returns when that is done."""
        if action not in ("start", "stop"):
            raise LabError(f"sshd can't {action!r}: it is start or stop.")
        if action == "stop":
            inventory.close_connections(self.name)
            services.end_sshd(self._record)
        else:
            services.start_sshd(self._record)

    def variables(self) -> dict[str, str]:
        """What an Ansible inventory says of it."""
        return inventory.variables(self._record)

    def libvirtd_pid(self) -> Optional[int]:
        """The PID of libvirtd as the machine counts, or None."""
        return next(iter(services.running(self.pid, "libvirtd")), None)

    def inventory(self) -> str:
        """An Ansible inventory (YAML) of this host alone."""
        return inventory.text([self._record])

    def summary(self) -> dict[str, object]:
        """What `lab list` says of it."""
        return {
            "name": self.name,
            "state": "up" if self._record["ready"] else "starting",
            "pid": self.pid,
            "address": self.address,
            "ssh_port": self.ssh_port,
            "uri": self.uri,
            "libvirtd": self.libvirtd_pid(),
            "folder": str(self.folder),
        }
