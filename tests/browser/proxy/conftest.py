# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests of the proxy in a browser share: the machines of noVNC's tests, and proxies in front of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmops.console.tests.browser.novnc.conftest import programs, serve, start
from ansible_collections.kvmops.console.tests.browser.novnc.machine import Machine
from ansible_collections.kvmops.console.tests.browser.proxy.service import Proxy

__all__ = ["programs", "serve", "start"]

Put = Callable[..., Proxy]


@pytest.fixture
def put(tmp_path: Path) -> Iterator[Put]:
    """Put a proxy in front of a machine, with a policy."""
    running: list[Proxy] = []

    def put(machine: Machine, novnc: Path | None = None, **policy: Any) -> Proxy:
        running.append(Proxy(tmp_path / f"proxy-{len(running)}", {"unix": machine.vnc}, novnc=novnc, policy=policy))
        return running[-1]

    yield put
    for one in running:
        one.end()
