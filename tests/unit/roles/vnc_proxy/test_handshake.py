# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The handshake between a client and a server, byte for byte, as it goes through the proxy."""

from __future__ import annotations

import struct
from typing import NamedTuple

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _rfb
from ansible_collections.kvmops.console.plugins.module_utils._errors import VncProtocolError
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._client_stream import ClientViolation
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._handshake import MOST_EARLY, Handshake
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._treatment import Policy

PIXELS = bytes.fromhex("20180001 00ff00ff 00ff1008 00000000")
INIT = bytes.fromhex("0280 01e0") + PIXELS + bytes.fromhex("00000004") + b"QEMU"
CHALLENGE = bytes(range(100, 116))
RESPONSE = bytes(range(200, 216))
GOOD, BAD, TOO_MANY = bytes(4), b"\0\0\0\1", b"\0\0\0\2"
V33, V37, V38 = b"RFB 003.003\n", b"RFB 003.007\n", b"RFB 003.008\n"

PASS = Policy()
REFUSE = Policy(opaque_security="refuse")


def text(words: bytes) -> bytes:
    return struct.pack("!I", len(words)) + words


Turn = tuple[str, bytes]
"""Who speaks, "S" or "C", and what: it has to come out on the other side as it is."""


class Ended(NamedTuple):
    """What came out of a handshake."""

    handshake: Handshake
    to_client: bytes
    to_server: bytes


def play(turns: list[Turn], policy: Policy = PASS, size: int = 1 << 20) -> Ended:
    """Say all of it in pieces of `size` bytes, each side in its turn."""
    handshake = Handshake(policy)
    to_client = to_server = b""
    for who, words in turns:
        take = handshake.from_server if who == "S" else handshake.from_client
        for start in range(0, len(words), size):
            take(words[start : start + size])
            to_client += handshake.to_client()
            to_server += handshake.to_server()
    return Ended(handshake, to_client, to_server)


def said(turns: list[Turn], who: str) -> bytes:
    return b"".join(words for speaker, words in turns if speaker == who)


NONE_38 = [("S", V38), ("C", V38), ("S", b"\1\1"), ("C", b"\1"), ("S", GOOD), ("C", b"\0"), ("S", INIT)]
VNC_38 = [
    *[("S", V38), ("C", V38), ("S", b"\2\1\2"), ("C", b"\2"), ("S", CHALLENGE), ("C", RESPONSE)],
    *[("S", GOOD), ("C", b"\1"), ("S", INIT)],
]
NONE_37 = [("S", V38), ("C", V37), ("S", b"\1\1"), ("C", b"\1"), ("C", b"\1"), ("S", INIT)]
VNC_37 = [
    *[("S", V37), ("C", V37), ("S", b"\1\2"), ("C", b"\2"), ("S", CHALLENGE), ("C", RESPONSE)],
    *[("S", GOOD), ("C", b"\1"), ("S", INIT)],
]
NONE_33 = [("S", V33), ("C", V33), ("S", b"\0\0\0\1"), ("C", b"\1"), ("S", INIT)]
VNC_33 = [
    *[("S", V38), ("C", V33), ("S", b"\0\0\0\2"), ("S", CHALLENGE), ("C", RESPONSE), ("S", GOOD), ("C", b"\1")],
    ("S", INIT),
]
ODD_33 = [("S", b"RFB 003.005\n"), ("C", b"RFB 003.005\n"), ("S", b"\0\0\0\1"), ("C", b"\1"), ("S", INIT)]
APPLE = [("S", b"RFB 003.889\n"), ("C", b"RFB 003.889\n"), ("S", b"\2\2\36"), ("C", b"\2"), ("S", CHALLENGE)]
APPLE += [("C", RESPONSE), ("S", GOOD), ("C", b"\1"), ("S", INIT)]
REALVNC = [("S", b"RFB 005.000\n"), *NONE_38[1:]]

WHOLE = {
    "None in 3.8": (NONE_38, (3, 8), 1, (1,)),
    "VNC authentication in 3.8": (VNC_38, (3, 8), 2, (1, 2)),
    "None in 3.7": (NONE_37, (3, 7), 1, (1,)),
    "VNC authentication in 3.7": (VNC_37, (3, 7), 2, (2,)),
    "None in 3.3": (NONE_33, (3, 3), 1, (1,)),
    "VNC authentication in 3.3": (VNC_33, (3, 3), 2, (2,)),
    "3.5, which means 3.3": (ODD_33, (3, 3), 1, (1,)),
    "3.889, which means 3.8": (APPLE, (3, 8), 2, (2, 30)),
    "a server of 5.0": (REALVNC, (3, 8), 1, (1,)),
}


@pytest.mark.parametrize("size", [1, 2, 5, 1000])
@pytest.mark.parametrize("name", WHOLE)
def test_all_of_it_goes_through(name: str, size: int) -> None:
    turns, version, chosen, offered = WHOLE[name]
    handshake, to_client, to_server = play(turns, size=size)
    assert to_client == said(turns, "S")
    assert to_server == said(turns, "C")
    assert (handshake.state, handshake.version, handshake.security_type) == ("done", version, chosen)
    assert (handshake.offered, handshake.reason) == (offered, "")
    assert handshake.desktop == _rfb.ServerInit(640, 480, PIXELS, "QEMU")
    assert handshake.rest_of_client() == handshake.rest_of_server() == b""


@pytest.mark.parametrize("name", WHOLE)
def test_each_side_hears_the_other_before_it_has_to_answer(name: str) -> None:
    turns = WHOLE[name][0]
    handshake = Handshake(PASS)
    for who, words in turns:
        assert handshake.state == "running"
        if who == "S":
            handshake.from_server(words)
            assert (handshake.to_client(), handshake.to_server()) == (words, b"")
        else:
            handshake.from_client(words)
            assert (handshake.to_client(), handshake.to_server()) == (b"", words)
    assert handshake.state == "done"


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_what_comes_after_it_is_left(size: int) -> None:
    turns = [*NONE_38, ("S", b"\2\2\2"), ("C", b"more")]
    handshake, to_client, to_server = play(turns, size=size)
    assert (to_client, to_server) == (said(NONE_38, "S"), said(NONE_38, "C"))
    assert (handshake.rest_of_server(), handshake.rest_of_client()) == (b"\2\2\2", b"more")
    assert (handshake.rest_of_server(), handshake.rest_of_client()) == (b"", b""), "once"


def test_what_comes_in_the_same_piece_is_left() -> None:
    turns = [*NONE_38[:-2], ("C", b"\1" + _rfb.set_encodings(0)), ("S", INIT + b"\2")]
    handshake, to_client, to_server = play(turns)
    assert handshake.state == "done"
    assert to_client.endswith(INIT)
    assert to_server == V38 + b"\1\1"
    assert (handshake.rest_of_server(), handshake.rest_of_client()) == (b"\2", _rfb.set_encodings(0))


def test_a_client_that_says_all_at_once_waits_for_its_turns() -> None:
    handshake = Handshake(PASS)
    handshake.from_client(V38 + b"\1\1" + _rfb.key_event(97, down=True))
    assert handshake.to_server() == b""
    handshake.from_server(V38)
    assert handshake.to_server() == V38
    handshake.from_server(b"\1\1")
    assert handshake.to_server() == b"\1"
    handshake.from_server(GOOD)
    assert handshake.to_server() == b"\1"
    handshake.from_server(INIT)
    assert handshake.state == "done"
    assert handshake.rest_of_client() == _rfb.key_event(97, down=True)


@pytest.mark.parametrize("policy", [PASS, REFUSE])
@pytest.mark.parametrize("name", WHOLE)
def test_sides_that_never_wait_are_understood(name: str, policy: Policy) -> None:
    turns = WHOLE[name][0]
    for order in ("SC", "CS"):
        handshake, to_client, to_server = play([(who, said(turns, who) + b"\2") for who in order], policy)
        assert to_server == said(turns, "C")
        assert to_client == said(turns, "S").replace(b"\2\2\36", b"\2\2\36" if policy == PASS else b"\1\2")
        assert (handshake.state, handshake.offered) == ("done", WHOLE[name][3])
        assert (handshake.rest_of_server(), handshake.rest_of_client()) == (b"\2", b"\2")


# --- Refusals ---------------------------------------------------------------------------------------------------------

NO_CONNECTION, NO_ENTRY = "The server refuses the connection", "The server refuses the authentication"

REFUSALS = {
    "no types in 3.8": ([("S", V38), ("C", V38), ("S", b"\0" + text(b"Too busy"))], f"{NO_CONNECTION}: Too busy"),
    "no types in 3.7": ([("S", V38), ("C", V37), ("S", b"\0" + text(b"no\n \x00"))], f"{NO_CONNECTION}: no"),
    "type 0 in 3.3": ([("S", V33), ("C", V33), ("S", bytes(4) + text(b"Go away"))], f"{NO_CONNECTION}: Go away"),
    "no reason": ([("S", V33), ("C", V33), ("S", bytes(4) + text(b""))], f"{NO_CONNECTION}."),
    "wrong password in 3.8": ([*VNC_38[:6], ("S", BAD + text(b"Wrong\xff"))], f"{NO_ENTRY}: Wrong\ufffd"),
    "too many in 3.8": ([*VNC_38[:6], ("S", TOO_MANY + text(b"Too many attempts"))], f"{NO_ENTRY}: Too many attempts"),
    "None in 3.8": ([*NONE_38[:4], ("S", BAD + text(b"no"))], f"{NO_ENTRY}: no"),
    "wrong password in 3.7": ([*VNC_37[:6], ("S", BAD)], f"{NO_ENTRY}."),
    "wrong password in 3.3": ([*VNC_33[:5], ("S", BAD)], f"{NO_ENTRY}."),
}


@pytest.mark.parametrize("size", [1, 3, 1000])
@pytest.mark.parametrize("name", REFUSALS)
def test_a_server_that_refuses(name: str, size: int) -> None:
    turns, reason = REFUSALS[name]
    handshake, to_client, to_server = play(turns, size=size)
    assert (handshake.state, handshake.reason) == ("refused", reason)
    assert to_client == said(turns, "S"), "the client hears it in the server's words"
    assert to_server == said(turns, "C")
    assert handshake.desktop is None


def test_a_refusal_without_end_is_not_waited_for() -> None:
    with pytest.raises(VncProtocolError, match="announces 4097 bytes of a reason; 4096 is the most"):
        play([("S", V38), ("C", V38), ("S", b"\0" + struct.pack("!I", 4097))])


def test_a_name_without_end_is_not_waited_for() -> None:
    with pytest.raises(VncProtocolError, match="announces 65537 bytes of a desktop's name"):
        play([*NONE_38[:-1], ("S", INIT[:20] + struct.pack("!I", 65537))])


def test_the_longest_name_is_taken() -> None:
    init = INIT[:20] + text(b"Q" * 65536)
    ended = play([*NONE_38[:-1], ("S", init + b"\2")], size=4096)
    assert ended.to_client.endswith(init)
    assert ended.handshake.rest_of_server() == b"\2"


# --- Security types that can't be looked into -------------------------------------------------------------------------

VENCRYPT = [("S", V38), ("C", V38), ("S", b"\3\1\x13\2")]


@pytest.mark.parametrize("number", [0x13, 16, 18, 20, 30, 129, 255])
def test_an_opaque_type_is_passed(number: int) -> None:
    turns: list[Turn] = [("S", V38), ("C", V38), ("S", bytes((2, 1, number))), ("C", bytes((number,)))]
    handshake, to_client, to_server = play(turns)
    assert (to_client, to_server) == (said(turns, "S"), said(turns, "C"))
    assert (handshake.state, handshake.security_type) == ("opaque", number)
    handshake.from_server(b"\0\2")
    handshake.from_client(b"anything")
    assert (handshake.to_client(), handshake.to_server()) == (b"", b"")
    assert (handshake.rest_of_server(), handshake.rest_of_client()) == (b"\0\2", b"anything")


def test_a_clear_type_beside_an_opaque_one_stays_clear() -> None:
    handshake = play([*VENCRYPT, ("C", b"\1"), *NONE_38[4:]]).handshake
    assert (handshake.state, handshake.security_type, handshake.offered) == ("done", 1, (1, 0x13, 2))


@pytest.mark.parametrize("policy", [REFUSE, Policy(power="deny"), Policy(view_only=True)])
def test_opaque_types_are_not_offered_where_something_is_enforced(policy: Policy) -> None:
    handshake, to_client, to_server = play(VENCRYPT, policy, size=1)
    assert (to_client, to_server) == (V38 + b"\2\1\2", V38)
    assert handshake.offered == (1, 0x13, 2)
    handshake.from_client(b"\2")
    assert handshake.to_server() == b"\2"
    handshake.from_server(CHALLENGE)
    assert handshake.to_client() == CHALLENGE


@pytest.mark.parametrize("name", WHOLE)
def test_clear_types_go_through_where_something_is_enforced(name: str) -> None:
    turns = WHOLE[name][0]
    handshake, _to_client, to_server = play(turns, REFUSE)
    assert (handshake.state, to_server) == ("done", said(turns, "C"))


@pytest.mark.parametrize("types", [b"\1\1", b"\2\2\1", b"\3\1\2\1"])
def test_clear_types_are_offered_as_they_come(types: bytes) -> None:
    assert play([("S", V38), ("C", V38), ("S", types)], REFUSE).to_client == V38 + types


REFUSED = "This console takes no security type that the server offers (19 (VeNCrypt), 77)."


@pytest.mark.parametrize("version", [V37, V38])
def test_a_server_with_nothing_but_opaque_types_is_refused(version: bytes) -> None:
    handshake, to_client, to_server = play([("S", V38), ("C", version), ("S", b"\2\x13\x4d")], REFUSE)
    assert (handshake.state, handshake.reason) == ("refused", REFUSED)
    assert to_client == V38 + b"\0" + text(REFUSED.encode())
    assert to_server == version
    handshake.from_client(b"\x13")
    assert handshake.to_server() == b""


def test_an_unknown_type_of_3_3() -> None:
    turns = [("S", V33), ("C", V33), ("S", b"\0\0\1\2")]
    handshake, to_client, _to_server = play(turns, size=1)
    assert (handshake.state, handshake.security_type, to_client) == ("opaque", 258, V33 + b"\0\0\1\2")
    handshake, to_client, _to_server = play(turns, REFUSE, size=1)
    reason = "This console takes no security type that the server offers (258)."
    assert (handshake.state, handshake.reason, handshake.security_type) == ("refused", reason, None)
    assert to_client == V33 + bytes(4) + text(reason.encode())


@pytest.mark.parametrize(("server", "client"), [(b"RFB 005.000\n", b"RFB 004.001\n"), (b"RFB 000.000\n", V38)])
def test_another_protocol(server: bytes, client: bytes) -> None:
    handshake, to_client, to_server = play([("S", server), ("C", client), ("S", b"\x17")], size=1)
    assert (handshake.state, to_client, to_server) == ("opaque", server, client)
    assert handshake.version == _rfb.parse_version(client)
    assert handshake.rest_of_server() == b"\x17"
    handshake, to_client, to_server = play([("S", server), ("C", client)], REFUSE)
    assert (handshake.state, to_client, to_server) == ("refused", server, b"")
    assert "cannot be looked into" in handshake.reason


# --- Sides that break the rules ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [PASS, REFUSE])
@pytest.mark.parametrize("number", [0, 3, 0x12, 255])
def test_a_client_that_chooses_what_it_was_not_offered(number: int, policy: Policy) -> None:
    with pytest.raises(ClientViolation, match="which it was not offered"):
        play([*VENCRYPT, ("C", bytes((number,)))], policy)


def test_a_client_that_chooses_what_was_taken_out() -> None:
    with pytest.raises(ClientViolation, match=r"19 \(VeNCrypt\), which it was not offered"):
        play([*VENCRYPT, ("C", b"\x13")], REFUSE)


@pytest.mark.parametrize(("server", "client"), [(V33, V37), (V33, V38), (V37, V38), (V37, b"RFB 003.889\n")])
def test_a_client_that_wants_more_than_the_server_knows(server: bytes, client: bytes) -> None:
    with pytest.raises(ClientViolation, match=r"The client wants RFB 3\.\d+ of a server that knows 3\.\d"):
        play([("S", server), ("C", client)])


@pytest.mark.parametrize("greeting", [b"SSH-", b"\0", b"RFB 00x.008\n", b"RFB 003.008\r", b"HTTP/1.1 400 "])
def test_a_server_that_does_not_speak_rfb(greeting: bytes) -> None:
    with pytest.raises(VncProtocolError, match="No VNC server answers there: its first bytes are b'") as caught:
        play([("S", greeting)], size=1)
    assert not isinstance(caught.value, ClientViolation)


@pytest.mark.parametrize("greeting", [b"GET / HTTP/1.1", b"\x16\x03", b"RFB 00x.008\n", b"RFB 003.008\r"])
def test_a_client_that_does_not_speak_rfb(greeting: bytes) -> None:
    with pytest.raises(ClientViolation, match=r"^The client does not speak RFB\.$"):
        play([("S", V38), ("C", greeting)], size=1)


def test_a_client_that_never_waits_is_not_kept() -> None:
    handshake = Handshake(PASS)
    handshake.from_client(V38 + bytes(MOST_EARLY - 12))
    with pytest.raises(ClientViolation, match="The client says more than 65536 bytes before its turn"):
        handshake.from_client(b"\0")


def test_a_server_that_never_waits_is_not_kept() -> None:
    handshake = Handshake(PASS)
    handshake.from_server(V38 + bytes(65536 + 24))
    with pytest.raises(VncProtocolError, match="The server says more than a handshake can be"):
        handshake.from_server(b"\0")


def test_what_comes_after_a_handshake_may_be_long() -> None:
    pixels, text = bytes(1 << 18), bytes(1 << 17)
    handshake = play([*NONE_38[:-1], ("S", INIT + pixels), ("C", text)]).handshake
    assert (handshake.rest_of_server(), handshake.rest_of_client()) == (pixels, text)
    handshake = play([*VENCRYPT, ("C", b"\x13" + text), ("S", pixels)]).handshake
    assert (handshake.rest_of_server(), handshake.rest_of_client()) == (pixels, text)


# --- Secrets, and those who only look ---------------------------------------------------------------------------------


def test_the_response_is_not_kept() -> None:
    handshake = Handshake(PASS)
    for who, words in VNC_38:
        (handshake.from_server if who == "S" else handshake.from_client)(words)
        handshake.to_client()
        handshake.to_server()
        kept = b"".join(bytes(value) for value in vars(handshake).values() if isinstance(value, (bytes, bytearray)))
        assert RESPONSE not in kept
        assert CHALLENGE not in kept


def test_who_only_looks_puts_nobody_out() -> None:
    handshake, _to_client, to_server = play(NONE_38, Policy(view_only=True))
    assert to_server == V38 + b"\1" + b"\1", "ClientInit asks for the desktop alone, and gets a shared one"
    assert handshake.state == "done"
    handshake = play([("C", V38 + b"\1" + b"\0" + b"\3more"), *NONE_38[::2]], Policy(view_only=True)).handshake
    assert (handshake.state, handshake.rest_of_client()) == ("done", b"\3more")
    assert play(NONE_38, Policy(power="deny")).to_server == said(NONE_38, "C")
