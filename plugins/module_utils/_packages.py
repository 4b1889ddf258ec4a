# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which package of the distribution a file belongs to, and what its changelog says.

Private to this collection.
"""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
import typing as t

TIMEOUT = 30
"""Seconds that a package manager may take to answer."""


class Package(t.NamedTuple):
    """`version` as the package manager writes it; `changelog` is empty where there is none on this machine."""

    name: str
    version: str
    changelog: str


def owner(path: str) -> Package | None:
    """The package that owns `path`, or None."""
    return _dpkg(path) or _rpm(path)


def _output(*command: str) -> str | None:
    if shutil.which(command[0]) is None:
        return None
    try:
        # This part knows nothing of Ansible, so it has no module to run commands by.
        done = subprocess.run(  # pylint: disable=ansible-bad-function
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            env={**os.environ, "LC_ALL": "C"},
            timeout=TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):  # a package database that somebody has locked, for one
        return None
    return done.stdout.decode(errors="replace") if done.returncode == 0 else None


def _dpkg(path: str) -> Package | None:
    # With /usr merged, dpkg may know a file by its name without /usr.
    found = _output("dpkg-query", "-S", path) or _output("dpkg-query", "-S", path.replace("/usr/", "/", 1))
    if not found:
        return None
    name = found.partition(":")[0].partition(",")[0]
    version = _output("dpkg-query", "-W", "-f", "${Version}", name) or ""
    return Package(name, version, _debian_changelog(name))


def _debian_changelog(name: str) -> str:
    for suffix in ("changelog.Debian.gz", "changelog.gz"):
        try:
            with gzip.open(f"/usr/share/doc/{name}/{suffix}", "rt", errors="replace") as stream:
                return stream.read()
        except (OSError, EOFError):
            continue
    return ""


def _rpm(path: str) -> Package | None:
    found = _output("rpm", "-qf", "--qf", r"%{NAME}\t%{EVR}\n", path)
    if not found:
        return None
    name, _tab, version = found.splitlines()[0].partition("\t")
    return Package(name, version, _output("rpm", "-q", "--changelog", name) or "")
