# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the user of an audit had no right to see of a domain, so that nobody takes it for being fine.

Private to this collection.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.console.plugins.module_utils._verdict import UNKNOWN

PASSWORD = "password"
VNC_SETTINGS = "vnc_settings"
PROCESS = "process"
RUNNING_QEMU = "running_qemu"
SAVED_STATES = "saved_states"

SPOKEN = {
    PASSWORD: "whether a password is set",
    VNC_SETTINGS: "TLS, SASL, the default password and address of qemu.conf",
    PROCESS: "how the running QEMU was started, and whether it is the installed one",
    RUNNING_QEMU: "what the running QEMU does",
    SAVED_STATES: "managed saves, snapshots and checkpoints",
}
"""By id, in the order in which they are told. The ids are stable."""

Record = dict[str, t.Any]


def find(record: Record, *, process: bool, saved_states: bool) -> list[str]:
    """The blind spots of a domain's record. `process`, `saved_states`: whether these could be seen."""
    vnc = [graphics for graphics in record["graphics"] if graphics["type"] == "vnc"]
    running = record["qemu"]["running"]
    blind = {
        PASSWORD: any(graphics["password"] is None for graphics in record["graphics"]),
        VNC_SETTINGS: any(graphics["tls"] is None for graphics in vnc),
        PROCESS: not process,
        RUNNING_QEMU: not process and bool(vnc) and bool(running) and running["verdict"] == UNKNOWN,
        SAVED_STATES: not saved_states,
    }
    return [spot for spot in SPOKEN if blind[spot]]
