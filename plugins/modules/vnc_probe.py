# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Documentation, arguments and the call; the work is in module_utils/_run/vnc_probe.py."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vnc_probe
short_description: Ask a VNC server how it treats noVNC and its power buttons
version_added: 1.0.0
description:
  - Connects to any VNC server (over TCP, a unix socket or a WebSocket) as one more shared viewer. Tells its security
    types, its desktop, whether it offers power control (XVP), and whether it sends the unrequested pointer change
    (encoding -257) that makes noVNC drop the connection.
  - An answer of the server ends the conversation, so that nothing depends on timing.
  - Changes nothing, and disconnects nobody. It counts as one more connection where the server limits them.
  - A server that wants a password when none is given, or that speaks other kinds of authentication only, is described
    as far as it can be seen, with the verdict V(unknown).
  - For the domains of a libvirt host, M(kvmops.console.domain_info) tells more, and needs no open port.
author:
  - The kvmops.console authors (@kvmops)
extends_documentation_fragment:
  - kvmops.console.attributes
  - kvmops.console.attributes.info
  - kvmops.console.vnc
attributes:
  platform:
    platforms: posix
    support: full
options:
  check_gate:
    description:
      - Also find out whether the server obeys power messages that were not negotiated (an affected QEMU does, even with
        power control off). This takes a second connection, on which it sends the power message I(reboot).
      - QEMU never obeys that message, so this is harmless there. Another server might; so it is sent only when the name
        of the desktop and the way it acknowledges extensions are QEMU's.
        Do not use this on servers whose desktop name anybody else may choose.
    type: bool
    default: false
seealso:
  - module: kvmops.console.domain_info
"""

EXAMPLES = r"""
- name: Find out whether a VNC server breaks noVNC
  kvmops.console.vnc_probe:
    address: "127.0.0.1::5901"
  register: console

- name: Stop where it does
  ansible.builtin.assert:
    that: console.verdict in ['fixed', 'incapable']
    fail_msg: "{{ console.evidence }}"

- name: Ask a server with a password, and try whether its power messages are gated
  kvmops.console.vnc_probe:
    address: kvm-1.example.com
    port: 5900
    password: "{{ vnc_password }}"
    check_gate: true

- name: Ask a QEMU without libvirt on its unix socket
  kvmops.console.vnc_probe:
    socket: /run/vm/web-1.vnc

- name: Ask through websockify, from the controller, as a browser would
  kvmops.console.vnc_probe:
    url: "wss://console.example.com/websockify?token={{ token }}"
    ca_path: /etc/ssl/certs/our-ca.pem
  delegate_to: localhost
"""

RETURN = r"""
target:
  description: What was asked, without any secret.
  returned: success
  type: str
  sample: 127.0.0.1::5901
verdict:
  description:
    - V(affected) sends the pointer change unasked, or obeys power messages that were not negotiated.
      V(fixed) was seen to do it right. V(incapable) is not QEMU, and offers no power control.
      V(unknown) could not be told, RV(evidence) says why.
  returned: success
  type: str
  sample: affected
basis:
  description: How the verdict was reached, always V(probe).
  returned: success
  type: str
  sample: probe
evidence:
  description: What was seen, in one line.
  returned: success
  type: str
  sample: the VNC server sends -257 unasked
rfb_version:
  description: The version of the protocol that the server announces.
  returned: success
  type: str
  sample: "3.8"
security_types:
  description: The security types that the server offers, in its order. C(name) is null where nobody has named a number.
  returned: success
  type: list
  elements: dict
  contains:
    number:
      description: The number of the security type.
      type: int
      sample: 2
    name:
      description: Its name.
      type: str
      sample: VNC authentication
security_type:
  description: The security type that was used, null when none could be.
  returned: success
  type: int
  sample: 2
authenticated:
  description: Whether the server let us in.
  returned: success
  type: bool
  sample: true
desktop:
  description: What the server shows, null when it did not let us in.
  returned: success
  type: dict
  contains:
    name:
      description: The name of the desktop.
      type: str
      sample: QEMU (web-1)
    width:
      description: Its width in pixels.
      type: int
      sample: 1024
    height:
      description: Its height in pixels.
      type: int
      sample: 768
power_control:
  description: Whether it offers power control (XVP), null when it did not let us in.
  returned: success
  type: bool
  sample: true
pointer_change_unasked:
  description: Whether it sends the pointer change (-257) to viewers that never listed it. Null when we were not let in.
  returned: success
  type: bool
  sample: true
power_messages_gated:
  description: Whether it turns away power messages that were not negotiated, null when that was not tried.
  returned: success
  type: bool
  sample: false
gate_reason:
  description: Why RV(power_messages_gated) is null.
  returned: success
  type: str
  sample: check_gate was not asked for
"""

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.console.plugins.module_utils._run._task import finish
from ansible_collections.kvmops.console.plugins.module_utils._run.vnc_probe import run, vnc_probe_options


def main() -> None:
    finish(AnsibleModule(**vnc_probe_options()), run)


if __name__ == "__main__":
    main()
