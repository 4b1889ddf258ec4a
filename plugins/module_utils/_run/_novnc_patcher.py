# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What novnc_patch and the keeper of patches both do to a noVNC: decide, replace files unless in check mode, describe.

Private to this collection. Knows nothing of Ansible: the keeper runs on hosts without it.

An installation is decided on as a whole before any of its files is touched. Then scripts come first and pages last, so
that a page never names a script that is not there yet. What a killed run has not done, the next one does.
"""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.kvmops.console.plugins.module_utils import _novnc, _novnc_pages, _novnc_patch
from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError
from ansible_collections.kvmops.console.plugins.module_utils._novnc import Content, Installation, Originals
from ansible_collections.kvmops.console.plugins.module_utils._novnc_patch import AlreadyHandled, PatchRefused
from ansible_collections.kvmops.console.plugins.module_utils._novnc_script import VERSION
from ansible_collections.kvmops.console.plugins.module_utils._run._novnc_records import Record, of_installation

PATCHED, ABSENT = "patched", "absent"
STATES = (PATCHED, ABSENT)

LOCK = "lock"
"""In the folder of the originals: held by whoever changes files."""
LOCK_SECONDS = 120.0
"""Another run takes seconds."""


class Step(t.NamedTuple):
    """A file that is to have other bytes."""

    content: Content
    data: bytes


class Patcher:
    """Patches installations. `diffs` collects what changed, one entry a file."""

    def __init__(self, state: str, mode: str, originals: Originals, *, force: bool, check_mode: bool) -> None:
        self._state = state
        self._mode = mode
        self._originals = originals
        self._force = force
        self._check_mode = check_mode
        self.diffs: list[Record] = []

    def patch(self, installation: Installation) -> Record:
        """Patch one installation, or take the patch out; whatever goes wrong stays with it."""
        told: Record = {}
        done: list[Step] = []
        try:
            steps = self._plan(installation)
            if not self._check_mode:
                _novnc.sweep(installation)
            for step in steps:
                self._apply(step)
                done.append(step)
        except AlreadyHandled as e:
            told["skipped"] = str(e)
        except ConsoleError as e:
            told["error"] = str(e)
        for step in done:
            self._add_diff(step)
        foreseen = {step.content.path: step.data for step in done}
        record = of_installation(installation, lambda path: _as_it_will_be(path, foreseen))
        return {**record, "changed": bool(done), "replaced": [step.content.path for step in done], **told}

    def _plan(self, installation: Installation) -> list[Step]:
        scripts, steps = [], []
        for path in installation.scripts:
            content = _novnc.read(path)
            try:
                data = self._wanted(content)
            except PatchRefused as e:
                raise type(e)(f"{path}: {e}") from e
            scripts.append(_novnc.content_of(path, data))
            if data != content.data:
                steps.append(Step(content, data))
        for path in installation.pages:
            steps += self._plan_page(_novnc.read(path), scripts)
        for step in steps:
            _novnc.check_writable(step.content.path, len(step.data))
        return steps

    def _wanted(self, content: Content) -> bytes:
        """The bytes that a script shall have."""
        patch = _novnc_patch.find_patch(content.text)
        if self._state == ABSENT:
            return _novnc.original(content, self._originals, force=self._force) if patch else content.data
        if patch is None:
            return content.with_text(_novnc_patch.add(content.text, self._mode, content.sha256))
        newer = patch.version > VERSION
        if newer or patch.built_in or (patch.current and patch.mode == self._mode):
            return content.data
        before = _novnc.original(content, self._originals, force=self._force)
        text = _novnc.content_of(content.path, before).text
        return content.with_text(_novnc_patch.add(text, self._mode, _novnc_patch.digest(before)))

    def _plan_page(self, page: Content, scripts: t.Sequence[Content]) -> list[Step]:
        """A page that cannot be changed is none that ends the work: the record tells of it."""
        wanted = _novnc_pages.without_tag(page.text)
        for script in scripts:
            how = _novnc.load(page, script)
            if self._state == ABSENT or how is None or not _novnc_patch.is_added(script.text):
                continue
            tag = _novnc_pages.tag_of(script.sha256)
            if how == _novnc.QUERY:
                wanted = _novnc_pages.with_query(page.text, os.path.basename(script.path), tag)
            elif how == _novnc.MAP:
                with contextlib.suppress(PatchRefused):
                    wanted = _novnc_pages.with_map(page.text, tag)
        return [Step(page, page.with_text(wanted))] if wanted != page.text else []

    def _apply(self, step: Step) -> None:
        if self._check_mode:
            return
        if _novnc_patch.find_patch(step.content.text) is None and _novnc_pages.tag_in(step.content.text) is None:
            self._originals.keep(step.content)
        _novnc.replace(step.content, step.data)

    def _add_diff(self, step: Step) -> None:
        path = step.content.path
        self.diffs.append(
            {
                "before_header": path,
                "after_header": path,
                "before": _shown(step.content.text),
                "after": _shown(_novnc.content_of(path, step.data).text),
            }
        )


def _as_it_will_be(path: str, foreseen: t.Mapping[str, bytes]) -> Content:
    """A file after the steps, also in check mode, where they were not taken."""
    return _novnc.content_of(path, foreseen[path]) if path in foreseen else _novnc.read(path)


def _shown(text: str) -> str:
    """Text for a diff: a minified file has lines that nobody wants to see whole."""
    return "".join(line if len(line) < 500 else f"{line[:500]}...\n" for line in text.splitlines(keepends=True))
