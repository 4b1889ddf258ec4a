# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every release of noVNC, patched and not, in a browser, on the affected QEMU and on a fixed one."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ansible_collections.kvmops.console.tests.browser.chromium import Browser
from ansible_collections.kvmops.console.tests.browser.novnc import sources
from ansible_collections.kvmops.console.tests.browser.novnc.conftest import Module, Serve, Start
from ansible_collections.kvmops.console.tests.browser.novnc.machine import Machine
from ansible_collections.kvmops.console.tests.browser.novnc.viewer import Viewer, write_application, write_page

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


def check_power(viewer: Viewer, machine: Machine) -> None:
    """What noVNC's power buttons ask for happens."""
    machine.forget()
    viewer.value("rfb.machineShutdown()")
    machine.wait("POWERDOWN")
    viewer.value("rfb.machineReset()")
    assert machine.wait("RESET")["data"]["reason"] == "host-qmp-system-reset"
    assert viewer.value("told.power && told.state == 'connected'")


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
    check_power(viewer, machine)
    viewer.leave()


@pytest.mark.parametrize(
    ("version", "kind"), [(MODULES[0], "affected"), (MODULES[-1], "affected"), (MODULES[-1], "fixed")]
)
def test_machine_without_a_tablet(
    browser: Browser, start: Start, serve: Serve, module: Module, tmp_path: Path, version: str, kind: str
) -> None:
    """It takes movements for good."""
    tree = copy(version, tmp_path)
    assert module("novnc_patch", paths=[os.fspath(tree)])["changed"]
    machine = start(kind)
    viewer = Viewer(browser, f"{serve(tree, machine)}/viewer.html")
    # A fixed one does not tell, and makes movements of positions by itself.
    known = "rfb._sock._qemuPointer" if kind == "affected" else "rfb._sock._qemuPointer === null"
    viewer.until(f"told.power && told.state == 'connected' && {known}")
    for x, y in PATH:
        viewer.move(x, y)
    viewer.click(*PATH[-1])
    machine.wait_moved(PATH[-1][0] - PATH[0][0], PATH[-1][1] - PATH[0][1])
    assert max(map(abs, machine.steps())) < 100
    machine.wait_said("input_event_btn", "left", "down 1")
    assert viewer.value(f"told.state == 'connected' && Boolean({known})")
    viewer.leave()


@pytest.mark.parametrize(
    ("version", "mode"), [*((version, "tolerant") for version in MODULES), ("1.0.0", "full"), ("1.7.0", "full")]
)
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
    check_power(viewer, machine)
    viewer.leave()


@pytest.mark.parametrize("mode", ["tolerant", "full"])
def test_files_come_back_as_they_were(module: Module, tmp_path: Path, mode: str) -> None:
    """All that npm has, and Debian's packages with it; Node.js reads what they become."""
    for version in sources.NPM:
        shutil.copytree(sources.from_npm(version), tmp_path / "all" / version)
    shutil.copytree(sources.from_debian("1.6.0") / "package", tmp_path / "all" / "debian", symlinks=True)
    paths = [os.fspath(tmp_path / "all")]
    before = contents(tmp_path / "all")
    assert module("novnc_patch", paths=paths, mode=mode, check=True)["changed"]
    assert contents(tmp_path / "all") == before
    result = module("novnc_patch", paths=paths, mode=mode)
    assert result["summary"] == {"installations": 9, "changed": 9, "skipped": 0, "errors": 0}
    scripts = [file for record in result["installations"] for file in record["files"]]
    assert len(scripts) == sum(map(len, sources.NPM.values())) + 1
    for file in scripts:
        name = tmp_path / ("x.mjs" if file["kind"] == "module" else "x.cjs")
        shutil.copy(file["path"], name)
        subprocess.run(["node", "--check", os.fspath(name)], check=True)
    versions = {record["version"] for record in module("novnc_info", paths=paths)["installations"]}
    assert versions == set(sources.NPM)
    assert module("novnc_patch", paths=paths, mode=mode)["changed"] is False
    assert module("novnc_patch", paths=paths, state="absent")["changed"]
    assert contents(tmp_path / "all") == before


def contents(folder: Path) -> dict[str, bytes]:
    return {os.fspath(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


BUNDLES = {
    "concatenated": ("1.7.0", "core", ()),
    "minified": ("1.7.0", "core", ("--minify",)),
    "minified, oldest": ("1.1.0", "core", ("--minify", "--target=es2017")),
    "library": ("1.5.0", "lib", ()),
    "library, minified": ("1.2.0", "lib", ("--minify",)),
}


@pytest.mark.parametrize("name", list(BUNDLES))
@pytest.mark.parametrize("when", ["after", "before"])
def test_application_that_is_built_of_it(
    browser: Browser, start: Start, serve: Serve, module: Module, tmp_path: Path, name: str, when: str
) -> None:
    """Patched after it was built, as Proxmox' and cockpit's have to be, and built of what is patched."""
    version, part, options = BUNDLES[name]
    tree, built = tmp_path / "novnc", tmp_path / "built"
    shutil.copytree(sources.from_npm(version), tree)
    source = write_application(tree, f"{part}/rfb.js")
    if when == "before":
        module("novnc_patch", paths=[os.fspath(tree / part)])
    built.mkdir()
    shutil.copy(tree / "viewer.html", built)
    words = [sources.esbuild(), "--bundle", "--format=esm", "--log-level=error", *options, os.fspath(source)]
    done = subprocess.run([*words, f"--outfile={built}/app.js"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    original = (built / "app.js").read_bytes()

    changed = module("novnc_patch", paths=[os.fspath(built)])
    assert "failed" not in changed, changed
    assert changed["changed"] is (when == "after")
    machine = start("affected", *TABLET)
    viewer = Viewer(browser, f"{serve(built, machine)}/viewer.html")
    viewer.until("told.power && told.state == 'connected'")
    check_pointer(viewer, machine)
    viewer.leave()
    if when == "after":
        assert "kvmops=" in (built / "viewer.html").read_text(encoding="utf-8")
        assert module("novnc_patch", paths=[os.fspath(built)], state="absent")["changed"]
        assert (built / "app.js").read_bytes() == original
