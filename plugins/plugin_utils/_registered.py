# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the hosts of a play have registered, as their tasks returned it.

Private to this collection.
"""

from __future__ import annotations

import typing as t

Json = dict[str, t.Any]


def hosts(variables: Json, chosen: t.Sequence[str] | None) -> list[str]:
    """The hosts that are meant, once each: those that the task names, else all of the play, failed ones included."""
    names = chosen if chosen is not None else variables.get("ansible_play_hosts_all", [])
    return list(dict.fromkeys(map(str, names)))


def value(variables: Json, host: str, name: str | None) -> t.Any:
    """A host's registered result as it is, or None: looking for templates in it is wrong, for what guests and screens
    say is nobody's template, and takes minutes for a large fleet.

    Something else than a result may be a template that leads to one.
    """
    everything = variables["hostvars"]
    if name is None or host not in everything or name not in everything.raw_get(host):
        return None
    raw = everything.raw_get(host)[name]
    return raw if isinstance(raw, t.Mapping) else everything[host][name]
