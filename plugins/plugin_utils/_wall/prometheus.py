# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The wall as Prometheus metrics, for the textfile collector of node_exporter.

Private to this collection.

Times are timestamps, not ages: an age in a file would stand still. What is not known has no sample.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.kvmops.console.plugins.plugin_utils._prometheus import Sample, gauge
from ansible_collections.kvmops.console.plugins.plugin_utils._report.model import Json
from ansible_collections.kvmops.console.plugins.plugin_utils._wall.model import FAILED, SEEN, STALE, moment

TIMES = re.compile(r"(?m)^kvmops_console_(?:wall_timestamp|screen_timestamp|screen_unchanged)_seconds(?:\{| ).*$")


def render(wall: Json) -> str:
    """All metrics; every one a gauge."""
    return "".join(gauge(name, text, samples(wall)) for name, text, samples in METRICS)


def _host_up(wall: Json) -> t.Iterator[Sample]:
    for host in wall["hosts"]:
        yield {"host": host["name"]}, int(host["status"] == "ok")


def _written(wall: Json) -> t.Iterator[Sample]:
    yield {}, int(moment(wall["generated_at"]).timestamp())


def _taken(wall: Json) -> t.Iterator[Sample]:
    for screen in _pictured(wall):
        yield _names(screen), int(moment(screen["captured_at"]).timestamp())


def _unchanged(wall: Json) -> t.Iterator[Sample]:
    for screen in _pictured(wall):
        if screen["unchanged_for"] is not None:
            yield _names(screen), int(screen["unchanged_for"])


def _kind(wall: Json) -> t.Iterator[Sample]:
    for screen in wall["screens"]:
        if screen["status"] == SEEN:
            yield {**_names(screen), "kind": screen["kind"]}, 1


def _up(wall: Json) -> t.Iterator[Sample]:
    for screen in wall["screens"]:
        if screen["status"] in (SEEN, FAILED, STALE):
            yield _names(screen), int(screen["status"] == SEEN)


def _pictured(wall: Json) -> list[Json]:
    return [screen for screen in wall["screens"] if screen["captured_at"]]


def _names(screen: Json) -> dict[str, str]:
    return {"host": screen["host"], "domain": screen["name"], "head": str(screen["head"])}


METRICS: tuple[tuple[str, str, t.Callable[[Json], t.Iterator[Sample]]], ...] = (
    ("wall_timestamp_seconds", "When the wall was last written, in seconds since 1970.", _written),
    ("screen_host_up", "Whether all screens of the host could be seen (1) or not (0).", _host_up),
    ("screen_up", "Whether the last look at the screen gave a picture (1) or not (0).", _up),
    ("screen_timestamp_seconds", "When the last picture was taken, in seconds since 1970.", _taken),
    ("screen_unchanged_seconds", "For how long the screen had shown the same when it was taken.", _unchanged),
    ("screen_kind", "What kind of screen it seems to be; always 1.", _kind),
)
