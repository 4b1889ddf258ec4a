# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every module's run shares: the libraries, the errors caught once, and the way a bulk result ends.

Private to this collection. It imports little: Ansible parses and sends whatever a module could import, at every task.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import traceback
import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible.module_utils.common.respawn import has_respawned, probe_interpreters_for_module, respawn_module

from ansible_collections.kvmops.console.plugins.module_utils._concurrent import left_behind
from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError

Result = dict[str, t.Any]

SYSTEM_PYTHONS = ("/usr/bin/python3", "/usr/libexec/platform-python", "/usr/local/bin/python3")

RESPAWN_LIMIT = 48_000
"""Bytes of arguments; ansible-core's respawn_module() writes them to a pipe that nobody reads yet, and hangs from 64
KiB on.
"""


def need(
    module: AnsibleModule,
    traces: t.Mapping[str, str | None],
    imports: str,
    packages: str,
    more: t.Callable[[], str] = str,
) -> None:
    """Make sure of libraries: here, else under the system's Python, else end with one sentence.

    `traces`: by library, what trying to import it said (None: it is there); `imports` is how to try all at once;
    `more()`: what else is to be said when they are missing.
    """
    missing = {name: trace for name, trace in traces.items() if trace}
    if not missing:
        return
    if not has_respawned():
        interpreter = probe_interpreters_for_module(SYSTEM_PYTHONS, imports)
        if interpreter and len(json.dumps(module.params)) > RESPAWN_LIMIT:
            module.fail_json(
                msg=f"The arguments are too long to start this module again under the Python that has {imports}:"
                f" set ansible_python_interpreter to {interpreter}."
            )
        if interpreter:
            respawn_module(interpreter)
    name, trace = next(iter(missing.items()))
    module.fail_json(msg=f"{missing_required_lib(name)} Install {packages}.{more()}", exception=trace)


def finish(module: AnsibleModule, run: t.Callable[[AnsibleModule], Result], records: str = "domains") -> t.NoReturn:
    """Run, and end the module.

    A record with `error` makes the task fail at the end, with every record returned; `records` is the key of their list
    in the result.
    """
    try:
        _end(module, run, records)
    except SystemExit as e:
        if left_behind():
            atexit.register(_leave, int(e.code or 0))
        raise


def _leave(status: int) -> None:
    """End the process as it is: Python would free what a call that hangs still holds, and hang with it."""
    if left_behind():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _end(module: AnsibleModule, run: t.Callable[[AnsibleModule], Result], records: str) -> t.NoReturn:
    try:
        result = run(module)
    except ConsoleError as e:
        module.fail_json(msg=str(e), exception=traceback.format_exc())
    failed = [f"{record['name']} ({record['error']})" for record in result.get(records, []) if record.get("error")]
    if not failed:
        module.exit_json(**result)
    named = "; ".join(failed[:3]) + ("; ..." if len(failed) > 3 else "")
    module.fail_json(msg=f"{len(failed)} of {len(result[records])} {records} failed: {named}", **result)


def report_unmatched(module: AnsibleModule, unmatched: list[str], uri: str) -> None:
    """A name that means no domain is not an error (fleets share one list), but nobody should have to guess."""
    if unmatched:
        module.warn(f"No domain of {uri} is meant by: {', '.join(unmatched)}.")
