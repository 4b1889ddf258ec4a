# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A user with the rights of docs/polkit and no others runs each module, and is told what he lacks."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

from ansible_collections.kvmops.console.tests.integration.rights.guarded import Guarded
from ansible_collections.kvmops.console.tests.lab.kvmlab import FIXED_QEMU
from ansible_collections.kvmops.console.tests.tools import rights as table

RIGHTS = table.load()
PASSWORD = "sesam-42"
BASE = ("connect.getattr", "connect.search-domains", "domain.getattr", "domain.read")


class Case(NamedTuple):
    """What a module is to do. `also`: permissions beside the rule's; `asked`: beside BASE, what libvirt asks polkit."""

    module: str
    rule: str
    arguments: dict[str, Any]
    asked: tuple[str, ...]
    also: tuple[str, ...] = ()
    domain: Mapping[str, Any] = MappingProxyType({})

    def prepare(self, host: Guarded) -> None:
        what = {"emulator": FIXED_QEMU, "power_control": "yes", "password": PASSWORD, **self.domain}
        host.put("guest", **what)
        host.join(f"kvmops-{self.rule}", *(f"yes-{permission}" for permission in self.also))

    def run(self, host: Guarded, *lacking: str) -> dict[str, Any]:
        """The result, without some of the permissions."""
        self.prepare(host)
        if lacking:
            host.join(*host.groups, *(f"no-{permission}" for permission in lacking))
        return host.module(self.module, **self.arguments)


ON = {"running": True}
FORCED = {"force": "at_once"}
PICTURE = {"capture": "screendump"}
WITH_SAVED = {"state": "disabled", "include_saved_states": True}
ACPI = {"methods": [{"method": "acpi", "timeout": 0.1}], "force": "after_methods"}

CASES = {
    "audit_read_only": Case("domain_info", "audit-read-only", {}, (), domain=ON),
    "audit": Case("domain_info", "audit", {}, ("domain.read-secure", "domain.open-graphics"), domain=ON),
    "audit_saved_states": Case("domain_info", "audit", {}, ("domain.read-secure",), domain={"snapshot": True}),
    "picture": Case("domain_screenshot", "screenshots", PICTURE, ("domain.screenshot",), domain=ON),
    "picture_anyhow": Case(
        "domain_screenshot", "screenshots", {}, ("domain.open-graphics", "domain.screenshot"), domain=ON
    ),
    "picture_by_vnc": Case(
        "domain_screenshot",
        "screenshots",
        {"capture": "vnc"},
        ("domain.open-graphics",),
        also=("domain.open-graphics",),
        domain=ON,
    ),
    "picture_woken": Case(
        "domain_screenshot",
        "screenshots",
        {**PICTURE, "wake": "key"},
        ("domain.screenshot", "domain.send-input"),
        also=("domain.send-input",),
        domain=ON,
    ),
    "edit": Case(
        "domain_power_control",
        "edit",
        {"state": "disabled"},
        ("domain.read-secure", "domain.save", "domain.write"),
    ),
    "edit_snapshot": Case(
        "domain_power_control",
        "edit",
        WITH_SAVED,
        ("domain.read-secure", "domain.save", "domain.snapshot", "domain.write"),
        also=("domain.snapshot",),
        domain={"snapshot": True},
    ),
    "edit_checkpoint": Case(
        "domain_power_control",
        "edit",
        WITH_SAVED,
        ("domain.checkpoint", "domain.read-secure", "domain.save", "domain.write"),
        also=("domain.checkpoint",),
        domain={"checkpoint": True},
    ),
    "edit_managed_save": Case(
        "domain_power_control",
        "edit",
        WITH_SAVED,
        ("domain.hibernate", "domain.read-secure", "domain.save", "domain.write"),
        also=("domain.hibernate",),
        domain={"saved": True},
    ),
    "start": Case("domain_power", "power", {"state": "started"}, ("connect.read", "domain.start")),
    "stop": Case("domain_power", "power", {"state": "stopped", **FORCED}, ("connect.read", "domain.stop"), domain=ON),
    "button": Case(
        "domain_power",
        "power",
        {"state": "stopped", **ACPI},
        ("connect.read", "domain.init-control", "domain.stop"),
        domain=ON,
    ),
    "pause": Case("domain_power", "power", {"state": "paused"}, ("connect.read", "domain.suspend"), domain=ON),
    "wake": Case(
        "domain_power",
        "power",
        {"state": "resumed"},
        ("connect.read", "domain.pm-control"),
        domain={"asleep": True},
    ),
    "reset": Case("domain_power", "power", {"state": "reset"}, ("connect.read", "domain.reset"), domain=ON),
    "interrupt": Case("domain_power", "power", {"state": "nmi_sent"}, ("connect.read", "domain.inject-nmi"), domain=ON),
    "save": Case("domain_power", "power", {"state": "saved"}, ("connect.read", "domain.hibernate"), domain=ON),
    "boot_id": Case(
        "domain_power",
        "power",
        {"state": "rebooted", "boot_id": True, **FORCED},
        ("connect.read", "domain.reset", "domain.write"),
        also=("domain.write",),
        domain=ON,
    ),
    "evidence": Case(
        "domain_power",
        "power",
        {"state": "power_cycled", "evidence": True, **FORCED},
        ("connect.read", "domain.open-graphics", "domain.screenshot", "domain.start", "domain.stop"),
        also=("domain.screenshot",),
        domain=ON,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_these_rights_and_no_others_suffice(host: Guarded, name: str) -> None:
    case = CASES[name]
    case.prepare(host)
    before = host.mark()
    result = host.module(case.module, **case.arguments)
    assert not result.get("failed"), result["msg"]
    assert len(result["domains"]) == 1
    assert host.asked(before) == sorted({*BASE, *case.asked})


def test_the_table_names_no_right_that_nothing_asks_for() -> None:
    for module in ("domain_info", "domain_screenshot", "domain_power_control", "domain_power"):
        asked = {*BASE, *(permission for case in CASES.values() if case.module == module for permission in case.asked)}
        named = {need.permission for need in table.needs(RIGHTS, module)}
        assert named == asked, module


LACKING = [
    ("audit_read_only", "connect.getattr"),
    ("audit_read_only", "connect.search-domains"),
    ("audit_read_only", "domain.read"),
    ("picture", "domain.read"),
    ("picture", "domain.screenshot"),
    ("picture_by_vnc", "domain.open-graphics"),
    ("picture_woken", "domain.send-input"),
    ("edit", "domain.read-secure"),
    ("edit", "domain.write"),
    ("edit", "domain.save"),
    ("edit_snapshot", "domain.snapshot"),
    ("edit_checkpoint", "domain.checkpoint"),
    ("edit_managed_save", "domain.hibernate"),
    ("start", "domain.start"),
    ("stop", "domain.stop"),
    ("pause", "domain.suspend"),
    ("wake", "domain.pm-control"),
    ("reset", "domain.reset"),
    ("interrupt", "domain.inject-nmi"),
    ("save", "domain.hibernate"),
]


@pytest.mark.parametrize(("name", "lacking"), LACKING)
def test_a_right_that_is_lacking_is_named(host: Guarded, name: str, lacking: str) -> None:
    result = CASES[name].run(host, lacking)
    assert result["failed"]
    said = re.search(
        r"libvirt's access control denies it to the user operator; it takes ((?:[a-z-]+\.[a-z-]+(?: and )?)+)"
        r" \(a rule in /etc/polkit-1/rules\.d gives it: see docs/least-privilege\.md\)",
        result["msg"],
    )
    assert said, result["msg"]
    assert lacking in said[1].split(" and ")
    assert PASSWORD not in json.dumps(result)


def test_who_may_not_connect_is_told_so(host: Guarded) -> None:
    host.join()
    result = host.module("domain_power", state="started")
    assert result["msg"].startswith(
        "Connecting to libvirt at qemu:///system failed: polkit does not let the user operator connect; it takes"
        " org.libvirt.unix.manage (a rule in /etc/polkit-1/rules.d gives it: see docs/least-privilege.md;"
    )


def test_a_button_that_may_not_be_pressed_is_a_step_that_failed(host: Guarded) -> None:
    result = CASES["button"].run(host, "domain.init-control")
    (record,) = result["domains"]
    assert [(step["method"], step["outcome"]) for step in record["steps"]] == [("acpi", "refused"), ("force", "done")]
    assert "it takes domain.init-control (" in record["steps"][0]["reason"]


def test_a_boot_id_that_may_not_be_asked_is_a_note(host: Guarded) -> None:
    result = CASES["boot_id"].run(host, "domain.write")
    (record,) = result["domains"]
    assert result["changed"]
    assert any("it takes domain.write (" in note for note in record["notes"])


def test_a_domain_that_may_not_be_seen_is_not_there(host: Guarded) -> None:
    result = CASES["audit_read_only"].run(host, "domain.getattr")
    assert (result["domains"], result.get("failed")) == ([], None)


OPEN_A_CONSOLE = """
import asyncio, json
from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._domains import Domains

async def greet():
    domains = Domains()
    console = await domains.open(await domains.find("guest"))
    console.sock.setblocking(True)
    with console.sock:
        print(json.dumps({"greeting": console.sock.recv(12).decode()}))
    domains.close()

asyncio.run(greet())
"""


def test_the_proxy_has_the_rights_that_it_takes(host: Guarded) -> None:
    host.put("guest", running=True, emulator=FIXED_QEMU)
    needed = [need.permission for need in table.needs(RIGHTS, "vnc_proxy (role)")]
    denied = set(RIGHTS["permissions"]) - set(needed)
    host.join(*(f"yes-{one}" for one in ("org.libvirt.unix.manage", *needed)), *(f"no-{one}" for one in denied))
    before = host.mark()
    assert host.python("-c", OPEN_A_CONSOLE) == {"greeting": "RFB 003.008\n"}
    assert host.asked(before) == sorted(needed)


# --- The audit --------------------------------------------------------------------------------------------------------


def test_a_read_only_audit_says_what_it_does_not_see(host: Guarded) -> None:
    """Without a group at all: libvirt lets everybody look."""
    host.put("guest", running=True, snapshot=True, emulator=FIXED_QEMU, power_control="yes", password=PASSWORD)
    host.join()
    result = host.module("domain_info")
    (record,) = result["domains"]
    assert "error" not in record
    assert result["host"]["read_only"] is True
    assert record["blind_spots"] == ["password", "vnc_settings", "process", "running_qemu"]
    assert result["host"]["blind_spots"] == dict.fromkeys(record["blind_spots"], 1)
    (graphics,) = record["graphics"]
    assert [graphics[key] for key in ("password", "tls", "sasl")] == [None, None, None]
    assert record["outdated_process"] is None
    assert record["qemu"]["running"]["verdict"] == "unknown"
    assert record["qemu"]["next_start"]["verdict"] == "fixed"
    assert [state["name"] for state in record["saved_states"]] == ["s"]
    assert {finding["id"] for finding in record["findings"]} == {"qemu_verdict_unknown"}
    assert PASSWORD not in json.dumps(result)


def test_an_audit_sees_as_much_as_its_user_may(host: Guarded) -> None:
    CASES["audit"].prepare(host)
    seen = []
    for lacking in ((), ("domain.read-secure",), ("domain.open-graphics",)):
        host.join("kvmops-audit", *(f"no-{permission}" for permission in lacking))
        result = host.module("domain_info")
        (record,) = result["domains"]
        assert result["host"]["read_only"] is False
        seen.append((record["blind_spots"], record["graphics"][0]["password"], record["qemu"]["running"]))
    whole, secretive, shut = seen
    assert (whole[0], whole[1], whole[2]["verdict"]) == (["vnc_settings", "process"], True, "fixed")
    assert secretive[:2] == (["password", "vnc_settings", "process"], None)
    assert shut[0] == ["vnc_settings", "process", "running_qemu"]
    assert "it takes domain.open-graphics (" in shut[2]["evidence"]
