# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Other people's collections, as the community package `ansible` has them: downloaded once, kept in the cache."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

CACHE = Path(os.environ.get("KVMOPS_CACHE") or "/var/cache/kvmops-console")
PACKAGE = "ansible==12.3.0"
"""The last one with wheels for Python 3.11; has awx.awx 24.6.1, which is AWX's last release."""
PREFIXES = ("ansible_collections/awx/awx/", "ansible_collections/community/libvirt/")


def collections() -> Path:
    """A folder for ANSIBLE_COLLECTIONS_PATH with awx.awx and community.libvirt in it."""
    folder = CACHE / f"collections-{PACKAGE.replace('==', '-')}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "complete").exists():
            shutil.rmtree(folder, ignore_errors=True)
            words = ["download", "--quiet", "--no-deps", "--ignore-requires-python", "--disable-pip-version-check"]
            subprocess.run([sys.executable, "-m", "pip", *words, "--dest", os.fspath(folder), PACKAGE], check=True)
            (wheel,) = folder.glob("*.whl")
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder, [name for name in archive.namelist() if name.startswith(PREFIXES)])
            wheel.unlink()
            (folder / "complete").touch()
    return folder
