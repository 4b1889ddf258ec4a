# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rules of versions, packages and changelogs, at each of their edges."""

from __future__ import annotations

import pytest

from ansible_collections.kvmops.console.plugins.module_utils._qemu_version import (
    PACKAGE_RULES,
    VERSION_RULES,
    Version,
    by_changelog,
    by_package,
    by_rules,
    by_version,
    parse_version,
    spoken,
)
from ansible_collections.kvmops.console.plugins.module_utils._verdict import (
    AFFECTED,
    FIXED,
    INCAPABLE,
    NOTHING,
    PACKAGE,
    UNKNOWN,
    VERSION,
    Verdict,
)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)", (7, 2, 22)),
        ("QEMU emulator version 6.2.0 (qemu-kvm-6.2.0-40.module+el8.9.0+1576)", (6, 2, 0)),
        ("8.1.2", (8, 1, 2)),
        ("8.2", (8, 2, 0)),
        ("v10.0.2", (10, 0, 2)),
        # An epoch is no major version, and what stands behind it is the package's version.
        ("1:7.2+dfsg-7+deb12u18", (7, 2, 0)),
        ("seven", None),
        ("7", None),
        ("", None),
        (None, None),
    ],
)
def test_parse_version(text: str | None, version: Version | None) -> None:
    assert parse_version(text) == version


def test_spoken() -> None:
    assert spoken((7, 2, 22)) == "7.2.22"


VERSIONS = {
    (0, 15, 1): INCAPABLE,
    (5, 2, 0): INCAPABLE,
    (5, 2, 99): INCAPABLE,
    (6, 0, 0): AFFECTED,
    (6, 2, 0): AFFECTED,
    (6, 2, 49): AFFECTED,
    (6, 2, 50): UNKNOWN,
    (7, 1, 0): AFFECTED,
    (7, 2, 0): AFFECTED,
    (7, 2, 6): AFFECTED,
    (7, 2, 7): FIXED,
    (7, 2, 22): FIXED,
    (7, 2, 49): FIXED,
    (7, 2, 50): UNKNOWN,
    (7, 3, 0): UNKNOWN,
    (8, 0, 0): AFFECTED,
    (8, 0, 5): AFFECTED,
    (8, 0, 50): UNKNOWN,
    (8, 1, 0): AFFECTED,
    (8, 1, 1): AFFECTED,
    (8, 1, 2): FIXED,
    (8, 1, 49): FIXED,
    (8, 1, 90): UNKNOWN,
    (8, 2, 0): FIXED,
    (8, 2, 50): FIXED,
    (10, 0, 2): FIXED,
    (1000, 0, 0): UNKNOWN,
}


@pytest.mark.parametrize(("version", "verdict"), VERSIONS.items(), ids=str)
def test_by_version(version: Version, verdict: str) -> None:
    told = by_version(version)
    assert (told.verdict, told.basis) == (verdict, VERSION)
    assert spoken(version) in told.evidence


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (None, Verdict(UNKNOWN, NOTHING, "the version could not be read")),
        ((7, 2, 6), Verdict(AFFECTED, VERSION, "version 7.2.6: the fix came with 7.2.7, 8.1.2 and 8.2.0")),
        ((7, 2, 90), Verdict(UNKNOWN, VERSION, "7.2.90 is a development tree, from before or after the fix")),
        ((7, 9, 9), Verdict(UNKNOWN, VERSION, "version 7.9.9 is in no rule")),
    ],
)
def test_by_version_says_why(version: Version | None, expected: Verdict) -> None:
    assert by_version(version) == expected


def test_the_rules_do_not_overlap() -> None:
    for rule, following in zip(VERSION_RULES, VERSION_RULES[1:]):
        assert rule.first < rule.beyond <= following.first


@pytest.mark.parametrize(
    ("version", "package", "verdict"),
    [
        ((6, 2, 0), "1:6.2+dfsg-2ubuntu6.31", AFFECTED),
        ((6, 2, 0), "Debian 1:6.2+dfsg-2Ubuntu6.31", AFFECTED),
        ((7, 2, 7), "1:7.2.7+ds-1ubuntu1", None),
        ((6, 2, 0), "qemu-kvm-6.2.0-40.module+el8.9.0+1576", AFFECTED),
        ((8, 0, 0), "qemu-kvm-8.0.0-16.el9", AFFECTED),
        ((8, 2, 0), "qemu-kvm-8.2.0-11.el9", None),
        ((6, 2, 0), "qemu-kvm-6.2.0-1.el7", None),
        ((6, 2, 0), "6.2.0-150400.37.23.1", UNKNOWN),
        ((7, 1, 0), "qemu-7.1.0-lp154.1", UNKNOWN),
        ((7, 1, 0), "openSUSE Leap 15.5", UNKNOWN),
        ((7, 2, 0), "openSUSE Leap 15.5", None),
        ((6, 2, 0), "6.2.0-75.oe2203", UNKNOWN),
        ((7, 2, 0), "xcp-ng 7.2.0", UNKNOWN),
        ((7, 2, 0), "1:7.2+dfsg-7", None),
        ((5, 2, 0), "1:5.2+dfsg-9ubuntu3", None),
    ],
)
def test_by_package(version: Version, package: str, verdict: str | None) -> None:
    told = by_package(version, package)
    assert (told and told.verdict) == verdict
    if told:
        because = {rule.because for rule in PACKAGE_RULES}
        assert told.basis == PACKAGE
        assert told.evidence in {f"package {package}: {reason}" for reason in because}


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("    - ui/vnc: fix handling of VNC_FEATURE_XVP", True),
        ("  * cherry-pick 477b301000d665313217f65e3a368d2cb7769c42", True),
        ("    - ui/vnc: fix something else", False),
        ("", False),
    ],
)
def test_by_changelog(line: str, named: bool) -> None:
    told = by_changelog("qemu 1.2", f"qemu (1.2) unstable\n\n{line}\n")
    assert told == (Verdict(FIXED, PACKAGE, f"the changelog of qemu 1.2 says: {line.strip()}") if named else None)


FIX_NAMED = "ui/vnc: fix handling of VNC_FEATURE_XVP"
UBUNTU = "1:6.2+dfsg-2ubuntu6.31"


@pytest.mark.parametrize(
    ("version", "package", "changelog", "verdict", "basis"),
    [
        ("6.2.0", UBUNTU, FIX_NAMED, FIXED, PACKAGE),
        ("6.2.0", None, FIX_NAMED, FIXED, PACKAGE),
        ("6.2.0", UBUNTU, "nothing", AFFECTED, PACKAGE),
        ("6.2.0", UBUNTU, None, AFFECTED, PACKAGE),
        ("6.2.0-1.oe1", "6.2.0-1.oe1", "", UNKNOWN, PACKAGE),
        ("7.2.22", "1:7.2+dfsg-7+deb12u18", "", FIXED, VERSION),
        ("1:7.2+dfsg-7+deb12u18", "1:7.2+dfsg-7+deb12u18", "", FIXED, PACKAGE),
        ("1:7.2+dfsg-7+deb12u2", "1:7.2+dfsg-7+deb12u2", "", AFFECTED, VERSION),
        ("17:6.2.0-40.module+el8.9", "17:6.2.0-40.module+el8.9", "", AFFECTED, PACKAGE),
        ("7.2.22", None, None, FIXED, VERSION),
        (None, UBUNTU, None, UNKNOWN, NOTHING),
        (None, None, FIX_NAMED, FIXED, PACKAGE),
        (None, None, None, UNKNOWN, NOTHING),
    ],
)
def test_by_rules(version: str | None, package: str | None, changelog: str | None, verdict: str, basis: str) -> None:
    told = by_rules(version, package, changelog)
    assert (told.verdict, told.basis) == (verdict, basis)


def test_by_rules_names_a_package_without_a_name() -> None:
    assert by_rules(None, None, FIX_NAMED).evidence == f"the changelog of the package says: {FIX_NAMED}"
