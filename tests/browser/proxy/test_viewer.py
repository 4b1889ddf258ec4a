# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A native viewer (gtk-vnc's, the widget of virt-manager and virt-viewer), by TCP through the proxy."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from ansible_collections.kvmops.console.tests.browser.novnc.conftest import Start
from ansible_collections.kvmops.console.tests.browser.novnc.machine import SECONDS
from ansible_collections.kvmops.console.tests.browser.novnc.test_package import guest
from ansible_collections.kvmops.console.tests.browser.proxy.conftest import Put


class Display:
    """An X server without a screen."""

    def __init__(self, folder: Path) -> None:
        self._picture = folder / "Xvfb_screen0"
        reader, writer = os.pipe()
        words = ["Xvfb", "-displayfd", str(writer), "-screen", "0", "1024x768x24", "-fbdir", os.fspath(folder)]
        self._server = subprocess.Popen(
            [*words, "-nolisten", "tcp"], pass_fds=(writer,), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        os.close(writer)
        with os.fdopen(reader) as told:
            self.name = f":{told.readline().strip()}"
        self._programs: list[subprocess.Popen[bytes]] = []

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a program that shows itself here."""
        environment = {**os.environ, "DISPLAY": self.name, "NO_AT_BRIDGE": "1"}
        self._programs.append(
            subprocess.Popen(
                words,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
        )
        return self._programs[-1]

    def pixels(self) -> bytes:
        """All of it as blue, green, red and a byte of no meaning (X11/XWDFile.h)."""
        data = self._picture.read_bytes()
        (header,) = struct.unpack_from("!I", data)
        (colours,) = struct.unpack_from("!I", data, 76)
        return data[header + 12 * colours :]

    def end(self) -> None:
        for process in (*self._programs, self._server):
            process.kill()
            process.wait(SECONDS)


@pytest.fixture
def display(tmp_path: Path) -> Iterator[Display]:
    for program in ("Xvfb", "gvncviewer", "xdotool"):
        if not shutil.which(program):
            pytest.skip(f"there is no {program} here: apt-get install xvfb gvncviewer xdotool")
    started = Display(tmp_path)
    yield started
    started.end()


def liveliest_row(screen: Image.Image) -> bytes:
    """The row of the picture that looks least like nothing, as the display keeps pixels."""
    rows = [screen.crop((0, y, screen.width, y + 1)) for y in range(screen.height)]
    row = max(rows, key=lambda row: sum(row.convert("L").point(lambda value: value > 8 and 1).getdata()))
    return row.convert("RGBA").tobytes("raw", "BGRA")


def shows(display: Display, row: bytes) -> bool:
    """Whether the display shows that row somewhere; what stands in the fourth byte of a pixel means nothing."""
    plain = bytearray(display.pixels())
    plain[3::4] = b"\xff" * len(plain[3::4])
    return row in plain


def test_viewer_shows_and_steers_the_guest(start: Start, put: Put, display: Display, tmp_path: Path) -> None:
    machine = start("affected", *guest())
    proxy = put(machine)
    machine.wait_guest()
    viewer = display.start("gvncviewer", f"127.0.0.1:{proxy.viewer_port - 5900}")
    proxy.wait("session_start")
    end = time.monotonic() + SECONDS
    while not shows(display, liveliest_row(machine.screen(tmp_path / "screen.ppm"))):
        assert viewer.poll() is None, "the viewer ended"
        assert time.monotonic() < end, "the viewer does not show what the machine shows"
        time.sleep(0.05)
    display.start("xdotool", "mousemove", "300", "300", "mousemove", "320", "310", "key", "a").wait(SECONDS)
    machine.wait_said("input_event_key_qcode", "down 1")
    assert viewer.poll() is None
    assert not proxy.happened("session_end")
