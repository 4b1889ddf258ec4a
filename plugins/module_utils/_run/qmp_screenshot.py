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

from ansible_collections.kvmops.console.plugins.module_utils import _image, _qmp, _screens
from ansible_collections.kvmops.console.plugins.module_utils._concurrent import bounded_map
from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError, InputError
from ansible_collections.kvmops.console.plugins.module_utils._run._screen_options import (
    check_enclosed,
    finish_record,
    host_allows,
    screen_options,
)
from ansible_collections.kvmops.console.plugins.module_utils._run._task import need_pictures
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
    "head": {"type": "int", "default": 0},
}


class Machine(t.NamedTuple):
    """One screen of one QEMU: `name` is ours, `path` its QMP socket, `device` the id of a display device, or ""."""

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
    machines = read_machines(params["sockets"])
    camera = _Camera(options, WAKE[params["wake"]])
    outcomes = bounded_map(
        camera.picture,
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


def read_machines(sockets: t.Sequence[t.Any]) -> list[Machine]:
    """What `sockets` means: paths, or dicts as _SOCKET says, sorted by name. Raises InputError."""
    machines = sorted(_read_machine(one) for one in sockets)
    for one, other in zip(machines, machines[1:]):
        if (one.name, one.head) == (other.name, other.head):
            raise InputError(
                f"{one.path} and {other.path} are both called {one.name}, and their pictures would be, too: give each a"
                " name."
                if one.path != other.path
                else f"{one.path} is named twice with head {one.head}: name it once, or give each device a name."
            )
    return machines


def _read_machine(given: t.Any) -> Machine:
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
    if one["head"] < 0 or (one["head"] and one["device"] is None):
        raise InputError(
            f"{name}: head is a number from 0, and of a device; name the display device, too, by its id= in QEMU."
        )
    return Machine(name, one["path"], one["device"] or "", one["head"])


def _record(machine: Machine, outcome: Record | BaseException) -> Record:
    base = {"name": machine.name, "socket": machine.path, "changed": False, "screens": []}
    return {**base, **finish_record(outcome)}


class _Camera:
    """Takes the pictures of one task."""

    def __init__(self, options: _screens.Options, wake: t.Callable[[_qmp.Monitor], None]) -> None:
        self._options = options
        self._wake = wake

    def picture(self, machine: Machine) -> Record:
        """The screen of a machine, or why there is none."""
        if not host_allows():
            return {"skipped": "its owner lets nobody see its screen"}
        screen = Screen(_key(machine), machine.name, machine.head, lambda: self._take(machine))
        try:
            return {"screens": [_screens.shoot(screen, self._options)]}
        except _screens.WaitFailed as e:
            return {"screens": [e.record], "error": str(e)}
        except ConsoleError as e:
            return {"error": f"{machine.name}: {e}"}

    def _take(self, machine: Machine) -> Shot:
        with _qmp.connect(machine.path, self._options.timeout) as monitor:
            self._wake(monitor)
            dump = _qmp.screendump(monitor, machine.device or None, machine.head)
        return Shot(_image.decode(dump.ppm), CAPTURE, blocked_ms=dump.blocked_ms)


def _key(machine: Machine) -> str:
    """The folder of a screen in the store: the same for all who mean it, whatever they call it."""
    told = "\0".join((os.path.realpath(machine.path), machine.device, str(machine.head)))
    return f"qmp-{hashlib.sha256(told.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}"
