# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""noVNC in the browser: a page of our own around any release, a hand on the mouse, and what the console says."""

from __future__ import annotations

import base64
import io
import json
import typing as t
from pathlib import Path

from PIL import Image, ImageChops

from ansible_collections.kvmops.console.tests.browser.chromium import Browser

SCRIPT = """
const RFB = imported.default || imported;
const told = window.told = {state: 'new', power: false, pointer: []};
const path = new URLSearchParams(location.search).get('path') || 'websockify';
const rfb = window.rfb = new RFB(document.getElementById('screen'), 'ws://' + location.host + '/' + path);
rfb.addEventListener('connect', () => { told.state = 'connected'; });
rfb.addEventListener('disconnect', e => { told.state = e.detail.clean ? 'closed' : 'failed'; });
rfb.addEventListener('capabilities', e => { told.power = Boolean(e.detail.capabilities.power); });
rfb.addEventListener('pointertypechange', e => { told.pointer.push(e.detail); });
"""
PAGE = """<!DOCTYPE html>
<html><head><meta charset="utf-8"><title>viewer</title></head>
<body style="margin: 0"><div id="screen" style="width: 1000px; height: 700px"></div>
%s
</body></html>
"""

# Polled in the page itself, so that waiting for something there is one question.
UNTIL = """
new Promise((resolve, reject) => {
  const end = Date.now() + 300000;
  const look = () => {
    let seen;
    try { seen = %s } catch (e) { seen = null }
    if (seen) resolve(seen); else if (Date.now() > end) reject('it never came'); else setTimeout(look, 20);
  };
  look();
})
"""
LARGEST = """[...document.querySelectorAll('canvas')].filter(c => c.className !== 'qemu_pointer')
.reduce((a, b) => a.width * a.height >= b.width * b.height ? a : b)"""
CANVAS = f"""
(() => {{
  const c = {LARGEST}, box = c.getBoundingClientRect();
  return {{x: box.x, y: box.y, width: c.width, height: c.height}};
}})()
"""
POWER_SHOWN = """document.documentElement.classList.contains('noVNC_connected')
  && !document.getElementById('noVNC_power_button').classList.contains('noVNC_hidden')"""
"""Whether noVNC's own page is connected, and has its power button."""


def write_page(folder: Path, script: str) -> None:
    """Put a page into a noVNC that loads the RFB class from `script`, a path in it."""
    text = f"<script type=\"module\">\nimport imported from './{script}';\n{SCRIPT}</script>"
    (folder / "viewer.html").write_text(PAGE % text, encoding="utf-8")


def write_application(folder: Path, script: str) -> Path:
    """Put a page into a noVNC that loads an application; what that is to be built from is returned."""
    (folder / "viewer.html").write_text(PAGE % '<script type="module" src="app.js?ver=1"></script>', encoding="utf-8")
    source = folder / "viewer.js"
    source.write_text(f"import * as all from './{script}';\nconst imported = all.default || all;\n{SCRIPT}")
    return source


def alike(one: Image.Image, other: Image.Image) -> bool:
    """But for a cursor that blinks."""
    if one.size != other.size:
        return False
    differs = ImageChops.difference(one, other).convert("L").point(lambda value: 255 if value > 8 else 0)
    return differs.histogram()[255] < one.width * one.height / 1000


class Viewer:
    """One visit of a page that shows a machine."""

    def __init__(self, browser: Browser, url: str) -> None:
        self._browser = browser
        browser.show(width=1100, height=800)
        browser.events.clear()
        browser.ask("Page.navigate", url=url)
        browser.wait("Page.loadEventFired")
        self._buttons = 0

    def leave(self) -> None:
        """Close the connection by going elsewhere."""
        self._browser.ask("Page.navigate", url="about:blank")

    def value(self, expression: str) -> t.Any:
        return self._browser.run(expression)

    def until(self, expression: str) -> t.Any:
        """The first true value of an expression in the page."""
        answer = self._browser.ask(
            "Runtime.evaluate", expression=UNTIL % expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in answer, (expression, answer, self.console())
        return answer["result"].get("value")

    def picture(self) -> Image.Image:
        """What the page shows of the machine."""
        found = self.value(f"{LARGEST}.toDataURL('image/png')")
        return Image.open(io.BytesIO(base64.b64decode(found.partition(",")[2]))).convert("RGB")

    def console(self) -> list[str]:
        """What the page said on its console."""
        calls = self._browser.happened("Runtime.consoleAPICalled")
        said = [" ".join(str(word.get("value")) for word in call["args"]) for call in calls]
        thrown = self._browser.happened("Runtime.exceptionThrown")
        return said + [json.dumps(event["exceptionDetails"]) for event in thrown]

    def canvas(self) -> dict[str, float]:
        """Where the picture is in the page, and its size."""
        return dict(self.value(CANVAS))

    def mouse(self, kind: str, x: float, y: float, button: str = "none", **more: t.Any) -> None:
        """An event of the mouse at a place of the picture."""
        box = self.canvas()
        if kind == "mousePressed":
            self._buttons = 1
        elif kind == "mouseReleased":
            self._buttons = 0
        self._browser.ask(
            "Input.dispatchMouseEvent",
            type=kind,
            x=box["x"] + x,
            y=box["y"] + y,
            button=button,
            buttons=self._buttons,
            clickCount=int(button != "none"),
            **more,
        )

    def move(self, x: float, y: float) -> None:
        self.mouse("mouseMoved", x, y)

    def click(self, x: float, y: float) -> None:
        self.mouse("mousePressed", x, y, "left")
        self.mouse("mouseReleased", x, y, "left")

    def key(self, kind: str, key: str, code: str, number: int, modifiers: int = 0) -> None:
        self._browser.ask(
            "Input.dispatchKeyEvent",
            type=kind,
            key=key,
            code=code,
            windowsVirtualKeyCode=number,
            modifiers=modifiers,
        )
