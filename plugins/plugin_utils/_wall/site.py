# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The wall as files: pages, data and metrics, planned from what was registered, and then written.

Private to this collection.
"""

from __future__ import annotations

import json
import os
import re
import typing as t
from contextlib import suppress

from ansible_collections.kvmops.console.plugins.module_utils._files import read_whole
from ansible_collections.kvmops.console.plugins.plugin_utils._report import write
from ansible_collections.kvmops.console.plugins.plugin_utils._report.model import Json
from ansible_collections.kvmops.console.plugins.plugin_utils._wall import html, pictures, prometheus

INDEX, DATA, METRICS = "index.html", "wall.json", "kvmops-screens.prom"

_JSON_TIMES = re.compile(r'"(?:generated_at|captured_at)": "[^"]*"|"unchanged_for": [0-9.]+')


class Site(t.NamedTuple):
    """All that is to be done. `pages` are the files of text; `show` has the pictures."""

    pages: dict[str, write.Planned]
    show: pictures.Exhibition

    @property
    def changed(self) -> bool:
        """Whether anything but a time differs from what is there."""
        return bool(self.show.writes or self.show.removals) or any(page.changed for page in self.pages.values())


def known(folder: str) -> t.Any:
    """What wall.json says, unchecked; None where there is none that can be read."""
    data = read_whole(os.path.join(folder, DATA))
    with suppress(ValueError):
        return json.loads(data or b"null")
    return None


def plan(wall: Json, folder: str, rules: pictures.Rules, *, metrics: str | None = None, refresh: int = 0) -> Site:
    """Decide on every file. Changes nothing but `wall`, whose screens lose pictures that are not theirs.

    Raises MissingLibrary without Pillow.
    """
    show = pictures.curate(folder, wall, rules)
    pages = {"html": _planned(os.path.join(folder, INDEX), html.render_fleet(wall, show, refresh), html.TIMES)}
    machines: dict[str, list[Json]] = {}
    for screen in wall["screens"]:
        machines.setdefault(html.machine_page(screen["host"], screen["name"]), []).append(screen)
    for page, screens in machines.items():
        pages[page] = _planned(os.path.join(folder, page), html.render_machine(wall, screens, show), html.TIMES)
    path = metrics or os.path.join(folder, METRICS)
    pages["prometheus"] = _planned(path, prometheus.render(wall), prometheus.TIMES)
    # Last, for its pictures are what the next run takes for granted.
    pages["json"] = _planned(os.path.join(folder, DATA), _data(wall), _JSON_TIMES)
    gone = sorted(_pages_there(folder) - {page.path for page in pages.values()})
    return Site(pages, show._replace(removals=[*show.removals, *gone]))


def apply(folder: str, site: Site) -> None:
    """Write the pictures, then the pages that show them; then remove. Raises InputError, OSError."""
    os.makedirs(folder, exist_ok=True)
    pictures.apply(site.show._replace(removals=[]))
    for page in site.pages.values():
        write.apply(os.path.dirname(page.path), [page])
    pictures.apply(site.show._replace(writes={}))


def _planned(path: str, after: str, times: re.Pattern[str]) -> write.Planned:
    data = read_whole(path)
    before = data.decode("utf-8", "replace") if data is not None else None
    changed = before is None or times.sub("", before) != times.sub("", after)
    return write.Planned(path, before, after, changed)


def _data(wall: Json) -> str:
    """A line a screen, so that differences can be read."""
    parts = [f"{json.dumps(key)}: {_value(value)}" for key, value in wall.items()]
    return "{\n" + ",\n".join(parts) + "\n}\n"


def _value(value: t.Any) -> str:
    if not isinstance(value, list) or not value:
        return json.dumps(value)
    return "[\n" + ",\n".join(json.dumps(item) for item in value) + "\n]"


def _pages_there(folder: str) -> set[str]:
    """The machines' pages of earlier runs."""
    return {
        os.path.join(below, name)
        for below, _folders, names in os.walk(os.path.join(folder, "machines"))
        for name in names
        if name.endswith(".html")
    }
