# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the lab is made of: packages, an affected QEMU, a guest. Made once, kept in the cache."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

from .machine import FOLDER, LabError, cache, environment

QEMU = "qemu-7.2.0"
GUEST = "guest"
BACKPORTS = "qemu-backports"
_NO_BACKPORTS = 3
_PACKAGES = (
    "grub-pc-bin",
    "iproute2",
    "libvirt-clients",
    "libvirt-daemon",
    "libvirt-daemon-driver-qemu",
    "openssh-client",
    "openssh-server",
    "ovmf",
    "python3-libvirt",
    "python3-lxml",
    "qemu-system-x86",
    "qemu-utils",
    "tesseract-ocr",
    "util-linux",
)
_POLICY = Path("/usr/sbin/policy-rc.d")


def _missing() -> list[str]:
    """The packages that are not installed."""
    if not shutil.which("dpkg-query"):
        raise LabError("the lab needs a Debian or Ubuntu machine: dpkg-query is missing.")
    form = "${Package} ${db:Status-Status}\n"
    done = subprocess.run(
        ["dpkg-query", "--show", f"--showformat={form}", *_PACKAGES],
        capture_output=True,
        text=True,
        env=environment(),
        check=False,
    )
    installed = {line.split()[0] for line in done.stdout.splitlines() if line.endswith(" installed")}
    return [package for package in _PACKAGES if package not in installed]


@contextlib.contextmanager
def _no_new_services() -> Iterator[None]:
    """While Debian's policy file is there, a package that is installed starts no service on the machine."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


def _install(packages: list[str]) -> None:
    print(f"packages: installing {' '.join(packages)}", flush=True)
    install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=600", *packages]
    # The caller's too: it may name a proxy.
    env = {**os.environ, **environment({"DEBIAN_FRONTEND": "noninteractive"})}
    with _no_new_services():
        for command in (install, ["apt-get", "update", "-qq"], install):
            done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
            if done.returncode == 0 and command is install:
                return
    raise LabError(f"apt-get can't install {' '.join(packages)}: {done.stderr.strip() or done.stdout.strip()}")


def _script(name: str, target: Path, proof: str) -> None:
    if (target / proof).exists():
        return
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    sys.stdout.flush()
    if subprocess.run([str(FOLDER / name), str(target)], stdin=subprocess.DEVNULL, check=False).returncode:
        raise LabError(f"{name} failed: its own words are above.")


def fetch_backports() -> Optional[Path]:
    """The QEMU of the release's backports, unpacked to go over / on a host; None where the release has none."""
    target = cache() / BACKPORTS
    if (target / "usr/bin/qemu-system-x86_64").exists():
        return target
    sys.stdout.flush()
    status = subprocess.run(
        [str(FOLDER / "fetch-qemu.sh"), str(target)], stdin=subprocess.DEVNULL, check=False
    ).returncode
    if status not in (0, _NO_BACKPORTS):
        raise LabError("fetch-qemu.sh failed: its own words are above.")
    return target if status == 0 else None


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """One at a time: the lab and the browser's tests may both want the same QEMU for the first time."""
    cache().mkdir(parents=True, exist_ok=True)
    with open(cache() / ".build.lock", "w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def build() -> None:
    """See to it that everything is there; takes minutes the first time, nothing afterwards."""
    with _alone():
        missing = _missing()
        if missing:
            _install(missing)
        _script("build-guest.sh", cache() / GUEST, "initrd.gz")
        _script("build-qemu.sh", cache() / QEMU, "bin/qemu-system-x86_64")
