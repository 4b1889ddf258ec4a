# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Publishes files of the controller. Documented in plugins/modules/publish.py."""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError
from ansible_collections.kvmops.console.plugins.plugin_utils import _publish
from ansible_collections.kvmops.console.plugins.plugin_utils._on_controller import OnController

Json = dict[str, t.Any]

ARGUMENT_SPEC: Json = {
    "files": {"type": "list", "elements": "path", "required": True},
    "root": {"type": "path"},
    "to": {"type": "str", "required": True, "no_log": True},
    "token": {"type": "str", "no_log": True},
    "headers": {"type": "dict", "default": {}, "no_log": True},
    "validate_certs": {"type": "bool", "default": True},
    "ca_path": {"type": "path"},
    "timeout": {"type": "float", "default": 30.0},
}


class ActionModule(OnController):
    """Reads files, and sends them."""

    ARGUMENT_SPEC = ARGUMENT_SPEC

    def act(self, options: Json, variables: Json) -> Json:
        root = self._loader.path_dwim(options["root"]) if options["root"] else None
        try:
            everything = _publish.collect(map(self._loader.path_dwim, options["files"]), root)
            files = _publish.chosen(everything, options["to"])
            published, changed = self._publish(files, options)
        except OSError as error:
            raise ConsoleError(
                f"{error.filename or 'A file'} cannot be published: {error.strerror or error}; see who may read and"
                " write there on the controller."
            ) from None
        left_out = [file.name for file in everything[len(files) :]]
        return {"changed": changed, "published": published, "left_out": left_out}

    def _publish(self, files: list[_publish.File], options: Json) -> tuple[list[str], bool]:
        """Where they are, and whether any had to be put there."""
        check, place = self._task.check_mode, options["to"]
        if not _publish.is_url(place):
            folder = self._loader.path_dwim(place)
            news = [file for file in files if _publish.differs(file, folder)]
            if not check:
                for file in news:
                    _publish.copy(file, folder)
            return [f"{folder.rstrip('/')}/{file.name}" for file in files], bool(news)
        if check:
            return [_publish.address(_publish.target(place, file.name)) for file in files], bool(files)
        server = _publish.Server(_headers(options), options["validate_certs"], options["ca_path"], options["timeout"])
        return [_publish.put(file, place, server) for file in files], bool(files)


def _headers(options: Json) -> dict[str, str]:
    headers = {str(name): str(value) for name, value in options["headers"].items()}
    return {**headers, "Authorization": f"Bearer {options['token']}"} if options["token"] else headers
