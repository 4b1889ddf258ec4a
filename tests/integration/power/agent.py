# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A guest with the real QEMU guest agent: the lab's guest, and what the distribution's packages have, laid over it. It
tells its host when it panics, where it has a device for that.
"""

from __future__ import annotations

import contextlib
import fcntl
import gzip
import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmops.console.tests.lab.kvmlab.machine import cache

_MODULES = (
    *("virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_console"),
    *("pvpanic", "pvpanic-mmio"),
)
_CHANNEL = '<channel type="unix"><target type="virtio" name="org.qemu.guest_agent.0"/></channel>'
_INSIDE = "srv/guest-agent.gz"

# The guest has no udev, so the port is found by what the kernel calls it. qemu-ga runs /sbin/shutdown for everything.
_INIT = """\
#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
while read -r module; do insmod "/modules/$module.ko"; done </modules/order
for module in MODULES; do [ -e "/agent/$module.ko" ] && insmod "/agent/$module.ko"; done
acpid -d -c /etc/acpi >/dev/null 2>&1 &
for port in /sys/class/virtio-ports/*; do
  [ "$(cat "$port/name")" = org.qemu.guest_agent.0 ] && qemu-ga -p "/dev/${port##*/}" -t /run -f /run/qga.pid &
done
echo "LAB GUEST READY" >/dev/ttyS0
while true; do setsid sh -c 'exec sh </dev/tty1 >/dev/tty1 2>&1'; done
"""

_SHUTDOWN = """\
#!/bin/busybox sh
case "$*" in
  *-r*) reboot -f ;;
  *) poweroff -f ;;
esac
"""


def kernel_version(image: bytes) -> str:
    """Of a bzImage (Linux: Documentation/arch/x86/boot.rst, kernel_version)."""
    place = struct.unpack_from("<H", image, 0x20E)[0] + 0x200
    return image[place : image.index(b" ", place)].decode()


def _run(*words: str, folder: Path) -> str:
    return subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True).stdout


def _fetch(folder: Path, *packages: str) -> Path:
    """What is in the packages."""
    _run("apt-get", "-o", "APT::Sandbox::User=root", "download", "-qq", *packages, folder=folder)
    for package in folder.glob("*.deb"):
        _run("dpkg", "-x", str(package), "packages", folder=folder)
    return folder / "packages"


def _lay(folder: Path, packages: Path) -> None:
    """The files that are laid over the guest's."""
    agent = packages / "usr/sbin/qemu-ga"
    needed = [agent, *(Path(path) for path in re.findall(r"(/\S+) \(0x", _run("ldd", str(agent), folder=folder)))]
    for path in needed:
        target = folder / "over" / ("bin/qemu-ga" if path == agent else str(path)[1:])
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path.resolve(), target)
    for name in ("run", "sbin", "agent"):
        (folder / "over" / name).mkdir(exist_ok=True)
    for name in _MODULES:
        for module in (packages / "lib/modules").rglob(f"{name}.ko"):
            shutil.copy(module, folder / "over/agent")
    for name, text in (("init", _INIT.replace("MODULES", " ".join(_MODULES))), ("sbin/shutdown", _SHUTDOWN)):
        (folder / "over" / name).write_text(text)
        (folder / "over" / name).chmod(0o755)


def _build(target: Path) -> None:
    version = kernel_version((cache() / "guest/vmlinuz").read_bytes())
    with tempfile.TemporaryDirectory(prefix="kvmops-agent-") as name:
        folder = Path(name)
        _lay(folder, _fetch(folder, "qemu-guest-agent", f"linux-image-{version}"))
        archive = subprocess.run(
            ["sh", "-c", "find . | cpio -o -H newc --quiet"], cwd=folder / "over", check=True, capture_output=True
        ).stdout
        aside = target.with_suffix(".new")
        aside.write_bytes((cache() / "guest/initrd.gz").read_bytes() + gzip.compress(archive))
        aside.chmod(0o644)
        aside.replace(target)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def initrd() -> Path:
    """The guest's file system with the agent in it; made once, kept beside the guest."""
    target = cache() / "guest-agent-2.gz"
    with _locked(cache() / "guest-agent.lock"):
        if not target.exists():
            _build(target)
    return target


def build() -> Path:
    """The same; the test is skipped where that cannot be made."""
    try:
        return initrd()
    except subprocess.CalledProcessError as e:
        pytest.skip(f"the packages of the agent and the kernel cannot be had: {e.stderr}")


def define(hypervisor: Any, name: str, *, words: str = "", devices: str = "", **what: Any) -> Any:
    """A domain with this guest, defined; `words` for its kernel."""
    built = build()
    (hypervisor.host.root / _INSIDE).write_bytes(built.read_bytes())
    hypervisor.put(name, guest=True, devices=_CHANNEL + devices, **what)
    xml = str(hypervisor.definition(name)).replace("/opt/lab-guest/initrd.gz", f"/{_INSIDE}")
    return hypervisor.connection.defineXML(xml.replace(" quiet<", f" quiet {words}<"))


def answers(host: Any, name: str) -> bool:
    """Whether the agent does: right after a reboot libvirt still takes the one that has gone for connected."""
    return bool(host.exec("virsh", "domtime", name, check=False).returncode == 0)
