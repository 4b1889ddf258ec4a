# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kernel tells which socket a connection has come in at."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy import _listening
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._listening import listener_of

V4, V6 = socket.AF_INET, socket.AF_INET6


@pytest.fixture(params=["127.0.0.1", "0.0.0.0", "::1", "::"])
def listener(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    address: str = request.param
    sock = socket.create_server((address, 0), family=V6 if ":" in address else V4, dualstack_ipv6=address == "::")
    with sock:
        yield sock


def _connect(listener: socket.socket, address: str) -> socket.socket:
    return socket.create_connection((address, listener.getsockname()[1]))


def _addresses(listener: socket.socket) -> list[str]:
    return {"127.0.0.1": ["127.0.0.1"], "0.0.0.0": ["127.0.0.1", "127.0.0.2"], "::1": ["::1"]}.get(
        listener.getsockname()[0], ["127.0.0.1", "::1"]
    )


def test_the_same_as_long_as_it_listens(listener: socket.socket) -> None:
    for address in _addresses(listener):
        with _connect(listener, address) as first, _connect(listener, address) as second:
            found = listener_of(first)
            assert found is not None
            with listener.accept()[0], listener.accept()[0]:
                assert listener_of(first) == listener_of(second) == found


def test_another_one_at_the_same_place() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, _connect(listener, "127.0.0.1") as connection:
        place = listener.getsockname()
        before = listener_of(connection)
        with listener.accept()[0]:
            listener.close()
            assert listener_of(connection) is None, "nobody listens any more"
            with socket.create_server(place) as other, _connect(other, "127.0.0.1") as later:
                after = listener_of(later)
                assert after is not None
                assert before is not None
                assert after.where == before.where
                assert after.cookie != before.cookie


def test_connection_whose_other_end_is_not_at_that_address() -> None:
    """As with a peer on another host, or behind a rule that leads elsewhere: somebody listens here, too."""
    with socket.create_server(("127.0.0.1", 0)) as listener, _connect(listener, "127.0.0.1") as connection:
        accepted = listener.accept()[0]
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer: tuple[str, int] = connection.getpeername()
        own: tuple[str, int] = connection.getsockname()
        accepted.close()

        class Elsewhere:
            family = V4

            def getpeername(self) -> tuple[str, int]:
                return peer

            def getsockname(self) -> tuple[str, int]:
                return own

        assert listener_of(Elsewhere()) is None  # type: ignore[arg-type]


def test_kernel_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_listening, "_SOCK_DIAG_BY_FAMILY", 250)
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        _connect(listener, "127.0.0.1") as connection,
        pytest.raises(OSError, match="does not tell who listens"),
    ):
        listener_of(connection)
