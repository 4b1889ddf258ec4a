# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Groups of the inventory by what the last audit found, by a real fact cache; the domains are the test driver's, and
hosts of the inventory by community.libvirt.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import ansible_collections
import pytest

from ansible_collections.kvmops.console.tests.integration import others_collections
from ansible_collections.kvmops.console.tests.integration.domains.controller import Controller
from ansible_collections.kvmops.console.tests.lab.kvmlab import FIXED_QEMU, build
from ansible_collections.kvmops.console.tests.lab.kvmlab.build import QEMU
from ansible_collections.kvmops.console.tests.lab.kvmlab.machine import cache

COLLECTIONS = Path(next(iter(ansible_collections.__path__))).parent
EXAMPLE = Path(__file__).parents[3] / "extensions/inventory/consoles.yml"

NOVA = '<metadata><nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1"/></metadata>'
DOMAIN = """<domain type="test" xmlns:test="http://libvirt.org/schemas/domain/test/1.0"><name>{name}</name>
<uuid>4dea22b3-1d52-d8f3-2516-00000000000{number}</uuid><memory>1024</memory><os><type>hvm</type></os>{more}
<devices><emulator>{emulator}</emulator><input type="tablet" bus="usb"/><graphics type="vnc" passwd="x"
powerControl="yes"/></devices><test:runstate>5</test:runstate></domain>"""
NODE = """<node><cpu><mhz>1</mhz><model>i686</model><active>1</active><nodes>1</nodes><sockets>1</sockets>
<cores>1</cores><threads>1</threads></cpu><memory>8192</memory><domain file="{file}"/></node>"""

HOSTS = """
hypervisors:
  vars:
    ansible_connection: local
    ansible_python_interpreter: {python}
    fleet_uri: test://{folder}/{{{{ inventory_hostname }}}}.xml
  hosts:
    hv-1:
    hv-2: {hv_2}
    hv-3: {unreachable}
    hv-4: {hv_4}
domains:
  vars: {{xml_desc: of a hypervisor that is no source}}
  hosts: {{web-9: }}
"""
SOURCE = """
plugin: community.libvirt.libvirt
uri: test://{folder}/hv-{number}.xml
"""
UNREACHABLE = "{ansible_connection: ssh, ansible_host: 127.0.0.1, ansible_port: 1}"
SOME_ONLY = "{fleet_domains: [web-9]}"


class Fleet(Controller):
    """Four hypervisors with a domain each, the third of which cannot be reached, and inventory groups."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, "")
        (self.inventory / "sources.yml").write_text(EXAMPLE.read_text())  # after lab.yml, which has the hosts
        self.place("{}", "{}")
        affected = f"{cache() / QEMU}/bin/qemu-system-x86_64"
        self.domain(1, affected)
        self.domain(2, FIXED_QEMU, NOVA)
        self.domain(4, affected)
        for number in (1, 2, 4):
            source = SOURCE.format(folder=folder, number=number)
            (self.inventory / f"libvirt-{number}.yml").write_text(source)  # after lab.yml, before sources.yml

    def place(self, hv_2: str, hv_4: str) -> None:
        """The inventory, with what holds for two of its hosts."""
        (self.inventory / "lab.yml").write_text(
            HOSTS.format(python=sys.executable, folder=self.folder, unreachable=UNREACHABLE, hv_2=hv_2, hv_4=hv_4)
        )

    def domain(self, number: int, emulator: str, more: str = "") -> None:
        file = self.folder / f"web-{number}.xml"
        file.write_text(DOMAIN.format(name=f"web-{number}", number=number, emulator=emulator, more=more))
        (self.folder / f"hv-{number}.xml").write_text(NODE.format(file=file))

    def audit(self, limit: str) -> list[str]:
        """The hosts that were audited, or would have been."""
        done = self.run("audit", "--limit", limit, "-e", "fleet_hosts=hypervisors", "-e", "fleet_domain_facts=true")
        recap = done.stdout.partition("PLAY RECAP")[2]
        return re.findall(r"^(\S+) +: ok=", recap, re.MULTILINE)

    def groups(self) -> dict[str, list[str]]:
        """The hosts of each group, as the inventory's user sees them."""
        program = Path(sys.executable).with_name("ansible-inventory")
        environment = {**os.environ, "ANSIBLE_HOME": str(self.folder / "home")}
        command = [str(program), "-i", str(self.inventory), "--list"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
        return {name: sorted(group.get("hosts", [])) for name, group in json.loads(done.stdout).items()}


@pytest.fixture
def fleet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setenv("ANSIBLE_CACHE_PLUGIN", "ansible.builtin.jsonfile")
    monkeypatch.setenv("ANSIBLE_CACHE_PLUGIN_CONNECTION", str(tmp_path / "facts"))
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", f"{COLLECTIONS}:{others_collections.collections()}")
    build()
    folder = tmp_path / "controller"
    folder.mkdir()
    return Fleet(folder)


def test_groups_follow_the_audit(fleet: Fleet, tmp_path: Path) -> None:
    before = fleet.groups()
    assert before["console_unknown"] == ["hv-1", "hv-2", "hv-3", "hv-4"], "what was never audited is not known"
    assert before["domain_unknown"] == ["web-1", "web-2", "web-4", "web-9"]
    assert "console_fine" not in before

    assert fleet.audit("all") == ["hv-1", "hv-2", "hv-3", "hv-4"]
    found = fleet.groups()
    assert found["console_affected"] == found["console_ungated"] == found["console_severity_high"] == ["hv-1", "hv-4"]
    assert found["console_fine"] == found["console_managed_by_nova"] == ["hv-2"]
    assert found["console_unknown"] == ["hv-3"]
    assert found["domain_affected"] == ["web-1", "web-4"]
    assert found["domain_managed_by_nova"] == found["domain_on_hv_2"] == ["web-2"]
    assert found["domain_unknown"] == ["web-9"], "it is on no hypervisor that was seen"

    # Two are mended, but of one of them only other domains are looked at; and one cannot be reached any more.
    fleet.domain(1, FIXED_QEMU)
    fleet.domain(4, FIXED_QEMU)
    fleet.place(hv_2=UNREACHABLE, hv_4=SOME_ONLY)
    assert fleet.audit("console_affected:console_fine") == ["hv-1", "hv-2", "hv-4"], "and not hv-3"
    after = fleet.groups()
    assert "console_managed_by_nova" not in after
    assert after["console_fine"] == ["hv-1"]
    assert after["console_affected"] == ["hv-4"], "an audit of some domains tells nothing of the others"
    assert after["console_unknown"] == ["hv-2", "hv-3"]
    assert after["domain_affected"] == ["web-4"]
    assert after["domain_unknown"] == ["web-2", "web-9"]

    # What was fine once does not stay so when nobody looks any more.
    (facts,) = (tmp_path / "facts").glob("*hv-1")
    facts.write_text(re.sub(r"20\d\d(-\d\d-\d\dT)", r"2020\1", facts.read_text()))
    old = fleet.groups()
    assert old["console_stale"] == ["hv-1"]
    assert "console_fine" not in old
