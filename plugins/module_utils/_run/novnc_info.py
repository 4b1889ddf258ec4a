# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The run of kvmops.console.novnc_info: look, and describe.

Private to this collection.
"""

from __future__ import annotations

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.console.plugins.module_utils._run._novnc_records import (
    Record,
    installations,
    of_installation,
)


def run(module: AnsibleModule) -> Record:
    """The module's result."""
    records = [of_installation(installation) for installation in installations(module.params["paths"])]
    return {"changed": False, "installations": records, "summary": summarize(records)}


def summarize(records: t.Sequence[Record]) -> Record:
    """Counts over all records."""
    return {
        "installations": len(records),
        "patchable": sum(record["patchable"] for record in records),
        "patched": sum(record["patched"] for record in records),
        "outdated": sum(record["patched"] and not record["current"] for record in records),
        "stale": sum(any(page["stale"] for page in record["pages"]) for record in records),
    }
