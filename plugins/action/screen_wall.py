# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes the wall of screens on the controller. Documented in plugins/modules/screen_wall.py."""

from __future__ import annotations

import typing as t
from datetime import datetime, timezone

from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError
from ansible_collections.kvmops.console.plugins.plugin_utils import _registered
from ansible_collections.kvmops.console.plugins.plugin_utils._on_controller import OncePerPlay, not_written
from ansible_collections.kvmops.console.plugins.plugin_utils._wall import model, site
from ansible_collections.kvmops.console.plugins.plugin_utils._wall.pictures import Rules

Json = dict[str, t.Any]

ARGUMENT_SPEC: Json = {
    "dest": {"type": "path", "required": True},
    "hosts": {"type": "list", "elements": "str"},
    "variable": {"type": "list", "elements": "str", "default": ["kvmops_screens"]},
    "title": {"type": "str", "default": "Screens"},
    "metrics": {"type": "path"},
    "refresh": {"type": "int", "default": 0},
    "thumbnail": {"type": "int", "default": 360},
    "animate": {"type": "int", "default": 12},
    "history": {
        "type": "dict",
        "options": {
            "keep": {"type": "int", "default": 48},
            "keep_for": {"type": "float", "default": 604800.0},
            "max_bytes": {"type": "int", "default": 1073741824},
        },
    },
}


class ActionModule(OncePerPlay):
    """Collects, merges, writes."""

    ARGUMENT_SPEC = ARGUMENT_SPEC

    def act(self, options: Json, variables: Json) -> Json:
        rules = _rules(options)
        folder = self._loader.path_dwim(options["dest"])
        wall = model.build(
            _results(variables, options),
            site.known(folder),
            title=options["title"],
            generated_at=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        metrics = self._loader.path_dwim(options["metrics"]) if options["metrics"] else None
        try:
            planned = site.plan(wall, folder, rules, metrics=metrics, refresh=options["refresh"])
            if not self._task.check_mode:
                site.apply(folder, planned)
        except OSError as error:
            raise not_written("The wall", folder, error) from error
        return {
            "changed": planned.changed,
            "files": {name: planned.pages[name].path for name in ("html", "json", "prometheus")},
            "summary": model.flat_counts(wall),
        }


def _rules(options: Json) -> Rules:
    history = options["history"] or {name: spec["default"] for name, spec in _HISTORY.items()}
    rules = Rules(**history, width=options["thumbnail"], animate=options["animate"])
    if not 16 <= rules.width <= 4096:
        raise InputError(f"thumbnail is a width from 16 to 4096 pixels, not {rules.width}.")
    for name in ("keep", "keep_for", "max_bytes"):
        if getattr(rules, name) < 0:
            raise InputError(f"history.{name} is 0 or more, not {getattr(rules, name):g}.")
    if options["refresh"] < 0 or not 0 <= rules.animate <= 200:
        raise InputError("refresh is a number of seconds from 0 on, and animate a number from 0 to 200.")
    return rules


_HISTORY: Json = ARGUMENT_SPEC["history"]["options"]


def _results(variables: Json, options: Json) -> list[tuple[str, t.Any]]:
    names = dict.fromkeys(options["variable"])
    return [
        (host, _registered.value(variables, host, name))
        for host in _registered.hosts(variables, options["hosts"])
        for name in names
    ]
