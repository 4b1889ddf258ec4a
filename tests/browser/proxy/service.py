# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The proxy as a service of its own, as the role starts it, with one target."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import typing as t
from pathlib import Path

from ansible_collections.kvmops.console.tests.browser.novnc.machine import SECONDS, Lines

Json = dict[str, t.Any]
PACKAGE = Path(__file__).resolve().parents[3] / "roles/vnc_proxy/files"
TARGET = "machine"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


class Proxy:
    """A proxy that serves browsers on `port` and viewers on `viewer_ports`, and tells what happens line by line.

    `others` are further targets, each with a port for viewers as the first has it.
    """

    def __init__(
        self,
        folder: Path,
        target: Json,
        *,
        novnc: Path | None = None,
        policy: Json | None = None,
        others: Json | None = None,
        tokens: Json | None = None,
    ) -> None:
        folder.mkdir()
        targets: Json = {TARGET: target, **(others or {})}
        self.port, self.viewer_ports = _free_port(), {name: _free_port() for name in targets}
        listeners: list[Json] = [{"name": "web", "kind": "web", "address": "127.0.0.1", "port": self.port}]
        for name, port in self.viewer_ports.items():
            listeners.append(
                {"name": f"vnc-{name}", "kind": "vnc", "address": "127.0.0.1", "port": port, "target": name}
            )
        configuration: Json = {"listeners": listeners, "users": {"by": ["none"]}, "targets": targets}
        if tokens:
            configuration["tokens"] = tokens
        if novnc:
            configuration["novnc"] = {"directory": os.fspath(novnc)}
        if policy:
            configuration["policy"] = policy
        (folder / "config.json").write_text(json.dumps(configuration), encoding="utf-8")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
            ready.bind(os.fspath(folder / "notify"))
            ready.settimeout(SECONDS)
            self._process = subprocess.Popen(
                [sys.executable, "-m", "kvmops_vnc_proxy", "serve", "--config", os.fspath(folder / "config.json")],
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join([os.fspath(PACKAGE), *(path for path in sys.path if path)]),
                    "NOTIFY_SOCKET": os.fspath(folder / "notify"),
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                text=True,
            )
            self.said = Lines(t.cast(t.TextIO, self._process.stdout))
            while b"READY=1" not in ready.recv(4096):
                pass

    @property
    def viewer_port(self) -> int:
        """Where viewers find the target."""
        return self.viewer_ports[TARGET]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def page(self, name: str) -> str:
        """The address of a page of noVNC's that opens the target."""
        return f"{self.url}/novnc/{name}?autoconnect=1&path=target/{TARGET}"

    def happened(self, event: str, **fields: t.Any) -> list[Json]:
        """The lines of the audit log about that event with these fields, so far."""
        return _about(self.said.now(), event, fields)

    def wait_more(self, event: str, number: int, **fields: t.Any) -> Json:
        """The first line about that event with these fields after the first `number` of them."""
        self.said.wait(lambda lines: len(_about(lines, event, fields)) > number)
        return _about(self.said.now(), event, fields)[number]

    def wait(self, event: str, **fields: t.Any) -> Json:
        """The first line about that event with these fields."""
        return self.wait_more(event, 0, **fields)

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_quiet(self) -> None:
        """Until every session that began has ended."""
        self.said.wait(lambda lines: len(_about(lines, "session_start")) == len(_about(lines, "session_end")))

    def end(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGKILL)
        self._process.wait(SECONDS)
        self.said.end()


def _about(lines: list[str], event: str, fields: Json | None = None) -> list[Json]:
    told = [json.loads(line) for line in lines if line.startswith("{")]
    return [one for one in told if one.get("event") == event and (fields or {}).items() <= one.items()]
