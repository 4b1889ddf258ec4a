# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host of the lab on which systemd runs, for the tests."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from typing import Optional

import pytest

from ansible_collections.kvmops.console.tests.lab.kvmlab import Host
from ansible_collections.kvmops.console.tests.lab.kvmlab import systemd as lab_systemd
from ansible_collections.kvmops.console.tests.lab.kvmlab.systemd import until

__all__ = ["Booted", "systemd", "until"]


class Booted:
    """A host on which systemd runs; `root` is its file system, as the machine reaches it."""

    def __init__(self, host: Host, pid: int) -> None:
        self.root = host.root
        self._enter = lab_systemd.enter(pid)

    def run(self, *words: str, env: Optional[Mapping[str, str]] = None) -> subprocess.CompletedProcess[str]:
        """Run a command; one that fails is for the caller to see."""
        return subprocess.run(
            [*self._enter, *words],
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def tell(self, *words: str) -> str:
        """What a command prints that must not fail."""
        done = self.run(*words)
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout


@contextlib.contextmanager
def systemd(host: Host) -> Iterator[Booted]:
    """Run systemd on the host; skips the test where the machine has none, or no control groups for it."""
    why = lab_systemd.missing()
    if why:
        pytest.skip(why)
    try:
        yield Booted(host, lab_systemd.start(host))
    finally:
        lab_systemd.end(host.name)
