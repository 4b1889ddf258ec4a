# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy import _notify


@pytest.fixture(name="manager")
def _manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "notify"))
        sock.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield sock


def test_what_systemd_hears(manager: socket.socket) -> None:
    assert _notify.ready("MAINPID=7", "STATUS=Serving.")
    assert manager.recv(4096) == b"READY=1\nMAINPID=7\nSTATUS=Serving."
    assert _notify.reloading()
    word, moment = manager.recv(4096).split(b"\n")
    assert word == b"RELOADING=1"
    assert moment.startswith(b"MONOTONIC_USEC=")
    assert int(moment.partition(b"=")[2]) > 0
    assert _notify.stopping("Waiting.")
    assert manager.recv(4096) == b"STOPPING=1\nSTATUS=Waiting."
    assert _notify.alive()
    assert manager.recv(4096) == b"WATCHDOG=1"


def test_a_manager_in_the_abstract_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"kvmops-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name)
        sock.settimeout(60)
        monkeypatch.setenv("NOTIFY_SOCKET", "@" + name)
        assert _notify.ready()
        assert sock.recv(4096) == b"READY=1"


@pytest.mark.parametrize("place", [None, "", "relative", "/nowhere/notify"])
def test_nobody_to_tell_is_no_error(monkeypatch: pytest.MonkeyPatch, place: str | None) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if place is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", place)
    assert not _notify.ready()


def test_a_manager_that_does_not_listen_holds_nobody_up(manager: socket.socket) -> None:
    told = [_notify.alive() for _turn in range(5000)]
    assert told[0]
    assert not all(told)
    assert manager.recv(100) == b"WATCHDOG=1"


@pytest.mark.parametrize(
    ("wanted", "process", "seconds"),
    [(None, None, None), ("nonsense", None, None), ("30000000", None, 15.0), ("30000000", "1", None)],
    ids=["none", "nonsense", "half", "another"],
)
def test_the_watchdog(
    monkeypatch: pytest.MonkeyPatch, wanted: str | None, process: str | None, seconds: float | None
) -> None:
    for name, value in (("WATCHDOG_USEC", wanted), ("WATCHDOG_PID", process)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert _notify.watchdog_seconds() == seconds
