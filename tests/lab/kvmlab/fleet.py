# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fleet of Molecule's scenarios: hosts that differ as those of a real one do, some of them broken."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Optional

from . import inventory, systemd
from .build import fetch_backports
from .domains import AFFECTED_QEMU, FIXED_QEMU, PASSWORD, Demo
from .host import Host
from .lab import Lab
from .machine import LabError
from .seed import put

Say = Callable[[str], None]

PREFIX = "fleet-"
WRAPPER = "/usr/local/bin/vendor-qemu"
_READER = "reader"
_READER_HOME = f"/var/lib/kvmops-lab/{_READER}"


def _as_it_is(host: Host) -> None:
    """Nothing is to be done."""


def _upgrade(host: Host) -> None:
    """The QEMU of the backports, in the place of the distribution's."""
    tree = fetch_backports()
    if tree is None:
        raise LabError("this machine's release has no backports with a QEMU.")  # begin() has looked before
    # QEMU ends when it meets a module of another build.
    replace = f"cmp -s '{tree}{FIXED_QEMU}' {FIXED_QEMU} || {{ rm -rf /usr/lib/*/qemu; cp -a '{tree}/usr' /; }}"
    host.exec("sh", "-ec", replace)


def _wrap(host: Host) -> None:
    """Scripts in the place of QEMU, which nobody starts to ask: a vendor's, and one where the distribution has QEMU."""
    for path, real in ((WRAPPER, AFFECTED_QEMU), (FIXED_QEMU, f"{FIXED_QEMU}.distrib")):
        keep = f"test -e {real} || mv {path} {real}; cat >{path}; chmod 755 {path}"
        host.exec("sh", "-ec", keep, stdin=f'#!/bin/sh\nexec {real} "$@"\n')


def _add_reader(host: Host) -> None:
    """A user who reaches libvirt's read-only socket, which is open to all, and not the other."""
    words = ("--create-home", "--home-dir", _READER_HOME, "--shell", "/bin/sh", "--password", "*")
    if host.exec("id", _READER, check=False).returncode:
        host.exec("useradd", *words, _READER)


def _stop_libvirtd(host: Host) -> None:
    host.libvirtd("stop")


def _stop_sshd(host: Host) -> None:
    host.sshd("stop")


def _boot(host: Host) -> None:
    systemd.start(host, ssh=True)


class Member(NamedTuple):
    """A host: what is done to it before and after it gets its domains, and as whom Ansible comes. `group`: where the
    inventory has it.
    """

    domains: tuple[Demo, ...]
    before: Callable[[Host], None] = _as_it_is
    after: Callable[[Host], None] = _as_it_is
    user: str = "root"
    sound: bool = True
    group: str = "lab"


MEMBERS = {
    "affected": Member(
        (
            Demo("web", power_control="yes", password=PASSWORD),
            Demo("db", power_control="yes"),
            Demo("build", state="off", power_control="yes"),
        )
    ),
    "fixed": Member(
        (
            Demo("mail", emulator=FIXED_QEMU, power_control="yes", password=PASSWORD),
            Demo("archive", state="off", emulator=FIXED_QEMU),
            # The one that boots and hears its button; the others stand in their firmware.
            Demo("worker", emulator=FIXED_QEMU, guest=True),
        )
    ),
    "backports": Member((Demo("news", emulator=FIXED_QEMU, power_control="yes"),), before=_upgrade),
    "wrapped": Member(
        (
            Demo("vendor", emulator=WRAPPER, power_control="yes"),
            Demo("sealed", state="off", emulator=WRAPPER, power_control="yes"),
            Demo("packaged", state="off", emulator=FIXED_QEMU, power_control="yes"),
        ),
        before=_wrap,
    ),
    "reader": Member((Demo("shown", power_control="yes"),), before=_add_reader, user=_READER, sound=False),
    "stopped": Member((Demo("hidden", power_control="yes"),), after=_stop_libvirtd, sound=False),
    "unreachable": Member((), after=_stop_sshd, sound=False),
    # Whoever comes to it is where its systemd is PID 1, and sees no process of its libvirtd.
    "services": Member((Demo("gate", power_control="yes"),), after=_boot, sound=False, group="services"),
}


def _present(say: Say) -> dict[str, Member]:
    """The members that this machine can have."""
    without: dict[str, Optional[str]] = {"services": systemd.missing()}
    if fetch_backports() is None:
        without["backports"] = "this machine's release has no backports with a QEMU"
    without = {name: why for name, why in without.items() if why}
    for name, why in without.items():
        say(f"{name} is left out: {why}")
    return {name: member for name, member in MEMBERS.items() if name not in without}


def begin(names: Sequence[str] = (), *, wait: float = 0, say: Say = lambda line: None) -> str:
    """Start the members (all, or those named), or put those that are up as they were; returns an inventory of all.

    Its groups are `lab`, all whose domains are looked after, `sound`, those of them with which everything can be done,
    and `services`, where systemd runs.
    """
    unknown = set(names) - MEMBERS.keys()
    if unknown:
        raise LabError(f"the fleet has no member {', '.join(sorted(unknown))}.")
    present = _present(say)
    lab = Lab(wait=wait)
    for name, member in present.items():
        if names and name not in names:
            continue
        (host,) = lab.up(PREFIX + name)
        _prepare(host, member)
        say(f"{host.name} is ready: {', '.join(domain.name for domain in member.domains) or 'no domains'}")
    return _inventory({host.name: host for host in lab.hosts()}, present)


def _prepare(host: Host, member: Member) -> None:
    member.before(host)
    host.exec("rm", "-rf", "/var/lib/kvmops-console")
    for domain in member.domains:
        put(host, domain)
    member.after(host)


def _inventory(hosts: dict[str, Host], members: dict[str, Member]) -> str:
    up = {PREFIX + name: member for name, member in members.items() if PREFIX + name in hosts}
    groups: dict[str, dict[str, dict[str, str]]] = {"lab": {}, "services": {}, "sound": {}}
    for name, member in up.items():
        groups[member.group][name] = {**hosts[name].variables(), "ansible_user": member.user}
        if member.sound:
            groups["sound"][name] = {}
    return inventory.to_yaml({"all": {"children": {name: {"hosts": members} for name, members in groups.items()}}})


def end(*, wait: float = 0) -> None:
    """End all members."""
    Lab(wait=wait).down(*(PREFIX + name for name in MEMBERS))
