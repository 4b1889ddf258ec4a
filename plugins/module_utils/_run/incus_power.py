# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The run of kvmops.console.incus_power: switch many virtual machines of an Incus server at once.

Private to this collection.
"""

from __future__ import annotations

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.console.plugins.module_utils import _incus, _power
from ansible_collections.kvmops.console.plugins.module_utils._concurrent import bounded_map
from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError, InputError
from ansible_collections.kvmops.console.plugins.module_utils._incus import Client, Instance
from ansible_collections.kvmops.console.plugins.module_utils._power import Method
from ansible_collections.kvmops.console.plugins.module_utils._power_drive import drive
from ansible_collections.kvmops.console.plugins.module_utils._run import _incus_options
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
    _power.REBOOTED_STATE: "rebooted is what a guest does by itself, and Incus has no way to ask it: what Incus calls a"
    " restart ends QEMU and starts another, which is power_cycled.",
    _power.RESET_STATE: "reset leaves QEMU running, and Incus has no such button: what Incus calls a forced restart"
    " ends QEMU and starts another, which is power_cycled with force at_once.",
    _power.NMI_SENT: "nmi_sent needs QEMU's monitor, and Incus keeps that for itself: reach the guest by its console.",
    _power.PENDING_APPLIED: "pending_applied needs to know what a new process would bring, and Incus does not tell:"
    " name the machines, and use power_cycled.",
}
"""The states that there cannot be here, each with the reason and what to do instead."""

_STOP = (Method(_incus.ACPI, 60.0),)
METHODS = {_power.STOPPED: _STOP, _power.POWER_CYCLED: _STOP}

MARGIN = 2.0
"""Seconds that a method has beyond what Incus gives the guest: a machine serves one operation at a time, and force may
have to wait for the one before.
"""

_CALLS = 4
"""How often a machine may have to be given up on, each time after `timeout`, beyond what its rules know of."""


def incus_power_options() -> Params:
    """What AnsibleModule has to be told."""
    vanish = {"type": "bool", "default": False}
    return _incus_options.incus_arguments(**power_spec(_power.STATES, METHODS, allow_vanish=vanish))


def run(module: AnsibleModule) -> Record:
    """The module's result."""
    _incus_options.need_requests(module)
    params = module.params
    asked = wanted(params, METHODS)
    if asked.state in REFUSED:
        raise InputError(REFUSED[asked.state])
    way = _incus_options.way(params)
    with Client(way, params["timeout"]) as client:
        server = client.server()
        instances, unmatched = _incus_options.choose(client, params)
        if unmatched:
            module.warn(f"Nothing on {way.name} is meant by: {', '.join(unmatched)}.")
        records = switch(client, instances, asked, params, check=module.check_mode)
    return {
        "changed": any(record["changed"] for record in records),
        "instances": records,
        "summary": summarize(records, "instances"),
        "unmatched": unmatched,
        "server": {"name": way.name, "version": server.version, "fingerprint": server.fingerprint},
        **({"diff": differences(records)} if module._diff else {}),
    }


def switch(
    client: Client, instances: t.Sequence[Instance], asked: Wanted, params: Params, *, check: bool
) -> list[Record]:
    """Bring the instances to the state that is asked for; `check`: only tell."""
    # What is to be started again must not vanish.
    switcher = _Switcher(client, asked, check, params["allow_vanish"] and asked.state == _power.STOPPED)
    outcomes = bounded_map(
        switcher.switch,
        instances,
        concurrency=params["concurrency"],
        timeout=switcher.rules().patience + _CALLS * (asked.timeout + _incus.WAIT_MARGIN),
        doing=lambda instance: f"Switching {instance.name}",
    )
    return [_record(instance, outcome) for instance, outcome in zip(instances, outcomes)]


def _record(instance: Instance, outcome: Record | BaseException) -> Record:
    base: Record = {
        "name": instance.name,
        "project": instance.project,
        "uuid": instance.uuid,
        "type": "virtual-machine" if instance.is_vm else "container",
    }
    if isinstance(outcome, ConsoleError):
        return {**base, **UNTOUCHED, "error": str(outcome)}
    if isinstance(outcome, BaseException):
        raise outcome
    return {**base, **outcome}


class _Switcher:
    """Does one thing to each instance."""

    def __init__(self, client: Client, asked: Wanted, check: bool, may_vanish: bool) -> None:
        self._client = client
        self._asked = asked
        self._check = check
        self._may_vanish = may_vanish
        self._budgets = {one.method: one.timeout for one in asked.methods}

    def rules(self) -> _power.Power:
        """The rules for one machine."""
        methods = tuple(one._replace(timeout=one.timeout + MARGIN) for one in self._asked.methods)
        return self._asked._replace(methods=methods).power()

    def switch(self, instance: Instance) -> Record:
        """What was done to it, or would be."""
        if not instance.is_vm:
            return {**UNTOUCHED, "skipped": "it is a container, and not a virtual machine"}
        if instance.ephemeral and self._asked.state in _power.ENDING and not self._may_vanish:
            raise InputError(
                f"{instance.name} is ephemeral, so Incus deletes it, disks and all, when it stops: if that is meant,"
                " set allow_vanish, with state stopped."
            )
        power = self.rules()
        machine = _incus.Machine(self._client, instance, self._budgets, self._asked.state == _power.SAVED)
        if self._check:
            return foreseen(power, machine.look())
        done = drive(power, machine)
        return told(power, done, machine.trouble)
