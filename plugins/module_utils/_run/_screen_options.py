# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that every screenshot module has, and what their runs share.

Private to this collection. Documented in plugins/doc_fragments/screens.py.
"""

from __future__ import annotations

import json
import re
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.console.plugins.module_utils import _image, _screen_ocr
from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError, InputError
from ansible_collections.kvmops.console.plugins.module_utils._files import read_whole
from ansible_collections.kvmops.console.plugins.module_utils._run._domain_options import state_directory
from ansible_collections.kvmops.console.plugins.module_utils._screens import (
    History,
    Options,
    Screen,
    Wait,
    WaitFailed,
    shoot,
)

Params = dict[str, t.Any]

PRIVACY_FILE = "/etc/kvmops-console/screens.json"
"""Of the host: {"capture": false} means that nobody may take pictures here."""


def screen_spec(**more: dict[str, t.Any]) -> dict[str, dict[str, t.Any]]:
    """The common options, and a module's own."""
    return {
        "store": {"type": "path"},
        "dest": {"type": "path"},
        "max_age": {"type": "float", "default": 0.0},
        "thumbnail": {"type": "int"},
        "text": {"type": "bool", "default": False},
        "ocr": {"type": "bool", "default": False},
        "timeout": {"type": "float", "default": 30.0},
        "concurrency": {"type": "int", "default": 8},
        "fetch_to": {"type": "path"},
        "history": {
            "type": "dict",
            "options": {
                "keep": {"type": "int", "default": 0},
                "keep_for": {"type": "float"},
                "drop_identical": {"type": "bool", "default": True},
            },
        },
        "wait_for": {
            "type": "dict",
            "mutually_exclusive": [("text", "still", "changed", "image")],
            "required_one_of": [("text", "still", "changed", "image")],
            "options": {
                "text": {"type": "str"},
                "still": {"type": "float"},
                "changed": {"type": "bool"},
                "image": {"type": "path"},
                "similarity": {"type": "float", "default": 0.98},
                "timeout": {"type": "float", "default": 60.0},
            },
        },
        **more,
    }


def screen_options(module: AnsibleModule) -> Options:
    """What the play asks for. Raises InputError."""
    params = module.params
    _positive(params, "timeout", "concurrency", "thumbnail")
    if params["max_age"] < 0:
        raise InputError(f"max_age is a number of seconds, not {params['max_age']:g}: use 0 for a new picture.")
    if params["ocr"] and not _screen_ocr.is_installed():
        module.warn(
            f"Text on graphical screens is not recognized, since this host has no Tesseract: {_screen_ocr.INSTALL}"
        )
    history = params["history"] or {}
    return Options(
        folder=params["store"] or state_directory("screens"),
        dest=params["dest"],
        max_age=params["max_age"],
        thumbnail=params["thumbnail"],
        text=params["text"] or params["ocr"],
        ocr=params["ocr"],
        history=History(**history) if history else History(),
        wait=_wait(params["wait_for"]),
        timeout=params["timeout"],
        enclose=params["fetch_to"] is not None,
    )


def _positive(params: Params, *names: str) -> None:
    for name in names:
        if params[name] is not None and params[name] <= 0:
            raise InputError(f"{name} is more than 0, not {params[name]:g}.")


def _wait(asked: Params | None) -> Wait | None:
    if asked is None:
        return None
    if asked["text"] is not None:
        try:
            re.compile(asked["text"])
        except re.error as e:
            raise InputError(f"wait_for.text is no regular expression: {e}.") from e
    image = None
    if asked["image"] is not None:
        data = read_whole(asked["image"])
        if data is None:
            raise InputError(f"The picture {asked['image']} cannot be read: wait_for.image is a path on the host.")
        image = _image.decode(data)
    return Wait(asked["timeout"], asked["text"], asked["still"], bool(asked["changed"]), image, asked["similarity"])


def host_allows() -> bool:
    """Whether the host's owner lets anybody take pictures; a file that cannot be understood forbids it."""
    data = read_whole(PRIVACY_FILE)
    if data is None:
        return True
    try:
        return bool(json.loads(data).get("capture", True))
    except (ValueError, AttributeError):
        return False


MOST_ENCLOSED = 256 << 20
"""Characters of pictures in one result."""


def check_enclosed(records: t.Sequence[Params]) -> None:
    """Whether the pictures that the records enclose can travel in one result. Raises InputError."""
    if sum(len(screen.get("content", "")) for record in records for screen in record["screens"]) > MOST_ENCLOSED:
        raise InputError("The pictures are too many to be brought home at once: name fewer machines in one task.")


def shoot_each(screens: t.Iterable[Screen], options: Options, tell: t.Callable[[ConsoleError], str]) -> Params:
    """`screens` and `error` of a machine's record. One screen's failure stays with it; `tell` makes it a sentence."""
    records: list[Params] = []
    errors: list[str] = []
    for screen in screens:
        try:
            records.append(shoot(screen, options))
        except WaitFailed as e:
            records.append(e.record)
            errors.append(str(e))
        except ConsoleError as e:
            errors.append(tell(e))
    return {"screens": records, **({"error": " ".join(errors)} if errors else {})}


def finish_record(outcome: Params | BaseException) -> Params:
    """What a machine's record gets from a call that may have failed. Raises what is no error of ours: that is a bug."""
    if isinstance(outcome, ConsoleError):
        return {"error": str(outcome)}
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome
