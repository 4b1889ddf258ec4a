# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""noVNC as others ship it, fetched from npm and from Debian and kept in the cache, never in this repository."""

from __future__ import annotations

import fcntl
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.kvmops.console.tests.lab.kvmlab.machine import cache

NPM = {
    "1.0.0": ("core",),
    "1.1.0": ("core", "lib"),
    "1.2.0": ("core", "lib"),
    "1.3.0": ("core", "lib"),
    "1.4.0": ("core", "lib"),
    "1.5.0": ("lib",),
    "1.6.0": ("lib",),
    "1.7.0": ("core",),
}
"""What npm has of each release: ES modules, CommonJS, or both."""

DEBIAN = {"1.0.0": "bullseye", "1.3.0": "bookworm", "1.6.0": "trixie"}
"""The releases of Debian that have an upstream release."""

TESTED = ("1.3.0", "1.6.0")
"""Those whose source packages, with upstream's tests, are in Debian's archive. npm's packages have no tests."""

ESBUILD = "0.25.12"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


def _once(name: str, make: Callable[[Path], None]) -> Path:
    """A folder of the cache, made by `make` where it is not there: as a whole or not at all, and by one at a time."""
    base = cache() / "novnc"
    base.mkdir(parents=True, exist_ok=True)
    with open(base / f"{name}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        folder = base / name
        if not folder.exists():
            half = base / f"{name}.half"
            shutil.rmtree(half, ignore_errors=True)
            half.mkdir()
            make(half)
            half.rename(folder)
    return folder


def _run(*words: str, cwd: Path) -> str:
    done = subprocess.run(words, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


def npm() -> str:
    """The program; without it the tests that need it are skipped."""
    found = shutil.which("npm")
    if found is None:
        pytest.skip("there is no npm here: apt-get install npm")
    return found


def from_npm(version: str) -> Path:
    """The package @novnc/novnc of that version."""

    def make(folder: Path) -> None:
        (told,) = _run(npm(), "pack", "--silent", f"@novnc/novnc@{version}", cwd=folder).split()
        _unpack(folder / told, folder)

    return _once(f"npm-{version}", make)


def _unpack(archive: Path, folder: Path) -> None:
    """The contents of an archive without its first folder, and without the archive."""
    _run("tar", "--extract", "--no-same-owner", "--strip-components=1", f"--file={archive}", cwd=folder)
    archive.unlink()


def node_modules(name: str, *packages: str) -> Path:
    """A folder with these packages of npm in it, without running what they bring."""
    words = ["install", "--silent", "--ignore-scripts", "--no-audit", "--no-fund", "--legacy-peer-deps", *packages]

    def make(folder: Path) -> None:
        (folder / "package.json").write_text('{"private": true}\n', encoding="utf-8")
        _run(npm(), *words, cwd=folder)

    return _once(name, make)


def esbuild() -> str:
    """The bundler that Proxmox and cockpit use."""
    return str(node_modules(f"esbuild-{ESBUILD}", f"esbuild@{ESBUILD}") / "node_modules/.bin/esbuild")


def _apt(folder: Path) -> list[str]:
    """apt-get with Debian's releases and their sources beside those of this machine; lists in `folder`."""
    if not shutil.which("apt-get") or not Path(KEYRING).exists():
        pytest.skip("this is no Debian: its packages of noVNC cannot be fetched")
    form = "$(ORIGIN)|$(REPO_URI)|$(COMPONENT)"
    told = _run("apt-get", "indextargets", "--format", form, "Created-By: Packages", cwd=folder)
    places = {line.split("|")[1] for line in told.splitlines() if line.startswith("Debian|") and line.endswith("|main")}
    mirrors = sorted(place for place in places if "security" not in place)
    if not mirrors:
        pytest.skip("apt knows no mirror of Debian: run apt-get update")
    lines = [
        f"{kind} [signed-by={KEYRING}] {mirrors[0]} {suite} main"
        for suite in DEBIAN.values()
        for kind in ("deb", "deb-src")
    ]
    for part in ("lists/partial", "archives/partial"):
        (folder / part).mkdir(parents=True)
    (folder / "sources.list").write_text("\n".join([*lines, ""]), encoding="utf-8")
    settings = [f"Dir::Etc::sourcelist={folder}/sources.list", "Dir::Etc::sourceparts=/dev/null"]
    settings += [f"Dir::Cache={folder}", f"Dir::State::lists={folder}/lists", "APT::Sandbox::User=root"]
    return ["apt-get", "-qq", *(word for setting in settings for word in ("-o", setting))]


def from_debian(version: str) -> Path:
    """The folder of a release of DEBIAN: `package`, as it is installed, and for those of TESTED `source`.

    Skips where Debian's archive has let go of it.
    """
    folder = _once("debian", _fetch_debian) / version
    if not (folder / "package").exists():
        pytest.skip(f"Debian's archive has noVNC {version} no more: {(folder / 'missing').read_text(encoding='utf-8')}")
    return folder


def _fetch_debian(folder: Path) -> None:
    lists = folder / "apt"
    lists.mkdir()
    apt = _apt(lists)
    _run(*apt, "update", cwd=lists)
    for version, suite in DEBIAN.items():
        place = folder / version
        (place / "source").mkdir(parents=True)
        try:
            _run(*apt, "download", f"novnc/{suite}", cwd=place)
        except AssertionError as e:
            (place / "missing").write_text(str(e), encoding="utf-8")
            continue
        _run("dpkg", "-x", str(next(place.glob("novnc_*.deb"))), "package", cwd=place)
        if version in TESTED:
            _run(*apt, "source", "--download-only", "--tar-only", f"novnc/{suite}", cwd=place)
            _unpack(next(place.glob("novnc_*.orig.tar.*")), place / "source")
        for path in place.glob("novnc_*"):
            path.unlink()
    shutil.rmtree(lists)


def package_managers() -> dict[str, list[Path]]:
    """Debian's packages of other distributions' package managers, each with what of its needs this machine has not.

    Those that the machine's own distribution has no package of are not in it.
    """
    told = Path("/etc/os-release").read_text(encoding="utf-8")
    release = re.search(r"^VERSION_CODENAME=(\w+)$", told, re.MULTILINE)
    folder = _once(f"managers-{release[1] if release else 'debian'}", _fetch_managers)
    return {place.name: sorted(place.glob("*.deb")) for place in sorted(folder.iterdir())}


def _fetch_managers(folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="kvmops-apt-") as lists:
        # The machine's own sources, whose lists may be old by now, or not be there.
        apt = ["apt-get", "-qq", "-o", f"Dir::State::lists={lists}", "-o", "Dir::Cache::pkgcache="]
        apt += ["-o", "Dir::Cache::srcpkgcache=", "-o", "APT::Sandbox::User=root", "-o", "Debug::NoLocking=1"]
        _run(*apt, "update", cwd=folder)
        for name in ("rpm", "pacman-package-manager"):
            place = folder / name
            (place / "partial").mkdir(parents=True)
            words = ["install", "--download-only", "--no-install-recommends", "--yes", name]
            try:
                _run(*apt, "-o", f"Dir::Cache::archives={place}", *words, cwd=folder)
            except AssertionError as e:
                if "Unable to locate package" not in str(e):
                    raise
                shutil.rmtree(place)
