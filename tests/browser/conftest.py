# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A browser for all tests; skipped where there is none."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.kvmops.console.tests.browser import chromium


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[chromium.Browser]:
    if chromium.program() is None:
        pytest.skip("there is no Chromium here: apt-get install chromium")
    started = chromium.Browser(tmp_path_factory.mktemp("browser"))
    yield started
    started.close()
