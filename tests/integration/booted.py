# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host of the lab on which systemd runs: the real one, as PID 1 of namespaces inside those of the host.

It sees the host's files, which are the host's alone, and starts nothing but its journal. Who talks to it has to be in
its namespaces, too.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Callable, Optional

import pytest

from ansible_collections.kvmops.console.tests.lab.kvmlab import Host

SYSTEMD = "/lib/systemd/systemd"
SECONDS = 180
"""The bound of every wait: some ten times what the slowest takes."""

PREPARE = """
rm -rf /etc/systemd/system /lib/systemd/system/sysinit.target.wants /lib/systemd/system/local-fs.target.wants /etc/fstab
mkdir -p /etc/systemd/system /run/log/journal
ln -s /dev/null /etc/systemd/system/systemd-journald-audit.socket
cat >/etc/systemd/system/lab.target
echo 0123456789abcdef0123456789abcdef >/etc/machine-id
"""
TARGET = """\
[Unit]
Description=What the lab needs
Requires=sysinit.target paths.target systemd-journald.socket systemd-journald.service
After=sysinit.target paths.target systemd-journald.service
"""

# systemd wants a control group of its own, as the root of all that it sees, and has to leave the kernel's settings be.
JOIN = 'echo $$ >"$0/cgroup.procs"; exec "$@"'
BOOT = f"""
exec unshare --mount --pid --cgroup --fork --kill-child --propagation=private sh -ec '
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -o remount,bind,ro /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec env -i container=lab PATH=/usr/sbin:/usr/bin:/sbin:/bin {SYSTEMD} --system --unit=lab.target --show-status=no
'
"""


def until(what: Callable[[], object], sentence: Callable[[], str]) -> None:
    """Wait until that is true; `sentence` says what is wrong when it never is."""
    end = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < end, sentence()
        time.sleep(0.05)


class Booted:
    """A host on which systemd runs; `root` is its file system, as the machine reaches it."""

    def __init__(self, host: Host, pid: int) -> None:
        self.root = host.root
        self._enter = ["nsenter", f"--target={pid}", "--all", "--"]

    def run(self, *words: str, env: Optional[Mapping[str, str]] = None) -> subprocess.CompletedProcess[str]:
        """Run a command; one that fails is for the caller to see."""
        return subprocess.run(
            [*self._enter, *words],
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def tell(self, *words: str) -> str:
        """What a command prints that must not fail."""
        done = self.run(*words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout


@contextlib.contextmanager
def systemd(host: Host) -> Iterator[Booted]:
    """Run systemd on the host; skips the test where the machine has none, or no control groups for it."""
    mounts = [line.split() for line in Path("/proc/mounts").read_text(encoding="utf-8").splitlines()]
    groups = [place for _device, place, kind, *_rest in mounts if kind == "cgroup2"]
    if not groups or not Path(SYSTEMD).exists() or not shutil.which("systemctl"):
        pytest.skip("there is no systemd on this machine, or no control groups (version 2) for one")
    group = Path(groups[0]) / f"kvmops-{host.name}"
    group.mkdir(exist_ok=True)
    if not (group / "cgroup.kill").exists():
        group.rmdir()
        pytest.skip("this machine's kernel cannot end all that is in a control group: Linux 5.14 can")
    host.exec("sh", "-ec", PREPARE, stdin=TARGET)
    words = ["sh", "-ec", JOIN, os.fspath(group), *host.command("sh", "-ec", BOOT)]
    log = host.folder / "systemd.log"
    with open(log, "wb") as stream, subprocess.Popen(words, stdout=stream, stderr=stream) as process:
        try:
            until(
                (host.root / "run/systemd/private").is_socket,
                lambda: f"systemd does not start: {log.read_text(encoding='utf-8')}",
            )
            first = (group / "init.scope/cgroup.procs").read_text(encoding="utf-8").split()[0]
            booted = Booted(host, int(first))
            done = booted.run("systemctl", "is-system-running", "--wait")
            assert done.stdout.strip() == "running", done.stdout + done.stderr
            yield booted
        finally:
            (group / "cgroup.kill").write_text("1", encoding="utf-8")
            process.wait()
            _remove(group)


def _remove(group: Path) -> None:
    """Control groups can be removed once the last process in them is gone."""
    folders = sorted((path for path in [group, *group.rglob("*")] if path.is_dir()), reverse=True)
    until(lambda: all(map(_gone, folders)), lambda: f"something of {group} is still in use")


def _gone(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        folder.rmdir()
    return not folder.exists()
