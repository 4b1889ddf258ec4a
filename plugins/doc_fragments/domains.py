# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of every domain module: which libvirt, which domains, and how QEMUs are judged."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  uri:
    description:
      - The libvirt to talk to, on the managed host.
    type: str
    default: qemu:///system
  domains:
    description:
      - The domains that are meant, as names, globs (V(web-*)) or UUIDs.
      - An empty list means all of them.
      - A pattern that means no domain is told as a warning and in RV(unmatched), so that hosts can share one list.
    type: list
    elements: str
    default: []
  exclude:
    description:
      - The domains that are not meant, in the same forms as O(domains).
    type: list
    elements: str
    default: []
requirements:
  - Python >= 3.9
  - libvirt bindings for Python (Debian, Ubuntu, RHEL, Fedora C(python3-libvirt); SUSE C(python3-libvirt-python))
  - lxml (C(python3-lxml))
notes:
  - Where the Python that Ansible chose has no libvirt bindings, the module starts itself again under the system's
    Python.
    Setting C(ansible_python_interpreter=/usr/bin/python3) saves that time.
"""

    PROBE = r"""
options:
  probe:
    description:
      - Whether QEMU binaries may be started for a moment (C(-machine none), no guest, a private unix socket, an
        unprivileged
        user where possible) to see how their VNC server behaves.
      - Otherwise only the package and the version are judged, which is weaker. Vendors carry the fix without changing
        the
        version, and the other way round.
    type: bool
    default: true
  probe_wrappers:
    description:
      - Whether to start the emulator of a domain even when it is a script and not a binary.
    type: bool
    default: false
  cache_dir:
    description:
      - Where verdicts are kept, by path, device, inode, size and time of change of the binary.
      - For root C(/var/lib/kvmops-console/probes) when not set, for other users a folder in their own cache.
    type: path
"""
