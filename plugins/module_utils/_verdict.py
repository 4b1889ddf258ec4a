# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The verdict on a QEMU: how its VNC server treats a client that lists XVP (-309), and how we know.

Private to this collection.

QEMU 6.0.0-7.2.6, 8.0.x and 8.1.0-8.1.1 combine an enumerator instead of its bit into the client's features
(`vs->features |= VNC_FEATURE_XVP`, ui/vnc.c; fixed by QEMU commit 477b301000d6).
"""

from __future__ import annotations

from typing import NamedTuple

AFFECTED = "affected"
"""Sends an unrequested -257 rectangle, and obeys power messages without having been asked to gate them."""
FIXED = "fixed"
"""Has power control, and behaves."""
INCAPABLE = "incapable"
"""Has no power control at all (before 6.0, or built without VNC)."""
UNKNOWN = "unknown"
"""Could not be told; to be treated as affected."""

PROBE = "probe"
PACKAGE = "package"
VERSION = "version"
NOTHING = "none"


class Verdict(NamedTuple):
    """`verdict` and `basis` are words from above; `evidence` is one line that a person can check."""

    verdict: str
    basis: str
    evidence: str

    @property
    def unsafe(self) -> bool:
        """Whether power control on this QEMU has to be taken as broken."""
        return self.verdict in (AFFECTED, UNKNOWN)


class BinaryProbe(NamedTuple):
    """What a probe found. `version` ("7.2.22") and `package` ("Debian 1:7.2+...") are None where the binary didn't say.

    `path` has its symbolic links resolved; of a deleted image it is what the kernel calls it, "/usr/bin/... (deleted)".
    """

    verdict: Verdict
    version: str | None
    package: str | None
    path: str
