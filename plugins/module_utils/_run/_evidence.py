# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pictures of what domains showed before and after they were switched, kept for so many runs.

Private to this collection. Imported only where pictures are wanted: it brings all that looks at pixels along.
"""

from __future__ import annotations

import os
import re
import shutil
import typing as t
from datetime import datetime, timezone

from ansible_collections.kvmops.console.plugins.module_utils import (
    _domain_screens,
    _domain_xml,
    _libvirt,
    _screens,
)
from ansible_collections.kvmops.console.plugins.module_utils._concurrent import bounded_map
from ansible_collections.kvmops.console.plugins.module_utils._libvirt import Connection, Listed
from ansible_collections.kvmops.console.plugins.module_utils._run._domain_options import state_directory
from ansible_collections.kvmops.console.plugins.module_utils._run._screen_options import host_allows

Record = dict[str, t.Any]

BEFORE = "before"
AFTER = "after"

SECONDS = 12.0
"""That each picture has."""

_CONCURRENCY = 8

_RUN = re.compile(r"([0-9]{8}T[0-9]{6}\.[0-9]{6}Z)-(?:before|after)")
"""The folders of a run, named by its time."""


class Evidence:
    """The pictures of one run, in `folder` (None: the host's own)."""

    def __init__(self, uri: str, folder: str | None) -> None:
        self._uri = uri
        self._folder = folder or state_directory("evidence")
        self._run = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")

    def take(self, domains: t.Sequence[Listed], when: str) -> list[Record]:
        """What is told of the picture of each; one that fails is told, too, and holds nothing up."""
        outcomes = bounded_map(
            lambda domain: self._shoot(domain, when),
            domains,
            concurrency=_CONCURRENCY,
            timeout=SECONDS,
            doing=lambda domain: f"Taking a picture of {domain.name}",
        )
        return [{"error": str(one)} if isinstance(one, BaseException) else one for one in outcomes]

    def prune(self, keep: int) -> None:
        """Leave the pictures of the last `keep` runs, of this one at any rate; what is not ours is not touched."""
        try:
            found = [entry for entry in os.scandir(self._folder) if entry.is_dir(follow_symlinks=False)]
        except OSError:
            return  # there is none: no picture could be taken
        runs = {match[1] for entry in found for match in [_RUN.fullmatch(entry.name)] if match}
        kept = {self._run, *sorted(runs - {self._run}, reverse=True)[: max(0, keep - 1)]}
        for entry in found:
            match = _RUN.fullmatch(entry.name)
            if match and match[1] not in kept:
                shutil.rmtree(entry.path, ignore_errors=True)

    def _shoot(self, domain: Listed, when: str) -> Record:
        """Over a connection of its own: a QEMU that hangs takes the connection that asked for it along."""
        with _libvirt.connect(self._uri) as own:
            return self._shoot_over(own, domain._replace(handle=_libvirt.find(own, domain.uuid)), when)

    def _shoot_over(self, own: Connection, domain: Listed, when: str) -> Record:
        with _libvirt.translated(f"Reading {domain.name}", needs=_libvirt.READ):
            if not domain.handle.isActive():
                return {"skipped": "it is off"}
        live = _domain_xml.parse(_libvirt.live_xml(domain, own, secrets=False))
        privacy = _domain_screens.privacy(live)
        if not privacy.capture or not host_allows():
            return {"skipped": "its owner lets nobody see its screen"}
        camera = _domain_screens.Camera(own, domain, live, _domain_screens.AUTO, "none", SECONDS / 2)
        (head,) = _domain_screens.choose_heads(live, "0")
        options = _screens.Options(
            folder=state_directory("screens"), dest=os.path.join(self._folder, f"{self._run}-{when}"), timeout=SECONDS
        )
        shown = _screens.shoot(camera.screen(head, privacy.masks.get(head, ())), options)
        return {key: shown[key] for key in ("path", "sha256", "width", "height", "captured_at", "screen")}
