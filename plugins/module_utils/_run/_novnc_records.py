# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What novnc_info and novnc_patch both tell of a noVNC, from what was read of it.

Private to this collection.
"""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.kvmops.console.plugins.module_utils import _novnc, _novnc_pages, _novnc_patch
from ansible_collections.kvmops.console.plugins.module_utils._novnc import Content, Installation
from ansible_collections.kvmops.console.plugins.module_utils._novnc_patch import PatchRefused
from ansible_collections.kvmops.console.plugins.module_utils._novnc_script import VERSION

Record = dict[str, t.Any]
Read = t.Callable[[str], Content]

NO_ADDRESS = "it loads scripts in a way that knows no other address: let the web server send Cache-Control: no-cache."
TWIN = "the compressed twin beside it may be served in its place: make that anew."


def installations(paths: t.Sequence[str]) -> list[Installation]:
    """Those in `paths`, or those that are found where none are named."""
    return _novnc.find_in(paths) if paths else _novnc.find()


def of_installation(installation: Installation, read: Read = _novnc.read) -> Record:
    """All that is known of a noVNC. `read` gives the content of a file."""
    files = [_of_script(path, read) for path in installation.scripts]
    package = _novnc.owner(installation.scripts[0])
    originals = [file["original_sha256"] for file in files if file["original_sha256"]]
    return {
        "name": installation.root,
        "path": installation.root,
        "version": _novnc.version(installation.root, originals, package),
        "package": package._asdict() if package else None,
        "patchable": all(file["patchable"] for file in files),
        "patched": all(file["patched"] for file in files),
        "current": all(file["current"] for file in files),
        "files": files,
        "pages": _of_pages(installation, read),
    }


def _of_script(path: str, read: Read) -> Record:
    record: Record = {
        "path": path,
        "kind": None,
        "compressed": path.endswith(".gz"),
        "sha256": None,
        "original_sha256": None,
        "patchable": False,
        "patched": False,
        "patch_version": None,
        "mode": None,
        "current": False,
        "reason": None,
    }
    try:
        content = read(path)
        record.update(_patch_of(content))
        if not record["patched"]:
            _novnc_patch.find_place(content.text)
        if not record["current"]:
            _novnc.check_writable(path, len(content.data))
        record["patchable"] = True
    except PatchRefused as e:
        record["reason"] = str(e)
    return record


def _patch_of(content: Content) -> Record:
    patch = _novnc_patch.find_patch(content.text)
    told: Record = {"kind": _novnc_patch.kind_of(content.text), "sha256": content.sha256}
    if patch is None:
        return {**told, "original_sha256": content.sha256}
    return {
        **told,
        "original_sha256": patch.original,
        "patched": True,
        "patch_version": patch.version,
        "mode": patch.mode,
        "current": patch.current and patch.version >= VERSION,
    }


def _of_pages(installation: Installation, read: Read) -> list[Record]:
    """The pages that load one of its files, and whether browsers would go on with the file that they keep."""
    found = []
    scripts = list(_readable(installation.scripts, read))
    for page in _readable(installation.pages, read):
        record = _of_page(page, scripts)
        if record:
            found.append(record)
    return found


def _readable(paths: t.Sequence[str], read: Read) -> t.Iterator[Content]:
    for path in paths:
        with contextlib.suppress(PatchRefused):
            yield read(path)


def _of_page(page: Content, scripts: t.Sequence[Content]) -> Record | None:
    for script in scripts:
        how = _novnc.load(page, script)
        if not how:
            continue
        patched = _novnc_patch.is_added(script.text)
        wanted = _novnc_pages.tag_of(script.sha256) if patched else None
        stale, reason = patched and _novnc_pages.tag_in(page.text) != wanted, None
        if how == _novnc.LOADER:
            stale, reason = patched, NO_ADDRESS
        elif patched and os.path.lexists(f"{page.path}.gz"):
            stale, reason = True, TWIN
        elif stale and how == _novnc.MAP:
            reason = _refusal(page, script)
        return {"path": page.path, "script": script.path, "stale": stale, "reason": reason}
    return None


def _refusal(page: Content, script: Content) -> str | None:
    """Why a page cannot be given an import map."""
    try:
        _novnc_pages.with_map(page.text, _novnc_pages.tag_of(script.sha256))
    except PatchRefused as e:
        return str(e)
    return None
