# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The list of files that are to stay patched, whoever replaces them.

Private to this collection.

It lies beside the originals, as JSON: {"path of a file": "mode of its patch", ...}. The role novnc_patch writes it, the
keeper (_run/_novnc_keep.py) reads it, and the module novnc_patch keeps it true: who has a patch taken out, or another
one put in, does not want it back a moment later.
"""

from __future__ import annotations

import contextlib
import json
import os
import typing as t

from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError
from ansible_collections.kvmops.console.plugins.module_utils._files import write_whole
from ansible_collections.kvmops.console.plugins.module_utils._novnc_script import MODES

NAME = "kept.json"


def read(folder: str) -> dict[str, str]:
    """Modes by path; empty where there is no list. Raises InputError for one that is none of ours."""
    path = os.path.join(folder, NAME)
    told: t.Any = {}
    try:
        with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as stream:
            told = json.load(stream)
        if all(os.path.isabs(name) and mode in MODES for name, mode in told.items()):
            return dict(told)
    except OSError as e:
        raise InputError(f"{path} cannot be read: {e.strerror}; run the role novnc_patch again.") from e
    except (ValueError, AttributeError, TypeError):
        pass  # told below
    raise InputError(f"{path} is no list of files and modes: run the role novnc_patch again.")


def follow(folder: str, paths: t.Sequence[str], mode: str | None) -> None:
    """Have the list say that those of its files that are in `paths` get that mode, or None: are none of it any more.

    What is not in the list does not come into it. A list that cannot be read has nobody keep anything, and is left to
    the role. Raises InputError.
    """
    try:
        kept = read(folder)
    except InputError:
        return
    wanted = dict(kept)
    for path in kept.keys() & set(paths):
        if mode is None:
            del wanted[path]
        else:
            wanted[path] = mode
    if wanted != kept:
        write_whole(os.path.join(folder, NAME), _encoded(wanted))


def _encoded(kept: t.Mapping[str, str]) -> bytes:
    """As Ansible's filter to_nice_json writes it, so that the role finds nothing to change."""
    return json.dumps(kept, indent=4, sort_keys=True).encode() + b"\n"
