# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Incus's packages, unpacked in the cache: nothing is installed."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...kvmlab.machine import LabError, cache, environment

SUITE = "bookworm"
PACKAGES = {
    f"{SUITE}-backports": ("incus-base", "libcowsql0", "libraft0"),
    # incusd does not start without rsync, tar, unsquashfs, xz and setfattr; it wants one UEFI firmware even for a BIOS.
    SUITE: ("attr", "liblxc1", "liblzo2-2", "ovmf", "rsync", "squashfs-tools"),
}
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
NEEDED = {"qemu-system-x86_64": "qemu-system-x86", "qemu-img": "qemu-utils", "ip": "iproute2", "xz": "xz-utils"}


def fetch() -> Path:
    """The folder that the packages are unpacked in; made the first time, some ten seconds."""
    if platform.machine() != "x86_64" or _codename() != SUITE:
        raise LabError(f"the Incus lab is made of Debian {SUITE}'s packages for amd64: use such a machine.")
    lacks = [package for command, package in NEEDED.items() if not shutil.which(command)]
    if lacks:
        raise LabError(f"the Incus lab needs packages: run 'apt-get install {' '.join(lacks)}'.")
    folder = cache() / "incus"
    root = folder / SUITE
    if root.exists():
        return root
    # QEMU runs as nobody and reads the firmware in it.
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    with _locked(folder / "lock"):
        if not root.exists():
            _make(root)
    return root


def _codename() -> str:
    with open("/etc/os-release", encoding="utf-8") as lines:
        pairs = dict(line.rstrip("\n").split("=", 1) for line in lines if "=" in line)
    return pairs.get("VERSION_CODENAME", "").strip('"')


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with open(path, "w", encoding="ascii") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _make(root: Path) -> None:
    """Download and unpack beside `root`, and give it its name when all is there."""
    with tempfile.TemporaryDirectory(prefix="making-", dir=root.parent) as made:
        work = Path(made)
        options = _private_apt(work)
        _apt(work, *options, "update")
        wanted = [f"{name}/{suite}" for suite, names in PACKAGES.items() for name in names]
        _apt(work, *options, "download", *wanted)
        unpacked = work / "root"
        for package in sorted(work.glob("*.deb")):
            subprocess.run(["dpkg-deb", "--extract", str(package), str(unpacked)], check=True)
        unpacked.chmod(0o755)
        unpacked.rename(root)


def _private_apt(work: Path) -> list[str]:
    """Options that give apt lists of its own: the machine's stay as they are."""
    for name in ("lists/partial", "archives/partial"):
        (work / name).mkdir(parents=True)
    signed = f"[signed-by={KEYRING}] " if os.path.exists(KEYRING) else ""
    sources = "".join(f"deb {signed}{_mirror()} {suite} main\n" for suite in PACKAGES)
    (work / "sources.list").write_text(sources, encoding="utf-8")
    settings = {
        "Dir::Etc::sourcelist": work / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": work / "lists",
        "Dir::Cache": work,
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def _mirror() -> str:
    """Where this machine gets Debian from."""
    lines = _apt(Path("/"), "indextargets", "--format", "$(CODENAME) $(REPO_URI)").splitlines()
    found = [line.split(" ", 1)[1] for line in lines if line.startswith(f"{SUITE} ")]
    if not found:
        raise LabError(f"apt knows no source of {SUITE}: add one, and run 'apt-get update'.")
    return found[0]


def _apt(folder: Path, *words: str) -> str:
    # The caller's environment too: it may name a proxy.
    done = subprocess.run(
        ["apt-get", "-qq", *words],
        cwd=folder,
        env={**os.environ, **environment()},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise LabError(f"apt-get can't get Incus's packages: {(done.stderr or done.stdout).strip()}")
    return done.stdout
