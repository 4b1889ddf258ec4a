# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The virtual environments that the gates run in: in the cache, keyed by what goes into them."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

from . import host

REQUIREMENTS = host.REPOSITORY / "tests/tools/requirements"
UNIT_REQUIREMENTS = host.REPOSITORY / "tests/unit/requirements.txt"
ANSIBLE_TEST = (UNIT_REQUIREMENTS, REQUIREMENTS / "ansible-test.txt")
DONE = "complete"
KEPT_DAYS = 14

_failed: dict[Path, str] = {}
"""What could not be made in this run: every gate that needs it would wait for the same time-outs."""

CORES = (
    ("2.17", (3, 10), (3, 12)),
    ("2.18", (3, 11), (3, 13)),
    ("2.19", (3, 11), (3, 13)),
    ("2.20", (3, 12), (3, 14)),
    ("2.21", (3, 12), (3, 14)),
)
"""ansible-core releases that are supported, with the oldest and newest Python that their controller side runs on."""


class Environment(NamedTuple):
    """A virtual environment to make; `python` is the interpreter, `wants` are pip's arguments."""

    name: str
    python: str
    files: tuple[Path, ...] = ()
    packages: tuple[str, ...] = ()
    system: bool = False


SYSTEM_PYTHON = "/usr/bin/python3"


class Core(NamedTuple):
    """An ansible-core release on one interpreter."""

    version: str
    python: tuple[int, int]


def cores() -> tuple[Core, Core]:
    """The oldest and the newest ansible-core that this machine's interpreters can run."""
    here = sorted(host.interpreters())
    usable = [
        (version, [python for python in here if first <= python <= last])
        for version, first, last in CORES
        if any(first <= python <= last for python in here)
    ]
    if not usable:
        raise host.Missing("ansible-core needs Python 3.10 to 3.14: install one of them.")
    oldest, newest = usable[0], usable[-1]
    return Core(oldest[0], oldest[1][0]), Core(newest[0], newest[1][-1])


def oldest_python(which: Core) -> tuple[int, int]:
    """The oldest Python that a core's controller side runs on."""
    return next(first for version, first, _last in CORES if version == which.version)


def core(which: Core) -> Environment:
    """An ansible-core with what unit tests need."""
    python = host.interpreters()[which.python]
    return Environment(f"core-{which.version}", python, ANSIBLE_TEST, (f"ansible-core~={which.version}.0",))


def target(version: tuple[int, int]) -> Environment:
    """A Python of a managed host: what unit tests need, without ansible-core."""
    return Environment(f"target-{version[0]}.{version[1]}", host.interpreters()[version], ANSIBLE_TEST)


def lint() -> Environment:
    """Linters, with the newest ansible-core."""
    newest = cores()[1]
    files = (REQUIREMENTS / "lint.txt", REQUIREMENTS / "live.txt", UNIT_REQUIREMENTS)
    return Environment("lint", host.interpreters()[newest.python], files, (f"ansible-core~={newest.version}.0",))


def fuzz() -> Environment:
    """What `make fuzz` needs, on the newest Python that atheris has wheels for."""
    usable = [version for version in host.interpreters() if (3, 11) <= version <= (3, 13)]
    if not usable:
        raise host.Missing("atheris needs Python 3.11 to 3.13: install one of them.")
    return Environment("fuzz", host.interpreters()[max(usable)], (REQUIREMENTS / "fuzz.txt", UNIT_REQUIREMENTS))


def galaxy() -> Environment:
    """galaxy-importer."""
    newest = cores()[1]
    files = (REQUIREMENTS / "galaxy.txt",)
    return Environment("galaxy", host.interpreters()[newest.python], files, (f"ansible-core~={newest.version}.0",))


def system_python() -> tuple[int, int]:
    """The version of the system's Python."""
    probe = "import sys; print(*sys.version_info[:2])"
    words = subprocess.run([SYSTEM_PYTHON, "-c", probe], capture_output=True, text=True, check=True).stdout.split()
    return int(words[0]), int(words[1])


def live() -> Environment:
    """The system's Python with its libvirt and lxml bindings, and ansible-core beside them."""
    system = system_python()
    versions = [version for version, first, last in CORES if first <= system <= last]
    if not versions:
        raise host.Missing(f"No supported ansible-core runs on this system's Python {system[0]}.{system[1]}.")
    files = (REQUIREMENTS / "live.txt", UNIT_REQUIREMENTS)
    return Environment("live", SYSTEM_PYTHON, files, (f"ansible-core~={versions[-1]}.0",), system=True)


def _key(environment: Environment) -> str:
    parts = [environment.python, str(environment.system), *environment.packages]
    parts += [file.read_text(encoding="utf-8") for file in environment.files]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def _prune(folder: Path, now: float) -> None:
    for path in folder.iterdir():
        mark = path / DONE
        used = mark.stat().st_mtime if mark.exists() else path.stat().st_mtime
        if now - used > KEPT_DAYS * 86400:
            shutil.rmtree(path, ignore_errors=True)


def make(environment: Environment) -> Path:
    """The environment's folder, made if it is not there yet.

    A folder without the mark was left half made and is made again. Raises Missing when pip cannot.
    """
    folder = host.cache() / "venvs" / f"{environment.name}-{_key(environment)}"
    mark = folder / DONE
    if folder in _failed:
        raise host.Missing(_failed[folder])
    with host.lock(f"venv-{environment.name}"):
        if mark.exists():
            mark.touch()
            return folder
        host.say(f"making the {environment.name} environment in {folder.parent}")
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(exist_ok=True)
        _prune(folder.parent, time.time())
        wants = [*environment.packages]
        for file in environment.files:
            wants += ["--requirement", str(file)]
        steps = [
            [
                environment.python,
                "-m",
                "venv",
                *(["--system-site-packages"] if environment.system else []),
                str(folder),
            ],
            [
                str(folder / "bin/python"),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--no-compile",
                "--disable-pip-version-check",
                *wants,
            ],
        ]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        clean["PYTHONNOUSERSITE"] = "1"
        for step in steps:
            done = subprocess.run(
                step,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                env=clean,
                check=False,
            )
            if done.returncode:
                _failed[folder] = f"The {environment.name} environment could not be made, see above."
                raise host.Missing(f"The {environment.name} environment could not be made:\n{done.stdout}")
        mark.touch()
    return folder
