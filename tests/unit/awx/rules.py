# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What AWX asks of a survey before it takes it (AWX 24.6.1: awx/api/views, the view of a job template's survey)."""

from __future__ import annotations

import typing as t

TYPES: dict[str, type] = {
    "text": str,
    "textarea": str,
    "password": str,
    "multiplechoice": str,
    "multiselect": str,
    "integer": int,
    "float": float,
}


def complaints(spec: t.Any) -> list[str]:
    """Why AWX would refuse it; nothing when it would take it."""
    found = [f"{name} is missing" for name in ("name", "description") if not isinstance(spec.get(name), str)]
    questions = spec.get("spec")
    if not isinstance(questions, list) or not questions:
        return [*found, "there are no questions"]
    variables = [question.get("variable") for question in questions]
    found += [f"{name} is asked twice" for name in set(variables) if variables.count(name) > 1]
    for question in questions:
        found += [f"{question.get('variable')}: {complaint}" for complaint in _of_question(question)]
    return found


def _of_question(question: dict[str, t.Any]) -> t.Iterator[str]:
    for name, kind in (("type", str), ("question_name", str), ("variable", str), ("required", bool)):
        if not isinstance(question.get(name), kind):
            yield f"{name} is to be a {kind.__name__}"
    kind = question.get("type", "")
    if kind not in TYPES:
        yield f"{kind} is no type of a question"
        return
    default = question.get("default", "")
    # A boolean is an integer to isinstance().
    if default != "" and (not isinstance(default, TYPES[kind]) or isinstance(default, bool)):
        yield f"the default {default!r} is no {TYPES[kind].__name__}"
        return
    for name in ("min", "max"):
        if not isinstance(question.get(name), (int, type(None))):
            yield f"{name} is to be a whole number"
    if kind in ("multiplechoice", "multiselect"):
        yield from _of_choices(kind, default, question.get("choices"))


def _of_choices(kind: str, default: str, choices: t.Any) -> t.Iterator[str]:
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, str) for choice in choices):
        yield "the choices are to be a list of texts"
        return
    chosen = [line for line in default.splitlines() if line.strip()]
    if "\n".join(chosen) != default:
        yield "AWX would store another default than it is given"
    if kind == "multiplechoice" and len(chosen) > 1:
        yield "there can be one default only"
    if set(chosen) - set(choices):
        yield "the default is no choice"
