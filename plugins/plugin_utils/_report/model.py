# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report as data: the hosts' results merged into one plain dictionary, from which every format is written.

Private to this collection.

What hosts return is untrusted: only the keys named in the shapes below are copied, each converted to a plain type, text
shortened and cleaned. So nothing unknown, and nothing that is a password, gets into a report.

The dictionary is described by docs/schema/report-1.json. It never calls a host fine that was not seen: a host without a
usable audit has a status, a sentence, and no figures.
"""

from __future__ import annotations

import re
import typing as t
from collections import Counter

SCHEMA_VERSION = 1

SEVERITIES = ("critical", "high", "medium", "low", "info")
"""Of findings, worst first."""
FINE = "ok"
"""The severity of a domain with nothing to say."""
LEVELS = (*SEVERITIES, FINE)
VERDICTS = ("affected", "unknown", "incapable", "fixed")
"""On QEMU, the one that tells first: what domain_info counts a domain by."""
NOT_RUNNING = ("shutoff", "nostate", None)
STATUSES = ("unreachable", "failed", "missing", "ok")
"""Of hosts, worst first."""

LONGEST_TEXT = 2000
"""Of any one text, in characters. A host must not be able to fill the controller's disk, or the page."""

Json = dict[str, t.Any]
Convert = t.Callable[[t.Any], t.Any]
Shape = dict[str, Convert]


class HostResults(t.NamedTuple):
    """What one host's registered variables hold; None where there is no such variable."""

    name: str
    before: t.Any
    after: t.Any = None
    changes: t.Any = None


class Asked(t.NamedTuple):
    """The names of the variables that were asked for; None where the report is to do without."""

    before: str
    after: str | None = None
    changes: str | None = None


def build(results: t.Iterable[HostResults], asked: Asked, *, title: str, generated_at: str) -> Json:
    """Merge what the hosts returned. `generated_at` is UTC in ISO 8601 with a Z."""
    results = list(results)
    asked = _made(results, asked)
    hosts: list[Json] = []
    domains: list[Json] = []
    for result in results:
        host, of_host = _host(result, asked, generated_at)
        hosts.append(host)
        domains.extend(of_host)
    hosts.sort(key=lambda host: (STATUSES.index(host["status"]), natural(host["name"])))
    domains.sort(
        key=lambda domain: (LEVELS.index(domain["severity"]), natural(domain["host"]), natural(domain["name"]))
    )
    return {
        "schema_version": SCHEMA_VERSION,
        "generator": "kvmops.console.report",
        "title": text(title),
        "generated_at": generated_at,
        "audits": {"before": True, "after": asked.after is not None, "changes": asked.changes is not None},
        "summary": {**_count_hosts(hosts), **count_domains(domains)},
        "summary_before": _count_previous(domains) if asked.after is not None else None,
        "hosts": hosts,
        "domains": domains,
    }


def _made(results: list[HostResults], asked: Asked) -> Asked:
    """Where no host has a change or a second audit, there was only the one audit, and nothing is missing."""
    if any(result.after is not None or result.changes is not None for result in results):
        return asked
    return Asked(asked.before)


def flat_counts(report: Json) -> dict[str, int]:
    """The fleet's figures under stable names, for set_stats and for conditions in playbooks and AWX workflows."""
    counts = report["summary"]
    flat = {f"kvmops_{key}": value for key, value in counts.items() if isinstance(value, int)}
    flat["kvmops_findings"] = sum(counts["findings"].values())
    flat.update({f"kvmops_findings_{severity}": counts["severities"][severity] for severity in SEVERITIES})
    return flat


def natural(name: str) -> list[tuple[int, int, str]]:
    """A key that sorts web-2 before web-10, whatever stands in the name."""
    parts = re.split(r"([0-9]{1,18})", name.casefold())
    return [(0, int(part), "") if index % 2 else (1, 0, part) for index, part in enumerate(parts)] + [(2, 0, name)]


# --- One host -------------------------------------------------------------------------------------------------------


class Outcome(t.NamedTuple):
    """How a registered result came out: a status, the sentence that goes with it, and the result where it has one."""

    status: str
    message: str | None
    result: t.Mapping[str, t.Any]

    @property
    def domains(self) -> list[t.Mapping[str, t.Any]]:
        return _mappings(self.result.get("domains"))


NOT_ASKED = Outcome("ok", None, {})


def _host(result: HostResults, asked: Asked, generated_at: str) -> tuple[Json, list[Json]]:
    before = _outcome(result.before, asked.before)
    changes = _outcome(result.changes, asked.changes, skippable=True)
    after = _outcome(result.after, asked.after, skippable=True)
    outcomes = {"before": before, "changes": changes, "after": after}

    records = _merge(before.domains, after.domains, changes.domains, second_audit=_was_made(after))
    domains = [_domain(result.name, *record) for record in records]
    problems = _problems(outcomes)
    facts = _mapping(after.result.get("host")) or _mapping(before.result.get("host"))
    seen = _was_made(before) or _was_made(after)
    return {
        "name": text(result.name),
        "status": min((problem["status"] for problem in problems), key=STATUSES.index, default="ok"),
        "problems": problems,
        "audited_at": (_time(facts.get("audited_at")) or generated_at) if seen else None,
        "hypervisor": pick(facts, _HYPERVISOR) if facts else None,
        "summary": count_domains(domains) if seen else None,
    }, domains


def _outcome(result: t.Any, variable: str | None, *, skippable: bool = False) -> Outcome:
    if variable is None:
        return NOT_ASKED
    if result is None:
        return Outcome("missing", f"The host has no variable {variable}: the task that registers it did not run.", {})
    if not isinstance(result, t.Mapping):
        return Outcome("missing", f"The variable {variable} holds no result of a module.", {})
    message = text(result.get("msg"))
    if result.get("unreachable"):
        return Outcome("unreachable", message or "Ansible could not reach the host.", {})
    if result.get("failed"):
        return Outcome("failed", message or "The task failed and gave no reason.", result)
    if result.get("skipped"):
        if skippable:
            return NOT_ASKED
        reason = text(result.get("skip_reason")) or "no reason given"
        return Outcome("missing", f"The task that registers {variable} was skipped: {reason}.", {})
    domains = result.get("domains")
    if not isinstance(domains, t.Sequence) or isinstance(domains, str):
        return Outcome("missing", f"The variable {variable} holds no list of domains.", {})
    return Outcome("ok", None, result)


def _was_made(outcome: Outcome) -> bool:
    """Whether there are facts: also a task that failed can have returned the domains that it managed."""
    return outcome is not NOT_ASKED and (outcome.status == "ok" or bool(outcome.domains))


def _problems(outcomes: t.Mapping[str, Outcome]) -> list[Json]:
    """What went wrong, in the order of the run. That a later result is missing goes without saying after a problem."""
    problems: list[Json] = []
    for phase, outcome in outcomes.items():
        if outcome.status == "ok" or (problems and outcome.status == "missing"):
            continue
        problems.append({"phase": phase, "status": outcome.status, "message": outcome.message})
    return problems


Merged = tuple[t.Optional[Json], t.Optional[Json], t.Optional[Json], bool]
"""A domain's current facts, its facts in the first audit where a second gave the current ones, what was changed, and
whether the current facts are older than the last audit."""


def _merge(
    before: list[t.Mapping[str, t.Any]],
    after: list[t.Mapping[str, t.Any]],
    changes: list[t.Mapping[str, t.Any]],
    *,
    second_audit: bool,
) -> list[Merged]:
    first, second, changed = _by_identity(before, _RECORD), _by_identity(after, _RECORD), _by_identity(changes, _CHANGE)
    merged: list[Merged] = []
    for identity in dict.fromkeys([*second, *first, *changed]):
        old, new = first.get(identity), second.get(identity)
        stale = new is None and (second_audit or bool(second))
        merged.append((new or old, old if new else None, changed.get(identity), stale and old is not None))
    return merged


def _by_identity(records: list[t.Mapping[str, t.Any]], shape: Shape) -> dict[str, Json]:
    """By UUID, which outlives a renaming; by name where there is none."""
    picked = (pick(record, shape) for record in records)
    return {record["uuid"] or record["name"] or "": record for record in picked}


def _domain(host: str, facts: Json | None, old: Json | None, change: Json | None, stale: bool) -> Json:
    record = dict(facts or pick({}, _RECORD))
    if change:
        record["name"], record["uuid"] = record["name"] or change["name"], record["uuid"] or change["uuid"]
    record["name"] = record["name"] or "(unnamed)"
    record["findings"] = _findings(record)
    return {
        "host": text(host),
        **record,
        "severity": _severity(record, change),
        "verdict": _verdict(record),
        "stale": stale,
        "previous": _previous(old) if old else None,
        "change": {key: value for key, value in change.items() if key not in ("name", "uuid")} if change else None,
    }


def _previous(old: Json) -> Json:
    """What the first audit said, as far as a second can have changed it."""
    return {
        "state": old["state"],
        "severity": _severity({**old, "findings": _findings(old)}, None),
        "verdict": _verdict(old),
        "restart_pending": old["restart_pending"],
        "error": old["error"],
        "power_control": [{"index": graphics["index"], **graphics["power_control"]} for graphics in old["graphics"]],
        "findings": [finding["id"] for finding in old["findings"]],
    }


def _findings(record: Json) -> list[Json]:
    return sorted(record["findings"], key=lambda finding: SEVERITIES.index(finding["severity"]))


def _severity(record: Json, change: Json | None) -> str:
    """The worst of the findings. A domain that could not be audited or changed counts as high, never as fine."""
    severities = [finding["severity"] for finding in record["findings"]]
    if record["error"] or (change and change["error"]) or record["state"] is None:
        severities.append("high")
    return min(severities, key=SEVERITIES.index, default=FINE)


def _verdict(record: Json) -> str | None:
    """The worst that holds now or at the next start, as domain_info counts it; None where it could not be audited."""
    if record["error"]:
        return None
    found = {facts["verdict"] for facts in record["qemu"].values() if facts}
    return next((verdict for verdict in VERDICTS if verdict in found), "unknown")


# --- Counts ---------------------------------------------------------------------------------------------------------


def _count_hosts(hosts: list[Json]) -> Json:
    statuses = Counter(host["status"] for host in hosts)
    return {
        "hosts": len(hosts),
        "hosts_ok": statuses["ok"],
        "hosts_failed": len(hosts) - statuses["ok"],
        "hosts_unreachable": statuses["unreachable"],
        "hosts_missing": statuses["missing"],
    }


def count_domains(domains: list[Json]) -> Json:
    """The figures of some domains: of a host's, or of the fleet's."""
    counts = _count_facts(domains, [finding["id"] for domain in domains for finding in domain["findings"]])
    changes = [domain["change"] for domain in domains if domain["change"]]
    severities = Counter(finding["severity"] for domain in domains for finding in domain["findings"])
    return {
        **counts,
        "changed": sum(bool(change["changed"]) for change in changes),
        "skipped": sum(bool(change["skipped"]) for change in changes),
        "change_errors": sum(bool(change["error"]) for change in changes),
        "severities": {severity: severities[severity] for severity in SEVERITIES},
    }


def _count_previous(domains: list[Json]) -> Json:
    """The same figures as the first audit gave them, of the domains that the report is about."""
    old = [domain["previous"] or domain for domain in domains]
    ids = [finding if isinstance(finding, str) else finding["id"] for domain in old for finding in domain["findings"]]
    return _count_facts(old, ids)


def _count_facts(domains: list[Json], finding_ids: list[str]) -> Json:
    verdicts = Counter(domain["verdict"] for domain in domains)
    levels = Counter(domain["severity"] for domain in domains)
    return {
        "domains": len(domains),
        "running": sum(domain["state"] not in NOT_RUNNING for domain in domains),
        **{verdict: verdicts[verdict] for verdict in VERDICTS},
        "restart_pending": sum(bool(domain["restart_pending"]) for domain in domains),
        "errors": sum(bool(domain["error"]) for domain in domains),
        "findings": dict(sorted(Counter(finding_ids).items())),
        "levels": {level: levels[level] for level in LEVELS},
    }


# --- Untrusted values to plain ones ---------------------------------------------------------------------------------

_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufffe\uffff]")
_URI_SECRET = re.compile(r"(://[^/\s:@]*:)[^/\s@]+(?=@)")
_ASSIGNED_SECRET = re.compile(
    r"\b(pass(?:wd|word|phrase)?|secret|token)(\s*=\s*)(\"[^\"]*\"|'[^']*'|\S+)", re.IGNORECASE
)


def text(value: t.Any) -> str | None:
    """Plain, clean and not too long; None for what is no text. Where a password is assigned in it, that is masked."""
    if not isinstance(value, str):
        return None
    plain = str.__str__(value)  # Ansible marks texts by subclasses, whose methods give such subclasses again.
    if len(plain) <= LONGEST_TEXT and plain.isprintable() and "=" not in plain and "@" not in plain:
        return plain
    if len(plain) > LONGEST_TEXT:
        plain = plain[: LONGEST_TEXT - 1] + "…"
    plain = plain.encode("utf-8", "replace").decode("utf-8")
    plain = _CONTROL.sub("\ufffd", plain.replace("\r\n", "\n"))
    return _ASSIGNED_SECRET.sub(r"\1\2***", _URI_SECRET.sub(r"\1***", plain))


def flag(value: t.Any) -> bool | None:
    return value if isinstance(value, bool) else None


def number(value: t.Any) -> int | None:
    return int(value) if isinstance(value, int) and not isinstance(value, bool) else None


def sentence(value: t.Any) -> str | None:
    """Of an error, or of a reason for doing nothing: whatever a host sends there, it is not overlooked."""
    if value is None or value is False or value == "":
        return None
    return text(value) or "no reason given"


def texts(value: t.Any) -> list[str | None]:
    return [text(item) for item in _sequence(value)]


def one_of(words: tuple[str, ...], otherwise: str) -> Convert:
    """A word of a closed list, else the one that is on the safe side."""
    return lambda value: str(value) if value in words else otherwise


def pick(source: t.Mapping[str, t.Any], shape: Shape) -> Json:
    """The keys of the shape and no others, each converted."""
    return {key: convert(source.get(key)) for key, convert in shape.items()}


def _nested(shape: Shape) -> Convert:
    return lambda value: pick(_mapping(value), shape)


def _optional(shape: Shape) -> Convert:
    return lambda value: pick(value, shape) if isinstance(value, t.Mapping) else None


def _list_of(shape: Shape) -> Convert:
    return lambda value: [pick(item, shape) for item in _mappings(value)]


def _time(value: t.Any) -> str | None:
    moment = text(value)
    return moment if moment and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", moment) else None


def _sequence(value: t.Any) -> t.Sequence[t.Any]:
    return value if isinstance(value, t.Sequence) and not isinstance(value, (str, bytes)) else []


def _mapping(value: t.Any) -> t.Mapping[str, t.Any]:
    return value if isinstance(value, t.Mapping) else {}


def _mappings(value: t.Any) -> list[t.Mapping[str, t.Any]]:
    return [item for item in _sequence(value) if isinstance(item, t.Mapping)]


def _counts(value: t.Any) -> dict[str, int]:
    """How often what, by a word."""
    return {str(key): count for key, count in ((key, number(one)) for key, one in _mapping(value).items()) if count}


_HYPERVISOR: Shape = {
    "hostname": text,
    "uri": text,
    "libvirt_version": text,
    "read_only": flag,
    "not_seen": _list_of({"id": text, "name": text, "remedy": text}),
    "blind_spots": _counts,
}
_QEMU: Shape = {
    "verdict": one_of(VERDICTS, "unknown"),
    "basis": one_of(("probe", "package", "version", "none"), "none"),
    "evidence": text,
    "version": text,
    "package": text,
    "path": text,
}
_POWER_CONTROL: Shape = {"live": text, "config": text}
_GRAPHICS: Shape = {
    "index": number,
    "type": text,
    "port": number,
    "autoport": flag,
    "websocket": number,
    "socket": text,
    "listen": _list_of({"type": text, "address": text, "network": text, "socket": text}),
    "password": flag,
    "password_valid_to": text,
    "tls": flag,
    "sasl": flag,
    "share_policy": text,
    "power_control": _nested(_POWER_CONTROL),
}
_SAVED_STATE: Shape = {"kind": text, "name": text, "power_control": texts, "differs": flag}
_FINDING: Shape = {
    "id": lambda value: text(value) or "unnamed",
    # A word that a newer module may send is not to be taken lightly.
    "severity": one_of(SEVERITIES, "high"),
    "message": text,
    "remedy": text,
}
_RECORD: Shape = {
    "name": text,
    "uuid": text,
    "state": text,
    "persistent": flag,
    "autostart": flag,
    "type": text,
    "arch": text,
    "machine": text,
    "emulator": text,
    "managed_save": flag,
    "error": sentence,
    "restart_pending": flag,
    "outdated_process": flag,
    "pointer_devices": texts,
    "owner_wants": text,
    "managed_by": _optional({"id": text, "name": text, "rewrites": text}),
    "graphics": _list_of(_GRAPHICS),
    "saved_states": _list_of(_SAVED_STATE),
    "blind_spots": texts,
    "qemu": _nested({"running": _optional(_QEMU), "next_start": _optional(_QEMU)}),
    "findings": _list_of(_FINDING),
}
_CHANGE: Shape = {
    "name": text,
    "uuid": text,
    "changed": flag,
    "skipped": sentence,
    "error": sentence,
    "reason": text,
    "note": text,
    "graphics": _list_of({"index": number, "before": text, "after": text}),
    "restart_pending": flag,
    "backup": text,
    "saved_states": _list_of({"kind": text, "name": text, "before": texts, "after": texts, "differs": flag}),
}
