# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Maintenance windows, and the test in_window on them."""

from __future__ import annotations

import typing as t
from datetime import datetime

import pytest
from ansible.errors import AnsibleFilterError

from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError
from ansible_collections.kvmops.console.plugins.plugin_utils._window import parse
from ansible_collections.kvmops.console.plugins.test import in_window as plugin

in_window = plugin.TestModule().tests()["in_window"]


def at(said: str) -> datetime:
    """A moment of the week of 16 November 2026, a Monday: "fri 22:00"."""
    day, time = said.split()
    number = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"].index(day)
    return datetime.fromisoformat(f"2026-11-{16 + number}T{time}:00")


DAY = {"start": "09:00", "end": "17:30"}
NIGHT = {"start": "22:00", "end": "05:00", "days": ["fri", "sun"]}


@pytest.mark.parametrize(
    ("window", "moment", "inside"),
    [
        (DAY, "mon 08:59", False),
        (DAY, "mon 09:00", True),
        (DAY, "sun 17:29", True),
        (DAY, "sun 17:30", False),
        ({**DAY, "days": ["TUE"]}, "tue 12:00", True),
        ({**DAY, "days": ["tue"]}, "wed 12:00", False),
        (NIGHT, "fri 21:59", False),
        (NIGHT, "fri 22:00", True),
        (NIGHT, "sat 04:59", True),
        (NIGHT, "sat 05:00", False),
        (NIGHT, "fri 04:00", False),
        (NIGHT, "sat 23:00", False),
        (NIGHT, "mon 03:00", True),
        ({"start": "00:00", "end": "24:00"}, "wed 23:59", True),
        ({"start": 1320, "end": 300}, "wed 23:00", True),
        ({"start": "9:00", "end": "9:00"}, "wed 09:00", True),
        ({}, "wed 23:59", True),
    ],
)
def test_in_window(window: dict[str, t.Any], moment: str, inside: bool) -> None:
    assert in_window(at(moment), window) is inside


@pytest.mark.parametrize(
    ("window", "message"),
    [
        ({"start": "09:00"}, "A maintenance window has start, end and days, and not start."),
        ({"from": "1:00", "to": "2:00"}, "A maintenance window has start, end and days, and not from, to."),
        ({"start": "25:00", "end": "02:00"}, "A maintenance window's start is a time like 22:00, and not '25:00'."),
        ({"start": "01:00", "end": "2am"}, "A maintenance window's end is a time like 22:00, and not '2am'."),
        ({"start": "01:00", "end": 99999}, "A maintenance window's end is a time like 22:00, and not 99999."),
        (
            {**DAY, "days": ["friday"]},
            "A maintenance window's days are mon, tue, wed, thu, fri, sat, sun, and not friday.",
        ),
    ],
)
def test_what_is_no_window_is_told(window: dict[str, t.Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse(window)
    assert str(caught.value) == message
    with pytest.raises(AnsibleFilterError, match="maintenance window"):
        in_window(at("mon 12:00"), window)


@pytest.mark.parametrize(("moment", "window"), [("now", {}), (at("mon 12:00"), "22:00-05:00")])
def test_what_is_no_moment_or_no_window_at_all_is_told(moment: t.Any, window: t.Any) -> None:
    with pytest.raises(AnsibleFilterError, match=r"^in_window takes a moment"):
        in_window(moment, window)
