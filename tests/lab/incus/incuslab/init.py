# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A program: PID 1 of the namespaces that incusd runs in.

Its only argument is JSON: {"memory": folder, "root": folder, "environment": {...}, "command": [...]}. It puts a file
system in memory at `memory` (a folder of the machine, covered here only), gives itself a /dev of its own, starts
`command`, and ends when that ends, or when its standard input does: whoever started it may be killed in any way.
With it the kernel ends everything in the namespaces, virtual machines too, and with the namespaces the files are gone.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "kvm", "vsock", "vhost-vsock", "vhost-net")
STOP_SECONDS = 20


def mount(*words: str) -> None:
    """Call mount(8)."""
    subprocess.run(["mount", *words], check=True)


def make_devices(staging: Path) -> None:
    """A /dev with what QEMU and incusd need; where the machine has no vhost-vsock, something that can be opened."""
    staging.mkdir()
    mount("-t", "tmpfs", "-o", "mode=755", "tmpfs", str(staging))
    for name in DEVICES:
        if os.path.exists(f"/dev/{name}"):
            (staging / name).touch()
            mount("--bind", f"/dev/{name}", str(staging / name))
    vsock = staging / "vhost-vsock"
    if not vsock.exists():
        os.mknod(vsock, 0o600 | 0o020000, os.makedev(1, 3))
    for name, target in (("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        os.symlink(target, staging / name)
    for name, kind in (("shm", "tmpfs"), ("pts", "devpts")):
        (staging / name).mkdir()
        mount("-t", kind, kind, str(staging / name))
    os.symlink("pts/ptmx", staging / "ptmx")
    mount("--move", str(staging), "/dev")


def end_with_input(process: int, ended: threading.Event) -> None:
    """End the daemon when our standard input ends."""
    while os.read(0, 1):
        pass
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, number)
        if ended.wait(STOP_SECONDS):
            return


def main() -> int:
    """Return the status to exit with: the daemon's."""
    order = json.loads(sys.argv[1])
    memory = Path(order["memory"])
    mount("-t", "tmpfs", "-o", "mode=711", "tmpfs", str(memory))
    make_devices(memory / "dev")
    (memory / "dev").rmdir()
    tools = memory / "bin"
    tools.mkdir()
    # incusd loads the kernel's modules for vsock and is content with its exit status.
    (tools / "modprobe").write_text("#!/bin/sh\nexit 0\n", encoding="ascii")
    (tools / "modprobe").chmod(0o755)
    Path(order["environment"]["INCUS_DIR"]).mkdir(mode=0o711)
    daemon = subprocess.Popen(order["command"], stdin=subprocess.DEVNULL, env=order["environment"])
    ended = threading.Event()
    threading.Thread(target=end_with_input, args=(daemon.pid, ended), daemon=True).start()
    while True:  # incusd's orphans, QEMU among them, are ours
        process, status = os.wait()
        if process == daemon.pid:
            ended.set()
            return os.waitstatus_to_exitcode(status) & 0xFF


if __name__ == "__main__":
    sys.exit(main())
