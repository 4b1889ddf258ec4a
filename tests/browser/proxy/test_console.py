# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An unpatched noVNC in a real browser, in front of real QEMUs: broken without the proxy, whole through it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.kvmops.console.tests.browser.chromium import Browser
from ansible_collections.kvmops.console.tests.browser.novnc import sources
from ansible_collections.kvmops.console.tests.browser.novnc.conftest import Serve, Start
from ansible_collections.kvmops.console.tests.browser.novnc.test_package import (
    guest,
    installed,
    point,
    wait_alike,
)
from ansible_collections.kvmops.console.tests.browser.novnc.viewer import POWER_SHOWN, Viewer, write_page
from ansible_collections.kvmops.console.tests.browser.proxy.conftest import Put
from ansible_collections.kvmops.console.tests.browser.proxy.service import TARGET

TABLET = ("-usb", "-device", "usb-tablet")
PATH = ((50, 50), (60, 55), (100, 80), (90, 70))
CONNECTED = "told.state == 'connected'"


def newest(folder: Path) -> Path:
    """npm's newest release, with a page of ours in it."""
    tree = folder / "1.7.0"
    shutil.copytree(sources.from_npm("1.7.0"), tree)
    write_page(tree, "core/rfb.js")
    return tree


def debian(folder: Path) -> Path:
    """Debian 12's package, with a page of ours in it."""
    tree = installed("1.3.0", folder)
    write_page(tree, "core/rfb.js")
    return tree


def page(address: str) -> str:
    return f"{address}/novnc/viewer.html?path=target/{TARGET}"


def wander(viewer: Viewer) -> None:
    for x, y in PATH:
        viewer.move(x, y)
    viewer.click(*PATH[-1])


@pytest.mark.parametrize("release", [newest, debian])
def test_broken_through_websockify_whole_through_the_proxy(
    browser: Browser, start: Start, serve: Serve, put: Put, tmp_path: Path, release: Callable[[Path], Path]
) -> None:
    tree = release(tmp_path)
    machine = start("affected", *TABLET)

    viewer = Viewer(browser, f"{serve(tree, machine)}/viewer.html")
    assert viewer.until("told.state != 'connected' && told.state != 'new' && told.state") == "failed"
    assert any("nsupported encoding" in line and "-257" in line for line in viewer.console()), viewer.console()

    viewer = Viewer(browser, page(put(machine, tree).url))
    viewer.until(f"told.power && {CONNECTED}")
    # No driver of a guest has taken the tablet: the pointer is a PS/2 mouse, which moves as far as the browser's.
    wander(viewer)
    machine.wait_moved(PATH[-1][0] - PATH[0][0], PATH[-1][1] - PATH[0][1])
    assert max(map(abs, machine.steps())) < 100
    machine.human("mouse_set 3")
    wander(viewer)
    box = viewer.canvas()
    machine.wait_place(*PATH[-1], (int(box["width"]), int(box["height"])))
    assert viewer.value(CONNECTED)
    viewer.leave()


def test_guest_by_the_pages_of_the_package(browser: Browser, start: Start, put: Put, tmp_path: Path) -> None:
    """The whole way: Debian's own page, opened by the short address, shows the guest and switches it off and on."""
    machine = start("affected", *guest())
    proxy = put(machine, installed("1.3.0", tmp_path))
    viewer = Viewer(browser, proxy.page("vnc.html"))
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
    proxy.wait("power_message", action="shutdown", passed=True)
    proxy.wait("power_message", action="reset", passed=True)
    assert viewer.value(POWER_SHOWN)
    viewer.leave()


@pytest.mark.parametrize("kind", ["affected", "fixed"])
def test_power_denied(browser: Browser, start: Start, put: Put, tmp_path: Path, kind: str) -> None:
    """No buttons; and what a page sends all the same does nothing."""
    machine = start(kind, *TABLET)
    proxy = put(machine, newest(tmp_path), power="deny")
    viewer = Viewer(browser, page(proxy.url))
    viewer.until(CONNECTED)
    assert not viewer.value("told.power")
    machine.forget()
    # Shutdown and reset (rfbproto, xvp), on the page's own socket, then a click that the machine tells of.
    viewer.value("rfb._sock._websocket.send(new Uint8Array([250, 0, 1, 2, 250, 0, 1, 4])), 0")
    wander(viewer)
    machine.wait_moved(PATH[-1][0] - PATH[0][0], PATH[-1][1] - PATH[0][1])
    machine.ask("query-status")
    assert not {event["event"] for event in machine.events} & {"POWERDOWN", "SHUTDOWN", "RESET"}
    proxy.wait("power_message", action="shutdown", passed=False)
    proxy.wait("power_message", action="reset", passed=False)
    assert viewer.value(CONNECTED)
    viewer.leave()


def test_fixed_qemu_is_as_before(browser: Browser, start: Start, put: Put, tmp_path: Path) -> None:
    machine = start("fixed", *TABLET)
    viewer = Viewer(browser, page(put(machine, newest(tmp_path)).url))
    viewer.until(f"told.power && {CONNECTED}")
    machine.forget()
    viewer.value("rfb.machineReset(), 0")
    assert machine.wait("RESET")["data"]["reason"] == "host-qmp-system-reset"
    wander(viewer)
    machine.wait_moved(PATH[-1][0] - PATH[0][0], PATH[-1][1] - PATH[0][1])
    assert viewer.value(CONNECTED)
    viewer.leave()


def test_view_only_is_kept_by_the_proxy(browser: Browser, start: Start, put: Put, tmp_path: Path) -> None:
    machine = start("affected", *guest())
    proxy = put(machine, newest(tmp_path), view_only=True)
    viewer = Viewer(browser, page(proxy.url))
    viewer.until(CONNECTED)
    machine.wait_guest()
    wait_alike(viewer, machine, tmp_path / "screen.ppm")
    machine.forget()
    wander(viewer)
    viewer.value("rfb.sendKey(0x61, 'KeyA'), rfb._sock._websocket.send(new Uint8Array([250, 0, 1, 2])), 0")
    proxy.wait("power_message", action="shutdown", passed=False)
    machine.ask("query-status")
    assert machine.moved() == (0, 0)
    assert not any("input_event_" in line for line in machine.said.now())
    assert not {event["event"] for event in machine.events} & {"POWERDOWN", "SHUTDOWN", "RESET"}
    viewer.leave()
