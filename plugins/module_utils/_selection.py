# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which domains a play means: names, globs and UUIDs, the same rules for `domains` and `exclude`.

Private to this collection.
"""

from __future__ import annotations

import re
import typing as t
import uuid
from fnmatch import fnmatchcase

T = t.TypeVar("T")


class Selection(t.NamedTuple):
    """`domains`: what was asked for. `exclude`: what was not. None or an empty list asks for all."""

    domains: t.Sequence[str]
    exclude: t.Sequence[str]

    def pick(self, items: t.Iterable[T], key: t.Callable[[T], tuple[str, str]]) -> tuple[list[T], list[str]]:
        """The items that are meant, and the patterns of `domains` that mean none of them.

        `key` gives an item's name and UUID.
        """
        keyed = [(item, *key(item)) for item in items]
        idle = set(self.domains)
        picked = []
        for item, name, uid in keyed:
            asking = [pattern for pattern in self.domains if matches(pattern, name, uid)]
            idle.difference_update(asking)
            if (asking or not self.domains) and not any(matches(pattern, name, uid) for pattern in self.exclude):
                picked.append(item)
        return picked, [pattern for pattern in self.domains if pattern in idle]


def matches(pattern: str, name: str, uid: str) -> bool:
    """A name is taken literally before it is taken as a glob, so that a domain called `a[1]` can be named."""
    return pattern == name or _same_uuid(pattern, uid) or fnmatchcase(name, pattern)


_UUID = re.compile(r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")


def _same_uuid(pattern: str, uid: str) -> bool:
    return _UUID.fullmatch(pattern) is not None and uuid.UUID(pattern) == uuid.UUID(uid)
