# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Talks to VNC servers: opens connections of every kind, and asks the questions that a verdict rests on.

Private to this collection.

Conversations, each under one deadline, each ended by an answer of the server and not by waiting:

- `ask_running`: a live domain's own server, over a socket that libvirt handed out. Sends no power message, reads no
pixel.
- `ask_server`: any server, over any way; the same, and where QEMU's acknowledgement is unknown one pixel ends it.
- `ask_gate`: does the server answer a power message that was not negotiated? Sends XVP_REBOOT, which QEMU never obeys.
- `press`: a power message, negotiated, as noVNC's buttons send it; `is_gone` tells a server that has ended.

`verdict_of` says what the answers mean, in the words of _verdict.
"""

from __future__ import annotations

import re
import socket
import time
from types import TracebackType
from typing import Any, Callable, NamedTuple
from urllib.parse import urlsplit

from ansible_collections.kvmops.console.plugins.module_utils import _rfb
from ansible_collections.kvmops.console.plugins.module_utils._errors import (
    InputError,
    MissingLibrary,
    VncError,
    VncProtocolError,
    VncRefused,
    VncUnreachable,
)
from ansible_collections.kvmops.console.plugins.module_utils._verdict import (
    AFFECTED,
    FIXED,
    INCAPABLE,
    PROBE,
    UNKNOWN,
    Verdict,
)

FIRST_PORT = 5900
"""The TCP port of display 0 (6143, section 1 leaves it to custom; IANA lists it as rfb)."""
LONGEST_SOCKET = 107
"""Bytes of a unix socket's path (sun_path of unix(7), less its end)."""
_MOST_AT_ONCE = 1 << 18

SENDS_POINTER_CHANGE = "sends -257 unasked"
OBEYS_UNGATED = "obeys power messages that were not negotiated"
KEEPS_POINTER_CHANGE = "offers power control and sends no -257"
KEEPS_GATE = "turns power messages away that were not negotiated"


class Deadline:
    """One moment that a whole conversation has to end by."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def remaining(self) -> float:
        """Return the seconds left, more than none. Raises socket.timeout when the time is over, as a socket would."""
        left = self.left()
        if not left:
            raise socket.timeout("the time is over")
        return left

    def left(self) -> float:
        """Return the seconds left, 0 when the time is over."""
        return max(0.0, self._end - time.monotonic())

    def within(self, seconds: float) -> Deadline:
        """Return an earlier deadline, so many seconds from now; this one still holds."""
        return Deadline(min(seconds, self.left()))


# --- Ways to a server -------------------------------------------------------------------------------------------------


class Stream:
    """Bytes to and from a server: a connected socket. Use it with `with`."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def send(self, data: bytes, timeout: float) -> None:
        self._connection.settimeout(timeout)
        self._connection.sendall(data)

    def receive(self, timeout: float) -> bytes:
        """Return what came, b"" at the end."""
        self._connection.settimeout(timeout)
        return self._connection.recv(_MOST_AT_ONCE)

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class WebSocketStream(Stream):
    """The same over a WebSocket: each message holds any number of bytes of the stream (as websockify sends it)."""

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self._web: Any = connection

    def send(self, data: bytes, timeout: float) -> None:
        self._web.settimeout(timeout)
        self._web.send_binary(data)

    def receive(self, timeout: float) -> bytes:
        import websocket

        self._web.settimeout(timeout)
        while True:
            try:
                data = self._web.recv()
            except websocket.WebSocketConnectionClosedException:
                return b""
            except websocket.WebSocketTimeoutException as error:
                raise socket.timeout(str(error)) from error
            except websocket.WebSocketException as error:
                raise VncProtocolError(f"the WebSocket broke: {error}.") from error
            if isinstance(data, str):
                if data:
                    raise VncProtocolError("the WebSocket sends text; RFB needs binary messages.")
                if not self._web.connected:
                    return b""
                continue
            if data:
                return bytes(data)
            if not self._web.connected:
                return b""

    def close(self) -> None:
        self._web.shutdown()


class Way(NamedTuple):
    """A way to a server: `name` for sentences (no secret in it), `open` connects anew within so many seconds."""

    name: str
    open: Callable[[float], Stream]


_ADDRESS = re.compile(
    r"(?:\[(?P<bracketed>[^\[\]]+)\]|(?P<plain>[^\[\]:\s]+))(?:(?P<colons>::?)(?P<number>[0-9]{1,5}))?"
)


def parse_address(text: str, port: int | None = None) -> tuple[str, int]:
    """Return (host, port) of an address as people write VNC addresses.

    `host` is display 0; `host:N` is display N (port 5900+N) up to 99, and port N above; `host::N` is port N always. An
    IPv6 address stands in brackets. With `port`, `text` is the host alone. Raises InputError.
    """
    match = _ADDRESS.fullmatch(text.strip())
    if not match:
        raise InputError(
            f"'{text}' is no VNC address: write host, host:display, host:port or host::port, "
            "and an IPv6 address in brackets."
        )
    number = int(match["number"] or 0)
    if port is None:
        port = number if match["colons"] == "::" or number >= 100 else FIRST_PORT + number
    elif match["number"]:
        raise InputError(f"'{text}' names a display or port already, so port can't be given too.")
    if not 0 < port < 65536:
        raise InputError(f"Port {port} of '{text}' can't be: ports go from 1 to 65535.")
    return match["bracketed"] or match["plain"], port


def tcp(host: str, port: int) -> Way:
    """The way to a TCP port."""
    name = f"[{host}]::{port}" if ":" in host else f"{host}::{port}"
    return Way(name, lambda timeout: Stream(socket.create_connection((host, port), timeout)))


def unix(path: str) -> Way:
    """The way to a unix socket."""

    def open_(timeout: float) -> Stream:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(timeout)
            connection.connect(path)
        except BaseException:
            connection.close()
            raise
        return Stream(connection)

    return Way(path, open_)


def web(url: str, *, validate_certs: bool = True, ca_path: str | None = None) -> Way:
    """The way to a WebSocket, `ws://` or `wss://`. Raises InputError for another kind of URL.

    The query may hold a token, so sentences name the URL without it, and without a user's name.
    """
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if parts.scheme not in ("ws", "wss") or not host:
        raise InputError("The URL has to look like ws://host:port/path or wss://host:port/path.")
    shown = f"[{host}]" if ":" in host else host
    name = f"{parts.scheme}://{shown}{f':{port}' if port else ''}{parts.path}"

    def open_(timeout: float) -> Stream:
        try:
            import websocket
        except ImportError as error:
            raise MissingLibrary(
                "A ws:// or wss:// URL needs the Python library websocket-client on the host that asks: "
                "install the package python3-websocket (Debian, Ubuntu) or "
                "python3-websocket-client (Fedora, RHEL with EPEL, SUSE)."
            ) from error
        import ssl

        tls: dict[str, Any] = {} if validate_certs else {"cert_reqs": ssl.CERT_NONE, "check_hostname": False}
        if ca_path:
            tls["ca_certs"] = ca_path
        try:
            connection = websocket.create_connection(url, timeout=timeout, subprotocols=["binary"], sslopt=tls)
        except websocket.WebSocketBadStatusException as error:
            raise VncUnreachable(
                f"no WebSocket there, but the HTTP status {error.status_code}; check the path and the token."
            ) from error
        except websocket.WebSocketTimeoutException as error:
            raise socket.timeout(str(error)) from error
        except websocket.WebSocketException as error:
            raise VncUnreachable(f"no WebSocket there: {error}.") from error
        return WebSocketStream(connection)

    return Way(name, open_)


def handed_out(connection: socket.socket, name: str = "the VNC server") -> Way:
    """The way over a socket that is connected already, as virDomainOpenGraphicsFD hands one out.

    Good for one conversation.
    """
    return Way(name, lambda timeout: Stream(connection))


# --- A conversation ---------------------------------------------------------------------------------------------------


class Hello(NamedTuple):
    """What a server says before anybody asks for anything. What comes after a refused handshake is None."""

    rfb_version: str
    security_types: tuple[int, ...]
    security_type: int | None
    name: str | None
    width: int | None
    height: int | None


class _Closed(VncError):
    """The server closed the connection."""


class _Talk:
    """One conversation: the codec, the stream, the deadline."""

    def __init__(self, stream: Stream, deadline: Deadline, client: _rfb.Client) -> None:
        self._stream = stream
        self.deadline = deadline
        self.client = client
        self._events: list[_rfb.Event] = []

    def say(self, *messages: bytes) -> None:
        for message in messages:
            self.client.send(message)

    def hear(self) -> _rfb.Event:
        """Send what is due and return the next event. Raises _Closed at the end of the stream."""
        while not self._events:
            try:
                due = self.client.data_to_send()
                if due:
                    self._stream.send(due, self.deadline.remaining())
                data = self._stream.receive(self.deadline.remaining())
            except (BrokenPipeError, ConnectionResetError, ConnectionAbortedError):
                data = b""
            if not data:
                raise _Closed
            self._events = self.client.receive_data(data)
        return self._events.pop(0)

    def greet(self) -> Hello:
        """Walk through the handshake, as far as we can: not into security types that we don't speak."""
        offered = self.hear()
        if not isinstance(offered, _rfb.SecurityOffered):
            raise VncProtocolError("it speaks out of turn, before its security types.")
        version = ".".join(str(number) for number in offered.version)
        if offered.chosen is None:
            return Hello(version, offered.types, None, None, None, None)
        init = self.hear()
        if not isinstance(init, _rfb.ServerInit):
            raise VncProtocolError("it speaks out of turn, before its desktop's size and name.")
        return Hello(version, offered.types, offered.chosen, init.name, init.width, init.height)

    def enter(self) -> Hello:
        """Walk through the whole handshake. Raises VncRefused when the server's security types don't let us."""
        hello = self.greet()
        if hello.security_type is None:
            types = ", ".join(_rfb.security_name(number) for number in hello.security_types)
            raise VncRefused(f"it lets nobody in without authentication; its security types are {types}.")
        return hello


def _converse(way: Way, deadline: Deadline, client: _rfb.Client, talk_about: Callable[[_Talk], Any]) -> Any:
    """Open `way`, talk, close. Every trouble of the network becomes one of our errors, with the way's name in it."""
    try:
        with way.open(deadline.remaining()) as stream:
            return talk_about(_Talk(stream, deadline, client))
    except _Closed as error:
        raise VncUnreachable(f"{way.name} closed the connection while we were {client.doing}.") from error
    except VncError as error:
        raise type(error)(f"{way.name}: {error}") from error
    except socket.timeout as error:
        raise VncUnreachable(
            f"{way.name} did not answer within {deadline.seconds:g} seconds; we were {client.doing}."
        ) from error
    except OSError as error:
        raise VncUnreachable(f"{way.name} can't be reached: {error.strerror or error}.") from error


# --- The questions ----------------------------------------------------------------------------------------------------


class Answers(NamedTuple):
    """What listing XVP (-309) brought: INIT (`power_control`), -257 although never listed, -258's acknowledgement."""

    power_control: bool
    pointer_change: bool
    acknowledged: bool


def _list_power_control(talk: _Talk, *, size: tuple[int, int] | None = None, keep: bool = False) -> Answers:
    """List -309, then -258 alone; hear until the server acknowledges -258, which comes after all that -309 brought.

    QEMU answers both within SetEncodings itself (ui/vnc.c, set_encodings; since 0.10). Servers that know no -258 send
    one pixel instead when `size` is given: every server answers a request that is not incremental (7.5.3). `keep`: stay
    with -309, which power messages need; else they are over with it.
    """
    then = (_rfb.XVP, _rfb.EXTENDED_KEY) if keep else (_rfb.EXTENDED_KEY,)
    talk.say(_rfb.set_encodings(_rfb.XVP), _rfb.set_encodings(*then))
    if size and min(size) > 0:
        talk.say(_rfb.update_request(0, 0, 1, 1))
    power_control = pointer_change = False
    while True:
        event = talk.hear()
        if isinstance(event, _rfb.Message) and event.name == "xvp" and event.fields["code"] == _rfb.XVP_INIT:
            power_control = True
        elif isinstance(event, _rfb.Rectangle) and event.encoding == _rfb.POINTER_CHANGE:
            pointer_change = True
        elif isinstance(event, _rfb.Rectangle) and event.encoding in (_rfb.EXTENDED_KEY, _rfb.RAW):
            return Answers(power_control, pointer_change, event.encoding == _rfb.EXTENDED_KEY)


def ask_running(sock: socket.socket, *, power_control: bool, timeout: float = 5.0) -> Verdict:
    """Tell what the VNC server behind `sock` does to a client that lists XVP.

    `sock` is a fresh connection to a live domain's server (virDomainOpenGraphicsFD with SKIPAUTH: then a password
    doesn't matter); it is closed at the end. `power_control` says whether the running process has power control on:
    without it neither -257 nor INIT can come, and the verdict is unknown. Joins as one more shared viewer, reads no
    pixel, sends no power message. Raises VncError.
    """

    def talk_about(talk: _Talk) -> Answers:
        talk.enter()
        return _list_power_control(talk)

    answers: Answers = _converse(handed_out(sock), Deadline(timeout), _rfb.Client(), talk_about)
    if answers.pointer_change:
        return Verdict(AFFECTED, PROBE, f"the running VNC server {SENDS_POINTER_CHANGE}")
    if answers.power_control:
        return Verdict(FIXED, PROBE, f"the running VNC server {KEEPS_POINTER_CHANGE}")
    if power_control:
        return Verdict(
            UNKNOWN,
            PROBE,
            "the running VNC server offers no power control although it is switched on (a standalone qemu-vnc does so)",
        )
    return Verdict(
        UNKNOWN, PROBE, "power control is off in the running process, so its VNC server shows neither behaviour"
    )


_QEMU_NAME = re.compile(r"QEMU( \(.*\))?", re.DOTALL)
"""QEMU's desktop names, without and with -name (QEMU: protocol_client_init)."""


def named_like_qemu(name: str) -> bool:
    """Whether a desktop's name is one that QEMU gives."""
    return _QEMU_NAME.fullmatch(name) is not None


def looks_like_qemu(hello: Hello, answers: Answers) -> bool:
    """Whether this can be taken for QEMU, which alone is known to refuse XVP_REBOOT always."""
    return answers.acknowledged and named_like_qemu(hello.name or "")


def ask_server(way: Way, deadline: Deadline, *, password: str | None = None) -> tuple[Hello, Answers | None]:
    """Ask any server what it offers, and what listing XVP brings. No answers when we can't speak its security types."""

    def talk_about(talk: _Talk) -> tuple[Hello, Answers | None]:
        hello = talk.greet()
        if hello.width is None or hello.height is None:
            return hello, None
        return hello, _list_power_control(talk, size=(hello.width, hello.height))

    answer: tuple[Hello, Answers | None] = _converse(
        way, deadline, _rfb.Client(password=password, most_raw=_rfb.MOST_PIXEL), talk_about
    )
    return answer


def ask_gate(way: Way, deadline: Deadline, *, password: str | None = None) -> bool:
    """Whether the server keeps power messages behind their negotiation: True when it turns ours away.

    Lists [Raw, DesktopSize] and never -309, then sends XVP_REBOOT. An affected QEMU mistakes DesktopSize for XVP and
    answers FAIL; a fixed one closes the connection (QEMU: protocol_client_msg). A server that does neither and goes on
    passed the message over. Only for servers that are known to refuse XVP_REBOOT: QEMU.
    """

    def talk_about(talk: _Talk) -> bool:
        talk.enter()
        talk.say(_rfb.set_encodings(_rfb.RAW, _rfb.DESKTOP_SIZE), _rfb.xvp(_rfb.XVP_REBOOT))
        talk.say(_rfb.set_encodings(_rfb.EXTENDED_KEY))
        while True:
            try:
                event = talk.hear()
            except _Closed:
                return True
            if isinstance(event, _rfb.Message) and event.name == "xvp":
                return False
            if isinstance(event, _rfb.Rectangle) and event.encoding == _rfb.EXTENDED_KEY:
                return True

    gated: bool = _converse(way, deadline, _rfb.Client(password=password), talk_about)
    return gated


# --- Power ------------------------------------------------------------------------------------------------------------

NOT_OFFERED, NOT_SENT = "not_offered", "not_sent"
REFUSED, SENT, UNANSWERED, CLOSED = "refused", "sent", "unanswered", "closed"


class Pressed(NamedTuple):
    """What became of a power message.

    `outcome`: NOT_OFFERED; NOT_SENT (only a look was asked for); REFUSED (XVP_FAIL); SENT, and what was said after it
    was answered without a refusal; CLOSED, the same, and then the server closed the connection; UNANSWERED, so that
    nobody knows. `qemu`: the server can be taken for QEMU.
    """

    hello: Hello
    qemu: bool
    outcome: str


def press(
    way: Way, deadline: Deadline, code: int | None, *, password: str | None = None, watch: float = 0.0
) -> Pressed:
    """Send the power message `code` to a server that offers power control; None sends nothing.

    A server says nothing of a success (rfbproto, xvp), but its refusal comes before the answer to what is said next.
    `watch`: how many seconds more to see whether the server closes the connection, as one does that ends.
    Raises VncError.
    """

    def talk_about(talk: _Talk) -> Pressed:
        hello = talk.enter()
        answers = _list_power_control(talk, size=(hello.width or 0, hello.height or 0), keep=True)
        qemu = looks_like_qemu(hello, answers)
        if not answers.power_control:
            return Pressed(hello, qemu, NOT_OFFERED)
        if code is None:
            return Pressed(hello, qemu, NOT_SENT)
        outcome = _send_power(talk, code, acknowledges=answers.acknowledged)
        if outcome == SENT and watch and _closes(talk, watch):
            outcome = CLOSED
        return Pressed(hello, qemu, outcome)

    # Asked for a pixel, QEMU sends a new viewer its whole screen in the end.
    client = _rfb.Client(password=password, most_raw=4 * MOST_SCREEN)
    pressed: Pressed = _converse(way, deadline, client, talk_about)
    return pressed


def _send_power(talk: _Talk, code: int, *, acknowledges: bool) -> str:
    """Send the message, and after it what this server has shown to answer: -258, or else a request for a pixel."""
    last = _rfb.set_encodings(_rfb.EXTENDED_KEY) if acknowledges else _rfb.update_request(0, 0, 1, 1)
    answer = _rfb.EXTENDED_KEY if acknowledges else _rfb.RAW
    talk.say(_rfb.xvp(code), last)
    while True:
        try:
            event = talk.hear()
        except (_Closed, socket.timeout):
            return UNANSWERED
        if isinstance(event, _rfb.Message) and event.name == "xvp" and event.fields["code"] == _rfb.XVP_FAIL:
            return REFUSED
        if isinstance(event, _rfb.Rectangle) and event.encoding == answer:
            return SENT


def _closes(talk: _Talk, seconds: float) -> bool:
    """Whether the server closes the connection within so many seconds."""
    talk.deadline = Deadline(seconds)
    while True:
        try:
            talk.hear()
        except _Closed:
            return True
        except socket.timeout:
            return False


def is_gone(way: Way, deadline: Deadline) -> bool:
    """Whether no VNC server is there any more, as told at once; one that does not answer in time may be."""
    try:
        _converse(way, deadline, _rfb.Client(), lambda talk: talk.greet())
    except VncUnreachable:
        return deadline.left() > 0
    except VncError:
        return False
    return False


# --- Screens ----------------------------------------------------------------------------------------------------------

MOST_SCREEN = 5120 * 2880
"""Pixels of a screen that we read; QEMU's VNC server cuts at 5120x2160 (QEMU: ui/vnc.h, VNC_MAX_WIDTH)."""

_SHIFT = 0xFFE1
"""The keysym of the left Shift key: wakes a screen, and types nothing."""

WAKE = ("none", "key", "pointer")


class Framebuffer(NamedTuple):
    """What a screen shows: `bgrx` has blue, green, red and a byte of no meaning for each pixel, row by row."""

    width: int
    height: int
    bgrx: bytes


def read_screen(sock: socket.socket, *, timeout: float, wake: str = "none") -> Framebuffer:
    """Read what the screen behind `sock` shows, as one more shared viewer.

    `sock` is a fresh connection to a live domain's server (virDomainOpenGraphicsFD with SKIPAUTH); it is closed at the
    end. QEMU hands its framebuffer over as it is, which holds its main loop up for less time than a screendump does.
    `wake`: "key" presses and releases Shift first, "pointer" moves the pointer by a pixel. Raises VncError.
    """

    def talk_about(talk: _Talk) -> Framebuffer:
        hello = talk.greet()
        if not hello.width or not hello.height:
            raise VncProtocolError("its screen has no size.")
        if hello.width * hello.height > MOST_SCREEN:
            raise VncProtocolError(f"its screen has {hello.width}x{hello.height} pixels, more than we read.")
        talk.client.ask_true_colour()
        talk.say(_rfb.set_encodings(_rfb.RAW), *_waking(wake))
        talk.say(_rfb.update_request(0, 0, hello.width, hello.height))
        return _receive_screen(talk, hello.width, hello.height)

    framebuffer: Framebuffer = _converse(
        handed_out(sock), Deadline(timeout), _rfb.Client(most_raw=4 * MOST_SCREEN), talk_about
    )
    return framebuffer


def _waking(wake: str) -> list[bytes]:
    if wake == "key":
        return [_rfb.key_event(_SHIFT, down=True), _rfb.key_event(_SHIFT, down=False)]
    if wake == "pointer":
        return [_rfb.pointer_event(1, 1), _rfb.pointer_event(0, 0)]
    return []


def _receive_screen(talk: _Talk, width: int, height: int) -> Framebuffer:
    """Put the rectangles together until every pixel has come; a server may send them in any number of updates."""
    missing = width * height
    pixels = bytearray()
    while missing > 0:
        event = talk.hear()
        if not isinstance(event, _rfb.Rectangle) or event.encoding != _rfb.RAW:
            continue
        if event.x + event.width > width or event.y + event.height > height:
            raise VncProtocolError("it sends pixels outside of its screen.")
        if (event.width, event.height) == (width, height):
            return Framebuffer(width, height, event.payload)
        pixels = pixels or bytearray(4 * width * height)
        row = 4 * event.width
        for line in range(event.height):
            begin = 4 * ((event.y + line) * width + event.x)
            pixels[begin : begin + row] = event.payload[line * row : (line + 1) * row]
        missing -= event.width * event.height
    return Framebuffer(width, height, bytes(pixels))


def verdict_of(
    subject: str, pointer_change: bool, power_control: bool, gated: bool | None, qemu: bool = True
) -> Verdict:
    """Return the verdict on what was seen; `subject` begins the evidence. `qemu`: it can be taken for QEMU."""
    seen = [SENDS_POINTER_CHANGE] if pointer_change else []
    if gated is False:
        seen.append(OBEYS_UNGATED)
    if seen:
        return Verdict(AFFECTED, PROBE, f"{subject} {'; '.join(seen)}")
    if power_control:
        seen.append(KEEPS_POINTER_CHANGE)
    if gated:
        seen.append(KEEPS_GATE)
    if seen:
        return Verdict(FIXED, PROBE, f"{subject} {'; '.join(seen)}")
    if not qemu:
        return Verdict(INCAPABLE, PROBE, f"{subject} is not QEMU's, and offers no power control")
    return Verdict(UNKNOWN, PROBE, f"{subject} has power control switched off, so listing it shows nothing")
