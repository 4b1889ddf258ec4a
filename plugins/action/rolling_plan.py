# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans on the controller in which batches domains are power-cycled. Documented in plugins/modules/rolling_plan.py."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError
from ansible_collections.kvmops.console.plugins.plugin_utils import _registered, _rolling
from ansible_collections.kvmops.console.plugins.plugin_utils._on_controller import OncePerPlay

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


class ActionModule(OncePerPlay):
    """Reads what audits registered."""

    ARGUMENT_SPEC = ARGUMENT_SPEC

    def act(self, options: Json, variables: Json) -> Json:
        if options["batch"] < 1:
            raise InputError(f"batch is a number of domains from 1 on, and not {options['batch']}.")
        audits = _of_hosts(variables, options, "audit")
        machines = _machines(audits, _of_hosts(variables, options, "changes"), options)
        planned = _rolling.batches(machines, options["batch"])
        return {
            "changed": False,
            "batches": [[_described(each) for each in batch] for batch in planned],
            "plan": [
                f"{number}. {', '.join(each.label for each in batch)}" for number, batch in enumerate(planned, start=1)
            ],
            "again": _rolling.still_to_pass(options["again"], audits),
        }


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
