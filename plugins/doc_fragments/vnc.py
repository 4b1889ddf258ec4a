# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of every module that talks to a VNC server: where it is, how to be let in, and for how long."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  address:
    description:
      - The server's TCP address, as VNC viewers take it. V(host) is display 0, which is port 5900.
        V(host:N) is display N up to 99, and port N above. V(host::N) is port N always.
      - An IPv6 address stands in brackets, as in V([2001:db8::1]::5901).
      - Exactly one of O(address), O(socket) and O(url) is needed.
    type: str
  port:
    description:
      - The server's TCP port. O(address) is then the host alone.
    type: int
  socket:
    description:
      - The path of the server's unix socket, on the host that the task runs on.
    type: path
  url:
    description:
      - The V(ws://) or V(wss://) URL of a WebSocket that leads to the server, such as websockify's, or QEMU's own.
      - A token in its query is kept out of messages and results.
    type: str
  validate_certs:
    description:
      - Whether the certificate of a V(wss://) URL has to be valid.
    type: bool
    default: true
  ca_path:
    description:
      - A file of PEM certificates to trust for a V(wss://) URL instead of the system's.
    type: path
  password:
    description:
      - The password of VNC authentication, which knows its first eight bytes only. It is used when the server does not
        let viewers in without. A wrong password fails the task.
    type: str
  timeout:
    description:
      - How many seconds the whole conversation may take.
    type: float
    default: 10.0
requirements:
  - cryptography (Python library), when O(password) is used
  - websocket-client (Python library), when O(url) is used
"""
