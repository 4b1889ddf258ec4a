# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report for programs and spreadsheets: JSON with everything, CSV with a row a domain.

Private to this collection.
"""

from __future__ import annotations

import csv
import io
import json
import re
import typing as t

from ansible_collections.kvmops.console.plugins.plugin_utils._report.model import Json

JSON_TIMES = re.compile(r'"(?:generated_at|audited_at)": (?:"[^"]*"|null)')
"""A host's text cannot look like this: its quotes are escaped."""
NO_TIMES = re.compile(r"(?!)")


def render_json(report: Json) -> str:
    """One line a host and a domain: small, quick to write, and fit for diff and grep."""
    lists = {key: report[key] for key in ("hosts", "domains")}
    head = [f"{_dump(key)}: {_dump(value)}" for key, value in report.items() if key not in lists]
    body = [f"{_dump(key)}: [\n{_lines(items)}]" for key, items in lists.items()]
    return "{\n" + ",\n".join([*head, *body]) + "\n}\n"


def _lines(items: list[Json]) -> str:
    return "".join(_dump(item) + (",\n" if number < len(items) else "\n") for number, item in enumerate(items, 1))


def _dump(value: t.Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def render_csv(report: Json) -> str:
    """RFC 4180 with a header. Hosts that delivered nothing have a row too, with their status and reason."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    statuses = {host["name"]: host["status"] for host in report["hosts"]}
    seen = {domain["host"] for domain in report["domains"]}
    for host in report["hosts"]:
        if host["name"] not in seen and host["status"] != "ok":
            reason = "; ".join(filter(None, (problem["message"] for problem in host["problems"])))
            row = {"host": host["name"], "host_status": host["status"], "error": reason}
            writer.writerow([_cell(row.get(column)) for column in COLUMNS])
    for domain in report["domains"]:
        row = {"host_status": statuses[domain["host"]], **_row(domain)}
        writer.writerow([_cell(row[column]) for column in COLUMNS])
    return out.getvalue()


COLUMNS = (
    "host",
    "host_status",
    "name",
    "uuid",
    "state",
    "severity",
    "verdict",
    "running_verdict",
    "running_basis",
    "running_version",
    "next_start_verdict",
    "next_start_basis",
    "next_start_version",
    "power_control_live",
    "power_control_config",
    "power_control_live_before",
    "power_control_config_before",
    "owner_wants",
    "managed_by",
    "restart_pending",
    "blind_spots",
    "findings",
    "error",
    "changed",
    "change_reason",
    "change_error",
    "backup",
)


def _row(domain: Json) -> Json:
    running, following = domain["qemu"]["running"] or {}, domain["qemu"]["next_start"] or {}
    change = domain["change"] or {}
    now = [graphics["power_control"] for graphics in domain["graphics"] if graphics["type"] == "vnc"]
    vnc = {graphics["index"] for graphics in domain["graphics"] if graphics["type"] == "vnc"}
    old = [entry for entry in (domain["previous"] or {}).get("power_control", []) if entry["index"] in vnc]
    return {
        **{key: domain[key] for key in ("host", "name", "uuid", "state", "severity", "verdict")},
        **{key: domain[key] for key in ("owner_wants", "restart_pending", "error")},
        **{f"running_{key}": running.get(key) for key in ("verdict", "basis", "version")},
        **{f"next_start_{key}": following.get(key) for key in ("verdict", "basis", "version")},
        "power_control_live": _values(now, "live"),
        "power_control_config": _values(now, "config"),
        "power_control_live_before": _values(old, "live"),
        "power_control_config_before": _values(old, "config"),
        "managed_by": (domain["managed_by"] or {}).get("name"),
        "blind_spots": " ".join(filter(None, domain["blind_spots"])),
        "findings": " ".join(finding["id"] for finding in domain["findings"]),
        "changed": change.get("changed"),
        "change_reason": change.get("skipped") or change.get("reason"),
        "change_error": change.get("error"),
        "backup": change.get("backup"),
    }


def _values(power_controls: list[Json], which: str) -> str:
    return " ".join(entry[which] or "unset" for entry in power_controls)


def _cell(value: t.Any) -> str:
    """A spreadsheet must take no text for a formula, wherever the text came from (OWASP, CSV injection)."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    shown = str(value)
    return "'" + shown if shown.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else shown
