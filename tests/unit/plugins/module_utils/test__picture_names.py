# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of pictures: readable names, in their folder, one for each screen."""

from __future__ import annotations

import pytest

from ansible_collections.kvmops.console.plugins.module_utils._picture_names import file_stem, safe_name


@pytest.mark.parametrize(
    "name", ["..", ".hidden", "-rf", "a/b", "a\0b", "", "\n", "büro pc 7", "x" * 300, "名" * 100, "a|b"]
)
def test_names_that_are_no_file_names(name: str) -> None:
    safe = safe_name(name)
    assert "/" not in safe
    assert "\0" not in safe
    assert safe[0] not in ".-"
    assert len(safe.encode()) < 200
    assert safe != safe_name(name + "x")


def test_no_two_screens_share_a_file() -> None:
    stems = [file_stem("web", 0), file_stem("web", 1), file_stem("web-1", 0), file_stem("web~1", 0)]
    assert stems[:3] == ["web", "web~1", "web-1"]
    assert len(set(stems)) == 4


def test_names_that_are_kept() -> None:
    assert [safe_name(name) for name in ("web-1", "db_2.example.org", "büro")] == ["web-1", "db_2.example.org", "büro"]
