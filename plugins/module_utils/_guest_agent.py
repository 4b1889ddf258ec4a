# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Asks a QEMU guest agent to shut its guest down, over the unix socket of its chardev: for a QEMU without libvirt.

Private to this collection.

The socket is QEMU's: it takes whatever is written, whether or not an agent reads it in the guest. So the agent is asked
for a sign of life first, which also ends what earlier callers left half-read (guest-sync-delimited in QEMU's
qga/qapi-schema.json).
"""

from __future__ import annotations

import json
import random
import socket
import time
import typing as t

from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError

POWERDOWN = "powerdown"
REBOOT = "reboot"

ANSWER = 5.0
"""Seconds that an agent has for its sign of life."""

_OBJECTION = 0.5
"""Seconds that it has to refuse: when it obeys, it says nothing (guest-shutdown)."""

_MARK = b"\xff"
_MOST = 1 << 16


def shut_down(path: str, mode: str, answer: float = ANSWER) -> None:
    """Have the guest go off (POWERDOWN) or begin anew (REBOOT). Raises ConsoleError where its agent does not do it."""
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(answer)
            line.connect(path)
            _sync(line, time.monotonic() + answer)
            _send(line, "guest-shutdown", mode=mode)
            line.settimeout(_OBJECTION)
            _hear_objection(line)
    except socket.timeout:
        raise ConsoleError(f"the guest agent behind {path} did not answer within {answer:g} s") from None
    except OSError as e:
        raise ConsoleError(f"the guest agent's socket {path} cannot be used: {e.strerror or e}") from e


def _send(line: socket.socket, command: str, **arguments: object) -> None:
    line.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")


def _sync(line: socket.socket, deadline: float) -> None:
    """Wait for a sign of life."""
    number = random.randrange(1 << 31)
    line.sendall(_MARK)
    _send(line, "guest-sync-delimited", id=number)
    heard = b""
    while True:
        line.settimeout(max(0.001, deadline - time.monotonic()))
        heard += _receive(line)
        for said in heard.split(_MARK)[1:]:
            if b"\n" in said and _read(said).get("return") == number:
                return
        heard = heard[-_MOST:]


def _hear_objection(line: socket.socket) -> None:
    try:
        said = _read(_receive(line))
    except (socket.timeout, ConnectionError):
        return
    if "error" in said:
        raise ConsoleError(f"the guest agent refused: {said['error'].get('desc', 'it did not say why')}")


def _receive(line: socket.socket) -> bytes:
    data = line.recv(4096)
    if not data:
        raise ConnectionResetError("QEMU closed it")
    return data


def _read(said: bytes) -> dict[str, t.Any]:
    try:
        read = json.loads(said.partition(b"\n")[0])
    except ValueError:
        return {}
    return read if isinstance(read, dict) else {}
