# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Brings the pictures of kvmops.console.domain_screenshot to the controller."""

from __future__ import annotations

import hashlib

from ansible_collections.kvmops.console.plugins.plugin_utils._fetch_pictures import FetchPictures

USUAL = "qemu:///system"


class ActionModule(FetchPictures):
    MODULE = "kvmops.console.domain_screenshot"
    RECORDS = "domains"

    def source(self) -> str:
        """Nothing for the usual connection; else what stands for its URI, for another may have domains so called."""
        uri = str(self._task.args.get("uri") or USUAL)
        return "" if uri == USUAL else hashlib.sha256(uri.encode()).hexdigest()[:8]
