# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What holds of the proxy's protocol for any bytes at all. For fuzzers: each function checks, and raises otherwise."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ansible_collections.kvmops.console.plugins.module_utils import _rfb
from ansible_collections.kvmops.console.plugins.module_utils._errors import VncProtocolError
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._client_stream import (
    ClientStream,
    ClientViolation,
    Dropped,
    PowerMessage,
    WentOpaque,
)
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._handshake import MOST_EARLY, Handshake
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._offer import INIT, Offer
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._treatment import (
    Behaviour,
    Policy,
    Treatment,
    decide,
)

POLICIES = [
    Policy(power=power, view_only=view_only, opaque_security=security, unknown_message=unknown, most_cut_text=most)
    for power in ("allow", "as_configured", "deny")
    for view_only in (False, True)
    for security in ("pass", "refuse")
    for unknown, most in (("relay", 1 << 20), ("end", 100))
]
BEHAVIOURS = [
    None,
    *(
        Behaviour(power_control, pointer_change, qemu, gated)
        for power_control in (False, True)
        for pointer_change in (False, True)
        for qemu in (False, True)
        for gated in (None, False, True)
    ),
]
TREATMENTS = sorted({decide(behaviour, policy) for behaviour in BEHAVIOURS for policy in POLICIES})
UNTOUCHED = decide(Behaviour(True, False, True, None), Policy())

HANDS = frozenset({"key_event", "qemu_key_event", "pointer_event", "client_cut_text", "xvp", "set_desktop_size"})
MOST_KEPT = 4 + 4 * _rfb.MOST_ENCODINGS


def pieces(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Cut the bytes at these places."""
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in zip(edges, edges[1:])]


def single(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


# --- What the client says ---------------------------------------------------------------------------------------------


class Said(NamedTuple):
    """What became of a client's bytes. `kept` waits for more; `error` is the sentence that ended it."""

    out: bytes
    events: Counter[object]
    error: str
    opaque: bool
    kept: int


def say(treatment: Treatment, data: Sequence[bytes], *, offered: bool) -> Said:
    """Give the pieces to a stream, check what it keeps, count what it tells."""
    stream = ClientStream(treatment)
    stream.offered = offered
    out, error = b"", ""
    events: Counter[object] = Counter()
    for piece in data:
        try:
            out += stream.receive(piece)
        except ClientViolation as violation:
            out += violation.before
            error = str(violation)
        for event in stream.take_events():
            if isinstance(event, (PowerMessage, Dropped)):
                events[event._replace(times=1)] += event.times
            else:  # Once or more is all the same
                events[(type(event), *event)] = 1
        assert stream.kept < MOST_KEPT
        if error:
            break
    return Said(out, events, error, stream.opaque, stream.kept)


def check_client(treatment: Treatment, data: bytes, cuts: Iterable[int], *, offered: bool) -> Said:
    """Any bytes of a client, under any treatment."""
    said = say(treatment, [data], offered=offered)
    assert say(treatment, pieces(data, cuts), offered=offered) == said
    assert say(treatment, single(data), offered=offered) == said
    assert len(said.out) <= len(data)
    if not said.error:
        _check_enforced(treatment, said)
    if treatment == UNTOUCHED and not said.error:
        assert data.startswith(said.out)
        assert len(said.out) + said.kept == len(data)
    return said


def _check_enforced(treatment: Treatment, said: Said) -> None:
    """Read what goes on as a server does: nothing that is denied may be in it."""
    if treatment.must_parse:
        assert not said.opaque
        assert not any(isinstance(event, tuple) and WentOpaque in event for event in said.events)
    if said.opaque:
        return
    names = {message.name for message in understood(said.out)}
    if treatment.power == "drop":
        assert "xvp" not in names
    if treatment.view_only:
        assert not names & HANDS


def understood(out: bytes) -> list[_rfb.Message]:
    """Take a client's bytes apart, up to a message that has not come whole."""
    messages: list[_rfb.Message] = []
    offset = 0
    while offset < len(out):
        try:
            message = _rfb.parse(_rfb.CLIENT_MESSAGES, out, offset)
        except VncProtocolError:  # A clipboard that the treatment lets be longer than the codec does
            return messages
        if message is None:
            return messages
        messages.append(message)
        offset += len(message.raw)
    return messages


def expected(treatment: Treatment, messages: Sequence[bytes], *, offered: bool) -> bytes:
    """Say in the plainest way what has to become of whole, known messages."""
    out = b""
    listed: tuple[int, ...] = ()
    for raw in messages:
        message = _rfb.parse(_rfb.CLIENT_MESSAGES, raw)
        assert message is not None
        assert message.raw == raw
        if message.name == "set_encodings":
            listed = tuple(number for (number,) in message.items)
            gone = {-309} if treatment.strip_xvp else set()
            gone |= {-316} if treatment.strip_extended_mouse else set()
            rest = [number for number in listed if number not in gone]
            out += raw[:2] + struct.pack(f"!H{len(rest)}i", len(rest), *rest)
        elif message.name == "xvp":
            obeyed = -309 in listed and bool({-223, 5, -257} & set(listed))
            if treatment.power == "pass" or (treatment.power == "negotiated" and offered and obeyed):
                out += raw
        elif not (treatment.view_only and message.name in HANDS):
            out += raw
    return out


# --- The handshake ----------------------------------------------------------------------------------------------------

Turn = tuple[bool, bytes]
"""Whether the server speaks, and what."""


class Shaken(NamedTuple):
    """What became of a handshake."""

    to_client: bytes
    to_server: bytes
    state: str
    error: str


def shake(policy: Policy, turns: Iterable[Turn]) -> tuple[Shaken, Handshake]:
    """Play the turns, check what is kept."""
    handshake = Handshake(policy)
    to_client = to_server = b""
    error = ""
    for server, words in turns:
        try:
            (handshake.from_server if server else handshake.from_client)(words)
        except VncProtocolError as caught:
            error = str(caught).partition(":")[0]  # After it stand the bytes that had come by then
        to_client += handshake.to_client()
        to_server += handshake.to_server()
        if error:
            break
        if handshake.state == "running":
            assert len(handshake._of_client) <= MOST_EARLY
            assert len(handshake._of_server) <= _rfb.MOST_NAME + 24
    return Shaken(to_client, to_server, handshake.state, error), handshake


def check_handshake(policy: Policy, turns: Sequence[Turn], cuts: Sequence[int]) -> Shaken:
    """Any bytes of both sides, under any policy."""
    shaken, handshake = shake(policy, turns)
    assert bool(handshake.reason) == (shaken.state == "refused")
    for cut in (lambda words: pieces(words, cuts), single):
        other, _handshake = shake(policy, [(server, piece) for server, words in turns for piece in cut(words)])
        assert other == shaken
    said_by_server = b"".join(words for server, words in turns if server)
    said_by_client = b"".join(words for server, words in turns if not server)
    if not policy.refuses_opaque and not shaken.error:
        assert said_by_server.startswith(shaken.to_client)
        assert said_by_client.startswith(shaken.to_server)
        if shaken.state in ("done", "opaque"):
            assert shaken.to_client + handshake.rest_of_server() == said_by_server
            assert shaken.to_server + handshake.rest_of_client() == said_by_client
    if policy.refuses_opaque:
        assert shaken.state != "opaque"
        assert handshake.security_type in (None, 1, 2)
    assert (handshake.desktop is not None) == (shaken.state == "done")
    return shaken


# --- The offer --------------------------------------------------------------------------------------------------------


def relay(data: Sequence[bytes], asked: int, bits: int) -> tuple[bytes, str]:
    """Relay the pieces; the client asks once so many bytes have gone by (a piece ends there, or it never asks)."""
    offer = Offer(bits)
    out, gone, came = b"", 0, False
    for piece in data:
        if gone == asked and not came:
            came = True
            out += offer.ask()
        out += offer.relay(piece)
        gone += len(piece)
        assert offer.kept <= 16
        assert offer.settled == (offer.outcome != "waiting")
    if gone == asked and not came:
        out += offer.ask()
    return out, offer.outcome


def check_offer(data: bytes, asked: int, cuts: Iterable[int], bits: int) -> tuple[bytes, str]:
    """Any bytes of a server: INIT comes once or not at all, and nothing else changes."""
    asked %= len(data) + 1
    whole = relay([data[:asked], data[asked:]] if asked else [data], asked, bits)
    assert relay(pieces(data, [*cuts, asked]), asked, bits) == whole
    assert relay(single(data), asked, bits) == whole
    out, outcome = whole
    if outcome == "made":
        assert len(out) == len(data) + len(INIT)
        assert any(out[:at] + out[at + 4 :] == data for at in range(asked, len(data) + 1) if out[at : at + 4] == INIT)
    else:
        assert out == data
    return whole
