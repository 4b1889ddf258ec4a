# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A QEMU that tells of every pointer event it injects into its guest, and websockify in front of it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import typing as t
from pathlib import Path

from PIL import Image

SECONDS = 300.0
"""A bound for anything, not an expectation."""

Event = dict[str, t.Any]


class Lines:
    """What a process says, line by line, as it comes."""

    def __init__(self, stream: t.TextIO) -> None:
        self._stream = stream
        self._lines: list[str] = []
        self._more = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        with self._stream:
            for line in self._stream:
                with self._more:
                    self._lines.append(line)
                    self._more.notify_all()
        with self._more:
            self._ended = True
            self._more.notify_all()

    def wait(self, done: t.Callable[[list[str]], bool]) -> None:
        """Until `done` of all lines so far; AssertionError with the lines when it takes too long."""
        with self._more:
            self._more.wait_for(lambda: done(self._lines) or self._ended, SECONDS)
            assert done(self._lines), f"it never came: {self._lines[-30:]}"

    def now(self) -> list[str]:
        with self._more:
            return list(self._lines)

    def end(self) -> None:
        self._thread.join(SECONDS)


class Machine:
    """A QEMU with its VNC on a unix socket, power control on, and no network."""

    def __init__(self, program: str, folder: Path, *options: str) -> None:
        self.vnc, self._monitor = os.fspath(folder / "vnc"), os.fspath(folder / "qmp")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            # Connections wait in it until QEMU is there.
            listener.bind(self._monitor)
            listener.listen(4)
            number = listener.fileno()
            words = [program, "-machine", "pc", "-accel", "tcg", "-m", "192", "-nic", "none", "-vga", "std"]
            words += ["-display", "none", "-vnc", f"unix:{self.vnc},power-control=on"]
            words += ["-chardev", f"socket,id=q,fd={number},server=on,wait=off", "-mon", "chardev=q,mode=control"]
            words += ["-trace", "enable=input_event_rel", "-trace", "enable=input_event_abs"]
            words += ["-trace", "enable=input_event_btn", "-trace", "enable=input_event_key_qcode"]
            self._process = subprocess.Popen(
                [*words, "-serial", "stdio", "-no-shutdown", *options],
                pass_fds=(number,),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        self.said = Lines(t.cast(t.TextIO, self._process.stderr))
        self.serial = Lines(t.cast(t.TextIO, self._process.stdout))
        self._qmp = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._qmp.settimeout(SECONDS)
        self._qmp.connect(self._monitor)
        self._answers = self._qmp.makefile("r", encoding="utf-8")
        self.events: list[Event] = []
        assert "QMP" in json.loads(self._answers.readline())
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: t.Any) -> t.Any:
        """The answer to a QMP command; events that come before it are kept."""
        self._qmp.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            message = json.loads(self._answers.readline())
            if "event" in message:
                self.events.append(message)
                continue
            assert "return" in message, message
            return message["return"]

    def wait(self, name: str) -> Event:
        """The first event of that name since the last forget()."""
        for event in self.events:
            if event["event"] == name:
                return event
        while True:
            message: Event = json.loads(self._answers.readline())
            self.events.append(message)
            if message.get("event") == name:
                return message

    def forget(self) -> None:
        """Forget the events so far."""
        self.ask("query-status")
        self.events.clear()

    def human(self, line: str) -> str:
        """A command of the human monitor."""
        return str(self.ask("human-monitor-command", **{"command-line": line}))

    def moved(self) -> tuple[int, int]:
        """How far the guest's relative pointer was moved in all."""
        return _sum(self.said.now())

    def wait_moved(self, x: int, y: int) -> None:
        self.said.wait(lambda lines: _sum(lines) == (x, y))

    def steps(self) -> list[int]:
        """Every single relative movement, of both axes."""
        return [int(found[2]) for found in map(_REL.search, self.said.now()) if found]

    def wait_place(self, x: float, y: float, size: tuple[int, int]) -> None:
        """Until the guest's absolute pointer is there."""
        self.said.wait(lambda lines: _is_near(lines, (x, y), size))

    def is_at(self, x: float, y: float, size: tuple[int, int]) -> bool:
        """Whether the guest's absolute pointer is there now."""
        return _is_near(self.said.now(), (x, y), size)

    def wait_guest(self) -> None:
        """Until the lab's guest has booted."""
        self.serial.wait(lambda lines: any("LAB GUEST READY" in line for line in lines))

    def wait_tablet(self) -> None:
        """Until a driver of the guest has taken the tablet, which may be after the guest says that it is ready."""
        end = time.monotonic() + SECONDS
        while not any(mouse["current"] and mouse["absolute"] for mouse in self.ask("query-mice")):
            assert time.monotonic() < end, "no driver takes the tablet"
            time.sleep(0.05)

    def wait_said(self, *words: str) -> None:
        """Until one line of the trace has all these words."""
        self.said.wait(lambda lines: any(all(word in line for word in words) for line in lines))

    def screen(self, path: Path) -> Image.Image:
        """What the machine shows, as QEMU draws it."""
        self.ask("screendump", filename=os.fspath(path))
        return Image.open(path).convert("RGB")

    def end(self) -> None:
        self._process.kill()
        self._process.wait(SECONDS)
        self.said.end()
        self.serial.end()
        self._answers.close()
        self._qmp.close()


_REL = re.compile(r"input_event_rel .*axis (\w), value (-?\d+)")
_ABS = re.compile(r"input_event_abs .*axis (\w), value (0x[0-9a-f]+|\d+)")


def _sum(lines: t.Iterable[str]) -> tuple[int, int]:
    sums = {"x": 0, "y": 0}
    for found in map(_REL.search, lines):
        if found:
            sums[found[1]] += int(found[2])
    return sums["x"], sums["y"]


def _is_near(lines: t.Iterable[str], place: tuple[float, float], size: tuple[int, int]) -> bool:
    """Give or take what rounding takes: QEMU's coordinates go from 0 to 0x7FFF."""
    last = {found[1]: int(found[2], 0) for found in map(_ABS.search, lines) if found}
    return len(last) == 2 and all(
        abs(last[axis] - value * 0x7FFF / (length - 1)) < 1.5 * 0x7FFF / length
        for axis, value, length in zip("xy", place, size)
    )


class Websockify:
    """Serves a folder over HTTP, and leads WebSockets to a unix socket, all with its own web server."""

    def __init__(self, folder: Path, target: str) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = int(free.getsockname()[1])
        words = [sys.executable, "-m", "websockify", "--web", os.fspath(folder), "--unix-target", target]
        self._process = subprocess.Popen(
            [*words, f"127.0.0.1:{self.port}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        end = time.monotonic() + SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert self._process.poll() is None, "websockify ended"
            assert time.monotonic() < end, "websockify does not listen"
            time.sleep(0.05)

    def end(self) -> None:
        # It has a child for each connection.
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(SECONDS)
