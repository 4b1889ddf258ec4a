# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""XVP INIT in a server's stream: where it goes, and when it can't."""

from __future__ import annotations

import struct

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _rfb
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._offer import INIT, Offer

BELL = b"\x02"
CUT_TEXT = _rfb.build(_rfb.SERVER_MESSAGES, "server_cut_text", payload=b"hello")
COLOURS = _rfb.build(_rfb.SERVER_MESSAGES, "set_colour_map_entries", first=0, items=[(1, 2, 3), (4, 5, 6)])


def update(*rectangles: bytes, count: int | None = None) -> bytes:
    return struct.pack("!BxH", 0, len(rectangles) if count is None else count) + b"".join(rectangles)


def rectangle(encoding: int, payload: bytes = b"", width: int = 1, height: int = 1) -> bytes:
    return struct.pack("!HHHHi", 0, 0, width, height, encoding) + payload


RAW = rectangle(0, b"\x02" * 4 * 6, 2, 3)
"""A rectangle whose pixels look like bells."""
MESSAGES = [
    BELL,
    CUT_TEXT,
    _rfb.build(_rfb.SERVER_MESSAGES, "server_cut_text", payload=b"abcd", length=-4),
    COLOURS,
    _rfb.build(_rfb.SERVER_MESSAGES, "fence", flags=0, payload=b"\x02\x02"),
    _rfb.build(_rfb.SERVER_MESSAGES, "end_of_continuous_updates"),
    _rfb.build(_rfb.SERVER_MESSAGES, "xvp", version=1, code=0),
    update(),
    update(RAW),
    update(RAW, rectangle(1, b"\x02\x02\x02\x02"), rectangle(-261, b"\x02")),
    update(rectangle(-308, b"\x02\0\0\0" + bytes(32)), rectangle(-257), rectangle(-258), rectangle(-259)),
    update(RAW, RAW, rectangle(-224), count=0xFFFF),
    update(rectangle(-223, width=640, height=480)),
    update(rectangle(0, b"", 0, 7)),
]


def test_init_is_what_servers_send() -> None:
    assert bytes.fromhex("fa000101") == INIT


def test_at_once_after_server_init() -> None:
    offer = Offer(32)
    assert offer.ask() == INIT
    assert (offer.settled, offer.outcome) == (True, "made")
    data = update(rectangle(7, b"anything"))
    assert offer.relay(data) is data
    assert offer.ask() == b"", "never twice"


@pytest.mark.parametrize("message", MESSAGES)
def test_at_once_between_two_messages(message: bytes) -> None:
    offer = Offer(32)
    assert offer.relay(message) == message
    assert (offer.settled, offer.outcome) == (False, "waiting")
    assert offer.ask() == INIT
    assert offer.outcome == "made"


@pytest.mark.parametrize("message", MESSAGES)
def test_asked_in_the_middle_it_comes_at_the_end(message: bytes) -> None:
    for cut in range(1, len(message)):
        offer = Offer(32)
        assert offer.relay(message[:cut]) == message[:cut]
        assert offer.ask() == b""
        assert offer.relay(message[cut:] + BELL + CUT_TEXT) == message[cut:] + INIT + BELL + CUT_TEXT
        assert (offer.settled, offer.outcome) == (True, "made")


@pytest.mark.parametrize("message", MESSAGES)
def test_asked_in_the_middle_and_cut_at_every_byte(message: bytes) -> None:
    stream = CUT_TEXT + message + BELL
    for asked in range(len(CUT_TEXT) + 1, len(CUT_TEXT) + len(message)):
        offer = Offer(32)
        out = b""
        for index in range(len(stream)):
            if index == asked:
                out += offer.ask()
            out += offer.relay(stream[index : index + 1])
        assert out == CUT_TEXT + message + INIT + BELL


@pytest.mark.parametrize("bits", [8, 16, 32])
def test_raw_pixels_are_counted_in_the_size_of_server_init(bits: int) -> None:
    offer = Offer(bits)
    message = update(rectangle(0, bytes(7 * 5 * bits // 8), 7, 5))
    assert offer.relay(message[:-1]) == message[:-1]
    assert offer.ask() == b""
    assert offer.relay(message[-1:]) == message[-1:] + INIT


LOSING = [
    update(rectangle(7, b"tight")),
    update(RAW, rectangle(16, b"zrle")),
    update(rectangle(-239, b"cursor")),
    b"\x63",
    b"\xff\x01",
]


@pytest.mark.parametrize("message", LOSING)
def test_lost_where_the_server_can_no_longer_be_followed(message: bytes) -> None:
    offer = Offer(32)
    assert offer.relay(update(RAW) + message + BELL) == update(RAW) + message + BELL
    assert (offer.settled, offer.outcome) == (True, "lost")
    assert offer.ask() == b""
    assert offer.relay(BELL) is BELL


@pytest.mark.parametrize("cut", range(1, 4 + 12 + 24 + 11))
def test_lost_after_it_was_asked_for(cut: int) -> None:
    message = update(RAW, rectangle(7, b"tight"))
    offer = Offer(32)
    assert offer.relay(message[:cut]) == message[:cut]
    assert offer.ask() == b""
    assert offer.relay(message[cut:] + BELL) == message[cut:] + BELL
    assert (offer.settled, offer.outcome) == (True, "lost")


def test_pixels_of_an_unknown_size_are_not_followed() -> None:
    offer = Offer()
    assert offer.relay(update(rectangle(-223))) == update(rectangle(-223))
    assert not offer.settled
    assert offer.relay(update(RAW)) == update(RAW)
    assert offer.outcome == "lost"


def test_a_new_pixel_format_ends_the_following_of_pixels_alone() -> None:
    offer = Offer(32)
    offer.change_pixel_format()
    offer.relay(BELL + update(rectangle(-223)))
    assert offer.ask() == INIT
    other = Offer(32)
    other.relay(update(RAW))
    other.change_pixel_format()
    other.relay(update(RAW))
    assert other.outcome == "lost"


def test_a_clipboard_of_any_length_is_counted_and_not_kept() -> None:
    offer = Offer(32)
    length = 1 << 30
    assert len(offer.relay(struct.pack("!B3xi", 3, length))) == 8
    chunk = bytes(1 << 20)
    for _turn in range(length >> 20):
        assert offer.kept == 0
        assert offer.ask() == b""
        assert offer.relay(chunk) is chunk or offer.settled
    assert offer.outcome == "made"


def test_no_more_than_a_head_is_kept() -> None:
    offer = Offer(32)
    most = 0
    for index in range(20):
        offer.relay(update(RAW)[index : index + 1])
        most = max(most, offer.kept)
    assert 0 < most < 16
