# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Brings the pictures of kvmops.console.incus_screenshot to the controller."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.console.plugins.module_utils._incus_names import file_name
from ansible_collections.kvmops.console.plugins.plugin_utils._fetch_pictures import FetchPictures


class ActionModule(FetchPictures):
    MODULE = "kvmops.console.incus_screenshot"
    RECORDS = "instances"
    SOURCE = "incus"

    def called(self, record: dict[str, t.Any]) -> str:
        return file_name(str(record["project"]), str(record["name"]))
