# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests of noVNC share: machines, and noVNC served to the browser."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmops.console.tests.browser.novnc.machine import Machine, Websockify
from ansible_collections.kvmops.console.tests.lab.kvmlab.build import QEMU, build
from ansible_collections.kvmops.console.tests.lab.kvmlab.domains import FIXED_QEMU
from ansible_collections.kvmops.console.tests.lab.kvmlab.machine import cache

RUN_MODULE = Path(__file__).resolve().parents[2] / "integration/run_module.py"

Start = Callable[..., Machine]
Serve = Callable[[Path, Machine], str]
Module = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def programs() -> dict[str, str]:
    """An affected QEMU and a fixed one."""
    build()
    return {"affected": os.fspath(cache() / QEMU / "bin/qemu-system-x86_64"), "fixed": FIXED_QEMU}


@pytest.fixture
def start(programs: dict[str, str]) -> Iterator[Start]:
    """Start a machine, on an affected QEMU or a fixed one."""
    machines: list[Machine] = []
    # A socket's path has to be short.
    folder = Path(tempfile.mkdtemp(prefix="kvmops-novnc-", dir="/tmp"))

    def start(kind: str, *options: str) -> Machine:
        place = folder / str(len(machines))
        place.mkdir()
        machines.append(Machine(programs[kind], place, *options))
        return machines[-1]

    yield start
    for machine in machines:
        machine.end()
    shutil.rmtree(folder)


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Serve a noVNC with websockify's own web server, in front of a machine; its address."""
    running: list[Websockify] = []

    def serve(folder: Path, machine: Machine) -> str:
        running.append(Websockify(folder, machine.vnc))
        return f"http://127.0.0.1:{running[-1].port}"

    yield serve
    for one in running:
        one.end()


@pytest.fixture
def module(tmp_path: Path) -> Module:
    """Run a module of the collection, as Ansible's wrapper does."""

    def module(name: str, *, check: bool = False, diff: bool = False, **arguments: Any) -> dict[str, Any]:
        if name == "novnc_patch":
            arguments.setdefault("backup_dir", os.fspath(tmp_path / "originals"))
        done = subprocess.run(
            [sys.executable, "-B", os.fspath(RUN_MODULE), name, str(int(check)), str(int(diff))],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            input=json.dumps(arguments),
            capture_output=True,
            text=True,
            check=False,
        )
        assert not done.stderr, done.stderr
        return dict(json.loads(done.stdout))

    return module
