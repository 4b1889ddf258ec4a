# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""domain_info, whole, through its main() on libvirt's test driver; QEMU, its process and qemu.conf are stand-ins."""

from __future__ import annotations

import json
import os
import re
import signal
import typing as t
from pathlib import Path

import pytest

libvirt = pytest.importorskip("libvirt", reason="needs libvirt's Python bindings, which only the system's Python has")

from ansible_collections.kvmops.console.plugins.module_utils import (
    _libvirt,
    _qemu_conf,
    _qemu_facts,
    _qemu_process,
)
from ansible_collections.kvmops.console.plugins.module_utils._domain_xml import NAMESPACE
from ansible_collections.kvmops.console.plugins.module_utils._processes import deal_out
from ansible_collections.kvmops.console.plugins.module_utils._qemu_conf import VncDefaults
from ansible_collections.kvmops.console.plugins.module_utils._qemu_process import QemuProcess
from ansible_collections.kvmops.console.plugins.module_utils._run import domain_info as run_file
from ansible_collections.kvmops.console.plugins.module_utils._run.domain_info import differs, summarize
from ansible_collections.kvmops.console.plugins.module_utils._verdict import AFFECTED, FIXED, PROBE, Verdict
from ansible_collections.kvmops.console.plugins.modules import domain_info, domain_power_control
from ansible_collections.kvmops.console.tests.unit.plugins.module_utils.testdriver import (
    PASSWORD,
    URI,
    Host,
    Result,
    call,
    domain,
    lose_libvirt,
    probe,
    uuid,
    vnc,
)

TABLET = "<input type='tablet' bus='usb'/>"
SPICE = "<graphics type='spice' autoport='yes' passwd='spicy'/>"

Audit = t.Callable[..., Result]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Host]:
    monkeypatch.setattr(_qemu_facts, "probe_binary_cached", probe)
    monkeypatch.setattr(_qemu_conf, "read", lambda uri: VncDefaults())
    monkeypatch.setattr(run_file, "lexists", lambda path: False)
    made = Host()
    yield made
    made.close()


@pytest.fixture
def audit(host: Host, tmp_path: Path) -> Audit:
    def run(**params: t.Any) -> Result:
        return call(domain_info.main, **{"uri": URI, "cache_dir": str(tmp_path / "cache"), **params})

    return run


def only(result: Result) -> Result:
    (record,) = result["domains"]
    assert isinstance(record, dict)
    return record


def found(record: Result) -> list[str]:
    return [finding["id"] for finding in record["findings"]]


def judged(verdict: str, path: str) -> Result:
    """What our stand-in for a probe makes of a file."""
    return {
        "verdict": verdict,
        "basis": "probe",
        "evidence": f"probe of {path}",
        "version": "7.2.0",
        "package": "Debian 1:7.2",
        "path": path,
    }


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> t.Callable[..., None]:
    """Let every running domain have a process of an image, started with -vnc arguments."""

    def make(path: str, *values: str, replaced: bool = False) -> None:
        arguments = [word for value in values for word in ("-vnc", value)]
        made = QemuProcess(42, f"{path} (old)" if replaced else path, path, [path, *arguments])
        monkeypatch.setattr(_qemu_process, "find", lambda uri, name, uid: made)
        monkeypatch.setattr(QemuProcess, "runs", lambda self, installed: not replaced and installed == path)

    return make


# One domain


def test_a_record(host: Host, audit: Audit) -> None:
    host.define(domain("web-1", TABLET, SPICE, vnc("yes", passwd=PASSWORD, passwdValidTo="2030-01-01T00:00:00")))
    before = host.definitions()
    result = audit()
    open_address = [{"type": "address", "address": "127.0.0.1"}]
    assert only(result) == {
        "name": "web-1",
        "uuid": uuid(1),
        "state": "shutoff",
        "persistent": True,
        "autostart": False,
        "managed_save": False,
        "type": "test",
        "arch": "i686",
        "machine": None,
        "emulator": "/opt/affected",
        "pointer_devices": ["tablet:usb"],
        "graphics": [
            {
                "index": 0,
                "type": "spice",
                "port": None,
                "autoport": True,
                "websocket": None,
                "socket": None,
                "listen": open_address,
                "password": True,
                "tls": None,
                "sasl": None,
                "power_control": {"live": None, "config": None},
            },
            {
                "index": 1,
                "type": "vnc",
                "port": None,
                "autoport": True,
                "websocket": None,
                "socket": None,
                "listen": open_address,
                "password": True,
                "password_valid_to": "2030-01-01T00:00:00",
                "tls": False,
                "sasl": False,
                "power_control": {"live": None, "config": "yes"},
            },
        ],
        "restart_pending": False,
        "qemu": {"running": None, "next_start": judged("affected", "/opt/affected")},
        "saved_states": [],
        "blind_spots": [],
        "findings": only(result)["findings"],
    }
    assert found(only(result)) == ["unsolicited_pointer_change", "ungated_power_messages"]
    assert result["changed"] is False
    assert result["unmatched"] == []
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\dZ", result["host"].pop("audited_at"))
    assert result["host"] == {
        "hostname": host.connection.getHostname(),
        "uri": URI,
        "libvirt_version": result["host"]["libvirt_version"],
        "read_only": False,
        "not_seen": [],
        "blind_spots": {},
    }
    assert host.definitions() == before
    assert PASSWORD not in json.dumps(result)


def test_a_running_domain_whose_process_is_seen(host: Host, audit: Audit, process: t.Callable[..., None]) -> None:
    process("/opt/affected", "127.0.0.1:0,power-control=on,tls-creds=x,sasl=on")
    host.define(domain("web-1", TABLET, vnc("no"))).create()
    record = only(audit())
    (graphics,) = record["graphics"]
    assert graphics["power_control"] == {"live": "yes", "config": "no"}
    assert (graphics["password"], graphics["tls"], graphics["sasl"]) == (False, True, True)
    assert record["qemu"]["running"] == record["qemu"]["next_start"] == judged("affected", "/opt/affected")
    assert (record["restart_pending"], record["outdated_process"]) == (True, False)
    assert found(record) == ["unsolicited_pointer_change", "ungated_power_messages", "restart_pending"]


@pytest.mark.parametrize("option", ["password=on", "password-secret=s"])
def test_a_password_that_only_the_process_shows(
    host: Host, audit: Audit, process: t.Callable[..., None], option: str
) -> None:
    process("/opt/fixed", f":0,{option}")
    host.define(domain("web-1", vnc(), emulator="/opt/fixed")).create()
    assert only(audit())["graphics"][0]["password"] is True


def test_a_process_of_an_image_that_was_replaced(
    host: Host, audit: Audit, process: t.Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    process("/opt/fixed", ":0,power-control=on", replaced=True)
    monkeypatch.setattr(
        _qemu_facts,
        "probe_binary_cached",
        lambda path, cache, allow_wrapper=False: probe(path.replace("/opt/fixed (old)", "/opt/affected"), cache),
    )
    host.define(domain("web-1", TABLET, vnc("yes", passwd="x"), emulator="/opt/fixed")).create()
    result = audit()
    record = only(result)
    assert (record["qemu"]["running"]["verdict"], record["qemu"]["next_start"]["verdict"]) == (AFFECTED, FIXED)
    assert record["outdated_process"] is True
    assert found(record) == ["unsolicited_pointer_change", "ungated_power_messages", "outdated_process"]
    assert result["summary"]["affected"] == 1


def test_a_process_that_is_not_seen_is_asked_over_its_server(
    host: Host, audit: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.define(domain("web-1", TABLET, SPICE, vnc("yes", passwd="x"), emulator="/opt/fixed")).create()
    opened = []

    def graphics_socket(one: _libvirt.Listed, index: int) -> int:
        opened.append((one.name, index))
        return 99

    def ask(descriptor: int, power_control: bool) -> Verdict:
        opened.append(("asked", descriptor))
        return Verdict(AFFECTED if power_control else FIXED, PROBE, "the server said so")

    monkeypatch.setattr(_libvirt, "graphics_socket", graphics_socket)
    monkeypatch.setattr(_qemu_facts, "ask_descriptor", ask)
    record = only(audit())
    assert record["qemu"]["running"]["evidence"] == "the server said so"
    assert record["qemu"]["running"]["verdict"] == AFFECTED
    assert opened == [("web-1", 1), ("asked", 99)]


def test_a_server_that_cannot_be_asked_is_unknown(host: Host, audit: Audit) -> None:
    host.define(domain("a", TABLET, vnc("yes", passwd="x"), emulator="/opt/fixed", number=1)).create()
    host.define(domain("b", emulator="/opt/fixed", number=2)).create()
    first, second = audit()["domains"]
    assert first["qemu"]["running"]["verdict"] == "unknown"
    assert first["qemu"]["running"]["evidence"].startswith("Opening the graphics of a failed: ")
    assert second["qemu"]["running"]["evidence"] == "b has no VNC server to ask"
    assert (found(first), found(second)) == (["qemu_verdict_unknown"], [])


def test_qemu_vnc_has_no_power_control(host: Host, audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_libvirt.Connection, "library_version", lambda self: "12.5.0")
    host.define(domain("a", "<graphics type='dbus'/>", vnc("no"), number=1))
    host.define(domain("b", "<graphics type='dbus'/>", vnc("no"), number=2)).create()
    first, second = audit()["domains"]
    evidence = "VNC is served by qemu-vnc, which has no power control"
    assert first["qemu"]["running"] is None
    assert {first["qemu"]["next_start"]["evidence"], second["qemu"]["running"]["evidence"]} == {evidence}


@pytest.mark.parametrize(
    ("defaults", "more", "expected"),
    [
        (VncDefaults(), {}, (False, False, False, "127.0.0.1")),
        (VncDefaults(password=True, listen="0.0.0.0"), {}, (True, False, False, "0.0.0.0")),
        (VncDefaults(tls=True, sasl=True), {}, (False, True, True, "127.0.0.1")),
        (VncDefaults(listen="0.0.0.0"), {"listen": "10.0.0.1", "passwd": "x"}, (True, False, False, "10.0.0.1")),
    ],
)
def test_the_hosts_defaults_count(
    host: Host,
    audit: Audit,
    monkeypatch: pytest.MonkeyPatch,
    defaults: VncDefaults,
    more: dict[str, str],
    expected: tuple[t.Any, ...],
) -> None:
    monkeypatch.setattr(_qemu_conf, "read", lambda uri: defaults)
    host.define(domain("web-1", vnc(**more)))
    (graphics,) = only(audit())["graphics"]
    told = (graphics["password"], graphics["tls"], graphics["sasl"], graphics["listen"][0]["address"])
    assert told == expected


def test_a_unix_socket_listens_nowhere(host: Host, audit: Audit) -> None:
    host.define(domain("web-1", "<graphics type='vnc' socket='/run/a'/>"))
    (graphics,) = only(audit())["graphics"]
    assert (graphics["socket"], graphics["listen"]) == ("/run/a", [{"type": "socket", "socket": "/run/a"}])


@pytest.mark.parametrize(
    ("play", "wants"),
    [
        ({"state": "auto"}, "enabled"),
        ({"state": "disabled"}, "disabled"),
        ({"state": "absent"}, "disabled"),
        ({"state": "restored"}, None),
    ],
)
def test_owner_wants(host: Host, audit: Audit, tmp_path: Path, play: Result, wants: str | None) -> None:
    host.define(domain("web-1", vnc("yes")))
    call(domain_power_control.main, uri=URI, backup_dir=str(tmp_path / "b"), cache_dir=str(tmp_path / "c"), **play)
    assert only(audit()).get("owner_wants") == wants


NOVA = '<metadata><nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1"/></metadata>'


def test_a_manager_that_undoes_what_was_done_is_told(host: Host, audit: Audit, tmp_path: Path) -> None:
    host.define(domain("web", vnc("yes"), TABLET).replace("<memory>", f"{NOVA}<memory>"))
    before = only(audit())
    assert before["managed_by"] == {"id": "nova", "name": "OpenStack Nova", "rewrites": "start"}
    assert {one["id"]: one["severity"] for one in before["findings"]}["managed_elsewhere"] == "info"

    host.settle()
    result = call(
        domain_power_control.main,
        uri=URI,
        backup_dir=str(tmp_path / "backups"),
        cache_dir=str(tmp_path / "cache"),
        managed="edit",
    )
    assert result["changed"]
    assert {one["id"]: one["severity"] for one in only(audit())["findings"]}["managed_elsewhere"] == "medium"


def test_what_runs_guests_without_libvirt_is_told(host: Host, audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    assert audit()["host"]["not_seen"] == []
    monkeypatch.setattr(run_file, "lexists", "/etc/pve/nodes".__eq__)
    assert [one["id"] for one in audit()["host"]["not_seen"]] == ["proxmox"]


def test_an_edit_since_makes_the_memory_stale(host: Host, audit: Audit, tmp_path: Path) -> None:
    host.define(domain("web-1", vnc("yes")))
    call(domain_power_control.main, uri=URI, backup_dir=str(tmp_path / "b"), cache_dir=str(tmp_path / "c"))
    assert only(audit())["owner_wants"] == "enabled"
    host.define(host.xml("web-1").replace(" powerControl='no'", ""))
    assert "owner_wants" not in only(audit())


# Many domains


def fleet(host: Host) -> None:
    host.define(domain("affected", TABLET, vnc("yes", passwd="x"), number=1))
    host.define(domain("fixed", TABLET, vnc("yes", passwd="x"), emulator="/opt/fixed", number=2))
    host.define(domain("incapable", TABLET, vnc("no", passwd="x"), emulator="/opt/incapable", number=3))
    host.define(domain('it\'s "é" 😀', vnc("yes", passwd="x"), emulator="/opt/unknown", number=4))
    host.define(domain("none", emulator="/opt/fixed", number=5))
    host.connection.createXML(domain("transient", TABLET, SPICE, emulator="/opt/fixed", number=6), 0)


def test_a_fleet(host: Host, audit: Audit) -> None:
    fleet(host)
    result = audit()
    assert {record["name"]: found(record) for record in result["domains"]} == {
        "affected": ["unsolicited_pointer_change", "ungated_power_messages"],
        "fixed": [],
        "incapable": ["power_control_unsupported"],
        'it\'s "é" 😀': ["qemu_verdict_unknown", "relative_pointer"],
        "none": [],
        "transient": [],
    }
    assert result["summary"] == {
        "domains": 6,
        "running": 1,
        "affected": 1,
        "fixed": 2,
        "incapable": 1,
        "unknown": 2,
        "restart_pending": 0,
        "errors": 0,
        "findings": {
            "power_control_unsupported": 1,
            "qemu_verdict_unknown": 1,
            "relative_pointer": 1,
            "ungated_power_messages": 1,
            "unsolicited_pointer_change": 1,
        },
        "severities": {"critical": 0, "high": 2, "medium": 2, "low": 0, "info": 1},
    }


def test_many_domains_are_read_some_at_a_time(host: Host, audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    """And what cannot be read, or is no XML, stays with its domain."""
    names = list("abcde")
    for number, name in enumerate(names, start=1):
        host.define(domain(name, TABLET, vnc("yes", passwd="x"), number=number))
    whole = audit()["domains"]
    inactive_xml = _libvirt.inactive_xml
    read = []

    def fail_twice(one: _libvirt.Listed, connection: _libvirt.Connection, secrets: bool) -> str:
        read.append(one.name)
        if one.name == "b":
            host.connection.lookupByName("b").undefine()
        return "<domain>" if one.name == "d" else inactive_xml(one, connection, secrets)

    monkeypatch.setattr(_libvirt, "inactive_xml", fail_twice)
    monkeypatch.setattr(run_file, "AT_ONCE", 2)
    result = audit()
    assert read == names
    assert [record["name"] for record in result["domains"]] == names
    assert [result["domains"][number] for number in (0, 2, 4)] == [whole[number] for number in (0, 2, 4)]
    assert result["domains"][1]["error"].startswith("Reading the definition of b failed: Domain not found")
    assert result["domains"][3]["error"].startswith("This is not a domain's XML: ")
    assert result["summary"]["errors"] == 2


def test_a_transient_domain(host: Host, audit: Audit) -> None:
    host.connection.createXML(domain("transient", TABLET, vnc("yes", passwd="x"), emulator="/opt/fixed"), 0)
    record = only(audit())
    assert (record["persistent"], record["restart_pending"], record["state"]) == (False, False, "running")
    assert record["graphics"][0]["power_control"] == {"live": "yes", "config": None}


def test_check_mode_is_no_other_mode(host: Host, audit: Audit) -> None:
    fleet(host)
    checked, audited = audit(_ansible_check_mode=True), audit()
    for result in (checked, audited):
        del result["host"]["audited_at"]
    assert checked == audited


def test_selection_and_what_it_missed(host: Host, audit: Audit) -> None:
    fleet(host)
    result = audit(domains=["*f*", "gone"], exclude=["fixed"])
    assert [record["name"] for record in result["domains"]] == ["affected"]
    assert result["unmatched"] == ["gone"]
    assert "No domain of test:///default is meant by: gone." in json.dumps(result["warnings"])


def test_without_probing(host: Host, audit: Audit) -> None:
    host.define(domain("web-1", vnc("yes")))
    facts = only(audit(probe=False))["qemu"]["next_start"]
    assert facts["verdict"] == "unknown"
    assert facts["evidence"].endswith("not probed: probing is switched off")


def test_no_domains(audit: Audit) -> None:
    result = audit()
    assert (result["domains"], result["summary"]["domains"], result["summary"]["findings"]) == ([], 0, {})


def test_a_host_from_a_file(audit: Audit, tmp_path: Path) -> None:
    path = tmp_path / "node.xml"
    path.write_text(f"<node>{domain('filed', TABLET, vnc('yes'), emulator='/opt/fixed')}</node>", encoding="utf-8")
    record = only(audit(uri=f"test://{path}"))
    assert (record["name"], record["state"], record["persistent"]) == ("filed", "running", True)
    assert record["graphics"][0]["power_control"] == {"live": "yes", "config": "yes"}


def test_no_libvirt_is_one_sentence(audit: Audit, tmp_path: Path) -> None:
    result = audit(uri=f"test://{tmp_path}/missing.xml")
    assert result["failed"] is True
    assert result["msg"].startswith(f"Connecting to libvirt at test://{tmp_path}/missing.xml failed: ")


# Fewer rights, and what goes wrong


class Denial(libvirt.libvirtError):  # type: ignore[misc,name-defined,unused-ignore]
    """libvirt's answer to whom its access control keeps out."""

    def __init__(self) -> None:
        super().__init__("access denied")
        self.err = (libvirt.VIR_ERR_ACCESS_DENIED, 0, "access denied: 'QEMU' denied access")


def test_without_the_right_to_see_secrets(host: Host, audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = host.define(domain("web-1", vnc("yes", passwd=PASSWORD), emulator="/opt/fixed"))
    handle.snapshotCreateXML("<domainsnapshot><name>s</name></domainsnapshot>", 0)
    host.define(domain("web-2", vnc("yes", passwd=PASSWORD), emulator="/opt/fixed", number=2))
    read, secure = libvirt.virDomain.XMLDesc, libvirt.VIR_DOMAIN_XML_SECURE

    def read_one(self: t.Any, flags: int = 0) -> str:
        if flags & secure and self.name() == "web-1":
            raise Denial
        return str(read(self, flags))

    def deny(self: t.Any, flags: int = 0) -> t.NoReturn:
        raise Denial

    monkeypatch.setattr(libvirt.virDomain, "XMLDesc", read_one)
    monkeypatch.setattr(libvirt.virDomain, "listAllSnapshots", deny)
    result = audit()
    assert [record["blind_spots"] for record in result["domains"]] == [["password", "saved_states"], []]
    assert [record["graphics"][0]["password"] for record in result["domains"]] == [None, True]
    assert result["host"]["blind_spots"] == {"password": 1, "saved_states": 1}
    assert PASSWORD not in json.dumps(result)


def test_without_the_right_to_read_at_all(host: Host, audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    host.define(domain("web-1", vnc("yes")))

    def deny(self: t.Any, flags: int = 0) -> t.NoReturn:
        raise Denial

    monkeypatch.setattr(libvirt.virDomain, "XMLDesc", deny)
    record = only(audit())
    assert "it takes domain.read (" in record["error"]


def test_with_a_read_only_connection(host: Host, audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    handle = host.define(domain("web-1", vnc("yes", passwd=PASSWORD), emulator="/opt/fixed"))
    handle.snapshotCreateXML("<domainsnapshot><name>s</name></domainsnapshot>", 0)
    handle.create()

    def refuse(uri: str) -> t.NoReturn:
        raise libvirt.libvirtError("authentication failed")

    monkeypatch.setattr(libvirt, "open", refuse)
    result = audit()
    record = only(result)
    assert result["host"]["read_only"] is True
    # What cannot be seen is neither there nor missing.
    assert (record["graphics"][0]["password"], record["blind_spots"]) == (None, ["password"])
    assert result["host"]["blind_spots"] == {"password": 1}
    assert [state["name"] for state in record["saved_states"]] == ["s"], "they can be seen without secrets"
    assert record["qemu"]["running"]["evidence"] == (
        "the VNC server of web-1 can only be asked on its host, with libvirt's full rights"
    )
    assert "vnc_without_authentication" not in found(record)


def test_snapshots_that_differ(host: Host, audit: Audit) -> None:
    handle = host.define(domain("web-1", TABLET, vnc("yes", passwd="x"), emulator="/opt/fixed"))
    handle.snapshotCreateXML("<domainsnapshot><name>on</name></domainsnapshot>", 0)
    handle = host.define(domain("web-1", TABLET, vnc("no", passwd="x"), emulator="/opt/fixed"))
    handle.snapshotCreateXML("<domainsnapshot><name>off</name></domainsnapshot>", 0)
    record = only(audit())
    assert sorted(record["saved_states"], key=lambda state: str(state["name"])) == [
        {"kind": "snapshot", "name": "off", "power_control": ["no"], "differs": False},
        {"kind": "snapshot", "name": "on", "power_control": ["yes"], "differs": True},
    ]
    assert found(record) == ["saved_state_differs"]


def test_one_failure_stops_nobody(host: Host, audit: Audit) -> None:
    host.define(domain("a", vnc("yes"), number=1)).create()
    host.connection.lookupByName("a").managedSave()
    host.define(domain("b", TABLET, vnc("yes", passwd="x"), emulator="/opt/fixed", number=2))
    result = audit()
    first, second = result["domains"]
    assert result["failed"] is True
    assert first == {
        "name": "a",
        "uuid": uuid(1),
        "state": "shutoff",
        "persistent": True,
        "autostart": False,
        "managed_save": True,
        "error": first["error"],
    }
    assert first["error"].startswith("Reading the managed_save of a failed: ")
    assert result["msg"] == f"1 of 2 domains failed: a ({first['error']})"
    assert second["findings"] == []
    assert (result["summary"]["errors"], result["summary"]["fixed"]) == (1, 1)


def test_a_domain_that_ended_meanwhile(host: Host, audit: Audit, monkeypatch: pytest.MonkeyPatch) -> None:
    host.connection.createXML(domain("a", vnc("yes"), number=1), 0)
    host.define(domain("b", TABLET, vnc("yes", passwd="x"), emulator="/opt/fixed", number=2))
    domains = _libvirt.Connection.domains

    def listed(self: _libvirt.Connection) -> list[_libvirt.Listed]:
        return [one._replace(state="nostate") if one.name == "a" else one for one in domains(self)]

    monkeypatch.setattr(_libvirt.Connection, "domains", listed)
    result = audit()
    assert [record.get("error") for record in result["domains"]] == [
        "a is gone: it ended while it was being read.",
        None,
    ]


# Pure parts


@pytest.mark.parametrize(
    ("carried", "config", "expected"),
    [
        (["yes"], ["yes"], False),
        (["yes"], ["no"], True),
        (["no"], ["yes"], True),
        (["no"], [None], False),
        ([None], ["no"], False),
        ([None], ["yes"], True),
        # A snapshot of a running domain holds two definitions.
        (["yes", "no"], ["yes"], True),
        (["yes", "no", "yes", "no"], ["yes", "no"], False),
        (["yes", "no", "no", "no"], ["yes", "no"], True),
        ([], ["yes"], False),
        (["yes"], [], False),
    ],
)
def test_differs(carried: list[str | None], config: list[str | None], expected: bool) -> None:
    assert differs(carried, config) is expected


@pytest.mark.parametrize(
    ("running", "next_start", "counted"),
    [
        ("affected", "fixed", "affected"),
        ("fixed", "affected", "affected"),
        ("unknown", "affected", "affected"),
        ("fixed", "unknown", "unknown"),
        ("incapable", "fixed", "incapable"),
        (None, "fixed", "fixed"),
    ],
)
def test_a_domain_counts_once_for_the_worst(running: str | None, next_start: str, counted: str) -> None:
    facts = {"running": running and {"verdict": running}, "next_start": {"verdict": next_start}}
    record = {"state": "running", "findings": [], "restart_pending": True, "qemu": facts}
    summary = summarize([record, {"state": "shutoff", "error": "gone"}])
    verdicts = {verdict: summary[verdict] for verdict in ("affected", "fixed", "incapable", "unknown")}
    assert verdicts == {**dict.fromkeys(verdicts, 0), counted: 1}
    assert (summary["running"], summary["restart_pending"], summary["errors"]) == (1, 1, 1)


# Several processes: with the test driver each has a copy of the host


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let two share the work, from two domains on."""
    monkeypatch.setattr(_libvirt, "runs_here", lambda uri: False)
    monkeypatch.setattr(run_file, "how_many", lambda *how: 2)


def fleet_of(host: Host, names: str) -> None:
    for number, name in enumerate(names, start=1):
        setting = "yes" if number % 2 else None
        host.define(domain(name, vnc(setting, passwd=PASSWORD), emulator=f"/opt/{AFFECTED}", number=number))
    host.connection.lookupByName(names[-1]).create()


def test_several_processes_give_what_one_gives(
    host: Host, audit: Audit, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet_of(host, "abcde")
    one = audit()
    request.getfixturevalue("processes")
    dealt_out: list[int] = []

    def watched(items: t.Any, processes: int, *how: t.Any) -> t.Any:
        dealt_out.append(processes)
        return deal_out(items, processes, *how)

    monkeypatch.setattr(run_file, "deal_out", watched)
    several = audit()
    assert dealt_out == [2]
    for result in (one, several):
        del result["host"]["audited_at"]
    assert several == one
    assert [record["name"] for record in one["domains"] if record["findings"]] == list("abcde")


def test_a_process_that_is_killed_loses_nobody(
    host: Host, audit: Audit, processes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet_of(host, "abcdef")
    inactive_xml = _libvirt.inactive_xml

    def fatal(listed: _libvirt.Listed, *how: t.Any) -> str:
        if listed.name == "d":
            os.kill(os.getpid(), signal.SIGKILL)
        return inactive_xml(listed, *how)

    monkeypatch.setattr(_libvirt, "inactive_xml", fatal)
    result = audit()
    assert {record["name"]: record["error"] for record in result["domains"] if "error" in record} == {
        name: f"The process that was to audit {name} was killed: run this again." for name in "bdf"
    }
    assert [record["name"] for record in result["domains"]] == list("abcdef")
    assert result["summary"]["errors"] == 3


def test_a_libvirt_that_is_gone_after_the_listing_is_told_by_every_domain(
    host: Host, audit: Audit, processes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet_of(host, "abc")
    lose_libvirt(monkeypatch)
    result = audit()
    assert {record["error"] for record in result["domains"]} == {f"Connecting to libvirt at {URI} failed: it is gone"}
    assert [record["name"] for record in result["domains"]] == list("abc")


def test_a_domain_that_is_gone_after_the_listing(
    host: Host, audit: Audit, processes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet_of(host, "abc")

    def undefine_first(*how: t.Any) -> t.Any:
        host.connection.lookupByName("a").undefine()
        return deal_out(*how)

    monkeypatch.setattr(run_file, "deal_out", undefine_first)
    first, *others = audit()["domains"]
    assert first["error"] == "a is gone: it ended or was undefined meanwhile."
    assert [record.get("error") for record in others] == [None, None]


def test_the_owner_s_order_is_told_where_there_is_one(host: Host, audit: Audit) -> None:
    said = f"<metadata><k:console xmlns:k='{NAMESPACE}'><k:order priority='0'/></k:console></metadata>"
    host.define(domain("first", vnc(), number=1).replace("<memory>", f"{said}<memory>"))
    host.define(domain("second", vnc(), number=2))
    first, second = audit()["domains"]
    assert first["order"] == {"priority": 0, "after": [], "before": []}
    assert "order" not in second
