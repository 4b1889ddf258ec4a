# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the files of pictures are called, whatever their machines are called.

Private to this collection. Here, because those who only look for a file need not know how a picture is taken.
"""

from __future__ import annotations

import hashlib
import re

_MOST_NAME = 120
"""Bytes of a name in a file name, which has 255 at most."""


def safe_name(name: str) -> str:
    """`name` as part of a file name: readable, in one folder, never hidden; different names stay different."""
    plain = re.sub(r"[^\w.@+-]", "_", name).lstrip(".-").encode()[:_MOST_NAME].decode(errors="ignore")
    if plain and plain == name:
        return plain
    return f"{plain or '_'}-{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


def file_stem(name: str, head: int, source: str = "") -> str:
    """The name of a picture's file, without its ending; no name has a tilde, so that no two screens share a file.

    `source` tells machines of one name apart: where they come from, in letters and digits; nothing for the usual one.
    """
    return safe_name(name) + (f"~{source}" if source else "") + (f"~{head}" if head else "")
