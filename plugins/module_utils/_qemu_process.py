# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The QEMU process of a running domain, as /proc shows it: which image it runs, and how it was started.

Private to this collection.

Nothing is asked of the guest or of QEMU's monitor (a monitor command of ours would taint the domain).
"""

from __future__ import annotations

import filecmp
import os
import re
import typing as t
from pathlib import Path
from urllib.parse import parse_qs, urlsplit


class QemuProcess(t.NamedTuple):
    """`image` can be read and executed even when its file was replaced; `path` is the name it had (without "
    (deleted)").
    """

    pid: int
    image: str
    path: str
    arguments: list[str]

    def vnc_options(self) -> list[dict[str, str]]:
        """The options of each `-vnc`, in order: {"password": "on", "power-control": "on", ...}."""
        values = [value for option, value in zip(self.arguments, self.arguments[1:]) if option in ("-vnc", "--vnc")]
        return [_options(value) for value in values]

    def power_control(self) -> list[str | None]:
        """Of each VNC server: "yes", "no", or None where QEMU was told nothing (which is off)."""
        words = {"on": "yes", "yes": "yes", "off": "no", "no": "no"}
        return [words.get(options.get("power-control", "")) for options in self.vnc_options()]

    def runs(self, installed: str) -> bool:
        """Whether the process runs the very file `installed`, or one with the same content.

        What a script would start is not known, and would never be that file: it is taken to start what runs.
        """
        try:
            return (
                os.path.samefile(self.image, installed)
                or _is_script(installed)
                or filecmp.cmp(self.image, installed, shallow=False)
            )
        except OSError:
            return False


def _is_script(path: str) -> bool:
    with open(path, "rb") as file:
        return file.read(2) == b"#!"


def _options(value: str) -> dict[str, str]:
    """QEMU's option syntax: a first word, then key=value, separated by commas; a doubled comma is a comma."""
    parts = [part.replace("\0", ",") for part in value.replace(",,", "\0").split(",")]
    pairs = (part.partition("=") for part in parts[1:])
    return {key: setting if equals else "on" for key, equals, setting in pairs}


def pid_directories(uri: str) -> list[Path]:
    """Where the libvirt of `uri` keeps its pid files. Only its own folders: a pid from elsewhere could be anybody's
    process.
    """
    parts = urlsplit(uri)
    if parts.path == "/session":
        runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        return [Path(runtime, "libvirt/qemu/run"), Path(cache, "libvirt/qemu/run")]
    if parts.path == "/embed":
        return [Path(root, "run/qemu") for root in parse_qs(parts.query).get("root", [])]
    return [Path("/run/libvirt/qemu"), Path("/var/run/libvirt/qemu")]


def find(uri: str, name: str, uuid: str, proc: Path = Path("/proc")) -> QemuProcess | None:
    """The process of the domain; None where it cannot be seen (no right to, or not on this machine)."""
    for directory in pid_directories(uri):
        process = _read(directory / f"{name}.pid", uuid, proc)
        if process is not None:
            return process
    return None


def _read(pid_file: Path, uuid: str, proc: Path) -> QemuProcess | None:
    try:
        pid = int(pid_file.read_text())
        arguments = (proc / str(pid) / "cmdline").read_bytes().decode(errors="surrogateescape").split("\0")[:-1]
        image = str(proc / str(pid) / "exe")
        path = os.readlink(image)
    except (OSError, ValueError):
        return None
    if uuid not in arguments:
        return None  # the number has been given to another process since
    return QemuProcess(pid, image, re.sub(r" \(deleted\)$", "", path), arguments)
