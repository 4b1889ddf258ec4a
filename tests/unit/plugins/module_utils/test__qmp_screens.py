# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which screens a QEMU has, as its object tree tells. Real trees are in tests/integration/qmp."""

from __future__ import annotations

from typing import Any, Optional

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _qmp_screens
from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError, QmpRefused
from ansible_collections.kvmops.console.plugins.module_utils._qmp_screens import ALL, Head

NAMED, NAMELESS = "/machine/peripheral/", "/machine/peripheral-anon/"


class Monitor:
    """QEMU's answers about its tree: by console its device and head; None for one that has no such properties."""

    def __init__(self, *consoles: Optional[tuple[str, int]]) -> None:
        self.consoles = consoles

    def execute(self, command: str, arguments: Any = None) -> Any:
        if command == "qom-list":
            assert arguments == {"path": "/backend"}
            names = ["type", *(f"console[{number}]" for number in reversed(range(len(self.consoles))))]
            return [{"name": name, "type": "x"} for name in names]
        assert command == "qom-get"
        console = self.consoles[int(arguments["path"][len("/backend/console[") : -1])]
        if console is None:
            raise QmpRefused("Property not found.", "GenericError", "Property not found")
        return console[("device", "head").index(arguments["property"])]


CARDS = ((f"{NAMED}video0", 0), (f"{NAMED}video0", 1), (f"{NAMED}video1", 0), (f"{NAMELESS}device[3]", 0))
TEXT = (("", 0), None)
DESK = Monitor(*CARDS, *TEXT)


def choose(monitor: Monitor, device: str, head: int) -> list[Head]:
    return _qmp_screens.choose(monitor, device, head)  # type: ignore[arg-type]


def test_all_of_a_machine() -> None:
    first, second, third, nameless = choose(DESK, "", ALL)
    assert first == Head(0, "", 0), "the primary console goes by that name"
    assert (second, third) == (Head(1, "video0", 1), Head(2, "video1", 0))
    assert (nameless.number, nameless.device) == (3, None)


def test_one_of_a_machine() -> None:
    assert choose(DESK, "", 2) == [Head(2, "video1", 0)]
    with pytest.raises(InputError, match=r"^it has no head 4: its heads are 0 to 3\.$"):
        choose(DESK, "", 4)


def test_all_of_a_device() -> None:
    assert choose(DESK, "video0", ALL) == [Head(0, "video0", 0), Head(1, "video0", 1)]
    assert choose(DESK, "video0", 1) == [Head(1, "video0", 1)]
    for device in ("nix", "device[3]"):
        with pytest.raises(InputError, match=r"^it has no device "):
            choose(DESK, device, ALL)


def test_order_is_by_number() -> None:
    many = Monitor(*((f"{NAMED}video{number}", 0) for number in range(12)))
    assert [head.device for head in choose(many, "", ALL)] == ["", *(f"video{number}" for number in range(1, 12))]


def test_a_machine_without_a_screen() -> None:
    with pytest.raises(InputError, match=r"^it has no display device, so there is no screen\.$"):
        choose(Monitor(*TEXT), "", ALL)
