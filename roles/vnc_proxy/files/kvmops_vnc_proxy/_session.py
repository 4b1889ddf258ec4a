# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""One client connected to one server: bytes move both ways until one of them, or a limit, ends it.

Private to this collection.

    handshake   both sides go through Handshake. Where it is not known how the server behaves, it is asked over another
                connection once the client gets in without a password, and else, or if that does not tell, right after
                the handshake (Question); the client waits
    relay       the client's messages go through ClientStream; the server's bytes go through Offer until it is settled,
                and from then on straight from the shared read buffer to the client
    opaque      both sides as they come
    closing     what waits is still sent, the WebSocket is closed properly; bounded by LINGER without progress

What one side does not take stops the other from being read: a session keeps at most one read of each side.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Awaitable
from typing import Callable, NamedTuple, Protocol

from ansible_collections.kvmops.console.plugins.module_utils._errors import VncProtocolError
from ansible_collections.kvmops.console.plugins.module_utils._rfb import SECURITY_NONE, SECURITY_VNC

from ._client_stream import (
    ChangedPixelFormat,
    ClientEvent,
    ClientStream,
    ClientViolation,
    Dropped,
    PowerMessage,
    WentOpaque,
)
from ._handshake import DONE, REFUSED, RUNNING, Handshake
from ._offer import MADE, Offer
from ._question import Question
from ._sockets import HEAD_ROOM, VIEW, WireLost, tune, wire
from ._treatment import Behaviour, Policy, Treatment, decide
from ._web import MOST_ANSWERS, ClientEnd

LINGER = 5.0
"""Seconds without progress after which a closing session is dropped."""
PASSWORD_SECONDS = 180.0
"""Seconds that a handshake may take when a person has to type a password in it."""

_NO_ACTS = (3, 150, 248)
"""First bytes of what clients send by themselves: FramebufferUpdateRequest, EnableContinuousUpdates, Fence."""
_LONGEST_NO_ACT = 73

_LOG = logging.getLogger(__name__)


class Ending(NamedTuple):
    """Why a session ended. `reason` is one of REASONS; `detail` says it in words, without secrets."""

    reason: str
    detail: str


REASONS: dict[str, tuple[int, str]] = {
    "client_closed": (1000, ""),
    "server_closed": (1000, "The VNC server closed the connection"),
    "client_violation": (1008, "The client broke the protocol"),
    "server_violation": (1011, "The VNC server broke the protocol"),
    "refused": (1008, "The session was refused"),
    "idle": (1001, "Nothing was done for too long"),
    "too_long": (1001, "The session took as long as sessions may"),
    "keepalive": (1001, "The client gave no sign of life"),
    "drained": (1001, "The proxy is going away"),
    "error": (1011, "The proxy failed"),
}
"""What a WebSocket client is told: close code (RFC 6455, 7.4.1; IANA) and words."""


class Limits(NamedTuple):
    """Seconds; None for no limit.

    `idle_seconds`: without the client doing anything but asking for pixels. `most_seconds`: in all. `ping_seconds`:
    between two pings; a client that gives no sign of life for as long again is gone. `handshake_seconds`: until the
    desktop is there.
    """

    idle_seconds: float | None = None
    most_seconds: float | None = None
    ping_seconds: float | None = 20.0
    handshake_seconds: float = 15.0


class Observer(Protocol):
    """Who wants to know what happens in a session."""

    def power_message(self, code: int, passed: bool) -> None:
        """The client sent a power message."""

    def dropped(self, name: str, count: int) -> None:
        """Messages of a mere viewer were dropped."""

    def went_opaque(self, reason: str) -> None:
        """Nothing is parsed any more."""

    def asked(self, behaviour: Behaviour) -> None:
        """How the server behaves is known by now."""

    def handshake_done(self, handshake: Handshake) -> None:
        """The desktop is there, or what follows is encrypted."""

    def offer(self, outcome: str) -> None:
        """XVP INIT was put in, or never will be."""


class Session:
    """A session; `run` it once. Both sockets belong to it, and are closed when `run` returns, however it does.

    `ask` asks the server over another connection, where `behaviour` is None; it returns None when that does not tell,
    and raises nothing. With `skip_parse`, everything is relayed as it comes, from the first byte on.
    """

    __slots__ = (
        "_active_at",
        "_answered",
        "_ask_elsewhere",
        "_began_at",
        "_client",
        "_done",
        "_ending",
        "_expecting",
        "_handshake",
        "_inquiry",
        "_limits",
        "_loop",
        "_observer",
        "_offer",
        "_pinged_at",
        "_policy",
        "_progress",
        "_question",
        "_server",
        "_shaking",
        "_stream",
        "_take_client",
        "_take_server",
        "_timer",
        "_treatment",
        "bytes_to_client",
        "bytes_to_server",
    )

    def __init__(
        self,
        client: ClientEnd,
        server: socket.socket,
        behaviour: Behaviour | None,
        policy: Policy,
        limits: Limits,
        observer: Observer,
        skip_parse: bool = False,
        ask: Callable[[], Awaitable[Behaviour | None]] | None = None,
    ) -> None:
        self.bytes_to_client = 0
        self.bytes_to_server = 0
        self._client = client
        self._server = wire(server)
        self._policy: Policy | None = None if behaviour else policy  # Still to be decided by
        self._treatment: Treatment = decide(behaviour, policy)
        self._limits = limits
        self._observer = observer
        self._shaking = not skip_parse
        self._handshake = Handshake(policy)
        self._stream: ClientStream  # From the end of the handshake on, where there is anything to parse
        self._ask_elsewhere = ask
        self._inquiry: asyncio.Task[None] | None = None
        self._question: Question | None = None
        self._offer: Offer | None = None
        self._ending: Ending | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._done: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._began_at = self._active_at = self._pinged_at = 0.0
        # Signs of life: whether one came since the last look; whether one is due; the late bytes at the last look.
        self._answered = True
        self._expecting = False
        self._progress = 0
        # What is done with so many bytes of the server's in the shared buffer; returns whether the client took them.
        self._take_server: Callable[[int], bool] = client.relay if skip_parse else self._shake_server
        # What is done with bytes of the client's; returns whether the server took them.
        self._take_client: Callable[[bytes], bool] = self._relay_opaque if skip_parse else self._shake_client

    # --- From outside -------------------------------------------------------------------------------------------------

    async def run(self) -> Ending:
        """Relay until the session ends. Cancelling it closes both sockets at once."""
        self._loop = asyncio.get_running_loop()
        self._done = self._loop.create_future()
        try:
            self._begin(self._loop)
            await self._done
        except asyncio.CancelledError:
            self._last_words()
            raise
        finally:
            self.close()
        return self._ending or Ending("error", "the session ended without a reason")

    def end(self, reason: str) -> None:
        """Ask the session to end, for one of REASONS: what waits is still sent, and a browser is told."""
        self._finish(reason, REASONS[reason][1])

    def close(self) -> None:
        """Close both sockets at once. `run` does it; a session that never ran needs it. May be called twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._inquiry is not None:
            self._inquiry.cancel()
            self._inquiry = None
        self._client.wire.close()
        self._server.close()
        self._ask_elsewhere = None
        # Bound methods of this object stand in it: without them, no cycle is left for the collector.
        self._take_server, self._take_client = _nobody, _nobody

    # --- Beginning and end --------------------------------------------------------------------------------------------

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        client = self._client.wire
        tune(client.sock, client=True)
        tune(self._server.sock, client=False)
        self._began_at = self._active_at = self._pinged_at = loop.time()
        client.attach(loop, self._client_readable, self._client_writable)
        self._server.attach(loop, self._server_readable, self._server_writable)
        if self._ending is not None:  # Somebody was quicker
            ending, self._ending = self._ending, None
            self._finish(*ending)
            return
        self._set_timer()
        self._server.resume()
        client.resume()
        try:
            self._hear(self._client.received_already())
        except Exception as error:  # As in a callback: nothing may leave a session half begun
            self._failed(error)

    def _finish(self, reason: str, detail: str) -> None:
        """Begin to close. Only the first reason counts."""
        if self._ending is not None:
            return
        self._ending = Ending(reason, detail)
        if self._done is None:  # Not begun: run() will find it ended
            return
        self._server.pause()
        if reason != "client_closed" or not self._server.full:  # The client's last words still go to the server
            self._server.close()
        self._client.wire.resume()
        self._linger()
        try:
            self._client.say_goodbye(*REASONS[reason])
            if not self._client.wire.full:
                self._after_goodbye()
        except WireLost:
            self._client.wire.close()
        self._look_whether_done()

    def _after_goodbye(self) -> None:
        """Everything is sent: from here on, the client's own goodbye or its end is all that is waited for."""
        ended = self._client.ended
        if self._client.half_closes:
            self._client.wire.half_close()
        if ended is not None and ended.reason == "client_closed":
            self._client.wire.close()

    def _look_whether_done(self) -> None:
        if self._client.wire.closed and self._server.closed and self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _last_words(self) -> None:
        """When cancelled: tell a browser, if that takes no waiting."""
        if self._ending is None and not self._client.wire.closed:
            with contextlib.suppress(WireLost):
                self._client.say_goodbye(*REASONS["drained"])

    def _failed(self, error: Exception) -> None:
        """What goes wrong in a callback ends the session, and nothing else."""
        if not isinstance(error, WireLost):
            _LOG.error("a session failed", exc_info=error)
            self._finish("error", f"the proxy failed: {type(error).__name__}")
            return
        if self._ending is None:
            side = "server" if error.wire is self._server else "client"
            self._finish(f"{side}_closed", f"the connection to the {side} was lost: {error}")
        error.wire.close()
        self._look_whether_done()

    # --- What the loop calls ------------------------------------------------------------------------------------------

    def _server_readable(self) -> None:
        try:
            count = self._server.read(self._client.cap)
            if count:
                self.bytes_to_client += count
                if not self._take_server(count):
                    self._server.pause()
            elif count == 0:
                self._finish("server_closed", "the server closed the connection")
        except Exception as error:
            self._failed(error)

    def _server_writable(self) -> None:
        try:
            if not self._server.flush():
                return
            if self._ending is None:
                self._resume_client()
            else:
                self._server.close()
                self._look_whether_done()
        except Exception as error:
            self._failed(error)

    def _client_readable(self) -> None:
        try:
            if self._ending is None:
                self._hear(self._client.receive())
            elif not self._client.read_on():
                self._client.wire.close()
                self._look_whether_done()
        except Exception as error:
            self._failed(error)

    def _client_writable(self) -> None:
        try:
            if not self._client.wire.flush():
                return
            if self._ending is None:
                self._client.drained()
                self._server.resume()
                self._resume_client()
            else:
                self._after_goodbye()
                self._look_whether_done()
        except Exception as error:
            self._failed(error)

    def _resume_client(self) -> None:
        wire = self._client.wire
        waits = self._question or self._inquiry
        if not wire.reading and not self._server.full and wire.behind <= MOST_ANSWERS and not waits:
            self._answered = True  # Whatever it has said meanwhile, it had nobody to say it to
            wire.resume()

    # --- What comes from the client -----------------------------------------------------------------------------------

    def _hear(self, data: bytes) -> None:
        client = self._client
        self._answered = True
        if data and not self._take_client(data):
            client.wire.pause()
        if client.ended is not None:
            self._finish(*client.ended)
        elif client.wire.behind > MOST_ANSWERS:
            client.wire.pause()

    def _to_server(self, data: bytes) -> bool:
        self.bytes_to_server += len(data)
        return self._server.send(data)

    def _relay_opaque(self, data: bytes) -> bool:
        self._active_at = time.monotonic()
        return self._to_server(data)

    def _relay_client(self, data: bytes) -> bool:
        stream = self._stream
        try:
            passed = stream.receive(data)
        except ClientViolation as violation:
            self._tell_all(stream)
            self._to_server(violation.before)
            self._finish("client_violation", str(violation))
            return True
        self._tell_all(stream)
        if data[0] not in _NO_ACTS or len(data) > _LONGEST_NO_ACT:
            self._active_at = time.monotonic()
        return self._to_server(passed) if passed else True

    def _tell_all(self, stream: ClientStream) -> None:
        for event in stream.take_events():
            if isinstance(event, PowerMessage):
                code, passed, count = event
                for _one in range(count):
                    self._observer.power_message(code, passed)
            elif isinstance(event, Dropped):
                name, count = event
                self._observer.dropped(name, count)
            elif isinstance(event, WentOpaque):
                self._observer.went_opaque(event.reason)
            elif self._offer is not None:
                self._about_offer(self._offer, event)

    def _about_offer(self, offer: Offer, event: ClientEvent) -> None:
        if isinstance(event, ChangedPixelFormat):
            offer.change_pixel_format()
            return
        init = offer.ask()
        self._settle(offer)
        if init and not self._client.send(init):
            self._server.pause()

    # --- What comes from the server -----------------------------------------------------------------------------------

    def _relay_offer(self, count: int) -> bool:
        return self._offer_data(bytes(VIEW[HEAD_ROOM : HEAD_ROOM + count]))

    def _offer_data(self, data: bytes) -> bool:
        offer = self._offer
        if offer is not None:
            data = offer.relay(data)
            self._settle(offer)
        return self._client.send(data)

    def _settle(self, offer: Offer) -> None:
        """Once it is settled, the server's bytes need no looking at any more."""
        if not offer.settled:
            return
        self._stream.offered = offer.outcome == MADE
        self._take_server = self._client.relay
        self._offer = None
        self._observer.offer(offer.outcome)

    # --- The handshake ------------------------------------------------------------------------------------------------

    def _shake_server(self, count: int) -> bool:
        try:
            self._handshake.from_server(bytes(VIEW[HEAD_ROOM : HEAD_ROOM + count]))
        except VncProtocolError as error:
            self._finish("server_violation", str(error))
            return True
        return self._shake()

    def _shake_client(self, data: bytes) -> bool:
        try:
            self._handshake.from_client(data)
        except VncProtocolError as error:
            self._finish("client_violation", str(error))
            return True
        return self._shake()

    def _shake(self) -> bool:
        """Write what is due, and go on to what follows a handshake that has ended."""
        shake = self._handshake
        if self._ask_elsewhere and shake.security_type is not None:
            self._inquire(self._ask_elsewhere, shake)
        to_client = shake.to_client()
        to_server = b"" if self._inquiry else shake.to_server()
        if to_server and not self._to_server(to_server):
            self._client.wire.pause()
        if to_client and not self._client.send(to_client):
            self._server.pause()
        if shake.state == REFUSED:
            self._finish("refused", shake.reason)
        elif self._inquiry:
            pass
        elif shake.state == DONE and self._policy and not self._question:
            self._ask(shake)
        elif shake.state != RUNNING and not self._question:
            self._handshaken(shake)
        return True

    def _inquire(self, ask: Callable[[], Awaitable[Behaviour | None]], shake: Handshake) -> None:
        """Ask elsewhere, but where that would not lead past a password, and where what follows is encrypted.

        Until there is an answer the server hears nothing more: a client that wants it for itself comes after that.
        """
        self._ask_elsewhere = None
        if shake.state == RUNNING and shake.security_type == SECURITY_NONE:
            self._client.wire.pause()
            self._inquiry = asyncio.ensure_future(self._await_answer(ask))

    async def _await_answer(self, ask: Callable[[], Awaitable[Behaviour | None]]) -> None:
        behaviour = await ask()
        self._inquiry = None
        if self._ending is not None:
            return
        try:
            if behaviour and self._policy:
                self._decide(behaviour, self._policy)
            self._shake()
            self._resume_client()
        except Exception as error:
            self._failed(error)

    def _decide(self, behaviour: Behaviour, policy: Policy) -> None:
        """Go by what was found out."""
        self._treatment = decide(behaviour, policy)
        self._policy = None
        self._observer.asked(behaviour)

    def _ask(self, shake: Handshake) -> None:
        """Have the server tell how it behaves. Until it has, the client is not listened to."""
        if shake.desktop is None:
            self._handshaken(shake)
            return
        self._question = Question(shake.desktop)
        self._take_server = self._hear_answer
        self._client.wire.pause()
        self._server.send(self._question.to_server())
        self._hear_more(self._question, shake.rest_of_server())

    def _hear_answer(self, count: int) -> bool:
        question = self._question
        return question is None or self._hear_more(question, bytes(VIEW[HEAD_ROOM : HEAD_ROOM + count]))

    def _hear_more(self, question: Question, data: bytes) -> bool:
        try:
            passed = question.hear(data)
        except VncProtocolError as error:
            self._finish("server_violation", str(error))
            return True
        taken = self._client.send(passed) if passed else True
        if question.behaviour and self._policy:
            self._decide(question.behaviour, self._policy)
            self._question = None
            self._handshaken(self._handshake)
            self._resume_client()
        return taken

    def _handshaken(self, shake: Handshake) -> None:
        """Relay from here on, beginning with what came early."""
        self._shaking = False
        self._active_at = time.monotonic()  # The timer that runs comes early enough: nothing is due sooner than it was
        self._observer.handshake_done(shake)
        self._take_server, self._take_client = self._client.relay, self._relay_opaque
        if shake.state == DONE and shake.desktop is not None:
            self._stream = ClientStream(self._treatment)
            self._take_client = self._relay_client
            if self._treatment.offer:
                self._offer = Offer(shake.desktop.pixel_format[0])
                self._take_server = self._relay_offer
        del self._handshake  # Its buffers are of no more use
        early = shake.rest_of_server()
        if early and not self._offer_data(early):
            self._server.pause()
        early = shake.rest_of_client()
        if early and not self._take_client(early):
            self._client.wire.pause()

    # --- Time ---------------------------------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        """Wake up when the next thing may be due."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = [at for at, _ending in self._ends_at()]
        if self._limits.ping_seconds is not None:
            due.append(self._pinged_at + self._limits.ping_seconds)
        if due and self._loop is not None:
            self._timer = self._loop.call_at(min(due), self._time_came)

    def _ends_at(self) -> list[tuple[float, Ending]]:
        """The times at which this session will have to end, as it looks now."""
        idle, most = self._limits.idle_seconds, self._limits.most_seconds
        ends: list[tuple[float, Ending]] = []
        if self._shaking:
            seconds = self._limits.handshake_seconds
            if self._handshake.security_type == SECURITY_VNC:
                seconds = max(seconds, PASSWORD_SECONDS)
            ends.append((self._began_at + seconds, Ending("too_long", f"no desktop after {seconds:g} seconds")))
        if idle is not None:
            ends.append((self._active_at + idle, Ending("idle", f"nothing was done for {idle:g} seconds")))
        if most is not None:
            ends.append((self._began_at + most, Ending("too_long", f"the session took {most:g} seconds")))
        return ends

    def _time_came(self) -> None:
        self._timer = None
        try:
            if self._ending is None:
                self._look_at_time(time.monotonic())
            elif self._late_bytes() != self._progress:
                self._linger()
            else:
                self._client.wire.close()
                self._server.close()
                self._look_whether_done()
        except Exception as error:
            self._failed(error)

    def _look_at_time(self, now: float) -> None:
        for at, ending in self._ends_at():
            if at <= now:
                self._finish(*ending)
                return
        ping = self._limits.ping_seconds
        if ping is not None and self._pinged_at + ping <= now:
            self._pinged_at = now
            self._look_for_life()
        if self._ending is None:
            self._set_timer()

    def _look_for_life(self) -> None:
        """Any byte from the client is a sign of life, and so is any that it takes of what waits for it."""
        client, late = self._client.wire, self._late_bytes()
        if not client.reading:  # We make it wait, so it can't be asked
            self._expecting = False
            if client.gone():
                self._finish("client_closed", "the client closed the connection")
            return
        if self._expecting and not self._answered and late == self._progress:
            self._finish("keepalive", "the client gave no sign of life")
            return
        self._answered, self._progress = False, late
        self._expecting = self._client.ping() or client.full

    def _linger(self) -> None:
        """While closing: wait as long as there is progress."""
        if self._timer is not None:
            self._timer.cancel()
        self._progress = self._late_bytes()
        if self._loop is not None:
            self._timer = self._loop.call_later(LINGER, self._time_came)

    def _late_bytes(self) -> int:
        return self._client.wire.sent + self._server.sent


def _nobody(_what: object) -> bool:
    """The session is over: nobody takes anything."""
    return True
