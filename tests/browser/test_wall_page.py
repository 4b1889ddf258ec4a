# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The wall as people meet it: on a phone, on a desk, in the dark, by keyboard, and as axe-core judges it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ansible_collections.kvmops.console.plugins.plugin_utils._wall.pictures import Rules
from ansible_collections.kvmops.console.tests.browser.chromium import Browser
from ansible_collections.kvmops.console.tests.unit.plugins.plugin_utils._wall.lab import LOGIN, Lab

AXE = "4.14.1"
PHONE, DESK = 360, 1360
PAGES = ("index.html", "machines/hv-02.example.org/app-1.html", "machines/hv-01.example.org/desk-1.html")

# What stands out of the screen to the right, as far as a person would see it.
OUTSIDE = """
[...document.querySelectorAll('body *')].filter(e => e.checkVisibility({visibilityProperty: true})
  && !e.closest('.vh, .skip, pre') && e.getBoundingClientRect().right > innerWidth + 1)
  .map(e => e.tagName + '.' + e.className + ': ' + e.textContent.slice(0, 60))
"""
SHOWN = "[...document.querySelectorAll('.card h3 a')].filter(e => e.checkVisibility()).map(e => e.textContent)"
TEXTS = "[...document.querySelectorAll('.text')].filter(e => e.checkVisibility()).map(e => e.textContent)"
JUDGE = """
axe.run(document, {resultTypes: ['violations', 'incomplete']}).then(result => JSON.stringify(
  result.violations.map(v => [v.id, v.help, v.nodes.map(n => n.html.slice(0, 120)).slice(0, 3)])))
"""


@pytest.fixture(scope="module")
def axe() -> str:
    """axe-core's source, from npm, kept in the cache."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no npm here: apt-get install npm")
    folder = Path(os.environ.get("KVMOPS_CACHE", "/var/cache/kvmops-console")) / f"axe-core-{AXE}"
    script = folder / "node_modules" / "axe-core" / "axe.min.js"
    if not script.exists():
        folder.mkdir(parents=True, exist_ok=True)
        words = [npm, "install", "--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run([*words, f"axe-core@{AXE}"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    return script.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def wall(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wall with everything there can be, after some runs."""
    lab = Lab(tmp_path_factory.mktemp("wall"))
    two, three = "hv-02.example.org", "hv-03.example.org"
    for hour in range(6):
        at = f"2026-11-20T0{hour}:00:01.000000Z"
        results = [
            (two, {"domains": [lab.domain(two, "app-1", "text", f"Booting, step {hour}\n" * (hour + 1), at=at)]}),
            (three, {"domains": [lab.domain(three, "old-1", "text", "I was here", at=at)]}),
        ]
        lab.write(results, f"2026-11-20T0{hour}:00:02Z")
    lab.write(lab.fleet())
    return lab.folder


@pytest.mark.parametrize("width", [320, PHONE, 768, DESK, 2560])
@pytest.mark.parametrize("page", PAGES)
def test_nothing_is_wider_than_the_screen(browser: Browser, wall: Path, page: str, width: int) -> None:
    browser.show(width=width)
    browser.open(wall / page)
    browser.run("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert browser.run("innerWidth") == width
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run(OUTSIDE) == []


def test_the_fleets_page_asks_for_nothing(browser: Browser, wall: Path) -> None:
    browser.show()
    browser.open(wall / "index.html")
    requests = {event["request"]["url"] for event in browser.happened("Network.requestWillBeSent")}
    assert {url for url in requests if not url.startswith("data:")} == {(wall / "index.html").as_uri()}
    assert browser.happened("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded") == []
    assert browser.run("document.scripts.length") == 0


@pytest.mark.parametrize("page", PAGES)
def test_all_pictures_are_seen(browser: Browser, wall: Path, page: str) -> None:
    """The policy lets them in, and they can be decoded."""
    browser.show(height=6000)
    browser.open(wall / page)
    browser.run("document.querySelectorAll('details').forEach(e => e.open = true)")
    decoded = "Promise.all([...document.images].map(e => (e.loading = 'eager', e.decode()))).then(all => all.length)"
    answer = browser.ask("Runtime.evaluate", expression=decoded, awaitPromise=True, returnByValue=True)
    assert answer["result"].get("value", 0) >= 2, answer
    assert browser.happened("Log.entryAdded") == []
    assert browser.run("[...document.images].filter(e => !e.alt.trim() || !e.naturalWidth).length") == 0


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_axe_finds_nothing(browser: Browser, wall: Path, axe: str, page: str, dark: bool, width: int) -> None:
    browser.show(dark=dark, width=width)
    browser.open(wall / page)
    browser.run("document.querySelectorAll('details').forEach(e => e.open = true)")
    browser.run("document.querySelectorAll('.show input').forEach(e => e.checked = true)")
    browser.run(axe + "; 0")
    answer = browser.ask("Runtime.evaluate", expression=JUDGE, awaitPromise=True, returnByValue=True)
    assert answer["result"].get("value") == "[]", answer


def test_it_is_dark_in_the_dark(browser: Browser, wall: Path) -> None:
    light = (
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).reduce((sum, part) => sum + Number(part), 0)"
    )
    for dark in (True, False):
        browser.show(dark=dark)
        browser.open(wall / "index.html")
        assert (browser.run(light) < 100) is dark


def test_filters_by_state_and_host(browser: Browser, wall: Path) -> None:
    browser.show()
    browser.open(wall / "index.html")
    everything = browser.run(SHOWN)
    assert len(everything) == 11
    browser.run("document.querySelector('#s-l').click()")
    assert browser.run(SHOWN) == ["web-1", "app-1"]
    browser.run("document.querySelector('#h-2').click()")
    assert browser.run(SHOWN) == ["app-1"]
    nothing = "document.querySelector('.nothing').checkVisibility()"
    assert browser.run(nothing) is False
    browser.run("document.querySelector('#s-p').click()")
    assert browser.run(SHOWN) == []
    assert browser.run(nothing) is True
    browser.run("document.querySelector('#s-all').click(), document.querySelector('#h-all').click()")
    assert browser.run(SHOWN) == everything


def test_by_keyboard(browser: Browser, wall: Path) -> None:
    """To the screens, through the filters by arrows, and the text of a screen on focus."""
    browser.show()
    browser.open(wall / "index.html")
    browser.press("Tab")
    assert browser.run("document.activeElement.className") == "skip"
    browser.press("Tab")
    browser.press("ArrowRight")
    assert browser.run("document.activeElement.id") == "s-n"
    assert browser.run(SHOWN) == ["hung", "web-2", "old-1"]
    browser.run("document.querySelector('#s-all').click()")
    assert browser.run(TEXTS) == []
    browser.run("document.querySelector('a[href$=\\'/web-1.png\\']').focus()")
    assert browser.run(TEXTS) == [LOGIN.rstrip()]


def test_by_touch(browser: Browser, wall: Path) -> None:
    browser.show(width=PHONE)
    browser.open(wall / "index.html")
    browser.run("document.querySelectorAll('.show input').forEach(e => e.click())")
    assert len(browser.run(TEXTS)) == browser.run("document.querySelectorAll('.text').length") == 6


def test_a_thousand_screens(browser: Browser, tmp_path: Path) -> None:
    lab = Lab(tmp_path)
    hosts = [
        (host, {"domains": [lab.domain(host, f"vm-{number}", "login", LOGIN) for number in range(50)]})
        for host in (f"hv-{number}" for number in range(20))
    ]
    lab.write(hosts, rules=Rules(keep=0))
    assert (tmp_path / "index.html").stat().st_size < 20_000_000
    browser.show(width=PHONE)
    browser.open(tmp_path / "index.html")
    browser.run("document.querySelector('#s-l').click()")
    assert len(browser.run(SHOWN)) == 1000
    browser.run("document.querySelector('#h-3').click()")
    assert len(browser.run(SHOWN)) == 50
