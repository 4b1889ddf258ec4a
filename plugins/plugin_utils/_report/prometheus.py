# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report as Prometheus metrics, for the textfile collector of node_exporter.

Private to this collection.

A host that was not audited has kvmops_console_host_up 0 and no other sample: nothing is better than a wrong nought.
"""

from __future__ import annotations

import re
import typing as t
from collections import Counter
from datetime import datetime, timezone

from ansible_collections.kvmops.console.plugins.plugin_utils._prometheus import Sample, gauge
from ansible_collections.kvmops.console.plugins.plugin_utils._report.model import VERDICTS, Json

TIMES = re.compile(r"(?m)^kvmops_console_audit_timestamp_seconds\{.*$")


def render(report: Json) -> str:
    """All metrics; every one a gauge."""
    return "".join(gauge(name, text, samples(report)) for name, text, samples in METRICS)


def _host_up(report: Json) -> t.Iterator[Sample]:
    for host in report["hosts"]:
        yield {"host": host["name"]}, int(host["status"] == "ok")


def _audit_timestamp(report: Json) -> t.Iterator[Sample]:
    for host in report["hosts"]:
        if host["audited_at"]:
            moment = datetime.strptime(host["audited_at"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
            yield {"host": host["name"]}, int(moment.timestamp())


def _domains(report: Json) -> t.Iterator[Sample]:
    for host in _audited(report):
        for verdict in VERDICTS:
            yield {"host": host["name"], "verdict": verdict}, host["summary"][verdict]


def _of_summary(key: str) -> t.Callable[[Json], t.Iterator[Sample]]:
    def samples(report: Json) -> t.Iterator[Sample]:
        for host in _audited(report):
            yield {"host": host["name"]}, host["summary"][key]

    return samples


def _findings(report: Json) -> t.Iterator[Sample]:
    counts = Counter(
        (domain["host"], finding["id"], finding["severity"])
        for domain in report["domains"]
        for finding in domain["findings"]
    )
    for (host, finding_id, severity), count in sorted(counts.items()):
        yield {"host": host, "id": finding_id, "severity": severity}, count


def _audited(report: Json) -> list[Json]:
    return [host for host in report["hosts"] if host["summary"] is not None]


METRICS: tuple[tuple[str, str, t.Callable[[Json], t.Iterator[Sample]]], ...] = (
    ("host_up", "Whether the host was audited completely (1) or not (0).", _host_up),
    ("audit_timestamp_seconds", "When the host was last audited, in seconds since 1970.", _audit_timestamp),
    ("domains", "Domains by the worse of the verdicts on the running QEMU and on that of the next start.", _domains),
    ("domains_running", "Domains that are running.", _of_summary("running")),
    ("domains_changed", "Domains whose definition this run changed.", _of_summary("changed")),
    ("domain_errors", "Domains that could not be audited.", _of_summary("errors")),
    ("change_errors", "Domains that could not be changed.", _of_summary("change_errors")),
    (
        "restart_pending",
        "Domains that need a power cycle for their definition to apply.",
        _of_summary("restart_pending"),
    ),
    ("findings", "Findings by id and severity.", _findings),
)
