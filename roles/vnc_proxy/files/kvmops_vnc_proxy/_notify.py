# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What systemd is told: that the proxy is ready, reloads, stops, and lives (sd_notify(3), without a library).

Private to this collection.
"""

from __future__ import annotations

import os
import socket
import time

VARIABLE = "NOTIFY_SOCKET"
_WATCHDOG = "WATCHDOG_USEC"


def notify(*assignments: str) -> bool:
    """Send `READY=1` and the like as one datagram. Return whether somebody could be told; nobody listening is no error.

    Never blocks: a manager that is busy misses a message, and the proxy goes on.
    """
    path = os.environ.get(VARIABLE)
    if not path or path[0] not in "/@":
        return False
    if path[0] == "@":  # the abstract namespace, unix(7)
        path = "\0" + path[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.setblocking(False)
        try:
            sock.sendto("\n".join(assignments).encode(), path)
        except OSError:
            return False
    return True


def ready(*more: str) -> bool:
    """Say that the proxy takes connections; `more` goes into the same message."""
    return notify("READY=1", *more)


def reloading() -> bool:
    """Say that a reload has begun; `ready` ends it. The time is what Type=notify-reload waits for."""
    return notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")


def stopping(status: str) -> bool:
    """Say that the proxy takes no more connections."""
    return notify("STOPPING=1", f"STATUS={status}")


def alive() -> bool:
    """Feed the watchdog."""
    return notify("WATCHDOG=1")


def watchdog_seconds() -> float | None:
    """Return how often `alive` is due: twice as often as systemd wants it; None when it does not."""
    wanted = os.environ.get(_WATCHDOG, "")
    if not wanted.isdecimal() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(wanted) / 2_000_000
