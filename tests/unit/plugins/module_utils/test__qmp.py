# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The conversation with QEMU, against a QEMU that is a thread and does as it is told, or dies, or lies."""

from __future__ import annotations

import array
import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Optional

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _image, _power, _qmp
from ansible_collections.kvmops.console.plugins.module_utils._errors import (
    ConsoleError,
    ImageError,
    InputError,
    MissingLibrary,
    QmpError,
    QmpLost,
    QmpRefused,
    QmpUnreachable,
    TookTooLong,
)

SECONDS = 30.0
SHORT = 0.2
GREETING: dict[str, Any] = {
    "QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": "test"}, "capabilities": ["oob"]}
}
PPM = b"P6\n2 1\n255\n" + bytes(range(6))
HANG = object()
DIE = object()
Answer = Any


class Qemu:
    """Serves one client after the other. `answers` has a command's return value, or a function of its arguments."""

    def __init__(self, path: Path) -> None:
        self.path = os.fspath(path)
        self.first: Any = GREETING
        self.status = "running"
        self.thread = 4711
        self.commands: list[tuple[str, dict[str, Any]]] = []
        self.lent: Optional[int] = None
        self.kept: list[dict[str, Any]] = []
        self.before: dict[str, list[dict[str, Any]]] = {}
        self.answers: dict[str, Answer] = {
            "qmp_capabilities": {},
            "query-status": lambda arguments: {"running": self.status == "running", "status": self.status},
            "query-cpus-fast": lambda arguments: [{"thread-id": self.thread}],
            "query-fdsets": lambda arguments: self.kept,
            "add-fd": lambda arguments: {"fd": 9, "fdset-id": arguments["fdset-id"]},
            "remove-fd": {},
            "screendump": self.draw,
            "send-key": {},
            "input-send-event": {},
        }
        self.picture = PPM
        self.busy = threading.Event()
        self._client: Optional[socket.socket] = None
        self._free = threading.Event()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(self.path)
        self._listener.listen(1)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def draw(self, arguments: dict[str, Any]) -> dict[str, Any]:
        assert self.lent is not None
        os.write(self.lent, self.picture)
        return {}

    def stop(self) -> None:
        self._free.set()
        self.close()
        self._thread.join(SECONDS)
        assert not self._thread.is_alive()
        if self.lent is not None:
            os.close(self.lent)

    def go_on(self) -> None:
        """End what hangs."""
        self._free.set()

    def close(self) -> Any:
        """Listen no more. Gives nothing, so that it can stand in an answer."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def end_talk(self) -> None:
        """Close the connection that there is."""
        assert self._client is not None
        self._client.shutdown(socket.SHUT_RDWR)

    def names(self) -> list[str]:
        return [name for name, _arguments in self.commands if name != "qmp_capabilities"]

    def _serve(self) -> None:
        while True:
            try:
                client, _address = self._listener.accept()
            except OSError:
                return
            self.busy.set()
            self._client = client
            with client, contextlib.suppress(ConnectionError):  # the client has gone
                self._talk(client)

    def _talk(self, client: socket.socket) -> None:
        if self.first is HANG:
            self._free.wait(SECONDS)
            return
        if self.first is DIE:
            return
        self._say(client, self.first)
        data = b""
        while True:
            got, ancillary, _flags, _address = client.recvmsg(65536, socket.CMSG_SPACE(4))
            if not got:
                return
            for _level, _type, content in ancillary:
                if self.lent is not None:
                    os.close(self.lent)
                self.lent = array.array("i", content)[0]
            *lines, data = (data + got).split(b"\n") if b"\n" in got else self._whole(data + got)
            for line in lines:
                if line.strip() and not self._answer(client, json.loads(line)):
                    return

    @staticmethod
    def _whole(data: bytes) -> list[bytes]:
        """The library ends no message with a line feed, and waits for each answer before it sends the next."""
        try:
            json.loads(data)
        except ValueError:
            return [data]
        return [data, b""]

    def _answer(self, client: socket.socket, message: dict[str, Any]) -> bool:
        command, arguments = message["execute"], message.get("arguments", {})
        self.commands.append((command, arguments))
        answer = self.answers.get(command, {"error": ("CommandNotFound", f"The command {command} has not been found")})
        if callable(answer):
            answer = answer(arguments)
        if answer is HANG:
            self._free.wait(SECONDS)
            return False
        for event in self.before.get(command, []):
            self._say(client, event)
        if answer is DIE:
            return False
        reply: dict[str, Any] = {"return": answer}
        if isinstance(answer, dict) and "error" in answer:
            reply = {"error": {"class": answer["error"][0], "desc": answer["error"][1]}}
        self._say(client, {**reply, "id": message["id"]} if "id" in message else reply)
        return True

    @staticmethod
    def _say(client: socket.socket, message: Any) -> None:
        client.sendall(message if isinstance(message, bytes) else json.dumps(message).encode() + b"\r\n")


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator[Qemu]:
    made = Qemu(tmp_path / "q")
    yield made
    made.stop()


@pytest.fixture
def monitor(qemu: Qemu) -> Iterator[_qmp.Monitor]:
    with _qmp.connect(qemu.path, SECONDS) as made:
        yield made


def event(name: str, **data: Any) -> dict[str, Any]:
    return {"event": name, "data": data, "timestamp": {"seconds": 100, "microseconds": 250000}}


def refusal(kind: str, text: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda arguments: {"error": (kind, text)}


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# --- Connecting -------------------------------------------------------------------------------------------------------


def test_version(monitor: _qmp.Monitor) -> None:
    assert monitor.version == (7, 2, 22)


def test_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_qmp, "QMP_TRACEBACK", "Traceback ...")
    with pytest.raises(MissingLibrary, match=r"install qemu\.qmp"), _qmp.connect("/nowhere", SECONDS):
        pass


def unreachable(path: str, timeout: float = SECONDS) -> str:
    with pytest.raises(QmpUnreachable) as caught, _qmp.connect(path, timeout):
        pass
    return str(caught.value)


def test_no_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert unreachable("/nowhere/q").startswith("There is no socket /nowhere/q: start QEMU with -qmp unix:/nowhere/q")
    (tmp_path / "file").write_text("")
    monkeypatch.chdir(tmp_path)
    assert unreachable("file") == "No QEMU listens on file any more: start it, or leave this socket out."
    assert "cannot be reached: Not a directory" in unreachable("file/q")


def test_socket_that_takes_datagrams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("d")
        assert unreachable("d") == "d is no socket that QMP could be spoken on: correct the path."


def test_path_that_is_too_long() -> None:
    with pytest.raises(InputError, match="may have 107 bytes"), _qmp.connect("/" + "x" * 107, SECONDS):
        pass


def test_nobody_greets(qemu: Qemu) -> None:
    qemu.first = HANG
    assert unreachable(qemu.path, SHORT).startswith(f"QEMU did not greet on {qemu.path} within 0.2 s: it hangs, or")


def test_no_time_left_to_greet(qemu: Qemu) -> None:
    sock = _qmp._reach(qemu.path, SECONDS)
    with pytest.raises(QmpUnreachable, match="did not greet"):
        _qmp.Monitor(sock, qemu.path, SECONDS, 0.0)
    assert sock.fileno() == -1, "the socket is closed"


def fill_queue(qemu: Qemu) -> list[socket.socket]:
    """Connect until there is no place left."""
    waiting = []
    while True:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.setblocking(False)
        waiting.append(sock)
        if sock.connect_ex(qemu.path):
            return waiting
        assert qemu.busy.wait(SECONDS), "the first leaves the queue"


def test_queue_of_callers_is_full(qemu: Qemu) -> None:
    qemu.first = HANG
    waiting = fill_queue(qemu)
    try:
        assert unreachable(qemu.path, SHORT).startswith(f"QEMU did not greet on {qemu.path} within 0.2 s")
    finally:
        for sock in waiting:
            sock.close()


def test_queue_of_callers_that_moves_on_in_time(qemu: Qemu) -> None:
    qemu.first = HANG
    waiting = fill_queue(qemu)

    def serve_again() -> None:
        qemu.first = GREETING
        for sock in waiting:
            sock.close()
        qemu.go_on()

    threading.Timer(SHORT, serve_again).start()
    with _qmp.connect(qemu.path, SECONDS) as monitor:
        assert monitor.execute("query-status")["running"] is True


def test_second_client_waits_for_the_first(qemu: Qemu, monitor: _qmp.Monitor) -> None:
    assert "another program holds this monitor" in unreachable(qemu.path, SHORT)
    monitor.close()
    with _qmp.connect(qemu.path, SECONDS) as other:
        assert other.execute("query-status")["running"] is True


def test_end_before_the_greeting(qemu: Qemu) -> None:
    qemu.first = DIE
    assert unreachable(qemu.path) == f"The QEMU on {qemu.path} ended, or closed its monitor, when it was to greet."


@pytest.mark.parametrize("greeting", [b"RFB 003.008\n", b'{"hello": 1}\r\n', b"[]\r\n"])
def test_other_protocol(qemu: Qemu, greeting: bytes) -> None:
    qemu.first = greeting
    expected = f"What listens on {qemu.path} does not speak QMP: give the path of a -qmp socket of QEMU."
    assert unreachable(qemu.path) == expected


def test_nothing_is_left_open(qemu: Qemu) -> None:
    before = descriptors()
    with _qmp.connect(qemu.path, SECONDS) as monitor:
        _qmp.screendump(monitor, None, 0)
    qemu.answers["screendump"] = DIE
    with pytest.raises(QmpLost), _qmp.connect(qemu.path, SECONDS) as monitor:
        _qmp.screendump(monitor, None, 0)
    qemu.first = b"RFB 003.008\n"
    unreachable(qemu.path)
    assert qemu.lent is not None
    os.close(qemu.lent)
    qemu.lent = None
    deadline = time.monotonic() + SECONDS
    while descriptors() > before:  # the stand-in closes its own ends in a thread of its own
        assert time.monotonic() < deadline, "a descriptor stays open"


# --- Commands and events ----------------------------------------------------------------------------------------------


def test_command(qemu: Qemu, monitor: _qmp.Monitor) -> None:
    qemu.answers["send-key"] = {"done": [1]}
    assert monitor.execute("send-key", {"keys": []}) == {"done": [1]}
    assert qemu.commands[-1] == ("send-key", {"keys": []})


def test_command_that_is_refused(qemu: Qemu, monitor: _qmp.Monitor) -> None:
    with pytest.raises(QmpRefused) as caught:
        monitor.execute("nix")
    assert str(caught.value) == f"QEMU on {qemu.path} refuses nix: The command nix has not been found."
    assert (caught.value.kind, caught.value.reason) == ("CommandNotFound", "The command nix has not been found")
    assert monitor.execute("query-status")


def test_command_without_answer(qemu: Qemu, monitor: _qmp.Monitor) -> None:
    qemu.answers["query-status"] = HANG
    with pytest.raises(TookTooLong, match=r"did not answer query-status within 0\.2 s"):
        monitor.execute("query-status", timeout=SHORT)


def test_end_in_a_command(qemu: Qemu, monitor: _qmp.Monitor) -> None:
    qemu.answers["query-status"] = DIE
    for _turn in range(2):  # the second one finds the connection closed
        with pytest.raises(QmpLost, match="ended, or closed its monitor, when it was to execute query-status"):
            monitor.execute("query-status")


def test_answer_that_is_no_qmp(qemu: Qemu, monitor: _qmp.Monitor) -> None:
    qemu.before["query-status"] = [b"rubbish\r\n"]  # type: ignore[list-item]
    with pytest.raises(QmpLost):
        monitor.execute("query-status")


def test_events(qemu: Qemu, monitor: _qmp.Monitor) -> None:
    qemu.before["query-status"] = [event("RTC_CHANGE"), event("RESET", guest=True), event("SHUTDOWN", guest=False)]
    monitor.execute("query-status")
    assert monitor.wait_event({"RESET"}, SECONDS) == _qmp.Event("RESET", {"guest": True}, 100.25)
    assert monitor.wait_event({"RESET", "SHUTDOWN"}, SECONDS) == _qmp.Event("SHUTDOWN", {"guest": False}, 100.25)
    assert monitor.wait_event({"RESET", "SHUTDOWN"}, SHORT) is None
    assert monitor.execute("send-key") == {}, "the conversation goes on"


def test_event_before_the_end(qemu: Qemu, monitor: _qmp.Monitor) -> None:
    qemu.before["query-status"] = [event("SHUTDOWN", guest=False)]
    qemu.answers["query-status"] = DIE
    with pytest.raises(QmpLost):
        monitor.execute("query-status")
    told = monitor.wait_event({"SHUTDOWN"}, SECONDS)
    assert told is not None
    assert told.name == "SHUTDOWN"
    with pytest.raises(QmpLost, match="when it was to tell of an event"):
        monitor.wait_event({"SHUTDOWN"}, SECONDS)


def test_end_while_an_event_is_waited_for(qemu: Qemu, monitor: _qmp.Monitor) -> None:
    monitor.execute("query-status")
    threading.Timer(SHORT, hang_up, (monitor,)).start()
    with pytest.raises(QmpLost, match="when it was to tell of an event"):
        monitor.wait_event({"SHUTDOWN"}, SECONDS)


def test_end_right_before_an_event_is_waited_for(qemu: Qemu, monitor: _qmp.Monitor) -> None:
    """The library notes the end in the very turn of the loop in which the wait begins."""
    monitor.execute("query-status")
    hang_up(monitor)
    with pytest.raises(QmpLost, match="when it was to tell of an event"):
        monitor.wait_event({"SHUTDOWN"}, SECONDS)


def hang_up(monitor: _qmp.Monitor) -> None:
    """As if the other end had."""
    writer = monitor._client._writer
    assert writer is not None
    writer.transport.get_extra_info("socket")._sock.shutdown(socket.SHUT_RD)


# --- Screens ----------------------------------------------------------------------------------------------------------


def test_screendump(qemu: Qemu, monitor: _qmp.Monitor) -> None:
    dump = _qmp.screendump(monitor, None, 0)
    assert dump.ppm == PPM
    assert dump.blocked_ms > 0
    (added, add), (dumped, wanted), (removed, remove) = qemu.commands[-3:]
    assert (added, dumped, removed) == ("add-fd", "screendump", "remove-fd")
    assert wanted == {"filename": f"/dev/fdset/{add['fdset-id']}"}, "nothing that QEMU 5.2 would not know"
    assert remove == {"fdset-id": add["fdset-id"]}
    assert 0 < add["fdset-id"] < 1 << 31
    assert qemu.names()[0] == "query-status"


def test_descriptor_is_for_writing_only(qemu: Qemu, monitor: _qmp.Monitor) -> None:
    _qmp.screendump(monitor, None, 0)
    assert qemu.lent is not None
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.read(qemu.lent, 1)


def test_nothing_of_the_picture_stays_where_qemu_keeps_the_descriptor(qemu: Qemu, monitor: _qmp.Monitor) -> None:
    _qmp.screendump(monitor, None, 0)
    assert qemu.lent is not None
    assert os.fstat(qemu.lent).st_size == 0


def test_every_descriptor_has_a_number_of_its_own(qemu: Qemu, monitor: _qmp.Monitor) -> None:
    for _turn in range(3):
        _qmp.screendump(monitor, None, 0)
    assert len({arguments["fdset-id"] for name, arguments in qemu.commands if name == "add-fd"}) == 3


def test_head_of_a_device(qemu: Qemu, monitor: _qmp.Monitor) -> None:
    _qmp.screendump(monitor, "video0", 1)
    ((_name, wanted),) = [one for one in qemu.commands if one[0] == "screendump"]
    assert (wanted["device"], wanted["head"]) == ("video0", 1)


@pytest.mark.parametrize(
    ("kind", "words", "expected"),
    [
        ("GenericError", "There is no console to take a screendump from", "it has no display device"),
        ("DeviceNotFound", "Device 'video0' not found", "it has no device video0: give the id="),
        ("GenericError", "Device video0 (head 7) is not bound to a QemuConsole", "its device video0 has no screen 7"),
    ],
)
def test_no_such_screen(qemu: Qemu, monitor: _qmp.Monitor, kind: str, words: str, expected: str) -> None:
    qemu.answers["screendump"] = refusal(kind, words)
    with pytest.raises(InputError, match=expected):
        _qmp.screendump(monitor, "video0", 7)
    assert qemu.names()[-1] == "remove-fd", "what was lent is taken back"


def test_other_refusal(qemu: Qemu, monitor: _qmp.Monitor) -> None:
    qemu.answers["screendump"] = refusal("GenericError", "no surface")
    with pytest.raises(QmpRefused, match="refuses screendump: no surface"):
        _qmp.screendump(monitor, None, 0)


def test_descriptors_that_do_not_arrive(qemu: Qemu, monitor: _qmp.Monitor) -> None:
    qemu.answers["add-fd"] = refusal("GenericError", "No file descriptor supplied via SCM_RIGHTS")
    with pytest.raises(QmpRefused, match="refuses add-fd: No file descriptor supplied"):
        _qmp.screendump(monitor, None, 0)
    assert "screendump" not in qemu.names()


def test_end_in_a_screendump(qemu: Qemu, monitor: _qmp.Monitor) -> None:
    qemu.answers["screendump"] = DIE
    with pytest.raises(QmpLost, match="ended, or closed its monitor, when it was to execute screendump"):
        _qmp.screendump(monitor, None, 0)


def test_screendump_that_hangs(qemu: Qemu, monitor: _qmp.Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    qemu.answers["screendump"] = HANG
    asked: list[str] = []
    execute = _qmp.Monitor.execute

    def record(self: _qmp.Monitor, command: str, arguments: Optional[dict[str, Any]] = None) -> Any:
        asked.append(command)
        return execute(self, command, arguments, timeout=SHORT if command == "screendump" else SECONDS)

    monkeypatch.setattr(_qmp.Monitor, "execute", record)
    with pytest.raises(TookTooLong, match="did not answer screendump"):
        _qmp.screendump(monitor, None, 0)
    assert asked[-1] == "screendump", "nobody is asked any more who does not answer"


def test_picture_that_is_cut_off(qemu: Qemu, monitor: _qmp.Monitor) -> None:
    qemu.picture = PPM[:-1]
    dump = _qmp.screendump(monitor, None, 0)
    with pytest.raises(ImageError):
        _image.decode(dump.ppm)


def test_picture_that_is_too_large(qemu: Qemu, monitor: _qmp.Monitor) -> None:
    def fill(arguments: dict[str, Any]) -> dict[str, Any]:
        assert qemu.lent is not None
        os.ftruncate(qemu.lent, 3 * _image.MOST_PIXELS + 1025)
        return {}

    qemu.answers["screendump"] = fill
    with pytest.raises(ImageError, match="more than is looked at"):
        _qmp.screendump(monitor, None, 0)


def kept(number: int, opaque: str) -> list[dict[str, Any]]:
    return [{"fdset-id": one, "fds": [{"fd": one, "opaque": opaque}]} for one in range(number)]


def test_paused_qemu_is_lent_no_more_than_a_few(qemu: Qemu, monitor: _qmp.Monitor) -> None:
    qemu.answers["query-status"] = {"running": False}
    qemu.kept = [*kept(_qmp.MOST_KEPT - 1, _qmp.OURS), *kept(99, "somebody's"), {"fdset-id": 999, "fds": [{"fd": 1}]}]
    assert _qmp.screendump(monitor, None, 0).ppm == PPM
    qemu.kept = kept(_qmp.MOST_KEPT, _qmp.OURS)
    with pytest.raises(QmpError, match="is paused, and this version closes none of the 16 files"):
        _qmp.screendump(monitor, None, 0)
    qemu.answers["query-status"] = {"running": True}
    assert _qmp.screendump(monitor, None, 0).ppm == PPM


def test_press_shift(qemu: Qemu, monitor: _qmp.Monitor) -> None:
    _qmp.press_shift(monitor)
    assert qemu.commands[-1] == ("send-key", {"keys": [{"type": "qcode", "data": "shift"}]})


def test_pointer_is_put_back(qemu: Qemu, monitor: _qmp.Monitor) -> None:
    _qmp.nudge_pointer(monitor)
    steps = [arguments["events"] for name, arguments in qemu.commands if name == "input-send-event"]
    assert steps == [[{"type": "rel", "data": {"axis": "x", "value": value}}] for value in (1, -1)]


def test_pointer_of_a_tablet(qemu: Qemu, monitor: _qmp.Monitor) -> None:
    def positions_only(arguments: dict[str, Any]) -> Any:
        if arguments["events"][0]["type"] == "rel":
            return {"error": ("GenericError", "Input handler not found for event type rel")}
        return {}

    qemu.answers["input-send-event"] = positions_only
    _qmp.nudge_pointer(monitor)
    last = [arguments["events"] for name, arguments in qemu.commands if name == "input-send-event"][-1]
    assert last == [{"type": "abs", "data": {"axis": axis, "value": 0}} for axis in ("x", "y")]


# --- Power ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def machine(qemu: Qemu) -> Iterator[_qmp.Machine]:
    with _qmp.Machine(qemu.path, SECONDS, "quit") as made:
        yield made


def ask(machine: _qmp.Machine, method: str) -> Optional[str]:
    return machine.request(_power.Request(method, 1)).error


@pytest.mark.parametrize(
    ("status", "power"),
    [
        ("running", _power.ON),
        ("prelaunch", _power.PAUSED),
        ("paused", _power.PAUSED),
        ("suspended", _power.SUSPENDED),
        ("guest-panicked", _power.CRASHED),
        ("shutdown", _power.OFF),
        ("postmigrate", _power.UNKNOWN),
        ("inmigrate", _power.UNKNOWN),
        ("what-is-this", _power.UNKNOWN),
    ],
)
def test_machine_is_seen(qemu: Qemu, machine: _qmp.Machine, status: str, power: str) -> None:
    qemu.status = status
    assert machine.look() == _power.Observation(power, "4711")
    assert machine.trouble == (f"QEMU on {qemu.path} is in the state {status}." if power == _power.UNKNOWN else None)


@pytest.mark.parametrize(
    ("method", "command"),
    [
        (_qmp.ACPI, "system_powerdown"),
        (_qmp.CTRL_ALT_DEL, "send-key"),
        (_power.RESUME, "cont"),
        (_power.WAKE, "system_wakeup"),
        (_power.PAUSE, "stop"),
        (_power.RESET, "system_reset"),
        (_power.NMI, "inject-nmi"),
        (_power.FORCE, "quit"),
    ],
)
def test_request_is_one_command(qemu: Qemu, machine: _qmp.Machine, method: str, command: str) -> None:
    qemu.answers[command] = {}
    assert ask(machine, method) is None
    assert qemu.names() == ["query-cpus-fast", command]


def test_agent_is_asked_beside_the_monitor(qemu: Qemu) -> None:
    asked: list[str] = []

    def agent() -> None:
        asked.append("agent")
        if len(asked) > 1:
            raise ConsoleError("it refuses.")

    with _qmp.Machine(qemu.path, SECONDS, "quit", agent) as machine:
        assert ask(machine, _qmp.AGENT) is None
        with pytest.raises(ConsoleError, match="it refuses"):
            ask(machine, _qmp.AGENT)
    assert qemu.names() == ["query-cpus-fast"]


def test_request_that_qemu_refuses(qemu: Qemu, machine: _qmp.Machine) -> None:
    qemu.answers["system_wakeup"] = refusal("GenericError", "Unable to wake up: guest is not in suspended state")
    assert "refuses system_wakeup: Unable to wake up" in str(ask(machine, _power.WAKE))


@pytest.mark.parametrize("end", [DIE, HANG])
def test_request_whose_answer_does_not_come_may_have_been_heard(qemu: Qemu, end: object) -> None:
    qemu.answers["quit"] = qemu.answers["inject-nmi"] = end
    with _qmp.Machine(qemu.path, SHORT, "quit") as machine:
        assert ask(machine, _power.FORCE) is None
    qemu.go_on()
    with _qmp.Machine(qemu.path, SECONDS, "quit") as machine:
        assert ask(machine, _power.NMI) is not None, "an answer is all that tells of it"


def test_machine_that_has_ended_is_off(qemu: Qemu, machine: _qmp.Machine) -> None:
    qemu.answers["query-status"] = lambda arguments: qemu.close() or DIE
    assert machine.look() == _power.Observation(_power.OFF)
    assert machine.trouble is None


def test_machine_without_a_qemu_is_off(tmp_path: Path) -> None:
    with _qmp.Machine(os.fspath(tmp_path / "q"), SECONDS, "quit") as machine:
        assert machine.look() == _power.Observation(_power.OFF)


def test_monitor_that_breaks_is_connected_anew(qemu: Qemu, machine: _qmp.Machine) -> None:
    answers = iter([DIE, {"status": "running"}])
    qemu.answers["query-status"] = lambda arguments: next(answers)
    qemu.thread = 4712
    assert machine.look() == _power.Observation(_power.ON, "4712"), "another process"


def test_machine_that_hangs_is_not_known(qemu: Qemu) -> None:
    with _qmp.Machine(qemu.path, SHORT, "quit") as machine:
        qemu.answers["query-status"] = HANG
        assert machine.look() == _power.Observation(_power.UNKNOWN)
        assert "did not answer query-status" in str(machine.trouble)
        assert machine.wait(0.0) == _power.GAP


def test_first_contact_that_fails_is_told(qemu: Qemu) -> None:
    qemu.first = {"no": "greeting"}
    with pytest.raises(QmpUnreachable), _qmp.Machine(qemu.path, SECONDS, "quit"):
        pass


@pytest.mark.parametrize(
    ("told", "happened"),
    [
        (event("RESET", guest=True), _power.REBOOTED),
        (event("RESET", guest=False), _power.CHANGED),
        (event("SHUTDOWN", guest=True), _power.CHANGED),
        (event("SUSPEND"), _power.CHANGED),
        (event("RTC_CHANGE"), None),
    ],
)
def test_events_of_a_machine(qemu: Qemu, machine: _qmp.Machine, told: dict[str, Any], happened: Optional[str]) -> None:
    qemu.answers["system_powerdown"] = {}
    qemu.before["system_powerdown"] = [told]
    ask(machine, _qmp.ACPI)
    assert machine.wait(SHORT if happened is None else SECONDS) == happened


def test_reset_that_was_asked_for_counts(qemu: Qemu, machine: _qmp.Machine) -> None:
    qemu.answers["system_reset"] = {}
    qemu.before["system_reset"] = [event("RESET", guest=False)]
    ask(machine, _power.RESET)
    assert machine.wait(SECONDS) == _power.REBOOTED


@pytest.mark.parametrize(("status", "goes_on"), [("guest-panicked", True), ("paused", False), ("running", False)])
def test_guest_that_crashed_goes_on_after_its_reset(
    qemu: Qemu, machine: _qmp.Machine, status: str, goes_on: bool
) -> None:
    qemu.status = status
    qemu.answers["system_reset"] = qemu.answers["cont"] = {}
    machine.look()
    ask(machine, _power.RESET)
    assert qemu.names()[-2:] == (["system_reset", "cont"] if goes_on else ["query-status", "system_reset"])


def test_what_came_before_the_request_does_not_count(qemu: Qemu, machine: _qmp.Machine) -> None:
    qemu.before["query-status"] = [event("RESET", guest=True)]
    machine.look()
    qemu.before.clear()
    qemu.answers["send-key"] = {}
    ask(machine, _qmp.CTRL_ALT_DEL)
    assert machine.wait(SHORT) is None


def test_qemu_that_ends_during_the_wait(qemu: Qemu, machine: _qmp.Machine) -> None:
    qemu.answers["system_powerdown"] = lambda arguments: qemu.close() or {}
    ask(machine, _qmp.ACPI)
    qemu.end_talk()
    assert machine.wait(SECONDS) == _power.CHANGED
    assert machine.look() == _power.Observation(_power.OFF)
