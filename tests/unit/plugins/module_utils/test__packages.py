# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which package owns a file, asked of stand-ins for dpkg-query and rpm that answer as the real ones do."""

from __future__ import annotations

import gzip
import os
import sys
import typing as t
from pathlib import Path

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _packages
from ansible_collections.kvmops.console.plugins.module_utils._packages import Package, owner

QEMU = "/usr/bin/qemu-system-x86_64"

Answers = dict[str, str]
"""What a stand-in prints, by its arguments; it fails for any others."""


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> t.Callable[[str, Answers], None]:
    """Make a command that is the only one of its name; there are no others."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def make(name: str, answers: Answers) -> None:
        path = tmp_path / name
        path.write_text(
            f"#!{sys.executable}\nimport os, sys\nassert os.environ['LC_ALL'] == 'C' and not sys.stdin.read()\n"
            f"said = {answers!r}.get(' '.join(sys.argv[1:]))\n"
            "sys.exit(1) if said is None else sys.stdout.buffer.write(said.encode('utf-8', 'surrogateescape'))\n",
            encoding="utf-8",
        )
        path.chmod(0o700)

    return make


@pytest.fixture
def changelogs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in place of /usr/share/doc."""
    real = gzip.open
    folder = tmp_path / "doc"

    def moved(path: str, *arguments: t.Any, **options: t.Any) -> t.Any:
        return real(path.replace("/usr/share/doc", str(folder)), *arguments, **options)

    monkeypatch.setattr("gzip.open", moved)
    (folder / "qemu-system-x86").mkdir(parents=True)
    return folder / "qemu-system-x86"


VERSION = {"-W -f ${Version} qemu-system-x86": "1:7.2+dfsg-7+deb12u18"}


def debian(changelog: str) -> Package:
    return Package("qemu-system-x86", "1:7.2+dfsg-7+deb12u18", changelog)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({f"-S {QEMU}": f"qemu-system-x86: {QEMU}\n", **VERSION}, debian("")),
        ({f"-S {QEMU}": f"qemu-system-x86:amd64: {QEMU}\n", **VERSION}, debian("")),
        ({f"-S {QEMU}": f"qemu-system-x86, qemu-other: {QEMU}\n", **VERSION}, debian("")),
        # Known by its name from before /usr was merged.
        ({"-S /bin/qemu-system-x86_64": "qemu-system-x86: /bin/qemu-system-x86_64\n", **VERSION}, debian("")),
        ({f"-S {QEMU}": f"qemu-system-x86: {QEMU}\n"}, Package("qemu-system-x86", "", "")),
        ({}, None),
    ],
)
@pytest.mark.usefixtures("changelogs")
def test_dpkg(commands: t.Callable[[str, Answers], None], answers: Answers, expected: Package | None) -> None:
    commands("dpkg-query", answers)
    assert owner(QEMU) == expected


@pytest.mark.parametrize("name", ["changelog.Debian.gz", "changelog.gz"])
def test_debians_changelog(commands: t.Callable[[str, Answers], None], changelogs: Path, name: str) -> None:
    commands("dpkg-query", {f"-S {QEMU}": f"qemu-system-x86: {QEMU}\n", **VERSION})
    (changelogs / name).write_bytes(gzip.compress(b"qemu (1:7.2) unstable\n\xff\n"))
    assert owner(QEMU) == debian("qemu (1:7.2) unstable\n\ufffd\n")


@pytest.mark.parametrize("broken", [b"no gzip", gzip.compress(b"x" * 1000, mtime=0)[:-12]])
def test_a_broken_changelog_is_none(
    commands: t.Callable[[str, Answers], None], changelogs: Path, broken: bytes
) -> None:
    commands("dpkg-query", {f"-S {QEMU}": f"qemu-system-x86: {QEMU}\n", **VERSION})
    (changelogs / "changelog.Debian.gz").write_bytes(broken)
    assert owner(QEMU) == debian("")


RPM_FILE = r"-qf --qf %{NAME}\t%{EVR}\n " + QEMU


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ({RPM_FILE: "qemu-kvm\t17:6.2.0-40.el8\n", "-q --changelog qemu-kvm": "* Mon\n- fix\n"},
         Package("qemu-kvm", "17:6.2.0-40.el8", "* Mon\n- fix\n")),
        ({RPM_FILE: "qemu-kvm\t6.2.0-40.el8\nqemu-kvm\t6.2.0-41.el8\n"}, Package("qemu-kvm", "6.2.0-40.el8", "")),
        ({}, None),
    ],
)  # fmt: skip
def test_rpm(commands: t.Callable[[str, Answers], None], answers: Answers, expected: Package | None) -> None:
    commands("rpm", answers)
    assert owner(QEMU) == expected


@pytest.mark.usefixtures("changelogs")
def test_dpkg_is_asked_first_and_rpm_where_it_does_not_know(commands: t.Callable[[str, Answers], None]) -> None:
    commands("rpm", {RPM_FILE: "qemu-kvm\t6.2.0\n"})
    commands("dpkg-query", {})
    assert owner(QEMU) == Package("qemu-kvm", "6.2.0", "")
    commands("dpkg-query", {f"-S {QEMU}": f"qemu-system-x86: {QEMU}\n", **VERSION})
    assert owner(QEMU) == debian("")


@pytest.mark.usefixtures("commands")
def test_without_a_package_manager_nobody_owns_it() -> None:
    assert owner(QEMU) is None


def test_output_that_is_no_text_is_read(commands: t.Callable[[str, Answers], None]) -> None:
    commands("rpm", {RPM_FILE: "qemu\udcff\t1\n"})
    assert owner(QEMU) == Package("qemu\ufffd", "1", "")


def test_a_package_manager_that_hangs_does_not_know(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for a writer that never comes; the time that it may take is cut short."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    path = tmp_path / "rpm"
    path.write_text(f"#!/bin/sh\nread line <{fifo}\n", encoding="utf-8")
    path.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(_packages, "TIMEOUT", 0.1)
    assert owner(QEMU) is None


def test_a_package_manager_that_cannot_be_started_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rpm"
    path.write_text("#!/nowhere/interpreter\n", encoding="utf-8")
    path.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert owner(QEMU) is None
