# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The run of kvmops.console.novnc_patch: find, have every installation patched or given back, count.

Private to this collection.
"""

from __future__ import annotations

import os
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.console.plugins.module_utils import _novnc_kept
from ansible_collections.kvmops.console.plugins.module_utils._files import locked, private_folder
from ansible_collections.kvmops.console.plugins.module_utils._novnc import Originals
from ansible_collections.kvmops.console.plugins.module_utils._run import _novnc_patcher
from ansible_collections.kvmops.console.plugins.module_utils._run._domain_options import state_directory
from ansible_collections.kvmops.console.plugins.module_utils._run._novnc_patcher import ABSENT, Patcher
from ansible_collections.kvmops.console.plugins.module_utils._run._novnc_records import Record, installations


def run(module: AnsibleModule) -> Record:
    """The module's result."""
    params = module.params
    folder = params["backup_dir"] or state_directory("novnc")
    found = installations(params["paths"])
    patcher = Patcher(
        params["state"], params["mode"], Originals(folder), force=params["force"], check_mode=module.check_mode
    )
    if module.check_mode or not found:
        records = [patcher.patch(installation) for installation in found]
    else:
        lock = os.path.join(private_folder(folder, "backup_dir"), _novnc_patcher.LOCK)
        with locked(lock, _novnc_patcher.LOCK_SECONDS):
            # Before the files: a keeper that sees them change finds out what they shall be.
            scripts = [path for installation in found for path in installation.scripts]
            _novnc_kept.follow(folder, scripts, None if params["state"] == ABSENT else params["mode"])
            records = [patcher.patch(installation) for installation in found]
    result: Record = {
        "changed": any(record["changed"] for record in records),
        "installations": records,
        "summary": summarize(records),
    }
    if module._diff:
        result["diff"] = patcher.diffs
    return result


def summarize(records: t.Sequence[Record]) -> Record:
    """Counts over all records."""
    return {
        "installations": len(records),
        "changed": sum(record["changed"] for record in records),
        "skipped": sum("skipped" in record for record in records),
        "errors": sum("error" in record for record in records),
    }
