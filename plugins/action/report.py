# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes a report on the controller from what the hosts' tasks registered. Documented in plugins/modules/report.py."""

from __future__ import annotations

import json
import os
import typing as t
from datetime import datetime, timezone

from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError
from ansible_collections.kvmops.console.plugins.plugin_utils import _registered
from ansible_collections.kvmops.console.plugins.plugin_utils._on_controller import OncePerPlay, not_written
from ansible_collections.kvmops.console.plugins.plugin_utils._report import model, write

Json = dict[str, t.Any]

ARGUMENT_SPEC: Json = {
    "dest": {"type": "path", "required": True},
    "hosts": {"type": "list", "elements": "str"},
    "before": {"type": "str", "default": "kvmops_audit_before"},
    "after": {"type": "str"},
    "changes": {"type": "str"},
    "formats": {
        "type": "list",
        "elements": "str",
        "choices": ["html", "json", "csv", "prometheus"],
        "default": ["html", "json", "csv", "prometheus"],
    },
    "title": {"type": "str", "default": "Console report"},
    "basename": {"type": "str", "default": "console-report"},
}


class ActionModule(OncePerPlay):
    """Collects, merges, writes."""

    ARGUMENT_SPEC = ARGUMENT_SPEC

    def act(self, options: Json, variables: Json) -> Json:
        report = model.build(
            _results(variables, options),
            model.Asked(options["before"], options["after"], options["changes"]),
            title=options["title"],
            generated_at=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        )
        folder = self._loader.path_dwim(options["dest"])
        try:
            planned = write.plan(report, folder, _basename(options["basename"]), dict.fromkeys(options["formats"]))
            if not self._task.check_mode:
                write.apply(folder, planned.values())
        except OSError as error:
            raise not_written("The report", folder, error) from error
        result: Json = {
            "changed": any(file.changed for file in planned.values()),
            "files": {name: file.path for name, file in planned.items()},
            "summary": model.flat_counts(report),
        }
        if self._task.diff:
            result["diff"] = _diff(report, planned)
        return result


def _results(variables: Json, options: Json) -> list[model.HostResults]:
    names = [options["before"], options["after"], options["changes"]]
    return [
        model.HostResults(host, *(_registered.value(variables, host, name) for name in names))
        for host in _registered.hosts(variables, options["hosts"])
    ]


def _basename(name: str) -> str:
    if name in ("", ".", "..") or os.path.basename(name) != name or "\0" in name:
        raise InputError(f"basename is to be the name of a file without a folder, and {name!r} is none.")
    return name


def _diff(report: Json, planned: t.Mapping[str, write.Planned]) -> list[Json]:
    """The figures before and after, not the pages."""
    now = _figures(report)
    known = planned.get("json")
    old = _figures_of_file(known.before) if known and known.before is not None else ""
    return [
        {
            "before_header": file.path if file.before is not None else f"{file.path} (absent)",
            "after_header": file.path,
            "before": old if file.before is not None else "",
            "after": now,
        }
        for file in planned.values()
        if file.changed
    ]


def _figures(report: Json) -> str:
    return "".join(f"{key}: {value}\n" for key, value in model.flat_counts(report).items())


def _figures_of_file(content: str) -> str:
    try:
        return _figures(json.loads(content))
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""  # Written by something else, or by another version.
