# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is told about one session."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Optional

import pytest

from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._audit import AuditLog
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._handshake import Handshake
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._metrics import Metrics, Traffic
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._record import Record
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._treatment import Policy

TARGET: Any = SimpleNamespace(key=("tcp", "192.0.2.9", 5900), kind="tcp", name="192.0.2.9:5900", subject=None)


def handshake(*said: tuple[bytes, bytes]) -> Handshake:
    """As far as server and client come with this."""
    made = Handshake(Policy())
    for server, client in said:
        made.from_server(server)
        made.from_client(client)
    return made


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (((b"RFB 005.000\n", b"RFB 004.001\n"),), "RFB 4.1 is relayed as it is"),
        (
            ((b"RFB 003.008\n", b"RFB 003.008\n"), (b"\1\x13", b"\x13")),
            "the security type 19 (VeNCrypt) is relayed as it is",
        ),
        (((b"RFB 003.008\n", b"RFB 003.008\n"), (b"\1\x4d", b"\x4d")), "the security type 77 is relayed as it is"),
        (((b"RFB 003.008\n", b"RFB 003.008\n"), (b"\1\1", b"\1")), None),
    ],
    ids=["version", "encrypted", "unknown", "clear"],
)
def test_opaque_session_says_why(tmp_path: Path, said: tuple[tuple[bytes, bytes], ...], reason: Optional[str]) -> None:
    metrics = Metrics(lambda: (0, Traffic(0, 0)))
    audit = AuditLog(str(tmp_path / "audit"))
    record = Record(audit, metrics, target=TARGET, source="192.0.2.1", user=None, listener="web")
    record.handshake_done(handshake(*said))
    audit.close()
    lines = [json.loads(line) for line in (tmp_path / "audit").read_text(encoding="utf-8").splitlines()]
    assert [line["reason"] for line in lines] == ([reason] if reason else [])
    assert metrics.opaque == len(lines)
