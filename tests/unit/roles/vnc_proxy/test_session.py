# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a session does with what its two ends do, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import struct
import time

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _rfb
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy import _session, _web
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._session import Ending, Limits
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._treatment import Policy

from .ends import (
    AFFECTED,
    FIXED,
    GREETING,
    INIT,
    NO_LIMITS,
    RAW_UPDATE,
    SERVER_INIT,
    Browser,
    Recorder,
    Running,
    descriptors,
    fill,
    noise,
    pair,
    run,
    running,
    shake_hands,
)

KINDS = ["ws", "wss", "tcp", "tls"]
POINTER = _rfb.pointer_event(3, 4)
REQUEST = _rfb.update_request(0, 0, 64, 48, incremental=True)
LISTED = _rfb.set_encodings(_rfb.RAW, _rfb.DESKTOP_SIZE, _rfb.XVP)
STRIPPED = _rfb.set_encodings(_rfb.RAW, _rfb.DESKTOP_SIZE)


async def ended(r: Running) -> Ending:
    return await r.task


def limit(r: Running, **seconds: float) -> None:
    """Limit a session that is past its handshake: none of the time counts that this took on a busy machine."""
    r.session._limits = NO_LIMITS._replace(**seconds)
    r.session._active_at = r.session._pinged_at = r.session._began_at = time.monotonic()
    r.session._set_timer()


@pytest.mark.parametrize("kind", KINDS)
def test_messages_pass_both_ways(kind: str) -> None:
    async def main() -> None:
        async with running(kind) as r:
            await shake_hands(r)
            assert r.observer.seen == [("handshake", "done")]
            await r.client.say(POINTER)
            assert await r.server.hear(6) == POINTER
            await r.server.say(b"\x02")
            assert await r.client.hear(1) == b"\x02"

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_fixed_server_sees_what_the_client_said(kind: str) -> None:
    async def main() -> None:
        async with running(kind, behaviour=FIXED) as r:
            await shake_hands(r)
            await r.client.say(LISTED + _rfb.xvp(4) + POINTER)
            assert await r.server.hear(len(LISTED) + 10) == LISTED + _rfb.xvp(4) + POINTER
            await r.server.say(INIT + RAW_UPDATE)
            assert await r.client.hear(4 + len(RAW_UPDATE)) == INIT + RAW_UPDATE
            assert r.observer.seen[1:] == [("power", 4, True)]

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_affected_server_is_healed(kind: str) -> None:
    async def main() -> None:
        async with running(kind, behaviour=AFFECTED) as r:
            await shake_hands(r)
            await r.client.say(_rfb.xvp(4))  # Nobody has offered anything
            await r.client.say(LISTED)
            assert await r.server.hear(len(STRIPPED)) == STRIPPED
            assert await r.client.hear(4) == INIT
            await r.client.say(_rfb.xvp(2))
            assert await r.server.hear(4) == _rfb.xvp(2)
            await r.server.say(RAW_UPDATE)
            assert await r.client.hear(len(RAW_UPDATE)) == RAW_UPDATE
            assert r.observer.seen[1:] == [("power", 4, False), ("offer", "made"), ("power", 2, True)]

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_healed_session_relays_by_the_same_code_as_any_other(kind: str) -> None:
    """Once the offer is made: what healing costs then is nothing."""

    async def main() -> None:
        async with running(kind, behaviour=AFFECTED) as healed, running(kind, behaviour=FIXED) as passed:
            for r in (healed, passed):
                await shake_hands(r)
                await r.client.say(LISTED + POINTER)
                await r.server.hear(len(STRIPPED if r is healed else LISTED) + len(POINTER))
            assert await healed.client.hear(4) == INIT
            for r in (healed, passed):
                assert r.session._take_server == r.session._client.relay
                assert r.session._take_client == r.session._relay_client
                # Every message that the client sends all the time is one look into the same kind of table.
                for message in (POINTER, REQUEST, _rfb.key_event(97, down=True)):
                    assert r.session._stream._between
                    assert r.session._stream._plain[message[0]] == len(message)

    run(main())


def test_offer_waits_for_the_end_of_an_update() -> None:
    async def main() -> None:
        async with running(behaviour=AFFECTED) as r:
            await shake_hands(r)
            await r.server.say(RAW_UPDATE[:100])
            assert await r.client.hear(100) == RAW_UPDATE[:100]
            await r.client.say(LISTED)
            assert await r.server.hear(len(STRIPPED)) == STRIPPED
            await r.server.say(RAW_UPDATE[100:] + RAW_UPDATE)
            whole = RAW_UPDATE[100:] + INIT + RAW_UPDATE
            assert await r.client.hear(len(whole)) == whole

    run(main())


def test_no_offer_after_a_change_of_the_pixel_format() -> None:
    """Nobody knows then how long the server's rectangles are."""
    change = _rfb.build(_rfb.CLIENT_MESSAGES, "set_pixel_format", payload=_rfb.TRUE_COLOUR)

    async def main() -> None:
        async with running(behaviour=AFFECTED) as r:
            await shake_hands(r)
            await r.client.say(change)
            assert await r.server.hear(20) == change
            await r.server.say(RAW_UPDATE)
            assert await r.client.hear(len(RAW_UPDATE)) == RAW_UPDATE
            await r.client.say(LISTED)
            assert await r.server.hear(len(STRIPPED)) == STRIPPED
            await r.server.say(RAW_UPDATE)
            assert await r.client.hear(len(RAW_UPDATE)) == RAW_UPDATE
            assert r.observer.seen[1:] == [("offer", "lost")]

    run(main())


def test_early_bytes_of_both_sides_pass() -> None:
    """A server may speak in one breath with ServerInit, and a client need not wait for it."""

    async def main() -> None:
        async with running(behaviour=AFFECTED) as r:
            await r.server.say(GREETING + b"\x01\x01" + bytes(4))
            await r.client.say(GREETING + b"\x01\x01" + LISTED)
            assert await r.server.hear(14) == GREETING + b"\x01\x01"
            await r.server.say(SERVER_INIT + b"\x02")
            assert await r.server.hear(len(STRIPPED)) == STRIPPED
            expected = GREETING + b"\x01\x01" + bytes(4) + SERVER_INIT + b"\x02" + INIT
            assert await r.client.hear(len(expected)) == expected

    run(main())


def test_power_messages_are_dropped_under_deny() -> None:
    async def main() -> None:
        async with running(behaviour=FIXED, policy=Policy(power="deny")) as r:
            await shake_hands(r)
            await r.client.say(LISTED + _rfb.xvp(2) + _rfb.xvp(4) + _rfb.xvp(4) + POINTER)
            assert await r.server.hear(len(STRIPPED) + 6) == STRIPPED + POINTER
            assert r.observer.seen[1:] == [("power", 2, False), ("power", 4, False), ("power", 4, False)]

    run(main())


def test_view_only_session_only_looks() -> None:
    async def main() -> None:
        async with running(behaviour=FIXED, policy=Policy(view_only=True)) as r:
            await shake_hands(r)
            await r.client.say(POINTER + _rfb.key_event(65, down=True) + REQUEST)
            assert await r.server.hear(10) == REQUEST
            assert set(r.observer.seen[1:]) == {("dropped", "pointer_event", 1), ("dropped", "key_event", 1)}

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_encrypted_session_passes_as_it_is(kind: str) -> None:
    async def main() -> None:
        async with running(kind, behaviour=AFFECTED) as r:
            await r.server.say(GREETING + b"\x01\x13")
            await r.client.say(GREETING + b"\x13" + LISTED)
            assert await r.client.hear(14) == GREETING + b"\x01\x13"
            assert await r.server.hear(13 + len(LISTED)) == GREETING + b"\x13" + LISTED
            await r.client.say(b"\xff" * 3000)
            assert await r.server.hear(3000) == b"\xff" * 3000
            await r.server.say(noise(100_000))
            assert await r.client.hear(100_000) == noise(100_000)
            assert r.observer.seen == [("handshake", "opaque")]

    run(main())


def test_encrypted_session_is_refused_where_something_is_enforced() -> None:
    async def main() -> None:
        async with running(behaviour=AFFECTED, policy=Policy(power="deny")) as r:
            await r.server.say(GREETING + b"\x01\x13")
            await r.client.say(GREETING)
            said = await r.client.hear_all()
            assert said.startswith(GREETING + b"\x00")
            assert b"VeNCrypt" in said
            assert r.client.close_code == 1008
            r.client.sock.close()
            assert (await ended(r)).reason == "refused"

    run(main())


def test_skipped_parse_relays_anything() -> None:
    async def main() -> None:
        async with running(skip_parse=True) as r:
            await r.client.say(b"hello")
            assert await r.server.hear(5) == b"hello"
            await r.server.say(b"no RFB")
            assert await r.client.hear(6) == b"no RFB"
            assert r.observer.seen == []

    run(main())


def test_unknown_message_ends_parsing() -> None:
    async def main() -> None:
        async with running() as r:
            await shake_hands(r)
            await r.client.say(b"\x99" + LISTED)
            assert await r.server.hear(1 + len(LISTED)) == b"\x99" + LISTED
            assert [what for what, *_rest in r.observer.seen[1:]] == ["opaque"]

    run(main())


# --- Ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_server_that_closes_is_heard_to_its_last_byte(kind: str) -> None:
    """It goes in the middle of an update, with more than the client's side can take."""

    async def main() -> None:
        async with running(kind) as r:
            await shake_hands(r)
            said = await fill(r)
            r.server.sock.close()
            assert await r.client.hear_all() == said
            r.client.sock.close()
            assert await ended(r) == Ending("server_closed", "the server closed the connection")
            if isinstance(r.client, Browser):
                assert r.client.close_code == 1000

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_server_that_is_reset_ends_the_session(kind: str) -> None:
    async def main() -> None:
        async with running(kind, server="tcp") as r:
            await shake_hands(r)
            r.server.vanish()
            assert await r.client.hear_all() == b""
            r.client.sock.close()
            assert (await ended(r)).reason == "server_closed"

    run(main())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("full", [False, True])
def test_client_that_vanishes_ends_the_session(kind: str, full: bool) -> None:
    async def main() -> None:
        async with running(kind) as r:
            await shake_hands(r)
            if full:
                await fill(r)
            r.client.vanish()
            assert (await ended(r)).reason == "client_closed"
            with contextlib.suppress(ConnectionResetError):  # That's what closing with unread bytes means
                assert await r.server.hear_all() == b""

    run(main())


@pytest.mark.parametrize("kind", ["ws", "tcp"])
def test_half_closed_client_is_heard_to_its_last_byte(kind: str) -> None:
    """Its last words wait for a server that reads nothing for a while."""

    async def main() -> None:
        async with running(kind) as r:
            await shake_hands(r)
            text = _rfb.build(_rfb.CLIENT_MESSAGES, "client_cut_text", payload=noise(900_000))
            await r.client.say(text)
            r.client.sock.shutdown(socket.SHUT_WR)
            assert await r.server.hear_all() == text
            assert (await ended(r)).reason == "client_closed"

    run(main())


@pytest.mark.parametrize("kind", ["ws", "wss"])
def test_browser_that_says_goodbye_is_answered(kind: str) -> None:
    async def main() -> None:
        async with running(kind) as r:
            await shake_hands(r)
            await r.client.say(POINTER)
            await r.client.close()
            assert await r.client.hear_all() == b""
            assert r.client.close_code == 1000
            assert await r.server.hear_all() == POINTER
            assert await ended(r) == Ending("client_closed", "the client said goodbye")

    run(main())


def test_last_words_before_a_goodbye_reach_a_slow_server() -> None:
    """They come in one read with it, and the server has no room for all of them."""

    async def main() -> None:
        async with running(skip_parse=True) as r:
            r.session._server.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            r.client.protocol.send_binary(noise(50_000))
            r.client.protocol.send_close(1000, "enough")
            await r.client.raw(b"".join(r.client.protocol.data_to_send()))
            heard = await r.server.hear(50_000)
            assert heard == noise(50_000)
            assert await r.server.hear_all() == b""
            assert (await ended(r)).reason == "client_closed"

    run(main())


def test_goodbye_of_a_browser_is_all_that_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It need not close its connection: we do, once it has answered ours."""
    monkeypatch.setattr(_session, "LINGER", 1000.0)

    async def main() -> None:
        async with running() as r:
            await shake_hands(r)
            r.session.end("drained")
            assert await r.client.hear_all() == b""
            assert (await ended(r)).reason == "drained"

    run(main())


def test_browser_that_says_goodbye_and_stays_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with more on the way to it than it reads."""
    monkeypatch.setattr(_session, "LINGER", 0.05)

    async def main() -> None:
        async with running() as r:
            await shake_hands(r)
            await fill(r)
            await r.client.close()
            assert (await ended(r)).reason == "client_closed"

    run(main())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("full", [False, True])
def test_drained_session_ends(kind: str, full: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_session, "LINGER", 0.05)

    async def main() -> None:
        async with running(kind) as r:
            await shake_hands(r)
            said = await fill(r) if full else b""
            r.session.end("drained")
            if not full:
                assert await r.client.hear_all() == b""
                if isinstance(r.client, Browser):
                    assert r.client.close_code == 1001
            assert (await ended(r)).reason == "drained"
            assert bool(said) == full

    run(main())


def test_session_may_be_ended_before_it_runs() -> None:
    async def main() -> None:
        async with running() as r:
            r.session.end("drained")
            assert await r.client.hear_all() == b""
            r.client.sock.close()
            assert (await ended(r)).reason == "drained"

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_cancelled_session_closes_at_once(kind: str) -> None:
    async def main() -> None:
        async with running(kind) as r:
            await shake_hands(r)
            r.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await r.task
            assert await r.client.hear_all() == b""
            assert await r.server.hear_all() == b""
            if isinstance(r.client, Browser):
                assert r.client.close_code == 1001

    run(main())


def test_server_that_speaks_no_rfb_ends_the_session() -> None:
    async def main() -> None:
        async with running() as r:
            await r.server.say(b"SSH-2.0-OpenSSH_9.2\r\n")
            assert await r.client.hear_all() == b""
            r.client.sock.close()
            assert (await ended(r)).reason == "server_violation"
            assert r.client.close_code == 1011

    run(main())


def test_client_that_speaks_no_rfb_ends_the_session() -> None:
    async def main() -> None:
        async with running() as r:
            await r.server.say(GREETING)
            await r.client.say(b"GET / HTTP/1.1\r\n")
            assert await r.client.hear_all() == GREETING
            r.client.sock.close()
            assert (await ended(r)).reason == "client_violation"
            assert await r.server.hear_all() == b""

    run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_enormous_clipboard_ends_the_session_by_its_head(kind: str) -> None:
    async def main() -> None:
        async with running(kind) as r:
            await shake_hands(r)
            await r.client.say(POINTER + struct.pack("!B3xI", 6, 0x7FFFFFFF) + bytes(1000))
            assert await r.server.hear_all() == POINTER
            await r.client.hear_all()
            r.client.sock.close()
            ending = await ended(r)
            assert ending.reason == "client_violation"
            assert "client_cut_text" in ending.detail

    run(main())


def test_failure_of_ours_ends_only_the_session(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with running() as r:
            await shake_hands(r)
            r.session._stream = None  # type: ignore[assignment]
            await r.client.say(POINTER)
            await r.client.hear_all()
            r.client.sock.close()
            assert await ended(r) == Ending("error", "the proxy failed: AttributeError")
            assert "a session failed" in caplog.text

    run(main())


# --- Time -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["ws", "tcp"])
def test_idle_session_ends(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asking for pixels, and answering pings, is no activity."""
    monkeypatch.setattr(_session, "LINGER", 0.05)

    async def main() -> None:
        async with running(kind) as r:
            await shake_hands(r)
            limit(r, idle_seconds=0.2, ping_seconds=0.01)

            async def ask() -> None:
                while True:
                    await r.client.say(REQUEST)
                    await r.server.hear(10)

            asking = asyncio.ensure_future(ask())
            listening = asyncio.ensure_future(r.client.hear_all())
            ending = await ended(r)
            asking.cancel()
            await asyncio.gather(asking, listening, return_exceptions=True)
            assert ending.reason == "idle"

    run(main())


def test_session_ends_when_its_time_is_over() -> None:
    async def main() -> None:
        async with running() as r:
            await shake_hands(r)
            limit(r, most_seconds=0.2)
            await r.client.hear_all()
            assert r.client.close_code == 1001
            r.client.sock.close()
            assert (await ended(r)).reason == "too_long"

    run(main())


def test_handshake_has_a_limit() -> None:
    async def main() -> None:
        async with running(limits=Limits(handshake_seconds=0.05)) as r:
            await r.client.hear_all()
            r.client.sock.close()
            assert await ended(r) == Ending("too_long", "no desktop after 0.05 seconds")

    run(main())


def test_person_may_take_longer_to_type_a_password() -> None:
    async def main() -> None:
        async with running(limits=Limits(handshake_seconds=1, most_seconds=1.5)) as r:
            await r.server.say(GREETING + b"\x01\x02" + bytes(16))
            await r.client.say(GREETING + b"\x02")
            assert await r.client.hear(30) == GREETING + b"\x01\x02" + bytes(16)
            await r.client.hear_all()
            r.client.sock.close()
            assert await ended(r) == Ending("too_long", "the session took 1.5 seconds")

    run(main())


@pytest.mark.parametrize("kind", ["ws", "tcp"])
def test_stalled_client_is_given_up(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads nothing, and says nothing."""
    monkeypatch.setattr(_session, "LINGER", 0.05)

    async def main() -> None:
        async with running(kind) as r:
            await shake_hands(r)
            await fill(r)
            limit(r, ping_seconds=0.1)
            assert (await ended(r)).reason == "keepalive"

    run(main())


def test_silent_browser_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its host is gone: no pong comes."""
    monkeypatch.setattr(_session, "LINGER", 0.05)

    async def main() -> None:
        async with running() as r:
            await shake_hands(r)
            limit(r, ping_seconds=0.05)
            assert (await ended(r)).reason == "keepalive"

    run(main())


def test_pongs_keep_a_session() -> None:
    async def main() -> None:
        async with running() as r:
            await shake_hands(r)
            limit(r, ping_seconds=0.2)
            listening = asyncio.ensure_future(r.client.hear_all())
            while len(r.client.frames) < 5:
                await asyncio.sleep(0.01)
            assert not r.task.done()
            listening.cancel()

    run(main())


def test_quiet_viewer_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A native viewer can't be asked for a sign of life, but by the kernel."""
    monkeypatch.setattr(_session, "LINGER", 0.05)

    async def main() -> None:
        async with running("tcp") as r:
            await shake_hands(r)
            limit(r, ping_seconds=0.01, most_seconds=0.3)
            assert (await ended(r)).reason == "too_long"

    run(main())


def test_client_that_goes_while_the_server_is_stuck_is_noticed() -> None:
    """Nobody reads from the client then."""

    async def main() -> None:
        async with running("tcp", server="unix") as r:
            await shake_hands(r)
            limit(r, ping_seconds=0.05)
            text = _rfb.build(_rfb.CLIENT_MESSAGES, "client_cut_text", payload=noise(1 << 20))
            refused = 0
            while refused < 500:
                try:
                    r.client.sock.send(text)
                    refused = 0
                except BlockingIOError:
                    refused += 1
                await asyncio.sleep(0)
            r.client.vanish()
            while not r.session._ending:
                await asyncio.sleep(0.01)
            r.server.sock.close()
            assert (await ended(r)).reason == "client_closed"

    run(main())


# --- Nothing stays ----------------------------------------------------------------------------------------------------


async def _come_and_go(number: int) -> None:
    """One of a thousand: greets or not, stalls or not, closes, vanishes, or is drained."""
    kind = KINDS[number % 2 * 2]
    async with running(kind) as r:
        if number % 3:
            await shake_hands(r)
        if number % 11 == 0:
            with contextlib.suppress(BlockingIOError):
                while True:
                    r.server.sock.send(bytes(1 << 20))
        how = number % 5
        if how == 0:
            r.client.vanish()
        elif how == 1:
            r.server.sock.close()
            r.client.vanish()
        elif how == 2:
            r.client.sock.close()
        elif how == 3:
            r.session.end("drained")
            r.client.sock.close()
        if how < 4:
            await ended(r)


def test_sessions_leave_nothing_behind() -> None:
    async def main() -> None:
        async def some(first: int, count: int) -> None:
            for number in range(first, first + count, 10):
                await asyncio.gather(*(_come_and_go(number + one) for one in range(10)))

        await some(0, 200)
        gc.collect()
        before = descriptors(), len(asyncio.all_tasks()), len(gc.get_objects())
        await some(0, 1000)  # Twice what may come by chance, if each left but one thing
        gc.collect()
        assert (descriptors(), len(asyncio.all_tasks())) == before[:2]
        assert len(gc.get_objects()) < before[2] + 500

    run(main())


def test_session_that_ended_is_no_cycle() -> None:
    """It goes with its last reference, and its sockets' buffers with it."""

    async def main() -> None:
        async with running() as r:
            await shake_hands(r)
            r.session.end("drained")
            r.client.sock.close()
            await ended(r)
            assert not [one for one in gc.get_referrers(r.session) if callable(one)]

    run(main())


def test_session_that_never_ran_can_be_closed() -> None:
    async def main() -> None:
        to_client, to_server = pair("tcp"), pair("unix")
        session = _session.Session(_web.PlainEnd(to_client.ours), to_server.ours, FIXED, Policy(), Limits(), Recorder())
        session.close()
        assert to_client.theirs.recv(1) == to_server.theirs.recv(1) == b""
        to_client.theirs.close()
        to_server.theirs.close()

    run(main())
