# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Maintenance windows: whether a moment lies in one.

Private to this collection. Pure.
"""

from __future__ import annotations

import re
import typing as t
from datetime import datetime, timedelta

from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_TIME = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])|24:00")


class Window(t.NamedTuple):
    """From `start` to `end`, minutes since midnight, on `days` (0 is Monday). One that ends before it starts ends on
    the next day, and `days` are those on which it starts.
    """

    start: int
    end: int
    days: frozenset[int]

    def contains(self, moment: datetime) -> bool:
        """Whether the moment is inside; the end is not."""
        minute = moment.hour * 60 + moment.minute
        if self.start < self.end:
            return moment.weekday() in self.days and self.start <= minute < self.end
        began_today = moment.weekday() in self.days and minute >= self.start
        began_yesterday = (moment - timedelta(days=1)).weekday() in self.days and minute < self.end
        return began_today or began_yesterday


def parse(given: t.Mapping[str, t.Any]) -> Window:
    """{start: "22:00", end: "05:00", days: [fri, sat]}; all days where none are named. Raises InputError."""
    unknown = set(given) - {"start", "end", "days"}
    if unknown or not {"start", "end"} <= set(given):
        raise InputError(f"A maintenance window has start, end and days, and not {_listed(given)}.")
    days = [str(day).lower() for day in given.get("days") or DAYS]
    strange = [day for day in days if day not in DAYS]
    if strange:
        raise InputError(f"A maintenance window's days are {', '.join(DAYS)}, and not {', '.join(strange)}.")
    start, end = (_minutes(given[key], key) for key in ("start", "end"))
    return Window(start, end, frozenset(map(DAYS.index, days)))


def _minutes(said: t.Any, which: str) -> int:
    # YAML 1.1 reads 22:00 without quotes as a number in base 60: 1320, which is the minutes.
    if isinstance(said, int) and 0 <= said <= 24 * 60:
        return said
    if not isinstance(said, str) or not _TIME.fullmatch(said):
        raise InputError(f"A maintenance window's {which} is a time like 22:00, and not {said!r}.")
    hours, minutes = said.split(":")
    return int(hours) * 60 + int(minutes)


def _listed(given: t.Mapping[str, t.Any]) -> str:
    return ", ".join(sorted(map(str, given))) or "nothing"
