# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Metrics as Prometheus reads them, for the textfile collector of node_exporter.

Private to this collection.

The text exposition format 0.0.4: HELP and TYPE before a metric's samples, each metric's samples together, label values
with backslash, double quote and newline escaped.
"""

from __future__ import annotations

import typing as t

Labels = dict[str, str]
Sample = tuple[Labels, int]
"""Labels and a value."""


def gauge(name: str, text: str, samples: t.Iterable[Sample]) -> str:
    """All lines of the gauge `kvmops_console_<name>`, with what `text` says of it."""
    lines = [f"# HELP kvmops_console_{name} {text}", f"# TYPE kvmops_console_{name} gauge"]
    lines += [f"kvmops_console_{name}{{{_labels(labels)}}} {value}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _labels(labels: Labels) -> str:
    return ",".join(f'{key}="{_escape(value)}"' for key, value in labels.items())


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
