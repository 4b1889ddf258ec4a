# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The RFB codec with whatever a peer may send, and with every way of cutting it."""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.kvmops.console.plugins.module_utils import _rfb
from ansible_collections.kvmops.console.plugins.module_utils._errors import VncProtocolError, VncRefused

FUZZ = settings(derandomize=True, max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])

BITS = {"B": 8, "H": 16, "I": 32}
HANDSHAKE = b"RFB 003.008\n\x01\x01\0\0\0\0" + struct.pack("!HH", 8, 8) + b"\x20" + bytes(15) + b"\0\0\0\1Q"


def numbers(layout: str) -> list[st.SearchStrategy[int]]:
    """Return one strategy for each number of a struct format."""
    kinds = [letter for letter in layout.replace("16s", "") if letter in "BHIi"]
    return [st.integers(-(2**31), 2**31 - 1) if kind == "i" else st.integers(0, 2 ** BITS[kind] - 1) for kind in kinds]


@st.composite
def messages(draw: st.DrawFn, table: _rfb.Table) -> tuple[str, dict[str, Any]]:
    """Draw a message of `table`: its name and what `build` takes."""
    layout = draw(st.sampled_from(list(table.values())))
    if layout.head.endswith("s"):
        return layout.name, {"payload": draw(st.binary(min_size=16, max_size=16))}
    content: dict[str, Any] = {
        field: draw(number) for field, number in zip(layout.fields, numbers(layout.head)) if field != layout.counted
    }
    if layout.name == "qemu_audio":
        content["operation"] = draw(st.integers(0, 65535))
        size = 6 if content["operation"] == 2 else 0
        content["payload"] = draw(st.binary(min_size=size, max_size=size))
    elif layout.item == "s":
        content["payload"] = draw(st.binary(max_size=64))
    elif layout.item:
        content["items"] = draw(st.lists(st.tuples(*numbers(layout.item)), max_size=20))
    return layout.name, content


def check_stream(table: _rfb.Table, sent: list[tuple[str, dict[str, Any]]]) -> None:
    """Build all of them into one stream, take it apart again, compare."""
    stream = b"".join(_rfb.build(table, name, **content) for name, content in sent)
    offset = 0
    for name, content in sent:
        message = _rfb.parse(table, stream, offset)
        assert message is not None
        assert message.name == name
        assert message.payload == content.get("payload", b"")
        assert list(message.items) == content.get("items", [])
        for field, value in content.items():
            if field not in ("payload", "items"):
                assert message.fields[field] == value
        offset += len(message.raw)
    assert offset == len(stream)


@FUZZ
@given(st.lists(messages(_rfb.CLIENT_MESSAGES), max_size=8))
def test_client_messages_come_back(sent: list[tuple[str, dict[str, Any]]]) -> None:
    check_stream(_rfb.CLIENT_MESSAGES, sent)


@FUZZ
@given(st.lists(messages(_rfb.SERVER_MESSAGES), max_size=8))
def test_server_messages_come_back(sent: list[tuple[str, dict[str, Any]]]) -> None:
    check_stream(_rfb.SERVER_MESSAGES, sent)


@FUZZ
@given(st.sampled_from([_rfb.CLIENT_MESSAGES, _rfb.SERVER_MESSAGES]), st.data(), st.binary(max_size=200))
def test_any_bytes_are_a_message_or_none_or_refused(table: _rfb.Table, data: st.DataObject, tail: bytes) -> None:
    first = data.draw(st.sampled_from([bytes(key) for key in table]))
    wire = data.draw(st.sampled_from([first + tail, tail]))
    try:
        message = _rfb.parse(table, wire)
    except VncProtocolError:
        return
    if message is not None:
        assert wire.startswith(message.raw)
        assert _rfb.parse(table, message.raw) == message
        for end in range(len(message.raw)):
            assert _rfb.parse(table, message.raw[:end]) is None


def talk(pieces: list[bytes]) -> tuple[list[_rfb.Event], bytes, str]:
    """Feed a client, return its events, what it wants sent, and the error that ended it."""
    client = _rfb.Client(most_raw=_rfb.MOST_PIXEL)
    events: list[_rfb.Event] = []
    sent = b""
    try:
        for piece in pieces:
            events += client.receive_data(piece)
            sent += client.data_to_send()
    except (VncProtocolError, VncRefused) as error:
        return events, sent + client.data_to_send(), f"{type(error).__name__}: {error}"
    return events, sent + client.data_to_send(), ""


@st.composite
def updates(draw: st.DrawFn) -> bytes:
    """Draw a FramebufferUpdate of pseudo-rectangles."""
    count = draw(st.integers(0, 4))
    data = struct.pack("!BxH", 0, count)
    for _turn in range(count):
        encoding = draw(st.sampled_from([-257, -258, -259, -261, -223, -308, 0]))
        data += struct.pack("!HHHHi", draw(st.integers(0, 1)), 0, 2, 2, encoding)
        if encoding == -261:
            data += draw(st.binary(min_size=1, max_size=1))
        elif encoding == -308:
            screens = draw(st.integers(0, 3))
            data += bytes([screens]) + bytes(3 + 16 * screens)
        elif encoding == 0:
            data += bytes(16)
    return data


@FUZZ
@given(
    st.lists(
        st.one_of(
            updates(),
            messages(_rfb.SERVER_MESSAGES).map(lambda m: _rfb.build(_rfb.SERVER_MESSAGES, m[0], **m[1])),
            st.binary(max_size=20),
        ),
        max_size=8,
    ),
    st.lists(st.integers(0, 400), max_size=12),
)
def test_a_conversation_is_the_same_however_it_is_cut(parts: list[bytes], cuts: list[int]) -> None:
    stream = HANDSHAKE + b"".join(parts)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    whole = talk([stream])
    cut = talk([stream[start:end] for start, end in zip(edges, edges[1:])])
    single = talk([bytes([byte]) for byte in stream])
    # A whole stream that ends in an error gives no events: they are what receive_data would have returned.
    assert cut[1:] == single[1:]
    assert whole[2] == single[2]
    if not whole[2]:
        assert whole == cut == single


@FUZZ
@given(st.binary(max_size=300))
def test_any_server_is_understood_or_refused(garbage: bytes) -> None:
    for prefix in (b"", b"RFB 003.003\n", b"RFB 003.007\n", b"RFB 003.008\n", HANDSHAKE):
        _events, _sent, error = talk([prefix + garbage])
        assert not error or error.startswith(("VncProtocolError: ", "VncRefused: "))


@FUZZ
@given(st.sampled_from([bytes(key) for key in _rfb.SERVER_MESSAGES] + [b"\0"]), st.binary(max_size=24))
def test_a_server_that_never_stops_is_not_kept(kind: bytes, head: bytes) -> None:
    client = _rfb.Client()
    filler = _rfb.build(_rfb.SERVER_MESSAGES, "server_cut_text", payload=bytes(262144))
    longest = max(_rfb.MOST_CUT_TEXT + 8, 6 + 65535 * 6)
    try:
        client.receive_data(HANDSHAKE + kind + head)
        for _turn in range(6):
            client.receive_data(filler)
            assert len(client._incoming) <= longest
    except (VncProtocolError, VncRefused):
        return
