# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that every domain module has, said once for all argument specs.

Private to this collection. Documented in plugins/doc_fragments/domains.py.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.kvmops.console.plugins.module_utils._selection import Selection

Params = dict[str, t.Any]


def domain_options(**more: dict[str, t.Any]) -> dict[str, dict[str, t.Any]]:
    """The common options, and a module's own."""
    return {
        "uri": {"type": "str", "default": "qemu:///system"},
        "domains": {"type": "list", "elements": "str", "default": []},
        "exclude": {"type": "list", "elements": "str", "default": []},
        **more,
    }


def probe_options() -> dict[str, dict[str, t.Any]]:
    """How QEMUs are judged."""
    return {
        "probe": {"type": "bool", "default": True},
        "probe_wrappers": {"type": "bool", "default": False},
        "cache_dir": {"type": "path"},
    }


def selection(params: Params) -> Selection:
    """Which domains the play means."""
    return Selection(params["domains"], params["exclude"])


def state_directory(name: str) -> str:
    """Our folder for `name` on the host: below /var/lib for root, in the user's own state folder for anybody else."""
    if os.geteuid() == 0:
        return os.path.join("/var/lib/kvmops-console", name)
    home = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
    return os.path.join(home, "kvmops-console", name)
