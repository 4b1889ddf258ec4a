# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""domain_info on a real libvirt with real QEMUs."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import libvirt
import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _libvirt, _qemu_facts
from ansible_collections.kvmops.console.tests.lab.kvmlab import AFFECTED_QEMU, FIXED_QEMU
from ansible_collections.kvmops.console.tests.lab.kvmlab.domains import spice_xml, vnc_xml

Record = dict[str, Any]


def verdicts(record: Record) -> tuple[Any, ...]:
    running, following = record["qemu"]["running"], record["qemu"]["next_start"]
    return running and running["verdict"], following["verdict"]


def test_affected_and_fixed_are_told_apart_running_and_not(hypervisor: Any, findings: Any) -> None:
    for name, emulator in (("a", AFFECTED_QEMU), ("f", FIXED_QEMU)):
        hypervisor.put(f"{name}-on", emulator=emulator, power_control="yes", running=True)
        hypervisor.put(f"{name}-off", emulator=emulator, power_control="yes")
    result = hypervisor.module("domain_info")
    records = {record["name"]: record for record in result["domains"]}
    assert list(records) == ["a-off", "a-on", "f-off", "f-on"]
    assert verdicts(records["a-on"]) == ("affected", "affected")
    assert verdicts(records["a-off"]) == (None, "affected")
    assert verdicts(records["f-on"]) == ("fixed", "fixed")
    assert verdicts(records["f-off"]) == (None, "fixed")
    assert {record["qemu"]["next_start"]["basis"] for record in records.values()} == {"probe"}
    assert records["a-off"]["qemu"]["next_start"]["version"] == "7.2.0"
    assert findings(records["a-on"])["unsolicited_pointer_change"] == "critical"
    assert findings(records["a-off"])["unsolicited_pointer_change"] == "high"
    assert "unsolicited_pointer_change" not in findings(records["f-on"])
    assert result["summary"]["affected"] == result["summary"]["fixed"] == 2
    assert result["changed"] is False


def test_power_control_off_does_not_close_the_gate_of_an_affected_qemu(hypervisor: Any, findings: Any) -> None:
    hypervisor.put("a", emulator=AFFECTED_QEMU, power_control="no", running=True)
    hypervisor.put("f", emulator=FIXED_QEMU, power_control="no", running=True)
    assert findings(hypervisor.record("a"))["ungated_power_messages"] == "high"
    assert "ungated_power_messages" not in findings(hypervisor.record("f"))


def test_a_replaced_binary_is_affected_now_and_fixed_at_the_next_start(hypervisor: Any, findings: Any) -> None:
    host = hypervisor.host
    script = (
        "mkdir -p /run/swap/bin /run/swap/lib/x86_64-linux-gnu /run/swap/share &&"
        " ln -sfn /usr/lib/x86_64-linux-gnu/qemu /run/swap/lib/x86_64-linux-gnu/qemu &&"
        " ln -sfn /opt/qemu-7.2.0/share/qemu /run/swap/share/qemu && chmod -R a+rX /run/swap &&"
        f" cp {AFFECTED_QEMU} /run/swap/bin/qemu"
    )
    host.exec("sh", "-c", script)
    hypervisor.put("guest", emulator="/run/swap/bin/qemu", power_control="yes", running=True)
    assert verdicts(hypervisor.record("guest")) == ("affected", "affected")
    assert "outdated_process" not in findings(hypervisor.record("guest"))

    host.exec("sh", "-c", f"cp {FIXED_QEMU} /run/swap/bin/new && mv /run/swap/bin/new /run/swap/bin/qemu")
    record = hypervisor.record("guest")
    assert verdicts(record) == ("affected", "fixed")
    assert record["outdated_process"] is True
    assert findings(record)["outdated_process"] == "medium"
    assert record["qemu"]["running"]["version"] == "7.2.0"
    assert record["qemu"]["running"]["path"] == record["qemu"]["next_start"]["path"] == "/run/swap/bin/qemu"

    host.exec("sh", "-c", f"cp {AFFECTED_QEMU} /run/swap/bin/new && mv /run/swap/bin/new /run/swap/bin/qemu")
    assert hypervisor.record("guest")["outdated_process"] is False, "the same content in a new file is no other QEMU"


def test_restart_pending_is_told_from_the_process(hypervisor: Any, findings: Any) -> None:
    hypervisor.put("guest", emulator=FIXED_QEMU, power_control="yes", running=True)
    assert hypervisor.record("guest")["restart_pending"] is False
    hypervisor.set("guest", state="disabled")
    record = hypervisor.record("guest")
    assert record["restart_pending"] is True
    assert record["graphics"][0]["power_control"] == {"live": "yes", "config": "no"}
    assert "restart_pending" in findings(record)
    domain = hypervisor.connection.lookupByName("guest")
    domain.destroy()
    domain.create()
    assert hypervisor.record("guest")["restart_pending"] is False


def test_every_vnc_element_is_described_without_its_password(hypervisor: Any, findings: Any) -> None:
    hypervisor.put("secret", password="geheim-7", power_control="yes", running=True)
    hypervisor.put("open", listen="0.0.0.0", tablet=False, running=True)
    hypervisor.put("socket", graphics=(vnc_xml(socket=""),), running=True)
    result = hypervisor.module("domain_info")
    assert "geheim-7" not in str(result)
    records = {record["name"]: record for record in result["domains"]}
    secret = records["secret"]["graphics"][0]
    assert (secret["password"], secret["tls"], secret["sasl"]) == (True, False, False)
    assert secret["port"] >= 5900
    assert records["secret"]["pointer_devices"][0] == "tablet:usb"
    found = findings(records["open"])
    assert found["vnc_without_authentication"] == "high"
    assert found["vnc_listens_everywhere"] == "medium"
    assert found["relative_pointer"] == "info"
    assert records["socket"]["graphics"][0]["socket"].endswith(".sock")
    assert "vnc_without_authentication" not in findings(records["socket"])


def test_domains_without_vnc_and_transient_ones_are_told_as_they_are(hypervisor: Any, findings: Any) -> None:
    hypervisor.put("none", graphics=())
    hypervisor.put("spice", emulator=FIXED_QEMU, graphics=(spice_xml(),))
    transient = hypervisor.put("transient", power_control="yes", running=True)
    transient.undefine()
    records = {record["name"]: record for record in hypervisor.module("domain_info")["domains"]}
    assert records["none"]["graphics"] == []
    assert findings(records["none"]) == {}
    assert [graphics["type"] for graphics in records["spice"]["graphics"]] == ["spice"]
    assert records["transient"]["persistent"] is False
    assert records["transient"]["graphics"][0]["power_control"] == {"live": "yes", "config": None}


def test_saved_states_that_bring_another_value_back(hypervisor: Any, findings: Any) -> None:
    domain = hypervisor.put("guest", power_control="yes", password="geheim-7", running=True)
    domain.managedSave(0)
    hypervisor.set("guest", state="disabled")
    record = hypervisor.record("guest")
    assert record["managed_save"] is True
    assert record["saved_states"] == [{"kind": "managed_save", "name": None, "power_control": ["yes"], "differs": True}]
    assert findings(record)["saved_state_differs"] == "medium"


def test_names_globs_and_uuids(hypervisor: Any) -> None:
    for name in ("web-1", "web-2", "db", "büro pc 7"):
        hypervisor.put(name)
    uuid = hypervisor.connection.lookupByName("db").UUIDString().upper()
    result = hypervisor.module("domain_info", domains=["web-*", uuid, "nobody"], exclude=["web-2"])
    assert [record["name"] for record in result["domains"]] == ["db", "web-1"]
    assert result["unmatched"] == ["nobody"]
    assert "nobody" in str(result["warnings"])
    assert hypervisor.record("büro pc 7")["state"] == "shutoff"


def test_asking_the_live_server_disturbs_nobody(hypervisor: Any) -> None:
    """The other way to a verdict: of a server with a password, while a viewer is connected."""
    for name, emulator, expected in (("a", AFFECTED_QEMU, "affected"), ("f", FIXED_QEMU, "fixed")):
        domain = hypervisor.put(name, emulator=emulator, power_control="yes", password="geheim-7", running=True)
        viewer = socket.socket(fileno=domain.openGraphicsFD(0, libvirt.VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH))
        with viewer:
            viewer.settimeout(10)
            assert viewer.recv(12) == b"RFB 003.008\n"
            with _libvirt.connect(hypervisor.uri) as connection:
                listed = next(one for one in connection.domains() if one.name == name)
                verdict = _qemu_facts.ask_descriptor(_libvirt.graphics_socket(listed, 0), power_control=True)
            assert (verdict.verdict, verdict.basis) == (expected, "probe")
            viewer.sendall(b"RFB 003.008\n")
            assert viewer.recv(1) == b"\x01", "the viewer goes on: one security type is offered"
        assert domain.isActive() == 1
        assert domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
        log = hypervisor.host.exec("cat", f"/var/log/libvirt/qemu/{name}.log").stdout
        assert "custom-monitor" not in log


@pytest.fixture
def unprobeable(hypervisor: Any) -> Any:
    """A running guest whose QEMU cannot be started again: its file is gone, and the modules that it is made of."""
    hypervisor.host.exec(
        "sh",
        "-c",
        "mkdir -p /run/lone/bin /run/lone/lib/x86_64-linux-gnu /run/lone/share &&"
        " ln -sfn /usr/lib/x86_64-linux-gnu/qemu /run/lone/lib/x86_64-linux-gnu/qemu &&"
        " ln -sfn /usr/share/qemu /run/lone/share/qemu && ln -sfn /usr/share/seabios /run/lone/share/seabios &&"
        f" cp {FIXED_QEMU} /run/lone/bin/qemu && chmod -R a+rX /run/lone",
    )
    domain = hypervisor.put("guest", emulator="/run/lone/bin/qemu", power_control="yes", running=True)
    hypervisor.host.exec("rm", "-r", "/run/lone")
    return domain


@pytest.fixture
def stop(hypervisor: Any) -> Iterator[Callable[[str], None]]:
    """Hang the QEMU of a guest, until the test is over."""
    stopped = []

    def stop(name: str) -> None:
        stopped.append(hypervisor.host.exec("cat", f"/run/libvirt/qemu/{name}.pid").stdout.strip())
        hypervisor.host.exec("kill", "-STOP", stopped[-1])

    yield stop
    for pid in stopped:
        hypervisor.host.exec("kill", "-CONT", pid)


def test_a_running_domain_is_judged_by_its_server_where_its_image_cannot_be_probed(
    hypervisor: Any, unprobeable: Any
) -> None:
    record = hypervisor.record("guest")
    assert record["qemu"]["running"]["verdict"] == "fixed"
    assert record["qemu"]["running"]["basis"] == "probe"
    assert "running VNC server" in record["qemu"]["running"]["evidence"]
    assert record["qemu"]["next_start"]["verdict"] == "unknown"


def test_a_hung_guest_that_can_only_be_asked_itself_is_judged_by_its_version(
    hypervisor: Any, unprobeable: Any, stop: Callable[[str], None]
) -> None:
    stop("guest")
    running = hypervisor.record("guest")["qemu"]["running"]
    version = hypervisor.host.exec(FIXED_QEMU, "--version").stdout.split()[3]
    told = (running["verdict"], running["basis"], running["version"])
    assert told == ("fixed", "version", version), running["evidence"]


def test_a_hung_guest_does_not_hang_the_audit(hypervisor: Any, stop: Callable[[str], None]) -> None:
    domain = hypervisor.put("hung", power_control="yes", running=True)
    stop("hung")
    assert verdicts(hypervisor.record("hung")) == ("affected", "affected")
    assert domain.isActive() == 1


def test_the_audit_of_a_stopped_libvirt_says_what_is_wrong(hypervisor: Any) -> None:
    hypervisor.host.libvirtd("stop")
    try:
        result = hypervisor.module("domain_info")
    finally:
        hypervisor.host.libvirtd("start")
    assert result["failed"] is True
    assert result["msg"].startswith("Connecting to libvirt at qemu:///system failed: ")


def test_two_audits_at_once_agree(hypervisor: Any) -> None:
    hypervisor.put("a", emulator=AFFECTED_QEMU)
    hypervisor.put("f", emulator=FIXED_QEMU)
    hypervisor.host.exec("rm", "-rf", "/var/lib/kvmops-console/probes")
    results: list[Record] = []
    threads = [
        threading.Thread(target=lambda: results.append(hypervisor.module("domain_info")["summary"]))
        for _turn in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results[0] == results[1]
    assert (results[0]["affected"], results[0]["fixed"]) == (1, 1)
