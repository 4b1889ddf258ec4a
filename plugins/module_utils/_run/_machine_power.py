# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the runs of qmp_power and incus_power share: the options, and what is told of a machine.

Private to this collection. Documented in plugins/doc_fragments/machine_power.py.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.console.plugins.module_utils import _power
from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError
from ansible_collections.kvmops.console.plugins.module_utils._power import Done, Method, Observation, Power

Params = dict[str, t.Any]
Record = dict[str, t.Any]


class Wanted(t.NamedTuple):
    """What the play asks for."""

    state: str
    methods: tuple[Method, ...]
    force: str
    timeout: float

    def power(self, unusable: t.Mapping[str, str] | None = None) -> Power:
        """The rules for one machine."""
        return Power(self.state, self.methods, self.force, unusable=unusable, timeout=self.timeout)


def power_spec(states: t.Sequence[str], methods: t.Mapping[str, t.Sequence[Method]], **more: t.Any) -> Params:
    """The common options, and a module's own. `methods`: by state, what asks the guest when nothing else is said."""
    known = sorted({one.method for way in methods.values() for one in way})
    return {
        "state": {"type": "str", "choices": list(states), "required": True},
        "methods": {
            "type": "list",
            "elements": "dict",
            "options": {
                "method": {"type": "str", "choices": known, "required": True},
                "timeout": {"type": "float", "default": 60.0},
                **({"resend_every": {"type": "float"}} if _resends(methods) else {}),
            },
        },
        "force": {"type": "str", "choices": list(_power.FORCES), "default": _power.NEVER},
        "timeout": {"type": "float", "default": 30.0},
        "concurrency": {"type": "int", "default": 50},
        **more,
    }


def _resends(methods: t.Mapping[str, t.Sequence[Method]]) -> bool:
    return any(one.resend_every is not None for way in methods.values() for one in way)


def wanted(params: Params, methods: t.Mapping[str, t.Sequence[Method]]) -> Wanted:
    """What the play asks for. Raises InputError."""
    for name in ("timeout", "concurrency"):
        if not 0 < params[name] < float("inf"):
            raise InputError(f"{name} is {params[name]:g}; it has to be more than 0.")
    state, given = params["state"], params["methods"]
    usual = tuple(methods.get(state, ()))
    if not usual or given is None:
        return Wanted(state, usual, params["force"], params["timeout"])
    if not given and params["force"] == _power.NEVER:
        raise InputError("methods is empty and force is never: nothing may be done then; allow one of them.")
    ways = _power.read_methods(given, [one.method for one in usual])
    return Wanted(state, ways, params["force"], params["timeout"])


_FORESEEN = {_power.STOPPED: _power.OFF, _power.SAVED: _power.OFF, _power.PAUSED_STATE: _power.PAUSED}
"""What a machine is in a state; in all others it is on."""


def foreseen(power: Power, sight: Observation) -> Record:
    """What check mode tells of a machine that is like this."""
    done = power.foresee(sight)
    record = told(power, done)
    if done.ok and done.changed:
        kept = power.state == _power.RESET_STATE and sight.power == _power.PAUSED
        record["after"] = sight.power if kept else _FORESEEN.get(power.state, _power.ON)
    return record


def told(power: Power, done: Done, trouble: str | None = None) -> Record:
    """What a machine's record says of what was done. `trouble`: why its state could not be read in the end."""
    record: Record = {
        "changed": done.changed,
        "before": power.first.power if power.first else _power.UNKNOWN,
        "after": power.last.power if power.last else _power.UNKNOWN,
        "steps": power.steps,
        "ended_by": done.ended_by,
    }
    if done.skipped:
        record["skipped"] = done.reason
    elif not done.ok:
        record["error"] = f"{done.reason}." if trouble is None else f"{done.reason}: {trouble}"
    return record


UNTOUCHED: Record = {
    "changed": False,
    "before": _power.UNKNOWN,
    "after": _power.UNKNOWN,
    "steps": [],
    "ended_by": None,
}
"""Of a machine that could not even be looked at."""


def summarize(records: t.Sequence[Record], what: str) -> Record:
    """Counts over all records; `what` they are."""
    return {
        what: len(records),
        "changed": sum(bool(record["changed"]) for record in records),
        "skipped": sum("skipped" in record for record in records),
        "errors": sum("error" in record for record in records),
    }


def differences(records: t.Sequence[Record]) -> list[Record]:
    """What diff mode shows: what each machine that is switched was, and what it is."""
    return [
        {
            "before_header": record["name"],
            "after_header": record["name"],
            "before": f"{record['before']}\n",
            "after": f"{record['after']}\n",
        }
        for record in records
        if record["changed"]
    ]
