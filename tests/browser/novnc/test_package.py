# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Debian's packages of noVNC as people use them: their own pages, websockify's web server, a guest that runs Linux."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from ansible_collections.kvmops.console.tests.browser.chromium import Browser
from ansible_collections.kvmops.console.tests.browser.novnc import sources
from ansible_collections.kvmops.console.tests.browser.novnc.conftest import Module, Serve, Start
from ansible_collections.kvmops.console.tests.browser.novnc.machine import SECONDS, Machine
from ansible_collections.kvmops.console.tests.browser.novnc.viewer import POWER_SHOWN, Viewer, alike, write_page
from ansible_collections.kvmops.console.tests.lab.kvmlab.build import GUEST
from ansible_collections.kvmops.console.tests.lab.kvmlab.domains import GUEST_ARGUMENTS
from ansible_collections.kvmops.console.tests.lab.kvmlab.machine import cache

TABLET = ("-usb", "-device", "usb-tablet")


def guest() -> tuple[str, ...]:
    folder = cache() / GUEST
    words = ("-kernel", f"{folder}/vmlinuz", "-initrd", f"{folder}/initrd.gz")
    return (*words, "-append", GUEST_ARGUMENTS, *TABLET)


def installed(version: str, folder: Path) -> Path:
    """A copy of what Debian's package puts on a host, with the old times of its files."""
    tree = folder / "novnc"
    shutil.copytree(sources.from_debian(version) / "package/usr/share/novnc", tree, symlinks=True)
    return tree


def wait_alike(viewer: Viewer, machine: Machine, path: Path) -> None:
    """Until the page shows what the machine shows, which is more than nothing."""
    end = time.monotonic() + SECONDS
    while True:
        shown = viewer.picture()
        if alike(shown, machine.screen(path)) and len(shown.getcolors(65536) or ()) > 1:
            return
        assert time.monotonic() < end, "the page shows something else than the machine"
        time.sleep(0.05)


def point(viewer: Viewer, machine: Machine, x: int, y: int) -> None:
    """Click until the guest's pointer is there: the page does not tell when it has heard of the tablet."""
    box, end = viewer.canvas(), time.monotonic() + SECONDS
    while not machine.is_at(x, y, (int(box["width"]), int(box["height"]))):
        assert time.monotonic() < end, machine.said.now()[-30:]
        viewer.click(x, y)


@pytest.mark.parametrize("version", list(sources.DEBIAN))
def test_page_of_the_package(
    browser: Browser, start: Start, serve: Serve, module: Module, tmp_path: Path, version: str
) -> None:
    tree = installed(version, tmp_path)
    machine = start("affected", *guest())
    page = f"{serve(tree, machine)}/vnc.html?autoconnect=1&path=websockify&token="

    viewer = Viewer(browser, f"{page}1")
    viewer.until("document.getElementById('noVNC_status').classList.contains('noVNC_status_error')")
    assert any("nsupported encoding" in line and "-257" in line for line in viewer.console()), viewer.console()

    changed = module("novnc_patch", paths=[os.fspath(tree)])
    assert changed["changed"], changed
    assert module("novnc_patch", paths=[os.fspath(tree)])["changed"] is False
    (record,) = module("novnc_info", paths=[os.fspath(tree)])["installations"]
    assert (record["version"], record["patched"], record["current"]) == (version, True, True)
    assert [page["stale"] for page in record["pages"]] == [False] * len(record["pages"])
    assert {os.path.basename(page["path"]) for page in record["pages"]} >= {"vnc.html", "vnc_lite.html"}

    # The browser has kept rfb.js, whose time of change is years ago, and asks for it under its new address.
    viewer = Viewer(browser, f"{page}2")
    viewer.until(POWER_SHOWN)
    machine.wait_guest()
    wait_alike(viewer, machine, tmp_path / "screen.ppm")
    machine.wait_tablet()
    point(viewer, machine, 110, 80)

    machine.forget()
    viewer.value("document.getElementById('noVNC_shutdown_button').click()")
    machine.wait("POWERDOWN")
    assert machine.wait("SHUTDOWN")["data"]["guest"] is True
    viewer.value("document.getElementById('noVNC_reset_button').click()")
    assert machine.wait("RESET")["data"]["reason"] == "host-qmp-system-reset"
    assert viewer.value(POWER_SHOWN)
    viewer.leave()


def test_guest_takes_the_tablet_while_somebody_looks(
    browser: Browser, start: Start, serve: Serve, module: Module, tmp_path: Path
) -> None:
    tree = installed("1.3.0", tmp_path)
    write_page(tree, "core/rfb.js")
    module("novnc_patch", paths=[os.fspath(tree)])
    machine = start("affected", *guest(), "-S")
    viewer = Viewer(browser, f"{serve(tree, machine)}/viewer.html")
    # Nothing runs yet: the guest would take movements.
    viewer.until("rfb._sock._qemuPointer")
    machine.ask("cont")
    machine.wait_guest()
    viewer.until("rfb._sock._qemuPointer === null")
    box = viewer.canvas()
    viewer.click(300, 200)
    machine.wait_place(300, 200, (int(box["width"]), int(box["height"])))
    viewer.leave()
