# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is said to a guest agent, byte for byte, and what it may say; a real one is in tests/integration/qmp."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _guest_agent
from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError

BRIEFLY = 0.2


class Agent:
    """One behind a socket. `before` is what stands there still, `alive` whether it answers, `objection` its refusal."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.before = b""
        self.alive = True
        self.objection: Optional[str] = None
        self.hangs_up = False
        self.heard: list[dict[str, Any]] = []
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(path)
        self._server.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        line, _address = self._server.accept()
        with line, line.makefile("rb") as lines:
            if self.hangs_up:
                return
            line.sendall(self.before)
            for words in lines:
                self.heard.append(json.loads(words.lstrip(b"\xff")))
                if not self.alive:
                    continue
                if self.heard[-1]["execute"] == "guest-sync-delimited":
                    assert words.startswith(b"\xff")
                    number = self.heard[-1]["arguments"]["id"]
                    line.sendall(b"\xff" + json.dumps({"return": number}).encode() + b"\n")
                elif self.objection is not None:
                    line.sendall(json.dumps({"error": {"class": "GenericError", "desc": self.objection}}).encode())

    def close(self) -> None:
        if self._thread.is_alive() and not self.heard:
            with socket.socket(socket.AF_UNIX) as line:
                line.connect(self.path)
        self._thread.join(60)
        self._server.close()


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    monkeypatch.setattr(_guest_agent, "_OBJECTION", BRIEFLY)
    agent = Agent(str(tmp_path / "qga"))
    yield agent
    agent.close()


@pytest.mark.parametrize("mode", [_guest_agent.POWERDOWN, _guest_agent.REBOOT])
def test_agent_that_obeys_says_nothing(agent: Agent, mode: str) -> None:
    _guest_agent.shut_down(agent.path, mode)
    sync, asked = agent.heard
    assert sync["execute"] == "guest-sync-delimited"
    assert asked == {"execute": "guest-shutdown", "arguments": {"mode": mode}}


def test_what_others_left_is_not_taken_for_an_answer(agent: Agent) -> None:
    agent.before = b'{"return": 1}\n\xff{"return": 2}\n\xff{"ret\xff[3]\n'
    _guest_agent.shut_down(agent.path, _guest_agent.POWERDOWN)
    assert len(agent.heard) == 2


def test_agent_that_is_dead_is_asked_for_nothing(agent: Agent) -> None:
    agent.alive = False
    with pytest.raises(ConsoleError, match=r"did not answer within 0\.2 s"):
        _guest_agent.shut_down(agent.path, _guest_agent.POWERDOWN, BRIEFLY)
    assert [one["execute"] for one in agent.heard] == ["guest-sync-delimited"]


def test_agent_that_refuses(agent: Agent) -> None:
    agent.objection = "Command guest-shutdown has been disabled"
    with pytest.raises(ConsoleError, match="refused: Command guest-shutdown has been disabled"):
        _guest_agent.shut_down(agent.path, _guest_agent.POWERDOWN)


def test_qemu_that_ends(agent: Agent) -> None:
    agent.hangs_up = True
    with pytest.raises(ConsoleError, match="cannot be used"):
        _guest_agent.shut_down(agent.path, _guest_agent.POWERDOWN)


def test_socket_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConsoleError, match="cannot be used: No such file"):
        _guest_agent.shut_down(str(tmp_path / "none"), _guest_agent.POWERDOWN)
