# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tells a QEMU binary's verdict by starting it without a machine and talking to its VNC server.

Private to this collection.

The binary runs with `-machine none`: no guest, no devices, no network, a VNC server on a unix socket in a private
folder, and QMP over an inherited socket. QMP's answer to the first command says that the VNC server listens (commands
are executed once start-up is over), its greeting says the version, and its end says that the process died: nothing has
to be waited for blindly. Two VNC connections follow (_vnc.ask_running's question, and _vnc.ask_gate), then SIGKILL. One
process with power-control=on serves both: an affected QEMU answers XVP_REBOOT on a connection that only listed
DesktopSize, a fixed one closes it, whatever power-control says (QEMU: ui/vnc.c, protocol_client_msg; run on 7.2.0 and
7.2.22).

The image is executed through an open file, so that the image of a running process (/proc/PID/exe) can be probed when
its name is gone, and one that the probe's user could not reach by name.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pwd
import re
import resource
import select
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from typing import IO, Any, NamedTuple, TypeVar

from ansible_collections.kvmops.console.plugins.module_utils import _vnc
from ansible_collections.kvmops.console.plugins.module_utils._errors import VncError
from ansible_collections.kvmops.console.plugins.module_utils._verdict import (
    INCAPABLE,
    PROBE,
    UNKNOWN,
    BinaryProbe,
    Verdict,
)

_FOLDERS = ("/tmp", "/var/tmp", "/run")  # Short: a unix socket's path has 107 bytes at most
_MOST_TOLD = 4096
_MOST_AT_ONCE = 65536
_MOST_EVIDENCE = 300
_MOST_QMP = 65536
_PR_SET_PDEATHSIG = 1

_NOT_CAPABLE = ("Invalid parameter 'power-control'", "VNC support is disabled")
"""What QEMU says when it has no power control: before 6.0, and built without VNC. Any other failure tells nothing."""

_VERSION = re.compile(r"QEMU emulator version (\d+\.\d+\.\d+)\S*(?: \((.*)\))?")


def probe_binary(path: str, *, timeout: float = 10.0, allow_wrapper: bool = False) -> BinaryProbe:
    """Return the verdict on the QEMU at `path`, which may be a /proc/PID/exe.

    Takes about 0.1 seconds, and `timeout` at most. What can't be told is a verdict (unknown, with a sentence in its
    evidence), never an exception. A file that is no ELF image, such as a wrapper script, is started only with
    `allow_wrapper`: it may do anything.
    """
    real = os.path.realpath(path)
    try:
        image = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # Not to wait at a FIFO
    except OSError as error:
        return _unknown(real, f"{real} can't be opened: {error.strerror}")
    try:
        if not stat.S_ISREG(os.fstat(image).st_mode):
            return _unknown(real, f"{real} is no file")
        if not os.fstat(image).st_mode & 0o111:
            return _unknown(real, f"{real} is not executable")
        elf = os.pread(image, 4, 0) == b"\x7fELF"
        if not elf and not allow_wrapper:
            return _unknown(real, f"{real} is a script or another wrapper, which is not started unless allowed")
        # A script has to see its own name: it may look at $0, and its interpreter opens it.
        return _probe(f"/proc/self/fd/{image}" if elf else real, image, real, _vnc.Deadline(timeout))
    except OSError as error:
        return _unknown(real, f"{real} can't be started: {error.strerror or error}")
    finally:
        os.close(image)


def _unknown(path: str, evidence: str) -> BinaryProbe:
    return BinaryProbe(Verdict(UNKNOWN, PROBE, evidence), None, None, path)


def _probe(executable: str, image: int, real: str, deadline: _vnc.Deadline) -> BinaryProbe:
    user = _Unprivileged.find()
    name = os.path.basename(real)
    with _private_folder(user) as folder, _Qemu(name, executable, image, folder, user) as qemu:
        try:
            version, package = _told_version(qemu.greet(deadline))
        except socket.timeout:
            told = _one_line(qemu.last_words(deadline))
            return _unknown(real, f"the binary did not answer within {deadline.seconds:g} seconds{told and ': '}{told}")
        except (_Exited, ValueError) as error:
            # It hung up, but may take a moment to say why.
            verdict = _verdict_of_failure(qemu.last_words(deadline.within(1)), str(error))
            version, package = _ask_version(name, executable, image, user, deadline)
        else:
            verdict = _ask(qemu.vnc, deadline)
    return BinaryProbe(verdict, version, package, real)


def _ask(path: str, deadline: _vnc.Deadline) -> Verdict:
    """Ask both questions of the server at `path`."""
    way = _vnc.unix(path)
    try:
        _hello, answers = _vnc.ask_server(way, deadline)
        gated = _vnc.ask_gate(way, deadline)
    except VncError as error:
        return Verdict(UNKNOWN, PROBE, f"its VNC server could not be asked: {error}")
    if answers is None:
        return Verdict(UNKNOWN, PROBE, "its VNC server asks for authentication although none was set")
    return _vnc.verdict_of("the started binary", answers.pointer_change, answers.power_control, gated)


def _verdict_of_failure(stderr: str, otherwise: str) -> Verdict:
    """The verdict on a binary that ended before it answered: what it wrote to stderr decides."""
    for words in _NOT_CAPABLE:
        if words in stderr:
            return Verdict(INCAPABLE, PROBE, f"the binary says: {words}")
    return Verdict(UNKNOWN, PROBE, f"the binary did not start: {_one_line(stderr) or otherwise}")


def _one_line(text: str) -> str:
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= _MOST_EVIDENCE else line[: _MOST_EVIDENCE - 3] + "..."


# --- The process ------------------------------------------------------------------------------------------------------


class _Unprivileged(NamedTuple):
    """Who a probe started by root runs as: nobody, with the group of /dev/kvm where there is one."""

    uid: int
    gid: int
    groups: tuple[int, ...]

    @staticmethod
    def find() -> _Unprivileged | None:
        if os.geteuid() != 0:
            return None
        try:
            entry = pwd.getpwnam("nobody")
        except KeyError:
            return _Unprivileged(65534, 65534, _kvm_groups())
        return _Unprivileged(entry.pw_uid, entry.pw_gid, _kvm_groups())

    def options(self) -> dict[str, Any]:
        """What subprocess.Popen has to be told."""
        return {"user": self.uid, "group": self.gid, "extra_groups": list(self.groups)}


def _kvm_groups() -> tuple[int, ...]:
    """The group that may open /dev/kvm: a QEMU built for KVM alone doesn't start without. Never root's."""
    try:
        found = os.stat("/dev/kvm")
    except OSError:
        return ()
    return (found.st_gid,) if found.st_mode & 0o060 == 0o060 and found.st_gid else ()


@contextlib.contextmanager
def _private_folder(user: _Unprivileged | None) -> Iterator[str]:
    """A new folder that only the probe's user can enter; gone at the end.

    It holds an empty keymap, which QEMU's VNC server wants to read, so that the probe doesn't depend on the files of
    QEMU's data package being there, and readable to the probe's user.
    """
    parent = next((folder for folder in _FOLDERS if os.access(folder, os.W_OK | os.X_OK)), None)
    folder = tempfile.mkdtemp(prefix="kvmops-", dir=parent)
    try:
        os.mkdir(f"{folder}/keymaps", 0o755)
        with open(f"{folder}/keymaps/en-us", "w"):
            pass
        os.chmod(f"{folder}/keymaps/en-us", 0o644)
        if user:
            os.chown(folder, user.uid, user.gid)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


_libc = ctypes.CDLL(None, use_errno=True)


def _before_exec(parent: int) -> None:
    """In the child: die with the probe, leave no core."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if os.getppid() != parent:  # It ended before prctl
        os._exit(1)


_P = TypeVar("_P", bound="_Process")


class _Exited(Exception):
    """The process ended, or closed its end of QMP."""


class _Process:
    """A child in its own session, unprivileged where we are root, killed with its whole group at the end of `with`."""

    def __init__(
        self,
        arguments: list[str],
        executable: str,
        inherit: tuple[int, ...],
        user: _Unprivileged | None,
        stdout: int,
    ) -> None:
        parent = os.getpid()
        # Descriptors to hand over, rights to drop, an end for certain: a module's run_command does none of that.
        self._process = subprocess.Popen(  # pylint: disable=ansible-bad-function
            arguments,
            executable=executable,
            pass_fds=inherit,
            cwd="/",
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.PIPE,
            start_new_session=True,
            preexec_fn=lambda: _before_exec(parent),
            **(user.options() if user else {}),
        )
        self.stdout = self._process.stdout
        self._told = bytearray()

    def __enter__(self: _P) -> _P:
        return self

    def __exit__(self, *_failure: object) -> None:
        # Not waited for before: until then its number is its own, so that no other group can be hit.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe:
                pipe.close()

    def hear(self, pipe: int, deadline: _vnc.Deadline) -> bytes:
        """Return what came through `pipe`, b"" at its end. Raises socket.timeout.

        Meanwhile stderr is kept, as far as a sentence needs it, and emptied, so that nobody hangs in writing to it.
        """
        while True:
            watched: list[Any] = [pipe, *self._stderr()]
            ready = select.select(watched, [], [], deadline.remaining())[0]
            if self._process.stderr in ready:
                self._keep()
            if pipe in ready:
                try:
                    return os.read(pipe, _MOST_AT_ONCE)
                except ConnectionResetError:
                    return b""

    def last_words(self, deadline: _vnc.Deadline) -> str:
        """Return what it wrote to stderr, until it closes it or the time is over; what is there by then, always."""
        with contextlib.suppress(socket.timeout):
            while self._stderr():
                if select.select(self._stderr(), [], [], deadline.left())[0]:
                    self._keep()
                deadline.remaining()
        return self._told.decode("utf-8", "replace")

    def _stderr(self) -> list[IO[bytes]]:
        return [self._process.stderr] if self._process.stderr and not self._process.stderr.closed else []

    def _keep(self) -> None:
        (stderr,) = self._stderr()
        data = os.read(stderr.fileno(), _MOST_AT_ONCE)
        if not data:
            stderr.close()
        self._told += data[: _MOST_TOLD - len(self._told)]


class _Qemu(_Process):
    """A QEMU without a machine, with a VNC server and QMP."""

    def __init__(self, name: str, executable: str, image: int, folder: str, user: _Unprivileged | None) -> None:
        self.vnc = f"{folder}/v"
        self._qmp, theirs = socket.socketpair()
        with theirs:
            inherit = (image, theirs.fileno())
            try:
                super().__init__(
                    [name, *_arguments(folder, self.vnc, inherit[1])], executable, inherit, user, subprocess.DEVNULL
                )
            except BaseException:
                self._qmp.close()
                raise

    def __exit__(self, *failure: object) -> None:
        self._qmp.close()
        super().__exit__(*failure)

    def greet(self, deadline: _vnc.Deadline) -> dict[str, Any]:
        """Return QMP's greeting, once QEMU executes commands.

        Raises _Exited, ValueError (that's no QMP), socket.timeout.
        """
        greeting = self._hear(deadline)
        with contextlib.suppress(BrokenPipeError):  # It greets before it knows whether it can start: what it says next
            self._qmp.sendall(b'{"execute": "qmp_capabilities"}\n')  # is its end
        self._hear(deadline)
        return greeting

    def _hear(self, deadline: _vnc.Deadline) -> dict[str, Any]:
        """One line of QMP; no second one comes before we ask."""
        line = bytearray()
        while not line.endswith(b"\n"):
            data = self.hear(self._qmp.fileno(), deadline)
            if not data:
                raise _Exited("it ended without a word")
            line += data
            if len(line) > _MOST_QMP:
                raise ValueError("it does not speak QMP")
        message = json.loads(line)
        if not isinstance(message, dict):
            raise ValueError("it does not speak QMP")
        return message


def _arguments(folder: str, vnc: str, qmp: int) -> list[str]:
    """QEMU's command line.

    Several accelerators, so that builds with only one of them start too; none has anything to do.
    """
    return [
        *("-machine", "none,accel=kvm:tcg:qtest"),
        *("-nodefaults", "-no-user-config", "-S", "-L", folder),
        *("-display", "none", "-monitor", "none", "-serial", "none"),
        *("-chardev", f"socket,id=qmp,fd={qmp}", "-mon", "chardev=qmp,mode=control"),
        *("-vnc", f"unix:{vnc},power-control=on"),
    ]


# --- The version ------------------------------------------------------------------------------------------------------


def _told_version(greeting: dict[str, Any]) -> tuple[str | None, str | None]:
    """Version and package of QMP's greeting: {"QMP": {"version": {"qemu": {"major", "minor", "micro"}, "package"}}}."""
    try:
        told = greeting["QMP"]["version"]
        version = ".".join(str(int(told["qemu"][part])) for part in ("major", "minor", "micro"))
        package = str(told["package"]).strip()
    except (KeyError, TypeError, ValueError):
        return None, None
    return version, package.strip("()") or None


def parse_version_text(text: str) -> tuple[str | None, str | None]:
    """Version and package of the line "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)"."""
    match = _VERSION.search(text)
    return (match.group(1), match.group(2)) if match else (None, None)


def _ask_version(
    name: str, executable: str, image: int, user: _Unprivileged | None, deadline: _vnc.Deadline
) -> tuple[str | None, str | None]:
    """Version and package by --version, for a binary that doesn't start."""
    text = bytearray()
    asked = _Process([name, "--version"], executable, (image,), user, subprocess.PIPE)
    with asked as process, contextlib.suppress(socket.timeout):
        while process.stdout and len(text) < _MOST_TOLD:
            data = process.hear(process.stdout.fileno(), deadline)
            if not data:
                break
            text += data
    return parse_version_text(text.decode("utf-8", "replace"))
