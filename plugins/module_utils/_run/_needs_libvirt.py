# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a module that asks libvirt needs: its bindings, and lxml.

Private to this collection.
"""

from __future__ import annotations

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.console.plugins.module_utils import _domain_xml, _libvirt
from ansible_collections.kvmops.console.plugins.module_utils._run._task import need

PACKAGES = (
    "python3-libvirt and python3-lxml (Debian, Ubuntu, RHEL, Fedora; SUSE: python3-libvirt-python and python3-lxml)"
)


def need_libvirt(module: AnsibleModule) -> None:
    """Make sure of libvirt's bindings and lxml: here, else under the system's Python, else end with one sentence."""
    traces = {"libvirt": _libvirt.LIBVIRT_TRACEBACK, "lxml": _domain_xml.LXML_TRACEBACK}
    need(module, traces, "libvirt, lxml.etree", PACKAGES, _guests_of_others)


def _guests_of_others() -> str:
    """Of a host whose guests libvirt will not know of, once it is installed, either."""
    # Here, because it is hardly ever wanted.
    from ansible_collections.kvmops.console.plugins.module_utils import _managers

    return "".join(
        f" {one['name']} is on this host, and its guests run without this libvirt. {one['remedy']}"
        for one in _managers.not_seen(os.path.lexists)
    )
