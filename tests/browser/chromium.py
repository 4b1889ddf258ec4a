# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A headless Chromium, spoken to over its DevTools protocol: enough to look at a page, press keys and print.

https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import typing as t
from collections import deque
from pathlib import Path

import websocket

Json = dict[str, t.Any]

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
KEYS = {
    "Tab": (9, ""),
    "Enter": (13, "\r"),
    "ArrowRight": (39, ""),
    "ArrowDown": (40, ""),
}
SECONDS = 300
"""A bound for any one answer, not an expectation."""


def program() -> str | None:
    """The browser of this machine."""
    return next((path for path in map(shutil.which, PROGRAMS) if path), None)


class Browser:
    """One browser with one page in front. Events that were not asked for are kept in `events`."""

    def __init__(self, folder: Path) -> None:
        path = program()
        assert path is not None
        words = [path, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        words += ["--remote-debugging-port=0", f"--user-data-dir={folder}", "about:blank"]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self._socket = websocket.create_connection(self._address(), timeout=SECONDS, suppress_origin=True)
        self._number = 0
        self._session: str | None = None
        self.events: deque[Json] = deque()
        self._attach()

    def _address(self) -> str:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if line.startswith("DevTools listening on "):
                return line.split()[-1]
        raise RuntimeError(f"The browser ended with {self._process.wait()} before it listened.")

    def _attach(self) -> None:
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.ask(f"{domain}.enable")

    def close(self) -> None:
        """End the browser, and wait until it has."""
        self._session = None
        self.ask("Browser.close")
        self._socket.close()
        assert self._process.stderr is not None
        with self._process.stderr:
            self._process.stderr.read()
        self._process.wait(SECONDS)

    def ask(self, method: str, **parameters: t.Any) -> Json:
        """Send a command, and wait for its answer."""
        self._number += 1
        message: Json = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._socket.send(json.dumps(message))
        while True:
            answer: Json = json.loads(self._socket.recv())
            if answer.get("id") == self._number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return t.cast(Json, answer["result"])
            self.events.append(answer)

    def wait(self, method: str) -> Json:
        """The first event of a kind since the events were last cleared."""
        for event in self.events:
            if event.get("method") == method:
                return event
        while True:
            self.events.append(json.loads(self._socket.recv()))
            if self.events[-1].get("method") == method:
                return self.events[-1]

    def happened(self, *methods: str) -> list[Json]:
        """All events of some kinds since the events were last cleared."""
        self.run("0")  # Whatever happened before this answer has been told before it.
        return [event["params"] for event in self.events if event.get("method") in methods]

    def show(self, *, width: int = 1360, height: int = 900, dark: bool = False, media: str = "") -> None:
        """What the page is shown on; without a medium the screen, and paper when it is printed."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 500,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        calm = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.ask("Emulation.setEmulatedMedia", media=media, features=[scheme, calm])

    def open(self, path: Path) -> None:
        """Load a file, and wait until it is loaded."""
        self.events.clear()
        self.ask("Page.navigate", url=path.as_uri())
        self.wait("Page.loadEventFired")

    def run(self, expression: str) -> t.Any:
        """The value of an expression in the page."""
        answer = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def press(self, key: str) -> None:
        """Press and release a key, as a person would."""
        code, text = KEYS[key]
        same: Json = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.ask("Input.dispatchKeyEvent", type="keyDown", text=text, **same)
        self.ask("Input.dispatchKeyEvent", type="keyUp", **same)

    def pdf(self) -> bytes:
        """The page on paper."""
        printed = self.ask("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
        return base64.b64decode(printed["data"])

    def picture(self) -> bytes:
        """What is on the screen, as PNG."""
        return base64.b64decode(self.ask("Page.captureScreenshot")["data"])
