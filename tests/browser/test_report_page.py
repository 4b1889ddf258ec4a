# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report's page as people meet it: on a phone, on a desk, in the dark, on paper, by keyboard, and very long."""

from __future__ import annotations

import re
import typing as t
from pathlib import Path

import pytest

from ansible_collections.kvmops.console.plugins.plugin_utils._report import html
from ansible_collections.kvmops.console.tests.browser.chromium import Browser
from ansible_collections.kvmops.console.tests.unit.plugins.plugin_utils._report import fleet

PAGES = {
    "small": fleet.small_fleet(),
    "nasty": fleet.nasty_fleet(),
    "audit": fleet.audit_only(fleet.small_fleet()),
    "empty": [],
}
PHONE, DESK = 360, 1360
PAPER = 1040
"""A4 across less the margins, in CSS pixels."""

# What stands out of the screen to the right, as far as a person would see it.
OUTSIDE = """
[...document.querySelectorAll('body *')].filter(e => e.checkVisibility({visibilityProperty: true})
  && !e.closest('.vh, .skip, thead') && e.getBoundingClientRect().right > innerWidth + 1)
  .map(e => e.tagName + '.' + e.className + ': ' + e.textContent.slice(0, 60))
"""

# Every text with less contrast to what is behind it than WCAG 2.2 AA asks for (1.4.3).
FAINT = """
(() => {
  const rgba = text => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n };
  const light = c => { const [r, g, b] = c.map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b };
  const behind = e => { for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor);
    if (c[3] === 1) return c } return [255, 255, 255, 1] };
  const faint = [];
  for (const e of document.querySelectorAll('body *')) {
    if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || !e.checkVisibility()) continue;
    const style = getComputedStyle(e), front = rgba(style.color), back = behind(e);
    const [a, b] = [light(front.slice(0, 3)), light(back.slice(0, 3))].sort((x, y) => y - x);
    const size = parseFloat(style.fontSize), large = size >= 24 || (size >= 18.66 && style.fontWeight >= 700);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < (large ? 3 : 4.5)) faint.push([e.tagName, e.className, e.textContent.slice(0, 30), ratio]);
  }
  return faint;
})()
"""

SHOWN_ROWS = "[...document.querySelectorAll('#d tr th[scope=row]')].filter(e => e.checkVisibility()).length"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    for name, results in PAGES.items():
        (folder / f"{name}.html").write_text(html.render(fleet.report(results)), encoding="utf-8")
    return {name: folder / f"{name}.html" for name in PAGES}


@pytest.fixture(scope="module")
def long_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10,000 domains on 200 hosts, every one with as much to say as there is."""
    hosts = [
        fleet.host(f"hv-{number}", [fleet.affected(f"web-{number}-{index}") for index in range(50)])
        for number in range(200)
    ]
    path = tmp_path_factory.mktemp("long") / "long.html"
    path.write_text(html.render(fleet.report(hosts)), encoding="utf-8")
    return path


@pytest.mark.parametrize("width", [320, PHONE, 768, 1024, DESK, 2560])
@pytest.mark.parametrize("name", list(PAGES))
def test_nothing_is_wider_than_the_screen(browser: Browser, pages: dict[str, Path], name: str, width: int) -> None:
    browser.show(width=width)
    browser.open(pages[name])
    browser.run("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert browser.run("innerWidth") == width
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run(OUTSIDE) == []


@pytest.mark.parametrize("name", list(PAGES))
def test_it_is_silent(browser: Browser, pages: dict[str, Path], name: str) -> None:
    """No request but for the page itself, no script, no dialog, nothing on the console."""
    browser.show()
    browser.open(pages[name])
    browser.run("document.querySelectorAll('details').forEach(e => e.open = true)")
    requests = {event["request"]["url"] for event in browser.happened("Network.requestWillBeSent")}
    assert {url for url in requests if not url.startswith("data:")} == {pages[name].as_uri()}
    assert browser.happened("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded") == []
    assert browser.happened("Page.javascriptDialogOpening") == []
    assert browser.run("document.scripts.length + document.images.length") == 0


def test_a_script_would_not_run(browser: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    """The page's own policy holds, should an escape ever fail."""
    torn = tmp_path / "torn.html"
    page = pages["small"].read_text(encoding="utf-8")
    torn.write_text(page.replace("</main>", "<script>document.title = 'run'</script></main>"), encoding="utf-8")
    browser.open(torn)
    assert browser.run("document.title") == "Console report"
    assert browser.happened("Log.entryAdded")


def test_names_are_shown_as_they_are(browser: Browser, pages: dict[str, Path]) -> None:
    browser.show()
    browser.open(pages["nasty"])
    shown = browser.run("[...document.querySelectorAll('#d th[scope=row] > bdi')].map(e => e.textContent)")
    wanted = {re.sub(r"[\x00\x07\x1b]", "\ufffd", name).replace("\ud800", "?") for name in fleet.NASTY_NAMES}
    assert set(shown) == {name if name.strip() else "(blank)" for name in wanted}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_all_text_can_be_read(browser: Browser, pages: dict[str, Path], width: int, dark: bool) -> None:
    browser.show(width=width, dark=dark)
    browser.open(pages["small"])
    browser.run("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert browser.run("getComputedStyle(document.body).backgroundColor") == (
        "rgb(15, 18, 22)" if dark else "rgb(246, 247, 249)"
    )
    assert browser.run(FAINT) == []


def test_on_a_phone_rows_are_cards_that_name_their_fields(browser: Browser, pages: dict[str, Path]) -> None:
    browser.show(width=PHONE)
    browser.open(pages["small"])
    cells = "[...document.querySelector('#d tbody tr:nth-child(2)').querySelectorAll('td')]"
    labels = browser.run(f"{cells}.map(e => getComputedStyle(e, '::before').content)")
    assert labels[1:] == ['"State"', '"Power control"', '"QEMU"', '"Findings"', '"This run"']
    lefts = browser.run(f"{cells}.slice(1).map(e => e.getBoundingClientRect().left)")
    assert len(set(lefts)) == 1
    headers = browser.run("[...document.querySelectorAll('#d thead th')].map(e => e.textContent)")
    assert headers == ["Severity", "Domain, host", *(label.strip('"') for label in labels[1:])]


@pytest.mark.parametrize(("flag", "rows"), [("n", 7), ("a", 4), ("p", 2), ("x", 3), ("e", 1), ("all", 12)])
def test_a_filter_shows_its_rows_and_no_others(browser: Browser, pages: dict[str, Path], flag: str, rows: int) -> None:
    browser.show()
    browser.open(pages["small"])
    browser.run(f"document.querySelector('[for=s-{flag}]').click()")
    assert browser.run(SHOWN_ROWS) == rows
    assert browser.run(f"document.querySelector('[for=s-{flag}] .num').textContent") == str(rows)
    groups = "[...document.querySelectorAll('#d .g')].filter(e => e.checkVisibility()).length"
    assert browser.run(groups) <= rows


def test_everything_can_be_done_by_keyboard(browser: Browser, pages: dict[str, Path]) -> None:
    browser.show()
    browser.open(pages["small"])
    browser.press("Tab")
    assert browser.run("document.activeElement.className") == "skip"
    assert browser.run("document.activeElement.getBoundingClientRect().left >= 0") is True
    browser.run("document.getElementById('s-all').focus()")
    browser.press("ArrowRight")
    assert browser.run("document.activeElement.id") == "s-n"
    assert browser.run("getComputedStyle(document.querySelector('[for=s-n]')).outlineStyle") == "solid"
    assert browser.run(SHOWN_ROWS) == 7
    browser.run("document.querySelector('#d summary').focus()")
    browser.press("Enter")
    assert browser.run("document.querySelector('#d details').open") is True


def test_a_link_leads_to_its_explanation(browser: Browser, pages: dict[str, Path]) -> None:
    browser.show()
    browser.open(pages["small"])
    browser.run("document.querySelector('#d td li a').click()")
    at = browser.run("(r => [r.top, r.bottom])(document.querySelector(':target').getBoundingClientRect())")
    assert 0 <= at[0] < at[1] <= 900


@pytest.mark.parametrize("name", list(PAGES))
def test_on_paper_nothing_is_cut_off(browser: Browser, pages: dict[str, Path], name: str) -> None:
    browser.show(width=PAPER, media="print")
    browser.open(pages[name])
    assert browser.run("document.documentElement.scrollWidth") <= PAPER
    assert browser.run(OUTSIDE) == []


def test_on_paper_everything_is_there(browser: Browser, pages: dict[str, Path]) -> None:
    browser.show(width=PAPER, media="print", dark=True)
    browser.open(pages["small"])
    browser.run("document.querySelectorAll('details').forEach(e => e.open = false)")
    text = browser.run("document.body.innerText")
    for host in range(1, 6):
        assert f"hv-{host:02d}.example.org" in text
    for row in fleet.report(fleet.small_fleet())["domains"]:
        assert row["name"] in text
        assert all(finding["message"] in text and finding["remedy"] in text for finding in row["findings"])
    assert fleet.AFFECTED_QEMU["evidence"] in text
    assert browser.run("document.querySelector('#h tbody').getBoundingClientRect().height") > 0, "hosts are folded"
    assert "Show" not in text
    assert browser.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert browser.run("getComputedStyle(document.querySelector('#d thead')).display") == "table-header-group"
    assert browser.run("getComputedStyle(document.querySelector('#d tbody tr:nth-child(2)')).breakInside") == "avoid"


def test_it_prints(browser: Browser, pages: dict[str, Path]) -> None:
    browser.show()
    browser.open(pages["small"])
    printed = browser.pdf()
    assert printed.startswith(b"%PDF-")
    boxes = {tuple(map(float, box.split())) for box in re.findall(rb"/MediaBox \[([^\]]*)\]", printed)}
    assert boxes
    assert all(right > top for _left, _bottom, right, top in boxes), "not across"
    assert 2 <= len(re.findall(rb"/Type /Page\b", printed)) <= 8


class TestLong:
    @pytest.fixture(autouse=True)
    def _open(self, browser: Browser, long_page: Path) -> None:
        self.size = long_page.stat().st_size
        browser.show(width=PHONE)
        browser.open(long_page)

    def test_ten_thousand_domains(self, browser: Browser) -> None:
        assert self.size < 10_000_000
        assert browser.run("document.querySelectorAll('#d th[scope=row]').length") == 10_000
        assert browser.run("document.documentElement.scrollWidth") <= PHONE

        browser.run("document.querySelector('[for=s-x]').click()")
        last: t.Any = "[...document.querySelectorAll('#d th[scope=row]')].at(-1)"
        browser.run(f"{last}.scrollIntoView({{block: 'center'}})")
        assert browser.run(f"(r => r.top >= 0 && r.bottom <= innerHeight)({last}.getBoundingClientRect())") is True
        assert browser.picture().startswith(b"\x89PNG")

        links = "[...document.querySelectorAll('#d tr:last-child td:nth-child(6) a')].at(-1)"
        browser.run(f"{links}.click()")
        at = browser.run("document.querySelector(':target').getBoundingClientRect().top")
        assert 0 <= at < 900
