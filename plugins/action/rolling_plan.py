# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans on the controller in which batches domains are power-cycled. Documented in plugins/modules/rolling_plan.py."""

from __future__ import annotations

import typing as t

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError
from ansible_collections.kvmops.console.plugins.plugin_utils import _registered, _rolling

Json = dict[str, t.Any]

NAMES: Json = {"type": "list", "elements": "str", "default": []}

ARGUMENT_SPEC: Json = {
    "hosts": {"type": "list", "elements": "str"},
    "audit": {"type": "str", "required": True},
    "changes": {"type": "str"},
    "batch": {"type": "int", "default": 1},
    "order": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "domains": {"type": "list", "elements": "str", "required": True},
            "priority": {"type": "int"},
            "after": NAMES,
            "before": NAMES,
        },
    },
    "gates": {
        "type": "list",
        "elements": "dict",
        "default": [],
        "options": {
            "domains": {"type": "list", "elements": "str", "required": True},
            "check": {"type": "str", "required": True, "choices": ["agent", "text", "tcp", "command"]},
            "text": {"type": "str"},
            "host": {"type": "str"},
            "port": {"type": "int"},
            "command": {"type": "list", "elements": "str"},
            "timeout": {"type": "int", "default": 300},
        },
        "required_if": [
            ("check", "text", ["text"]),
            ("check", "tcp", ["host", "port"]),
            ("check", "command", ["command"]),
        ],
    },
    "again": {"type": "list", "elements": "str", "default": []},
}


class ActionModule(ActionBase):  # type: ignore[misc, unused-ignore]
    """Reads what audits registered; never connects to a host."""

    # One plan for all hosts, whether or not the task says run_once.
    BYPASS_HOST_LOOP = True
    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: Json | None = None) -> Json:
        result: Json = super().run(tmp, task_vars)
        _validated, options = self.validate_argument_spec(argument_spec=ARGUMENT_SPEC)
        if options["batch"] < 1:
            raise AnsibleActionFail(f"batch is a number of domains from 1 on, and not {options['batch']}.")
        try:
            audits = _of_hosts(task_vars or {}, options, "audit")
            machines = _machines(audits, _of_hosts(task_vars or {}, options, "changes"), options)
            planned = _rolling.batches(machines, options["batch"])
        except ConsoleError as error:
            raise AnsibleActionFail(str(error)) from error
        result.update(
            changed=False,
            batches=[[_described(each) for each in batch] for batch in planned],
            plan=[
                f"{number}. {', '.join(each.label for each in batch)}" for number, batch in enumerate(planned, start=1)
            ],
            again=_rolling.still_to_pass(options["again"], audits),
        )
        return result


def _of_hosts(variables: Json, options: Json, what: str) -> Json:
    """By host, what it registered, if anything."""
    return {
        host: _registered.value(variables, host, options[what]) or {}
        for host in _registered.hosts(variables, options["hosts"])
    }


def _machines(audits: Json, changes: Json, options: Json) -> list[_rolling.Machine]:
    """The domains that wait for a power cycle, and those whose gates are to be passed again."""
    rules = [_rolling.Rule(**rule) for rule in options["order"]]
    return [
        _rolling.machine(host, record, rules, options["gates"])
        for host, audit in audits.items()
        for record in _rolling.waiting(host, audit, changes[host], options["again"])
    ]


def _described(machine: _rolling.Machine) -> Json:
    return {
        "host": machine.host,
        "name": machine.name,
        "label": machine.label,
        "uuid": machine.uuid,
        "gates": list(machine.gates),
    }
