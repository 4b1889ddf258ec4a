# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""RFB 3.3, 3.7 and 3.8, the language of VNC: bytes in, events and bytes out, no I/O.

Private to this collection.

Sources: RFC 6143 (numbers of sections below are its), rfbproto.rst of the rfbproto project for what the RFC leaves out
("rfbproto"), and QEMU's ui/vnc.c, version 7.2, for what QEMU does ("QEMU").

Both directions are tables. A message is a row of CLIENT_MESSAGES or SERVER_MESSAGES: its first byte (and its second,
where that tells kinds apart), the layout of its head, and what follows the head. `build` and `parse` read the same row,
so what one writes the other understands. Only FramebufferUpdate is no row: what follows its head depends on each
rectangle.

A conversation, seen from the client (7.1 to 7.3):

    server's version -> ours -> security types -> our choice -> [VNC authentication] -> [result] -> ClientInit ->
    ServerInit -> messages, for ever

`Client` walks through it: give it the bytes that came, get events; take away what it wants sent. Nothing here waits,
and nothing keeps more than `MOST_*` bytes of what a server may send.
"""

from __future__ import annotations

import functools
import struct
from typing import Any, Callable, NamedTuple, Union

from ansible_collections.kvmops.console.plugins.module_utils._errors import (
    MissingLibrary,
    VncProtocolError,
    VncRefused,
)

# --- What the other side may make us keep -----------------------------------------------------------------------------

MOST_REASON = 4096
"""Bytes of a reason for a refusal; QEMU's longest has 38."""
MOST_NAME = 65536
"""Bytes of a desktop's name; QEMU cuts its own at 1024."""
MOST_CUT_TEXT = 1 << 20
"""Bytes of a clipboard; QEMU closes a connection that sends more (protocol_client_msg, type 6)."""
MOST_ENCODINGS = 1024
"""Encodings in one SetEncodings; clients list about 25, and about 120 are defined."""
MOST_FENCE = 64
"""Bytes of a fence's payload (rfbproto, Fence)."""
MOST_PIXEL = 1 << 16
"""Bytes of one Raw rectangle where a single pixel was asked for."""

# --- Names of numbers -------------------------------------------------------------------------------------------------

SECURITY_NONE = 1
SECURITY_VNC = 2

SECURITY_TYPES: dict[int, str] = {
    0: "Invalid",
    SECURITY_NONE: "None",
    SECURITY_VNC: "VNC authentication",
    5: "RA2",
    6: "RA2ne",
    13: "RSA-AES step 2",
    16: "Tight",
    17: "Ultra",
    18: "TLS",
    19: "VeNCrypt",
    20: "SASL",
    21: "MD5 hash",
    22: "xvp",
    23: "Secure Tunnel",
    24: "Integrated SSH",
    30: "Apple Remote Desktop",
    35: "Apple (35)",
    113: "UltraVNC MS-Logon II",
    129: "RA2 (256 bits)",
    130: "RA2ne (256 bits)",
    133: "RA2r (256 bits)",
}
"""Security types that servers offer (7.1.2, 8.1.2, rfbproto)."""

RAW = 0
LED_STATE = -261
AUDIO = -259
EXTENDED_KEY = -258
POINTER_CHANGE = -257
DESKTOP_SIZE = -223
LAST_RECT = -224
EXTENDED_DESKTOP_SIZE = -308
XVP = -309
EXTENDED_MOUSE = -316

ENCODINGS: dict[int, str] = {
    RAW: "Raw",
    1: "CopyRect",
    2: "RRE",
    4: "CoRRE",
    5: "Hextile",
    6: "zlib",
    7: "Tight",
    8: "zlibhex",
    15: "TRLE",
    16: "ZRLE",
    17: "ZYWRLE",
    21: "JPEG",
    50: "Open H.264",
    -223: "DesktopSize",
    -224: "LastRect",
    -239: "Cursor",
    -240: "X Cursor",
    -257: "QEMU Pointer Motion Change",
    -258: "QEMU Extended Key Event",
    -259: "QEMU Audio",
    -260: "Tight PNG",
    -261: "QEMU LED State",
    -305: "gii",
    -307: "DesktopName",
    -308: "ExtendedDesktopSize",
    -309: "xvp",
    -312: "Fence",
    -313: "ContinuousUpdates",
    -314: "Cursor With Alpha",
    -316: "ExtendedMouseButtons",
    0x574D5669: "VMware Display Mode Change (WMVi)",
    0xC0A1E5CE - (1 << 32): "Extended Clipboard",
}
"""Encodings and pseudo-encodings, as signed 32-bit numbers (7.7, 7.8, rfbproto)."""

XVP_FAIL = 0
XVP_INIT = 1
XVP_SHUTDOWN = 2
XVP_REBOOT = 3
"""QEMU never obeys this one: it always answers XVP_FAIL (QEMU: protocol_client_msg, VNC_MSG_CLIENT_XVP)."""
XVP_RESET = 4


def encoding_name(number: int) -> str:
    """`-257 (QEMU Pointer Motion Change)`, or the bare number when nobody has named it."""
    name = ENCODINGS.get(number)
    return f"{number} ({name})" if name else str(number)


def security_name(number: int) -> str:
    """`2 (VNC authentication)`, or the bare number when nobody has named it."""
    name = SECURITY_TYPES.get(number)
    return f"{number} ({name})" if name else str(number)


# --- Messages as rows of a table --------------------------------------------------------------------------------------


class Message(NamedTuple):
    """One message of either side.

    `name` is the row's; `fields` holds the numbers of the head; `items` the tuples, or `payload` the bytes, that follow
    it; `raw` all of it as it was on the wire, padding included, for whoever passes it on.
    """

    name: str
    fields: dict[str, int]
    items: tuple[tuple[int, ...], ...]
    payload: bytes
    raw: bytes


class Layout(NamedTuple):
    """A row: how a message looks.

    `head` is a struct format that starts behind the bytes of the row's key; `fields` name its numbers. `counted` is the
    field that says how much follows: so many items of the struct format `item`, or, with `item` of "s", so many bytes.
    `most` bounds that number. `after` overrides it where the amount is no plain field.
    """

    name: str
    head: str = ""
    fields: tuple[str, ...] = ()
    item: str = ""
    counted: str = ""
    most: int = 0
    after: Callable[[int], int] | None = None


Key = tuple[int, ...]
Table = dict[Key, Layout]


def _audio_format_bytes(operation: int) -> int:
    """QEMU Audio: operation 2 brings sample format, channels and frequency; 0 (on) and 1 (off) bring nothing."""
    return 6 if operation == 2 else 0


CLIENT_MESSAGES: Table = {
    (0,): Layout("set_pixel_format", "3x16s"),  # 7.5.1; its 16 bytes are the payload
    (2,): Layout("set_encodings", "xH", ("count",), "i", "count", MOST_ENCODINGS),  # 7.5.2
    (3,): Layout("framebuffer_update_request", "BHHHH", ("incremental", "x", "y", "width", "height")),  # 7.5.3
    (4,): Layout("key_event", "B2xI", ("down", "key")),  # 7.5.4
    (5,): Layout("pointer_event", "BHH", ("buttons", "x", "y")),  # 7.5.5
    # 7.5.6; rfbproto, Extended Clipboard: a negative length announces that many bytes of the extended form
    (6,): Layout("client_cut_text", "3xi", ("length",), "s", "length", MOST_CUT_TEXT, abs),
    (150,): Layout("enable_continuous_updates", "BHHHH", ("enable", "x", "y", "width", "height")),  # rfbproto
    (248,): Layout("fence", "3xIB", ("flags", "length"), "s", "length", MOST_FENCE),  # rfbproto
    (250,): Layout("xvp", "xBB", ("version", "code")),  # rfbproto, xvp
    # rfbproto, SetDesktopSize; a screen is id, x, y, width, height, flags
    (251,): Layout("set_desktop_size", "xHHBx", ("width", "height", "count"), "IHHHHI", "count", 255),
    (255, 0): Layout("qemu_key_event", "HII", ("down", "keysym", "keycode")),  # rfbproto, QEMU Extended Key Event
    (255, 1): Layout(
        "qemu_audio", "H", ("operation",), "s", "operation", 6, _audio_format_bytes
    ),  # rfbproto, QEMU Audio
}
"""What clients say.

Extended mouse buttons (-316) would make pointer_event longer, but only on servers that take them up.
"""

SERVER_MESSAGES: Table = {
    (1,): Layout("set_colour_map_entries", "xHH", ("first", "count"), "HHH", "count", 65535),  # 7.6.2
    (2,): Layout("bell"),  # 7.6.3
    (3,): Layout("server_cut_text", "3xi", ("length",), "s", "length", MOST_CUT_TEXT, abs),  # 7.6.4, Extended Clipboard
    (150,): Layout("end_of_continuous_updates"),  # rfbproto
    (248,): Layout("fence", "3xIB", ("flags", "length"), "s", "length", MOST_FENCE),  # rfbproto
    (250,): Layout("xvp", "xBB", ("version", "code")),  # rfbproto, xvp
}
"""What servers say, but for FramebufferUpdate (0)."""

_FRAMEBUFFER_UPDATE = 0


def build(
    table: Table, name: str, *, items: list[tuple[int, ...]] | None = None, payload: bytes = b"", **fields: int
) -> bytes:
    """Return the message `name` of `table` as bytes. The field that counts what follows is filled in when left out."""
    key, layout = next((key, layout) for key, layout in table.items() if layout.name == name)
    items = items or []
    if layout.counted:
        fields.setdefault(layout.counted, len(payload) if layout.item == "s" else len(items))
    values = [payload] if layout.head.endswith("s") else [fields[field] for field in layout.fields]
    head = bytes(key) + struct.pack("!" + layout.head, *values)
    if layout.item == "s":
        return head + payload
    return head + b"".join(struct.pack("!" + layout.item, *item) for item in items)


class Head(NamedTuple):
    """The head of a message, for whoever does not want to wait for what follows it.

    `values` are its numbers, in the order of the row's fields. It has `size` bytes, the row's key among them; then come
    `amount` items, `rest` bytes.
    """

    layout: Layout
    values: tuple[Any, ...]
    size: int
    amount: int
    rest: int


def parse_head(table: Table, buffer: bytes | bytearray, offset: int = 0) -> Head | None:
    """Return the head of the message that starts at `offset`, or None when its end has not come yet.

    Raises VncProtocolError for a message that is not in the table. How much follows is not judged: see `most`.
    """
    key = _key_at(table, buffer, offset)
    if key is None:
        return None
    layout = table[key]
    form = _form(layout.head)
    size = len(key) + form.size
    if len(buffer) < offset + size:
        return None
    values = form.unpack_from(buffer, offset + len(key))
    if not layout.item:
        return Head(layout, values, size, 0, 0)
    amount = values[layout.fields.index(layout.counted)]
    if layout.after:
        amount = layout.after(amount)
    return Head(layout, values, size, amount, amount * _form(layout.item).size)


@functools.cache
def _form(layout: str) -> struct.Struct:
    """Compile a struct format of a row."""
    return struct.Struct("!" + layout)


def parse(table: Table, buffer: bytes | bytearray, offset: int = 0) -> Message | None:
    """Return the message that starts at `offset`, or None when its end has not come yet.

    `len(message.raw)` bytes are used up. Raises VncProtocolError for a message that is not in the table, or longer than
    its row allows: before the rest of it is waited for.
    """
    head = parse_head(table, buffer, offset)
    if head is None:
        return None
    layout, values, size, amount, rest = head
    if amount > layout.most:
        raise VncProtocolError(
            f"a {layout.name} message announces {amount} elements; {layout.most} is the most we take"
        )
    if len(buffer) < offset + size + rest:
        return None
    raw = bytes(buffer[offset : offset + size + rest])
    if layout.head.endswith("s"):
        return Message(layout.name, {}, (), values[0], raw)
    fields = dict(zip(layout.fields, values))
    if layout.item == "s" or not layout.item:
        return Message(layout.name, fields, (), raw[size:], raw)
    return Message(layout.name, fields, tuple(struct.iter_unpack("!" + layout.item, raw[size:])), b"", raw)


def _key_at(table: Table, buffer: bytes | bytearray, offset: int) -> Key | None:
    """Return the key of the row that fits the bytes at `offset`; None when more of them are needed to tell."""
    if offset >= len(buffer):
        return None
    key: Key = (buffer[offset],)
    if key in table:
        return key
    longer = tuple(buffer[offset : offset + 2])
    if longer in table:
        return longer
    if any(other[:1] == key for other in table):
        if longer == key:
            return None
        key = longer
    kind = ", ".join(str(byte) for byte in key)
    raise VncProtocolError(f"a message of the unknown type {kind} came; nothing after it can be understood")


def set_encodings(*encodings: int) -> bytes:
    """SetEncodings (7.5.2): the encodings that we take, the best first. It replaces the list sent before."""
    return build(CLIENT_MESSAGES, "set_encodings", items=[(encoding,) for encoding in encodings])


def xvp(code: int) -> bytes:
    """A power message (rfbproto, xvp), version 1. XVP_SHUTDOWN and XVP_RESET act on the guest."""
    return build(CLIENT_MESSAGES, "xvp", version=1, code=code)


def update_request(x: int, y: int, width: int, height: int, *, incremental: bool = False) -> bytes:
    """FramebufferUpdateRequest (7.5.3)."""
    return build(
        CLIENT_MESSAGES,
        "framebuffer_update_request",
        incremental=int(incremental),
        x=x,
        y=y,
        width=width,
        height=height,
    )


TRUE_COLOUR = struct.pack("!BBBBHHHBBB3x", 32, 24, 0, 1, 255, 255, 255, 16, 8, 0)
"""A pixel format (7.4): four bytes a pixel, which come as blue, green, red, nothing. QEMU's own default."""


def key_event(key: int, *, down: bool) -> bytes:
    """KeyEvent (7.5.4); `key` is an X keysym."""
    return build(CLIENT_MESSAGES, "key_event", down=int(down), key=key)


def pointer_event(x: int, y: int, buttons: int = 0) -> bytes:
    """PointerEvent (7.5.5)."""
    return build(CLIENT_MESSAGES, "pointer_event", buttons=buttons, x=x, y=y)


def extended_cut_text(payload: bytes) -> bytes:
    """ClientCutText in its extended form: flags and what belongs to them, under a negative length (rfbproto)."""
    return build(CLIENT_MESSAGES, "client_cut_text", payload=payload, length=-len(payload))


# --- The handshake ----------------------------------------------------------------------------------------------------


def parse_version(greeting: bytes) -> tuple[int, int]:
    """Return (major, minor) of a 12-byte ProtocolVersion message (7.1.1). Raises VncProtocolError for anything else."""
    numbers = greeting[4:7], greeting[8:11]
    if len(greeting) != 12 or greeting[:4] != b"RFB " or greeting[7:8] != b"." or greeting[11:] != b"\n":
        raise VncProtocolError(f"no VNC server answers there: its first bytes are {bytes(greeting)!r}")
    if not all(number.isdigit() for number in numbers):
        raise VncProtocolError(f"the server's version is {bytes(greeting)!r}, which is no RFB version")
    return int(numbers[0]), int(numbers[1])


def format_version(version: tuple[int, int]) -> bytes:
    """The reverse of `parse_version`."""
    return b"RFB %03d.%03d\n" % version


def agree_version(version: tuple[int, int]) -> tuple[int, int]:
    """Return the version to speak with a peer of this one: the highest of 3.3, 3.7, 3.8 that it knows.

    Other numbers mean 3.3 (7.1.1), but those above 3.8, like Apple's 3.889 and RealVNC's 4.1 and 5.0, know 3.8.
    """
    if version >= (3, 8):
        return (3, 8)
    return (3, 7) if version == (3, 7) else (3, 3)


def vnc_response(password: str, challenge: bytes) -> bytes:
    """Answer the 16-byte challenge of VNC authentication (7.2.2).

    DES in ECB mode, the key being the password's first eight bytes with the bits of each byte in reverse order. Three
    equal keys make Triple-DES plain DES, and every release of the cryptography package takes 24 bytes. Raises
    MissingLibrary.
    """
    try:
        from cryptography.hazmat.primitives.ciphers import Cipher, modes
    except ImportError as error:
        raise MissingLibrary(
            "A VNC password needs the Python library cryptography on the host that asks: install the package "
            "python3-cryptography (Debian, Ubuntu, Fedora, RHEL, SUSE)."
        ) from error
    try:  # Its home since release 43
        from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
    except ImportError:
        from cryptography.hazmat.primitives.ciphers.algorithms import TripleDES
    key = password.encode()[:8].ljust(8, b"\0")
    reversed_bits = bytes(int(f"{byte:08b}"[::-1], 2) for byte in key)
    encryptor = Cipher(TripleDES(reversed_bits * 3), modes.ECB()).encryptor()
    return bytes(encryptor.update(challenge) + encryptor.finalize())


# --- The client's side of a conversation ------------------------------------------------------------------------------


class SecurityOffered(NamedTuple):
    """The server told its security types (in 3.3 the only one). `chosen` is ours, None when we speak none of them."""

    version: tuple[int, int]
    types: tuple[int, ...]
    chosen: int | None


class ServerInit(NamedTuple):
    """The handshake is done (7.3.2). `pixel_format` is 16 bytes (7.4)."""

    width: int
    height: int
    pixel_format: bytes
    name: str


class Rectangle(NamedTuple):
    """One rectangle of a FramebufferUpdate (7.6.1).

    The four numbers mean what the encoding says; `payload` follows them.
    """

    x: int
    y: int
    width: int
    height: int
    encoding: int
    payload: bytes = b""


Event = Union[SecurityOffered, ServerInit, Rectangle, Message]


class Size(NamedTuple):
    """How many bytes follow a rectangle's head: `fixed`, of which byte 0 may count `each` more."""

    fixed: int
    each: int = 0


BARE_RECTANGLES: dict[int, Size] = {
    POINTER_CHANGE: Size(0),
    EXTENDED_KEY: Size(0),
    AUDIO: Size(0),
    LED_STATE: Size(1),
    DESKTOP_SIZE: Size(0),
    LAST_RECT: Size(0),
    EXTENDED_DESKTOP_SIZE: Size(4, 16),  # rfbproto: a count, three bytes of padding, 16 bytes a screen
}
"""Rectangles that come without pixels (7.8, rfbproto, QEMU)."""

_RECTANGLE = struct.Struct("!HHHHi")
_ANY_COUNT = 0xFFFF
"""A server that will send LastRect may announce this many rectangles (rfbproto, LastRect)."""


class Client:
    """The client's side of one conversation.

    `receive_data(bytes)` returns the events that are complete; `data_to_send()` hands over what is to be written; after
    ServerInit, `send(bytes)` queues messages. Raises VncRefused when the server or its authentication turns us away,
    and VncProtocolError for bytes that can't be understood; after that the conversation is over.

    With `password`, a server that offers no "None" gets VNC authentication. Raw rectangles of at most `most_raw` bytes
    are understood (0: none was asked for); any other rectangle with pixels is an error, since nothing asks for one.
    """

    def __init__(self, *, password: str | None = None, shared: bool = True, most_raw: int = 0) -> None:
        self.doing = "waiting for the server's version"
        """What an end of the stream would interrupt, for a sentence."""
        self._password = password
        self._shared = shared
        self._most_raw = most_raw
        self._version = (3, 8)
        self._security = SECURITY_NONE
        self._bits_per_pixel = 32
        self._rectangles = 0
        self._incoming = bytearray()
        self._outgoing = bytearray()
        self._step: Callable[[], list[Event] | None] = self._read_version

    @classmethod
    def joined(cls, init: ServerInit) -> Client:
        """A client whose handshake somebody else has done, up to and with this ServerInit."""
        client = cls()
        client._bits_per_pixel = init.pixel_format[0]
        client._next(client._read_message, "waiting for messages")
        return client

    def receive_data(self, data: bytes) -> list[Event]:
        """Take what came, return what it completed, in order.

        What comes after a handshake that we can't go on with is dropped.
        """
        self._incoming += data
        events: list[Event] = []
        while True:
            found = self._step()
            if found is None:
                return events
            events += found

    def data_to_send(self) -> bytes:
        """Return what is to be written, once."""
        data = bytes(self._outgoing)
        self._outgoing.clear()
        return data

    def rest(self) -> bytes:
        """Return what came and completed nothing yet, once: the beginning of a message or nothing."""
        data = bytes(self._incoming)
        self._incoming.clear()
        return data

    def send(self, message: bytes) -> None:
        """Queue a message. The server takes messages only after ServerInit."""
        self._outgoing += message

    def ask_true_colour(self) -> None:
        """Queue SetPixelFormat (7.5.1) for TRUE_COLOUR, before any pixels are asked for."""
        self._bits_per_pixel = TRUE_COLOUR[0]
        self.send(build(CLIENT_MESSAGES, "set_pixel_format", payload=TRUE_COLOUR))

    # Each step returns None when it needs more bytes, else the events it found, and sets the step that follows.

    def _take(self, size: int) -> bytes | None:
        if len(self._incoming) < size:
            return None
        # A slice of the array would be a copy of its own, and a screen has millions of bytes.
        data = bytes(memoryview(self._incoming)[:size])
        del self._incoming[:size]
        return data

    def _take_text(self, offset: int, most: int, what: str) -> str | None:
        """Take `offset` bytes, then a string that a 32-bit length precedes; return the string."""
        if len(self._incoming) < offset + 4:
            return None
        (length,) = struct.unpack_from("!I", self._incoming, offset)
        if length > most:
            raise VncProtocolError(f"the server announces {length} bytes of {what}; {most} is the most we take")
        data = self._take(offset + 4 + length)
        return None if data is None else data[offset + 4 :].decode("utf-8", "replace")

    def _next(self, step: Callable[[], list[Event] | None], doing: str) -> list[Event]:
        self._step = step
        self.doing = doing
        return []

    def _read_version(self) -> list[Event] | None:
        greeting = bytes(self._incoming[:12])
        if not b"RFB ".startswith(greeting[:4]):
            raise VncProtocolError(f"no VNC server answers there: its first bytes are {greeting!r}")
        if self._take(12) is None:
            return None
        self.server_version = parse_version(greeting)
        self._version = agree_version(self.server_version)
        self.send(format_version(self._version))
        step = self._read_security_type if self._version == (3, 3) else self._read_security_types
        return self._next(step, "waiting for the security types")

    def _read_security_type(self) -> list[Event] | None:
        """In 3.3 the server decides, in four bytes (7.1.2)."""
        data = self._take(4)
        if data is None:
            return None
        (number,) = struct.unpack("!I", data)
        if number == 0:
            return self._next(self._read_refusal, "waiting for the reason of its refusal")
        return self._choose((number,))

    def _read_security_types(self) -> list[Event] | None:
        if not self._incoming:
            return None
        count = self._incoming[0]
        data = self._take(1 + count)
        if data is None:
            return None
        if count == 0:
            return self._next(self._read_refusal, "waiting for the reason of its refusal")
        return self._choose(tuple(data[1:]))

    def _choose(self, types: tuple[int, ...]) -> list[Event]:
        wanted = (SECURITY_NONE, SECURITY_VNC) if self._password is not None else (SECURITY_NONE,)
        chosen = next((number for number in wanted if number in types), None)
        offered: list[Event] = [SecurityOffered(self.server_version, types, chosen)]
        if chosen is None:
            self._next(self._read_nothing, "speaking none of its security types")
            return offered
        self._security = chosen
        if self._version != (3, 3):
            self.send(bytes((chosen,)))
        if chosen == SECURITY_VNC:
            self._next(self._read_challenge, "waiting for the challenge of VNC authentication")
        elif self._version == (3, 8):
            self._next(self._read_result, "waiting for the result of its security check")
        else:  # Before 3.8 nothing confirms "None" (7.2.1)
            self._initialise()
        return offered

    def _read_nothing(self) -> list[Event] | None:
        self._incoming.clear()
        return None

    def _read_challenge(self) -> list[Event] | None:
        challenge = self._take(16)
        if challenge is None:
            return None
        self.send(vnc_response(self._password or "", challenge))
        return self._next(self._read_result, "waiting for the result of VNC authentication")

    def _read_result(self) -> list[Event] | None:
        """SecurityResult (7.1.3): 0 is good. Only 3.8 gives a reason for the rest."""
        data = self._take(4)
        if data is None:
            return None
        (result,) = struct.unpack("!I", data)
        if result == 0:
            return self._initialise()
        if self._version == (3, 8):
            return self._next(self._read_refusal, "waiting for the reason of its refusal")
        raise self._refused("it gives no reason")

    def _read_refusal(self) -> list[Event] | None:
        reason = self._take_text(0, MOST_REASON, "a reason")
        if reason is None:
            return None
        printable = "".join(c if c.isprintable() else " " for c in reason)  # QEMU's ends with a NUL
        raise self._refused(" ".join(printable.split()) or "it gives no reason")

    def _refused(self, reason: str) -> VncRefused:
        if self._security == SECURITY_VNC:
            return VncRefused(f"the server refuses the password: {reason}.")
        return VncRefused(f"the server refuses the connection: {reason}.")

    def _initialise(self) -> list[Event]:
        self.send(bytes((self._shared,)))
        return self._next(self._read_server_init, "waiting for the desktop's size and name")

    def _read_server_init(self) -> list[Event] | None:
        head = bytes(self._incoming[:20])
        name = self._take_text(20, MOST_NAME, "a desktop's name")
        if name is None:
            return None
        width, height, pixel_format = struct.unpack("!HH16s", head)
        self._bits_per_pixel = pixel_format[0]
        self._next(self._read_message, "waiting for messages")
        return [ServerInit(width, height, pixel_format, name)]

    def _read_message(self) -> list[Event] | None:
        if not self._incoming:
            return None
        if self._incoming[0] == _FRAMEBUFFER_UPDATE:
            data = self._take(4)
            if data is None:
                return None
            (self._rectangles,) = struct.unpack_from("!H", data, 2)
            return self._next(self._read_rectangle, "in the middle of a framebuffer update") if self._rectangles else []
        message = parse(SERVER_MESSAGES, self._incoming)
        if message is None:
            return None
        del self._incoming[: len(message.raw)]
        return [message]

    def _read_rectangle(self) -> list[Event] | None:
        if len(self._incoming) < _RECTANGLE.size:
            return None
        head = _RECTANGLE.unpack_from(self._incoming)
        size = self._payload_size(Rectangle(*head))
        if size is None or len(self._incoming) < _RECTANGLE.size + size:
            return None
        del self._incoming[: _RECTANGLE.size]
        rectangle = Rectangle(*head)._replace(payload=self._take(size) or b"")
        last = rectangle.encoding == LAST_RECT
        if self._rectangles != _ANY_COUNT:
            self._rectangles -= 1
        if last or not self._rectangles:
            self._next(self._read_message, "waiting for messages")
        return [rectangle]

    def _payload_size(self, rectangle: Rectangle) -> int | None:
        """How many bytes follow this rectangle's head; None when that is not known yet."""
        if self._most_raw and rectangle.encoding == RAW:
            size = rectangle.width * rectangle.height * self._bits_per_pixel // 8
            if size > self._most_raw:
                raise VncProtocolError(
                    f"the server sends {rectangle.width}x{rectangle.height} pixels, more than were asked for"
                )
            return size
        payload = BARE_RECTANGLES.get(rectangle.encoding)
        if payload is None:
            raise VncProtocolError(
                f"the server sends a rectangle of the encoding {encoding_name(rectangle.encoding)}, "
                "which was not asked for"
            )
        if not payload.each:
            return payload.fixed
        if len(self._incoming) <= _RECTANGLE.size:
            return None
        return payload.fixed + payload.each * self._incoming[_RECTANGLE.size]
