# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The patch stays over upgrades: by a real systemd, with noVNC from packages that dpkg, rpm and pacman install."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ansible_collections
import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _novnc_pages, _novnc_patch
from ansible_collections.kvmops.console.tests.browser.novnc import sources
from ansible_collections.kvmops.console.tests.integration.booted import Booted, systemd, until
from ansible_collections.kvmops.console.tests.integration.novnc.packages import managers
from ansible_collections.kvmops.console.tests.lab.kvmlab import Lab

COLLECTIONS = Path(next(iter(ansible_collections.__path__))).parent
ANSIBLE_PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
UNITS = ("kvmops-novnc.path", "kvmops-novnc.service")
FILES = ("core/rfb.js", "vnc.html", "vnc_lite.html")
"""What the patch changes in Debian's packages."""
DEBIAN = "/usr/share/novnc"
SCRIPT, PAGE = (f"{DEBIAN}/{name}" for name in FILES[:2])
OTHER = "/srv/other/core/rfb.js"
STATE = "/var/lib/kvmops-console/novnc"
RUN_MODULE = Path(__file__).resolve().parents[1] / "run_module.py"


class Console:
    """A host with a systemd, on which packages of noVNC are installed."""

    def __init__(self, booted: Booted, folder: Path) -> None:
        self.booted = booted
        self._folder = folder

    def bytes(self, path: str) -> bytes:
        return Path(f"{self.booted.root}{path}").read_bytes()

    def read(self, path: str) -> str:
        return _novnc_patch.decode(self.bytes(path))

    def write(self, path: str, text: str) -> None:
        """As package managers do it: beside it, and then in its place."""
        place = Path(f"{self.booted.root}{path}")
        place.parent.mkdir(parents=True, exist_ok=True)
        beside = place.with_name(f"{place.name}.dpkg-new")
        beside.write_bytes(_novnc_patch.encode(text))
        beside.replace(place)

    def exists(self, path: str) -> bool:
        return os.path.lexists(f"{self.booted.root}{path}")

    def module(self, **arguments: object) -> dict[str, Any]:
        """The result of novnc_patch on the host."""
        given = self._folder / "arguments.json"
        given.write_text(json.dumps(arguments), encoding="utf-8")
        words = ["env", f"PYTHONPATH={os.pathsep.join(path for path in sys.path if path)}", sys.executable, "-B"]
        words += [os.fspath(RUN_MODULE), "novnc_patch", "0", "0"]
        return dict(json.loads(self.booted.tell("sh", "-c", 'exec "$@" <"$0"', os.fspath(given), *words)))

    def play(self, *words: str, **variables: object) -> str:
        """Run the playbook on the host, by Ansible there; what it says."""
        command = [os.fspath(ANSIBLE_PLAYBOOK), "-i", "localhost,", "-c", "local", "kvmops.console.patch_novnc"]
        given = {"ansible_python_interpreter": sys.executable, **variables}
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

    def until_patched(self, *places: str) -> None:
        scripts = [f"{place}/{FILES[0]}" for place in places]
        until(lambda: all("kvmops.console novnc_patch" in self.read(path) for path in scripts), self.journal)
        # Pages come after scripts.
        self.look()


@pytest.fixture
def console(tmp_path: Path) -> Iterator[Console]:
    # Its own host: systemd takes over much of it.
    with Lab("it-novnc") as lab, systemd(lab["it-novnc"]) as booted:
        yield Console(booted, tmp_path)


def original(version: str, name: str = FILES[0]) -> bytes:
    """A file of the package as it came."""
    return (sources.from_debian(version) / f"package{DEBIAN}/{name}").read_bytes()


def patched(version: str) -> str:
    """What the package's script is with the patch."""
    data = original(version)
    return _novnc_patch.add(_novnc_patch.decode(data), "tolerant", _novnc_patch.digest(data))


def page(version: str) -> str:
    """What the package's page is beside that."""
    tag = _novnc_pages.tag_of(_novnc_patch.digest(_novnc_patch.encode(patched(version))))
    return _novnc_pages.with_map(_novnc_patch.decode(original(version, FILES[1])), tag)


def put_back(journal: str) -> Counter[tuple[str, str]]:
    """How often the journal says of a file, and of the version of its package, that it was patched again."""
    lines = [re.fullmatch(r"put the patch back into (.+) of novnc (\S+)\.", line) for line in journal.splitlines()]
    assert all(lines), journal
    return Counter((path, line[2]) for line in lines if line for path in line[1].split(", "))


def test_upgrade_keeps_the_patch_until_it_is_taken_out(console: Console, tmp_path: Path) -> None:
    packages = managers(console.booted, tmp_path)
    dpkg, *others = packages
    places = [package.place for package in packages]
    for package in packages:
        package.install("1.3.0")
        assert package.changed() == set()
    console.write(OTHER, _novnc_patch.decode(original("1.3.0")))

    foreseen = console.play("--check", "--diff", novnc_patch_paths=[DEBIAN])
    assert "failed=0" in foreseen
    assert "kvmops-novnc.path" in foreseen
    assert console.bytes(SCRIPT) == original("1.3.0")
    assert not any(console.exists(f"/etc/systemd/system/{unit}") for unit in UNITS)
    assert not console.exists(STATE)

    console.play(novnc_patch_paths=places)
    for place in places:
        assert console.read(f"{place}/{FILES[0]}") == patched("1.3.0")
    judged = console.booted.run(
        "systemd-analyze", "verify", "--man=no", *(f"/etc/systemd/system/{unit}" for unit in UNITS)
    )
    assert (judged.returncode, judged.stdout, judged.stderr) == (0, "", "")
    assert console.booted.tell("systemctl", "is-active", "kvmops-novnc.path") == "active\n"
    assert console.booted.tell("systemctl", "is-enabled", *UNITS) == "enabled\nenabled\n", "it looks at every boot"
    assert console.journal() == "", "nothing was to be done yet"

    # Upgrades, and one of them once more.
    for installed in (packages, [dpkg]):
        for package in installed:
            package.install("1.6.0")
        console.until_patched(*places)
        for place in places:
            assert console.read(f"{place}/{FILES[0]}") == patched("1.6.0")
            assert console.read(f"{place}/{FILES[1]}") == page("1.6.0")
    told = put_back(console.journal())
    assert told == {
        (f"{one.place}/{name}", f"{one.epoch}1.6.0-1"): 1 + (one is dpkg) for one in packages for name in FILES
    }
    assert console.bytes(OTHER) == original("1.3.0"), "nobody asked for that one"
    assert [package.changed() for package in packages] == [set(FILES)] * len(packages), "package managers are told"
    for version in ("1.3.0", "1.6.0"):
        assert console.bytes(f"{STATE}/{_novnc_patch.digest(original(version))}") == original(version)
    assert "changed=0" in console.play(novnc_patch_paths=places)

    # One that is no more what it was: told, and left alone.
    text = _novnc_patch.decode(original("1.6.0"))
    naive = text.replace("switch (this._FBU.encoding) {", "switch (this._FBU.encoding) { case -257:")
    assert naive != text
    console.write(SCRIPT, naive)
    until(lambda: "could not be patched again" in console.journal(), console.journal)
    assert "merely ignoring that breaks the mouse" in console.journal()
    assert console.read(SCRIPT) == naive
    assert console.look() != 0
    assert console.booted.run("systemctl", "is-failed", "kvmops-novnc.service").stdout == "failed\n"

    # Taken out by the module, every one is what its package manager installed; removed with it, nothing of it stays.
    for package in others[1:]:
        assert console.module(state="absent", paths=[package.place])["changed"]
        assert package.changed() == set()
    for package in others:
        package.remove()
        assert not console.exists(package.place)

    # It is watched all the same.
    dpkg.install("1.3.0")
    console.until_patched(DEBIAN)
    assert console.read(SCRIPT) == patched("1.3.0")

    console.play(novnc_patch_state="absent", novnc_patch_paths=[DEBIAN])
    for name in FILES:
        assert console.bytes(f"{DEBIAN}/{name}") == original("1.3.0", name)
    assert dpkg.changed() == set()
    left = ("/usr/local/lib/kvmops-novnc", f"{STATE}/kept.json", *(f"/etc/systemd/system/{unit}" for unit in UNITS))
    assert not any(map(console.exists, left))
    assert "kvmops" not in console.booted.tell("systemctl", "list-units", "--all", "--no-legend", "kvmops*")
