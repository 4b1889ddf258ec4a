# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the tests of the proxy share: the machines and proxies of its tests in a browser."""

from __future__ import annotations

from ansible_collections.kvmops.console.tests.browser.novnc.conftest import programs, start
from ansible_collections.kvmops.console.tests.browser.proxy.conftest import put

__all__ = ["programs", "put", "start"]
