# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The XML files of libvirt's own test-suite, fetched from the distribution's source package into the cache.

Nothing of it is part of this repository. apt is told of the sources in a state of its own, so that the machine's
sources.list and lists stay as they are.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import typing as t
from pathlib import Path

import pytest
from lxml import etree

ROOTS = ("domain", "domainsnapshot", "domaincheckpoint")
ARCHIVES = {"Debian": "debian", "Ubuntu": "ubuntu"}
"""Those whose source packages we take, by the word for their keyring."""

Root = t.Any
"""lxml's element; its type is private."""


class Document(t.NamedTuple):
    """A file with devices; `text` is what it says."""

    name: str
    text: str


def folder() -> Path:
    """Where the files are, fetched if they are not there yet."""
    cache = Path(os.environ.get("KVMOPS_CACHE") or "/var/cache/kvmops-console")
    target = cache / "libvirt-source"
    if not target.is_dir():
        if shutil.which("apt-get") is None:
            pytest.skip("libvirt's source package is fetched with apt-get, which this machine does not have")
        cache.mkdir(parents=True, exist_ok=True)
        with open(cache / "libvirt-source.lock", "w", encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not target.is_dir():
                _fetch(target)
    return target


def documents() -> list[Document]:
    """Every file that holds a domain with devices."""
    found = []
    base = folder()
    for path in sorted(base.rglob("*.xml")):
        text = path.read_text(encoding="utf-8")
        try:
            root = etree.fromstring(text.encode())
        except etree.XMLSyntaxError:
            continue  # some are wrong on purpose
        if root.tag in ROOTS and root.find(".//devices") is not None:
            found.append(Document(str(path.relative_to(base)), text))
    return found


def _fetch(target: Path) -> None:
    """Appears whole or not at all."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="libvirt-source.") as name:
        work = Path(name)
        for part in ("lists/partial", "archives/partial"):
            (work / "apt" / part).mkdir(parents=True)
        (work / "apt/sources.list").write_text(_source_lines(), encoding="utf-8")
        apt = [
            f"--option=Dir::Etc::sourcelist={work}/apt/sources.list",
            "--option=Dir::Etc::sourceparts=/dev/null",
            f"--option=Dir::Cache={work}/apt",
            f"--option=Dir::State::lists={work}/apt/lists",
            "--option=APT::Sandbox::User=root",
        ]
        # An archive without sources is no reason to stop: the others may have them.
        subprocess.run(["apt-get", *apt, "update", "-qq"], cwd=work, check=False, capture_output=True)
        _run(["apt-get", *apt, "source", "-qq", "--download-only", "libvirt"], work)
        (tarball,) = (path for path in work.glob("libvirt_*.orig.tar.*") if path.suffix != ".asc")
        made = work / "made"
        made.mkdir(mode=0o755)
        _run(["tar", "-xf", str(tarball), "-C", str(made), "--strip-components=1", "--wildcards", "*.xml"], work)
        made.rename(target)


def _run(command: list[str], folder_: Path) -> None:
    done = subprocess.run(command, cwd=folder_, check=False, capture_output=True, text=True, errors="replace")
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr[-2000:]}"


def _source_lines() -> str:
    """Every archive of the distribution that apt has been told of, as deb-src lines."""
    fields = "$(ORIGIN)|$(REPO_URI)|$(RELEASE)|$(COMPONENT)"
    command = ["apt-get", "indextargets", "--format", fields, "Created-By: Packages"]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = set()
    for line in told.splitlines():
        origin, uri, release, component = line.split("|")
        if origin in ARCHIVES and component == "main":
            keyring = f"/usr/share/keyrings/{ARCHIVES[origin]}-archive-keyring.gpg"
            lines.add(f"deb-src [signed-by={keyring}] {uri} {release} main\n")
    assert lines, "apt knows no package source of Debian or Ubuntu: run 'apt-get update'"
    return "".join(sorted(lines))


def canonical(text: str) -> bytes:
    """C14N, without the white space between elements and without comments: what a document means, told by others."""
    return canonical_tree(etree.fromstring(text.encode(), etree.XMLParser(remove_comments=True)))


def canonical_tree(root: Root) -> bytes:
    """The same of a tree, which is changed."""
    for element in root.iter():
        element.text = element.text if (element.text or "").strip() else None
        element.tail = element.tail if (element.tail or "").strip() else None
    return etree.tostring(root, method="c14n", with_comments=False)


def vnc(root: Root) -> list[Root]:
    """The VNC elements, found by another way than the collection's."""
    paths = ("/domain", "/*/domain", "/*/inactiveDomain")
    return root.xpath(" | ".join(f"{path}/devices/graphics[@type='vnc']" for path in paths))  # type: ignore[no-any-return]
