# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The metrics, read by Prometheus' own parser."""

from __future__ import annotations

import pytest

from ansible_collections.kvmops.console.plugins.plugin_utils._report import prometheus
from ansible_collections.kvmops.console.plugins.plugin_utils._report.model import HostResults
from ansible_collections.kvmops.console.tests.unit.plugins.plugin_utils._report import fleet
from ansible_collections.kvmops.console.tests.unit.plugins.plugin_utils._report.fleet import report

parser = pytest.importorskip("prometheus_client.parser", reason="prometheus_client is not installed here")

Samples = dict[tuple[str, ...], float]


def families(results: list[HostResults]) -> dict[str, Samples]:
    """Each metric's samples by the values of their labels."""
    text = prometheus.render(report(results))
    found: dict[str, Samples] = {}
    for family in parser.text_string_to_metric_families(text):
        assert family.type == "gauge"
        assert family.documentation
        samples = {tuple(sample.labels.values()): sample.value for sample in family.samples}
        assert len(samples) == len(family.samples), "two samples with the same labels"
        found[family.name.replace("kvmops_console_", "")] = samples
    return found


def test_a_small_fleet() -> None:
    told = families(fleet.small_fleet())
    assert told["host_up"] == {
        ("hv-01.example.org",): 1,
        ("hv-02.example.org",): 1,
        ("hv-03.example.org",): 0,
        ("hv-04.example.org",): 0,
        ("hv-05.example.org",): 0,
    }
    assert told["domains"]["hv-01.example.org", "affected"] == 3
    assert told["domains"]["hv-01.example.org", "unknown"] == 0
    assert told["findings"]["hv-01.example.org", "unsolicited_pointer_change", "critical"] == 2
    assert told["restart_pending"]["hv-01.example.org",] == 2
    assert told["domains_changed"]["hv-01.example.org",] == 3
    assert told["change_errors"]["hv-05.example.org",] == 1
    # date -u -d 2026-11-20T09:05:00Z +%s
    assert told["audit_timestamp_seconds"]["hv-01.example.org",] == 1795165500


def test_a_host_that_was_not_seen_has_no_other_sample() -> None:
    told = families(fleet.small_fleet())
    for name, samples in told.items():
        if name != "host_up":
            assert not [labels for labels in samples if labels[0] in ("hv-03.example.org", "hv-04.example.org")]


def test_labels_survive_whatever_is_in_them() -> None:
    told = families(fleet.nasty_fleet())
    assert told["host_up"]['hv "quoted" \\ <b>\nnew line',] == 1
    assert {labels[1] for labels in told["findings"]} >= {"two\nlines", "back\\slash \"quoted\" 'single'"}


def test_two_spellings_of_one_name_stay_two_series() -> None:
    results = [HostResults("hv\\n", fleet.result([])), HostResults("hv\n", fleet.result([]))]
    assert len(families(results)["host_up"]) == 2


def test_nothing_to_tell() -> None:
    assert families([])["host_up"] == {}


def test_a_host_cannot_forge_a_time() -> None:
    name = "x\nkvmops_console_audit_timestamp_seconds{"
    text = prometheus.render(report([HostResults(name, fleet.result([fleet.record("web")]))]))
    assert len(prometheus.TIMES.findall(text)) == 1
