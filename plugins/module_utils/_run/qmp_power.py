# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The run of kvmops.console.qmp_power: switch many QEMUs at once, each over its own QMP socket.

Private to this collection.
"""

from __future__ import annotations

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.kvmops.console.plugins.module_utils import _guest_agent, _power, _qmp
from ansible_collections.kvmops.console.plugins.module_utils._concurrent import bounded_map
from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError, InputError
from ansible_collections.kvmops.console.plugins.module_utils._power import Method
from ansible_collections.kvmops.console.plugins.module_utils._power_drive import drive
from ansible_collections.kvmops.console.plugins.module_utils._run._machine_power import (
    UNTOUCHED,
    Wanted,
    differences,
    foreseen,
    power_spec,
    summarize,
    told,
    wanted,
)

Params = dict[str, t.Any]
Record = dict[str, t.Any]

REFUSED = {
    _power.POWER_CYCLED: "power_cycled needs somebody who starts QEMU again, and QMP cannot: have them stopped, and"
    " start them with what started them before.",
    _power.PENDING_APPLIED: "pending_applied needs a definition that may be newer than the process, and a QEMU without"
    " libvirt has none: have them stopped, and start them with what started them before.",
    _power.SAVED: "saved needs somebody who starts QEMU from what was saved, and QMP cannot: pause them instead"
    " (paused), or use what manages them.",
}
"""The states that there cannot be here, each with the reason and what to do instead."""

METHODS = {
    _power.STOPPED: (Method(_qmp.AGENT, 20.0), Method(_qmp.ACPI, 60.0, 15.0)),
    _power.REBOOTED_STATE: (Method(_qmp.AGENT, 20.0), Method(_qmp.CTRL_ALT_DEL, 60.0)),
}
AGENT_MODE = {_power.STOPPED: _guest_agent.POWERDOWN, _power.REBOOTED_STATE: _guest_agent.REBOOT}
FORCE = {_power.STOPPED: "quit", _power.REBOOTED_STATE: "system_reset"}

UNUSABLE = {_power.START: "only what started this QEMU can start it again, such as its systemd unit or its script"}
NO_AGENT = "sockets names no socket of a guest agent for it"

_CALLS = 4
"""How often a machine may have to be given up on, each time after `timeout`, beyond what its rules know of."""

_SOCKET = {"path": {"type": "path", "required": True}, "name": {"type": "str"}, "agent": {"type": "path"}}


class Socket(t.NamedTuple):
    """A QEMU: `name` is ours, `path` its QMP socket, `agent` that of its guest agent, where there is one."""

    name: str
    path: str
    agent: str | None = None


def qmp_power_options() -> Params:
    """What AnsibleModule has to be told."""
    sockets = {"type": "list", "elements": "raw", "required": True}
    return {"argument_spec": power_spec(_power.STATES, METHODS, sockets=sockets), "supports_check_mode": True}


def run(module: AnsibleModule) -> Record:
    """The module's result."""
    if _qmp.QMP_TRACEBACK:
        module.fail_json(
            msg=f"{missing_required_lib('qemu.qmp')} To do so, {_qmp.INSTALL}", exception=_qmp.QMP_TRACEBACK
        )
    result = switch(module.params, check=module.check_mode)
    return {**result, "diff": differences(result["machines"])} if module._diff else result


def switch(params: Params, *, check: bool) -> Record:
    """Bring the machines that `params` name to the state that they name; `check`: only tell. Raises InputError."""
    asked = wanted(params, METHODS)
    if asked.state in REFUSED:
        raise InputError(REFUSED[asked.state])
    sockets = read_sockets(params["sockets"])
    switcher = _Switcher(asked, check, params["methods"] is not None)
    outcomes = bounded_map(
        switcher.switch,
        sockets,
        concurrency=params["concurrency"],
        timeout=asked.power().patience + _CALLS * asked.timeout,
        doing=lambda socket: f"Switching {socket.name}",
    )
    records = [_record(socket, outcome) for socket, outcome in zip(sockets, outcomes)]
    return {
        "changed": any(record["changed"] for record in records),
        "machines": records,
        "summary": summarize(records, "machines"),
    }


def read_sockets(given: t.Sequence[t.Any]) -> list[Socket]:
    """What `sockets` means: paths, or dicts as _SOCKET says, sorted by name. Raises InputError."""
    sockets = sorted((_read_socket(one) for one in given), key=lambda socket: socket[:2])
    for one, other in zip(sockets, sockets[1:]):
        if one.name == other.name:
            raise InputError(f"{one.path} and {other.path} are both called {one.name}: name each machine once.")
    return sockets


def _read_socket(given: t.Any) -> Socket:
    asked = {"path": given} if isinstance(given, str) else given
    if not isinstance(asked, dict):
        raise InputError(f"sockets has paths and dictionaries with a path, not {given!r}.")
    checked = ArgumentSpecValidator(_SOCKET).validate(asked)
    if checked.error_messages:
        raise InputError(f"In sockets, {given!r} cannot be meant: {checked.error_messages[0]}.")
    path: str = checked.validated_parameters["path"]
    agent: str | None = checked.validated_parameters["agent"]
    name = checked.validated_parameters["name"] or os.path.splitext(os.path.basename(path))[0]
    if not name or "\0" in f"{path}{agent}":
        raise InputError(f"In sockets, {given!r} is no path of a socket.")
    return Socket(name, path, agent)


def _record(socket: Socket, outcome: Record | BaseException) -> Record:
    base = {"name": socket.name, "socket": socket.path}
    if isinstance(outcome, ConsoleError):
        return {**base, **UNTOUCHED, "error": str(outcome)}
    if isinstance(outcome, BaseException):
        raise outcome
    return {**base, **outcome}


class _Switcher:
    """Does one thing to each machine."""

    def __init__(self, asked: Wanted, check: bool, by_play: bool) -> None:
        self._asked = asked
        self._check = check
        self._by_play = by_play

    def switch(self, socket: Socket) -> Record:
        """What was done to a machine, or would be."""
        folder = os.path.dirname(os.path.abspath(socket.path))
        if not os.path.isdir(folder):
            raise InputError(f"There is no folder {folder}: correct the path of the socket of {socket.name}.")
        power = self._rules(socket)
        force = FORCE.get(self._asked.state, "quit")
        with _qmp.Machine(socket.path, self._asked.timeout, force, self._agent(socket)) as machine:
            if self._check:
                return foreseen(power, machine.look())
            done = drive(power, machine)
            return told(power, done, machine.trouble)

    def _rules(self, socket: Socket) -> _power.Power:
        """A machine without an agent is asked by one only where the play says so, and then told that it has none."""
        if socket.agent is not None:
            return self._asked.power(UNUSABLE)
        if self._by_play:
            return self._asked.power({**UNUSABLE, _qmp.AGENT: NO_AGENT})
        methods = tuple(one for one in self._asked.methods if one.method != _qmp.AGENT)
        return self._asked._replace(methods=methods).power(UNUSABLE)

    def _agent(self, socket: Socket) -> t.Callable[[], None] | None:
        path, mode = socket.agent, AGENT_MODE.get(self._asked.state)
        if path is None or mode is None:
            return None
        return lambda: _guest_agent.shut_down(path, mode)
