# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of every Incus module: which server, how to be let in, and which instances."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  socket_path:
    description:
      - The unix socket of the Incus on the managed host.
      - When neither this nor O(url) is set, where Incus's own client looks. That is E(INCUS_SOCKET), else
        C(unix.socket) in E(INCUS_DIR), in C(/run/incus) or in C(/var/lib/incus).
    type: path
  url:
    description:
      - The address of an Incus elsewhere, as V(https://HOST) or V(https://HOST:PORT). The port is 8443 when not set.
      - Proxies that the environment names are not used.
    type: str
  client_cert:
    description:
      - The file (PEM) of the client certificate, on the managed host. Needed with O(url).
      - Incus's own client keeps one in C(~/.config/incus/client.crt). A certificate that is restricted to the
        projects in question will do.
    type: path
  client_key:
    description:
      - The file (PEM) of its key, without a passphrase, such as C(~/.config/incus/client.key).
    type: path
  server_cert:
    description:
      - A file (PEM) with the server's own certificate, such as C(~/.config/incus/servercerts/NAME.crt). The server has
        to show this one, whatever name it is for.
    type: path
  fingerprint:
    description:
      - The whole SHA-256 of the server's own certificate, in hexadecimal digits, as C(incus info) tells it on the
        server. The server has to show the certificate with this one.
    type: str
  ca_path:
    description:
      - A file (PEM) of authorities to trust instead of the system's. The server's certificate has to be for the name in
        O(url) then.
      - Use only one of O(server_cert), O(fingerprint) and O(ca_path).
    type: path
  projects:
    description:
      - The projects that are meant, as names or globs. V(*) means all that this client may see.
      - A name of which there is no project, or none that this client may see, fails the task; a glob does not.
    type: list
    elements: str
    default:
      - default
  instances:
    description:
      - The instances that are meant, as names, globs (V(web-*)) or UUIDs (C(volatile.uuid)), in every one of
        O(projects).
      - An empty list means all of them.
      - A pattern that means none is told as a warning and in RV(unmatched), so that servers can share one list.
    type: list
    elements: str
    default: []
  exclude:
    description:
      - The instances that are not meant, in the same forms as O(instances).
    type: list
    elements: str
    default: []
requirements:
  - Python >= 3.9
  - requests (C(python3-requests))
notes:
  - Where the Python that Ansible chose lacks a library, the module starts itself again under the system's Python.
    Setting C(ansible_python_interpreter=/usr/bin/python3) saves that time.
  - The unix socket is open to root and to the group C(incus-admin).
"""
