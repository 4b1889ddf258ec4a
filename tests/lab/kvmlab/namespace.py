# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host's namespaces, from outside: begin them, look into them, run something in them, end them."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from . import state
from .machine import PYTHON, LabError, environment

_INIT = Path(__file__).with_name("init.py")


class Beginning:
    """A PID 1 that exists and waits to be told what it is the first process of."""

    def __init__(self, pid: int, line: TextIO) -> None:
        self.pid = pid
        self._line = line

    def describe(self, description: dict[str, Any]) -> None:
        """Make a host of it; returns when its mounts, files and network are there."""
        self._line.write(json.dumps(description) + "\n")
        self._line.flush()
        answer = _answer(self._line)
        if "ready" not in answer:
            raise LabError(f"the host {description['name']} can't be made: {answer['error']}")


def _answer(line: TextIO) -> dict[str, Any]:
    text = line.readline()
    if not text:
        return {"error": "its first process ended without a word."}
    answer: dict[str, Any] = json.loads(text)
    return answer


@contextlib.contextmanager
def begin(name: str, log: Path) -> Iterator[Beginning]:
    """New namespaces with a PID 1. Left before describe() has returned, they end again by themselves."""
    ours, theirs = socket.socketpair()
    with ours, ours.makefile("rw", encoding="utf-8") as line:
        ours.settimeout(60)
        with theirs, open(log, "ab") as output:
            launcher = subprocess.Popen(
                [PYTHON, "-I", str(_INIT), name, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=[theirs.fileno()],
                env=environment(),
                start_new_session=True,
            )
        try:
            answer = _answer(line)
        finally:
            launcher.wait()
        if "pid" not in answer:
            raise LabError(f"the host {name} can't be made: {answer['error']}")
        yield Beginning(answer["pid"], line)


def enter(pid: int) -> list[str]:
    """The words that run a command in the namespaces of `pid`."""
    return ["/usr/bin/nsenter", f"--target={pid}", "--mount", "--uts", "--ipc", "--net", "--pid", "--"]


def processes(pid: int) -> list[tuple[int, str]]:
    """The processes in the PID namespace of `pid`, as the machine counts them, with their names."""
    try:
        wanted = os.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return []
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.readlink(entry / "ns/pid") == wanted and state.started(int(entry.name)) is not None:
                    found.append((int(entry.name), (entry / "comm").read_text(encoding="utf-8").rstrip("\n")))
    return found


def end(pid: int, number: signal.Signals = signal.SIGKILL, seconds: float = 30) -> None:
    """Send a signal to a process, and wait until it is gone."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(descriptor, number)
        if not select.select([descriptor], [], [], seconds)[0]:
            raise LabError(f"process {pid} has not ended {seconds:g} seconds after {number.name}.")
    finally:
        os.close(descriptor)
