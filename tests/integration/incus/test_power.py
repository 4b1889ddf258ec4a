# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""incus_power against a real Incus with real virtual machines, whose guest does not listen to the power button."""

from __future__ import annotations

import json
import os
import select
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmops.console.tests.lab.incus.incuslab import Incus, Vm
from ansible_collections.kvmops.console.tests.lab.kvmlab.build import build
from ansible_collections.kvmops.console.tests.lab.kvmlab.machine import cache

RUN_MODULE = Path(__file__).resolve().parents[1] / "run_module.py"
Result = dict[str, Any]
PROJECT = "power"
"""Of our own, since other tests list the other projects."""
BRIEFLY = [{"method": "acpi", "timeout": 1}]


def power(
    incus: Incus, state: str, *instances: str, check: bool = False, diff: bool = False, **arguments: Any
) -> Result:
    """What incus_power returns; by the unix socket, when nothing else is said."""
    way = {} if {"url", "socket_path"}.intersection(arguments) else {"socket_path": incus.socket}
    done = subprocess.run(
        [sys.executable, "-B", os.fspath(RUN_MODULE), "incus_power", str(int(check)), str(int(diff))],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        input=json.dumps({"state": state, "instances": instances, "projects": [PROJECT], **way, **arguments}),
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert not done.stderr
    return dict(json.loads(done.stdout))


def only(result: Result) -> Result:
    (record,) = result["instances"]
    assert result.get("failed", False) == ("error" in record), result
    return dict(record)


def tried(record: Result) -> list[tuple[str, str]]:
    return [(step["method"], step["outcome"]) for step in record["steps"]]


def process_of(vm: Vm) -> Any:
    return vm.incus.get(f"/1.0/instances/{vm.name}/state?project={PROJECT}")["pid"]


@pytest.fixture(scope="module")
def incus(running: Incus) -> Incus:
    running.project(PROJECT)
    return running


@pytest.fixture(scope="module")
def made(incus: Incus) -> Vm:
    return incus.vm("switched", "SWITCHED", project=PROJECT)


@pytest.fixture
def vm(made: Vm) -> Vm:
    """A machine that runs."""
    vm = made
    if vm.state() == "Frozen":
        vm.unfreeze()
    if vm.state() == "Stopped":
        vm.start()
    assert vm.state() == "Running"
    return vm


def test_guest_that_listens_goes_off(incus: Incus) -> None:
    """The lab's Linux, in a machine of Incus."""
    build()
    vm = incus.vm("listens", project=PROJECT, start=False)
    kernel = f"-kernel {cache()}/guest/vmlinuz -initrd {cache()}/guest/initrd.gz -append 'console=ttyS0 nokaslr quiet'"
    config = {"raw.qemu": f"-machine accel=tcg -cpu qemu64 {kernel}", "limits.memory": "256MiB"}
    incus.do("PATCH", f"/1.0/instances/{vm.name}?project={PROJECT}", {"config": config})
    vm.start()
    vm.wait_for_text("LAB GUEST READY")
    record = only(power(incus, "stopped", vm.name))
    assert (record["after"], record["changed"], tried(record)) == ("off", True, [("acpi", "done")])
    assert vm.state() == "Stopped"


def test_guest_that_does_not_listen_is_never_forced_when_that_is_forbidden(vm: Vm) -> None:
    before = process_of(vm)
    record = only(power(vm.incus, "stopped", vm.name, methods=BRIEFLY))
    assert tried(record) == [("acpi", "timed_out")]
    assert record["error"].startswith("it is on (acpi: it had no effect in time")
    assert (vm.state(), process_of(vm)) == ("Running", before)


def test_is_forced_after_it_was_asked_and_started_again(vm: Vm) -> None:
    told = power(vm.incus, "stopped", vm.name, check=True, diff=True)
    header = {"before_header": vm.name, "after_header": vm.name}
    assert told["diff"] == [{**header, "before": "on\n", "after": "off\n"}]
    foreseen = only(told)
    assert (foreseen["changed"], foreseen["after"], vm.state()) == (True, "off", "Running")
    record = only(power(vm.incus, "stopped", vm.name, methods=BRIEFLY, force="after_methods"))
    assert tried(record) == [("acpi", "timed_out"), ("force", "done")]
    assert (record["before"], record["after"], record["ended_by"]) == ("on", "off", "force")
    assert vm.state() == "Stopped"
    again = only(power(vm.incus, "stopped", vm.name))
    assert (again["changed"], again["steps"]) == (False, [])
    for state in ("paused", "resumed", "power_cycled"):
        assert only(power(vm.incus, state, vm.name))["skipped"].startswith("it is off"), state
    record = only(power(vm.incus, "started", vm.name))
    assert (record["before"], record["after"], tried(record)) == ("off", "on", [("start", "done")])
    assert vm.state() == "Running"
    assert only(power(vm.incus, "started", vm.name))["changed"] is False


def test_power_cycle_ends_the_process(vm: Vm) -> None:
    before = process_of(vm)
    record = only(power(vm.incus, "power_cycled", vm.name, force="at_once"))
    assert tried(record) == [("force", "done"), ("start", "done")]
    assert (record["changed"], record["before"], record["after"]) == (True, "on", "on")
    assert process_of(vm) not in (0, before)


def test_pause_and_resume(vm: Vm) -> None:
    record = only(power(vm.incus, "paused", vm.name))
    assert (record["changed"], record["after"], vm.state()) == (True, "paused", "Frozen")
    assert only(power(vm.incus, "paused", vm.name))["changed"] is False
    deaf = only(power(vm.incus, "stopped", vm.name))
    assert deaf["error"].startswith("it is paused, so its guest hears nothing")
    record = only(power(vm.incus, "resumed", vm.name))
    assert (record["changed"], record["after"], vm.state()) == (True, "on", "Running")


def test_guest_that_is_paused_can_be_forced(vm: Vm) -> None:
    vm.freeze()
    record = only(power(vm.incus, "stopped", vm.name, force="after_methods"))
    assert tried(record) == [("acpi", "unusable"), ("force", "done")]
    assert vm.state() == "Stopped"


def test_force_while_somebody_elses_request_goes_on(vm: Vm) -> None:
    path = f"/1.0/instances/{vm.name}/state?project={PROJECT}"
    vm.incus.call("PUT", path, {"action": "stop", "timeout": 3})
    record = only(power(vm.incus, "stopped", vm.name, force="at_once"))
    assert (record["after"], vm.state()) == ("off", "Stopped")


class Cutting(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Stands before Incus's socket. Breaks off the first connection on which an operation is waited for."""

    daemon_threads = True
    target = ""
    cuts = 1


class Forward(socketserver.BaseRequestHandler):
    server: Cutting

    def handle(self) -> None:
        with socket.socket(socket.AF_UNIX) as incus:
            incus.connect(self.server.target)
            while True:
                for source in select.select([self.request, incus], [], [])[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    if b"/wait?" in data and self.server.cuts:
                        self.server.cuts -= 1
                        return
                    (incus if source is self.request else self.request).sendall(data)


@pytest.fixture
def cutting(incus: Incus) -> Iterator[str]:
    """The path of a socket that leads to Incus with an interruption."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder, Cutting(f"{folder}/s", Forward) as server:
        server.target = incus.socket
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"{folder}/s"
        finally:
            server.shutdown()
            thread.join()
            assert not server.cuts


@pytest.mark.parametrize("force", ["never", "after_methods"])
def test_connection_that_breaks_during_the_wait(vm: Vm, cutting: str, force: str) -> None:
    record = only(power(vm.incus, "stopped", vm.name, socket_path=cutting, methods=BRIEFLY, force=force))
    forced = force == "after_methods"
    assert tried(record) == [("acpi", "timed_out"), *([("force", "done")] if forced else [])]
    assert vm.state() == ("Stopped" if forced else "Running")


def test_many_at_once_and_containers_and_globs(incus: Incus) -> None:
    for number in range(3):
        incus.vm(f"fleet-{number}", f"FLEET {number}", project=PROJECT)
    result = power(
        *(incus, "stopped", "fleet-*", "box"),
        projects=["pow*", "default"],
        exclude=["fleet-2"],
        methods=BRIEFLY,
        force="after_methods",
    )
    assert "failed" not in result, result
    told = [(one["project"], one["name"], one["after"], one.get("skipped")) for one in result["instances"]]
    assert told == [
        ("default", "box", "unknown", "it is a container, and not a virtual machine"),
        (PROJECT, "fleet-0", "off", None),
        (PROJECT, "fleet-1", "off", None),
    ]
    assert result["summary"] == {"instances": 3, "changed": 2, "skipped": 1, "errors": 0}
    assert Vm(incus, "fleet-2", PROJECT).state() == "Running"


def test_over_https_with_a_restricted_certificate(incus: Incus, url: str, restricted: Any) -> None:
    way = {
        "url": url,
        "client_cert": restricted.cert,
        "client_key": restricted.key,
        "server_cert": str(incus.folder / "server.crt"),
    }
    record = only(power(incus, "paused", "web", projects=["*"], **way))
    assert (record["project"], record["after"]) == ("blog", "paused")
    assert only(power(incus, "resumed", "web", projects=["*"], **way))["after"] == "on"
    assert Vm(incus, "web", "default").state() == "Running"


def test_ephemeral_machine_is_kept(incus: Incus) -> None:
    vm = incus.vm("fleeting", "FLEETING", project=PROJECT)
    path = f"/1.0/instances/fleeting?project={PROJECT}"
    incus.do("PUT", path, {**incus.get(path), "ephemeral": True})
    record = only(power(incus, "stopped", "fleeting", force="at_once"))
    assert "is ephemeral, so Incus deletes it" in record["error"]
    assert vm.state() == "Running"
    record = only(power(incus, "stopped", "fleeting", force="at_once", allow_vanish=True))
    assert (record["changed"], record["after"]) == (True, "off")
    assert incus.get(f"/1.0/instances?project={PROJECT}&filter=name+eq+fleeting") == []


def test_what_incus_cannot_do_is_told(vm: Vm) -> None:
    before = process_of(vm)
    for state in ("rebooted", "reset", "nmi_sent", "pending_applied"):
        result = power(vm.incus, state, vm.name, force="at_once")
        assert result["failed"], state
        assert result["msg"].startswith(state)
    assert (vm.state(), process_of(vm)) == ("Running", before)


def instance(vm: Vm) -> Result:
    return dict(vm.incus.get(f"/1.0/instances/{vm.name}?project={PROJECT}"))


def test_memory_is_saved_where_incus_can(vm: Vm) -> None:
    """With QEMU 7.2 it cannot at all, so only the refusal is seen here."""
    before = process_of(vm)
    record = only(power(vm.incus, "saved", vm.name))
    assert "Stateful stop requires migration.stateful" in record["error"]
    assert (tried(record), record["after"], process_of(vm)) == ([("save", "refused")], "on", before)


def test_saved_memory_is_not_thrown_away(vm: Vm) -> None:
    """Incus would, at a start that does not say what is to become of it."""
    vm.stop()
    query = f"UPDATE instances SET stateful=1 WHERE name='{vm.name}'"
    vm.incus.do("POST", "/internal/sql", {"database": "global", "query": query})
    assert instance(vm)["stateful"] is True
    assert only(power(vm.incus, "saved", vm.name))["changed"] is False
    record = only(power(vm.incus, "started", vm.name))
    assert "Stateful start requires migration.stateful" in record["error"]
    assert (instance(vm)["stateful"], vm.state()) == (True, "Stopped")
    vm.start()
    assert instance(vm)["stateful"] is False
