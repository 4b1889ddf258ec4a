# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab: hosts that come up and go down."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Optional

from . import inventory, namespace, network, services, state, systemd
from .build import GUEST, QEMU, build
from .domains import GUEST_FOLDER, QEMU_FOLDER
from .host import Host
from .machine import LabError, cache


class Lab:
    """The hosts of one machine.

    As a context manager it starts the hosts that it was given and takes down, at the end, those that it started. `wait`
    is how many seconds to wait for another lab command that is at work.
    """

    def __init__(self, *names: str, wait: float = 300) -> None:
        self.names = names
        self._wait = wait
        self._started: list[str] = []

    def __enter__(self) -> Lab:
        try:
            self.up(*self.names)
        except BaseException:
            self.down(*self._started)
            raise
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self.down(*self._started)

    def __getitem__(self, name: str) -> Host:
        return Host.find(name)

    def up(self, *names: str) -> list[Host]:
        """Start hosts; one that is up stays as it is, and what is missing of it is started."""
        _require_root()
        for name in names:
            state.folder(name)
        build()
        with state.locked(self._wait):
            return [self._up(name) for name in names]

    def down(self, *names: str) -> None:
        """End hosts, and all that was theirs; a host that is not there is none to end."""
        if not names:
            return
        _require_root()
        with state.locked(self._wait):
            for name in names:
                _end(name)

    def down_all(self) -> None:
        """End every host, and all that was the lab's."""
        _require_root()
        with state.locked(self._wait):
            for name in state.names():
                _end(name)
            _end_lab()

    def hosts(self) -> list[Host]:
        """The hosts that are up."""
        return [Host(record) for record in _records(()) if _is_up(record)]

    def list(self) -> list[dict[str, Any]]:
        """Every host that the lab knows of, those too that were killed and not taken down."""
        return [
            Host(record).summary()
            if state.alive(record)
            else {"name": record["name"], "state": "dead", "address": record["address"]}
            for record in _records(())
        ]

    def inventory(self, *names: str) -> str:
        """An Ansible inventory (YAML) of these hosts, or of all that are up."""
        for name in names:
            Host.find(name)
        return inventory.text([record for record in _records(names) if _is_up(record)])

    def _up(self, name: str) -> Host:
        record = state.read(name)
        if record is None or not _is_up(record):
            _end(name)
            self._started.append(name)
            try:
                record = _begin(name)
            except BaseException:
                _end(name)
                raise
        services.start_sshd(record)
        services.start_libvirtd(record)
        return Host(record)


def _records(names: Sequence[str]) -> list[state.Record]:
    read = (state.read(name) for name in names or state.names())
    return [record for record in read if record is not None]


def _is_up(record: state.Record) -> bool:
    return record["ready"] and state.alive(record)


def _require_root() -> None:
    if os.geteuid() != 0:
        raise LabError("the lab needs root: it makes namespaces and mounts.")
    if not hasattr(os, "pidfd_open"):
        raise LabError("the lab needs Python 3.9 or later on a kernel of its own time.")


def _free_number() -> int:
    """The last part of a new host's address; .1 is the machine's."""
    taken = {record["number"] for record in _records(())}
    for number in range(2, 255):
        if number not in taken:
            return number
    raise LabError("the lab is full: its network has room for 253 hosts.")


def _begin(name: str) -> state.Record:
    """A new host, its network, its daemons."""
    folder = state.folder(name)
    memory = folder / "memory"
    for made in (memory, folder / "ssh"):
        made.mkdir(mode=0o700, parents=True)
    number = _free_number()
    address, commands = network.inside(number, network.network())
    with namespace.begin(name, folder / "init.log") as beginning:
        started = state.started(beginning.pid) or 0
        record: state.Record = {
            "name": name,
            "number": number,
            "address": address,
            "pid": beginning.pid,
            "started": started,
            "ready": False,
        }
        # Written before the host is told to begin: whatever is killed from here on, `down` knows of it.
        state.write(record)
        network.plug(number, beginning.pid)
        beginning.describe(
            {
                "name": name,
                "memory": str(memory),
                "binds": {QEMU_FOLDER: str(cache() / QEMU), GUEST_FOLDER: str(cache() / GUEST)},
                "files": services.files(name, address),
                "folders": {services.HOME: 0o700},
                "network": commands,
            }
        )
    record["ready"] = True
    services.start_sshd(record)
    services.start_libvirtd(record)
    state.write(record)
    return record


def _end(name: str) -> None:
    """End one host, whatever is left of it."""
    folder = state.folder(name)
    if not folder.exists():
        return
    record = state.read(name)
    if shutil.which("ssh"):
        inventory.close_connections(name)
    systemd.end(name)
    if record is not None:
        if state.alive(record):
            namespace.end(record["pid"])
        network.unplug(record["number"])
    state.forget(name)
    if not state.names():
        _end_lab()


def _end_lab() -> None:
    """What the lab has beside its hosts."""
    network.remove()
    for path in (services.KEY, services.KEY.with_suffix(".pub")):
        path.unlink(missing_ok=True)
