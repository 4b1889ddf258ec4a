# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the host's qemu.conf adds to every VNC server that libvirt starts: TLS, SASL, a default password and address.

Private to this collection.
"""

from __future__ import annotations

import os
import re
import typing as t
from urllib.parse import urlsplit


class VncDefaults(t.NamedTuple):
    """`password` says whether there is one; its value is not kept. `seen`: whether all this is known."""

    tls: bool = False
    sasl: bool = False
    password: bool = False
    listen: str | None = None
    seen: bool = True


_LINE = re.compile(r'^\s*(vnc_\w+)\s*=\s*(?:"([^"]*)"|(\d+))', re.MULTILINE)


def parse(text: str) -> VncDefaults:
    """From the text of a qemu.conf."""
    found = {key: word or number for key, word, number in _LINE.findall(text)}
    return VncDefaults(
        tls=found.get("vnc_tls", "0") not in ("0", ""),
        sasl=found.get("vnc_sasl", "0") not in ("0", ""),
        password=bool(found.get("vnc_password")),
        listen=found.get("vnc_listen") or None,
    )


def read(uri: str) -> VncDefaults:
    """For the libvirt of `uri`; libvirt's own defaults where there is no such file, or it may not be read."""
    if urlsplit(uri).hostname:
        return VncDefaults(seen=False)
    session = urlsplit(uri).path == "/session"
    config = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    path = os.path.join(config, "libvirt/qemu.conf") if session else "/etc/libvirt/qemu.conf"
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return parse(stream.read())
    except OSError as e:
        return VncDefaults(seen=isinstance(e, (FileNotFoundError, NotADirectoryError)))
