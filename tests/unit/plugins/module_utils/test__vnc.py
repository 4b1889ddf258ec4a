# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The questions to VNC servers, over real sockets with a scripted server at the other end."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Union

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _rfb, _vnc
from ansible_collections.kvmops.console.plugins.module_utils._errors import (
    ConsoleError,
    InputError,
    MissingLibrary,
    VncProtocolError,
    VncRefused,
    VncUnreachable,
)
from ansible_collections.kvmops.console.plugins.module_utils._verdict import (
    AFFECTED,
    FIXED,
    INCAPABLE,
    UNKNOWN,
    Verdict,
)

SECONDS = 20.0
"""What no test here comes near, unless it is about time."""


class Says(bytes):
    """What the server sends."""


class Hears(bytes):
    """What the server has to be sent."""


class Closes:
    """The server closes the connection."""


Step = Union[Says, Hears, Closes]


def says(text: str) -> Says:
    return Says(bytes.fromhex(text))


def hears(text: str) -> Hears:
    return Hears(bytes.fromhex(text))


VERSION: list[Step] = [Says(b"RFB 003.008\n"), Hears(b"RFB 003.008\n")]
NO_PASSWORD: list[Step] = [*VERSION, says("0101"), hears("01"), says("00000000"), hears("01")]


def desktop(name: bytes = b"QEMU", size: str = "0280 01e0") -> Says:
    return Says(bytes.fromhex(size + "20180001 00ff00ff 00ff1008 00000000") + struct.pack("!I", len(name)) + name)


LISTS_XVP = hears("02 00 0001 fffffecb  02 00 0001 fffffefe")
ASKS_A_PIXEL = hears("03 00 0000 0000 0001 0001")
INIT = "fa000101"
FAIL = "fa000100"
POINTER_CHANGE = "00000001 00000000 028001e0 fffffeff"
ACKNOWLEDGES = "00000001 00000000 028001e0 fffffefe"
ONE_PIXEL = "00000001 00000000 00010001 00000000 11223344"
TRIES_GATE = hears("02 00 0002 00000000 ffffff21  fa 00 01 03  02 00 0001 fffffefe")


def play(connection: socket.socket, script: list[Step]) -> None:
    """Play the server: say, and check what comes. In the end nothing more may come but the client's end."""
    with connection:
        connection.settimeout(SECONDS)
        for step in script:
            if isinstance(step, Says):
                connection.sendall(step)
            elif isinstance(step, Hears):
                assert receive(connection, len(step)) == step
            else:
                return
        assert receive(connection, 1) == b""


def receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        with contextlib.suppress(ConnectionResetError):
            more = connection.recv(size - len(data))
            if more:
                data += more
                continue
        return data
    return data


@contextlib.contextmanager
def server(work: Callable[[], None]) -> Iterator[None]:
    """Run `work` in a thread meanwhile; what it raises, the test raises."""
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    try:
        yield
    finally:
        thread.join(SECONDS * 2)
    if failures:
        raise failures[0]


@contextlib.contextmanager
def scripted(*scripts: list[Step]) -> Iterator[_vnc.Way]:
    """A way to a server that plays one script for each connection, on a unix socket."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, socket.socket(socket.AF_UNIX) as listener:
        path = f"{folder}/v"
        listener.bind(path)
        listener.listen(len(scripts))
        listener.settimeout(SECONDS)

        def work() -> None:
            for script in scripts:
                play(listener.accept()[0], script)

        with server(work):
            yield _vnc.unix(path)


def ask_running(script: list[Step], *, power_control: bool = True) -> Verdict:
    ours, theirs = socket.socketpair()
    with server(lambda: play(theirs, script)):
        verdict = _vnc.ask_running(ours, power_control=power_control, timeout=SECONDS)
    assert ours.fileno() == -1, "the socket is closed at the end"
    return verdict


# --- A live domain's server -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("power_control", [True, False])
@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (INIT + POINTER_CHANGE + ACKNOWLEDGES, AFFECTED),
        (POINTER_CHANGE + ACKNOWLEDGES, AFFECTED),
        (INIT + ACKNOWLEDGES, FIXED),
        (ACKNOWLEDGES, UNKNOWN),
    ],
)
def test_running_server(answer: str, verdict: str, power_control: bool) -> None:
    told = ask_running([*NO_PASSWORD, desktop(), LISTS_XVP, says(answer)], power_control=power_control)
    assert (told.verdict, told.basis) == (verdict, "probe")


def test_running_server_tells_why_it_can_not_be_told() -> None:
    script = [*NO_PASSWORD, desktop(), LISTS_XVP, says(ACKNOWLEDGES)]
    assert "although it is switched on" in ask_running(script, power_control=True).evidence
    assert "power control is off" in ask_running(script, power_control=False).evidence


def test_running_server_may_say_other_things_meanwhile() -> None:
    resize = "00000001 00000000 02d00190 ffffff21"
    clipboard = "03000000 00000002 6869"
    bell = "02"
    told = ask_running([*NO_PASSWORD, desktop(), LISTS_XVP, says(bell + INIT + resize + clipboard + ACKNOWLEDGES)])
    assert told.verdict == FIXED


def test_a_pointer_change_after_the_acknowledgement_is_somebody_elses() -> None:
    told = ask_running([*NO_PASSWORD, desktop(), LISTS_XVP, says(INIT + ACKNOWLEDGES + POINTER_CHANGE)])
    assert told.verdict == FIXED


def test_running_server_that_wants_a_password() -> None:
    with pytest.raises(VncRefused, match=r"the VNC server: it lets nobody in .* types are 2 \(VNC authentication\)\."):
        ask_running([*VERSION, says("0102")])


def test_running_server_that_sends_pixels() -> None:
    with pytest.raises(VncProtocolError, match=r"the VNC server: .*encoding 0 \(Raw\), which was not asked for"):
        ask_running([*NO_PASSWORD, desktop(), LISTS_XVP, says(ONE_PIXEL)])


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ([Closes()], "closed the connection while we were waiting for the server's version"),
        ([*VERSION, Closes()], "closed the connection while we were waiting for the security types"),
        ([*NO_PASSWORD, Closes()], "closed the connection while we were waiting for the desktop's size and name"),
        (
            [*NO_PASSWORD, desktop(), LISTS_XVP, says(INIT), Closes()],
            "closed the connection while we were waiting for messages",
        ),
    ],
)
def test_server_that_closes(script: list[Step], words: str) -> None:
    with pytest.raises(VncUnreachable, match=f"the VNC server {words}"):
        ask_running(script)


def test_server_that_says_nothing() -> None:
    ours, theirs = socket.socketpair()
    with theirs, pytest.raises(VncUnreachable) as caught:
        _vnc.ask_running(ours, power_control=True, timeout=0.05)
    assert str(caught.value) == (
        "the VNC server did not answer within 0.05 seconds; we were waiting for the server's version."
    )


def test_deadline_is_one_for_the_whole_conversation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that keeps talking, a little within every single wait, doesn't go on for ever."""
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    class Chatter(_vnc.Stream):
        def receive(self, timeout: float) -> bytes:
            now[0] += 0.4
            return self._connection.recv(1)

    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(b"RFB 003.008\n")
        way = _vnc.Way("a chatterbox", lambda timeout: Chatter(ours))
        with pytest.raises(VncUnreachable, match="a chatterbox did not answer within 1 seconds"):
            _vnc.ask_server(way, _vnc.Deadline(1.0))
    assert now[0] < 2


# --- Any server -------------------------------------------------------------------------------------------------------


def ask_server(*script: Step, password: str | None = None) -> tuple[_vnc.Hello, _vnc.Answers | None]:
    with scripted(list(script)) as way:
        return _vnc.ask_server(way, _vnc.Deadline(SECONDS), password=password)


def test_server_of_qemu() -> None:
    hello, answers = ask_server(
        *NO_PASSWORD, desktop(b"QEMU (web-1)"), LISTS_XVP, ASKS_A_PIXEL, says(INIT + POINTER_CHANGE + ACKNOWLEDGES)
    )
    assert hello == _vnc.Hello("3.8", (1,), 1, "QEMU (web-1)", 640, 480)
    assert answers == _vnc.Answers(power_control=True, pointer_change=True, acknowledged=True)
    assert _vnc.looks_like_qemu(hello, answers)


def test_server_that_knows_no_acknowledgement_answers_with_a_pixel() -> None:
    hello, answers = ask_server(*NO_PASSWORD, desktop(b"x11"), LISTS_XVP, ASKS_A_PIXEL, says(ONE_PIXEL))
    assert answers == _vnc.Answers(power_control=False, pointer_change=False, acknowledged=False)
    assert not _vnc.looks_like_qemu(hello, answers)


def test_server_without_a_screen_is_asked_for_no_pixel() -> None:
    _hello, answers = ask_server(*NO_PASSWORD, desktop(size="0000 0000"), LISTS_XVP, says(INIT + ACKNOWLEDGES))
    assert answers == _vnc.Answers(power_control=True, pointer_change=False, acknowledged=True)


def test_server_whose_authentication_we_do_not_speak() -> None:
    hello, answers = ask_server(*VERSION, says("02 13 12"))
    assert hello == _vnc.Hello("3.8", (19, 18), None, None, None, None)
    assert answers is None


def test_server_that_refuses() -> None:
    with pytest.raises(VncRefused, match=r"/v: the server refuses the connection: Too many\.$"):
        ask_server(*VERSION, Says(b"\0\0\0\0\x08Too many"))


def test_server_that_is_none() -> None:
    with pytest.raises(VncProtocolError, match=r"/v: no VNC server answers there: its first bytes are b'SSH-2.0-x'"):
        ask_server(Says(b"SSH-2.0-x"))


def test_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_rfb, "vnc_response", lambda password, challenge: password.encode() + challenge[8:])
    script: list[Step] = [
        *VERSION,
        says("0102"),
        hears("02"),
        Says(b"c" * 16),
        Hears(b"geheim12cccccccc"),
        says("00000000"),
        hears("01"),
        desktop(),
        LISTS_XVP,
        ASKS_A_PIXEL,
        says(INIT + ACKNOWLEDGES),
    ]
    hello, answers = ask_server(*script, password="geheim12")
    assert hello.security_type == 2
    assert answers is not None


@pytest.mark.parametrize(
    ("name", "acknowledged", "qemu"),
    [
        ("QEMU", True, True),
        ("QEMU (web-1)", True, True),
        ("QEMU (a\nb)", True, True),
        ("QEMU", False, False),
        ("My QEMU", True, False),
        ("QEMU-like", True, False),
        ("", True, False),
        (None, True, False),
    ],
)
def test_looks_like_qemu(name: str | None, acknowledged: bool, qemu: bool) -> None:
    hello = _vnc.Hello("3.8", (1,), 1, name, 1, 1)
    assert _vnc.looks_like_qemu(hello, _vnc.Answers(False, False, acknowledged)) is qemu


# --- The gate ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "gated"),
    [
        ([says(FAIL)], False),
        ([Closes()], True),
        ([says("02" + ACKNOWLEDGES)], True),
        ([says(FAIL + ACKNOWLEDGES)], False),
    ],
)
def test_gate(answer: list[Step], gated: bool) -> None:
    with scripted([*NO_PASSWORD, desktop(), TRIES_GATE, *answer]) as way:
        assert _vnc.ask_gate(way, _vnc.Deadline(SECONDS)) is gated


def test_gate_of_a_server_that_closes_too_early_is_not_told() -> None:
    with scripted([*NO_PASSWORD, Closes()]) as way, pytest.raises(VncUnreachable, match="closed the connection"):
        _vnc.ask_gate(way, _vnc.Deadline(SECONDS))


def test_only_the_harmless_power_message_is_ever_sent() -> None:
    """What the scripts above hear is all that questions send; of power messages that is code 3, once, by ask_gate."""
    assert TRIES_GATE.count(bytes.fromhex("fa0001")) == 1
    assert TRIES_GATE.count(bytes.fromhex("fa000103")) == 1
    assert (LISTS_XVP + ASKS_A_PIXEL).count(b"\xfa") == 0


# --- Power ------------------------------------------------------------------------------------------------------------

LISTS_AND_KEEPS_XVP = hears("02 00 0001 fffffecb  02 00 0002 fffffecb fffffefe")
OFFERS: list[Step] = [*NO_PASSWORD, desktop(), LISTS_AND_KEEPS_XVP, ASKS_A_PIXEL, says(INIT + INIT + ACKNOWLEDGES)]
PRESSES_SHUTDOWN = hears("fa 00 01 02  02 00 0001 fffffefe")
PRESSES_AND_ASKS_A_PIXEL = hears("fa 00 01 02  03 00 0000 0000 0001 0001")


def press(*script: Step, code: int | None = _rfb.XVP_SHUTDOWN, **options: Any) -> _vnc.Pressed:
    with scripted(list(script)) as way:
        return _vnc.press(way, _vnc.Deadline(SECONDS), code, **options)


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ([says(ACKNOWLEDGES)], _vnc.SENT),
        ([says(FAIL + ACKNOWLEDGES)], _vnc.REFUSED),
        ([says("02" + INIT + ONE_PIXEL + POINTER_CHANGE + FAIL)], _vnc.REFUSED),
        ([says(ONE_PIXEL + INIT + ACKNOWLEDGES)], _vnc.SENT),
        ([Closes()], _vnc.UNANSWERED),
    ],
)
def test_power_message(answer: list[Step], outcome: str) -> None:
    pressed = press(*OFFERS, PRESSES_SHUTDOWN, *answer)
    assert (pressed.outcome, pressed.qemu, pressed.hello.name) == (outcome, True, "QEMU")


@pytest.mark.parametrize(
    ("code", "number"), [(_rfb.XVP_SHUTDOWN, "02"), (_rfb.XVP_REBOOT, "03"), (_rfb.XVP_RESET, "04")]
)
def test_each_button_sends_its_own_message(code: int, number: str) -> None:
    pressed = press(*OFFERS, hears(f"fa 00 01 {number}  02 00 0001 fffffefe"), says(ACKNOWLEDGES), code=code)
    assert pressed.outcome == _vnc.SENT


def test_power_message_to_a_server_that_knows_no_acknowledgement() -> None:
    listed: list[Step] = [*NO_PASSWORD, desktop(b"x11"), LISTS_AND_KEEPS_XVP, ASKS_A_PIXEL, says(INIT + ONE_PIXEL)]
    sent = press(*listed, PRESSES_AND_ASKS_A_PIXEL, says(ONE_PIXEL))
    assert (sent.outcome, sent.qemu) == (_vnc.SENT, False)
    assert press(*listed, PRESSES_AND_ASKS_A_PIXEL, says(FAIL + ONE_PIXEL)).outcome == _vnc.REFUSED


@pytest.mark.parametrize("answer", [ACKNOWLEDGES, POINTER_CHANGE + ACKNOWLEDGES, FAIL + ACKNOWLEDGES, ONE_PIXEL])
def test_nothing_is_sent_to_a_server_that_does_not_offer_it(answer: str) -> None:
    """The script hears nothing more but the end."""
    script = [*NO_PASSWORD, desktop(), LISTS_AND_KEEPS_XVP, ASKS_A_PIXEL, says(answer)]
    assert press(*script).outcome == _vnc.NOT_OFFERED


def test_a_look_sends_no_power_message() -> None:
    assert press(*OFFERS, code=None, watch=SECONDS).outcome == _vnc.NOT_SENT


def test_power_message_that_a_server_never_answers() -> None:
    with scripted([*OFFERS, PRESSES_SHUTDOWN]) as way:
        assert _vnc.press(way, _vnc.Deadline(0.3), _rfb.XVP_SHUTDOWN).outcome == _vnc.UNANSWERED


def test_server_that_ends_after_the_message_is_seen_to() -> None:
    bell_meanwhile = says(ACKNOWLEDGES + "02")
    assert press(*OFFERS, PRESSES_SHUTDOWN, bell_meanwhile, Closes(), watch=SECONDS).outcome == _vnc.CLOSED


def test_whole_screen_that_comes_late_does_not_matter() -> None:
    screen = Says(bytes.fromhex("00000001 00000000 028001e0 00000000") + bytes(4 * 640 * 480))
    ended = press(*OFFERS, PRESSES_SHUTDOWN, screen, says(ACKNOWLEDGES), screen, Closes(), watch=SECONDS)
    assert ended.outcome == _vnc.CLOSED


def test_server_that_goes_on_after_the_message() -> None:
    assert press(*OFFERS, PRESSES_SHUTDOWN, says(ACKNOWLEDGES), watch=0.05).outcome == _vnc.SENT


def test_refusal_is_not_watched() -> None:
    assert press(*OFFERS, PRESSES_SHUTDOWN, says(FAIL), watch=SECONDS).outcome == _vnc.REFUSED


def test_power_message_needs_to_be_let_in() -> None:
    with pytest.raises(VncRefused, match="lets nobody in without authentication"):
        press(*VERSION, says("0102"))


def test_server_that_is_gone(tmp_path: Path) -> None:
    nowhere = _vnc.unix(os.fspath(tmp_path / "v"))
    assert _vnc.is_gone(nowhere, _vnc.Deadline(SECONDS))
    with scripted([Closes()]) as way:
        assert _vnc.is_gone(way, _vnc.Deadline(SECONDS)), "a proxy that has nobody behind it any more"


def test_server_that_is_not_gone() -> None:
    with scripted([*VERSION, says("0102")]) as way:
        assert not _vnc.is_gone(way, _vnc.Deadline(SECONDS))
    with scripted([*VERSION, Says(b"\0\0\0\0\x08Too many")]) as way:
        assert not _vnc.is_gone(way, _vnc.Deadline(SECONDS))
    with scripted([]) as way:
        assert not _vnc.is_gone(way, _vnc.Deadline(0.05)), "one that hangs may be there"


# --- Verdicts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pointer_change", "power_control", "gated", "qemu", "verdict", "evidence"),
    [
        (True, True, False, True, AFFECTED, "it sends -257 unasked; obeys power messages that were not negotiated"),
        (True, True, None, True, AFFECTED, "it sends -257 unasked"),
        (True, True, True, True, AFFECTED, "it sends -257 unasked"),
        (False, False, False, True, AFFECTED, "it obeys power messages that were not negotiated"),
        (False, True, None, True, FIXED, "it offers power control and sends no -257"),
        (
            *(False, True, True, True, FIXED),
            "it offers power control and sends no -257; turns power messages away that were not negotiated",
        ),
        (False, False, True, True, FIXED, "it turns power messages away that were not negotiated"),
        (False, False, None, False, INCAPABLE, "it is not QEMU's, and offers no power control"),
        (False, False, None, True, UNKNOWN, "it has power control switched off, so listing it shows nothing"),
    ],
)
def test_verdict(
    pointer_change: bool, power_control: bool, gated: bool | None, qemu: bool, verdict: str, evidence: str
) -> None:
    assert _vnc.verdict_of("it", pointer_change, power_control, gated, qemu) == Verdict(verdict, "probe", evidence)


# --- Ways -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "port", "expected"),
    [
        ("kvm-1", None, ("kvm-1", 5900)),
        ("kvm-1:0", None, ("kvm-1", 5900)),
        ("kvm-1:7", None, ("kvm-1", 5907)),
        ("kvm-1:99", None, ("kvm-1", 5999)),
        ("kvm-1:100", None, ("kvm-1", 100)),
        ("kvm-1:5901", None, ("kvm-1", 5901)),
        ("kvm-1::7", None, ("kvm-1", 7)),
        ("192.0.2.1::5901", None, ("192.0.2.1", 5901)),
        ("[2001:db8::1]", None, ("2001:db8::1", 5900)),
        ("[2001:db8::1]:1", None, ("2001:db8::1", 5901)),
        ("[2001:db8::1]::5901", None, ("2001:db8::1", 5901)),
        (" kvm-1 ", 5901, ("kvm-1", 5901)),
        ("[::1]", 80, ("::1", 80)),
    ],
)
def test_address(text: str, port: int | None, expected: tuple[str, int]) -> None:
    assert _vnc.parse_address(text, port) == expected


@pytest.mark.parametrize(
    ("text", "port", "words"),
    [
        ("", None, "'' is no VNC address"),
        ("2001:db8::1", None, "IPv6 address in brackets"),
        ("kvm-1:", None, "is no VNC address"),
        ("kvm-1:x", None, "is no VNC address"),
        ("kvm 1", None, "is no VNC address"),
        ("kvm-1::0", None, "Port 0 of"),
        ("kvm-1::65536", None, "Port 65536 of"),
        ("kvm-1", 0, "Port 0 of"),
        ("kvm-1:1", 5901, "already, so port can't be given too"),
    ],
)
def test_no_address(text: str, port: int | None, words: str) -> None:
    with pytest.raises(InputError, match=words):
        _vnc.parse_address(text, port)


def test_tcp() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def work() -> None:
            script = [*NO_PASSWORD, desktop(), LISTS_XVP, ASKS_A_PIXEL, says(INIT + ACKNOWLEDGES)]
            play(listener.accept()[0], script)

        with server(work):
            hello, _answers = _vnc.ask_server(_vnc.tcp("127.0.0.1", port), _vnc.Deadline(SECONDS))
    assert hello.name == "QEMU"


def test_port_where_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(VncUnreachable, match=rf"127\.0\.0\.1::{port} can't be reached: Connection refused\."):
        _vnc.ask_server(_vnc.tcp("127.0.0.1", port), _vnc.Deadline(SECONDS))


def test_socket_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(VncUnreachable, match=r"can't be reached: No such file or directory\."):
        _vnc.ask_server(_vnc.unix(os.fspath(tmp_path / "v")), _vnc.Deadline(SECONDS))


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("ws://kvm-1:6080/websockify?token=geheim", "ws://kvm-1:6080/websockify"),
        ("wss://me:geheim@kvm-1/", "wss://kvm-1/"),
        ("ws://[2001:db8::1]:80", "ws://[2001:db8::1]:80"),
    ],
)
def test_name_of_a_url_has_no_secret(url: str, name: str) -> None:
    assert _vnc.web(url).name == name


@pytest.mark.parametrize("url", ["http://kvm-1/", "kvm-1", "ws://", "ws://kvm-1:port/", ""])
def test_no_url(url: str) -> None:
    with pytest.raises(InputError, match="has to look like ws://host:port/path"):
        _vnc.web(url)


def test_websocket_without_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "websocket", None)
    with pytest.raises(MissingLibrary, match="python3-websocket"):
        _vnc.ask_server(_vnc.web("ws://kvm-1/"), _vnc.Deadline(SECONDS))


class FakeWebSocket:
    """The part of websocket-client's WebSocket that we use; `frames` is what recv returns, or raises."""

    def __init__(self, frames: list[Any]) -> None:
        self.frames = frames
        self.connected = True
        self.sent = b""
        self.closed = False

    def settimeout(self, timeout: float) -> None:
        assert timeout > 0

    def send_binary(self, data: bytes) -> None:
        self.sent += data

    def recv(self) -> Any:
        frame = self.frames.pop(0)
        if isinstance(frame, Exception):
            raise frame
        return frame

    def shutdown(self) -> None:
        self.closed = True


class LibraryError(Exception):
    """What websocket-client's exceptions are made of."""


class LibraryTimeout(LibraryError):
    pass


class LibraryClosed(LibraryError):
    pass


class LibraryBadStatus(LibraryError):
    status_code = 404


def ask_web(monkeypatch: pytest.MonkeyPatch, connect: Any) -> tuple[_vnc.Hello, _vnc.Answers | None]:
    library = SimpleNamespace(
        create_connection=connect,
        WebSocketException=LibraryError,
        WebSocketTimeoutException=LibraryTimeout,
        WebSocketConnectionClosedException=LibraryClosed,
        WebSocketBadStatusException=LibraryBadStatus,
    )
    monkeypatch.setitem(sys.modules, "websocket", library)
    return _vnc.ask_server(_vnc.web("ws://kvm-1/x?token=geheim"), _vnc.Deadline(SECONDS))


def test_websocket_messages_are_pieces_of_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    hello = b"".join(step for step in [*NO_PASSWORD, desktop()] if isinstance(step, Says))
    answer = says(INIT + POINTER_CHANGE + ACKNOWLEDGES)
    fake = FakeWebSocket([hello[:5], b"", hello[5:40], "", hello[40:], answer[:7], answer[7:]])
    options: dict[str, Any] = {}

    def connect(url: str, **given: Any) -> FakeWebSocket:
        options.update(given, url=url)
        return fake

    _hello, answers = ask_web(monkeypatch, connect)
    assert answers == _vnc.Answers(True, True, True)
    assert fake.sent == b"RFB 003.008\n\x01\x01" + LISTS_XVP + ASKS_A_PIXEL
    assert fake.closed
    assert options["url"] == "ws://kvm-1/x?token=geheim"
    assert options["subprotocols"] == ["binary"]
    assert options["sslopt"] == {}


@pytest.mark.parametrize(
    ("frame", "kind", "words"),
    [
        (LibraryClosed(), VncUnreachable, "closed the connection while we were waiting for the server's version"),
        (LibraryTimeout(), VncUnreachable, "did not answer within 20 seconds"),
        (LibraryError("bad frame"), VncProtocolError, "the WebSocket broke: bad frame"),
        ("text", VncProtocolError, "sends text; RFB needs binary"),
        (OSError(5, "Input/output error"), VncUnreachable, "can't be reached: Input/output error"),
    ],
)
def test_websocket_that_breaks(
    monkeypatch: pytest.MonkeyPatch, frame: Any, kind: type[ConsoleError], words: str
) -> None:
    fake = FakeWebSocket([frame])
    with pytest.raises(kind) as caught:
        ask_web(monkeypatch, lambda url, **given: fake)
    assert words in str(caught.value)
    assert str(caught.value).startswith("ws://kvm-1/x")
    assert fake.closed


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (LibraryBadStatus(), "the HTTP status 404; check the path and the token"),
        (LibraryTimeout(), "did not answer within 20 seconds"),
        (LibraryError("Handshake failed"), "no WebSocket there: Handshake failed"),
        (ConnectionRefusedError(111, "Connection refused"), "can't be reached: Connection refused"),
    ],
)
def test_websocket_that_can_not_be_opened(monkeypatch: pytest.MonkeyPatch, error: Exception, words: str) -> None:
    def connect(url: str, **given: Any) -> Any:
        raise error

    with pytest.raises(VncUnreachable) as caught:
        ask_web(monkeypatch, connect)
    assert words in str(caught.value)
    assert "geheim" not in str(caught.value)
