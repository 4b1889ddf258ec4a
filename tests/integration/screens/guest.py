# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""QEMUs of their own, with real screens: a firmware's, a Linux console's in VGA text mode and on a framebuffer, none.

Under TCG, without libvirt. Nothing is waited for by time: a guest says on its serial port, and the firmware on its
debug port, that a thing is on the screen.
"""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Callable, TypeVar

from ansible_collections.kvmops.console.plugins.module_utils import _image
from ansible_collections.kvmops.console.plugins.module_utils._image import Picture
from ansible_collections.kvmops.console.tests.lab.kvmlab.domains import KERNEL_ARGUMENTS

SECONDS = 120.0
"""The bound of every wait: ten times what the slowest takes on a busy machine."""

T = TypeVar("T")


def _archive(files: dict[str, bytes]) -> bytes:
    """A cpio archive in the kernel's format (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    packed = bytearray()
    for inode, (name, content) in enumerate([*files.items(), ("TRAILER!!!", b"")], start=1):
        fields = (inode, 0o100755, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        packed += b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        packed += b"\0" * (-len(packed) % 4) + content
        packed += b"\0" * (-len(packed) % 4)
    return bytes(packed)


class Qemu:
    """A running QEMU with a QMP socket, and what its guest says on its serial and debug ports."""

    def __init__(self, process: subprocess.Popen[bytes], folder: Path) -> None:
        self.process = process
        self.folder = folder
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(SECONDS)
        self.until(self._connect, "a QMP socket")
        self._lines = self._socket.makefile("rb")
        self._lines.readline()
        self.qmp("qmp_capabilities")

    def _connect(self) -> bool:
        with contextlib.suppress(OSError):
            self._socket.connect(os.fspath(self.folder / "qmp"))
            return True
        return False

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._lines.close()
        self._socket.close()

    def until(self, tried: Callable[[], T], what: str) -> T:
        """What `tried` gives as soon as that is something; the pause only keeps from spinning."""
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            given = tried()
            if given:
                return given
            if self.process.poll() is not None:
                raise AssertionError(f"QEMU ended: {(self.folder / 'stderr').read_text()}")
            time.sleep(0.02)
        raise AssertionError(f"no {what} within {SECONDS} s; serial port: {self.serial()[-2000:]!r}")

    def qmp(self, command: str, **arguments: Any) -> Any:
        """One command's answer; events that come before it are of no interest."""
        self._socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            answer = json.loads(self._lines.readline())
            if "error" in answer:
                raise AssertionError(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def dump(self, **arguments: Any) -> bytes:
        """The file that `screendump` writes."""
        path = self.folder / "screen"
        self.qmp("screendump", filename=os.fspath(path), **arguments)
        return path.read_bytes()

    def screen(self) -> Picture:
        return _image.decode(self.dump())

    def serial(self) -> str:
        return (self.folder / "serial").read_text(errors="replace")

    def firmware(self) -> str:
        """What the firmware says on its debug port."""
        return (self.folder / "debug").read_text(errors="replace")

    def keys(self, *names: str) -> None:
        self.qmp("send-key", keys=[{"type": "qcode", "data": name} for name in names])


@contextlib.contextmanager
def qemu(program: str, folder: Path, *options: str) -> Iterator[Qemu]:
    """A QEMU without network; ended and reaped at the end, whatever happens."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("serial", "debug"):
        (folder / name).touch()
    words = [program, "-nodefaults", "-machine", "pc,accel=tcg", "-m", "192", "-display", "none", "-no-reboot"]
    words += ["-qmp", f"unix:{folder / 'qmp'},server=on,wait=off", "-serial", f"file:{folder / 'serial'}"]
    words += ["-debugcon", f"file:{folder / 'debug'}", "-global", "isa-debugcon.iobase=0x402", *options]
    with open(folder / "stderr", "wb") as errors:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors)
    try:
        machine = Qemu(process, folder)
    except BaseException:
        process.kill()
        process.wait()
        raise
    try:
        yield machine
    finally:
        machine.close()


def kernel() -> Path:
    """The lab's."""
    return _lab_guest() / "vmlinuz"


def _lab_guest() -> Path:
    return Path(os.environ.get("KVMOPS_CACHE") or "/var/cache/kvmops-console") / "guest"


COMMAND_LINE = f"rdinit=/screen console=tty1 {KERNEL_ARGUMENTS}"
"""The kernel's, for an initrd() of ours."""


def initrd(folder: Path, script: str, files: dict[str, bytes] | None = None) -> Path:
    """The lab's initrd in `folder`, with `script` as its first process, and `files` in its root folder."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = [
        "#!/bin/busybox sh",
        "/bin/busybox --install -s /bin",
        "mount -t devtmpfs dev /dev",
        "mount -t proc proc /proc",
    ]
    ours = _archive({"screen": "\n".join([*lines, script, ""]).encode(), **(files or {})})
    path = folder / "initrd"
    path.write_bytes((_lab_guest() / "initrd.gz").read_bytes() + gzip.compress(ours, 1))
    return path


@contextlib.contextmanager
def linux(
    program: str,
    folder: Path,
    script: str,
    *,
    files: dict[str, bytes] | None = None,
    arguments: str = "",
    options: Sequence[str] = ("-vga", "std"),
) -> Iterator[Qemu]:
    """The lab's kernel, with `script` as its first process: it writes to /dev/tty1, and says DONE on the serial port.

    `files` are found in the root folder. When the script ends, the kernel panics.
    """
    words = ["-kernel", os.fspath(kernel()), "-initrd", os.fspath(initrd(folder, script, files))]
    words += ["-append", f"{COMMAND_LINE} {arguments}"]
    with qemu(program, folder, *words, *options) as machine:
        yield machine


DONE = "exec >/dev/ttyS0; echo DONE; exec sleep 100000"
"""The end of a script whose screen stays as it is."""


def drawn(machine: Qemu, said: str = "DONE") -> Picture:
    """The screen once the guest has said that it is drawn."""
    machine.until(lambda: said in machine.serial(), repr(said))
    return machine.screen()
