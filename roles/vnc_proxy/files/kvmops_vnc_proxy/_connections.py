# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""From an accepted connection to a session: TLS, the request, who may, what is meant, how many; and answers in HTTP.

Private to this collection.

Each connection has one task, and nothing of the request outlives the beginning of its session.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
import ssl
import struct
import time
from types import TracebackType
from typing import Callable, NamedTuple

from websockets.datastructures import Headers
from websockets.exceptions import InvalidHandshake, InvalidUpgrade
from websockets.http11 import Request

try:
    from websockets.protocol import State
except ImportError:  # Before 11.0, as in Debian 12
    from websockets.connection import State  # type: ignore[attr-defined]

from ._audit import AuditLog
from ._config import Settings
from ._denied import Denied, shown
from ._http import (
    MOST_HEAD,
    Answer,
    BadRequest,
    Client,
    Files,
    Head,
    answer,
    client_of,
    console_location,
    end_of_head,
    is_in,
    origin_allowed,
    parse_head,
    plain_address,
    redirect,
    refusal,
    uptime_line,
    user_of,
)
from ._listeners import Listener, name_in
from ._metrics import Metrics, Traffic
from ._record import Record
from ._seats import Seats
from ._session import Ending, Limits, Session
from ._sockets import receive, secure, send_all
from ._targets import ConsoleRequest, Directory, Target
from ._web import ClientEnd, ConsoleProtocol, PlainEnd, WebSocketEnd

_MakeEnd = Callable[[socket.socket], ClientEnd]

ACCEPT_AT_ONCE = 64
"""Connections that are accepted before sessions get their turn."""
PAUSE = 0.5
"""Seconds without accepting when the system has no more descriptors or memory."""
_TELL_AGAIN = 60.0
"""Seconds after which that is told again."""
_PASSING = frozenset(
    (
        errno.ECONNABORTED,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENONET,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
        errno.EPERM,
        errno.EPROTO,
    )
)
"""What happened to one connection while it waited to be accepted (accept(2), Error handling)."""
_SEND_SECONDS = 30.0
"""Seconds that a client may take for one piece of an answer."""
_LINGER_SECONDS = 2.0
_PIECE = 65536
_CLOSING_SECONDS = 5.0

_CAUSES = {401: "authentication", 403: "forbidden", 404: "not_found", 410: "token_used", 503: "unavailable"}

_log = logging.getLogger(__name__)


class Within:
    """`with Within(seconds):` around awaits raises TimeoutError when they take longer.

    What asyncio.wait_for would cost a task for, and asyncio.timeout is there for from Python 3.11 on.
    """

    __slots__ = ("_handle", "_late", "_seconds", "_task")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._late = False

    def __enter__(self) -> None:
        self._task = asyncio.current_task()
        self._handle = asyncio.get_running_loop().call_later(self._seconds, self._cancel)

    def _cancel(self) -> None:
        self._late = True
        if self._task is not None:
            self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.cancel()
        task, self._task = self._task, None
        if self._late and kind is asyncio.CancelledError:
            uncancel = getattr(task, "uncancel", None)  # Python 3.11
            if uncancel is not None:
                uncancel()
            raise TimeoutError(f"it took longer than {self._seconds:g} seconds") from None


class _Refused(Exception):
    """A console is not opened. `cause` is counted, `status` and `sentence` are told."""

    def __init__(self, cause: str, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.cause = cause
        self.status = status
        self.sentence = sentence


class _Asker(NamedTuple):
    """Who wants a console, and over which listener."""

    listener: str
    source: str
    user: str | None


class Connections:
    """All connections of clients. `settings`, `directory` and `files` may be replaced at any time: see `use`."""

    def __init__(self, settings: Settings, directory: Directory, audit: AuditLog) -> None:
        self.metrics = Metrics(self._open_sessions)
        self.metrics.audit_lines_lost = lambda: audit.lost
        self.draining = False
        self.seats = Seats()
        self._audit = audit
        self._since = time.monotonic()
        self._listeners: list[Listener] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._records: set[Record] = set()
        self._requests = 0
        self._requests_of_source: dict[str, int] = {}
        self._quiet_until = 0.0
        self.use(settings, directory)

    def use(self, settings: Settings, directory: Directory) -> None:
        """Go by these from now on; sessions that are open keep what they began with."""
        self._settings = settings
        self._directory = directory
        novnc = settings.web.novnc
        self._files = Files(novnc.directory, settings.web.origins) if novnc else None
        limits = settings.limits
        self._limits = Limits(
            limits.idle_seconds, limits.session_seconds, limits.ping_seconds, limits.handshake_seconds
        )

    def _open_sessions(self) -> tuple[int, Traffic]:
        to_client = to_server = 0
        for record in self._records:
            if record.session is not None:
                to_client += record.session.bytes_to_client
                to_server += record.session.bytes_to_server
        return len(self._records), Traffic(to_client, to_server)

    # --- Accepting ----------------------------------------------------------------------------------------------------

    def listen(self, listeners: list[Listener]) -> None:
        """Accept what comes at these."""
        loop = asyncio.get_running_loop()
        for listener in listeners:
            self._listeners.append(listener)
            for sock in listener.sockets:
                loop.add_reader(sock.fileno(), self._accept, listener, sock)

    def stop_listening(self) -> list[Listener]:
        """Accept nothing more, after what has come already; return the listeners, which are still open."""
        loop = asyncio.get_running_loop()
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            for sock in listener.sockets:
                loop.remove_reader(sock.fileno())
        return listeners

    def _accept(self, listener: Listener, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for _turn in range(ACCEPT_AT_ONCE):
            try:
                accepted, address = sock.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in _PASSING:
                    continue
                self._pause(listener, sock, error)
                return
            peer = "unix"
            if accepted.family != socket.AF_UNIX and isinstance(address, tuple):
                peer = plain_address(address[0])
            refused = self._has_no_room_for(peer)
            if refused:
                accepted.close()
                self.metrics.refused[refused] += 1
                continue
            self._requests += 1
            self._requests_of_source[peer] = self._requests_of_source.get(peer, 0) + 1
            task = loop.create_task(self._serve(listener, accepted, peer))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _has_no_room_for(self, peer: str) -> str | None:
        """Why another connection of this address is turned away; None when it is not."""
        limits = self._settings.limits
        if self._requests >= limits.requests:
            return "requests"
        if self._requests_of_source.get(peer, 0) < limits.requests_per_source or peer == "unix":
            return None
        return None if is_in(peer, self._settings.web.trusted_proxies) else "requests_per_source"

    def _pause(self, listener: Listener, sock: socket.socket, error: OSError) -> None:
        """Leave connections in the kernel's queue until others have ended: trying on would only burn time."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._quiet_until:
            self._quiet_until = loop.time() + _TELL_AGAIN
            _log.error("No connection can be accepted: %s; it is tried again every %g s.", error.strerror, PAUSE)
        loop.remove_reader(sock.fileno())

        def go_on() -> None:
            if listener in self._listeners and sock.fileno() >= 0:
                loop.add_reader(sock.fileno(), self._accept, listener, sock)

        loop.call_later(PAUSE, go_on)

    async def _serve(self, listener: Listener, sock: socket.socket, peer: str) -> None:
        """One connection's task."""
        try:
            record = await self._admit(listener, sock, peer)
        except Exception:
            _log.exception("A connection failed.")
            sock.close()
            return
        finally:
            self._requests -= 1
            left = self._requests_of_source.pop(peer) - 1
            if left:
                self._requests_of_source[peer] = left
        if record is not None:
            await self._relay(record)

    async def _relay(self, record: Record) -> None:
        ending = Ending("error", "the proxy failed")
        try:
            session = record.session
            if session is not None:
                ending = await session.run()
        except asyncio.CancelledError:
            ending = Ending("drained", "the proxy is going away")
            raise
        except Exception:
            _log.exception("A session failed.")
        finally:
            self._leave(record, ending)

    def _leave(self, record: Record, ending: Ending) -> None:
        """Account for a session that is over, or never began."""
        self._records.discard(record)
        self.seats.give_up(record.source, record.key)
        try:
            record.finish(ending)
        finally:
            if record.forget is not None and ending.reason == "server_closed":
                record.forget()
            if record.release is not None:
                record.release()

    # --- Admitting ----------------------------------------------------------------------------------------------------

    async def _admit(self, listener: Listener, sock: socket.socket, peer: str) -> Record | None:
        """Do all that comes before a session; None when there is none, and the connection is closed."""
        sock.setblocking(False)
        data = b""
        certificate: str | None = None
        try:
            with Within(self._settings.limits.request_seconds):
                if listener.context is not None:
                    sock = await secure(sock, listener.context)
                    certificate = name_in(sock.getpeercert()) if isinstance(sock, ssl.SSLSocket) else None
                if listener.settings.kind == "web":
                    data = await _read_head(sock)
        except BadRequest as bad:
            await _say(sock, refusal(bad.status, bad.sentence))
            return None
        except OSError:  # TimeoutError and ssl.SSLError are some
            sock.close()
            return None
        except BaseException:
            sock.close()
            raise
        try:
            if listener.settings.kind == "vnc":
                return await self._admit_viewer(listener, sock, peer, certificate)
            return await self._admit_browser(listener, sock, peer, certificate, data)
        except BaseException:
            sock.close()
            raise

    async def _admit_viewer(
        self, listener: Listener, sock: socket.socket, peer: str, certificate: str | None
    ) -> Record | None:
        """Open the listener's target for a viewer that speaks RFB itself."""
        asker = _Asker(listener.settings.name, peer, certificate)
        try:
            self._look_for_seat(peer)
            try:
                target = await self._directory.fixed(listener.settings.target or "")
            except Denied as denied:
                raise _Refused(_CAUSES.get(denied.status, "other"), denied.status, denied.sentence) from denied
            return await self._open(asker, target, PlainEnd, sock)
        except _Refused as refused:
            self._note(refused, asker, listener.settings.target)
            await _refuse_viewer(sock, refused.sentence)
            return None

    async def _admit_browser(
        self, listener: Listener, sock: socket.socket, peer: str, certificate: str | None, data: bytes
    ) -> Record | None:
        end = end_of_head(data)
        try:
            head = parse_head(data[:end])
        except BadRequest as bad:
            await _say(sock, refusal(bad.status, bad.sentence))
            return None
        client = client_of(peer, head.headers, self._settings.web)
        if not head.wants_upgrade:
            await _say(sock, self._page(head, client), head_only=head.method == "HEAD")
            return None
        user = user_of(head, client, certificate, self._settings.web)
        asker = _Asker(listener.settings.name, client.source, user)
        try:
            return await self._upgrade(asker, head, client, sock, data, end)
        except _Refused as refused:
            self._note(refused, asker, head.path)
            await _say(sock, refusal(refused.status, refused.sentence))
            return None

    async def _upgrade(
        self, asker: _Asker, head: Head, client: Client, sock: socket.socket, data: bytes, end: int
    ) -> Record:
        """Open what a WebSocket asks for. Raises _Refused."""
        web = self._settings.web
        if not origin_allowed(head, client, web):
            origin = shown(head.headers.get("origin", "none"))
            raise _Refused("origin", 403, f"Pages of the origin {origin} may not open consoles here.")
        token = head.query.get("token") if "token" in head.query else None
        by = web.users.by
        if asker.user is None and "none" not in by and not ("token" in by and token):
            raise _Refused("authentication", 401, "Nobody is let in here without " + _ways_in(by) + ".")
        protocol, response = _shake_hands(head)
        self._look_for_seat(asker.source)
        path = "/" + head.path.lstrip("/")  # noVNC before 1.6 puts a slash before a path that has one
        try:
            target = await self._directory.find(ConsoleRequest(path, head.query, asker.user, asker.source))
        except Denied as denied:
            raise _Refused(_CAUSES.get(denied.status, "other"), denied.status, denied.sentence) from denied
        already = data[end:]
        return await self._open(asker, target, lambda secured: WebSocketEnd(secured, protocol, already), sock, response)

    def _look_for_seat(self, source: str) -> None:
        """Raises _Refused when there are as many sessions as there may be, whatever the target."""
        limits = self._settings.limits
        if self.seats.all >= limits.sessions:
            raise _Refused("sessions", 503, "There are as many sessions here as there may be.")
        most = limits.sessions_per_source
        if most is not None and self.seats.of_source(source) >= most:
            raise _Refused("source", 429, "There are as many sessions from this address as there may be.")

    def _take_seat(self, asker: _Asker, target: Target) -> Record:
        """Raises _Refused when the target has as many sessions as it may have."""
        self._look_for_seat(asker.source)
        taken = self.seats.of_target(target.key)
        if target.viewers == "exclusive" and taken:
            raise _Refused("exclusive", 409, "Somebody has this console open, and it is for one at a time.")
        if target.most_sessions is not None and taken >= target.most_sessions:
            raise _Refused("target", 429, "This console has as many sessions as it may have.")
        record = Record(
            self._audit,
            self.metrics,
            target=target,
            source=asker.source,
            user=asker.user,
            listener=asker.listener,
        )
        self.seats.take(asker.source, target.key)
        return record

    async def _open(
        self, asker: _Asker, target: Target, end: _MakeEnd, sock: socket.socket, response: bytes = b""
    ) -> Record:
        """Take a seat, connect to the target, tell the client. Raises _Refused."""
        record = self._take_seat(asker, target)
        server: socket.socket | None = None
        try:
            with Within(self._settings.limits.open_seconds):
                opened = await target.open()
            server, record.forget, record.release = opened.sock, opened.forget, opened.release
            if response:
                with Within(_SEND_SECONDS):
                    await send_all(sock, response)
            session = Session(end(sock), server, opened.behaviour, target.policy, self._limits, record, ask=opened.ask)
            self._records.add(record)
            record.start(session, opened.behaviour, target)
        except BaseException as error:
            if server is not None:
                server.close()
            self._leave(record, Ending("error", ""))
            if isinstance(error, Denied):
                raise _Refused(_CAUSES.get(error.status, "other"), error.status, error.sentence) from error
            if server is None and isinstance(error, TimeoutError):
                raise _Refused("unavailable", 504, "The console did not open in time.") from error
            if isinstance(error, OSError):
                raise _Refused("gone", 499, "The client went away while its console was opened.") from error
            raise
        return record

    def _note(self, refused: _Refused, asker: _Asker, wanted: str | None) -> None:
        self.metrics.refused[refused.cause] += 1
        self._audit.write(
            "refused",
            cause=refused.cause,
            status=refused.status,
            reason=refused.sentence,
            user=asker.user,
            source=asker.source,
            listener=asker.listener,
            wanted=wanted,
        )

    # --- Pages --------------------------------------------------------------------------------------------------------

    def _page(self, head: Head, client: Client) -> Answer:
        """Answer a request for anything but a console."""
        path = "/" + head.path.lstrip("/")
        if path == "/healthz":
            return answer(
                503 if self.draining else 200, uptime_line(self._since, len(self._records), draining=self.draining)
            )
        if path == "/metrics":
            return self._metrics_page(client)
        novnc = self._settings.web.novnc
        if novnc is not None and self._files is not None:
            if path in ("/", "/novnc"):
                return redirect("novnc/")
            if path == "/novnc/":
                return redirect(novnc.page)
            if path.startswith("/novnc/"):
                return self._files.find(path[len("/novnc/") :], head.headers) or refusal(404, "There is no such file.")
            if path == "/console" or path.startswith("/console/"):
                location = console_location(path, head.query.get("token"), novnc)
                return redirect(location) if location else refusal(404, "This path names no console.")
        if path.startswith(("/domain/", "/target/")):
            return refusal(426, "A console is opened by WebSocket; a browser wants /console/ instead.")
        return refusal(404, "There is nothing here.")

    def _metrics_page(self, client: Client) -> Answer:
        web = self._settings.web
        if not web.metrics_from and not web.metrics_from_unix:
            return refusal(404, "There is nothing here.")
        if not (web.metrics_from_unix if client.source == "unix" else is_in(client.source, web.metrics_from)):
            return refusal(403, "Metrics are not for this address.")
        return answer(200, self.metrics.scrape(), "text/plain; version=0.0.4; charset=utf-8")

    # --- The end ------------------------------------------------------------------------------------------------------

    async def drain(self, seconds: float | None) -> None:
        """Wait for all connections to end, for so long (None: until they do); then end them."""
        self.draining = True
        if self._tasks and (seconds is None or seconds > 0):
            await asyncio.wait(set(self._tasks), timeout=seconds)
        await self.end()

    async def end(self) -> None:
        """End all connections: tell the clients, wait for a moment, then cut."""
        for record in tuple(self._records):
            if record.session is not None:
                record.session.end("drained")
        if self._tasks and self._records:
            await asyncio.wait(set(self._tasks), timeout=_CLOSING_SECONDS)
        await asyncio.sleep(0)  # A task that is cancelled before it has begun closes nothing
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    @property
    def sessions(self) -> int:
        """How many sessions are open."""
        return len(self._records)


def _ways_in(by: tuple[str, ...]) -> str:
    words = {"token": "a token", "certificate": "a certificate", "header": "having logged in"}
    return " or ".join(words[way] for way in by)


def _shake_hands(head: Head) -> tuple[ConsoleProtocol, bytes]:
    """Return the WebSocket's protocol, and the response that accepts it (RFC 6455, 4.2). Raises _Refused.

    The protocol judges the request as we have read it: to let it read the bytes once more, and write the response with
    all that one may hold, took a fifth of the time of a session's beginning.
    """
    protocol = ConsoleProtocol(state=State.OPEN)
    try:
        accept, _extensions, chosen = protocol.process_request(Request(head.path, Headers(head.headers)))
    except InvalidUpgrade as error:
        raise _Refused("bad_request", 426, f"This is no request for a WebSocket: {error}.") from error
    except InvalidHandshake as error:
        raise _Refused("bad_request", 400, f"This is no request for a WebSocket: {error}.") from error
    response = (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {accept}\r\n"
    )
    if chosen:
        response += f"Sec-WebSocket-Protocol: {chosen}\r\n"
    return protocol, f"{response}\r\n".encode("latin-1")


async def _read_head(sock: socket.socket) -> bytes:
    """Read until the head is there, and what comes with it. Raises BadRequest, OSError."""
    data = b""
    while not data or not end_of_head(data):
        more = await receive(sock, MOST_HEAD)
        if not more:
            raise ConnectionResetError(errno.ECONNRESET, "the client went away")
        data = data + more if data else more
    return data


async def _say(sock: socket.socket, said: Answer, *, head_only: bool = False) -> None:
    """Send an answer, and close the connection in such a way that it arrives."""
    try:
        with Within(_SEND_SECONDS):
            await send_all(sock, said.head if head_only else said.head + said.body)
        if said.file is not None and not head_only:
            await _send_file(sock, said.file, said.size)
        await _hang_up(sock)
    except OSError:
        pass  # The client is gone, or too slow
    finally:
        if said.file is not None:
            os.close(said.file)
        sock.close()


async def _send_file(sock: socket.socket, file: int, size: int) -> None:
    while size:
        piece = os.read(file, min(_PIECE, size))
        if not piece:
            return  # Shorter than it was: the client sees that the length is wrong
        size -= len(piece)
        with Within(_SEND_SECONDS):
            await send_all(sock, piece)


async def _hang_up(sock: socket.socket) -> None:
    """Wait for the client to have read it all: to close before would take back what is on its way (RFC 9112, 9.6)."""
    if isinstance(sock, ssl.SSLSocket):
        with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
            sock.unwrap()
    else:
        sock.shutdown(socket.SHUT_WR)
    left = 16 * MOST_HEAD
    with Within(_LINGER_SECONDS):
        while left > 0:
            data = await receive(sock, MOST_HEAD)
            if not data:
                return
            left -= len(data)


async def _refuse_viewer(sock: socket.socket, sentence: str) -> None:
    """Tell a native viewer why, in RFB 3.3, where a server may refuse without having been asked (RFC 6143, 7.1.2)."""
    reason = sentence.encode()
    try:
        with Within(_SEND_SECONDS):
            await send_all(sock, b"RFB 003.003\n" + struct.pack("!II", 0, len(reason)) + reason)
        await _hang_up(sock)
    except OSError:
        pass
    finally:
        sock.close()
