# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a gate is, and what it leaves behind.

A gate is a name, the groups it belongs to, the lane it runs in, and a function. The function gets a Job and returns an
Outcome. Two lanes run side by side: the one with the lab's hosts and its waits, and the one with the rest. A gate of
the static lane shares nothing with any other but what is locked.
"""

from __future__ import annotations

import os
import signal
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Optional

from . import host, tree, venvs

STATIC, LIVE = "static", "live"
DROPPED = ("PYTHON", "ANSIBLE", "VIRTUAL_ENV", "GIT_", "MAKE", "MFLAGS", "FORCE_COLOR", "CLICOLOR")
SYSTEM_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
NO_TESTS_RAN = 5
"""pytest's exit status."""


class Outcome(NamedTuple):
    """Counts of what passed, failed and was skipped, with the reason of each skip; `failed` > 0 fails the run."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    reasons: tuple[str, ...] = ()


class Failed(Exception):
    """A gate found something; `str()` of it is shown."""


def bare_environment(base: Path, *path: Path) -> dict[str, str]:
    """Nothing of the caller's Python or Ansible settings, a home in the cache, and the collection below `base`."""
    home = host.cache() / "home"
    home.mkdir(exist_ok=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(DROPPED)}
    return {
        **kept,
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "NO_COLOR": "1",
        "TERM": "dumb",
        "PYTHONNOUSERSITE": "1",
        "PATH": ":".join([*map(str, path), *SYSTEM_PATH]),
        "ANSIBLE_COLLECTIONS_PATH": str(base),
        "KVMOPS_CACHE": str(host.cache()),
    }


class Job:
    """A running gate: its scratch folder, its log, and how it runs commands."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.log = folder / "log"
        self._tree: Optional[Path] = None
        self._running: Optional[subprocess.Popen[bytes]] = None
        folder.mkdir(parents=True)
        self.log.touch()

    def tree(self) -> Path:
        """The collection, copied where Ansible wants it, for this gate alone."""
        if self._tree is None:
            self._tree = tree.copy(self.folder)
        return self._tree

    def venv(self, environment: venvs.Environment) -> Path:
        """The environment's bin folder."""
        return venvs.make(environment) / "bin"

    def write(self, text: str) -> None:
        """Add to the log, which is shown when the gate fails."""
        with open(self.log, "a", encoding="utf-8") as log:
            log.write(text.rstrip() + "\n")

    def environment(self, *path: Path, **extra: str) -> dict[str, str]:
        """A bare environment in which the collection is this gate's copy."""
        return {**bare_environment(self.folder, *path), **extra}

    def run(self, command: list[str], *, cwd: Path, env: dict[str, str], seconds: int = 900) -> int:
        """Run a command into the log and return its exit status; past `seconds` it and its children are killed."""
        self.write("$ " + " ".join(command))
        with open(self.log, "ab") as log:
            self._running = subprocess.Popen(
                command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
            try:
                status = self._running.wait(seconds)
            except subprocess.TimeoutExpired:
                self.stop()
                raise Failed(f"{command[0]} did not end within {seconds} s and was killed.") from None
            finally:
                self._running = None
        return status

    def check(self, command: list[str], *, cwd: Path, env: dict[str, str], seconds: int = 900) -> None:
        """Run a command; raise Failed unless it ends well."""
        status = self.run(command, cwd=cwd, env=env, seconds=seconds)
        if status:
            raise Failed(f"{Path(command[0]).name} ended with status {status}.")

    def stop(self) -> None:
        """Kill the command that runs, with all it started: first as Ctrl-C does, so that pytest takes its lab down."""
        running = self._running
        if running is None or running.poll() is not None:
            return
        os.killpg(running.pid, signal.SIGINT)
        try:
            running.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()


class Gate(NamedTuple):
    """A check with a name."""

    name: str
    groups: tuple[str, ...]
    lane: str
    run: Callable[[Job], Outcome]


def _reason(skip: ET.Element) -> str:
    """Why a test was skipped; for a whole file, pytest hides that in the text: ('FILE', LINE, 'Skipped: WHY')."""
    message = skip.get("message") or "no reason given"
    if message != "collection skipped":
        return message
    return (skip.text or message).rpartition("Skipped: ")[2].rstrip("')\"")


def count(reports: list[Path]) -> Outcome:
    """Add up JUnit reports."""
    passed = failed = 0
    reasons: list[str] = []
    for report in reports:
        for case in ET.parse(report).iter("testcase"):
            skip = case.find("skipped")
            if case.find("failure") is not None or case.find("error") is not None:
                failed += 1
            elif skip is not None:
                reasons.append(_reason(skip))
            else:
                passed += 1
    return Outcome(passed, failed, len(reasons), tuple(reasons))


def judge(status: int, counted: Outcome) -> Outcome:
    """A test run that ended badly, or ran nothing, has failed, whatever it counted."""
    if status == NO_TESTS_RAN or counted.passed + counted.failed + counted.skipped == 0:
        raise Failed("No test ran.")
    if status and not counted.failed:
        raise Failed(f"The tests ended with status {status}, though none of them failed.")
    return counted
