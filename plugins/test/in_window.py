# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The test in_window. Documented in in_window.yml."""

from __future__ import annotations

import typing as t
from datetime import datetime

from ansible.errors import AnsibleFilterError

from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError
from ansible_collections.kvmops.console.plugins.plugin_utils import _window


def in_window(moment: datetime, window: t.Mapping[str, t.Any]) -> bool:
    """Whether the moment lies in the maintenance window; every moment does where the window is empty."""
    if not isinstance(moment, datetime) or not isinstance(window, t.Mapping):
        raise AnsibleFilterError("in_window takes a moment, like now(), and a window with start, end and days.")
    try:
        return not window or _window.parse(window).contains(moment)
    except ConsoleError as error:
        raise AnsibleFilterError(str(error)) from error


class TestModule:
    """What Ansible asks a test plugin for."""

    def tests(self) -> dict[str, t.Callable[..., bool]]:
        """By name."""
        return {"in_window": in_window}
