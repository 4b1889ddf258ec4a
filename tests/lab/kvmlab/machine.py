# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the lab asks of the machine: commands, paths, packages, and the words for what is missing."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

# The system's own tools, whatever somebody put in front of them.
TOOLS = "/usr/sbin:/usr/bin:/sbin:/bin"
PYTHON = "/usr/bin/python3"
FOLDER = Path(__file__).resolve().parent.parent


class LabError(Exception):
    """The lab can't do what was asked; str() is one sentence (and the end of a log, where there is one)."""


def cache() -> Path:
    """Where built things are kept between runs: never in the repository."""
    return Path(os.environ.get("KVMOPS_CACHE") or "/var/cache/kvmops-console")


def environment(extra: Optional[Mapping[str, str]] = None) -> dict[str, str]:
    """The environment of the lab's own commands: the system's tools, English words, nobody's Python."""
    return {"PATH": TOOLS, "HOME": "/", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", **(extra or {})}


def run(*command: str, stdin: str = "", seconds: float = 60) -> str:
    """Run a tool of the system; return what it printed, or raise LabError with its last words."""
    try:
        done = subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            env=environment(),
            check=False,
        )
    except FileNotFoundError:
        raise LabError(f"{command[0]} is not installed: run '{FOLDER / 'lab'} build' first.") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"'{shlex.join(command)}' did not end within {seconds:g} seconds.") from None
    if done.returncode:
        words = (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}").splitlines()
        raise LabError(f"'{shlex.join(command)}' failed: {words[0] if len(words) == 1 else ' / '.join(words[-3:])}")
    return done.stdout


def tail(log: Path, lines: int = 15) -> str:
    """The end of a log, to stand under a sentence about it; empty when there is none."""
    try:
        text = log.read_text(encoding="utf-8", errors="replace").rstrip()
    except OSError:
        return ""
    return "".join(f"\n  {line}" for line in text.splitlines()[-lines:])
