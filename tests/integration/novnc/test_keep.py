# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The patch stays over upgrades: by a real systemd, with Debian's packages of noVNC, installed by dpkg."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import ansible_collections
import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _novnc_pages, _novnc_patch
from ansible_collections.kvmops.console.tests.browser.novnc import sources
from ansible_collections.kvmops.console.tests.integration.booted import Booted, systemd, until
from ansible_collections.kvmops.console.tests.lab.kvmlab import Lab

COLLECTIONS = Path(next(iter(ansible_collections.__path__))).parent
ANSIBLE_PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
UNITS = ("kvmops-novnc.path", "kvmops-novnc.service")
SCRIPT, PAGE = "/usr/share/novnc/core/rfb.js", "/usr/share/novnc/vnc.html"
OTHER = "/srv/other/core/rfb.js"
STATE = "/var/lib/kvmops-console/novnc"


class Console:
    """A host with a systemd, on which packages of noVNC are installed."""

    def __init__(self, booted: Booted, folder: Path) -> None:
        self.booted = booted
        self._folder = folder

    def read(self, path: str) -> str:
        return _novnc_patch.decode(Path(f"{self.booted.root}{path}").read_bytes())

    def write(self, path: str, text: str) -> None:
        """As package managers do it: beside it, and then in its place."""
        place = Path(f"{self.booted.root}{path}")
        place.parent.mkdir(parents=True, exist_ok=True)
        beside = place.with_name(f"{place.name}.dpkg-new")
        beside.write_bytes(_novnc_patch.encode(text))
        beside.replace(place)

    def exists(self, path: str) -> bool:
        return Path(f"{self.booted.root}{path}").exists()

    def install(self, version: str) -> None:
        """What Debian's package of that version has in it, as a package of that version."""
        tree = self._folder / f"novnc-{version}"
        if not tree.exists():
            shutil.copytree(sources.from_debian(version) / "package", tree, symlinks=True)
            (tree / "DEBIAN").mkdir()
            control = {"Package": "novnc", "Version": f"1:{version}-1", "Architecture": "all"}
            control.update({"Maintainer": "The lab <lab@localhost>", "Description": "noVNC of Debian"})
            lines = [f"{name}: {value}\n" for name, value in control.items()]
            (tree / "DEBIAN/control").write_text("".join(lines), encoding="utf-8")
            subprocess.run(["dpkg-deb", "--build", tree, f"{tree}.deb"], check=True, capture_output=True)
        self.booted.tell("dpkg", "--install", f"{tree}.deb")

    def play(self, *words: str, **variables: object) -> str:
        """Run the playbook on the host, by Ansible there; what it says."""
        command = [os.fspath(ANSIBLE_PLAYBOOK), "-i", "localhost,", "-c", "local", "kvmops.console.patch_novnc"]
        given = {"novnc_patch_paths": ["/usr/share/novnc"], "ansible_python_interpreter": sys.executable, **variables}
        env = {"ANSIBLE_HOME": os.fspath(self._folder / "home"), "ANSIBLE_COLLECTIONS_PATH": os.fspath(COLLECTIONS)}
        env.update({"ANSIBLE_NOCOLOR": "1", "ANSIBLE_PIPELINING": "1"})
        done = self.booted.run(*command, "-e", json.dumps(given), *words, env=env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def look(self) -> int:
        """Have the keeper look, or wait until it has; the exit status of its unit."""
        return self.booted.run("systemctl", "start", "kvmops-novnc.service").returncode

    def journal(self) -> str:
        self.booted.tell("journalctl", "--sync")
        return self.booted.tell("journalctl", "--no-pager", "--output=cat", "--identifier=kvmops-novnc")

    def until_patched(self) -> None:
        until(lambda: "kvmops.console novnc_patch" in self.read(SCRIPT), self.journal)
        # Pages come after scripts.
        self.look()


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    # Its own host: systemd takes over much of it.
    with Lab("it-novnc") as lab, systemd(lab["it-novnc"]) as booted:
        yield Console(booted, tmp_path)


def patched(version: str, mode: str = "tolerant") -> str:
    """What the package's script is with the patch."""
    data = (sources.from_debian(version) / f"package{SCRIPT}").read_bytes()
    return _novnc_patch.add(_novnc_patch.decode(data), mode, _novnc_patch.digest(data))


def original(version: str, path: str = SCRIPT) -> str:
    return _novnc_patch.decode((sources.from_debian(version) / f"package{path}").read_bytes())


def page(version: str, script: str) -> str:
    tag = _novnc_pages.tag_of(_novnc_patch.digest(_novnc_patch.encode(script)))
    return _novnc_pages.with_map(original(version, PAGE), tag)


def test_upgrade_keeps_the_patch_until_it_is_taken_out(console: Console) -> None:
    console.install("1.3.0")
    console.write(OTHER, original("1.3.0"))

    foreseen = console.play("--check", "--diff")
    assert "failed=0" in foreseen
    assert "kvmops-novnc.path" in foreseen
    assert console.read(SCRIPT) == original("1.3.0")
    assert not any(console.exists(f"/etc/systemd/system/{unit}") for unit in UNITS)
    assert not console.exists(STATE)

    console.play()
    assert console.read(SCRIPT) == patched("1.3.0")
    judged = console.booted.run(
        "systemd-analyze", "verify", "--man=no", *(f"/etc/systemd/system/{unit}" for unit in UNITS)
    )
    assert (judged.returncode, judged.stdout, judged.stderr) == (0, "", "")
    assert console.booted.tell("systemctl", "is-active", "kvmops-novnc.path") == "active\n"
    assert console.booted.tell("systemctl", "is-enabled", *UNITS) == "enabled\nenabled\n", "it looks at every boot"
    assert console.journal() == "", "nothing was to be done yet"

    # An upgrade, and the same version once more.
    for version in ("1.6.0", "1.6.0"):
        console.install(version)
        console.until_patched()
        assert console.read(SCRIPT) == patched(version)
        assert console.read(PAGE) == page(version, patched(version))
    words = f"put the patch back into {SCRIPT}, {PAGE}, /usr/share/novnc/vnc_lite.html of novnc 1:1.6.0-1."
    assert console.journal().splitlines() == [words, words]
    assert console.read(OTHER) == original("1.3.0"), "nobody asked for that one"
    assert "changed=0" in console.play()

    # One that is no more what it was: told, and left alone.
    naive = original("1.6.0").replace("switch (this._FBU.encoding) {", "switch (this._FBU.encoding) { case -257:")
    assert naive != original("1.6.0")
    console.write(SCRIPT, naive)
    until(lambda: "could not be patched again" in console.journal(), console.journal)
    assert "merely ignoring that breaks the mouse" in console.journal()
    assert console.read(SCRIPT) == naive
    assert console.look() != 0
    assert console.booted.run("systemctl", "is-failed", "kvmops-novnc.service").stdout == "failed\n"

    # It is watched all the same.
    console.install("1.3.0")
    console.until_patched()
    assert console.read(SCRIPT) == patched("1.3.0")

    console.play(novnc_patch_state="absent")
    assert console.read(SCRIPT) == original("1.3.0")
    assert console.read(PAGE) == original("1.3.0", PAGE)
    left = ("/usr/local/lib/kvmops-novnc", f"{STATE}/kept.json", *(f"/etc/systemd/system/{unit}" for unit in UNITS))
    assert not any(map(console.exists, left))
    assert "kvmops" not in console.booted.tell("systemctl", "list-units", "--all", "--no-legend", "kvmops*")
