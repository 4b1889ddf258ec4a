# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab's command line."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

from . import fleet
from .build import build
from .host import Host
from .lab import Lab
from .machine import LabError
from .seed import seed


def _say(line: str) -> None:
    print(line, flush=True)


def _up(given: argparse.Namespace) -> None:
    for host in Lab(wait=given.wait).up(*given.names):
        _say(f"{host.name} is up: {host.address}, {host.uri}")


def _down(given: argparse.Namespace) -> None:
    if bool(given.names) == given.all:
        raise LabError("name the hosts to end, or say --all.")
    lab = Lab(wait=given.wait)
    if given.all:
        lab.down_all()
    else:
        lab.down(*given.names)


def _exec(given: argparse.Namespace) -> None:
    host = Host.find(given.name)
    words = given.command[1:] if given.command[:1] == ["--"] else given.command
    command = host.command(*words)
    sys.stdout.flush()
    os.execve(command[0], command, host.environment())


def _libvirtd(given: argparse.Namespace) -> None:
    Host.find(given.name).libvirtd(given.action)


def _sshd(given: argparse.Namespace) -> None:
    Host.find(given.name).sshd(given.action)


def _fleet(given: argparse.Namespace) -> None:
    if given.end:
        fleet.end(wait=given.wait)
        return
    inventory = fleet.begin(given.members, wait=given.wait, say=_say)
    if given.inventory:
        given.inventory.write_text(inventory, encoding="utf-8")


def _inventory(given: argparse.Namespace) -> None:
    sys.stdout.write(Lab().inventory(*given.names))


def _list(given: argparse.Namespace) -> None:
    hosts = Lab().list()
    if given.json:
        _say(json.dumps(hosts, indent=2))
        return
    for host in hosts:
        columns = (host["name"], host["state"], str(host.get("pid", "-")), host["address"], host.get("uri", ""))
        _say("{:<16} {:<9} {:<9} {:<16} {}".format(*columns).rstrip())


def _seed(given: argparse.Namespace) -> None:
    seed(Host.find(given.name), given.domains, say=_say)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="lab", description="Real hypervisors on one machine, for tests and the demo.")
    actions = parser.add_subparsers(dest="action_name", metavar="COMMAND", required=True)

    one = actions.add_parser("build", help="see to the packages, the affected QEMU and the guest")
    one.set_defaults(run=lambda given: build())

    one = actions.add_parser("up", help="start hosts; one that is up stays as it is")
    one.add_argument("names", nargs="+", metavar="NAME")
    one.set_defaults(run=_up)
    _add_wait(one)

    one = actions.add_parser("down", help="end hosts, and all that was theirs")
    one.add_argument("names", nargs="*", metavar="NAME")
    one.add_argument("--all", action="store_true", help="every host, and what a killed command left")
    one.set_defaults(run=_down)
    _add_wait(one)

    one = actions.add_parser("exec", help="run a command on a host")
    one.add_argument("name", metavar="NAME")
    one.add_argument("command", nargs=argparse.REMAINDER, metavar="-- COMMAND...")
    one.set_defaults(run=_exec)

    one = actions.add_parser("libvirtd", help="start, stop, kill (-9) or restart a host's libvirtd; its guests go on")
    one.add_argument("name", metavar="NAME")
    one.add_argument("action", choices=["start", "stop", "kill", "restart"])
    one.set_defaults(run=_libvirtd)

    one = actions.add_parser("sshd", help="start or stop a host's sshd; where it is stopped, the host can't be reached")
    one.add_argument("name", metavar="NAME")
    one.add_argument("action", choices=["start", "stop"])
    one.set_defaults(run=_sshd)

    one = actions.add_parser("fleet", help="start the fleet of Molecule's scenarios, or put its members as they were")
    one.add_argument("members", nargs="*", metavar="MEMBER", help=f"only these: {', '.join(fleet.MEMBERS)}")
    one.add_argument(
        "--inventory", type=Path, metavar="FILE", help="write an Ansible inventory of the fleet to this file"
    )
    one.add_argument("--end", action="store_true", help="end all of it")
    one.set_defaults(run=_fleet)
    _add_wait(one)

    one = actions.add_parser("inventory", help="print an Ansible inventory of the hosts that are up, or of those named")
    one.add_argument("names", nargs="*", metavar="NAME")
    one.set_defaults(run=_inventory)

    one = actions.add_parser("list", help="print the hosts: name, state, PID 1, address, libvirt URI")
    one.add_argument("--json", action="store_true", help="as JSON")
    one.set_defaults(run=_list)

    one = actions.add_parser("seed", help="put the demo's domains on a host, in the state that the demo begins with")
    one.add_argument("name", metavar="NAME")
    one.add_argument("domains", nargs="*", metavar="DOMAIN", help="only these")
    one.set_defaults(run=_seed)
    return parser


def _add_wait(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--wait",
        type=float,
        default=0,
        metavar="SECONDS",
        help="wait so long for another lab command that is at work (default: do not wait)",
    )


def main(words: Optional[Sequence[str]] = None) -> int:
    """Run one command; returns the exit status."""
    given = _parser().parse_args(words)
    try:
        given.run(given)
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0
