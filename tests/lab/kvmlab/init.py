# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PID 1 of a lab host: makes the host's namespaces and mounts, then reaps until it is killed, and everything with it.

A program of its own, which imports nothing of the lab: `init.py NAME DESCRIPTOR`, started by namespace.start(). On the
socket DESCRIPTOR it says {"pid": N} (N as the machine counts), waits for one line that describes the host, and says
{"ready": true}; anything that fails is said as {"error": "one sentence"}. Should the other end go away before the
description came, it ends: nothing is left that nobody knows of.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn, Optional, TextIO

# <linux/sched.h>
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWPID, CLONE_NEWNET = (
    0x00020000,
    0x04000000,
    0x08000000,
    0x20000000,
    0x40000000,
)
# <linux/mount.h>, and umount2(2)
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_REMOUNT, MS_BIND, MS_REC, MS_SLAVE = 1, 2, 4, 32, 4096, 16384, 1 << 19
MNT_DETACH = 2

# What a host may change for itself: its changes go to memory, the machine's files stay as they are.
OWN = ("/etc", "/opt", "/srv", "/usr", "/var")
# Of these a host has nothing from the machine at all.
EMPTY = ("/etc/libvirt", "/var/lib/libvirt", "/var/log/libvirt", "/var/cache/libvirt", "/run")
# File systems that hold files; a machine may have, say, /var/lib on one of its own.
STORAGE = {"btrfs", "ext2", "ext3", "ext4", "f2fs", "xfs", "zfs"}
# What a host finds in /dev.
DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "net/tun")
LINKS = {
    "ptmx": "pts/ptmx",
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
}

LIBC = ctypes.CDLL(None, use_errno=True)


def _check(status: int, what: str) -> None:
    if status:
        raise OSError(f"{what}: {os.strerror(ctypes.get_errno())}")


def mount(source: str, target: str, kind: Optional[str] = None, flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    encoded = [None if word is None else os.fsencode(word) for word in (source, target, kind)]
    _check(
        LIBC.mount(*encoded, ctypes.c_ulong(flags), os.fsencode(data)),
        f"{target} can't be mounted ({kind or 'bind'})",
    )


def storage_below(folder: str) -> list[str]:
    """`folder`, and the folders below it that are file systems of their own, outermost first."""
    found = {folder}
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        _device, where, kind, *_rest = line.split(" ")
        where = where.encode("utf-8", "surrogateescape").decode("unicode_escape")
        if where.startswith(folder + "/") and kind in STORAGE and os.path.isdir(where) and "/containers/" not in where:
            found.add(where)
    return sorted(found)


def machine_devices() -> set[int]:
    """The file systems that are the machine's, told before anything is mounted."""
    return {os.stat(folder).st_dev for folder in ("/", "/run", *OWN) if os.path.isdir(folder)}


def make_folder(folder: str, machine: set[int], mode: int = 0o755) -> None:
    """Make a folder of the host's own, should it not be there; one that would be the machine's is refused."""
    there = Path(folder)
    while not there.exists():
        there = there.parent
    if there.stat().st_dev in machine:
        raise OSError(f"{folder} is still the machine's, and the lab writes nothing there: this is a fault in the lab")
    os.makedirs(folder, mode, exist_ok=True)


def hold(source: str, memory: Path) -> Path:
    """Keep a folder at hand under another name, for the time when something covers it."""
    held = memory / "held" / str(len(list((memory / "held").iterdir())))
    held.mkdir()
    mount(source, str(held), None, MS_BIND)
    return held


def overlay(folder: str, lower: Path, memory: Path) -> None:
    """Cover `folder` with `lower`, copy on write."""
    upper, work = (memory / "overlays" / lower.name / part for part in ("upper", "work"))
    for made in (upper, work):
        made.mkdir(parents=True)
    shutil.copystat(lower, upper)
    try:
        mount("overlay", folder, "overlay", 0, f"lowerdir={lower},upperdir={upper},workdir={work}")
    except OSError as error:
        raise OSError(f"{error}; the lab needs the kernel's overlay file system ('modprobe overlay')") from None


def make_devices(own: Path) -> None:
    """A /dev with what every host has, and without /dev/kvm: the same guests run everywhere, and libvirt does not take
    it for a KVM that QEMU's user may not use, which has it look at every QEMU anew, all the time.
    """
    own.mkdir()
    for name in DEVICES:
        if os.path.exists(f"/dev/{name}"):
            (own / name).parent.mkdir(exist_ok=True)
            (own / name).touch()
            mount(f"/dev/{name}", str(own / name), None, MS_BIND)
    for name, target in LINKS.items():
        (own / name).symlink_to(target)
    for name, kind, data in (
        ("pts", "devpts", "newinstance,ptmxmode=0666,mode=620,gid=5"),
        ("shm", "tmpfs", "mode=1777"),
    ):
        (own / name).mkdir()
        mount(kind, str(own / name), kind, MS_NOSUID, data)
    mount(str(own), "/dev", None, MS_BIND | MS_REC)


def make_mounts(memory: Path, binds: dict[str, str], machine: set[int]) -> None:
    """Give this mount namespace a host's view of the machine. `binds`: read-only folders, place inside -> source."""
    # Nothing gets out; what the machine unmounts is unmounted here too, so that the lab keeps no disk busy.
    mount("none", "/", None, MS_REC | MS_SLAVE)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV)
    mount("kvmlab", str(memory), "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
    # All that will be needed is taken before anything is covered.
    (memory / "held").mkdir()
    sources = {place: hold(source, memory) for place, source in binds.items()}
    tops = [top for top in OWN if os.path.isdir(top) and not os.path.islink(top)]
    lowers = {folder: hold(folder, memory) for top in tops for folder in storage_below(top)}
    for folder, lower in lowers.items():
        overlay(folder, lower, memory)
    for place, source in sources.items():
        make_folder(place, machine)
        mount(str(source), place, None, MS_BIND)
        mount("none", place, None, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV)
    make_devices(memory / "dev")
    # Without control groups libvirt makes no use of the machine's. A /sys that can't be mounted anew is no loss.
    LIBC.umount2(b"/sys/fs/cgroup", MNT_DETACH)
    with contextlib.suppress(OSError):
        mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV)
    for place in EMPTY:
        own = memory / "empty" / place[1:]
        own.mkdir(parents=True)
        if not os.path.isdir(place):
            make_folder(place, machine)
        mount(str(own), place, None, MS_BIND)
    for folder in ("/run/lock", "/run/sshd"):
        os.mkdir(folder)


def write_files(files: dict[str, list[Any]], machine: set[int]) -> None:
    """Write the host's own files: path -> [mode, text]."""
    for path, (mode, text) in files.items():
        make_folder(os.path.dirname(path), machine)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)  # may be a link to the machine's
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with open(descriptor, "w", encoding="utf-8") as handle:
            handle.write(text)
        os.chmod(path, mode)


def make_network(commands: list[list[str]]) -> None:
    """Run the `ip` commands that belong inside."""
    for command in commands:
        done = subprocess.run(["ip", *command], capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(f"'ip {' '.join(command)}' failed: {done.stderr.strip()}")


def become_host(wanted: dict[str, Any]) -> None:
    """All that makes this process PID 1 of the host that `wanted` describes."""
    os.setsid()
    os.umask(0o022)
    os.chdir("/")
    socket.sethostname(wanted["name"])
    machine = machine_devices()
    make_mounts(Path(wanted["memory"]), wanted["binds"], machine)
    write_files(wanted["files"], machine)
    for folder, mode in wanted["folders"].items():
        make_folder(folder, machine, mode)
    make_network(wanted["network"])


def reap() -> NoReturn:
    """Take in whatever ends, for ever."""
    for number in (signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    while True:
        signal.sigwait({signal.SIGCHLD})
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass


def unshare() -> None:
    """Leave the machine's namespaces; the next fork is PID 1 of a new one."""
    flags = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWUTS | CLONE_NEWIPC
    try:
        _check(LIBC.unshare(flags), "unshare")
    except OSError as error:
        raise OSError(
            f"this machine allows no new namespaces ({error}): the lab needs root with CAP_SYS_ADMIN (in a container,"
            " one that was started as privileged, or with that capability and without a seccomp filter)."
        ) from None


def say(line: TextIO, **words: object) -> None:
    """Tell the other end."""
    line.write(json.dumps(words) + "\n")
    line.flush()


def main() -> None:
    """See the module's description."""
    line = socket.socket(fileno=int(sys.argv[2])).makefile("rw", encoding="utf-8")
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    try:
        unshare()
        pid = os.fork()
        if pid:
            say(line, pid=pid)
            os._exit(0)
        description = line.readline()
        if not description:
            os._exit(1)
        become_host(json.loads(description))
    except (OSError, ValueError) as error:
        say(line, error=str(error))
        os._exit(1)
    say(line, ready=True)
    line.close()
    reap()


if __name__ == "__main__":
    main()
