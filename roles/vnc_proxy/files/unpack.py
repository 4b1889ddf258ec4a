# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Puts files in place: unpack.py FOLDER (write|look), with their contents by path as JSON on standard input.

Prints the paths of those that are not there as they should be. Each is written beside its place and moved there.
"""

from __future__ import annotations

import json
import os
import sys


def _differs(path: str, text: str) -> bool:
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read() != text
    except (OSError, UnicodeDecodeError):
        return True


def _write(path: str, text: str) -> None:
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    with open(f"{path}.new", "w", encoding="utf-8", newline="") as file:
        file.write(text)
    os.replace(f"{path}.new", path)


def main(folder: str, what: str) -> None:
    """Do it."""
    os.umask(0o022)
    for name, text in sorted(json.load(sys.stdin).items()):
        path = os.path.join(folder, name)
        if _differs(path, text):
            if what == "write":
                _write(path, text)
            print(name)


if __name__ == "__main__":
    main(*sys.argv[1:])
