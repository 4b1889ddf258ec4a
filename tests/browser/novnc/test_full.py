# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The mode "full": the pointer is locked while the guest takes movements, and there are ways out."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from ansible_collections.kvmops.console.tests.browser.chromium import Browser
from ansible_collections.kvmops.console.tests.browser.novnc import sources
from ansible_collections.kvmops.console.tests.browser.novnc.conftest import Module, Serve, Start
from ansible_collections.kvmops.console.tests.browser.novnc.machine import Machine
from ansible_collections.kvmops.console.tests.browser.novnc.viewer import Viewer, write_page

LOCKED = "Boolean(document.pointerLockElement) && told.pointer.some(detail => detail.locked)"
FREE = "!document.pointerLockElement && !told.pointer[told.pointer.length - 1].locked"
ALT, CTRL = 1, 2
"""Bits of the modifiers, in DevTools' words."""


class Console(NamedTuple):
    viewer: Viewer
    machine: Machine


@pytest.fixture(params=["1.1.0", "1.7.0"])
def console(
    request: pytest.FixtureRequest, browser: Browser, start: Start, serve: Serve, module: Module, tmp_path: Path
) -> Iterator[Console]:
    """A page on a machine that takes movements, with its pointer locked by a click in the middle."""
    tree = tmp_path / "novnc"
    shutil.copytree(sources.from_npm(str(request.param)), tree)
    write_page(tree, "core/rfb.js")
    assert module("novnc_patch", paths=[os.fspath(tree)], mode="full")["changed"]
    machine = start("affected", "-usb", "-device", "usb-tablet")
    viewer = Viewer(browser, f"{serve(tree, machine)}/viewer.html")
    viewer.until("rfb._sock._qemuPointer")
    viewer.move(300, 200)
    viewer.click(300, 200)
    viewer.until(LOCKED)
    yield Console(viewer, machine)
    viewer.leave()


def test_locked_pointer(console: Console) -> None:
    viewer, machine = console
    begin = machine.moved()
    # Further than the picture is large: no edge stops it.
    for place in (400, 600, 800, 1000, 300):
        viewer.move(place, 200)
    viewer.move(300, 230)
    machine.wait_moved(begin[0], begin[1] + 30)
    assert {200, -700} <= set(machine.steps())

    viewer.mouse("mousePressed", 300, 230, "left")
    viewer.move(310, 230)
    viewer.mouse("mouseReleased", 310, 230, "left")
    machine.wait_moved(begin[0] + 10, begin[1] + 30)
    viewer.mouse("mouseWheel", 310, 230, deltaX=0, deltaY=120)
    machine.wait_said("input_event_btn", "wheel-down", "down 1")
    viewer.mouse("mouseWheel", 310, 230, deltaX=0, deltaY=-120)
    machine.wait_said("input_event_btn", "wheel-up", "down 1")

    viewer.key("rawKeyDown", "Control", "ControlLeft", 17, CTRL)
    viewer.key("rawKeyDown", "Alt", "AltLeft", 18, CTRL | ALT)
    assert viewer.value(LOCKED)
    viewer.key("keyUp", "Alt", "AltLeft", 18, CTRL)
    viewer.until(FREE)
    viewer.key("keyUp", "Control", "ControlLeft", 17)
    # Nothing is left over in the guest's hands, and what noVNC sends by itself are movements again.
    before = machine.moved()
    viewer.move(100, 100)
    viewer.move(140, 90)
    machine.wait_moved(before[0] + 40, before[1] - 10)
    downs = [line.rsplit(" ", 1)[1].strip() for line in machine.said.now() if "button left" in line]
    assert downs[-1] == "0"
    assert viewer.value("told.state") == "connected"


def test_tablet_ends_the_lock(console: Console) -> None:
    viewer, machine = console
    machine.human("mouse_set 3")
    viewer.until(FREE)
    viewer.until("told.pointer.some(detail => !detail.relative && !detail.locked)")
    box = viewer.canvas()
    viewer.click(50, 60)
    machine.wait_place(50, 60, (int(box["width"]), int(box["height"])))
    assert not viewer.value("Boolean(document.pointerLockElement)")


def test_escape_gives_the_pointer_back_and_reaches_the_guest(console: Console) -> None:
    viewer, machine = console
    # What a browser does on Esc: it ends the lock, and keeps the key to itself.
    viewer.value("document.exitPointerLock()")
    viewer.until(FREE)
    machine.wait_said("input_event_key_qcode", "esc", "down 1")
    machine.wait_said("input_event_key_qcode", "esc", "down 0")


def test_pointer_that_the_server_draws_is_seen(console: Console) -> None:
    viewer, _machine = console
    viewer.value("document.exitPointerLock()")
    viewer.until(FREE)
    image = "{rgbaPixels: new Uint8Array(16 * 16 * 4).fill(255), w: 16, h: 16, hotx: 3, hoty: 4}"
    viewer.value(f"rfb._cursorImage = {image}; told.pointer.length = 0")
    box = viewer.canvas()
    viewer.click(300, 200)
    viewer.until(LOCKED)
    viewer.move(310, 190)
    place = "(e => e && [e.offsetLeft, e.offsetTop])(document.querySelector('.qemu_pointer'))"
    wanted = [round(box["x"] + 310 - 3), round(box["y"] + 190 - 4)]
    viewer.until(f"String({place}) === '{wanted[0]},{wanted[1]}'")
    viewer.value("document.exitPointerLock()")
    viewer.until("!document.querySelector('.qemu_pointer')")
