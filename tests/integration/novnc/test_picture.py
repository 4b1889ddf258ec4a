# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A patched noVNC shows what domain_screenshot shows, of a guest on an affected QEMU and of a fixed QEMU."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from PIL import Image

from ansible_collections.kvmops.console.tests.browser import chromium
from ansible_collections.kvmops.console.tests.browser.novnc import sources
from ansible_collections.kvmops.console.tests.browser.novnc.machine import SECONDS, Websockify
from ansible_collections.kvmops.console.tests.browser.novnc.viewer import POWER_SHOWN, Viewer, alike
from ansible_collections.kvmops.console.tests.lab.kvmlab import FIXED_QEMU
from ansible_collections.kvmops.console.tests.lab.kvmlab.domains import AFFECTED_QEMU, vnc_xml

PAGE = "vnc.html?autoconnect=1&path=websockify"


@pytest.fixture
def domains(hypervisor: Any) -> dict[str, str]:
    """Domains by name, started first of all, the slow one last; what their screens show in the end."""
    graphics = (vnc_xml(power_control="yes", socket=""),)
    hypervisor.put("affected", emulator=AFFECTED_QEMU, guest=True, graphics=graphics, running=True)
    hypervisor.put("fixed", emulator=FIXED_QEMU, graphics=graphics, running=True)
    return {"fixed": "No bootable device", "affected": "LAB GUEST READY"}


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[chromium.Browser]:
    if chromium.program() is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    started = chromium.Browser(tmp_path / "browser")
    yield started
    started.close()


@pytest.fixture
def patched(hypervisor: Any, tmp_path: Path) -> Path:
    """Debian's noVNC, patched."""
    tree = tmp_path / "novnc"
    shutil.copytree(sources.from_debian("1.6.0") / "package/usr/share/novnc", tree, symlinks=True)
    words = {"paths": [os.fspath(tree)], "backup_dir": os.fspath(tmp_path / "originals")}
    assert hypervisor.module("novnc_patch", **words)["changed"]
    return tree


def socket_of(hypervisor: Any, name: str) -> str:
    """Where the domain's VNC server listens, as this machine reaches it."""
    (path,) = etree.fromstring(hypervisor.connection.lookupByName(name).XMLDesc()).xpath("//graphics/@socket")
    return f"{hypervisor.host.root}{path}"


def screenshot(hypervisor: Any, name: str, **arguments: Any) -> Image.Image:
    """What domain_screenshot takes."""
    result = hypervisor.module("domain_screenshot", domains=[name], dest="/srv/pictures", **arguments)
    assert "failed" not in result, result
    ((screen,),) = [record["screens"] for record in result["domains"]]
    with Image.open(f"{hypervisor.host.root}{screen['path']}") as picture:
        return picture.convert("RGB")


def test_page_shows_what_domain_screenshot_shows(
    hypervisor: Any, domains: dict[str, str], patched: Path, browser: chromium.Browser
) -> None:
    for name, text in domains.items():
        served = Websockify(patched, socket_of(hypervisor, name))
        try:
            viewer = Viewer(browser, f"http://127.0.0.1:{served.port}/{PAGE}")
            viewer.until(POWER_SHOWN)
            screenshot(hypervisor, name, wait_for={"text": text, "timeout": 120})
            end = time.monotonic() + SECONDS
            while not alike(viewer.picture(), taken := screenshot(hypervisor, name)):
                assert time.monotonic() < end, f"the page shows something else of {name} than domain_screenshot"
            assert len(taken.getcolors(65536) or ()) > 1
            # Whoever takes pictures does not disturb who looks.
            assert viewer.value(POWER_SHOWN)
            viewer.leave()
        finally:
            served.end()
