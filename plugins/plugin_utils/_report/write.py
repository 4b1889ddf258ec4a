# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The report as files: rendered, compared with what is there, and put in its place in one step.

Private to this collection.

A file that differs from what is there in nothing but its times has not changed. It is brought up to date all the same:
a page or a metric that told an old time would say that nobody had looked since.
"""

from __future__ import annotations

import os
import re
import secrets
import typing as t
from contextlib import suppress

from ansible_collections.kvmops.console.plugins.plugin_utils._report import html, prometheus, tables
from ansible_collections.kvmops.console.plugins.plugin_utils._report.model import Json


class Format(t.NamedTuple):
    """`times` matches what may differ between two reports that say the same."""

    extension: str
    render: t.Callable[[Json], str]
    times: re.Pattern[str]


FORMATS = {
    "html": Format("html", html.render, html.TIMES),
    "json": Format("json", tables.render_json, tables.JSON_TIMES),
    "csv": Format("csv", tables.render_csv, tables.NO_TIMES),
    "prometheus": Format("prom", prometheus.render, prometheus.TIMES),
}


class Planned(t.NamedTuple):
    """A file to be: `before` is what is there, None where nothing is."""

    path: str
    before: str | None
    after: str
    changed: bool


def plan(report: Json, folder: str, basename: str, formats: t.Iterable[str]) -> dict[str, Planned]:
    """Render every format and compare it with the file that is there. Changes nothing."""
    planned: dict[str, Planned] = {}
    for name in formats:
        kind = FORMATS[name]
        path = os.path.join(folder, f"{basename}.{kind.extension}")
        before, after = _read(path), kind.render(report)
        changed = before is None or kind.times.sub("", before) != kind.times.sub("", after)
        planned[name] = Planned(path, before, after, changed)
    return planned


def apply(folder: str, planned: t.Iterable[Planned]) -> None:
    """Write what differs, the times included."""
    os.makedirs(folder, exist_ok=True)
    for file in planned:
        if file.before != file.after:
            _replace(file.path, file.after)


def _read(path: str) -> str | None:
    try:
        with open(path, encoding="utf-8", errors="replace", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return None


def _replace(path: str, content: str) -> None:
    """Whoever reads the file sees the old or the new one, never half of it.

    A new file gets 0644 less the umask; one that is there keeps its permissions.
    """
    temporary = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{secrets.token_hex(6)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        with open(descriptor, "w", encoding="utf-8", newline="") as file:
            file.write(content)
            file.flush()
            with suppress(FileNotFoundError):
                os.fchmod(descriptor, os.stat(path).st_mode & 0o777)
            os.fsync(descriptor)
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
