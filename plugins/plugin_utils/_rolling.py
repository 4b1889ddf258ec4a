# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""In which batches the domains of a fleet are power-cycled: by priority, by what waits for what, so many at a time.

Private to this collection. Pure: from records and rules to a plan.
"""

from __future__ import annotations

import typing as t
from fnmatch import fnmatchcase

from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError
from ansible_collections.kvmops.console.plugins.module_utils._managers import START

Json = dict[str, t.Any]

PRIORITY = 50
"""Of a domain for which nobody said one. The lowest number goes first."""


class Machine(t.NamedTuple):
    """A domain to be power-cycled. `after` and `before`: names or globs, "NAME" or "HOST/NAME", of what it waits for,
    and of what waits for it.
    """

    host: str
    name: str
    uuid: str
    priority: int = PRIORITY
    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    gates: tuple[Json, ...] = ()

    @property
    def label(self) -> str:
        return f"{self.host}/{self.name}"

    def meant_by(self, pattern: str) -> bool:
        """Whether a glob means it."""
        return fnmatchcase(self.label if "/" in pattern else self.name, pattern)


class Rule(t.NamedTuple):
    """What the play says of the domains that `domains` (globs) means: more than a domain's own metadata counts."""

    domains: t.Sequence[str]
    priority: int | None = None
    after: t.Sequence[str] = ()
    before: t.Sequence[str] = ()


def waiting(host: str, audit: Json, changes: Json, again: t.Collection[str]) -> list[Json]:
    """The records of `audit` (domain_info's result) whose process is older than its definition or its QEMU, as it says,
    or as `changes` (domain_power_control's result, a forecast in check mode) does; and those with a label in `again`.

    Without those that another manager starts by a definition of its own: it would take them for dead.
    """
    pending = {record["uuid"] for record in changes.get("domains", ()) if record.get("restart_pending")}
    return [
        record
        for record in audit.get("domains", ())
        if f"{host}/{record['name']}" in again or (_is_old(record, pending) and not _is_started_elsewhere(record))
    ]


def _is_old(record: Json, pending: t.Collection[str]) -> bool:
    return bool(record.get("restart_pending") or record.get("outdated_process") or record["uuid"] in pending)


def _is_started_elsewhere(record: Json) -> bool:
    return (record.get("managed_by") or {}).get("rewrites") == START


def still_to_pass(again: t.Collection[str], audits: t.Mapping[str, Json]) -> list[str]:
    """Of the labels in `again`, those whose domain may still be there: by host, what its audit says. A host without one
    was not looked at, this time.
    """
    seen = {f"{host}/{record['name']}" for host, audit in audits.items() for record in audit.get("domains", ())}
    looked_at = {host for host, audit in audits.items() if "domains" in audit}
    return sorted(label for label in again if label in seen or label.partition("/")[0] not in looked_at)


def machine(host: str, record: Json, rules: t.Sequence[Rule], gates: t.Sequence[Json]) -> Machine:
    """The domain of a record of domain_info (`order` is from its metadata), with what the play says of it.

    `gates`: {domains: globs, ...}; every one that means the domain is kept, without its globs.
    """
    order = record.get("order") or {}
    found = Machine(host, record["name"], record["uuid"])
    meant = [rule for rule in rules if any(found.meant_by(pattern) for pattern in rule.domains)]
    said = (order.get("priority"), *(rule.priority for rule in meant))
    return found._replace(
        priority=[PRIORITY, *(priority for priority in said if priority is not None)][-1],
        after=(*order.get("after", ()), *(pattern for rule in meant for pattern in rule.after)),
        before=(*order.get("before", ()), *(pattern for rule in meant for pattern in rule.before)),
        gates=tuple(
            {key: value for key, value in gate.items() if key != "domains" and value is not None}
            for gate in gates
            if any(found.meant_by(pattern) for pattern in gate["domains"])
        ),
    )


def batches(machines: t.Iterable[Machine], size: int) -> list[list[Machine]]:
    """The machines in batches of at most `size`.

    A batch has one priority, and nothing in it waits for anything that is not in an earlier one. What waits for a
    machine that is not among them waits for nothing. Raises InputError where some wait for each other.
    """
    waiting = {each.label: each for each in sorted(machines, key=lambda each: (each.priority, each.label))}
    needs = _needs(list(waiting.values()))
    planned: list[list[Machine]] = []
    while waiting:
        ready = [each for label, each in waiting.items() if not needs[label].intersection(waiting)]
        if not ready:
            raise InputError(
                f"These domains wait for each other: {' -> '.join(_circle(needs, set(waiting)))}. Take one of the"
                " before or after away, in the play or in the domains' metadata."
            )
        first = min(each.priority for each in ready)
        batch = [each for each in ready if each.priority == first][:size]
        planned.append(batch)
        for each in batch:
            del waiting[each.label]
    return planned


def _needs(machines: t.Sequence[Machine]) -> dict[str, set[str]]:
    """By label, the labels of what goes before. A glob that means the machine itself makes it wait for the others."""
    needs: dict[str, set[str]] = {each.label: set() for each in machines}
    for each in machines:
        others = [other for other in machines if other is not each] if each.after or each.before else []
        for other in others:
            if any(other.meant_by(pattern) for pattern in each.after):
                needs[each.label].add(other.label)
            if any(other.meant_by(pattern) for pattern in each.before):
                needs[other.label].add(each.label)
    return needs


def _circle(needs: t.Mapping[str, set[str]], left: set[str]) -> list[str]:
    """One way round, from the first by name; everything that is left waits for something that is left."""
    path = [min(left)]
    while True:
        following = min(needs[path[-1]] & left)
        if following in path:
            return [*path[path.index(following) :], following]
        path.append(following)
