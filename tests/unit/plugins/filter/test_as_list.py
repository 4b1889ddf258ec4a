# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.kvmops.console.plugins.filter.as_list import FilterModule

as_list = FilterModule().filters()["as_list"]


@pytest.mark.parametrize(
    ("given", "items"),
    [
        (["web-1", "a,b"], ["web-1", "a,b"]),
        (("web-1",), ["web-1"]),
        ("web-1\nweb-2\r\n\n  db-* \n", ["web-1", "web-2", "db-*"]),
        ("web-1, web-2,", ["web-1", "web-2"]),
        ("web 1", ["web 1"]),
        ('["a,b", 1]', ["a,b", 1]),
        ("[ab]-1\n[cd]-2", ["[ab]-1", "[cd]-2"]),
        ("", []),
        (" \n", []),
        (None, []),
        (42, ["42"]),
    ],
    ids=["list", "tuple", "lines", "commas", "one", "json", "globs", "nothing", "blank", "none", "number"],
)
def test_what_surveys_and_inventories_give(given: t.Any, items: list[t.Any]) -> None:
    assert as_list(given) == items


def test_glob_for_all_is_no_item_on_demand() -> None:
    assert as_list("web-1\n**", empty_for_all=True) == []
    assert as_list(["*"], empty_for_all=True) == []
    assert as_list("web-*", empty_for_all=True) == ["web-*"]
    assert as_list(["", 7], empty_for_all=True) == ["", 7]
    assert as_list("*") == ["*"]


@pytest.mark.parametrize("given", [{"web-1": 1}, object], ids=["dictionary", "class"])
def test_what_cannot_be_meant(given: t.Any) -> None:
    with pytest.raises(AnsibleFilterError, match="as_list takes a list, or text with an item a line"):
        as_list(given)
