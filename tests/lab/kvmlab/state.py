# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The state of the lab on this machine: one folder, one lock, one record a host."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Optional, TypedDict

from .machine import LabError

ROOT = Path("/run/kvmops-lab")
# A host's name is a folder's here, and other files' names have a dot or an underscore in them.
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,40}[a-z0-9])?")


class Record(TypedDict):
    """What is known of one host. `started` is /proc's start time: with it, a PID can't be taken for another's."""

    name: str
    number: int
    address: str
    pid: int
    started: int
    ready: bool


def folder(name: str) -> Path:
    """A host's own folder."""
    if not _NAME.fullmatch(name):
        raise LabError(f"{name!r} can't be a host's name: use lower-case letters, digits and hyphens.")
    return ROOT / name


def read(name: str) -> Optional[Record]:
    """The record of a host, or None."""
    try:
        text = (folder(name) / "host.json").read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    record: Record = json.loads(text)
    return record


def write(record: Record) -> None:
    """Keep a record; readers see the old one or the new one."""
    write_json(folder(record["name"]) / "host.json", record)


def write_json(path: Path, value: object) -> None:
    """Write a file that appears at once."""
    aside = path.with_name(path.name + ".new")
    aside.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    aside.replace(path)


def names() -> list[str]:
    """Every host that has a folder, up or not."""
    if not ROOT.is_dir():
        return []
    return sorted(entry.name for entry in ROOT.iterdir() if entry.is_dir() and _NAME.fullmatch(entry.name))


def forget(name: str) -> None:
    """Remove a host's folder."""
    shutil.rmtree(folder(name), ignore_errors=True)


def started(pid: int) -> Optional[int]:
    """The start time of a process that runs, in ticks since the machine's start; None for none, or a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # proc(5): the third field of all, the first here, is the state; the 22nd is the start time
    return None if fields[0] in "ZX" else int(fields[19])


def alive(record: Record) -> bool:
    """Whether the host's PID 1 runs."""
    return started(record["pid"]) == record["started"]


def _try_lock() -> Optional[int]:
    """Lock the lab's folder; None while somebody else has it."""
    while True:
        ROOT.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(ROOT, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The one who had the lock before may have removed the folder with it.
            if os.fstat(descriptor).st_ino == ROOT.stat().st_ino:
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass
        os.close(descriptor)


@contextlib.contextmanager
def locked(seconds: float) -> Iterator[None]:
    """Be the only one who changes the lab; wait so long for it. An empty folder is removed at the end."""
    holder = ROOT / "holder.pid"
    until = time.monotonic() + seconds
    while (descriptor := _try_lock()) is None:
        if time.monotonic() >= until:
            pid = holder.read_text(encoding="utf-8").strip() if holder.exists() else "unknown"
            raise LabError(f"another lab command is at work (process {pid}): try again when it has ended.")
        time.sleep(0.1)
    try:
        holder.write_text(f"{os.getpid()}\n", encoding="utf-8")
        yield
    finally:
        holder.unlink()
        with contextlib.suppress(OSError):
            ROOT.rmdir()
        os.close(descriptor)
