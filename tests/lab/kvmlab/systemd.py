# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""systemd on a host of the lab: the real one, as PID 1 of namespaces inside those of the host.

It sees the host's files, which are the host's alone, and starts nothing but its journal, and sshd where that is wanted.
Who talks to it has to be in its namespaces, too: who comes by that sshd is.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Optional

from . import services
from .host import Host
from .machine import LabError, tail

SYSTEMD = "/lib/systemd/systemd"
SECONDS = 180
"""The bound of every wait: some ten times what the slowest takes."""

_PREPARE = """
rm -rf /etc/systemd/system /lib/systemd/system/sysinit.target.wants /lib/systemd/system/local-fs.target.wants /etc/fstab
mkdir -p /etc/systemd/system/lab.target.wants /run/log/journal
ln -s /dev/null /etc/systemd/system/systemd-journald-audit.socket
cat >/etc/systemd/system/lab.target
echo 0123456789abcdef0123456789abcdef >/etc/machine-id
"""
_TARGET = """\
[Unit]
Description=What the lab needs
Requires=sysinit.target paths.target systemd-journald.socket systemd-journald.service
After=sysinit.target paths.target systemd-journald.service
"""
_ADD_SSHD = """
cd /etc/systemd/system
cat >lab-sshd.service
ln -s ../lab-sshd.service lab.target.wants/
"""
_SSHD = """\
[Unit]
Description=The host's sshd
Before=lab.target

[Service]
ExecStart=/usr/sbin/sshd -D -e -f /etc/ssh/lab_sshd_config
KillMode=process
"""

# systemd wants a control group of its own, as the root of all that it sees, and has to leave the kernel's settings be.
_JOIN = 'echo $$ >"$0/cgroup.procs"; exec "$@"'
_BOOT = f"""
exec unshare --mount --pid --cgroup --fork --kill-child --propagation=private sh -ec '
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -o remount,bind,ro /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin {SYSTEMD} --system --unit=lab.target --show-status=no
'
"""


def _groups() -> Optional[Path]:
    """Where the machine has its control groups (version 2)."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    return next((Path(place) for _device, place, kind, *_rest in mounts if kind == "cgroup2"), None)


def missing() -> Optional[str]:
    """Why there can be no systemd on this machine's hosts; None where there can be."""
    groups = _groups()
    if groups is None or not Path(SYSTEMD).exists() or not shutil.which("systemctl"):
        return "there is no systemd on this machine, or no control groups (version 2) for one"
    probe = groups / "kvmops-probe"
    probe.mkdir(exist_ok=True)
    able = (probe / "cgroup.kill").exists()
    with contextlib.suppress(OSError):  # somebody else may look, too
        probe.rmdir()
    return None if able else "this machine's kernel cannot end all that is in a control group: Linux 5.14 can"


def _group(name: str) -> Optional[Path]:
    groups = _groups()
    return groups / f"kvmops-{name}" if groups else None


def until(what: Callable[[], object], sentence: Callable[[], str]) -> None:
    """Wait until that is true; LabError with the sentence when it never is."""
    end = time.monotonic() + SECONDS
    while not what():
        if time.monotonic() > end:
            raise LabError(sentence())
        time.sleep(0.05)


def start(host: Host, *, ssh: bool = False) -> int:
    """Run systemd on the host, and wait until it is up; returns its PID. `ssh`: sshd is a service of its from now on.

    One that runs already is left alone. It ends by end(), or with the host.
    """
    group = _group(host.name)
    why = missing()
    if why or group is None:
        raise LabError(f"no systemd on {host.name}: {why}.")
    if group.exists():
        return _first(group)
    group.mkdir()
    if ssh:
        host.sshd("stop")
    host.exec("sh", "-ec", _PREPARE, stdin=_TARGET)
    if ssh:
        host.exec("sh", "-ec", _ADD_SSHD, stdin=_SSHD)
    log = host.folder / "systemd.log"
    words = ["sh", "-ec", _JOIN, os.fspath(group), *host.command("sh", "-ec", _BOOT)]
    with open(log, "wb") as stream:
        # Left to itself: it is to outlive a command of the lab.
        words = ["setsid", "--fork", *words]
        subprocess.run(words, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream, check=True)
    until((host.root / "run/systemd/private").is_socket, lambda: f"systemd does not start on {host.name}:{tail(log)}")
    pid = _first(group)
    done = subprocess.run(
        [*enter(pid), "systemctl", "is-system-running", "--wait"], capture_output=True, text=True, check=False
    )
    if done.stdout.strip() != "running":
        raise LabError(f"systemd on {host.name} is {done.stdout.strip()}: {done.stderr.strip()}")
    if ssh:
        until(lambda: services.ssh_answers(host.address), lambda: f"sshd of {host.name}'s systemd does not answer.")
    return pid


def enter(pid: int) -> list[str]:
    """The words that run a command where this systemd is PID 1."""
    return ["/usr/bin/nsenter", f"--target={pid}", "--all", "--"]


def _first(group: Path) -> int:
    """The systemd itself, as the machine counts."""
    return int((group / "init.scope/cgroup.procs").read_text(encoding="utf-8").split()[0])


def end(name: str) -> None:
    """End the systemd of a host, and all that it has started; nothing where there is none."""
    group = _group(name)
    if group is None or not group.exists():
        return
    (group / "cgroup.kill").write_text("1", encoding="utf-8")
    # Control groups can be removed once the last process in them is gone.
    folders = sorted((path for path in [group, *group.rglob("*")] if path.is_dir()), reverse=True)
    until(lambda: all(map(_gone, folders)), lambda: f"something of {group} is still in use.")


def _gone(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        folder.rmdir()
    return not folder.exists()
