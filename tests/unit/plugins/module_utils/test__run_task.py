# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a module says where it cannot begin."""

from __future__ import annotations

import os
import typing as t

import pytest
from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.console.plugins.module_utils import _domain_xml, _libvirt
from ansible_collections.kvmops.console.plugins.module_utils._run import _needs_libvirt, _task


class Failed(Exception):
    """A module's end."""


class Module:
    """As much of a module as is needed to end it."""

    params: t.ClassVar[dict[str, str]] = {}

    def fail_json(self, msg: str, **more: t.Any) -> t.NoReturn:
        raise Failed(msg)


@pytest.mark.parametrize("there", [True, False], ids=["proxmox", "none"])
def test_who_has_no_libvirt_hears_of_guests_that_need_none(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    monkeypatch.setattr(_libvirt, "LIBVIRT_TRACEBACK", "No module named libvirt")
    monkeypatch.setattr(_domain_xml, "LXML_TRACEBACK", None)
    monkeypatch.setattr(_task, "has_respawned", lambda: True)
    monkeypatch.setattr(os.path, "lexists", lambda path: there and path == "/etc/pve/nodes")
    with pytest.raises(Failed, match="Install python3-libvirt") as failure:
        _needs_libvirt.need_libvirt(t.cast(AnsibleModule, Module()))
    assert ("Proxmox VE is on this host" in str(failure.value)) == there
