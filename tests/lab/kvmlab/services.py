# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The two daemons of a host, libvirtd and sshd: their files, their start, their readiness, their end."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from . import namespace, state
from .machine import LabError, environment, run, tail

HOME = "/var/lib/kvmops-lab/root"
KEY = state.ROOT / "id_ed25519"
SSH_PORT = 22
_SSHD = ("sshd", "sshd-session", "sshd-auth")
"""The listening process, and, since OpenSSH 9.8, the programs that serve its connections."""
_QEMU_USER = "libvirt-qemu"
_QEMU_ID = 64055  # as Debian and Ubuntu number it

# Who holds a connection may call nothing for minutes, as the tests do: libvirtd would end it after 30 s without answer
# to its keep-alive messages.
_LIBVIRTD_CONF = """\
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_ro_perms = "0777"
unix_sock_rw_perms = "0770"
log_outputs = "3:stderr"
keepalive_interval = -1
host_uuid = "{uuid}"
"""

# No virtlogd, no control groups, no mount namespace for each guest: less to fail, nothing that a console sees.
_QEMU_CONF = f"""\
user = "{_QEMU_USER}"
group = "{_QEMU_USER}"
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
remember_owner = 0
stdio_handler = "file"
"""

_SSHD_CONFIG = """\
ListenAddress {address}:{port}
HostKey /etc/ssh/lab_host_key
AuthorizedKeysFile /etc/ssh/lab_authorized_keys
PidFile /run/sshd.pid
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
UseDNS no
MaxSessions 100
MaxStartups 100
PrintMotd no
SetEnv LANG=C.UTF-8
Subsystem sftp internal-sftp
"""


def _make_key(path: Path) -> None:
    if not path.exists():
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "kvmops-lab", "-f", str(path))


def _accounts() -> tuple[str, str]:
    """passwd and group: the machine's, with a home for root inside and the user that QEMU runs as."""
    passwd = Path("/etc/passwd").read_text(encoding="utf-8")
    group = Path("/etc/group").read_text(encoding="utf-8")
    passwd = re.sub(r"^(root:[^:]*:0:0:[^:]*):[^:]*:[^:]*$", rf"\1:{HOME}:/bin/bash", passwd, flags=re.MULTILINE)
    if not re.search(rf"^{_QEMU_USER}:", passwd, re.MULTILINE):
        home = "/var/lib/libvirt"
        passwd += f"{_QEMU_USER}:x:{_QEMU_ID}:{_QEMU_ID}:Libvirt Qemu:{home}:/usr/sbin/nologin\n"
    if not re.search(rf"^{_QEMU_USER}:", group, re.MULTILINE):
        group += f"{_QEMU_USER}:x:{_QEMU_ID}:\n"
    return passwd, group


def files(name: str, address: str) -> dict[str, tuple[int, str]]:
    """The host's own files: path inside -> (mode, text). Makes the keys, and known_hosts outside."""
    folder = state.folder(name)
    host_key = folder / "host_key"
    _make_key(KEY)
    _make_key(host_key)
    public = host_key.with_suffix(".pub").read_text(encoding="utf-8")
    (folder / "known_hosts").write_text(f"{address} {public}", encoding="utf-8")
    passwd, group = _accounts()
    own = uuid.uuid4()
    return {
        "/etc/hostname": (0o644, f"{name}\n"),
        "/etc/machine-id": (0o444, f"{own.hex}\n"),
        "/etc/hosts": (0o644, f"127.0.0.1 localhost\n{address} {name}\n"),
        "/etc/resolv.conf": (0o644, "# This host has no DNS.\n"),
        "/etc/nsswitch.conf": (0o644, "passwd: files\ngroup: files\nshadow: files\nhosts: files\nservices: files\n"),
        "/etc/passwd": (0o644, passwd),
        "/etc/group": (0o644, group),
        "/etc/shadow": (0o600, "root:*:20000:0:99999:7:::\n"),
        "/etc/ssh/lab_sshd_config": (0o644, _SSHD_CONFIG.format(address=address, port=SSH_PORT)),
        "/etc/ssh/lab_host_key": (0o600, host_key.read_text(encoding="utf-8")),
        "/etc/ssh/lab_authorized_keys": (0o644, KEY.with_suffix(".pub").read_text(encoding="utf-8")),
        "/etc/libvirt/libvirtd.conf": (0o644, _LIBVIRTD_CONF.format(uuid=own)),
        "/etc/libvirt/qemu.conf": (0o600, _QEMU_CONF),
    }


def libvirt_socket(pid: int) -> Path:
    """The host's libvirt socket, as the machine reaches it."""
    return Path(f"/proc/{pid}/root/run/libvirt/libvirt-sock")


def libvirt_uri(pid: int) -> str:
    """The host's libvirt, as the machine reaches it."""
    return f"qemu+unix:///system?socket={libvirt_socket(pid)}"


def running(pid: int, *names: str) -> list[int]:
    """The PIDs of a daemon in a host, as the machine counts them."""
    return [found for found, name in namespace.processes(pid) if name in names]


def _spawn(pid: int, log: Path, *command: str) -> None:
    """Start something in a host that outlives us: `setsid --fork` leaves it to the host's PID 1."""
    with open(log, "ab") as output:
        subprocess.run(
            [*namespace.enter(pid), "setsid", "--fork", *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env=environment({"HOME": HOME}),
            check=True,
        )


def _await(ready: Callable[[], bool], pid: int, daemon: str, log: Path, seconds: float = 90) -> None:
    """Try until it answers; a daemon that ended, or is late, is an error with the end of its log."""
    until = time.monotonic() + seconds
    while not ready():
        # Between fork and exec the daemon goes by the name of what forked it.
        if not running(pid, daemon, "setsid"):
            raise LabError(f"{daemon} ended instead of starting; the end of {log}:{tail(log)}")
        if time.monotonic() > until:
            raise LabError(f"{daemon} does not answer after {seconds:g} seconds; the end of {log}:{tail(log)}")
        time.sleep(0.05)


def ssh_answers(address: str) -> bool:
    """Whether an SSH server is at the address of a host."""
    with contextlib.suppress(OSError), socket.create_connection((address, SSH_PORT), timeout=5) as connection:
        connection.settimeout(20)
        return connection.recv(4) == b"SSH-"
    return False


def _libvirt_answers(pid: int) -> bool:
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(os.fspath(libvirt_socket(pid)))
    except OSError:
        return False
    # The socket is there before the drivers are; this waits for them.
    run("virsh", "--quiet", "--connect", libvirt_uri(pid), "list", "--name", seconds=90)
    return True


def start_sshd(record: state.Record) -> None:
    """Start sshd unless it runs, and wait until it answers."""
    log = state.folder(record["name"]) / "sshd.log"
    if not running(record["pid"], "sshd"):
        _spawn(record["pid"], log, "/usr/sbin/sshd", "-D", "-e", "-f", "/etc/ssh/lab_sshd_config")
    _await(lambda: ssh_answers(record["address"]), record["pid"], "sshd", log)


def start_libvirtd(record: state.Record) -> None:
    """Start libvirtd unless it runs, and wait until it answers."""
    log = state.folder(record["name"]) / "libvirtd.log"
    if not running(record["pid"], "libvirtd"):
        _spawn(record["pid"], log, "/usr/sbin/libvirtd")
    _await(lambda: _libvirt_answers(record["pid"]), record["pid"], "libvirtd", log)


def end_sshd(record: state.Record) -> None:
    """End sshd and all its connections."""
    for pid in running(record["pid"], *_SSHD):
        namespace.end(pid)


def end_libvirtd(record: state.Record, number: signal.Signals) -> None:
    """End libvirtd by a signal; the guests go on."""
    for pid in running(record["pid"], "libvirtd"):
        namespace.end(pid, number)
