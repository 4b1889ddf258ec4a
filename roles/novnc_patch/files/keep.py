# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Starts the keeper of patches: keep.py FOLDER.

Its code is that of the collection's module, which the role has put beside this file as one: modules.json, sources by
the name of the file in plugins/module_utils. One file is replaced as a whole; many may be seen when half are new.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import sys
from collections.abc import Mapping

PACKAGE = "ansible_collections.kvmops.console.plugins.module_utils"
KEEPER = f"{PACKAGE}._run._novnc_keep"


class Carried(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    """Finds modules in a table of their sources; what they lie in is a package without anything of its own."""

    def __init__(self, files: Mapping[str, str]) -> None:
        self._sources = {f"{PACKAGE}.{name[: -len('.py')].replace('/', '.')}": text for name, text in files.items()}
        parts = [name.split(".") for name in self._sources]
        self._packages = {".".join(part[:end]) for part in parts for end in range(1, len(part))}

    def find_spec(
        self, fullname: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Where a module of the table, or a package of theirs, comes from."""
        if fullname not in self._sources and fullname not in self._packages:
            return None
        return importlib.util.spec_from_loader(fullname, self, is_package=self.is_package(fullname))

    def is_package(self, fullname: str) -> bool:
        """Whether it is one of those that the modules lie in."""
        return fullname in self._packages

    def get_source(self, fullname: str) -> str:
        """The text of a module."""
        return self._sources.get(fullname, "")


if __name__ == "__main__":
    with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "modules.json"), encoding="utf-8") as stream:
        sys.meta_path.insert(0, Carried(json.load(stream)))
    sys.exit(importlib.import_module(KEEPER).main(sys.argv[1]))
