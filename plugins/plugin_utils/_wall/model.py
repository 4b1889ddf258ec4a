# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The wall as data: what the screenshot tasks returned, and what earlier runs knew of hosts that are silent now.

Private to this collection.

What hosts return is untrusted: only known keys are copied, each converted to a plain type, text cleaned and shortened.
A screen is never called seen that was not: each has a status, a sentence where one is due, and the time of its picture.
"""

from __future__ import annotations

import re
import typing as t
from collections import Counter
from datetime import datetime, timezone

from ansible_collections.kvmops.console.plugins.module_utils._incus_names import file_name
from ansible_collections.kvmops.console.plugins.module_utils._picture_names import file_stem
from ansible_collections.kvmops.console.plugins.module_utils._screen_kind import KINDS, UNKNOWN
from ansible_collections.kvmops.console.plugins.plugin_utils._report.model import (
    Json,
    Shape,
    natural,
    number,
    one_of,
    pick,
    sentence,
    text,
)

SCHEMA_VERSION = 1

LIBVIRT, INCUS, QMP = "libvirt", "incus", "qmp"
SOURCES = {"domains": LIBVIRT, "instances": INCUS, "machines": QMP}
"""Where machines come from, by the keys under which the screenshot modules return them."""
_SPOKEN = {LIBVIRT: "libvirt", INCUS: "Incus", QMP: "QMP"}
SEEN, FAILED, STALE, OFF, PRIVATE = "seen", "failed", "stale", "off", "private"
STATUSES = (FAILED, STALE, SEEN, OFF, PRIVATE)
"""Of screens: pictured now; not pictured for an error; as it was before its host fell silent; off; not to be seen."""
ASLEEP = ("shutoff", "nostate", "stopped", "off", None)
"""States of machines that show nothing."""

LONGEST_LINE, MOST_LINES = 400, 200
"""Of what a screen says. The widest text modes have 132 by 60 cells; a framebuffer console may have more."""


def build(results: t.Iterable[tuple[str, t.Any]], previous: t.Any, *, title: str, generated_at: str) -> Json:
    """Merge what was registered on each host, None where nothing was, with the wall before, None where there is none.

    A host may have several results: one of its libvirt, say, and one of its Incus.
    `generated_at` is UTC in ISO 8601 with a Z.
    """
    before = _screens_of(previous)
    hosts: list[Json] = []
    screens: list[Json] = []
    of_host: dict[str, list[t.Any]] = {}
    for name, result in results:
        of_host.setdefault(text(name) or "(unnamed)", []).append(result)
    for name, some in of_host.items():
        outcomes = _outcomes(some)
        silent = any(outcome.records is None for outcome in outcomes)
        troubles = [outcome for outcome in outcomes if outcome.status != "ok"]
        messages = [outcome.message for outcome in troubles if outcome.message]
        hosts.append(
            {"name": name, "status": troubles[0].status if troubles else "ok", "message": " ".join(messages) or None}
        )
        earlier = [screen for screen in before if screen["host"] == name]
        naming = _Naming(outcomes, earlier if silent else [])
        seen = [
            screen
            for outcome in outcomes
            for record in outcome.records or ()
            for screen in _machine(name, record, naming.name(record, outcome.source), outcome.source, earlier)
        ]
        if silent:
            told = {screen["name"] for screen in seen}
            lost = [screen for screen in earlier if screen["name"] not in told]
            seen += [{**screen, "status": _when_silent(screen), "note": None} for screen in lost]
        screens += seen
    hosts.sort(key=lambda host: natural(host["name"]))
    screens = list({key_of(screen): screen for screen in reversed(screens)}.values())
    screens.sort(key=lambda screen: (natural(screen["host"]), natural(screen["name"]), screen["head"]))
    return {
        "schema_version": SCHEMA_VERSION,
        "generator": "kvmops.console.screen_wall",
        "title": text(title),
        "generated_at": generated_at,
        "hosts": hosts,
        "screens": screens,
    }


Key = tuple[str, str, int]
"""Of a screen: its host's name, its machine's, its number."""


def key_of(screen: Json) -> Key:
    """What no two screens of a wall share."""
    return screen["host"], screen["name"], screen["head"]


def flat_counts(wall: Json) -> dict[str, int]:
    """The wall's figures under stable names, for set_stats and for conditions."""
    statuses = Counter(screen["status"] for screen in wall["screens"])
    kinds = Counter(screen["kind"] for screen in wall["screens"] if screen["status"] == SEEN)
    return {
        "kvmops_screen_hosts": len(wall["hosts"]),
        "kvmops_screen_hosts_failed": sum(host["status"] != "ok" for host in wall["hosts"]),
        "kvmops_screens": len(wall["screens"]),
        **{f"kvmops_screens_{status}": statuses[status] for status in STATUSES},
        **{f"kvmops_screens_{kind}": kinds[kind] for kind in KINDS},
    }


def moment(iso: str) -> datetime:
    """The time that a text of `captured_at` or `generated_at` tells. Raises ValueError for another text."""
    form = "%Y-%m-%dT%H:%M:%S.%fZ" if "." in iso else "%Y-%m-%dT%H:%M:%SZ"
    return datetime.strptime(iso, form).replace(tzinfo=timezone.utc)


def remembered(about: t.Mapping[str, t.Any]) -> Json:
    """What a history keeps of a screen, from the screen's record or from what a file says."""
    return pick(about, {key: _SCREEN[key] for key in _REMEMBERED})


class Outcome(t.NamedTuple):
    """A host's status, the sentence that goes with it, and its machines' records, None where it told of none."""

    status: str
    message: str | None
    records: list[t.Mapping[str, t.Any]] | None
    source: str = LIBVIRT


class _Naming:
    """What the machines of one host are called on the wall: by their names, unless others are called so, too.

    Then the usual one keeps it: libvirt's before Incus's, that before a QEMU's on its own, and else the one told first.
    """

    def __init__(self, outcomes: t.Iterable[Outcome], earlier: t.Iterable[Json]) -> None:
        self._taken: dict[str, set[str]] = {source: set() for source in SOURCES.values()}
        self._owners: dict[str, str | None] = {}
        for screen in earlier:
            self._taken[screen["source"]].add(screen["name"])
        for outcome in outcomes:
            self._taken[outcome.source].update(map(_called, outcome.records or ()))

    def name(self, record: t.Mapping[str, t.Any], source: str) -> str:
        name, uuid = _called(record), text(record.get("uuid"))
        for before in SOURCES.values():
            if before == source:
                break
            if name in self._taken[before]:
                name = f"{name} ({_SPOKEN[source]})"
                break
        if uuid and self._owners.setdefault(name, uuid) != uuid:
            name = f"{name} ({uuid})"
        return name


def _outcomes(results: t.Sequence[t.Any]) -> list[Outcome]:
    """Those of what the host was asked for; where that is nothing, that it has no result."""
    asked = [result for result in results if isinstance(result, t.Mapping) and not result.get("skipped")]
    return [_outcome(result) for result in asked or results[:1]]


def _outcome(result: t.Any) -> Outcome:
    if not isinstance(result, t.Mapping):
        return Outcome("missing", "The host has no result: the task that takes the pictures did not run there.", None)
    message = text(result.get("msg"))
    if result.get("unreachable"):
        return Outcome("unreachable", message or "Ansible could not reach the host.", None)
    key = next((key for key in SOURCES if isinstance(result.get(key), t.Sequence)), None)
    records, source = (_mappings(result[key]), SOURCES[key]) if key else (None, LIBVIRT)
    if result.get("failed"):
        return Outcome("failed", message or "The task failed and gave no reason.", records, source)
    if records is None:
        words = "The task that takes the pictures was skipped, or returned no machines."
        return Outcome("missing", message or words, None)
    return Outcome("ok", None, records, source)


def _when_silent(screen: Json) -> str:
    """A machine that was off, or was not to be seen, may be anything now, but there is no older picture to show."""
    return STALE if screen["status"] in (SEEN, FAILED, STALE) else str(screen["status"])


def _machine(host: str, record: t.Mapping[str, t.Any], name: str, source: str, earlier: list[Json]) -> list[Json]:
    """A machine's screens, at least one."""
    base = {
        "host": host,
        "name": name,
        "source": source,
        "files": file_stem(_called(record), 0, "" if source == LIBVIRT else source),
        "uuid": text(record.get("uuid")),
        "state": text(record.get("state")),
    }
    skipped, error = sentence(record.get("skipped")), sentence(record.get("error"))
    if skipped:
        status = OFF if (base["state"] or "").lower() in ASLEEP or not base["state"] else PRIVATE
        return [{**pick({}, _SCREEN), **base, "status": status, "note": skipped}]
    taken = [_taken(base, screen, error) for screen in _mappings(record.get("screens"))]
    heads = {screen["head"] for screen in taken}
    if error:
        lost = [screen for screen in earlier if screen["name"] == base["name"] and screen["head"] not in heads]
        taken += [{**screen, **base, "status": FAILED, "note": error} for screen in lost]
    return taken or [{**pick({}, _SCREEN), **base, "status": FAILED, "note": error or "it has no screen"}]


def _called(record: t.Mapping[str, t.Any]) -> str:
    """A machine's name; an instance's of Incus with its project, since two projects may have the same."""
    name, project = text(record.get("name")) or "(unnamed)", text(record.get("project"))
    return file_name(project, name) if project else name


def _taken(base: Json, screen: t.Mapping[str, t.Any], error: str | None) -> Json:
    kind = screen.get("screen")
    about = kind if isinstance(kind, t.Mapping) else {}
    given = {**screen, "kind": about.get("kind"), "reason": about.get("reason"), "picture": screen.get("fetched_to")}
    return {**pick(given, _SCREEN), **base, "status": FAILED if error else SEEN, "note": error}


def _screens_of(previous: t.Any) -> list[Json]:
    """The screens of an earlier wall, as strictly read as a host's: the file may have been written by anybody."""
    if not isinstance(previous, t.Mapping) or previous.get("schema_version") != SCHEMA_VERSION:
        return []
    return [pick(screen, _SCREEN) for screen in _mappings(previous.get("screens"))]


# --- Untrusted values to plain ones ----------------------------------------------------------------------------------


def _mappings(value: t.Any) -> list[t.Mapping[str, t.Any]]:
    if not isinstance(value, t.Sequence) or isinstance(value, (str, bytes)):
        return []
    return [item for item in value if isinstance(item, t.Mapping)]


def _time(value: t.Any) -> str | None:
    given = text(value)
    try:
        return given if given and moment(given) else None
    except ValueError:
        return None


def _seconds(value: t.Any) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return round(float(value), 3) if is_number and 0 <= value < 1e12 else None


def _lines(value: t.Any) -> str | None:
    """What a screen says: as many lines as a screen has, without what only fills them up."""
    if not isinstance(value, str):
        return None
    lines = [(text(line[:LONGEST_LINE]) or "").rstrip() for line in str(value).split("\n", MOST_LINES)[:MOST_LINES]]
    return "\n".join(lines).strip("\n") or None


def _sha256(value: t.Any) -> str | None:
    return str(value) if isinstance(value, str) and re.fullmatch(r"[0-9a-f]{64}", value) else None


def _path(value: t.Any) -> str | None:
    """Any text: whether it leads to one of the wall's own pictures is for the reader to see."""
    return str.__str__(value) if isinstance(value, str) and "\0" not in value else None


_REMEMBERED = ("captured_at", "sha256", "width", "height", "kind", "reason", "text")
_SCREEN: Shape = {
    "host": lambda value: text(value) or "(unnamed)",
    "name": lambda value: text(value) or "(unnamed)",
    "source": one_of(tuple(SOURCES.values()), LIBVIRT),
    "files": text,
    "uuid": text,
    "head": lambda value: max(number(value) or 0, 0),
    "state": text,
    "status": one_of(STATUSES, FAILED),
    "note": sentence,
    "picture": _path,
    "sha256": _sha256,
    "width": number,
    "height": number,
    "captured_at": _time,
    "unchanged_for": _seconds,
    "capture": text,
    "kind": one_of(KINDS, UNKNOWN),
    "reason": text,
    "text": _lines,
}
