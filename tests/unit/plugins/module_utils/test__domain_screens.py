# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which screens a domain has, and what its owner lets others see."""

from __future__ import annotations

import pytest

from ansible_collections.kvmops.console.plugins.module_utils._domain_screens import choose_heads, heads, privacy
from ansible_collections.kvmops.console.plugins.module_utils._domain_xml import parse
from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError
from ansible_collections.kvmops.console.plugins.module_utils._image import Rectangle

OURS = "https://kvmops.github.io/console/1"


def domain(video: str = "", ours: str = "") -> str:
    console = f"<metadata><k:console xmlns:k='{OURS}'>{ours}</k:console></metadata>" if ours else ""
    return f"<domain>{console}<devices>{video}</devices></domain>"


@pytest.mark.parametrize(
    ("video", "number"),
    [
        ("", 0),
        ("<video><model type='none'/></video>", 0),
        ("<video><model type='vga'/></video>", 1),
        ("<video><model type='virtio' heads='2'/></video><video><model type='qxl'/></video>", 3),
    ],
)
def test_heads(video: str, number: int) -> None:
    assert heads(parse(domain(video))) == number


def test_which_heads_are_meant() -> None:
    two = parse(domain("<video><model type='virtio' heads='2'/></video>"))
    assert choose_heads(two, "all") == [0, 1]
    assert choose_heads(two, "1") == [1]
    with pytest.raises(InputError, match=r"^it has no head 2: its heads are 0 to 1\.$"):
        choose_heads(two, "2")
    for wrong in ("-1", "one", "²", ""):
        with pytest.raises(InputError, match=r"^head is a number or all, not "):
            choose_heads(two, wrong)
    with pytest.raises(InputError, match=r"^it has no video device"):
        choose_heads(parse(domain()), "all")


def test_nothing_said_means_that_all_may_be_seen() -> None:
    assert privacy(parse(domain())) == (True, {})
    assert privacy(parse(domain(ours="<k:powerControl graphics='0'/>"))) == (True, {})


def test_masks_by_head() -> None:
    ours = "<k:mask x='1' y='2' width='3' height='4'/><k:mask head='1' x='5' y='6' width='7' height='8'/>"
    assert privacy(parse(domain(ours=ours))) == (True, {0: [Rectangle(1, 2, 3, 4)], 1: [Rectangle(5, 6, 7, 8)]})


@pytest.mark.parametrize(
    "ours",
    ["<k:screens capture='no'/>", "<k:mask x='1' y='2' width='3'/>", "<k:mask x='a' y='2' width='3' height='4'/>"],
)
def test_what_hides_everything(ours: str) -> None:
    assert privacy(parse(domain(ours=ours))).capture is False
