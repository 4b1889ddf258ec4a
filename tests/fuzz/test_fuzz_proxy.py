# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The proxy's protocol with whatever clients and servers may send, and with every way of cutting it."""

from __future__ import annotations

import struct
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.kvmops.console.plugins.module_utils import _rfb
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._offer import INIT
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._treatment import Policy, Treatment
from ansible_collections.kvmops.console.tests.fuzz import proxy_properties as properties

FUZZ = settings(derandomize=True, max_examples=250, deadline=None, suppress_health_check=[HealthCheck.too_slow])

INTERESTING = [0, 1, 5, 7, -223, -224, -239, -257, -258, -308, -309, -309, -312, -316]
WORD = st.one_of(st.sampled_from([0, 1, 2, 0x80, 0xFFFF]), st.integers(0, 0xFFFF))
BYTE = st.one_of(st.sampled_from([0, 1, 2, 3, 4, 0x7F, 0x80, 0xFF]), st.integers(0, 0xFF))
CUTS = st.lists(st.integers(0, 400), max_size=12)
TREATMENT = st.sampled_from(properties.TREATMENTS)
POLICY = st.sampled_from(properties.POLICIES)


def said(name: str, **strategies: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    """Draw a client's message of this name."""
    return st.fixed_dictionaries(strategies).map(lambda content: _rfb.build(_rfb.CLIENT_MESSAGES, name, **content))


AREA = {"x": WORD, "y": WORD, "width": WORD, "height": WORD}
LONG = st.integers(0, 0xFFFFFFFF)
KNOWN: st.SearchStrategy[bytes] = st.one_of(
    said("set_pixel_format", payload=st.binary(min_size=16, max_size=16)),
    said(
        "set_encodings",
        items=st.lists(
            st.one_of(st.sampled_from(INTERESTING), st.integers(-(2**31), 2**31 - 1)).map(lambda number: (number,)),
            max_size=20,
        ),
    ),
    said("framebuffer_update_request", incremental=BYTE, **AREA),
    said("key_event", down=BYTE, key=LONG),
    # Without the mark of a longer one: whether it means that depends on what was listed before
    said("pointer_event", buttons=st.integers(0, 0x7F), x=WORD, y=WORD),
    said("client_cut_text", payload=st.binary(max_size=99)),
    st.binary(max_size=99).map(_rfb.extended_cut_text),
    said("enable_continuous_updates", enable=BYTE, **AREA),
    said("fence", flags=LONG, payload=st.binary(max_size=64)),
    said("xvp", version=BYTE, code=BYTE),
    said(
        "set_desktop_size",
        width=WORD,
        height=WORD,
        items=st.lists(st.tuples(LONG, WORD, WORD, WORD, WORD, LONG), max_size=4),
    ),
    said("qemu_key_event", down=WORD, keysym=LONG, keycode=LONG),
    said("qemu_audio", operation=st.sampled_from([0, 1])),
    said("qemu_audio", operation=st.just(2), payload=st.binary(min_size=6, max_size=6)),
)
TANGLED = st.one_of(
    KNOWN,
    KNOWN,
    st.builds(lambda message, end: message[: end % (len(message) + 1)], KNOWN, st.integers(0, 200)),
    st.builds(lambda x, tail: _rfb.pointer_event(x, 0, 0x80) + tail, WORD, st.binary(max_size=3)),
    st.builds(
        lambda kind, length: struct.pack("!B3xi", kind, length),
        st.sampled_from([2, 6, 248, 250]),
        st.integers(-(2**31), 2**31 - 1),
    ),
    st.binary(max_size=20),
)
"""What a client may send, and what it must not."""


# --- What the client says ---------------------------------------------------------------------------------------------


@FUZZ
@given(TREATMENT, st.lists(KNOWN, max_size=12), CUTS, st.booleans())
def test_known_messages_are_treated_as_decided(
    treatment: Treatment, messages: list[bytes], cuts: list[int], offered: bool
) -> None:
    said = properties.check_client(treatment, b"".join(messages), cuts, offered=offered)
    assert (said.error, said.opaque, said.kept) == ("", False, 0)
    assert said.out == properties.expected(treatment, messages, offered=offered)


@FUZZ
@given(st.lists(KNOWN, max_size=12), CUTS)
def test_untouched_comes_out_byte_for_byte(messages: list[bytes], cuts: list[int]) -> None:
    data = b"".join(messages)
    said = properties.check_client(properties.UNTOUCHED, data, cuts, offered=False)
    assert (said.out, said.error) == (data, "")


@FUZZ
@given(TREATMENT, st.lists(TANGLED, max_size=12).map(b"".join), CUTS, st.booleans())
def test_any_client_is_treated_or_ended(treatment: Treatment, data: bytes, cuts: list[int], offered: bool) -> None:
    properties.check_client(treatment, data, cuts, offered=offered)


@FUZZ
@given(TREATMENT, st.integers(1, 1 << 20), st.sampled_from([-1, 1]))
def test_long_clipboards_are_never_kept(treatment: Treatment, length: int, sign: int) -> None:
    text = (b"\xfa\0\1\4" * (1 + length // 4))[:length]
    data = [struct.pack("!B3xi", 6, sign * length), *properties.pieces(text, range(0, length, 16384)), b"\xfa"]
    said = properties.say(treatment, data, offered=True)
    refused = length > treatment.most_cut_text
    assert (bool(said.error), said.kept) == ((True, 0) if refused else (False, 1))
    assert len(said.out) == (0 if refused or treatment.view_only else 8 + length)


# --- The handshake ----------------------------------------------------------------------------------------------------

VERSION = st.sampled_from(
    [
        *[b"RFB 003.003\n", b"RFB 003.005\n", b"RFB 003.007\n"],
        *[b"RFB 003.008\n"] * 4,
        *[b"RFB 003.889\n", b"RFB 004.001\n", b"RFB 000.000\n", b"RFB 00x.008\n", b"SSH-2.0-me\r\n"],
    ]
)
TYPES = st.one_of(
    st.sampled_from([b"\1\1", b"\1\2", b"\2\1\2", b"\3\1\x13\2", b"\1\x13", b"\0", bytes(3) + b"\1", bytes(3) + b"\2"]),
    st.binary(min_size=1, max_size=8),
)
RESULT = st.sampled_from([bytes(4), bytes(4), b"\0\0\0\1", b"\0\0\0\1\0\0\0\2no", b"\0\0\0\1\xff\xff\xff\xff"])
SERVER_INIT = st.builds(
    lambda head, name: head + struct.pack("!I", len(name)) + name, st.binary(min_size=20, max_size=20), st.binary()
)
SERVER = st.one_of(VERSION, TYPES, RESULT, SERVER_INIT, st.binary(max_size=24))
CLIENT = st.one_of(VERSION, st.sampled_from([b"\1", b"\2", b"\x13"]), KNOWN, st.binary(max_size=24))


@st.composite
def conversations(draw: st.DrawFn) -> list[properties.Turn]:
    """Draw turns that look like a handshake, as far as they go."""
    password = st.binary(min_size=16, max_size=16)
    turns: list[tuple[bool, st.SearchStrategy[bytes]]] = [(True, VERSION), (False, VERSION), (True, TYPES)]
    kind = draw(st.sampled_from([1, 1, 2, 2, 0x13]))
    turns += [(False, st.just(bytes((kind,))))] if draw(st.booleans()) else []
    turns += [(True, password), (False, password)] if kind == 2 else []
    turns += [(True, RESULT)] if draw(st.booleans()) else []
    turns += [(False, st.sampled_from([b"\0", b"\1"])), (True, SERVER_INIT), (False, KNOWN), (True, st.binary())]
    return [(server, draw(words)) for server, words in turns]


@FUZZ
@given(POLICY, conversations(), CUTS)
def test_handshakes_go_through_or_end(policy: Policy, turns: list[properties.Turn], cuts: list[int]) -> None:
    properties.check_handshake(policy, turns, cuts)


@FUZZ
@given(
    POLICY,
    st.lists(st.one_of(st.tuples(st.just(True), SERVER), st.tuples(st.just(False), CLIENT)), max_size=10),
    CUTS,
)
def test_any_two_sides_are_understood_or_refused(policy: Policy, turns: list[properties.Turn], cuts: list[int]) -> None:
    properties.check_handshake(policy, turns, cuts)


@FUZZ
@given(POLICY, conversations(), st.randoms(use_true_random=False))
def test_it_does_not_matter_who_is_faster(policy: Policy, turns: list[properties.Turn], chance: Any) -> None:
    in_turn, _handshake = properties.shake(policy, turns)
    mixed = [turn for turn in turns if turn[0]]
    for words in (turn for turn in reversed(turns) if not turn[0]):
        position = chance.randint(0, len(mixed))
        mixed.insert(position if all(server for server, _said in mixed[:position]) else 0, words)
    out_of_turn, _handshake = properties.shake(policy, mixed)
    if not in_turn.error and not out_of_turn.error:
        assert out_of_turn == in_turn


# --- The offer --------------------------------------------------------------------------------------------------------


def rectangle(encoding: int, payload: bytes = b"", width: int = 1, height: int = 1) -> bytes:
    return struct.pack("!HHHHi", 0, 0, width, height, encoding) + payload


@st.composite
def raw_rectangles(draw: st.DrawFn) -> bytes:
    """Draw a rectangle of 16-bit pixels."""
    width, height = draw(st.integers(0, 5)), draw(st.integers(0, 5))
    return rectangle(0, draw(st.binary(min_size=2 * width * height, max_size=2 * width * height)), width, height)


FOLLOWED: st.SearchStrategy[bytes] = st.one_of(
    raw_rectangles(),
    st.binary(min_size=4, max_size=4).map(lambda where: rectangle(1, where)),
    st.sampled_from([-223, -257, -258, -259]).map(rectangle),
    st.binary(min_size=1, max_size=1).map(lambda lights: rectangle(-261, lights)),
    st.integers(0, 3).map(lambda screens: rectangle(-308, bytes([screens]) + bytes(3 + 16 * screens))),
)
SERVER_MESSAGE: st.SearchStrategy[bytes] = st.one_of(
    st.lists(FOLLOWED, max_size=4).map(lambda parts: struct.pack("!BxH", 0, len(parts)) + b"".join(parts)),
    st.lists(FOLLOWED, max_size=4).map(lambda parts: b"\0\0\xff\xff" + b"".join(parts) + rectangle(-224)),
    st.sampled_from([b"\2", INIT, b"\xfa\0\1\0", b"\x96"]),
    st.binary(max_size=40).map(lambda text: struct.pack("!B3xi", 3, len(text)) + text),
    st.binary(max_size=40).map(lambda text: struct.pack("!B3xi", 3, -len(text)) + text),
    st.integers(0, 5).map(lambda count: struct.pack("!BxHH", 1, 0, count) + bytes(6 * count)),
    st.binary(max_size=64).map(lambda text: struct.pack("!B3xIB", 248, 0, len(text)) + text),
)
SERVER_ANYTHING = st.one_of(
    SERVER_MESSAGE,
    st.sampled_from([7, 16, -239]).map(lambda encoding: b"\0\0\0\1" + rectangle(encoding)),
    st.binary(max_size=24),
)


@FUZZ
@given(st.lists(SERVER_MESSAGE, max_size=8), st.integers(0, 400), CUTS)
def test_init_comes_at_the_next_boundary(messages: list[bytes], asked: int, cuts: list[int]) -> None:
    data = b"".join(messages)
    asked %= len(data) + 1
    boundaries = [sum(map(len, messages[:count])) for count in range(len(messages) + 1)]
    at = min(boundary for boundary in boundaries if boundary >= asked)
    assert properties.check_offer(data, asked, cuts, 16) == (data[:at] + INIT + data[at:], "made")


@FUZZ
@given(st.lists(SERVER_ANYTHING, max_size=8).map(b"".join), st.integers(0, 400), CUTS, st.sampled_from([0, 8, 16, 32]))
def test_any_server_is_relayed(data: bytes, asked: int, cuts: list[int], bits: int) -> None:
    properties.check_offer(data, asked, cuts, bits)
