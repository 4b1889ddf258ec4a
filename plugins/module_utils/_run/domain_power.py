# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The run of kvmops.console.domain_power: which domains need anything, who forbids it, then all of them at once.

Private to this collection.
"""

from __future__ import annotations

import os
import time
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.console.plugins.module_utils import (
    _domain_power,
    _domain_traps,
    _domain_xml,
    _libvirt,
    _pending_changes,
    _power,
    _qemu_process,
    _viewers,
)
from ansible_collections.kvmops.console.plugins.module_utils._domain_power import Hold, Job, Process, Switchboard
from ansible_collections.kvmops.console.plugins.module_utils._domain_traps import ACPI, AGENT, Circumstances
from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError, InputError
from ansible_collections.kvmops.console.plugins.module_utils._libvirt import Connection, Listed
from ansible_collections.kvmops.console.plugins.module_utils._power import Method
from ansible_collections.kvmops.console.plugins.module_utils._run import _machine_power
from ansible_collections.kvmops.console.plugins.module_utils._run._domain_options import domain_options, selection
from ansible_collections.kvmops.console.plugins.module_utils._run._needs_libvirt import need_libvirt
from ansible_collections.kvmops.console.plugins.module_utils._run._task import report_unmatched

if t.TYPE_CHECKING:
    from lxml.etree import _Element

Record = dict[str, t.Any]

USUAL = (Method(AGENT, 20.0), Method(ACPI, 60.0, 15.0))
"""How a guest is asked when the play does not say."""

PROCEED = "proceed"
REFUSE = "refuse"
WAIT = "wait"

_KEEP_VIEWERS = (_power.STARTED, _power.RESUMED, _power.NMI_SENT)
"""The states that take nothing away from those who look."""

_METHODS = dict.fromkeys(_power.METHODICAL, USUAL)


def spec() -> dict[str, dict[str, t.Any]]:
    """The arguments."""
    return domain_options(
        **_machine_power.power_spec(
            _power.STATES,
            _METHODS,
            timeout={"type": "float", "default": 60.0},
            allow_vanish={"type": "bool", "default": False},
            if_viewers={"type": "str", "choices": [PROCEED, REFUSE, WAIT], "default": PROCEED},
            viewers_timeout={"type": "float", "default": 300.0},
            if_locked={"type": "str", "choices": [REFUSE, PROCEED], "default": REFUSE},
            boot_id={"type": "bool", "default": False},
            confirm_identity={"type": "dict"},
            evidence={"type": "bool", "default": False},
            evidence_dir={"type": "path"},
            evidence_runs={"type": "int", "default": 100},
        )
    )


def run(module: AnsibleModule) -> Record:
    """The module's result."""
    need_libvirt(module)
    params = module.params
    if params["evidence"]:
        # Here, so that a task without pictures need not wait for Pillow to be imported.
        from ansible_collections.kvmops.console.plugins.module_utils._run._needs_pictures import need_pictures

        need_pictures(module)
    if params["evidence_runs"] < 1:
        raise InputError(f"evidence_runs is {params['evidence_runs']}; it has to be 1 at least, for this run.")
    wanted = _machine_power.wanted(params, _METHODS)
    _domain_power.EventLoop.prepare()
    with _libvirt.connect(params["uri"]) as connection:
        listed, unmatched = selection(params).pick(connection.domains(), lambda domain: (domain.name, domain.uuid))
        report_unmatched(module, unmatched, params["uri"])
        desk = Desk(connection, wanted, params)
        cases = [desk.consider(domain) for domain in listed]
        if not module.check_mode:
            desk.carry_out([case for case in cases if case.job is not None])
        records = [desk.record(case) for case in cases]
    result: Record = {
        "changed": any(record["changed"] for record in records),
        "domains": records,
        "summary": _machine_power.summarize(records, "domains"),
        "unmatched": unmatched,
    }
    if module._diff:
        result["diff"] = [_diff(record) for record in records if record["changed"]]
    return result


def _diff(record: Record) -> Record:
    name = record["name"]
    sides = {side: f"{record[side]}\n" for side in ("before", "after")}
    return {"before_header": name, "after_header": name, **sides}


class Case:
    """A domain, and what was decided of it: either `told` is all there is to say, or `job` has to be done."""

    def __init__(self, domain: Listed) -> None:
        self.domain = domain
        self.told: Record = dict(_machine_power.UNTOUCHED, before=_domain_power.power_of(domain.state))
        self.told["after"] = self.told["before"]
        self.job: Job | None = None
        self.live: _Element | None = None
        self.notes: list[str] = []
        self.more: Record = {}


class Desk:
    """Decides about the domains of one connection, has them switched, and tells of it."""

    def __init__(self, connection: Connection, wanted: _machine_power.Wanted, params: Record) -> None:
        self._connection = connection
        self._wanted = wanted
        self._params = params

    # Deciding

    def consider(self, domain: Listed) -> Case:
        """What is to be done with a domain; whatever goes wrong stays with it."""
        case = Case(domain)
        try:
            self._consider(case)
        except ConsoleError as e:
            case.told["error"] = str(e)
        return case

    def _consider(self, case: Case) -> None:
        domain = case.domain
        sight = _domain_power.as_listed(domain)
        power = self._wanted.power()
        at_best = power.foresee(sight)
        if at_best.ok and not at_best.changed:
            case.told.update(_machine_power.told(power, at_best))
            return
        live, config = self._definitions(domain)
        case.live = live
        roots = [root for root in (live, config) if root is not None]
        if self._wanted.state in (_power.POWER_CYCLED, _power.PENDING_APPLIED):
            case.notes += _would_go(live, config)
        if self._wanted.state == _power.PENDING_APPLIED and not self._is_pending(case, live, config):
            return
        if self._wanted.state in (_power.POWER_CYCLED, _power.PENDING_APPLIED) and config is not None:
            self._see_that_it_can_start(config)
        self._guard(domain, roots)
        traps = _domain_traps.find(
            roots[0],
            self._wanted.state,
            Circumstances(domain.persistent, domain.autostart, domain.managed_save),
            self._params["allow_vanish"],
        )
        if traps.refusal is not None:
            raise InputError(f"{traps.refusal}.")
        case.notes += traps.notes
        hold = self._hold(case)
        case.told.update(_machine_power.foreseen(self._wanted.power(traps.unusable), sight))
        by_boot = self._params["boot_id"] and self._wanted.state == _power.REBOOTED_STATE
        case.job = Job(domain, self._wanted.power(traps.unusable), hold, by_boot)

    def _definitions(self, domain: Listed) -> tuple[_Element | None, _Element | None]:
        live, config = (
            _domain_xml.parse(read(domain, self._connection, secrets=False)) if there else None
            for read, there in ((_libvirt.live_xml, domain.active), (_libvirt.inactive_xml, domain.persistent))
        )
        if live is None and config is None:
            raise ConsoleError("it ended while it was being read.")
        return live, config

    def _is_pending(self, case: Case, live: _Element | None, config: _Element | None) -> bool:
        """Whether a new process would bring anything, told in the words of domain_info's findings."""
        pending: list[str] = []
        changes: list[str] = []
        if live is not None and config is not None:
            changes = _pending_changes.find(live, config)
            pending = self._pending(case.domain, live, config) + ["definition_changed"] * bool(changes)
        case.more.update(pending=pending, pending_changes=changes)
        return bool(pending)

    def _pending(self, domain: Listed, live: _Element, config: _Element) -> list[str]:
        process = None
        if self._connection.is_local:
            process = _qemu_process.find(self._connection.uri, domain.name, domain.uuid)
        has: t.Sequence[str | None] = _domain_xml.settings(live)
        if process is not None and len(process.power_control()) == len(has):
            has = process.power_control()
        gets = _domain_xml.settings(config)
        emulator = _domain_xml.child_value(config, "devices/emulator")
        pending = []
        if list(map(_domain_xml.has_effect, has)) != list(map(_domain_xml.has_effect, gets)):
            pending.append("restart_pending")
        if process is not None and emulator is not None and not process.runs(emulator):
            pending.append("outdated_process")
        return pending

    def _see_that_it_can_start(self, config: _Element) -> None:
        """Raise ConsoleError where a power cycle would end with the domain off."""
        emulator = _domain_xml.child_value(config, "devices/emulator")
        if emulator is None or not self._connection.is_local:
            return
        try:
            os.stat(emulator)
        except FileNotFoundError as e:
            raise ConsoleError(
                f"its emulator {emulator} is not there, so it would not start again: install it first."
            ) from e
        except OSError:
            pass  # It cannot be seen by us, which says nothing of libvirtd.

    # Guards

    def _guard(self, domain: Listed, roots: list[_Element]) -> None:
        """Raise ConsoleError where the domain may not be touched."""
        confirm = self._params["confirm_identity"]
        if confirm is not None:
            self._confirm(domain, roots, confirm)
        lock = _domain_traps.lock(roots)
        if lock is not None and self._params["if_locked"] == REFUSE:
            raise ConsoleError(f"it is {lock} (if_locked proceed passes over that).")

    def _confirm(self, domain: Listed, roots: list[_Element], confirm: Record) -> None:
        if domain.name not in confirm:
            raise ConsoleError("confirm_identity does not name it: confirm it there, or leave it out of the task.")
        expected = str(confirm[domain.name])
        titles = {_domain_traps.title(root) for root in roots}
        if expected.lower() != domain.uuid and expected not in titles:
            shown = ", ".join(sorted(repr(title) for title in titles if title)) or "no title"
            raise ConsoleError(
                f"it is not the domain that was meant: confirm_identity says {expected!r}, and it has the UUID"
                f" {domain.uuid} and {shown}."
            )

    def _hold(self, case: Case) -> Hold | None:
        """What viewers mean for it."""
        if (
            self._params["if_viewers"] == PROCEED
            or case.live is None
            or self._wanted.state in _KEEP_VIEWERS
            or not _viewers_can_be(case.live)
        ):
            return None
        domain, live = case.domain, case.live
        try:
            reason = self._who(domain, live)
        except ConsoleError:
            if self._runs(domain):
                raise
            return None  # It went off just now, and its viewers with it
        if reason is None:
            return None
        if self._params["if_viewers"] == REFUSE:
            raise ConsoleError(f"{reason}.")
        return Hold(time.monotonic() + self._params["viewers_timeout"], lambda: self._who_still(domain, live))

    def _runs(self, domain: Listed) -> bool:
        """Whether the domain is there now."""
        with _libvirt.translated(f"looking whether {domain.name} runs", needs=_libvirt.READ):
            return bool(domain.handle.isActive())

    def _who_still(self, domain: Listed, live: _Element) -> str | None:
        """Who looks at it; nobody, once its process has gone."""
        try:
            return self._who(domain, live)
        except ConsoleError:
            return None

    def _who(self, domain: Listed, live: _Element) -> str | None:
        """Who looks at it, in words."""
        process = _domain_power.process_of(self._connection, domain.name, domain.uuid)
        if process is None:
            raise ConsoleError(
                "who is connected to its console can only be seen by root on its host: run the task there, or let"
                " if_viewers be proceed."
            )
        viewers = _viewers.connected(process.pid, _viewers.doors(_domain_xml.graphics_elements(live)))
        if not viewers:
            return None
        return f"somebody looks at its console: {'; '.join(sorted({_viewers.spoken(one) for one in viewers}))}"

    # Doing

    def carry_out(self, cases: t.Sequence[Case]) -> None:
        """Switch what has to be switched, all at once; pictures before and after where they are wanted."""
        if not cases:
            return
        if not self._params["evidence"]:
            self._switch(cases)
            return
        # Here, so that those who want no pictures need not wait for what looks at them.
        from ansible_collections.kvmops.console.plugins.module_utils._run import _evidence

        evidence = _evidence.Evidence(self._connection.uri, self._params["evidence_dir"])
        domains = [case.domain for case in cases]
        before = evidence.take(domains, _evidence.BEFORE)
        self._switch(cases)
        after = evidence.take(domains, _evidence.AFTER)
        evidence.prune(self._params["evidence_runs"])
        for case, *pictures in zip(cases, before, after):
            case.more["evidence"] = dict(zip((_evidence.BEFORE, _evidence.AFTER), pictures))

    def _switch(self, cases: t.Sequence[Case]) -> None:
        with Switchboard(self._connection, self._params["concurrency"]) as board:
            board.run([case.job for case in cases if case.job is not None])

    # Telling

    def record(self, case: Case) -> Record:
        """What is told of a domain."""
        job = case.job
        told = case.told
        if job is not None and job.done is not None:
            told = _machine_power.told(job.power, job.done, job.trouble)
        notes = list(case.notes)
        if job is not None and job.boot_trouble is not None:
            notes.append(f"its boot id was not to be had: {job.boot_trouble}")
        return {
            "name": case.domain.name,
            "uuid": case.domain.uuid,
            "state": job.state if job is not None else case.domain.state,
            "persistent": case.domain.persistent,
            **told,
            "process": {
                "before": _shown(job.before) if job is not None else None,
                "after": _shown(job.after) if job is not None else None,
            },
            "notes": notes,
            **case.more,
        }


def _would_go(live: _Element | None, config: _Element | None) -> list[str]:
    """What a new process would not have, in a sentence."""
    devices = _pending_changes.live_only(live, config) if live is not None and config is not None else []
    if not devices:
        return []
    return [f"its process has what its definition has not, and a new one would not have: {', '.join(devices)}"]


def _viewers_can_be(live: _Element) -> bool:
    return bool(_domain_xml.graphics_elements(live))


def _shown(process: Process | None) -> Record | None:
    return process._asdict() if process is not None else None
