# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a client says, and what of it goes on to the server, byte for byte."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _rfb
from ansible_collections.kvmops.console.plugins.module_utils._errors import VncProtocolError
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._client_stream import (
    ChangedPixelFormat,
    ClientEvent,
    ClientStream,
    ClientViolation,
    Dropped,
    ListedXvp,
    PowerMessage,
    WentOpaque,
)
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._treatment import (
    Behaviour,
    Policy,
    Treatment,
    decide,
)

AFFECTED = Behaviour(power_control=True, pointer_change=True, qemu=True, gated=None)
FIXED = Behaviour(power_control=True, pointer_change=False, qemu=True, gated=None)

UNTOUCHED = decide(FIXED, Policy())
HEALED = decide(AFFECTED, Policy())
DENIED = decide(AFFECTED, Policy(power="deny"))
VIEW_ONLY = decide(FIXED, Policy(view_only=True))
STRICT = decide(FIXED, Policy(unknown_message="end"))


def say(name: str, **content: Any) -> bytes:
    return _rfb.build(_rfb.CLIENT_MESSAGES, name, **content)


NOVNC = (7, -260, 5, 16, 6, 1, 0, -26, -247, -223, -224, -258, -261, -308, -309, -312, -313, -307, -239, -314, -316)
"""About what noVNC lists."""

MESSAGES = {
    "set_pixel_format": say("set_pixel_format", payload=_rfb.TRUE_COLOUR),
    "set_encodings": _rfb.set_encodings(0, -223, -257),
    "an empty list": _rfb.set_encodings(),
    "framebuffer_update_request": _rfb.update_request(1, 2, 3, 4, incremental=True),
    "key_event": _rfb.key_event(0xFF0D, down=True),
    "pointer_event": _rfb.pointer_event(1, 2, 0xFF),
    "client_cut_text": say("client_cut_text", payload=b"\xfa\0\1\4" * 5),
    "an empty clipboard": say("client_cut_text", payload=b""),
    "an extended clipboard": _rfb.extended_cut_text(b"\0\0\0\1\xfa\0\1\4"),
    "enable_continuous_updates": say("enable_continuous_updates", enable=1, x=0, y=0, width=9, height=9),
    "fence": say("fence", flags=0x80000001, payload=b"\xfa\0\1\4"),
    "xvp": _rfb.xvp(4),
    "set_desktop_size": say("set_desktop_size", width=8, height=6, items=[(1, 0, 0, 8, 6, 0), (2, 0, 0, 8, 6, 0)]),
    "qemu_key_event": say("qemu_key_event", down=1, keysym=0x61, keycode=0x1E),
    "qemu_audio on": say("qemu_audio", operation=0),
    "qemu_audio off": say("qemu_audio", operation=1),
    "qemu_audio format": say("qemu_audio", operation=2, payload=bytes.fromhex("03020000ac44")),
}
ALL = b"".join(MESSAGES.values())


def run(treatment: Treatment, *pieces: bytes, offered: bool = False) -> tuple[bytes, list[ClientEvent]]:
    """Say the pieces one after the other; return what goes on, and what happened."""
    stream = ClientStream(treatment)
    stream.offered = offered
    out = b"".join(stream.receive(piece) for piece in pieces)
    return out, stream.take_events()


def every_cut(treatment: Treatment, data: bytes, *, offered: bool = False) -> tuple[bytes, list[ClientEvent]]:
    """Say the bytes whole, one by one, and cut in two at every boundary: it must make no difference."""
    whole = run(treatment, data, offered=offered)
    assert run(treatment, *(data[at : at + 1] for at in range(len(data))), offered=offered) == whole
    for cut in range(1, len(data)):
        assert run(treatment, data[:cut], data[cut:], offered=offered) == whole
    return whole


# --- Nothing is touched -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("treatment", [UNTOUCHED, STRICT])
def test_untouched_is_the_same_bytes(treatment: Treatment) -> None:
    assert every_cut(treatment, ALL) == (ALL, [PowerMessage(4, True)])


@pytest.mark.parametrize("name", MESSAGES)
def test_a_whole_message_is_not_copied(name: str) -> None:
    message = MESSAGES[name]
    assert ClientStream(UNTOUCHED).receive(message) is message


def test_padding_is_kept() -> None:
    padded = [
        bytes((0, 7, 8, 9)) + _rfb.TRUE_COLOUR,
        b"\x02\x63" + _rfb.set_encodings(0, -309)[2:],
        b"\x04\1\x63\x64" + bytes(4),
        b"\x06\x63\x64\x65\0\0\0\1A",
        b"\xf8\x63\x64\x65" + bytes(5),
        b"\xfa\x63\1\3",
        b"\xfb\x63\0\1\0\1\0\x64",
    ]
    assert every_cut(UNTOUCHED, b"".join(padded))[0] == b"".join(padded)


def test_no_bytes_are_no_bytes() -> None:
    assert run(HEALED, b"") == (b"", [])
    assert run(HEALED, b"\x05", b"", _rfb.pointer_event(1, 2)[1:]) == (_rfb.pointer_event(1, 2), [])


# --- Encodings --------------------------------------------------------------------------------------------------------


def test_xvp_leaves_the_list_and_the_rest_stays() -> None:
    out, events = every_cut(HEALED, b"\x02\x63" + _rfb.set_encodings(*NOVNC)[2:])
    listed = [encoding for encoding in NOVNC if encoding not in (-309, -316)]
    assert out == b"\x02\x63" + _rfb.set_encodings(*listed)[2:], "the padding as it came"
    assert events == [ListedXvp()]


def test_every_xvp_leaves_the_list() -> None:
    assert run(HEALED, _rfb.set_encodings(-309, 0, -309, -309))[0] == _rfb.set_encodings(0)
    assert run(HEALED, _rfb.set_encodings(-309))[0] == bytes.fromhex("02000000")


def test_pointer_change_stays_for_clients_that_know_it() -> None:
    assert run(HEALED, _rfb.set_encodings(0, -257, -309))[0] == _rfb.set_encodings(0, -257)
    assert run(DENIED, _rfb.set_encodings(-257))[0] == _rfb.set_encodings(-257)


def test_a_list_without_xvp_is_passed_as_it_came() -> None:
    message = b"\x02\x63" + _rfb.set_encodings(0, -257, -223)[2:]
    stream = ClientStream(HEALED)
    assert stream.receive(message) is message
    assert stream.take_events() == []


def test_an_offer_is_due_once_and_only_where_one_is_made() -> None:
    message = _rfb.set_encodings(-309)
    stream = ClientStream(HEALED)
    assert stream.receive(_rfb.set_encodings(0)) == _rfb.set_encodings(0)
    assert stream.take_events() == []
    stream.receive(message)
    assert stream.take_events() == [ListedXvp()]
    stream.receive(message)
    assert stream.take_events() == []
    for treatment in (DENIED, UNTOUCHED, VIEW_ONLY):
        assert run(treatment, message)[1] == []


def test_extended_mouse_leaves_the_list_where_it_must_not_be_misread() -> None:
    message = _rfb.set_encodings(0, -316, -309)
    assert run(DENIED, message)[0] == _rfb.set_encodings(0)
    assert run(VIEW_ONLY, message)[0] == _rfb.set_encodings(0)
    assert run(decide(None, Policy()), message)[0] == _rfb.set_encodings(0)
    assert run(HEALED, message)[0] == _rfb.set_encodings(0)
    assert run(UNTOUCHED, message)[0] == message


def test_the_longest_list() -> None:
    message = _rfb.set_encodings(*[-309] + [0] * 1023)
    assert run(HEALED, message)[0] == _rfb.set_encodings(*[0] * 1023)
    for treatment in (HEALED, UNTOUCHED):
        with pytest.raises(ClientViolation, match="lists 1025 encodings; 1024 is the most"):
            run(treatment, b"\x02\0\x04\x01")


def test_a_long_list_in_single_bytes_before_a_short_message() -> None:
    data = _rfb.set_encodings(*range(300)) + _rfb.key_event(97, down=True)
    stream = ClientStream(HEALED)
    out = [stream.receive(data[at : at + 1]) for at in range(len(data))]
    assert out[4 + 4 * 300 - 1] == data[: 4 + 4 * 300]
    assert out[-1] == data[-8:], "the key waits for its own bytes alone"


# --- Pixels and pointers ----------------------------------------------------------------------------------------------


def test_a_pixel_format_is_told_where_an_offer_may_be_due() -> None:
    message = MESSAGES["set_pixel_format"]
    assert every_cut(HEALED, message * 3) == (message * 3, [ChangedPixelFormat()])
    assert run(UNTOUCHED, message) == (message, [])


SHORT = _rfb.pointer_event(1, 2, 0x7F)
LONG = _rfb.pointer_event(1, 2, 0x80) + b"\x01"


def test_a_pointer_has_one_more_byte_after_extended_mouse_went_on() -> None:
    message = _rfb.set_encodings(-316)
    stream = message + SHORT + LONG + SHORT + _rfb.xvp(2) + LONG + LONG
    assert every_cut(UNTOUCHED, stream) == (stream, [PowerMessage(2, True)])
    stream_of = ClientStream(UNTOUCHED)
    stream_of.receive(message)
    assert stream_of.receive(SHORT) is SHORT
    assert stream_of.receive(LONG) is LONG


def test_all_else_is_as_it_was_after_extended_mouse_went_on() -> None:
    others = [_rfb.set_encodings(-316), *(message for name, message in MESSAGES.items() if name != "pointer_event")]
    assert run(UNTOUCHED, *others) == (b"".join(others), [PowerMessage(4, True)])
    assert every_cut(UNTOUCHED, b"".join(others)) == (b"".join(others), [PowerMessage(4, True)])


@pytest.mark.parametrize("message", [LONG, _rfb.key_event(1, down=True), MESSAGES["client_cut_text"]])
def test_six_bytes_that_are_no_whole_pointer(message: bytes) -> None:
    stream = ClientStream(UNTOUCHED)
    stream.receive(_rfb.set_encodings(-316))
    assert stream.receive(message[:6]) == b""
    assert stream.kept == 6
    assert stream.receive(message[6:]) == message
    assert stream.receive(_rfb.xvp(4)) == _rfb.xvp(4)
    assert stream.take_events() == [PowerMessage(4, True)]


@pytest.mark.parametrize("treatment", [HEALED, DENIED, VIEW_ONLY])
def test_a_pointer_stays_short_where_it_must_not_be_misread(treatment: Treatment) -> None:
    hidden = _rfb.pointer_event(1, 2, 0x80) + _rfb.xvp(4)
    out, events = every_cut(treatment, _rfb.set_encodings(-316) + hidden)
    assert b"\xfa" not in out
    assert PowerMessage(4, False) in events


@pytest.mark.parametrize("treatment", [UNTOUCHED, STRICT, HEALED])
@pytest.mark.parametrize("lookalike", [SHORT, LONG, _rfb.key_event(1, down=True), _rfb.update_request(0, 0, 1, 1)])
def test_what_looks_like_a_message_within_a_clipboard(treatment: Treatment, lookalike: bytes) -> None:
    head = struct.pack("!B3xi", 6, len(lookalike) + 4)
    pieces = [_rfb.set_encodings(-316, 0), head, lookalike, _rfb.xvp(4), _rfb.xvp(2), SHORT]
    out, events = run(treatment, *pieces)
    assert events == [PowerMessage(2, treatment.power == "pass")]
    assert out.startswith(_rfb.set_encodings(-316, 0)) == (treatment.power == "pass")
    assert head + lookalike + _rfb.xvp(4) in out


def test_eight_buttons_without_extended_mouse() -> None:
    stream = _rfb.set_encodings(0) + _rfb.pointer_event(1, 2, 0x80) + _rfb.xvp(4)
    assert every_cut(UNTOUCHED, stream) == (stream, [PowerMessage(4, True)])


# --- Power ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 2, 3, 4, 255])
def test_power_messages_pass_a_fixed_server(code: int) -> None:
    message = _rfb.xvp(code)
    assert run(UNTOUCHED, message) == (message, [PowerMessage(code, True)])


@pytest.mark.parametrize("code", [0, 2, 3, 4, 255])
@pytest.mark.parametrize("treatment", [DENIED, VIEW_ONLY, decide(None, Policy(power="allow"))])
def test_power_messages_stop_where_they_are_denied(treatment: Treatment, code: int) -> None:
    asked = _rfb.set_encodings(-223, 5, -257, -309)
    out, events = every_cut(treatment, asked + _rfb.xvp(code) + asked, offered=True)
    assert out == _rfb.set_encodings(-223, 5, -257) * 2, "even if somebody had offered it"
    assert events == [PowerMessage(code, False)]


def test_another_version_of_power_messages_is_treated_alike() -> None:
    message = say("xvp", version=9, code=4)
    assert run(UNTOUCHED, message) == (message, [PowerMessage(4, True)])
    assert run(DENIED, message) == (b"", [PowerMessage(4, False)])


@pytest.mark.parametrize("encoding", [-223, 5, -257])
def test_negotiated_power_passes(encoding: int) -> None:
    listed = _rfb.set_encodings(0, encoding, -309)
    out, events = every_cut(HEALED, listed + _rfb.xvp(4), offered=True)
    assert out == _rfb.set_encodings(0, encoding) + _rfb.xvp(4)
    assert events == [ListedXvp(), PowerMessage(4, True)]


def test_power_stops_before_the_offer() -> None:
    stream = ClientStream(HEALED)
    stream.receive(_rfb.set_encodings(-223, -309))
    assert stream.receive(_rfb.xvp(4)) == b""
    stream.offered = True
    assert stream.receive(_rfb.xvp(4)) == _rfb.xvp(4)
    assert stream.take_events() == [ListedXvp(), PowerMessage(4, False), PowerMessage(4, True)]


def test_power_stops_where_the_server_would_not_obey() -> None:
    """An affected server closes the connection when none of what it mistakes for XVP was listed."""
    assert run(HEALED, _rfb.set_encodings(0, -308, -309), _rfb.xvp(2), offered=True) == (
        _rfb.set_encodings(0, -308),
        [ListedXvp(), PowerMessage(2, False)],
    )


def test_power_stops_for_a_client_that_never_asked() -> None:
    assert run(HEALED, _rfb.set_encodings(-223, -257), _rfb.xvp(4), offered=True)[1] == [PowerMessage(4, False)]
    assert run(HEALED, _rfb.xvp(4), offered=True) == (b"", [PowerMessage(4, False)])


def test_a_new_list_takes_the_old_one_back() -> None:
    asked, not_asked = _rfb.set_encodings(-223, -309), _rfb.set_encodings(-223)
    assert run(HEALED, asked, not_asked, _rfb.xvp(4), offered=True)[1][-1] == PowerMessage(4, False)
    assert run(HEALED, asked, not_asked, asked, _rfb.xvp(4), offered=True)[1][-1] == PowerMessage(4, True)


def test_many_power_messages_are_one_event_a_code() -> None:
    out, events = run(DENIED, (_rfb.xvp(2) + _rfb.xvp(4) + _rfb.xvp(4)) * 1000)
    assert (out, events) == (b"", [PowerMessage(2, False, 1000), PowerMessage(4, False, 2000)])


def test_events_are_told_once() -> None:
    stream = ClientStream(VIEW_ONLY)
    stream.receive(_rfb.xvp(4) + SHORT)
    assert stream.take_events() == [PowerMessage(4, False), Dropped("pointer_event")]
    assert stream.take_events() == []


# --- Looking only -----------------------------------------------------------------------------------------------------

HANDS = {
    "key_event": ["key_event"],
    "qemu_key_event": ["qemu_key_event"],
    "pointer_event": ["pointer_event"],
    "client_cut_text": ["client_cut_text", "an empty clipboard", "an extended clipboard"],
    "set_desktop_size": ["set_desktop_size"],
}


def test_who_only_looks_does_nothing() -> None:
    dropped = {name for names in HANDS.values() for name in names} | {"xvp"}
    expected = b"".join(message for name, message in MESSAGES.items() if name not in dropped)
    out, events = every_cut(VIEW_ONLY, ALL + ALL)
    assert out == expected * 2
    assert run(VIEW_ONLY, *MESSAGES.values())[0] == expected
    assert sorted(map(str, events)) == sorted(
        [str(PowerMessage(4, False, 2)), *(str(Dropped(name, 2 * len(names))) for name, names in HANDS.items())]
    )


@pytest.mark.parametrize("name", MESSAGES)
def test_who_only_looks_between_two_requests(name: str) -> None:
    request = _rfb.update_request(0, 0, 9, 9, incremental=True)
    dropped = name == "xvp" or any(name in names for names in HANDS.values())
    out, _events = every_cut(VIEW_ONLY, request + MESSAGES[name] + request)
    assert out == request + (b"" if dropped else MESSAGES[name]) + request


@pytest.mark.parametrize("name", HANDS)
def test_who_only_looks_is_told_of_at_once(name: str) -> None:
    stream = ClientStream(VIEW_ONLY)
    assert stream.receive(MESSAGES[name]) == b""
    assert stream.take_events() == [Dropped(name)]
    assert stream.kept == 0


def test_a_clipboard_is_passed_over_without_being_kept() -> None:
    length = 1 << 20
    stream = ClientStream(VIEW_ONLY)
    assert stream.receive(struct.pack("!B3xi", 6, length)) == b""
    for _turn in range(length >> 10):
        assert stream.receive(b"\xfa\0\1\4" * 256) == b""
        assert stream.kept == 0
    assert stream.receive(_rfb.xvp(4)) == b""
    assert stream.take_events() == [PowerMessage(4, False), Dropped("client_cut_text")]


# --- Length -----------------------------------------------------------------------------------------------------------


def test_a_clipboard_is_passed_on_as_it_comes() -> None:
    length = 1 << 20
    stream = ClientStream(HEALED)
    head = struct.pack("!B3xi", 6, length)
    assert stream.receive(head[:5]) == b""
    assert stream.kept == 5
    assert stream.receive(head[5:]) == head
    chunk = bytes(1024)
    for _turn in range(length >> 10):
        assert stream.receive(chunk) is chunk
        assert stream.kept == 0
    assert stream.receive(SHORT) is SHORT


@pytest.mark.parametrize("length", [(1 << 20) + 1, (1 << 31) - 1, -(1 << 20) - 1, -(1 << 31)])
@pytest.mark.parametrize("treatment", [UNTOUCHED, HEALED, VIEW_ONLY])
def test_a_clipboard_that_is_too_long_ends_the_session_by_its_head(treatment: Treatment, length: int) -> None:
    stream = ClientStream(treatment)
    before = _rfb.update_request(0, 0, 1, 1)
    head = struct.pack("!B3xi", 6, length)
    assert stream.receive(before + head[:-1]) == before
    with pytest.raises(ClientViolation, match=f"{abs(length)} elements of client_cut_text; 1048576 is the most"):
        stream.receive(head[-1:])
    assert stream.kept == 0


def test_the_longest_clipboard_is_the_configuration_s() -> None:
    small = decide(FIXED, Policy(most_cut_text=100))
    large = decide(FIXED, Policy(most_cut_text=1 << 24))
    message = say("client_cut_text", payload=bytes(100))
    assert run(small, message)[0] == message
    with pytest.raises(ClientViolation, match="101 elements of client_cut_text; 100 is the most"):
        run(small, say("client_cut_text", payload=bytes(101)))
    message = say("client_cut_text", payload=bytes(1 << 24))
    assert run(large, message)[0] == message


def test_a_fence_that_is_too_long() -> None:
    with pytest.raises(ClientViolation, match="65 elements of fence; 64 is the most"):
        run(UNTOUCHED, say("fence", flags=0, payload=bytes(65)))


@pytest.mark.parametrize("treatment", [UNTOUCHED, HEALED, VIEW_ONLY])
def test_nothing_but_one_beginning_is_kept(treatment: Treatment) -> None:
    stream = ClientStream(treatment)
    data = (ALL + _rfb.set_encodings(*[0] * 1024)) * 2
    most = 0
    for at in range(len(data)):
        stream.receive(data[at : at + 1])
        most = max(most, stream.kept)
    assert most == 4 + 4 * 1024 - 1
    assert stream.kept == 0


# --- What nobody knows ------------------------------------------------------------------------------------------------

UNKNOWN = {
    "a type": (b"\x07" + bytes(9), "a message of the unknown type 7 came"),
    "a type of QEMU's": (b"\xff\x09" + bytes(9), "a message of the unknown type 255, 9 came"),
    "an operation of QEMU's audio": (b"\xff\x01\0\x03" + bytes(9), "qemu_audio message of the unknown operation 3"),
}


@pytest.mark.parametrize("treatment", [UNTOUCHED, HEALED])
@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_message_is_relayed_with_all_that_follows(name: str, treatment: Treatment) -> None:
    message, reason = UNKNOWN[name]
    stream = SHORT + message + _rfb.set_encodings(-309) + _rfb.xvp(4)
    out, events = every_cut(treatment, stream)
    assert out == stream
    assert len(events) == 1
    assert isinstance(events[0], WentOpaque)
    assert reason in events[0].reason
    opaque = ClientStream(treatment)
    opaque.receive(message)
    assert opaque.opaque
    more = _rfb.set_encodings(-309)
    assert opaque.receive(more) is more


@pytest.mark.parametrize("treatment", [STRICT, DENIED, VIEW_ONLY, DENIED._replace(unknown_message="relay")])
@pytest.mark.parametrize("name", UNKNOWN)
def test_an_unknown_message_ends_the_session_where_something_is_enforced(name: str, treatment: Treatment) -> None:
    message, reason = UNKNOWN[name]
    request = _rfb.update_request(0, 0, 1, 1)
    with pytest.raises(ClientViolation, match=reason) as caught:
        run(treatment, request + message)
    assert caught.value.before == request, "what came before it still may go on"
    assert isinstance(caught.value, VncProtocolError)
    stream = ClientStream(treatment)
    with pytest.raises(ClientViolation, match=reason) as caught:
        b"".join(stream.receive(bytes((byte,))) for byte in message)
    assert caught.value.before == b""
    assert not stream.opaque


def test_nothing_goes_on_after_a_violation() -> None:
    stream = ClientStream(DENIED)
    with pytest.raises(ClientViolation):
        stream.receive(b"\x07")
    assert stream.receive(_rfb.xvp(4)) == b""
    assert stream.receive(SHORT) == b""


def test_a_violation_comes_with_what_still_may_go_on() -> None:
    stream = ClientStream(VIEW_ONLY)
    request = _rfb.update_request(0, 0, 1, 1)
    with pytest.raises(ClientViolation) as caught:
        stream.receive(request + SHORT + request + _rfb.set_encodings(-309, 0) + SHORT + b"\x07" + request)
    assert caught.value.before == request * 2 + _rfb.set_encodings(0)
    assert stream.take_events() == [Dropped("pointer_event", 2)]
