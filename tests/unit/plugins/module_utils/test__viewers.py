# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who is connected, told from the kernel's own tables: this process plays QEMU."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import typing as t
from contextlib import ExitStack
from pathlib import Path

import pytest

etree = pytest.importorskip("lxml.etree", reason="lxml is not installed for this Python")

from ansible_collections.kvmops.console.plugins.module_utils import _viewers
from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError
from ansible_collections.kvmops.console.plugins.module_utils._viewers import Doors

NOWHERE = Doors(frozenset(), frozenset())


@pytest.fixture
def stack() -> t.Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def here(doors: Doors) -> list[_viewers.Viewer]:
    return _viewers.connected(os.getpid(), doors)


def listening(stack: ExitStack, family: int, address: t.Any) -> socket.socket:
    server = stack.enter_context(socket.socket(family))
    server.bind(address)
    server.listen()
    return server


@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")], ids=["IPv4", "IPv6"]
)
def test_viewer_over_tcp(stack: ExitStack, family: int, address: str) -> None:
    try:
        server = listening(stack, family, (address, 0))
    except OSError:
        pytest.skip("this machine has no IPv6")
    port = server.getsockname()[1]
    doors = Doors(frozenset({port}), frozenset())
    assert here(doors) == []
    viewer = stack.enter_context(socket.create_connection((address, port)))
    accepted, _peer = server.accept()
    stack.enter_context(accepted)
    assert here(doors) == [{"via": "tcp", "address": address, "port": viewer.getsockname()[1]}]
    assert here(Doors(frozenset({port + 1}), frozenset())) == []
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as other:
        assert _viewers.connected(other.pid, doors) == [], "another process has nothing to do with it"
    accepted.close()
    assert here(doors) == []


def test_viewer_through_a_socket(stack: ExitStack, tmp_path: Path) -> None:
    path = str(tmp_path / "vnc")
    server = listening(stack, socket.AF_UNIX, path)
    doors = Doors(frozenset(), frozenset({path}))
    assert here(doors) == []
    viewer = stack.enter_context(socket.socket(socket.AF_UNIX))
    viewer.connect(path)
    accepted, _peer = server.accept()
    stack.enter_context(accepted)
    assert here(doors) == [{"via": "socket", "path": path}]


def test_end_of_a_pair_is_a_viewer_and_a_client_is_none(stack: ExitStack, tmp_path: Path) -> None:
    before = len(here(NOWHERE))
    server = listening(stack, socket.AF_UNIX, str(tmp_path / "tpm"))
    client = stack.enter_context(socket.socket(socket.AF_UNIX))
    client.connect(str(tmp_path / "tpm"))
    accepted, _peer = server.accept()
    stack.enter_context(accepted)
    assert len(here(NOWHERE)) == before
    one, other = socket.socketpair()
    stack.enter_context(one)
    with other:
        assert len(here(NOWHERE)) == before, "this process has both ends"
        viewer = stack.enter_context(subprocess.Popen(["cat"], stdin=other.fileno(), stdout=subprocess.DEVNULL))
    stack.callback(one.close)  # which ends it
    assert len(here(NOWHERE)) == before + 1
    assert here(NOWHERE)[-1] == {"via": "descriptor"}
    one.close()
    viewer.wait(60)
    assert len(here(NOWHERE)) == before


def test_process_that_cannot_be_seen(tmp_path: Path) -> None:
    process = tmp_path / "7"
    process.mkdir()
    (process / "stat").write_text("7 (qemu (1)) S 1 7 7")
    with pytest.raises(ConsoleError, match="as root"):
        _viewers.connected(7, NOWHERE, tmp_path)


def test_nobody_looks_at_a_process_that_has_ended() -> None:
    assert _viewers.connected(2**22 + 1, NOWHERE) == []
    ended = subprocess.Popen(["true"])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    try:
        assert _viewers.connected(ended.pid, NOWHERE) == []
    finally:
        ended.wait()


def test_doors() -> None:
    graphics = etree.fromstring(
        "<devices>"
        "<graphics type='vnc' port='5900' autoport='yes' websocket='5700'><listen type='address'/></graphics>"
        "<graphics type='vnc'><listen type='socket' socket='/run/vnc'/></graphics>"
        "<graphics type='vnc' socket='/run/old'/>"
        "<graphics type='spice' port='-1' tlsPort='5901'/>"
        "<graphics type='spice' port='5902' tlsPort='0'/>"
        "</devices>"
    )
    expected = Doors(frozenset({5900, 5700, 5901, 5902}), frozenset({"/run/vnc", "/run/old"}))
    assert _viewers.doors(graphics.iterfind("graphics")) == expected


@pytest.mark.parametrize(
    ("words", "address"),
    [("0100007F", "127.0.0.1"), ("0000000000000000FFFF00000100007F", "127.0.0.1"), ("0" * 24 + "01000000", "::1")],
    ids=["IPv4", "mapped", "IPv6"],
)
def test_addresses(words: str, address: str) -> None:
    if sys.byteorder == "big":
        pytest.skip("these are a little-endian machine's words")
    assert _viewers._address(words) == address


@pytest.mark.parametrize(
    ("viewer", "said"),
    [
        ({"via": "tcp", "address": "10.0.0.1", "port": 7}, "from 10.0.0.1 port 7"),
        ({"via": "socket", "path": "/run/vnc"}, "through /run/vnc"),
        ({"via": "descriptor"}, "through a connection that libvirt handed out"),
    ],
    ids=["tcp", "socket", "descriptor"],
)
def test_spoken(viewer: _viewers.Viewer, said: str) -> None:
    assert _viewers.spoken(viewer) == said
