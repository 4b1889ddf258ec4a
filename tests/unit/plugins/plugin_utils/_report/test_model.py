# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The merge: what is told of hosts and domains, and what may never be told."""

from __future__ import annotations

import json
import typing as t
from pathlib import Path

import jsonschema
import pytest

from ansible_collections.kvmops.console.plugins.plugin_utils._report import model
from ansible_collections.kvmops.console.plugins.plugin_utils._report.model import HostResults
from ansible_collections.kvmops.console.tests.unit.plugins.plugin_utils._report import fleet
from ansible_collections.kvmops.console.tests.unit.plugins.plugin_utils._report.fleet import report

SCHEMA = Path(__file__).parents[5] / "docs/schema/report-1.json"


def one(result: t.Any, **more: t.Any) -> fleet.Json:
    """The only host of a report on it."""
    hosts = report([HostResults("hv", result, **more)])["hosts"]
    assert len(hosts) == 1
    return t.cast(fleet.Json, hosts[0])


def domain(before: fleet.Json, after: t.Any = None, changes: t.Any = None) -> fleet.Json:
    """The only domain of a report on it."""
    results = [fleet.result([each]) if each else None for each in (before, after, changes)]
    domains = report([HostResults("hv", *results)])["domains"]
    assert len(domains) == 1
    return t.cast(fleet.Json, domains[0])


class TestHosts:
    def test_fine(self) -> None:
        host = one(fleet.result([fleet.record("web")]))
        assert (host["status"], host["problems"]) == ("ok", [])
        assert host["summary"]["domains"] == 1
        assert host["audited_at"] == "2026-11-20T09:05:00Z"

    def test_a_host_without_domains_is_fine(self) -> None:
        host = one(fleet.result([]))
        assert (host["status"], host["summary"]["domains"]) == ("ok", 0)

    @pytest.mark.parametrize(
        ("result", "status", "message"),
        [
            (None, "missing", "The host has no variable kvmops_audit_before: the task that registers it did not run."),
            ("text", "missing", "The variable kvmops_audit_before holds no result of a module."),
            ({"changed": False}, "missing", "The variable kvmops_audit_before holds no list of domains."),
            ({"domains": "web"}, "missing", "The variable kvmops_audit_before holds no list of domains."),
            ({"results": [fleet.result([])]}, "missing", "The variable kvmops_audit_before holds no list of domains."),
            (
                {"skipped": True, "skip_reason": "Conditional result was False"},
                "missing",
                "The task that registers kvmops_audit_before was skipped: Conditional result was False.",
            ),
            (fleet.UNREACHABLE, "unreachable", fleet.UNREACHABLE["msg"]),
            ({"unreachable": True}, "unreachable", "Ansible could not reach the host."),
            ({"failed": True, "msg": "no libvirt"}, "failed", "no libvirt"),
            ({"failed": True}, "failed", "The task failed and gave no reason."),
            ({"failed": True, "msg": "nothing came of it", "domains": []}, "failed", "nothing came of it"),
        ],
    )
    def test_what_was_not_seen_is_never_fine(self, result: t.Any, status: str, message: str) -> None:
        host = one(result)
        assert host["status"] == status
        assert host["problems"] == [{"phase": "before", "status": status, "message": message}]
        assert host["summary"] is None
        assert host["audited_at"] is None

    def test_a_failed_audit_keeps_the_domains_that_it_managed(self) -> None:
        host = one(fleet.result([fleet.record("web")], failed=True, msg="1 of 2 domains failed: db"))
        assert (host["status"], host["summary"]["domains"]) == ("failed", 1)

    def test_unreachable_counts_more_than_its_domains(self) -> None:
        host = one(fleet.result([fleet.record("web")], unreachable=True, msg="gone"))
        assert (host["status"], host["summary"]) == ("unreachable", None)

    def test_after_a_problem_missing_results_go_without_saying(self) -> None:
        results = [HostResults("a", fleet.UNREACHABLE), fleet.host("b", [fleet.fine("web")])]
        host = report(results)["hosts"][0]
        assert host["name"] == "a"
        assert [problem["phase"] for problem in host["problems"]] == ["before"]

    def test_a_second_audit_that_one_host_lacks_is_missing(self) -> None:
        whole = fleet.host("a", [fleet.fine("web")])
        hosts = report([whole, whole._replace(name="b", after=None)])["hosts"]
        assert [(host["name"], host["status"]) for host in hosts] == [("b", "missing"), ("a", "ok")]
        assert [problem["phase"] for problem in hosts[0]["problems"]] == ["after"]

    def test_without_any_change_or_second_audit_there_was_one_audit(self) -> None:
        whole = report(fleet.audit_only(fleet.small_fleet()), fleet.REMEDIATION)
        assert whole["audits"] == {"before": True, "after": False, "changes": False}
        assert whole["summary_before"] is None
        assert whole["summary"]["hosts_ok"] == 2

    def test_a_skipped_change_is_no_problem(self) -> None:
        host = one(fleet.result([]), changes={"skipped": True}, after={"skipped": True, "changed": False})
        assert host["status"] == "ok"

    def test_worst_first_then_by_name_as_people_count(self) -> None:
        fine = fleet.result([])
        results = [HostResults(name, fine) for name in ("hv-10", "hv-9")]
        results += [HostResults("c", None), HostResults("b", {"failed": True}), HostResults("z", fleet.UNREACHABLE)]
        assert [host["name"] for host in report(results)["hosts"]] == ["z", "b", "c", "hv-9", "hv-10"]


class TestDomains:
    def test_the_second_audit_tells_and_the_first_is_kept_beside_it(self) -> None:
        before, after, change = fleet.affected("web")
        seen = domain(before, after, change)
        assert seen["graphics"][0]["power_control"] == {"live": "yes", "config": "no"}
        assert seen["previous"]["power_control"] == [{"index": 0, "live": "yes", "config": "yes"}]
        assert (seen["restart_pending"], seen["previous"]["restart_pending"]) == (True, False)
        assert "restart_pending" not in seen["previous"]["findings"]
        assert seen["change"]["graphics"] == [{"index": 0, "before": "yes", "after": "no"}]
        assert seen["stale"] is False

    def test_facts_that_the_second_audit_did_not_confirm_are_stale(self) -> None:
        first = fleet.result([fleet.record("web"), fleet.record("gone")])
        second = fleet.result([fleet.record("web")])
        domains = report([HostResults("hv", first, second)])["domains"]
        assert {seen["name"]: seen["stale"] for seen in domains} == {"web": False, "gone": True}

    def test_a_renamed_domain_is_one_domain(self) -> None:
        before = fleet.record("old")
        seen = domain(before, {**before, "name": "new"})
        assert (seen["name"], seen["previous"]["state"]) == ("new", "running")

    def test_known_only_from_the_change_it_is_not_fine(self) -> None:
        before, _after, change = fleet.fine("web")
        whole = report([HostResults("hv", fleet.result([]), None, fleet.result([change]))])
        assert [(seen["name"], seen["severity"]) for seen in whole["domains"]] == [("web", "high")]
        assert before["name"] == "web"

    @pytest.mark.parametrize("kind", [fleet.fine, fleet.broken])
    def test_findings_and_errors_make_the_severity(
        self, kind: t.Callable[[str], tuple[fleet.Json, fleet.Json, fleet.Json]]
    ) -> None:
        expected = {"fine": "ok", "broken": "high"}[kind.__name__]
        assert domain(*kind("web"))["severity"] == expected

    def test_an_error_that_is_no_text_is_still_an_error(self) -> None:
        seen = domain(fleet.record("web", error={"why": "?"}))
        assert (seen["error"], seen["severity"]) == ("no reason given", "high")

    def test_a_severity_of_another_version_is_not_taken_lightly(self) -> None:
        finding = {**fleet.finding("no_tablet"), "severity": "apocalyptic"}
        assert domain(fleet.record("web", findings=[finding]))["severity"] == "high"

    @pytest.mark.parametrize(
        ("running", "following", "verdict"),
        [
            (fleet.AFFECTED_QEMU, fleet.FIXED_QEMU, "affected"),
            (fleet.FIXED_QEMU, fleet.AFFECTED_QEMU, "affected"),
            (fleet.FIXED_QEMU, fleet.UNKNOWN_QEMU, "unknown"),
            (fleet.INCAPABLE_QEMU, fleet.FIXED_QEMU, "incapable"),
            (None, fleet.FIXED_QEMU, "fixed"),
            (None, None, "unknown"),
            ({**fleet.FIXED_QEMU, "verdict": "splendid"}, None, "unknown"),
        ],
    )
    def test_the_verdict_is_the_worse_of_now_and_the_next_start(
        self, running: t.Any, following: t.Any, verdict: str
    ) -> None:
        seen = domain(fleet.record("web", qemu={"running": running, "next_start": following}))
        assert seen["verdict"] == verdict

    def test_one_that_could_not_be_audited_has_no_verdict(self) -> None:
        assert domain({"name": "web", "uuid": "u", "state": "running", "error": "Gone."})["verdict"] is None

    def test_worst_first_then_by_host_and_name(self) -> None:
        order = [(seen["severity"], seen["host"], seen["name"]) for seen in report(fleet.small_fleet())["domains"]]
        assert order[:3] == [
            ("critical", "hv-01.example.org", "web-1"),
            ("critical", "hv-01.example.org", "web-2"),
            ("high", "hv-02.example.org", "lab-guest"),
        ]
        assert [severity for severity, _host, _name in order] == sorted(
            (severity for severity, _host, _name in order), key=model.LEVELS.index
        )


class TestCounts:
    def test_summary(self) -> None:
        summary = report(fleet.small_fleet())["summary"]
        wanted = {
            "hosts": 5,
            "hosts_ok": 2,
            "hosts_failed": 3,
            "hosts_unreachable": 1,
            "hosts_missing": 1,
            "domains": 12,
            "running": 11,
            "affected": 4,
            "fixed": 6,
            "unknown": 1,
            "incapable": 0,
            "restart_pending": 2,
            "errors": 1,
            "changed": 3,
            "skipped": 2,
            "change_errors": 1,
        }
        assert {key: summary[key] for key in wanted} == wanted
        assert summary["severities"]["critical"] == 2
        assert summary["findings"]["ungated_power_messages"] == 4

    def test_the_first_audit_is_counted_beside_the_second(self) -> None:
        before = report(fleet.small_fleet())["summary_before"]
        assert (before["restart_pending"], before["affected"], before["domains"]) == (0, 4, 12)

    def test_flat_counts_are_whole_numbers_under_stable_names(self) -> None:
        flat = model.flat_counts(report(fleet.small_fleet()))
        assert all(isinstance(value, int) and not isinstance(value, bool) for value in flat.values())
        for key in ("domains", "affected", "restart_pending", "findings_critical", "hosts_failed", "changed"):
            assert f"kvmops_{key}" in flat
        assert flat["kvmops_findings"] == sum(flat[f"kvmops_findings_{severity}"] for severity in model.SEVERITIES)


class TestUntrusted:
    def test_no_secret_gets_in(self) -> None:
        text = json.dumps(report(fleet.nasty_fleet()))
        assert "passwd=***" in text
        assert "hunter2" not in text

    @pytest.mark.parametrize(
        ("said", "shown"),
        [
            ("passwd='a b' keymap='de'", "passwd=*** keymap='de'"),
            ('password = "x"', "password = ***"),
            ("token=abc, next", "token=*** next"),
            ("qemu+tcp://me:pa:ss@hv/system", "qemu+tcp://me:***@hv/system"),
            ("spice://:pw@hv", "spice://:***@hv"),
            ("VNC password: not set", "VNC password: not set"),
            ("bell\x07 and escape\x1b[31m", "bell\ufffd and escape\ufffd[31m"),
            ("one\r\ntwo\nthree\tfour", "one\ntwo\nthree\tfour"),
            ("half \ud800", "half ?"),
            ("famil\u0131\U0001f468\u200d\U0001f469", "famil\u0131\U0001f468\u200d\U0001f469"),
        ],
    )
    def test_text(self, said: str, shown: str) -> None:
        assert model.text(said) == shown

    def test_long_text_is_cut(self) -> None:
        cut = model.text("x" * 1_000_000)
        assert cut is not None
        assert (len(cut), cut[-1]) == (model.LONGEST_TEXT, "…")

    def test_a_subclass_of_text_becomes_plain_text(self) -> None:
        class Tagged(str):
            """As Ansible marks what came from a host."""

            __slots__ = ()

        assert [type(model.text(Tagged(text))) for text in ("name", "na=me", "n\x00")] == [str] * 3

    @pytest.mark.parametrize("wrong", [None, 3, "text", [], {}, [None, 3, "x", []]])
    def test_wrong_types_do_no_harm(self, wrong: t.Any) -> None:
        record = dict.fromkeys(fleet.record("web"), wrong)
        whole = report([HostResults("hv", fleet.result([record], host=wrong))])
        jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8"))).validate(whole)
        assert len(whole["domains"]) == 1


def test_what_was_not_seen_is_counted_by_host() -> None:
    told = report(fleet.blind_fleet())
    assert told["hosts"][0]["hypervisor"]["blind_spots"] == {"password": 1, "process": 3}
    assert told["domains"][0]["blind_spots"] == ["password", "process", "something <new>"]


def test_counts_that_are_none_are_left_out() -> None:
    audit = fleet.result([fleet.record("web")])
    audit["host"]["blind_spots"] = {"password": "many", "process": True, "saved_states": 2, "running_qemu": 0}
    (host,) = report([HostResults("hv", audit)])["hosts"]
    assert host["hypervisor"]["blind_spots"] == {"saved_states": 2}


@pytest.mark.parametrize(
    "results",
    [
        fleet.small_fleet(),
        fleet.nasty_fleet(),
        fleet.audit_only(fleet.small_fleet()),
        fleet.fleet(80, 4),
        fleet.managed_fleet(),
        fleet.blind_fleet(),
        [],
    ],
    ids=["small", "nasty", "audit", "large", "managed", "blind", "empty"],
)
def test_the_schema_describes_every_report(results: list[HostResults]) -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(report(results))
