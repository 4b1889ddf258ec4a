# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host for each file of tests, which change its rules."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.kvmops.console.tests.integration.rights.guarded import POLKITD, Guarded, guarded
from ansible_collections.kvmops.console.tests.lab.kvmlab import Lab
from ansible_collections.kvmops.console.tests.tools import rights as table


@pytest.fixture(scope="module")
def host() -> Iterator[Guarded]:
    if not Path(POLKITD).exists() or not shutil.which("dbus-daemon"):
        pytest.skip("there is no polkit on this machine, or no D-Bus")
    with Lab("it-rights") as lab:
        yield guarded(lab["it-rights"], table.load())
