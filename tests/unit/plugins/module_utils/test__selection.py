# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which domains a list of names, globs and UUIDs means."""

from __future__ import annotations

import pytest

from ansible_collections.kvmops.console.plugins.module_utils._selection import Selection, matches

UUID = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"
OTHER = "00000000-0000-0000-0000-000000000000"


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("web-1", "web-1", True),
        ("web", "web-1", False),
        ("web-*", "web-1", True),
        ("*", "", True),
        ("web-?", "web-1", True),
        ("web-[12]", "web-2", True),
        ("web-[!12]", "web-2", False),
        # A name is a name before it is a glob.
        ("a[1]", "a[1]", True),
        ("a[1]", "a1", True),
        ("WEB-1", "web-1", False),
        (UUID, "web-1", True),
        (UUID.upper(), "web-1", True),
        (UUID.replace("-", ""), "web-1", True),
        (OTHER, "web-1", False),
        # Somebody may call a domain as another's UUID.
        (OTHER, OTHER, True),
        (UUID[:-1], "web-1", False),
        ("../etc", "../etc", True),
        ("a b", "a b", True),
        ("a*", "a\nb", True),
        ("é😀", "é😀", True),
        ("'\"", "'\"", True),
        ("", "web-1", False),
        (f"{{{UUID}}}", "web-1", False),
    ],
)
def test_matches(pattern: str, name: str, expected: bool) -> None:
    assert matches(pattern, name, UUID) is expected


HOST = {"db": UUID, "web-1": OTHER, "web-2": OTHER[:-1] + "2"}


@pytest.mark.parametrize(
    ("domains", "exclude", "picked", "unmatched"),
    [
        ([], [], ["db", "web-1", "web-2"], []),
        (["web-*"], [], ["web-1", "web-2"], []),
        ([UUID], [], ["db"], []),
        (["db", "web-1"], ["db"], ["web-1"], []),
        ([], ["web-?"], ["db"], []),
        ([], ["*"], [], []),
        (["web-1", "web-*"], [], ["web-1", "web-2"], []),
        (["gone", "db", "lost-*"], [], ["db"], ["gone", "lost-*"]),
        (["gone", "gone"], [], [], ["gone", "gone"]),
        ([], ["gone"], ["db", "web-1", "web-2"], []),
    ],
)
def test_pick(domains: list[str], exclude: list[str], picked: list[str], unmatched: list[str]) -> None:
    assert Selection(domains, exclude).pick(HOST, lambda name: (name, HOST[name])) == (picked, unmatched)
