# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A real hypervisor, and ways to put domains on it and to run modules there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import libvirt
import pytest
from lxml import etree

HERE = Path(__file__).resolve().parent
from ansible_collections.kvmops.console.tests.lab.kvmlab import Host, Lab, domain_xml

Result = dict[str, Any]
STATE = "/var/lib/kvmops-console"
READ = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE


class Hypervisor:
    """A host of the lab, with a libvirt connection to it from outside."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.uri = host.uri
        self.connection = libvirt.open(host.uri)

    def reconnect(self) -> None:
        """After its libvirtd was restarted."""
        self.connection = libvirt.open(self.uri)

    def put(self, name: str, *, running: bool = False, **what: Any) -> libvirt.virDomain:
        """A domain as kvmlab.domain_xml() describes it, in place of one with that name."""
        self.remove(name)
        domain = self.connection.defineXML(domain_xml(name, **what))
        if running:
            domain.create()
        return domain

    def remove(self, name: str) -> None:
        for domain in self.connection.listAllDomains(0):
            if domain.name() == name:
                _remove(domain)

    def clear(self) -> None:
        for domain in self.connection.listAllDomains(0):
            _remove(domain)
        self.host.exec("rm", "-rf", f"{STATE}/backups")

    def definition(self, name: str) -> str:
        """What the next start uses, secrets included."""
        return str(self.connection.lookupByName(name).XMLDesc(READ))

    def vnc(self, name: str) -> dict[str, str]:
        """The attributes of the domain's first VNC element."""
        found = etree.fromstring(self.definition(name)).find("devices/graphics[@type='vnc']")
        assert found is not None
        return {str(key): str(value) for key, value in found.attrib.items()}

    def start_module(self, name: str, arguments: Result, check: bool = False, diff: bool = False) -> Module:
        """Begin to run a module of the collection on the host."""
        words = [sys.executable, "-B", str(HERE / "run_module.py"), name, str(int(check)), str(int(diff))]
        process = subprocess.Popen(
            self.host.command(*words),
            env=self.host.environment({"PYTHONPATH": ":".join(path for path in sys.path if path)}),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(arguments))
        process.stdin.close()
        process.stdin = None
        return Module(process)

    def module(self, name: str, *, check: bool = False, diff: bool = False, **arguments: Any) -> Result:
        """The result of a module of the collection, run on the host."""
        return self.start_module(name, arguments, check, diff).result()

    def record(self, name: str) -> Result:
        """What domain_info says of one domain."""
        records = self.module("domain_info", domains=[name])["domains"]
        assert [record["name"] for record in records] == [name]
        return dict(records[0])

    def set(self, name: str, **arguments: Any) -> Result:
        """Run domain_power_control on one domain, and give its record."""
        result = self.module("domain_power_control", domains=[name], **arguments)
        assert [record["name"] for record in result["domains"]] == [name], result
        return dict(result["domains"][0])


class Module:
    """A module that runs."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def result(self) -> Result:
        """What it returned; its whole output is searched for nothing else."""
        out, errors = self.process.communicate(timeout=120)
        try:
            return dict(json.loads(out))
        except ValueError:
            raise AssertionError(f"no result: {out}{errors}") from None


def _remove(domain: libvirt.virDomain) -> None:
    if domain.isActive():
        domain.destroy()
    flags = (
        libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    )
    try:
        domain.undefineFlags(flags)
    except libvirt.libvirtError as e:
        if e.get_error_code() not in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID):
            raise  # a transient one is gone with its process


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    libvirt.registerErrorHandler(lambda context, error: None, None)
    with Lab("it-domains") as lab:
        yield lab


@pytest.fixture
def hypervisor(lab: Lab) -> Iterator[Hypervisor]:
    hypervisor = Hypervisor(lab["it-domains"])
    hypervisor.clear()
    yield hypervisor
    hypervisor.reconnect()
    hypervisor.clear()


def findings(record: Result) -> dict[str, str]:
    """Severity by id."""
    return {finding["id"]: finding["severity"] for finding in record["findings"]}


@pytest.fixture(name="findings")
def _findings() -> Any:
    return findings


@pytest.fixture(name="sole")
def _sole() -> Any:
    def sole(items: list[Any], reason: Optional[str] = None) -> Any:
        assert len(items) == 1, reason or items
        return items[0]

    return sole
