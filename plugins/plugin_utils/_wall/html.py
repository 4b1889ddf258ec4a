# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The wall as HTML: one self-contained page for the fleet, and one a machine with its history. No script, no network.

Private to this collection.

The fleet's page carries its small pictures in itself, so that it can be mailed; the large ones lie beside it.
"""

from __future__ import annotations

import os
import re
import typing as t
from collections import Counter
from functools import lru_cache
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment

from ansible_collections.kvmops.console.plugins.module_utils._picture_names import safe_name
from ansible_collections.kvmops.console.plugins.plugin_utils import _pages
from ansible_collections.kvmops.console.plugins.plugin_utils._report.model import Json
from ansible_collections.kvmops.console.plugins.plugin_utils._wall.model import (
    FAILED,
    OFF,
    PRIVATE,
    SEEN,
    STALE,
    key_of,
    moment,
)
from ansible_collections.kvmops.console.plugins.plugin_utils._wall.pictures import Entry, Exhibition

TIMES = re.compile(r"<time[^>]*>[^<]*</time>")

KIND_WORDS = {
    "panic": "crashed",
    "boot_menu": "boot menu",
    "login": "login prompt",
    "text": "text",
    "graphics": "graphics",
    "blank": "blank",
    "no_signal": "no signal",
    "unknown": "kind not known",
}
STATUS_WORDS = {SEEN: "seen", FAILED: "no new picture", STALE: "host silent", OFF: "off", PRIVATE: "private"}

FLAGS: dict[str, tuple[str, t.Callable[[Json], bool]]] = {
    "n": ("need attention", lambda screen: screen["status"] in (FAILED, STALE) or _shows(screen, "panic")),
    "p": ("crashed", lambda screen: _shows(screen, "panic")),
    "l": ("login prompt", lambda screen: _shows(screen, "login")),
    "m": ("boot menu", lambda screen: _shows(screen, "boot_menu")),
    "t": ("text", lambda screen: _shows(screen, "text")),
    "g": ("graphics", lambda screen: _shows(screen, "graphics")),
    "b": ("blank or no signal", lambda screen: _shows(screen, "blank", "no_signal")),
    "f": ("no new picture", lambda screen: screen["status"] in (FAILED, STALE)),
    "o": ("off", lambda screen: screen["status"] == OFF),
    "x": ("private", lambda screen: screen["status"] == PRIVATE),
}
"""What screens can be filtered by."""

HOSTS_AT_A_GLANCE = 12
"""Above so many the choice of hosts is folded."""


def machine_page(host: str, name: str) -> str:
    """The path of a machine's page, below the wall's folder."""
    return f"machines/{safe_name(host)}/{safe_name(name)}.html"


def render_fleet(wall: Json, show: Exhibition, refresh: int) -> str:
    """The page of all screens; `refresh` is after how many seconds it loads itself again, 0 for never."""
    screens = wall["screens"]
    numbers = {host["name"]: number for number, host in enumerate(wall["hosts"], 1)}
    groups = _by_host(wall)
    filters = [(flag, label, sum(map(is_so, screens))) for flag, (label, is_so) in FLAGS.items()]
    return (
        _environment()
        .get_template("fleet.html.j2")
        .render(
            wall=wall,
            groups=groups,
            numbers=numbers,
            filters=[entry for entry in filters if entry[2]],
            nothing=[
                (number, flag)
                for number, of in [(numbers[host["name"]], of) for host, of in groups]
                for flag, _label, total in filters
                if total and not any(map(FLAGS[flag][1], of))
            ],
            folded=len(numbers) > HOSTS_AT_A_GLANCE,
            headline=_headline(wall),
            inline=show.inline,
            pages={key_of(screen): machine_page(screen["host"], screen["name"]) for screen in screens},
            refresh=refresh,
            **_WORDS,
        )
    )


def render_machine(wall: Json, screens: list[Json], show: Exhibition) -> str:
    """The page of one machine, whose screens these are: what it shows and what it showed."""
    page = machine_page(screens[0]["host"], screens[0]["name"])
    histories = [_timeline(show.histories[key_of(screen)], show, page, wall["generated_at"]) for screen in screens]
    return (
        _environment()
        .get_template("machine.html.j2")
        .render(
            wall=wall,
            screens=list(zip(screens, histories)),
            host=screens[0]["host"],
            name=screens[0]["name"],
            small={sha: _beside(page, path) for sha, path in show.thumbnails.items() if _in(sha, screens)},
            large={key_of(s): _beside(page, s["picture"]) for s in screens if s["picture"]},
            animations={key: _beside(page, path) for key, path in show.animations.items()},
            home=_beside(page, "index.html"),
            **_WORDS,
        )
    )


def _in(sha256: str, screens: list[Json]) -> bool:
    return any(screen["sha256"] == sha256 for screen in screens)


def _timeline(past: list[Entry], show: Exhibition, page: str, now: str) -> list[Json]:
    """The history, newest first, each with how long it stood until the next one."""
    ends = [entry.about["captured_at"] for entry in past[1:]] + [None]
    return [
        {
            **entry.about,
            "until": end,
            "lasted": _span(entry.about["captured_at"], end or now),
            "large": _beside(page, "/".join(entry.path.split(os.sep)[-5:])),
            "small": _beside(page, show.thumbnails[entry.about["sha256"]]),
        }
        for entry, end in reversed(list(zip(past, ends)))
    ]


def _beside(page: str, path: str) -> str:
    """The link from a page to a file, both below the wall's folder."""
    return quote(os.path.relpath(path, os.path.dirname(page)))


def _by_host(wall: Json) -> list[tuple[Json, list[Json]]]:
    of: dict[str, list[Json]] = {host["name"]: [] for host in wall["hosts"]}
    for screen in wall["screens"]:
        of[screen["host"]].append(screen)
    return [(host, of[host["name"]]) for host in wall["hosts"]]


def _headline(wall: Json) -> str:
    statuses = Counter(screen["status"] for screen in wall["screens"])
    crashed = sum(_shows(screen, "panic") for screen in wall["screens"])
    silent = sum(host["status"] != "ok" for host in wall["hosts"])
    said = [f"{_counted(statuses[SEEN], 'screen')} seen on {_counted(len(wall['hosts']), 'host')}."]
    if crashed:
        said.append(f"{_counted(crashed, 'machine')} seem{'s' if crashed == 1 else ''} to have crashed.")
    if statuses[FAILED] + statuses[STALE]:
        said.append(f"No new picture of {_counted(statuses[FAILED] + statuses[STALE], 'screen')}.")
    if silent:
        said.append(f"{_counted(silent, 'host')} could not be asked completely.")
    return " ".join(said)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number:,} {noun}s"


def _shows(screen: Json, *kinds: str) -> bool:
    return screen["status"] == SEEN and screen["kind"] in kinds


def _flags_of(screens: list[Json]) -> str:
    return " ".join(f"is-{flag}" for flag, (_label, is_so) in FLAGS.items() if any(map(is_so, screens)))


def _alt(screen: Json) -> str:
    """What a person who does not see the picture is to know of it."""
    said = f"Screen {screen['head']} of {screen['name']}" if screen.get("head") else f"Screen of {screen.get('name')}"
    return f"{said}: {_about(screen)}"


def _about(picture: Json) -> str:
    """Its kind, and the last line that it shows, which is mostly the one that matters."""
    lines = [line.strip() for line in (picture["text"] or "").split("\n") if line.strip()]
    last = f", the last line is: {lines[-1][:120]}" if lines else ""
    return f"{KIND_WORDS.get(picture['kind'], picture['kind'])}{last}"


def _clock(iso: str) -> str:
    """2026-11-20T09:05:07.5Z as a person writes it: 2026-11-20 09:05:07 UTC."""
    return f"{moment(iso):%Y-%m-%d %H:%M:%S} UTC"


def _span(start: str, end: str) -> str:
    """How much time lies between, roughly: 40 s, 12 min, 5 h, 3 days."""
    return _rough(max((moment(end) - moment(start)).total_seconds(), 0.0))


def _rough(seconds: float) -> str:
    for limit, unit, name in ((120, 1, "s"), (7200, 60, "min"), (172800, 3600, "h")):
        if seconds < limit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds / 86400:.0f} days"


_WORDS: Json = {
    "kind_words": KIND_WORDS,
    "status_words": STATUS_WORDS,
    "flags": list(FLAGS),
    "flags_of": _flags_of,
    "key_of": key_of,
    "alt": _alt,
    "about": _about,
    "span": _span,
}


@lru_cache
def _environment() -> Environment:
    return _pages.environment(Path(__file__).parent, clock=_clock, rough=_rough, url=quote)
