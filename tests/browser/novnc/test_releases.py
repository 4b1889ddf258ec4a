# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every release of noVNC, patched and not, in a browser, on the affected QEMU and on a fixed one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ansible_collections.kvmops.console.tests.browser.chromium import Browser
from ansible_collections.kvmops.console.tests.browser.novnc import sources
from ansible_collections.kvmops.console.tests.browser.novnc.conftest import Module, Serve, Start
from ansible_collections.kvmops.console.tests.browser.novnc.machine import Machine
from ansible_collections.kvmops.console.tests.browser.novnc.viewer import Viewer, write_page

TABLET = ("-usb", "-device", "usb-tablet")
PATH = ((50, 50), (60, 55), (100, 80), (90, 70))


def copy(version: str, folder: Path) -> Path:
    """A release with a page of ours in it: the ES module where npm has one, else npm's CommonJS in a bundle."""
    tree = folder / version
    shutil.copytree(sources.from_npm(version), tree)
    if (tree / "core").exists():
        write_page(tree, "core/rfb.js")
    return tree


MODULES = [version for version, parts in sources.NPM.items() if "core" in parts]


def check_pointer(viewer: Viewer, machine: Machine) -> None:
    """The guest's pointer goes where the browser's goes, before and after a driver of the guest takes the tablet."""
    viewer.until("rfb._sock._qemuPointer || rfb._sock._qemuPointer === null")
    assert machine.moved() == (0, 0)
    for x, y in PATH:
        viewer.move(x, y)
    viewer.click(*PATH[-1])
    machine.wait_moved(PATH[-1][0] - PATH[0][0], PATH[-1][1] - PATH[0][1])
    assert max(map(abs, machine.steps())) < 100
    machine.human("mouse_set 3")
    viewer.until("rfb._sock._qemuPointer === null")
    for x, y in PATH:
        viewer.move(x, y)
    viewer.click(*PATH[-1])
    box = viewer.canvas()
    machine.wait_place(*PATH[-1], (int(box["width"]), int(box["height"])))


@pytest.mark.parametrize("version", MODULES)
def test_release_breaks_unpatched_and_works_patched(
    browser: Browser, start: Start, serve: Serve, module: Module, tmp_path: Path, version: str
) -> None:
    tree = copy(version, tmp_path)
    machine = start("affected", *TABLET)
    address = serve(tree, machine)

    viewer = Viewer(browser, f"{address}/viewer.html")
    assert viewer.until("told.state != 'connected' && told.state != 'new' && told.state") == "failed"
    assert any("nsupported encoding" in line and "-257" in line for line in viewer.console()), viewer.console()

    result = module("novnc_patch", paths=[os.fspath(tree)])
    assert result["changed"], result

    # Also with what the browser has kept of the visit before.
    viewer = Viewer(browser, f"{address}/viewer.html")
    viewer.until("told.power && told.state == 'connected'")
    check_pointer(viewer, machine)
    assert viewer.value("told.state") == "connected"
    viewer.leave()


@pytest.mark.parametrize("mode", ["tolerant", "full"])
@pytest.mark.parametrize("version", MODULES)
def test_fixed_qemu_is_as_before(
    browser: Browser, start: Start, serve: Serve, module: Module, tmp_path: Path, version: str, mode: str
) -> None:
    tree = copy(version, tmp_path)
    assert module("novnc_patch", paths=[os.fspath(tree)], mode=mode)["changed"]
    machine = start("fixed", *TABLET)
    viewer = Viewer(browser, f"{serve(tree, machine)}/viewer.html")
    viewer.until("told.power && told.state == 'connected'")
    if mode == "full":
        viewer.until("told.pointer.some(detail => detail.relative && !detail.locked)")
    check_pointer(viewer, machine)
    viewer.leave()
