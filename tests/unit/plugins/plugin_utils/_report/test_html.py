# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page, as a parser of HTML sees it. How it looks is for tests/browser."""

from __future__ import annotations

import re
import typing as t
from html.parser import HTMLParser

import pytest

from ansible_collections.kvmops.console.plugins.plugin_utils._report import html
from ansible_collections.kvmops.console.plugins.plugin_utils._report.model import HostResults
from ansible_collections.kvmops.console.tests.unit.plugins.plugin_utils._report import fleet
from ansible_collections.kvmops.console.tests.unit.plugins.plugin_utils._report.fleet import report

VOID = {"meta", "link", "input", "br"}


class Page(HTMLParser):
    """Elements in order as (tag, attributes), all text, and that every element is closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.text.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def says(self, text: str) -> bool:
        return text in " ".join(" ".join(self.text).split())


def page(results: list[HostResults]) -> Page:
    return Page(html.render(report(results)))


PAGES = {
    "small": fleet.small_fleet(),
    "nasty": fleet.nasty_fleet(),
    "audit": fleet.audit_only(fleet.small_fleet()),
    "lean": fleet.fleet(22, 50),
    "empty": [],
}


@pytest.fixture(params=list(PAGES), scope="module")
def any_page(request: pytest.FixtureRequest) -> Page:
    return page(PAGES[request.param])


class TestMarkup:
    def test_only_elements_of_the_template_are_there(self, any_page: Page) -> None:
        unwanted = {"script", "img", "svg", "iframe", "object", "embed", "base", "form"}
        assert not unwanted & {tag for tag, _attributes in any_page.elements}
        assert not [names for _tag, names in any_page.elements if any(name.startswith("on") for name in names)]

    def test_nothing_is_loaded(self, any_page: Page) -> None:
        links = [attributes for _tag, attributes in any_page.elements if "href" in attributes or "src" in attributes]
        assert {str(attributes["href"])[0] for attributes in links} <= {"#", "d"}
        assert [attributes["href"] for attributes in any_page.all("link")] == ["data:,"]

    def test_scripts_would_be_refused_even_if_one_got_in(self, any_page: Page) -> None:
        policy = [meta["content"] for meta in any_page.all("meta") if meta.get("http-equiv")]
        assert str(policy[0]).startswith("default-src 'none'; style-src 'unsafe-inline'")

    def test_every_link_has_its_target_and_every_id_is_one(self, any_page: Page) -> None:
        ids = [attributes["id"] for _tag, attributes in any_page.elements if "id" in attributes]
        assert len(ids) == len(set(ids))
        assert {str(a["href"])[1:] for a in any_page.all("a")} <= set(ids)
        assert {label["for"] for label in any_page.all("label")} <= set(ids)

    def test_tables_have_captions_and_scopes(self, any_page: Page) -> None:
        assert len(any_page.all("caption")) == len(any_page.all("table"))
        assert all("scope" in header for header in any_page.all("th"))

    def test_headings_go_down_step_by_step(self, any_page: Page) -> None:
        levels = [int(tag[1]) for tag, _attributes in any_page.elements if re.fullmatch("h[1-6]", tag)]
        assert levels.count(1) == 1
        assert all(following - level <= 1 for level, following in zip(levels, levels[1:]))


class TestContent:
    def test_who_else_manages_is_told(self) -> None:
        (host,) = fleet.managed_fleet()
        seen = page([host])
        assert seen.says("Managed elsewhere")
        assert seen.says("OpenStack Nova, which writes the definition anew at each start")
        assert seen.says("Nova undoes it.")
        assert seen.says("not seen: guests of Proxmox <VE>. Ask qm.")
        failed = {**host.before, "failed": True, "msg": "1 of 1 domains failed"}
        assert page([HostResults("hv", failed)]).says("not seen: guests of Proxmox <VE>")

    def test_what_was_not_seen_is_told_of_domain_and_host(self) -> None:
        seen = page(fleet.blind_fleet())
        assert seen.says("not seen: password, how QEMU was started, something <new>")
        assert seen.says("read-only not seen of 1 domain: password not seen of 3 domains: how QEMU was started")
        assert not page(fleet.managed_fleet()).says("not seen of")

    def test_names_are_shown_as_they_are(self) -> None:
        whole = "".join(page(fleet.nasty_fleet()).text)
        for name in fleet.NASTY_NAMES:
            shown = name.replace("\x00", "\ufffd").replace("\x07", "\ufffd").replace("\x1b", "\ufffd")
            assert shown.encode("utf-8", "replace").decode() in whole

    def test_names_that_cannot_be_seen_are_told(self) -> None:
        assert page([fleet.host("hv", [fleet.fine("  ")])]).says("(blank)")

    def test_hosts_in_trouble_come_first_with_their_reason(self) -> None:
        text = " ".join(" ".join(page(fleet.small_fleet()).text).split())
        places = [text.index(f"hv-{number}.example.org") for number in ("03", "05", "04", "01")]
        assert places == sorted(places)
        for reason in ("No route to host", "1 of 2 domains failed: billing", "The host has no variable"):
            assert reason in text
        assert text.count("Nothing is known about its domains.") == 2

    @pytest.mark.parametrize(
        "said",
        [
            "7 of 12 domains need attention. 3 definitions changed in this run.",
            "3 of 5 hosts could not be audited completely.",
            "Audited 2026-11-20 09:05 UTC , written 2026-11-20 09:12 UTC",
            "restart pending",
            "configured on → off",
            "Not audited: The definition cannot be read",
            "Failed: The domain was not changed",
            "left alone: the domain is transient",
            "asked for -309 it sent 00000001",
            "Remedy: Power-cycle the domain",
            "/var/backups/kvmops-console/",
        ],
    )
    def test_it_says(self, said: str) -> None:
        assert page(fleet.small_fleet()).says(said)

    def test_severity_is_a_word_and_not_only_a_colour(self) -> None:
        text = html.render(report(fleet.small_fleet()))
        badges = re.findall(r'<tr class="[napxe ]*"><td><b class="b ([a-z])">([a-z]+)</b>', text)
        assert len(badges) == 12
        assert all(html.LEVEL_CLASSES[word] == letter for letter, word in badges)

    def test_a_report_of_one_audit_has_no_column_for_changes(self) -> None:
        assert not page(PAGES["audit"]).says("This run")
        assert page(PAGES["small"]).says("This run")

    def test_nothing_found_does_not_hide_that_hosts_were_not_seen(self) -> None:
        shown = page([fleet.host("a", [fleet.fine("web")]), HostResults("b", fleet.UNREACHABLE)])
        assert shown.says("Nothing needs attention in the 1 domain seen.")
        assert shown.says("1 of 2 hosts could not be audited completely.")

    def test_a_finding_of_another_version_is_shown_by_its_id(self) -> None:
        finding = {"id": "brand_new", "severity": "low", "message": "It is new.", "remedy": "Read on."}
        shown = page([HostResults("hv", fleet.result([fleet.record("web", findings=[finding])]))])
        assert shown.says("brand_new")
        assert shown.says("Remedy: Read on.")

    def test_a_large_fleet_says_once_what_domains_share(self) -> None:
        shown = html.render(report(PAGES["lean"]))
        for text in (fleet.REMEDIES["restart_pending"], fleet.AFFECTED_QEMU["evidence"]):
            assert shown.count(str(text)) == 1
        message = fleet.FINDINGS["restart_pending"][2].replace("'", "&#39;")
        assert shown.count(message) == 1
        assert "<summary>Evidence" not in shown

    def test_a_large_fleet_still_says_what_only_one_domain_has(self) -> None:
        odd = [
            fleet.record(f"d{number}", findings=[{**fleet.finding("everywhere"), "message": f"it is number {number}"}])
            for number in range(html.DETAILED_UP_TO + 1)
        ]
        shown = html.render(report([HostResults("hv", fleet.result(odd))]))
        assert shown.count("it is number") == len(odd)

    @pytest.mark.parametrize(("flag", "rows"), [("n", 7), ("a", 4), ("p", 2), ("x", 3), ("e", 1)])
    def test_rows_can_be_filtered(self, flag: str, rows: int) -> None:
        shown = page(fleet.small_fleet())
        flagged = [tr for tr in shown.all("tr") if flag in str(tr.get("class", "")).split()]
        assert len(flagged) == rows
        assert [label for label in shown.all("label") if label["for"] == f"s-{flag}"]

    def test_a_host_cannot_forge_a_time(self) -> None:
        shown: t.Any = html.render(report([HostResults("<time>", fleet.result([fleet.record("<time>x</time>")]))]))
        assert len(html.TIMES.findall(shown)) == 2
