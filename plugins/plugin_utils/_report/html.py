# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report as one self-contained HTML page: no script, no network, readable on a phone and on paper.

Private to this collection.

What many domains share (a finding's explanation and remedy, the evidence on a QEMU) is said once, in a section of its
own to which the rows link. Up to DETAILED_UP_TO domains each row also has it all, folded; above, the page stays lean.
"""

from __future__ import annotations

import re
import typing as t
from collections import Counter
from functools import lru_cache
from pathlib import Path

from jinja2 import Template

from ansible_collections.kvmops.console.plugins.plugin_utils import _pages
from ansible_collections.kvmops.console.plugins.plugin_utils._report.model import LEVELS, SEVERITIES, Json

DETAILED_UP_TO = 1000
"""Domains. A row with everything folded into it takes up to 3 kB, a lean one 0.5 kB."""

MESSAGES_EXPLAINED = 12
"""Of each finding: so many of its commonest messages stand in its explanation, and need not stand in the rows."""

TIMES = re.compile(r"<time[^>]*>[^<]*</time>")

TITLES = {
    "unsolicited_pointer_change": "noVNC loses its connection",
    "ungated_power_messages": "Anyone on VNC can power off",
    "restart_pending": "Restart pending",
    "outdated_process": "Runs an older QEMU than installed",
    "saved_state_differs": "Saved state brings the old value back",
    "vnc_without_authentication": "VNC without authentication",
    "vnc_listens_everywhere": "VNC listens on every address",
    "relative_pointer": "Relative pointer",
    "power_control_unsupported": "QEMU knows no power control",
    "qemu_verdict_unknown": "QEMU could not be judged",
    "managed_elsewhere": "Managed elsewhere",
}
BLIND_SPOTS = {
    "password": "password",
    "vnc_settings": "VNC settings of qemu.conf",
    "process": "how QEMU was started",
    "running_qemu": "what the running QEMU does",
    "saved_states": "saved states",
}
"""What a user may have no right to see."""
LEVEL_CLASSES = dict(zip(LEVELS, ("c", "h", "m", "l", "i", "o")))
ATTENTION = ("critical", "high", "medium")
SPOKEN = {"live": "running", "config": "configured", "both": ""}
FLAGS: dict[str, tuple[str, t.Callable[[Json], bool]]] = {
    "n": ("need attention", lambda domain: domain["severity"] in ATTENTION),
    "a": ("are affected", lambda domain: domain["verdict"] == "affected"),
    "p": ("wait for a restart", lambda domain: bool(domain["restart_pending"])),
    "x": ("were changed", lambda domain: bool(domain["change"] and domain["change"]["changed"])),
    "e": ("failed", lambda domain: bool(domain["error"] or (domain["change"] and domain["change"]["error"]))),
}
"""What rows can be filtered by."""
QEMU_KEYS = ("verdict", "basis", "version", "package", "path", "evidence")
POWER_WORDS = {"yes": "on", "no": "off", None: "not set"}


def render(report: Json) -> str:
    """The page."""
    qemus = _qemus(report["domains"])
    findings = _findings(report["domains"])
    return _template().render(
        report=report,
        summary=report["summary"],
        headline=_headline(report["summary"], changes=report["audits"]["changes"]),
        audited_at=min((host["audited_at"] for host in report["hosts"] if host["audited_at"]), default=None),
        filters=[(flag, label, sum(map(is_so, report["domains"]))) for flag, (label, is_so) in FLAGS.items()],
        failed=sum(map(FLAGS["e"][1], report["domains"])),
        flags=list(FLAGS),
        flags_of=_flags_of,
        earlier=report["summary_before"],
        detailed=len(report["domains"]) <= DETAILED_UP_TO,
        groups=_groups(report["domains"]),
        trouble=[host for host in report["hosts"] if host["status"] != "ok"],
        fine=[host for host in report["hosts"] if host["status"] == "ok"],
        findings=findings,
        finding_numbers={finding["id"]: finding["number"] for finding in findings},
        explained={
            (finding["id"], message["text"]): f"f{finding['number']}-{message['number']}"
            for finding in findings
            for message in finding["messages"]
        },
        qemus=qemus,
        qemu_numbers={qemu["key"]: qemu["number"] for qemu in qemus},
        qemu_key=qemu_key,
        power_lines=_power_lines,
        qemu_lines=_qemu_lines,
        titles=TITLES,
        spots=BLIND_SPOTS,
        level_classes=LEVEL_CLASSES,
        severities=SEVERITIES,
    )


@lru_cache
def _template() -> Template:
    filters = {"power": _power_word, "moment": _moment, "thousands": "{:,}".format}
    return _pages.environment(Path(__file__).parent, **filters).get_template("report.html.j2")


def qemu_key(judged: Json | None) -> tuple[str | None, ...] | None:
    """What makes two judgements one line in the section on QEMUs."""
    return tuple(judged[key] for key in QEMU_KEYS) if judged else None


def _headline(summary: Json, *, changes: bool) -> str:
    """What a person is to know first, in one to three sentences."""
    attention = _attention(summary)
    if attention:
        need = "needs" if attention == 1 else "need"
        said = f"{attention:,} of {_counted(summary['domains'], 'domain')} {need} attention."
    elif summary["domains"]:
        said = f"Nothing needs attention in the {_counted(summary['domains'], 'domain')} seen."
    else:
        said = "No domain was seen."
    if changes:
        said += f" {_counted(summary['changed'], 'definition')} changed in this run."
    if summary["hosts_failed"]:
        said += f" {summary['hosts_failed']} of {_counted(summary['hosts'], 'host')} could not be audited completely."
    return said


def _attention(summary: Json) -> int:
    return sum(summary["levels"][level] for level in ATTENTION)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number:,} {noun}s"


def _flags_of(domains: list[Json]) -> str:
    """The classes by which rows are shown and hidden: those that fit any of the domains."""
    return " ".join(flag for flag, (_label, is_so) in FLAGS.items() if any(map(is_so, domains)))


def _groups(domains: list[Json]) -> list[tuple[str, list[Json]]]:
    """The domains by severity, worst first; they come sorted."""
    by_level: dict[str, list[Json]] = {level: [] for level in LEVELS}
    for domain in domains:
        by_level[domain["severity"]].append(domain)
    return [(level, some) for level, some in by_level.items() if some]


def _findings(domains: list[Json]) -> list[Json]:
    """Every kind of finding that was made, worst first, with its remedy and its commonest messages."""
    made: dict[str, list[Json]] = {}
    for domain in domains:
        for finding in domain["findings"]:
            made.setdefault(finding["id"], []).append(finding)
    kinds = [_kind(finding_id, findings) for finding_id, findings in made.items()]
    kinds.sort(key=lambda kind: (SEVERITIES.index(kind["severity"]), -kind["count"], kind["id"]))
    return [{**kind, "number": number} for number, kind in enumerate(kinds, 1)]


def _kind(finding_id: str, findings: list[Json]) -> Json:
    messages = Counter(finding["message"] for finding in findings if finding["message"])
    common = sorted(messages.items(), key=lambda item: (-item[1], item[0]))[:MESSAGES_EXPLAINED]
    return {
        "id": finding_id,
        "title": TITLES.get(finding_id, finding_id),
        "severity": min((finding["severity"] for finding in findings), key=SEVERITIES.index),
        "count": len(findings),
        "remedies": sorted({finding["remedy"] for finding in findings if finding["remedy"]})[:MESSAGES_EXPLAINED],
        "messages": [
            {"text": message, "count": count, "number": number} for number, (message, count) in enumerate(common, 1)
        ],
        "others": sum(messages.values()) - sum(count for _message, count in common),
    }


def _qemus(domains: list[Json]) -> list[Json]:
    """Every judgement on a QEMU, the worst and the most frequent first, with the number of domains that it is about."""
    uses: Counter[t.Any] = Counter()
    judged: dict[t.Any, Json] = {}
    for domain in domains:
        for facts in (domain["qemu"]["running"], domain["qemu"]["next_start"]):
            if facts:
                judged.setdefault(qemu_key(facts), facts)
        uses.update({qemu_key(facts) for facts in domain["qemu"].values() if facts})
    order = ("affected", "unknown", "incapable", "fixed")
    keys = sorted(judged, key=lambda key: (order.index(key[0]), -uses[key], [part or "" for part in key]))
    return [{**judged[key], "key": key, "count": uses[key], "number": number} for number, key in enumerate(keys, 1)]


def _qemu_lines(domain: Json) -> list[tuple[str, Json]]:
    """The judgement on the running QEMU and on that of the next start; one line where it is the same."""
    running, following = domain["qemu"]["running"], domain["qemu"]["next_start"]
    if running and qemu_key(running) == qemu_key(following):
        return [("now and next start", running)]
    return [(spoken, facts) for spoken, facts in (("running", running), ("next start", following)) if facts]


PowerLine = tuple[str, str, t.Optional[str], str]
"""The graphics element where there are several, whether live or configured, before where that differs, now."""


def _power_lines(domain: Json) -> list[PowerLine]:
    """What powerControl is and was; one line for a graphics element where live and configured are and stay the same."""
    vnc = [graphics for graphics in domain["graphics"] if graphics["type"] == "vnc"]
    earlier = {entry["index"]: entry for entry in (domain["previous"] or {"power_control": []})["power_control"]}
    lines: list[PowerLine] = []
    for graphics in vnc:
        label = f"#{graphics['index']} " if len(vnc) > 1 else ""
        now = graphics["power_control"]
        old = earlier.get(graphics["index"], now)
        shown = ["live", "config"] if domain["qemu"]["running"] else ["config"]
        if shown == ["live", "config"] and now["live"] == now["config"] and old["live"] == old["config"]:
            shown = ["both"]
            now, old = {"both": now["live"]}, {"both": old["live"]}
        for which in shown:
            was = _power_word(old[which]) if old[which] != now[which] else None
            lines.append((label, SPOKEN[which], was, _power_word(now[which])))
    return lines


def _power_word(value: str | None) -> str:
    return POWER_WORDS.get(value, value or "not set")


def _moment(iso: str) -> str:
    """2026-11-20T09:05:00Z as a person writes it: 2026-11-20 09:05 UTC."""
    return f"{iso[:10]} {iso[11:16]} UTC"
