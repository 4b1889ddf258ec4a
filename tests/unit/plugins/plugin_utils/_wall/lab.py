# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A made-up fleet's screens, as the modules would return them and the fetch would leave them, for tests of the wall."""

from __future__ import annotations

import hashlib
import io
import typing as t
from pathlib import Path

from PIL import Image, ImageDraw

from ansible_collections.kvmops.console.plugins.module_utils._picture_names import file_stem, safe_name
from ansible_collections.kvmops.console.plugins.plugin_utils._wall import model, site
from ansible_collections.kvmops.console.plugins.plugin_utils._wall.pictures import Rules

Json = dict[str, t.Any]

NOW = "2026-11-20T12:00:00Z"

LOGIN = "Debian GNU/Linux 12 web-1 tty1\n\nweb-1 login: "
PANIC = (
    "[    1.482] VFS: Unable to mount root fs on unknown-block(0,0)\n"
    "[    1.484] CPU: 0 PID: 1 Comm: swapper/0 Not tainted 6.1.0-18-amd64\n"
    "[    1.490] ---[ end Kernel panic - not syncing: VFS: Unable to mount root fs ]---"
)
MENU = "GNU GRUB  version 2.06\n\n *Debian GNU/Linux\n  Advanced options for Debian GNU/Linux"


def png(text: str = "", size: tuple[int, int] = (720, 400), colour: str = "black") -> bytes:
    """A picture of a screen that says something."""
    image = Image.new("RGB", (size[0] // 2, size[1] // 2), colour)
    ImageDraw.Draw(image).multiline_text((3, 3), text, fill="#bbbbbb")
    out = io.BytesIO()
    image.resize(size).save(out, "PNG")
    return out.getvalue()


class Lab:
    """A wall's folder, and a fleet whose pictures are put into it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def screen(
        self,
        host: str,
        name: str,
        kind: str = "text",
        text: str | None = None,
        *,
        head: int = 0,
        at: str = "2026-11-20T11:59:58.250000Z",
        data: bytes | None = None,
        source: str = "",
        **more: t.Any,
    ) -> Json:
        """A screen's record, with its picture where `fetch_to` would have put it."""
        data = data if data is not None else png(text or "", colour="#102030" if kind == "graphics" else "black")
        path = self.folder / "pictures" / safe_name(host) / f"{file_stem(name, head, source)}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return {
            "head": head,
            "path": f"/var/lib/kvmops-console/screens/{name}/latest.png",
            "fetched_to": str(path),
            "sha256": hashlib.sha256(data).hexdigest(),
            "width": 720,
            "height": 400,
            "captured_at": at,
            "capture": "vnc",
            "screen": {"kind": kind, "reason": f"it looks like {kind}"},
            "text": text,
            "unchanged_for": 61.2,
            **more,
        }

    def domain(self, host: str, name: str, kind: str = "text", text: str | None = None, **more: t.Any) -> Json:
        """A running domain's record with one screen."""
        return {
            "name": name,
            "uuid": None,
            "state": "running",
            "screens": [self.screen(host, name, kind, text, **more)],
        }

    def fleet(self) -> list[tuple[str, t.Any]]:
        """Four hosts: one with everything, one with little, one that failed, one out of reach."""
        one = "hv-01.example.org"
        domains = [
            self.domain(one, "web-1", "login", LOGIN),
            self.domain(one, "web-2", "panic", PANIC),
            self.domain(one, "web-10", "boot_menu", MENU),
            self.domain(one, "desk-1", "graphics"),
            self.domain(one, "quiet", "blank", data=png()),
            {"name": "db-1", "state": "shutoff", "skipped": "it is off", "screens": []},
            {"name": "safe", "state": "running", "skipped": "its owner lets nobody see its screen", "screens": []},
            {"name": "hung", "state": "running", "error": "hung: no answer within 30 s.", "screens": []},
        ]
        two = "hv-02.example.org"
        domains[3]["screens"].append(self.screen(one, "desk-1", "text", "second screen", head=1))
        failed = {"failed": True, "msg": "1 of 8 domains failed.", "domains": domains}
        return [
            (one, failed),
            (two, {"domains": [self.domain(two, "app-1", "login", LOGIN)], "changed": False}),
            ("hv-03.example.org", {"unreachable": True, "msg": "ssh: connect to host hv-03 port 22: No route to host"}),
            ("hv-04.example.org", {"failed": True, "msg": "libvirt is missing: install python3-libvirt."}),
        ]

    def wall(self, results: list[tuple[str, t.Any]], at: str = NOW) -> Json:
        """The wall of these results on top of what the folder has."""
        return model.build(results, site.known(str(self.folder)), title="Screens", generated_at=at)

    def write(
        self, results: list[tuple[str, t.Any]], at: str = NOW, rules: Rules | None = None, refresh: int = 0
    ) -> site.Site:
        """One run."""
        planned = site.plan(self.wall(results, at), str(self.folder), rules or Rules(), refresh=refresh)
        site.apply(str(self.folder), planned)
        return planned
