# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which screens a QEMU has, and how a screendump names each of them.

Private to this collection.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError, QmpRefused
from ansible_collections.kvmops.console.plugins.module_utils._qmp import Monitor

ALL = -1
"""For a head: every one that there is."""

# QEMU hangs its consoles up here, in their order, the graphical ones first (ui/console.c, init_displaystate(), 1.4 on).
_CONSOLES = "/backend"
_CONSOLE = re.compile(r"console\[(\d+)\]")
# Devices that were given an id=, by which alone screendump finds one.
_NAMED = "/machine/peripheral/"


class Head(t.NamedTuple):
    """A screen: `number` is its own in the machine or device that was asked for.

    `device`, "" for the primary console, and `head` are what screendump calls it; None for what it has no name for.
    """

    number: int
    device: str | None
    head: int


class Console(t.NamedTuple):
    """A graphical console. `device` is the id of its display device, "" where that has none."""

    device: str
    head: int


def choose(monitor: Monitor, device: str, head: int) -> list[Head]:
    """The screens that are meant by the id of a display device, or "" for the whole machine, and a number or ALL.

    Raises InputError for a screen that is not there, and what execute() raises.
    """
    found = consoles(monitor)
    if not device:
        return _of_machine(found, head)
    heads = [Head(one.head, device, one.head) for one in found if one.device == device and head in (ALL, one.head)]
    if not heads:
        raise InputError(f"it has no device {device} with such a screen: give the id= of a display device.")
    return heads


def _of_machine(found: list[Console], head: int) -> list[Head]:
    if not found:
        raise InputError("it has no display device, so there is no screen.")
    if head >= len(found):
        raise InputError(f"it has no head {head}: its heads are 0 to {len(found) - 1}.")
    # As the primary console most ask for it, and share its picture.
    heads = [Head(0, "", 0)]
    heads += [Head(number, one.device or None, one.head) for number, one in enumerate(found) if number]
    return heads if head == ALL else [heads[head]]


def consoles(monitor: Monitor) -> list[Console]:
    """The graphical consoles, the primary one first."""
    names = (_CONSOLE.fullmatch(entry["name"]) for entry in monitor.execute("qom-list", {"path": _CONSOLES}))
    numbers = sorted(int(name[1]) for name in names if name)
    found = (_console(monitor, f"{_CONSOLES}/console[{number}]") for number in numbers)
    return [console for console in found if console is not None]


def _console(monitor: Monitor, path: str) -> Console | None:
    """None for a console of text, which has no device."""
    try:
        device: str = monitor.execute("qom-get", {"path": path, "property": "device"})
    except QmpRefused:
        return None  # from QEMU 8.1 on it has not even the property
    if not device:
        return None
    head: int = monitor.execute("qom-get", {"path": path, "property": "head"})
    name = device[len(_NAMED) :] if device.startswith(_NAMED) else ""
    return Console(name if "/" not in name else "", head)
