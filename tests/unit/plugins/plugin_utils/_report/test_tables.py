# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""JSON and CSV."""

from __future__ import annotations

import csv
import io
import json

import pytest

from ansible_collections.kvmops.console.plugins.plugin_utils._report import tables
from ansible_collections.kvmops.console.plugins.plugin_utils._report.model import HostResults
from ansible_collections.kvmops.console.tests.unit.plugins.plugin_utils._report import fleet
from ansible_collections.kvmops.console.tests.unit.plugins.plugin_utils._report.fleet import report


def rows(results: list[HostResults]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(tables.render_csv(report(results)), newline="")))


@pytest.mark.parametrize("results", [fleet.small_fleet(), fleet.nasty_fleet(), []], ids=["small", "nasty", "empty"])
def test_json_is_the_report(results: list[HostResults]) -> None:
    whole = report(results)
    assert json.loads(tables.render_json(whole)) == whole


def test_json_has_a_line_a_host_and_a_domain() -> None:
    lines = tables.render_json(report(fleet.small_fleet())).splitlines()
    assert sum(line.startswith('{"name": "hv-') for line in lines) == 5
    assert sum(line.startswith('{"host": "hv-') for line in lines) == 12


def test_csv_has_a_row_a_domain_and_one_a_host_without_any() -> None:
    told = rows(fleet.small_fleet())
    assert [(row["host"], row["host_status"]) for row in told[:2]] == [
        ("hv-03.example.org", "unreachable"),
        ("hv-04.example.org", "missing"),
    ]
    assert "No route to host" in told[0]["error"]
    assert len(told) == 2 + 12


def test_csv_tells_before_and_after() -> None:
    web = next(row for row in rows(fleet.small_fleet()) if row["name"] == "web-1")
    wanted = {
        "severity": "critical",
        "verdict": "affected",
        "running_basis": "probe",
        "power_control_live": "yes",
        "power_control_config": "no",
        "power_control_config_before": "yes",
        "restart_pending": "yes",
        "findings": "unsolicited_pointer_change ungated_power_messages restart_pending",
        "changed": "yes",
    }
    assert {key: web[key] for key in wanted} == wanted


def test_csv_tells_each_graphics_element() -> None:
    mail = next(row for row in rows(fleet.small_fleet()) if row["name"] == "mail")
    assert mail["power_control_live"] == "no no"


def test_csv_names_the_other_manager() -> None:
    nova = {"id": "nova", "name": "=Nova", "rewrites": "start"}
    records = [fleet.record("mine"), fleet.record("theirs", managed_by=nova)]
    told = rows([HostResults("hv", fleet.result(records))])
    assert {row["name"]: row["managed_by"] for row in told} == {"mine": "", "theirs": "'=Nova"}


def test_csv_names_what_was_not_seen() -> None:
    assert [row["blind_spots"] for row in rows(fleet.blind_fleet())] == ["password process something <new>"]


def test_no_cell_is_a_formula() -> None:
    told = rows(fleet.nasty_fleet())
    cells = [cell for row in told for cell in row.values()]
    assert "'=cmd|'/c calc'!A0" in cells
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))]


def test_cells_keep_quotes_commas_and_lines() -> None:
    names = {row["name"] for row in rows(fleet.nasty_fleet())}
    assert {"two\nlines", "back\\slash \"quoted\" 'single'", "{{ 7 * 7 }} {% raw %}"} <= names


def test_a_host_cannot_forge_a_time() -> None:
    """What is left out of the comparison of two files must be a time, and no text of a host's."""
    forged = fleet.record('"generated_at": "x"', error='"audited_at": "y"')
    text = tables.render_json(report([HostResults("hv", fleet.result([forged]))]))
    assert len(tables.JSON_TIMES.findall(text)) == 2
