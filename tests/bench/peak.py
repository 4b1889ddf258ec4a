# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The most memory that a command and its child processes had at a time: what they share is counted once.

peak.py COMMAND...    prints MiB; the command's output is dropped
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from pathlib import Path

PAUSE = 0.005
"""Seconds between two looks."""


def resident(pid: int) -> int:
    """KiB of a process and its children, with its share of what several processes have."""
    process = Path("/proc", str(pid))
    with contextlib.suppress(OSError):  # it may end while it is looked at
        found = re.search(r"^Pss:\s+(\d+)", (process / "smaps_rollup").read_text(), re.MULTILINE)
        children = (process / "task" / str(pid) / "children").read_text().split()
        return (int(found[1]) if found else 0) + sum(resident(int(child)) for child in children)
    return 0


def main() -> None:
    """Run the command and look."""
    most = 0
    with subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            most = max(most, resident(process.pid))
            time.sleep(PAUSE)
    print(most / 1024)


if __name__ == "__main__":
    main()
