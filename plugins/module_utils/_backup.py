# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Keeps what is about to be changed: one file each, readable by its owner only.

Private to this collection.
"""

from __future__ import annotations

import os
from datetime import datetime, timezone

from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError
from ansible_collections.kvmops.console.plugins.module_utils._files import private_folder


class Backups:
    """A folder of definitions, mode 0700. Names come from UUIDs and times, never from a domain's name."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._checked = False

    def keep(self, uuid: str, kind: str, xml: str) -> str:
        """Write `xml` and return the path.

        Not forced to the disk: libvirt replaces a definition atomically, and the new one remembers what was changed, so
        that a power cut loses nothing that a thousand fsyncs would save.
        """
        if not self._checked:
            private_folder(self.directory, "backup_dir")
            self._checked = True
        now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
        path = os.path.join(self.directory, f"{uuid}-{now}-{kind}.xml")
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape") as stream:
                stream.write(xml)
        except OSError as e:
            raise InputError(
                f"The backup {path} cannot be written: {e.strerror}; make room there, or name another backup_dir."
            ) from e
        return path
