# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What versions and packages say about a QEMU, where its behaviour could not be asked.

Private to this collection.

Weaker than the probe: vendors carry the fix without changing the version, or a version without the fix. The tables are
meant to be extended; the first row that fits decides. Rows without a source named were derived from upstream's
branches.
"""

from __future__ import annotations

import re
import typing as t

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

Version = tuple[int, int, int]

FIX = "477b301000d6"
"""QEMU's commit "ui/vnc: fix handling of VNC_FEATURE_XVP" (September 2023)."""


class VersionRule(t.NamedTuple):
    """`first` <= version < `beyond`."""

    first: Version
    beyond: Version
    verdict: str
    because: str


VERSION_RULES: tuple[VersionRule, ...] = (
    VersionRule((0, 0, 0), (6, 0, 0), INCAPABLE, "power control came with QEMU 6.0.0"),
    VersionRule((6, 0, 0), (7, 2, 7), AFFECTED, "the fix came with 7.2.7, 8.1.2 and 8.2.0"),
    VersionRule((7, 2, 7), (7, 2, 50), FIXED, "stable release 7.2.7 has the fix (97037995c1)"),
    VersionRule((8, 0, 0), (8, 0, 50), AFFECTED, "no 8.0 release has the fix"),
    VersionRule((8, 1, 0), (8, 1, 2), AFFECTED, "the fix came with 8.1.2"),
    VersionRule((8, 1, 2), (8, 1, 50), FIXED, "stable release 8.1.2 has the fix (3b86b92bfb)"),
    VersionRule((8, 2, 0), (1000, 0, 0), FIXED, "every release since 8.2.0 has the fix"),
)
DEVELOPMENT_MICRO = 50
"""QEMU numbers its development trees x.y.50 and up; between 6.0 and 8.2 such a tree may be from either side of the fix.
"""


class PackageRule(t.NamedTuple):
    """Fits where `pattern` is found in the package's version string and `first` <= QEMU's version < `beyond`."""

    pattern: str
    first: Version
    beyond: Version
    verdict: str
    because: str


PACKAGE_RULES: tuple[PackageRule, ...] = (
    # Where only the package's version is known, which says 7.2 of every stable release of 7.2.
    PackageRule(r"\+deb12u([3-9]|[1-9]\d)", (7, 2, 0), (7, 2, 1), FIXED, "deb12u3 brought Debian 12 to 7.2.7"),
    PackageRule(r"ubuntu", (6, 0, 0), (7, 2, 7), AFFECTED, "Ubuntu's packages to 1:6.2+dfsg-2ubuntu6.31 carry no fix"),
    PackageRule(
        r"\.(el[89]|module\+el[89])", (6, 0, 0), (8, 2, 0), AFFECTED, "no fix in the RHEL 8 and 9 sources to 9.3"
    ),
    PackageRule(
        r"(suse|\blp1[56]|\bbp1[56]|[-.]1[56]0\d00\.)", (6, 0, 0), (7, 2, 0), UNKNOWN, "SUSE's patches are not known"
    ),
    PackageRule(r"\.oe\d", (6, 0, 0), (7, 2, 0), UNKNOWN, "openEuler's patches are not known"),
    PackageRule(r"(xen|xcp)", (6, 0, 0), (8, 2, 0), UNKNOWN, "Xen's bundled QEMU is not known"),
)

_CHANGELOG_WORDS = ("VNC_FEATURE_XVP", FIX)


def parse_version(text: str | None) -> Version | None:
    """The upstream version in `text` ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)", "8.1.2"), if there
    is one.
    """
    found = re.search(r"(?<![\d.])(\d+)\.(\d+)(?:\.(\d+))?", text or "")
    if not found:
        return None
    major, minor, micro = found.groups(default="0")
    return int(major), int(minor), int(micro)


def spoken(version: Version) -> str:
    """As people write it: 7.2.22"""
    return ".".join(map(str, version))


def by_changelog(package: str, changelog: str) -> Verdict | None:
    """FIXED where the package's changelog names the fix; a changelog that does not says nothing."""
    for line in changelog.splitlines():
        if any(word in line for word in _CHANGELOG_WORDS):
            return Verdict(FIXED, PACKAGE, f"the changelog of {package} says: {line.strip()}")
    return None


def by_package(version: Version, package: str) -> Verdict | None:
    """What is known of the vendor's package `package` (its version string)."""
    for rule in PACKAGE_RULES:
        if rule.first <= version < rule.beyond and re.search(rule.pattern, package, re.IGNORECASE):
            return Verdict(rule.verdict, PACKAGE, f"package {package}: {rule.because}")
    return None


def by_version(version: Version | None) -> Verdict:
    """What upstream's releases say."""
    if version is None:
        return Verdict(UNKNOWN, NOTHING, "the version could not be read")
    if (6, 0, 0) <= version < (8, 2, 0) and version[2] >= DEVELOPMENT_MICRO:
        return Verdict(UNKNOWN, VERSION, f"{spoken(version)} is a development tree, from before or after the fix")
    for rule in VERSION_RULES:
        if rule.first <= version < rule.beyond:
            return Verdict(rule.verdict, VERSION, f"version {spoken(version)}: {rule.because}")
    return Verdict(UNKNOWN, VERSION, f"version {spoken(version)} is in no rule")


def by_rules(version_text: str | None, package: str | None, changelog: str | None) -> Verdict:
    """The best that can be said without asking the binary: changelog, then package, then version."""
    version = parse_version(version_text)
    named = package or "the package"
    known = by_changelog(named, changelog) if changelog else None
    if known is None and version is not None and package:
        known = by_package(version, package)
    return known or by_version(version)
