# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A copy of the checkout where Ansible wants it: in ansible_collections/kvmops/console, real files, no leftovers."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from . import host

NAMESPACE, NAME = "kvmops", "console"


def files() -> list[str]:
    """Paths in the repository, of what is tracked or would be: what a clean checkout has, and work not yet added."""
    settings = host.cache() / "gitconfig"
    # Root may work in a checkout that belongs to someone else; git then wants to be told so.
    settings.write_text(f"[safe]\n\tdirectory = {host.REPOSITORY}\n", encoding="utf-8")
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=host.REPOSITORY,
        env={**os.environ, "GIT_CONFIG_GLOBAL": str(settings)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise host.Missing(f"git does not take {host.REPOSITORY} for a checkout: {done.stderr.strip()}")
    listed = sorted(set(done.stdout.split("\0")) - {""})
    return [path for path in listed if os.path.lexists(host.REPOSITORY / path)]


def has(folder: str) -> bool:
    """Whether the checkout has a file in that folder."""
    return any(path.startswith(folder + "/") for path in files())


def copy(base: Path) -> Path:
    """Copy the checkout to `base`/ansible_collections/kvmops/console and return that folder."""
    root = base / "ansible_collections" / NAMESPACE / NAME
    for path in files():
        destination = root / path
        destination.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(host.REPOSITORY / path, destination, follow_symlinks=False)
    return root


def kept() -> Path:
    """The folder with a fresh copy that stays: for the lab and the demo, whose hosts live on after the command."""
    base = host.cache() / "checkout"
    with host.lock("checkout"):
        shutil.rmtree(base, ignore_errors=True)
        copy(base)
    return base
