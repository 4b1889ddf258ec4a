# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""incusd in namespaces of its own: start it, talk to it, end it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Optional
from urllib.parse import quote

from ...kvmlab.machine import PYTHON, TOOLS, LabError, cache, environment
from .fetch import fetch
from .vm import Vm, boot_sector

FOLDER = Path(__file__).resolve().parent
UNPRIVILEGED = 0o001  # QEMU runs as nobody
START_SECONDS = 60.0
CALL_SECONDS = 60.0
PAUSE = 0.02
POOL = "default"

CAP_SYS_RESOURCE = 1 << 24


class Incus:
    """A real incusd, beside whatever runs on the machine. As a context manager it starts, and ends without a trace.

    Its files are in memory, in namespaces that end with it, with the caller, or with a `kill -9` of either. From
    outside, `folder` is its folder and `socket` its socket.
    """

    def __init__(self) -> None:
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._log: Optional[IO[bytes]] = None

    def __enter__(self) -> Incus:
        self.start()
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """A process of the machine that has incusd's view of the file system."""
        if self._process is None:
            raise LabError("this incusd is not running.")
        return self._process.pid

    @property
    def folder(self) -> Path:
        """INCUS_DIR, as the machine sees it."""
        return Path(f"/proc/{self.pid}/root{_memory()}/incus")

    @property
    def socket(self) -> str:
        """The path of its unix socket, as the machine sees it."""
        return str(self.folder / "unix.socket")

    def start(self) -> None:
        """Return when its API answers and it has a storage pool."""
        root = fetch()
        order = {
            "memory": str(_memory()),
            "command": [f"{root}/usr/libexec/incus/incusd"],
            "environment": _environment(root),
        }
        unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
        command = [*_shim(), *unshare, PYTHON, str(FOLDER / "init.py"), json.dumps(order)]
        # Held to the end of this object: its name is gone already.
        self._log = tempfile.TemporaryFile()  # noqa: SIM115
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            env=environment(),
            start_new_session=True,
        )
        try:
            self._wait()
            self.do("POST", "/1.0/storage-pools", {"name": POOL, "driver": "dir"})
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it, and its virtual machines."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(CALL_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._log is not None:
            self._log.close()

    def log(self) -> str:
        """What it has said."""
        assert self._log is not None
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), size, 0).decode(errors="replace")

    def call(self, method: str, path: str, body: Optional[object] = None) -> dict[str, Any]:
        """One request over the unix socket; return the answer. Raises LabError for a refusal."""
        status, data = self.raw(method, path, body)
        try:
            answer: dict[str, Any] = json.loads(data)
        except ValueError:
            raise LabError(f"{method} {path} answered {status} with {data[:80]!r}, which is no JSON.") from None
        if answer.get("type") == "error":
            raise LabError(f"{method} {path} was refused: {answer['error']}")
        return answer

    def raw(self, method: str, path: str, body: Optional[object] = None) -> tuple[int, bytes]:
        """One request over the unix socket; return the status and the body as they come."""
        text = None if body is None else json.dumps(body)
        with contextlib.closing(_UnixConnection(self.socket)) as connection:
            connection.request(method, path, text, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def get(self, path: str) -> Any:
        """What a GET of `path` tells."""
        return self.call("GET", path)["metadata"]

    def do(self, method: str, path: str, body: Optional[object] = None) -> None:
        """A request that may start an operation; return when that has ended well."""
        answer = self.call(method, path, body)
        if answer["type"] != "async":
            return
        ended = self.get(f"{answer['operation']}/wait?timeout={CALL_SECONDS:.0f}")
        if ended["status_code"] != 200:
            raise LabError(f"{method} {path} failed: {ended['err'] or ended['status']}")

    def vm(self, name: str, text: str = "", *, project: str = "default", start: bool = True) -> Vm:
        """A virtual machine that shows `text` and nothing else, booted when this returns (unless `start` is false)."""
        query = f"?project={quote(project)}"
        config = {
            "security.secureboot": "false",
            "security.csm": "true",
            "limits.memory": "64MiB",
            # The same on every machine, whatever its KVM can do.
            "raw.qemu": "-machine accel=tcg -cpu qemu64",
        }
        disk = {"type": "disk", "path": "/", "pool": POOL, "size": "1MiB"}
        order = {"name": name, "type": "virtual-machine", "source": {"type": "none"}, "profiles": [], "config": config}
        self.do("POST", f"/1.0/instances{query}", {**order, "devices": {"root": disk}})
        vm = Vm(self, name, project)
        with open(vm.folder / "root.img", "r+b") as image:
            image.write(boot_sector(text))
        if start:
            vm.start()
            vm.wait_for_text(text)
        return vm

    def container(self, name: str) -> None:
        """A container that has nothing in it and was never started."""
        disk = {"type": "disk", "path": "/", "pool": POOL}
        order = {"name": name, "type": "container", "source": {"type": "none"}, "profiles": []}
        self.do("POST", "/1.0/instances", {**order, "devices": {"root": disk}})

    def project(self, name: str) -> None:
        """A project that shares images and profiles with nobody."""
        self.do("POST", "/1.0/projects", {"name": name, "config": {}})

    def mend(self) -> None:
        """Let QEMU write screenshots, as an administrator does: Debian's 6.0.4 is shipped without (incus#2708)."""
        (self.folder / "storage-pools" / POOL / "virtual-machines").chmod(0o711)

    def listen(self) -> str:
        """Open HTTPS on the loopback, on a port of its own; return the URL."""
        with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as finder:
            address = f"127.0.0.1:{finder.getsockname()[1]}"
        self.do("PATCH", "/1.0", {"config": {"core.https_address": address}})
        return f"https://{address}"

    def trust(self, name: str, certificate: str, *projects: str) -> None:
        """Let in a client certificate (base64 of DER), restricted to `projects` when any are named."""
        order = {"type": "client", "name": name, "certificate": certificate}
        limits = {"restricted": True, "projects": projects} if projects else {}
        self.do("POST", "/1.0/certificates", {**order, **limits})

    def _wait(self) -> None:
        """Return when the API answers."""
        assert self._process is not None
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until and self._process.poll() is None:
            with contextlib.suppress(OSError, http.client.HTTPException, LabError):
                self.get("/1.0")
                return
            time.sleep(PAUSE)
        raise LabError(f"incusd did not start:\n{self.log()[-3000:]}")


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("incus", timeout=CALL_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _memory() -> Path:
    """Where incusd's files are: an empty folder of the machine, which each incusd covers with its own file system."""
    folder = cache() / "incus" / "state"
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    closed = [str(one) for one in folder.parents if not one.stat().st_mode & UNPRIVILEGED]
    if closed:
        raise LabError(f"QEMU can't get through {closed[-1]}: chmod o+x it, or set KVMOPS_CACHE to another folder.")
    return folder


def _environment(root: Path) -> dict[str, str]:
    path = f"{_memory()}/bin:{root}/usr/libexec/incus:{root}/usr/bin:{TOOLS}"
    return environment(
        {
            "INCUS_DIR": f"{_memory()}/incus",
            "INCUS_EDK2_PATH": f"{root}/usr/share/OVMF",
            "LD_LIBRARY_PATH": f"{root}/usr/lib/x86_64-linux-gnu:{root}/lib/x86_64-linux-gnu",
            "PATH": path,
        }
    )


def _shim() -> list[str]:
    """What has to stand before the command where the kernel, or our rights, lack something that incusd insists on."""
    if not os.path.exists("/dev/kvm"):
        raise LabError("incusd runs no virtual machines without /dev/kvm: use a machine that has it.")
    vsock = os.path.exists("/dev/vhost-vsock") or _load("vhost_vsock")
    limits = int(_status("CapEff"), 16) & CAP_SYS_RESOURCE
    return [] if vsock and limits else [PYTHON, str(FOLDER / "shim.py")]


def _load(module: str) -> bool:
    """Whether the kernel has a module."""
    with contextlib.suppress(FileNotFoundError):
        return subprocess.run(["modprobe", "-q", module], env=environment(), check=False).returncode == 0
    return False


def _status(field: str) -> str:
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{field}:"))
