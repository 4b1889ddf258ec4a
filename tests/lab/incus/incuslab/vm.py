# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A virtual machine of the lab's incusd: what it shows, and what can be done with it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ...kvmlab.machine import LabError

if TYPE_CHECKING:
    from .daemon import Incus

SECTOR = 512
LOADED_AT = 0x7C00
BOOT_SECONDS = 60.0
PAUSE = 0.02


def boot_sector(text: str) -> bytes:
    """A PC boot sector that shows `text` without a cursor, so that two pictures of it are the same, and halts.

    SeaBIOS sends what the teletype call prints to the serial port, too.
    """
    code = bytes.fromhex(
        "31c0 8ed8 fc"  # xor ax, ax; mov ds, ax; cld
        "b80300 cd10"  # mov ax, 0003h; int 10h: 80x25, cleared
        "b401 b90020 cd10"  # mov ah, 1; mov cx, 2000h; int 10h: no cursor
        "be 0000"  # mov si, message
        "ac 84c0 7409"  # next: lodsb; test al, al; jz done
        "b40e bb0700 cd10"  # mov ah, 0Eh; mov bx, 7; int 10h: teletype
        "ebf2"  # jmp next
        "fb f4 ebfd"  # done: sti; hlt; jmp $-1
    )
    message = LOADED_AT + len(code)
    code = code.replace(bytes.fromhex("be0000"), b"\xbe" + message.to_bytes(2, "little"))
    sector = code + text.encode("cp437") + b"\0"
    if len(sector) > SECTOR - 2:
        raise LabError(f"the text has {len(text)} characters, more than a boot sector holds.")
    return sector.ljust(SECTOR - 2, b"\0") + b"\x55\xaa"


class Vm:
    """A virtual machine."""

    def __init__(self, incus: Incus, name: str, project: str) -> None:
        self.incus = incus
        self.name = name
        self.project = project
        self._path = f"/1.0/instances/{quote(name)}"
        self._query = f"?project={quote(project)}"

    @property
    def folder(self) -> Path:
        """Its folder in the storage pool, as the machine sees it."""
        name = self.name if self.project == "default" else f"{self.project}_{self.name}"
        return self.incus.folder / "storage-pools/default/virtual-machines" / name

    def state(self) -> str:
        """Running, Stopped, Frozen, Error."""
        status: str = self.incus.get(f"{self._path}/state{self._query}")["status"]
        return status

    def start(self) -> None:
        """Start it, or start it again."""
        self._act("start")

    def stop(self) -> None:
        """Pull the plug."""
        self._act("stop", force=True)

    def freeze(self) -> None:
        """Stop its processors."""
        self._act("freeze")

    def unfreeze(self) -> None:
        """Let them go on."""
        self._act("unfreeze")

    def wait_for_text(self, text: str) -> None:
        """Return when it has printed `text`."""
        until = time.monotonic() + BOOT_SECONDS
        wanted = text.encode("cp437")
        seen = b""
        while time.monotonic() < until:
            _answer, seen = self.incus.raw("GET", f"{self._path}/console{self._query}")
            if wanted in seen:
                return
            time.sleep(PAUSE)
        raise LabError(f"{self.name} did not print {text!r} within {BOOT_SECONDS:g} seconds, but {seen[-200:]!r}.")

    def _act(self, action: str, *, force: bool = False) -> None:
        order = {"action": action, "timeout": 30, "force": force}
        self.incus.do("PUT", f"{self._path}/state{self._query}", order)
