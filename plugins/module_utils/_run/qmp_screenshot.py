# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The run of kvmops.console.qmp_screenshot: capture the screens of many QEMUs at once, each over its own QMP socket.

Private to this collection.
"""

from __future__ import annotations

import hashlib
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.kvmops.console.plugins.module_utils import _image, _qmp, _qmp_screens, _screens
from ansible_collections.kvmops.console.plugins.module_utils._concurrent import bounded_map
from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError, InputError
from ansible_collections.kvmops.console.plugins.module_utils._qmp_screens import ALL, Head
from ansible_collections.kvmops.console.plugins.module_utils._run._needs_pictures import need_pictures
from ansible_collections.kvmops.console.plugins.module_utils._run._progress import Progress
from ansible_collections.kvmops.console.plugins.module_utils._run._screen_options import (
    check_enclosed,
    finish_record,
    host_allows,
    screen_options,
    shoot_each,
)
from ansible_collections.kvmops.console.plugins.module_utils._screens import Screen, Shot

Record = dict[str, t.Any]

CAPTURE = "qmp"
WAKE: dict[str, t.Callable[[_qmp.Monitor], None]] = {
    "none": lambda monitor: None,
    "key": _qmp.press_shift,
    "pointer": _qmp.nudge_pointer,
}

_GRACE = 1.0
"""Seconds that a machine has above its own limits, so that it is the limit that tells what took long."""

_SOCKET = {
    "path": {"type": "path", "required": True},
    "name": {"type": "str"},
    "device": {"type": "str"},
    "head": {"type": "str"},
}


class Machine(t.NamedTuple):
    """What is wanted of one QEMU: `name` is ours, `path` its QMP socket, `device` the id of a display device, or "".

    `head` counts the screens of the device, or of the machine without one; it may be ALL.
    """

    name: str
    path: str
    device: str
    head: int


def run(module: AnsibleModule) -> Record:
    """The module's result."""
    need_pictures(module)
    _need_qmp(module)
    params = module.params
    options = screen_options(module)
    machines = read_machines(params["sockets"], params["head"])
    camera = _Camera(options, WAKE[params["wake"]])
    with Progress(len(machines)) as progress:
        outcomes = bounded_map(
            progress.counted(camera.picture),
            machines,
            concurrency=params["concurrency"],
            timeout=params["timeout"] + (options.wait.timeout if options.wait else 0.0) + _GRACE,
            doing=lambda machine: f"Capturing the screen of {machine.name}",
        )
    records = [_record(machine, outcome) for machine, outcome in zip(machines, outcomes)]
    check_enclosed(records)
    return {
        "changed": False,
        "machines": records,
        "summary": {
            "machines": len(records),
            "screens": sum(len(record["screens"]) for record in records),
            "skipped": sum("skipped" in record for record in records),
            "errors": sum("error" in record for record in records),
        },
    }


def _need_qmp(module: AnsibleModule) -> None:
    if _qmp.QMP_TRACEBACK:
        module.fail_json(
            msg=f"{missing_required_lib('qemu.qmp')} To do so, {_qmp.INSTALL}", exception=_qmp.QMP_TRACEBACK
        )


def read_machines(sockets: t.Sequence[t.Any], head: str = "0") -> list[Machine]:
    """What `sockets` means: paths, or dicts as _SOCKET says, sorted by name. `head` is for those that say none.

    Raises InputError.
    """
    machines = sorted(_read_machine(one, head) for one in sockets)
    for one, other in zip(machines, machines[1:]):
        if one.name == other.name and (one.head == other.head or ALL in (one.head, other.head)):
            raise InputError(
                f"{one.path} and {other.path} are both called {one.name}, and their pictures would be, too: give each a"
                " name."
                if one.path != other.path
                else f"{one.path} is named twice with head {_told(other.head)}: name it once, or give each device a"
                " name."
            )
    return machines


def _told(head: int) -> str:
    return "all" if head == ALL else str(head)


def _read_machine(given: t.Any, head: str) -> Machine:
    asked = {"path": given} if isinstance(given, str) else given
    if not isinstance(asked, dict):
        raise InputError(f"sockets has paths and dictionaries with a path, not {given!r}.")
    checked = ArgumentSpecValidator(_SOCKET).validate(asked)
    if checked.error_messages:
        raise InputError(f"In sockets, {given!r} cannot be meant: {checked.error_messages[0]}.")
    one: Record = checked.validated_parameters
    name = one["name"] or os.path.splitext(os.path.basename(one["path"]))[0]
    if not name or "\0" in one["path"]:
        raise InputError(f"In sockets, {given!r} is no path of a socket.")
    wanted = head if one["head"] is None else str(one["head"])
    if wanted != "all" and not (wanted.isascii() and wanted.isdigit()):
        raise InputError(f"{name}: head is a number from 0, or all, not {wanted!r}.")
    return Machine(name, one["path"], one["device"] or "", ALL if wanted == "all" else int(wanted))


def _record(machine: Machine, outcome: Record | BaseException) -> Record:
    base = {"name": machine.name, "socket": machine.path, "changed": False, "screens": []}
    return {**base, **finish_record(outcome)}


class _Camera:
    """Takes the pictures of one task."""

    def __init__(self, options: _screens.Options, wake: t.Callable[[_qmp.Monitor], None]) -> None:
        self._options = options
        self._wake = wake

    def picture(self, machine: Machine) -> Record:
        """The screens of a machine, or why there are none."""
        if not host_allows():
            return {"skipped": "its owner lets nobody see its screen"}

        def tell(error: ConsoleError) -> str:
            return f"{machine.name}: {error}"

        try:
            heads = self._heads(machine)
        except ConsoleError as e:
            return {"error": tell(e)}
        return shoot_each((self._screen(machine, head) for head in heads), self._options, tell)

    def _heads(self, machine: Machine) -> list[Head]:
        if machine.head != ALL and (machine.device or not machine.head):
            # QEMU need not be asked.
            return [Head(machine.head, machine.device, machine.head)]
        with _qmp.connect(machine.path, self._options.timeout) as monitor:
            return _qmp_screens.choose(monitor, machine.device, machine.head)

    def _screen(self, machine: Machine, head: Head) -> Screen:
        return Screen(_key(machine.path, head), machine.name, head.number, lambda: self._take(machine, head))

    def _take(self, machine: Machine, head: Head) -> Shot:
        if head.device is None:
            raise InputError(
                f"QEMU has no name for head {head.number}: give its display device an id= when you start QEMU."
            )
        with _qmp.connect(machine.path, self._options.timeout) as monitor:
            self._wake(monitor)
            dump = _qmp.screendump(monitor, head.device or None, head.head)
        return Shot(_image.decode(dump.ppm), CAPTURE, blocked_ms=dump.blocked_ms)


def _key(path: str, head: Head) -> str:
    """The folder of a screen in the store: the same for all who mean it, whatever they call it."""
    told = "\0".join((os.path.realpath(path), head.device or "", str(head.head)))
    return f"qmp-{hashlib.sha256(told.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}"
