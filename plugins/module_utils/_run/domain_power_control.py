# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The run of kvmops.console.domain_power_control: decide, edit unless check mode, describe.

Private to this collection.

An edit is: read with secrets, change one attribute, back up, read again (somebody else's edit starts it anew), define,
read again, compare. A live update is never used: libvirt answers success, changes nothing in QEMU, and may drop the
password.
"""

from __future__ import annotations

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.console.plugins.module_utils import (
    _domain_xml,
    _libvirt,
    _managers,
    _power_policy,
    _qemu_facts,
    _qemu_process,
)
from ansible_collections.kvmops.console.plugins.module_utils._backup import Backups
from ansible_collections.kvmops.console.plugins.module_utils._domain_xml import Setting
from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError, EditConflict, LibvirtFailure
from ansible_collections.kvmops.console.plugins.module_utils._libvirt import (
    Connection,
    DefinitionWatch,
    Listed,
    SavedState,
)
from ansible_collections.kvmops.console.plugins.module_utils._managers import Manager
from ansible_collections.kvmops.console.plugins.module_utils._power_policy import RESTORED, Decision, Policy
from ansible_collections.kvmops.console.plugins.module_utils._probe_cache import Cache
from ansible_collections.kvmops.console.plugins.module_utils._processes import deal_out, how_many
from ansible_collections.kvmops.console.plugins.module_utils._run._domain_options import selection, state_directory
from ansible_collections.kvmops.console.plugins.module_utils._run._needs_libvirt import need_libvirt
from ansible_collections.kvmops.console.plugins.module_utils._run._task import report_unmatched
from ansible_collections.kvmops.console.plugins.module_utils._verdict import NOTHING, UNKNOWN, Verdict

if t.TYPE_CHECKING:
    from lxml.etree import _Element

Record = dict[str, t.Any]

ATTEMPTS = 10
"""How often an edit starts anew because somebody else edits the same domain."""

A_PROCESS = 25
"""Domains that are worth a process of their own."""
A_PROCESSOR = 2
"""Processes that share one: an edit waits four times for libvirt."""

SKIP = "skip"
EDIT = "edit"
MANAGED = (SKIP, EDIT)
"""What to do with a domain whose manager writes the definition anew at each start, so that an edit is lost with it."""


def run(module: AnsibleModule) -> Record:
    """The module's result."""
    need_libvirt(module)
    uri = module.params["uri"]
    if _libvirt.runs_here(uri):
        DefinitionWatch.prepare()  # a whole driver wants the events' loop at its start
    with _libvirt.connect(uri) as connection:
        listed, unmatched = selection(module.params).pick(
            connection.domains(), lambda domain: (domain.name, domain.uuid)
        )
        report_unmatched(module, unmatched, uri)
        # Handles keep their connection open, and a new process must not find an open one.
        listed = [domain._replace(handle=None) for domain in listed]
    processes = 1 if _libvirt.runs_here(uri) else how_many(len(listed), A_PROCESS, A_PROCESSOR)

    def work(domains: t.Sequence[Listed]) -> t.Iterator[Record]:
        return _edit_all(domains, module.params, module.check_mode)

    records = deal_out(listed, processes, work, work, _lost)
    diffs = [diff for record in records for diff in record.pop("diffs")]
    result: Record = {
        "changed": any(record["changed"] for record in records),
        "domains": records,
        "summary": summarize(records),
        "unmatched": unmatched,
    }
    if module._diff:
        result["diff"] = diffs
    return result


def _edit_all(domains: t.Sequence[Listed], params: Record, check_mode: bool) -> t.Iterator[Record]:
    """Edit domains, one after the other, over a connection of their own."""
    DefinitionWatch.prepare()
    try:
        with _libvirt.connect(params["uri"]) as connection:
            editor = Editor(
                connection,
                Policy(params["state"], params["viewers_handle_pointer_change"], params["force"]),
                _qemu_facts.Judge(params["probe"], params["probe_wrappers"], Cache(params["cache_dir"])),
                Backups(params["backup_dir"] or state_directory("backups")),
                include_saved_states=params["include_saved_states"],
                edit_managed=params["managed"] == EDIT,
                check_mode=check_mode,
            )
            yield from map(editor.edit, domains)
    except LibvirtFailure as e:
        yield from ({**_untouched(domain), "error": str(e)} for domain in domains)


def _untouched(domain: Listed) -> Record:
    """The record of a domain with which nothing was done; `diffs` is for the result as a whole."""
    return {
        "name": domain.name,
        "uuid": domain.uuid,
        "state": domain.state,
        "persistent": domain.persistent,
        "changed": False,
        "graphics": [],
        "reason": "",
        "note": None,
        "restart_pending": False,
        "backup": None,
        "saved_states": [],
        "diffs": [],
    }


def _lost(domain: Listed, begun: bool) -> Record:
    """Of a domain whose process was killed."""
    state = "it is as it was before or as wanted" if begun else "nothing was changed"
    return {
        **_untouched(domain),
        "error": f"The process that was to edit {domain.name} was killed: {state}; run this again.",
    }


def summarize(records: t.Sequence[Record]) -> Record:
    """Counts over all records."""
    return {
        "domains": len(records),
        "changed": sum(record["changed"] for record in records),
        "skipped": sum("skipped" in record for record in records),
        "errors": sum("error" in record for record in records),
        "restart_pending": sum(record["restart_pending"] for record in records),
    }


class Plan(t.NamedTuple):
    """An edit that is decided and not yet done. `before` is libvirt's text, `after` the document to be defined."""

    before: str
    after: _Element
    settings: tuple[Setting, ...]
    decision: Decision
    lines: tuple[list[str], list[str]]
    manager: Manager | None

    @property
    def changes(self) -> bool:
        return self.lines[0] != self.lines[1]


def make_plan(xml: str, policy: Policy, judge: t.Callable[[str | None], Verdict]) -> Plan:
    """Decide about a definition; pure but for what `judge(emulator)` does."""
    root = _domain_xml.parse(xml)
    emulator = _domain_xml.child_value(root, "devices/emulator")
    settings = _domain_xml.settings(root)
    before = _domain_xml.masked_lines(root)
    decision = _power_policy.decide(policy, settings, _domain_xml.read_memory(root), lambda: judge(emulator))
    _domain_xml.apply_settings(root, decision.settings)
    _domain_xml.write_memory(root, decision.memory)
    manager = _managers.manager_of(root)
    return Plan(xml, root, settings, decision, (before, _domain_xml.masked_lines(root)), manager)


class Editor:
    """Edits the domains of one connection."""

    def __init__(
        self,
        connection: Connection,
        policy: Policy,
        judge: _qemu_facts.Judge,
        backups: Backups,
        *,
        include_saved_states: bool,
        edit_managed: bool,
        check_mode: bool,
    ) -> None:
        self._connection = connection
        self._policy = policy
        self._judge = judge
        self._backups = backups
        self._include_saved_states = include_saved_states
        self._edit_managed = edit_managed or policy.state == RESTORED
        self._check_mode = check_mode
        self._watch = DefinitionWatch(connection)

    def edit(self, domain: Listed) -> Record:
        """Edit one domain; whatever goes wrong stays with it."""
        record = _untouched(domain)
        try:
            self._edit(domain, record)
        except ConsoleError as e:
            record["error"] = str(e)
        return record

    def _edit(self, domain: Listed, record: Record) -> None:
        if not domain.persistent:
            record["skipped"] = "it is transient: its definition ends with it, so change it where it is created"
            return
        domain = self._connection.reach(domain)
        plan = self._plan(domain)
        if not plan.settings:
            record["skipped"] = "it has no VNC graphics"
            return
        if plan.changes and plan.manager is not None:
            if plan.manager.rewrites == _managers.START and not self._edit_managed:
                record["skipped"] = _written_over(plan.manager)
                return
            if plan.manager.rewrites != _managers.NEVER:
                record["note"] = _written_over(plan.manager)
        if plan.changes and not self._check_mode:
            plan = self._apply(domain, plan, record)
        record["changed"] = record["changed"] or plan.changes
        record["reason"] = plan.decision.reason
        record["graphics"] = [
            {"index": index, "before": before, "after": after}
            for index, (before, after) in enumerate(zip(plan.settings, plan.decision.settings))
        ]
        record["restart_pending"] = self._restart_pending(domain, plan.decision.settings)
        if plan.changes:
            _add_diff(record, domain.name, plan.lines)
        self._edit_saved_states(domain, plan.decision.settings, record)

    def _read(self, domain: Listed) -> str:
        return _libvirt.inactive_xml(domain, self._connection)

    def _plan(self, domain: Listed) -> Plan:
        return make_plan(self._read(domain), self._policy, self._verdict)

    def _verdict(self, emulator: str | None) -> Verdict:
        if not self._connection.is_local:
            return Verdict(UNKNOWN, NOTHING, f"{self._connection.uri} is another machine: run the task there")
        facts = self._judge.next_start(emulator)
        return Verdict(facts["verdict"], facts["basis"], facts["evidence"])

    def _apply(self, domain: Listed, plan: Plan, record: Record) -> Plan:
        """Do `plan`, or the one that somebody else's edit made of it; returns the plan that was done."""
        for _attempt in range(ATTEMPTS):
            record["backup"] = self._backups.keep(domain.uuid, "domain", plan.before)
            self._require_persistent(domain)
            if self._read(domain) == plan.before and self._define(domain, plan, record):
                return plan
            plan = self._plan(domain)
            if not plan.changes:
                return plan
        raise EditConflict(f"{domain.name} is edited by somebody else all the time: let that end, and run this again.")

    def _require_persistent(self, domain: Listed) -> None:
        """Defining what was undefined a moment ago would bring it back."""
        with _libvirt.translated(f"Reading {domain.name}", needs=_libvirt.READ):
            if not domain.handle.isPersistent():
                raise EditConflict(f"{domain.name} was undefined meanwhile: nothing was changed.")

    def _define(self, domain: Listed, plan: Plan, record: Record) -> bool:
        """Define, read again, compare. False: somebody else defined it behind us, so look again."""
        unsaid = _unsaid(plan.after)
        self._watch.ours(domain.uuid)
        try:
            _libvirt.define(self._connection, domain.name, _domain_xml.serialize(plan.after), unsaid)
        except LibvirtFailure:
            if not self._connection.is_alive:
                raise LibvirtFailure(
                    f"The connection to libvirt broke while {domain.name} was being defined: it is as it was before or"
                    " as wanted; run this again."
                ) from None
            raise
        record["changed"] = True
        differing = self._differences(domain, plan.after)
        if not differing:
            return True
        if self._watch.somebody_else(domain.uuid):
            return False
        _libvirt.define(self._connection, domain.name, plan.before, unsaid)
        still = self._differences(domain, _domain_xml.parse(plan.before))
        record["changed"] = bool(still)
        raise EditConflict(_why_not_as_asked(domain.name, differing, still, record["backup"]))

    def _differences(self, domain: Listed, expected: _Element) -> list[str]:
        actual = self._read(domain)
        # Mostly libvirt keeps every character, which is told faster than that the two mean the same.
        if _domain_xml.serialize(_domain_xml.parse(actual)) == _domain_xml.serialize(expected):
            return []
        return _domain_xml.differences(expected, actual)

    def _restart_pending(self, domain: Listed, settings: t.Sequence[Setting]) -> bool:
        """Told from what the running process has, not from what was just written."""
        if not domain.active:
            return False
        process = None
        if self._connection.is_local:
            process = _qemu_process.find(self._connection.uri, domain.name, domain.uuid)
        live: t.Sequence[Setting] = process.power_control() if process else []
        if len(live) != len(settings):
            live = _domain_xml.settings(_domain_xml.parse(_libvirt.live_xml(domain, self._connection)))
        return list(map(_domain_xml.has_effect, live)) != list(map(_domain_xml.has_effect, settings))

    def _edit_saved_states(self, domain: Listed, settings: t.Sequence[Setting], record: Record) -> None:
        for state in _libvirt.saved_states(domain):
            with _libvirt.translated(f"Reading the {state.kind} of {domain.name}", needs=_libvirt.READ_SECURE):
                before = state.read()
            root = _domain_xml.parse(before)
            carried = _domain_xml.settings(root)
            wanted = tuple(_carry(setting, settings[number % len(settings)]) for number, setting in enumerate(carried))
            entry: Record = {
                "kind": state.kind,
                "name": state.name,
                "before": list(carried),
                "after": list(wanted if self._include_saved_states else carried),
                "differs": wanted != carried and not self._include_saved_states,
            }
            record["saved_states"].append(entry)
            if wanted == carried or not self._include_saved_states:
                continue
            if not self._check_mode:
                entry["backup"] = self._backups.keep(domain.uuid, state.kind, before)
                self._write_saved_state(domain, state, root, wanted)
            record["changed"] = True
            shown = _domain_xml.masked_lines(_domain_xml.parse(before))
            _domain_xml.apply_settings(root, wanted)
            label = f"{domain.name} ({' '.join(filter(None, (state.kind, state.name)))})"
            _add_diff(record, label, (shown, _domain_xml.masked_lines(root)))

    def _write_saved_state(
        self, domain: Listed, state: SavedState, root: _Element, wanted: t.Sequence[Setting]
    ) -> None:
        before = _domain_xml.serialize(root)
        _domain_xml.apply_settings(root, wanted)
        with _libvirt.translated(f"Changing the {state.kind} of {domain.name}", _unsaid(root), state.writing):
            state.write(_domain_xml.serialize(root))
            differing = _domain_xml.differences(root, state.read())
            if not differing:
                return
            state.write(before)
        raise EditConflict(
            f"libvirt changed more of the {state.kind} of {domain.name} than was asked ({', '.join(differing[:5])}):"
            " the old one was put back."
        )


def _written_over(manager: Manager) -> str:
    when = "at each start" if manager.rewrites == _managers.START else "when it changes the domain"
    return f"{manager.name} writes its definition anew {when}, so an edit does not last. {manager.remedy}"


def _add_diff(record: Record, label: str, lines: tuple[list[str], list[str]]) -> None:
    before, after = ("".join(f"{line}\n" for line in side) for side in lines)
    record["diffs"].append({"before_header": label, "after_header": label, "before": before, "after": after})


def _why_not_as_asked(name: str, differing: t.Sequence[str], still: t.Sequence[str], backup: str) -> str:
    """`differing`: where the edited definition was read otherwise; `still`: where the old one was, put back."""
    if still == differing:
        return (
            f"libvirt reads {name} otherwise when it is defined again, even unchanged ({_few(differing)}): it is now as"
            f" this libvirt writes it, with powerControl as it was, and what it was is kept in {backup}. Compare the"
            " two, and run this again."
        )
    return f"libvirt changed more of {name} than was asked ({_few(differing)}): the old definition " + (
        f"could not be put back whole; it is kept in {backup}." if still else "was put back."
    )


def _few(differing: t.Sequence[str]) -> str:
    return ", ".join(differing[:5]) + (", ..." if len(differing) > 5 else "")


def _carry(carried: Setting, wanted: Setting) -> Setting:
    """What a saved state shall say: as it is where it has the same effect, else as the definition says."""
    return carried if _domain_xml.has_effect(carried) == _domain_xml.has_effect(wanted) else wanted


def _unsaid(root: _Element) -> t.Callable[[str], str]:
    return lambda text: _domain_xml.scrub(text, root)
