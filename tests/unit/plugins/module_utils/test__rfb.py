# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The RFB codec, byte for byte."""

from __future__ import annotations

import builtins
import struct
from typing import Any

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _rfb
from ansible_collections.kvmops.console.plugins.module_utils._errors import (
    MissingLibrary,
    VncProtocolError,
    VncRefused,
)

PIXELS = bytes.fromhex("20180001 00ff00ff 00ff1008 00000000")
"""QEMU's pixel format: 32 bits a pixel."""

INIT_38 = (
    b"RFB 003.008\n"
    + bytes.fromhex("0101")
    + bytes.fromhex("00000000")
    + bytes.fromhex("0280 01e0")
    + PIXELS
    + bytes.fromhex("00000004")
    + b"QEMU"
)
"""What a QEMU without a password says until it is ready."""

SENT_38 = b"RFB 003.008\n" + b"\x01" + b"\x01"


def ready(**options: Any) -> _rfb.Client:
    """Return a client for which the handshake is over."""
    client = _rfb.Client(**options)
    client.receive_data(INIT_38)
    client.data_to_send()
    return client


def in_pieces(client: _rfb.Client, data: bytes, size: int = 1) -> list[_rfb.Event]:
    events: list[_rfb.Event] = []
    for start in range(0, len(data), size):
        events += client.receive_data(data[start : start + size])
    return events


# --- Messages: the table, both ways -----------------------------------------------------------------------------------

Row = tuple[_rfb.Table, str, dict[str, Any], str]

MESSAGES: list[Row] = [
    (_rfb.CLIENT_MESSAGES, "set_pixel_format", {"payload": PIXELS}, "00000000" + PIXELS.hex()),
    (_rfb.CLIENT_MESSAGES, "set_encodings", {}, "02 00 0000"),
    (_rfb.CLIENT_MESSAGES, "set_encodings", {"items": [(-309,)]}, "02 00 0001 fffffecb"),
    (_rfb.CLIENT_MESSAGES, "set_encodings", {"items": [(0,), (-223,)]}, "02 00 0002 00000000 ffffff21"),
    (
        _rfb.CLIENT_MESSAGES,
        "framebuffer_update_request",
        {"incremental": 1, "x": 2, "y": 3, "width": 640, "height": 480},
        "03 01 0002 0003 0280 01e0",
    ),
    (_rfb.CLIENT_MESSAGES, "key_event", {"down": 1, "key": 0xFF0D}, "04 01 0000 0000ff0d"),
    (_rfb.CLIENT_MESSAGES, "pointer_event", {"buttons": 5, "x": 258, "y": 772}, "05 05 0102 0304"),
    (_rfb.CLIENT_MESSAGES, "client_cut_text", {"payload": b"hi"}, "06 000000 00000002 6869"),
    (
        _rfb.CLIENT_MESSAGES,
        "client_cut_text",
        {"payload": bytes.fromhex("02000001"), "length": -4},
        "06 000000 fffffffc 02000001",
    ),
    (
        _rfb.CLIENT_MESSAGES,
        "enable_continuous_updates",
        {"enable": 1, "x": 0, "y": 0, "width": 16, "height": 9},
        "96 01 0000 0000 0010 0009",
    ),
    (_rfb.CLIENT_MESSAGES, "fence", {"flags": 0x80000001, "payload": b"abc"}, "f8 000000 80000001 03 616263"),
    (_rfb.CLIENT_MESSAGES, "xvp", {"version": 1, "code": 4}, "fa 00 01 04"),
    (
        _rfb.CLIENT_MESSAGES,
        "set_desktop_size",
        {"width": 800, "height": 600, "items": [(7, 1, 2, 800, 600, 9)]},
        "fb 00 0320 0258 01 00 00000007 0001 0002 0320 0258 00000009",
    ),
    (
        _rfb.CLIENT_MESSAGES,
        "qemu_key_event",
        {"down": 1, "keysym": 0x61, "keycode": 0x1E},
        "ff 00 0001 00000061 0000001e",
    ),
    (_rfb.CLIENT_MESSAGES, "qemu_audio", {"operation": 0}, "ff 01 0000"),
    (_rfb.CLIENT_MESSAGES, "qemu_audio", {"operation": 1}, "ff 01 0001"),
    (
        _rfb.CLIENT_MESSAGES,
        "qemu_audio",
        {"operation": 2, "payload": bytes.fromhex("03020000ac44")},
        "ff 01 0002 03 02 0000ac44",
    ),
    (
        _rfb.SERVER_MESSAGES,
        "set_colour_map_entries",
        {"first": 1, "items": [(1, 2, 3), (65535, 0, 9)]},
        "01 00 0001 0002 000100020003 ffff00000009",
    ),
    (_rfb.SERVER_MESSAGES, "bell", {}, "02"),
    (_rfb.SERVER_MESSAGES, "server_cut_text", {"payload": b"hi"}, "03 000000 00000002 6869"),
    (_rfb.SERVER_MESSAGES, "end_of_continuous_updates", {}, "96"),
    (_rfb.SERVER_MESSAGES, "fence", {"flags": 1, "payload": b""}, "f8 000000 00000001 00"),
    (_rfb.SERVER_MESSAGES, "xvp", {"version": 1, "code": 1}, "fa 00 01 01"),
]


@pytest.mark.parametrize(("table", "name", "content", "wire"), MESSAGES)
def test_message_to_bytes_and_back(table: _rfb.Table, name: str, content: dict[str, Any], wire: str) -> None:
    data = bytes.fromhex(wire)

    assert _rfb.build(table, name, **content) == data

    message = _rfb.parse(table, b"before" + data + b"after", 6)
    assert message is not None
    assert message.name == name
    assert message.raw == data
    assert message.items == tuple(content.get("items", ()))
    assert message.payload == content.get("payload", b"")
    plain = {field: value for field, value in content.items() if field not in ("items", "payload")}
    assert {field: value for field, value in message.fields.items() if field in plain} == plain


def test_every_row_has_an_example() -> None:
    rows = {
        (id(table), layout.name) for table in (_rfb.CLIENT_MESSAGES, _rfb.SERVER_MESSAGES) for layout in table.values()
    }
    assert rows == {(id(table), name) for table, name, _content, _wire in MESSAGES}


@pytest.mark.parametrize(("table", "name", "content", "wire"), MESSAGES)
def test_message_that_has_not_come_whole(table: _rfb.Table, name: str, content: dict[str, Any], wire: str) -> None:
    data = bytes.fromhex(wire)
    for end in range(len(data)):
        assert _rfb.parse(table, data[:end]) is None, f"after {end} bytes of {name}"


@pytest.mark.parametrize(
    ("wire", "words"),
    [
        ("02 00 0401", "1025 elements; 1024"),
        ("06 000000 00100001", "1048577 elements; 1048576"),
        ("06 000000 80000000", "2147483648 elements; 1048576"),
        ("f8 000000 00000000 41", "65 elements; 64"),
        ("07", "unknown type 7 "),
        ("ff 02", "unknown type 255, 2 "),
    ],
)
def test_message_that_is_not_waited_for(wire: str, words: str) -> None:
    with pytest.raises(VncProtocolError, match=words):
        _rfb.parse(_rfb.CLIENT_MESSAGES, bytes.fromhex(wire))


@pytest.mark.parametrize(("table", "name", "content", "wire"), MESSAGES)
def test_head_comes_before_what_follows_it(table: _rfb.Table, name: str, content: dict[str, Any], wire: str) -> None:
    data = bytes.fromhex(wire)
    whole = _rfb.parse(table, data)
    assert whole is not None
    head = _rfb.parse_head(table, b"before" + data, 6)
    assert head is not None
    assert head.layout.name == name
    assert head.size + head.rest == len(data)
    assert dict(zip(head.layout.fields, head.values)) == whole.fields
    assert _rfb.parse_head(table, data[: head.size]) == head
    for end in range(head.size):
        assert _rfb.parse_head(table, data[:end]) is None, f"after {end} bytes of {name}"


@pytest.mark.parametrize(
    ("wire", "amount", "rest"),
    [
        ("02 00 ffff", 65535, 4 * 65535),
        ("06 000000 7fffffff", (1 << 31) - 1, (1 << 31) - 1),
        ("06 000000 80000000", 1 << 31, 1 << 31),
        ("fb 00 0000 0000 ff 00", 255, 16 * 255),
        ("ff 01 0002", 6, 6),
        ("ff 01 0003", 0, 0),
        ("fa 00 01 04", 0, 0),
    ],
)
def test_head_that_announces_more_than_we_take(wire: str, amount: int, rest: int) -> None:
    head = _rfb.parse_head(_rfb.CLIENT_MESSAGES, bytes.fromhex(wire))
    assert head is not None
    assert (head.amount, head.rest) == (amount, rest)


@pytest.mark.parametrize(("wire", "words"), [("07", "unknown type 7 "), ("ff 02", "unknown type 255, 2 ")])
def test_head_of_an_unknown_type(wire: str, words: str) -> None:
    with pytest.raises(VncProtocolError, match=words):
        _rfb.parse_head(_rfb.CLIENT_MESSAGES, bytes.fromhex(wire))


def test_shorthands() -> None:
    assert _rfb.set_encodings(-309) == bytes.fromhex("02000001fffffecb")
    assert _rfb.xvp(_rfb.XVP_REBOOT) == bytes.fromhex("fa000103")
    assert _rfb.update_request(0, 0, 1, 1) == bytes.fromhex("03 00 0000 0000 0001 0001")
    assert _rfb.update_request(0, 0, 1, 1, incremental=True) == bytes.fromhex("03 01 0000 0000 0001 0001")
    assert _rfb.extended_cut_text(b"\x01\0\0\0") == bytes.fromhex("06 000000 fffffffc 01000000")


def test_names() -> None:
    assert _rfb.encoding_name(-257) == "-257 (QEMU Pointer Motion Change)"
    assert _rfb.encoding_name(4711) == "4711"
    assert struct.unpack("!i", bytes.fromhex("c0a1e5ce"))[0] in _rfb.ENCODINGS
    assert _rfb.security_name(19) == "19 (VeNCrypt)"
    assert _rfb.security_name(77) == "77"


# --- Versions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("greeting", "version", "spoken"),
    [
        (b"RFB 003.003\n", (3, 3), (3, 3)),
        (b"RFB 003.005\n", (3, 5), (3, 3)),
        (b"RFB 003.007\n", (3, 7), (3, 7)),
        (b"RFB 003.008\n", (3, 8), (3, 8)),
        (b"RFB 003.889\n", (3, 889), (3, 8)),
        (b"RFB 005.000\n", (5, 0), (3, 8)),
    ],
)
def test_version(greeting: bytes, version: tuple[int, int], spoken: tuple[int, int]) -> None:
    assert _rfb.parse_version(greeting) == version
    assert _rfb.format_version(version) == greeting
    assert _rfb.agree_version(version) == spoken


@pytest.mark.parametrize("greeting", [b"RFB 003.00x\n", b"RFB 003.008\r", b"RFB 003-008\n", b"HTTP/1.1 400", b"RFB"])
def test_no_version(greeting: bytes) -> None:
    with pytest.raises(VncProtocolError):
        _rfb.parse_version(greeting)


def test_server_that_speaks_something_else_is_not_waited_for() -> None:
    with pytest.raises(VncProtocolError, match="no VNC server answers there: its first bytes are b'SSH-'"):
        _rfb.Client().receive_data(b"SSH-")


# --- The handshake ----------------------------------------------------------------------------------------------------


def test_handshake_38() -> None:
    client = _rfb.Client()
    events = client.receive_data(INIT_38)
    assert events == [
        _rfb.SecurityOffered((3, 8), (1,), 1),
        _rfb.ServerInit(640, 480, PIXELS, "QEMU"),
    ]
    assert client.data_to_send() == SENT_38
    assert client.data_to_send() == b""


def test_handshake_that_comes_byte_by_byte() -> None:
    client = _rfb.Client(shared=False)
    assert in_pieces(client, INIT_38) == _rfb.Client().receive_data(INIT_38)
    assert client.data_to_send() == b"RFB 003.008\n\x01\x00"


def test_handshake_37_has_no_result_for_none() -> None:
    client = _rfb.Client()
    events = client.receive_data(b"RFB 003.007\n\x02\x10\x01" + INIT_38[18:])
    assert events[0] == _rfb.SecurityOffered((3, 7), (16, 1), 1)
    assert isinstance(events[1], _rfb.ServerInit)
    assert client.data_to_send() == b"RFB 003.007\n\x01\x01"


def test_handshake_33_is_decided_by_the_server() -> None:
    client = _rfb.Client()
    events = client.receive_data(b"RFB 003.003\n" + bytes.fromhex("00000001") + INIT_38[18:])
    assert events[0] == _rfb.SecurityOffered((3, 3), (1,), 1)
    assert isinstance(events[1], _rfb.ServerInit)
    assert client.data_to_send() == b"RFB 003.003\n\x01"


def test_nothing_is_sent_before_the_server_spoke() -> None:
    client = _rfb.Client()
    assert client.data_to_send() == b""
    assert client.doing == "waiting for the server's version"


@pytest.mark.parametrize(
    ("types", "password", "chosen"),
    [
        ((1,), None, 1),
        ((2, 1), None, 1),
        ((2, 1), "secret", 1),
        ((2, 19), "secret", 2),
        ((2,), None, None),
        ((19, 18), "secret", None),
    ],
)
def test_choice_of_security_type(types: tuple[int, ...], password: str | None, chosen: int | None) -> None:
    client = _rfb.Client(password=password)
    events = client.receive_data(b"RFB 003.008\n" + bytes([len(types), *types]))
    assert events == [_rfb.SecurityOffered((3, 8), types, chosen)]
    assert client.data_to_send() == b"RFB 003.008\n" + (bytes([chosen]) if chosen else b"")


def test_what_comes_after_a_handshake_that_ended_is_dropped() -> None:
    client = _rfb.Client()
    client.receive_data(b"RFB 003.008\n\x01\x13")
    assert client.receive_data(b"x" * 100000) == []
    assert not client._incoming


def reason(text: bytes) -> bytes:
    return struct.pack("!I", len(text)) + text


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (
            b"RFB 003.008\n\0" + reason(b"Too many\r\n failures\0"),
            "the server refuses the connection: Too many failures.",
        ),
        (b"RFB 003.003\n\0\0\0\0" + reason(b"Go away"), "the server refuses the connection: Go away."),
        (b"RFB 003.008\n\x01\x01\0\0\0\x01" + reason(b""), "the server refuses the connection: it gives no reason."),
        (b"RFB 003.008\n\x01\x01\0\0\0\x02" + reason(b"x"), "the server refuses the connection: x."),
    ],
)
def test_refusal(data: bytes, words: str) -> None:
    for size in (1, len(data)):
        with pytest.raises(VncRefused) as caught:
            in_pieces(_rfb.Client(), data, size)
        assert str(caught.value) == words


@pytest.mark.parametrize(
    "data",
    [
        b"RFB 003.008\n\0" + struct.pack("!I", _rfb.MOST_REASON + 1),
        b"RFB 003.008\n\x01\x01\0\0\0\0" + bytes(20) + struct.pack("!I", _rfb.MOST_NAME + 1),
    ],
)
def test_texts_too_long_to_be_kept(data: bytes) -> None:
    with pytest.raises(VncProtocolError, match="is the most we take"):
        _rfb.Client().receive_data(data)


# --- VNC authentication -----------------------------------------------------------------------------------------------

CHALLENGE = bytes(range(16))


@pytest.mark.parametrize(
    ("password", "response"),
    # By "openssl enc -des-ecb -nopad" with the reversed keys
    [
        ("geheim12", "443b3fb6adf1941f7c9ae9be9dc6e1ad"),
        ("geheim12-and-more", "443b3fb6adf1941f7c9ae9be9dc6e1ad"),
        ("a", "449407fb6f71bd517aca76866568a4e2"),
    ],
)
def test_vnc_response(password: str, response: str) -> None:
    pytest.importorskip("cryptography", reason="VNC passwords need the library cryptography, which is optional")
    assert _rfb.vnc_response(password, CHALLENGE).hex() == response


@pytest.mark.parametrize("version", ["003.003", "003.007", "003.008"])
@pytest.mark.parametrize("size", [1, 1000])
def test_vnc_authentication(version: str, size: int) -> None:
    pytest.importorskip("cryptography", reason="VNC passwords need the library cryptography, which is optional")
    greeting = f"RFB {version}\n".encode()
    offer = bytes.fromhex("00000002") if version == "003.003" else bytes.fromhex("0102")
    client = _rfb.Client(password="geheim12")
    events = in_pieces(client, greeting + offer + CHALLENGE + bytes(4) + INIT_38[18:], size)
    assert [type(event) for event in events] == [_rfb.SecurityOffered, _rfb.ServerInit]
    choice = b"" if version == "003.003" else b"\x02"
    assert client.data_to_send() == greeting + choice + _rfb.vnc_response("geheim12", CHALLENGE) + b"\x01"


@pytest.mark.parametrize(
    ("version", "tail", "words"),
    [
        (
            b"RFB 003.008\n",
            reason(b"Authentication failed\0"),
            "the server refuses the password: Authentication failed.",
        ),
        (b"RFB 003.007\n", b"", "the server refuses the password: it gives no reason."),
    ],
)
def test_wrong_password(version: bytes, tail: bytes, words: str) -> None:
    pytest.importorskip("cryptography", reason="VNC passwords need the library cryptography, which is optional")
    client = _rfb.Client(password="sesame")
    with pytest.raises(VncRefused) as caught:
        client.receive_data(version + b"\x01\x02" + CHALLENGE + b"\0\0\0\x01" + tail)
    assert str(caught.value) == words


def test_password_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    plain_import = builtins.__import__

    def without_cryptography(name: str, *rest: Any, **more: Any) -> Any:
        if name.startswith("cryptography"):
            raise ImportError(name)
        return plain_import(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without_cryptography)
    with pytest.raises(MissingLibrary, match="python3-cryptography"):
        _rfb.vnc_response("secret", CHALLENGE)


def test_password_is_not_shown() -> None:
    client = _rfb.Client(password="geheim12")
    assert "geheim12" not in repr(client)
    assert "geheim12" not in str(client)


# --- Messages of the server -------------------------------------------------------------------------------------------

AFFECTED = bytes.fromhex("fa000101 00000001 00000000 028001e0 fffffeff fa000100")
"""QEMU 7.2.0's answer to SetEncodings [-309] and XVP_REBOOT."""


@pytest.mark.parametrize("size", [1, 3, 1000])
def test_affected_server(size: int) -> None:
    events = in_pieces(ready(), AFFECTED, size)
    assert events == [
        _rfb.Message("xvp", {"version": 1, "code": 1}, (), b"", bytes.fromhex("fa000101")),
        _rfb.Rectangle(0, 0, 640, 480, -257),
        _rfb.Message("xvp", {"version": 1, "code": 0}, (), b"", bytes.fromhex("fa000100")),
    ]


@pytest.mark.parametrize(
    ("encoding", "payload"),
    [
        (-257, ""),
        (-258, ""),
        (-259, ""),
        (-223, ""),
        (-261, "05"),
        (-308, "00000000"),
        (-308, "02000000" + "00" * 15 + "01" + "00" * 15 + "02"),
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
def test_rectangles_without_pixels(encoding: int, payload: str, size: int) -> None:
    head = struct.pack("!BxHHHHHi", 0, 1, 1, 2, 3, 4, encoding)
    events = in_pieces(ready(), head + bytes.fromhex(payload) + b"\x02", size)
    assert events[0] == _rfb.Rectangle(1, 2, 3, 4, encoding, bytes.fromhex(payload))
    assert [event.name for event in events[1:] if isinstance(event, _rfb.Message)] == ["bell"]


def rectangle(encoding: int) -> bytes:
    return struct.pack("!HHHHi", 0, 0, 1, 1, encoding)


def test_several_rectangles_in_one_update() -> None:
    data = b"\0\0\0\x02" + rectangle(-258) + rectangle(-223) + b"\x02"
    assert [getattr(event, "encoding", None) for event in ready().receive_data(data)] == [-258, -223, None]


def test_empty_update() -> None:
    assert [type(event) for event in ready().receive_data(b"\0\0\0\0\x02")] == [_rfb.Message]


def test_last_rect_ends_an_update() -> None:
    data = b"\0\0\xff\xff" + rectangle(-258) + rectangle(-224) + b"\x02"
    assert [getattr(event, "encoding", None) for event in ready().receive_data(data)] == [-258, -224, None]


def test_rectangle_that_nobody_asked_for() -> None:
    with pytest.raises(VncProtocolError, match=r"encoding 7 \(Tight\), which was not asked for"):
        ready().receive_data(b"\0\0\0\x01" + rectangle(7))


def test_raw_rectangle_is_understood_only_on_demand() -> None:
    data = b"\0\0\0\x01" + rectangle(0) + b"\1\2\3\4" + b"\x02"
    with pytest.raises(VncProtocolError, match=r"encoding 0 \(Raw\)"):
        ready().receive_data(data)
    events = in_pieces(ready(most_raw=_rfb.MOST_PIXEL), data)
    assert events[0] == _rfb.Rectangle(0, 0, 1, 1, 0, b"\1\2\3\4")
    assert len(events) == 2


def test_raw_rectangle_too_big_to_be_kept() -> None:
    with pytest.raises(VncProtocolError, match="640x480 pixels, more than were asked for"):
        ready(most_raw=_rfb.MOST_PIXEL).receive_data(b"\0\0\0\x01" + struct.pack("!HHHHi", 0, 0, 640, 480, 0))


def test_message_of_an_unknown_type() -> None:
    with pytest.raises(VncProtocolError, match="unknown type 77"):
        ready().receive_data(b"\x4d")


def test_what_is_sent_is_queued_in_order() -> None:
    client = ready()
    client.send(b"one")
    client.send(b"two")
    assert client.data_to_send() == b"onetwo"


def test_place_in_the_conversation_is_told() -> None:
    client = _rfb.Client()
    told = [client.doing]
    for byte in INIT_38 + b"\0\0\0\x01":
        client.receive_data(bytes([byte]))
        if client.doing != told[-1]:
            told.append(client.doing)
    assert told == [
        "waiting for the server's version",
        "waiting for the security types",
        "waiting for the result of its security check",
        "waiting for the desktop's size and name",
        "waiting for messages",
        "in the middle of a framebuffer update",
    ]
