# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keeper: puts the patch back into files that somebody replaced, such as a package manager with an upgrade.

Private to this collection. The role novnc_patch installs it on hosts, where systemd starts it whenever one of the files
changes, and at boot; there is no Ansible there. It does what the module would do, to the files in the list that the
role has written (_novnc_kept.py), and to nothing else: not to a file that a link leads to now, and to none that noVNC
has been moved to.

Package managers take a while to replace all files of a package, so it waits until nothing has changed for a moment; and
it looks again until there is nothing left to do, because systemd does not watch while it runs.
"""

from __future__ import annotations

import os
import sys
import time
import typing as t

from ansible_collections.kvmops.console.plugins.module_utils import _novnc, _novnc_kept
from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError
from ansible_collections.kvmops.console.plugins.module_utils._files import locked
from ansible_collections.kvmops.console.plugins.module_utils._novnc import Installation, Originals
from ansible_collections.kvmops.console.plugins.module_utils._run._novnc_patcher import (
    LOCK,
    LOCK_SECONDS,
    PATCHED,
    Patcher,
)
from ansible_collections.kvmops.console.plugins.module_utils._run._novnc_records import Record

QUIET = 2.0
"""Seconds without a change after which whoever changes files is taken to be done."""
PATIENCE = 120.0
"""Seconds after which nobody is waited for any longer: every replacement is checked by itself."""
ROUNDS = 5
"""How often it is put back in one run; who takes it out again each time does not want it."""

ERROR, NOTICE, INFO = "<3>", "<5>", "<6>"
"""How lines begin that the journal is to take as such (sd-daemon(3))."""


def main(folder: str, quiet: float = QUIET) -> int:
    """Keep what the list in `folder` says; says on standard output what it did, and returns the exit status."""
    for _round in range(ROUNDS):
        try:
            _wait(_novnc_kept.read(folder), quiet)
            with locked(os.path.join(folder, LOCK), LOCK_SECONDS):
                lines, changed = _keep(_novnc_kept.read(folder), Originals(folder))
        except (ConsoleError, OSError) as e:
            lines, changed = [f"{ERROR}{e}"], False
        if not changed:
            break
        _say(lines)
    else:
        lines = [f"{ERROR}somebody takes the patch out as often as it is put back: have the role let it be."]
    _say(lines)
    return int(any(line.startswith(ERROR) for line in lines))


def _say(lines: t.Sequence[str]) -> None:
    for line in lines:
        sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _wait(paths: t.Iterable[str], quiet: float) -> None:
    """Until the files have been the same for `quiet` seconds."""
    paths = sorted(paths)
    seen, now = _state(paths), time.monotonic()
    since, end = now, now + PATIENCE
    while now < min(since + quiet, end):
        time.sleep(quiet / 10)
        told, now = _state(paths), time.monotonic()
        if told != seen:
            seen, since = told, now


def _state(paths: t.Iterable[str]) -> list[tuple[int, ...] | None]:
    return [_stamp(path) for path in paths]


def _stamp(path: str) -> tuple[int, ...] | None:
    try:
        status = os.lstat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _keep(kept: t.Mapping[str, str], originals: Originals) -> tuple[list[str], bool]:
    """Put back what is missing: what there is to say of it, and whether a file changed."""
    there, lines = _present(kept)
    found = _novnc.find_in(there)
    known = {path for installation in found for path in installation.scripts}
    lines += [
        f"{ERROR}{path} has no RFB class in it any more: see what the upgrade did, and run the role novnc_patch again."
        for path in there
        if path not in known
    ]
    changed = False
    for installation in found:
        patcher = Patcher(PATCHED, kept[installation.scripts[0]], originals, force=False, check_mode=False)
        record = patcher.patch(installation)
        lines += _told(installation, record)
        changed = changed or record["changed"]
    return lines, changed


def _present(kept: t.Mapping[str, str]) -> tuple[list[str], list[str]]:
    """The files that are there under their own names, and what there is to say of the others."""
    there, lines = [], []
    for path in sorted(kept):
        real = os.path.realpath(path)
        if not os.path.lexists(path):
            lines.append(f"{INFO}{path} is not there: nothing to put the patch back into.")
        elif real != path:
            lines.append(f"{ERROR}{path} leads to {real} now: run the role novnc_patch again to have that patched.")
        else:
            there.append(path)
    return there, lines


def _told(installation: Installation, record: Record) -> t.Iterator[str]:
    package = record["package"]
    of = f" of {package['name']} {package['version']}".rstrip() if package else ""
    if record["replaced"]:
        yield f"{NOTICE}put the patch back into {', '.join(record['replaced'])}{of}."
    if "error" in record:
        yield f"{ERROR}{installation.root}{of} could not be patched again: {record['error']}"
    if "skipped" in record:
        yield f"{INFO}{installation.root}{of} needs none: {record['skipped']}"
