# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter as_list. Documented in as_list.yml."""

from __future__ import annotations

import json
import re
import typing as t

from ansible.errors import AnsibleFilterError


def as_list(given: t.Any, empty_for_all: bool = False) -> list[t.Any]:
    """A list as it is; text, taken apart at commas and ends of lines, or as the JSON list that it is.

    On demand no item, where one of them is a glob that means all there are.
    """
    items = _items(given)
    everything = any(isinstance(item, str) and item and not item.strip("*") for item in items)
    return [] if empty_for_all and everything else items


def _items(given: t.Any) -> list[t.Any]:
    if given is None:
        return []
    if isinstance(given, str):
        return _from_text(given.strip())
    if isinstance(given, (bool, int, float)):
        return [str(given)]  # Ansible takes text from AWX that looks like a number for one.
    if isinstance(given, t.Iterable) and not isinstance(given, t.Mapping):
        return list(given)
    raise AnsibleFilterError(f"as_list takes a list, or text with an item a line, and not {given!r}.")


def _from_text(text: str) -> list[t.Any]:
    if text.startswith("["):
        try:
            found = json.loads(text)
        except ValueError:
            found = None  # A glob may begin like this.
        if isinstance(found, list):
            return found
    return [part.strip() for part in re.split(r"[,\r\n]", text) if part.strip()]


class FilterModule:
    """What Ansible asks a filter plugin for."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        """By name."""
        return {"as_list": as_list}
