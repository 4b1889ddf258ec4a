# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""domain_screenshot on real guests."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import libvirt
import pytest
from PIL import Image

from ansible_collections.kvmops.console.tests.lab.kvmlab import FIXED_QEMU
from ansible_collections.kvmops.console.tests.lab.kvmlab.domains import spice_xml

Record = dict[str, Any]


def shoot(hypervisor: Any, **arguments: Any) -> Record:
    """The result of the module."""
    return dict(hypervisor.module("domain_screenshot", **arguments))


def only(result: Record) -> Record:
    (record,) = result["domains"]
    return dict(record)


def picture(hypervisor: Any, record: Record) -> Image.Image:
    data = (hypervisor.host.root / record["screens"][0]["path"].lstrip("/")).read_bytes()
    return Image.open(io.BytesIO(data)).convert("RGB")


@pytest.fixture
def text_guest(hypervisor: Any) -> str:
    """A guest whose firmware has said that there is nothing to boot."""
    hypervisor.put("guest", power_control="yes", password="geheim-7", running=True)
    result = shoot(hypervisor, wait_for={"text": "No bootable device", "timeout": 60})
    assert "failed" not in result, result
    return "guest"


@pytest.mark.parametrize("capture", ["vnc", "screendump"])
def test_both_ways_show_the_same_screen(hypervisor: Any, text_guest: str, capture: str) -> None:
    record = only(shoot(hypervisor, capture=capture, text=True))
    (screen,) = record["screens"]
    assert screen["capture"] == capture
    assert (screen["width"], screen["height"]) == (720, 400)
    assert "No bootable device." in screen["text"]
    assert "SeaBIOS" in screen["text"]
    assert screen["text_confidence"] > 0.99
    assert picture(hypervisor, record).size == (720, 400)


def test_auto_reads_over_vnc_and_taints_nothing(hypervisor: Any, text_guest: str) -> None:
    assert only(shoot(hypervisor))["screens"][0]["capture"] == "vnc"
    assert "custom-monitor" not in hypervisor.host.exec("cat", "/var/log/libvirt/qemu/guest.log").stdout


def test_without_vnc_libvirt_takes_the_picture(hypervisor: Any) -> None:
    hypervisor.put("spice", emulator=FIXED_QEMU, graphics=(spice_xml(),), running=True)
    assert only(shoot(hypervisor))["screens"][0]["capture"] == "screendump"
    refused = only(shoot(hypervisor, capture="vnc"))
    assert refused["error"].endswith("use capture screendump.")


def test_qxl_shows_what_it_shows_now(hypervisor: Any) -> None:
    """A real QXL device, without SPICE. Debian's QEMU has it; where QEMU has none, libvirt would refuse the domain."""
    hypervisor.put("qxl", emulator=FIXED_QEMU, video="qxl", running=True)
    assert "failed" not in shoot(hypervisor, wait_for={"text": "No bootable device", "timeout": 60})
    shown = {
        capture: only(shoot(hypervisor, capture=capture, text=True))["screens"][0] for capture in ("vnc", "screendump")
    }
    assert [screen["capture"] for screen in shown.values()] == list(shown)
    assert {screen["text"] for screen in shown.values()} == {shown["vnc"]["text"]}
    assert "No bootable device." in shown["vnc"]["text"]


def test_what_has_no_screen_is_told(hypervisor: Any) -> None:
    hypervisor.put("a-off")
    hypervisor.put("b-none", graphics=(), video=None, running=True)
    hypervisor.put("c-on", running=True)
    result = shoot(hypervisor, head="3")
    off, none, on = result["domains"]
    assert off["skipped"] == "it is off"
    assert none["error"] == "b-none: it has no video device, so there is no screen."
    assert on["error"] == "c-on: it has no head 3: its heads are 0 to 0."
    assert result["failed"] is True
    assert result["summary"] == {"domains": 3, "screens": 0, "skipped": 1, "errors": 2}


def test_one_capture_is_shared_by_all_who_ask(hypervisor: Any, text_guest: str) -> None:
    first = only(shoot(hypervisor))["screens"][0]
    results: list[Record] = []
    threads = [
        threading.Thread(target=lambda: results.append(only(shoot(hypervisor, max_age=600))["screens"][0]))
        for _turn in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result["cached"] for result in results] == [True] * 6
    assert {result["sha256"] for result in results} == {first["sha256"]}
    assert {result["captured_at"] for result in results} == {first["captured_at"]}


def test_a_hung_guest_does_not_delay_the_others(hypervisor: Any, stop: Callable[[str], None], text_guest: str) -> None:
    hypervisor.put("a-hung", running=True)
    stop("a-hung")
    result = shoot(hypervisor, timeout=5)
    hung, guest = result["domains"]
    assert "a-hung" in hung["error"]
    assert [screen["width"] for screen in guest["screens"]] == [720]
    assert "error" not in guest


@pytest.fixture
def stop(hypervisor: Any) -> Iterator[Callable[[str], None]]:
    stopped: list[str] = []

    def stop(name: str) -> None:
        stopped.append(hypervisor.host.exec("cat", f"/run/libvirt/qemu/{name}.pid").stdout.strip())
        hypervisor.host.exec("kill", "-STOP", stopped[-1])

    yield stop
    for pid in stopped:
        hypervisor.host.exec("kill", "-CONT", pid)


def test_a_wait_that_fails_returns_the_last_picture(hypervisor: Any, text_guest: str) -> None:
    result = shoot(hypervisor, wait_for={"text": "login:", "timeout": 1})
    record = only(result)
    assert record["error"] == "The screen of guest did not show a text that matches 'login:' within 1 s."
    assert "No bootable device" in record["screens"][0]["text"]
    assert picture(hypervisor, record).size == (720, 400)


def test_a_picture_to_wait_for(hypervisor: Any, text_guest: str) -> None:
    first = only(shoot(hypervisor, dest="/srv/pictures"))["screens"][0]
    assert first["path"] == "/srv/pictures/guest.png"
    alike = shoot(hypervisor, wait_for={"image": "/srv/pictures/guest.png", "timeout": 20})
    assert "failed" not in alike, alike
    missing = shoot(hypervisor, wait_for={"image": "/srv/nowhere.png"})
    assert missing["msg"] == "The picture /srv/nowhere.png cannot be read: wait_for.image is a path on the host."


def test_a_screen_that_stands_still_and_one_that_changes(hypervisor: Any, text_guest: str) -> None:
    domain = hypervisor.connection.lookupByName("guest")
    domain.suspend()
    still = only(shoot(hypervisor, wait_for={"still": 1, "timeout": 30}))["screens"][0]
    assert still["unchanged_for"] >= 1
    assert only(shoot(hypervisor))["screens"][0]["changed_since_last"] is False
    waiting = hypervisor.start_module("domain_screenshot", {"wait_for": {"changed": True, "timeout": 60}})
    domain.resume()
    domain.reset(0)
    changed = only(waiting.result())["screens"][0]
    assert changed["changed_since_last"] is True


def test_the_owner_may_forbid_pictures_and_mask_a_part(hypervisor: Any, text_guest: str) -> None:
    domain = hypervisor.connection.lookupByName("guest")

    def remember(inner: str) -> None:
        uri = "https://kvmops.github.io/console/1"
        ours = f"<console>{inner}</console>"
        domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, ours, "kvmops", uri, libvirt.VIR_DOMAIN_AFFECT_LIVE)

    remember("<mask x='0' y='0' width='720' height='200'/>")
    masked = picture(hypervisor, only(shoot(hypervisor)))
    assert len(set(masked.crop((0, 0, 720, 200)).getdata())) == 1
    remember("<mask x='0' y='zero' width='720' height='200'/>")
    assert only(shoot(hypervisor))["skipped"] == "its owner lets nobody see its screen"
    remember("<screens capture='no'/>")
    assert only(shoot(hypervisor))["skipped"] == "its owner lets nobody see its screen"


def test_a_full_disk_leaves_no_half_picture(hypervisor: Any, text_guest: str) -> None:
    hypervisor.host.exec(
        "sh",
        "-c",
        "mkdir -p /srv/small && mount -t tmpfs -o size=16k,mode=0700 none /srv/small && dd if=/dev/zero"
        " of=/srv/small/fill bs=4k count=4 2>/dev/null",
    )
    try:
        record = only(shoot(hypervisor, dest="/srv/small"))
        assert "/srv/small/guest.png cannot be written: No space left on device" in record["error"]
        assert hypervisor.host.exec("ls", "-A", "/srv/small").stdout.split() == ["fill"]
    finally:
        hypervisor.host.exec("umount", "/srv/small")


CERTIFICATES = """
mkdir -p /srv/vnc; cd /srv/vnc
new() { openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "$@"; }
new -x509 -subj /CN=authority -keyout ca-key.pem -out ca-cert.pem
new -subj /CN=lab -keyout server-key.pem -out request.pem
openssl x509 -req -in request.pem -CA ca-cert.pem -CAkey ca-key.pem -CAcreateserial -out server-cert.pem
chmod -R a+rX .
"""


@pytest.fixture
def secured(hypervisor: Any) -> Iterator[None]:
    """A host with two guests, tls and sasl: nobody reads their VNC without the one or the other."""
    hypervisor.host.exec("sh", "-ec", CERTIFICATES)
    conf = hypervisor.host.root / "etc/libvirt/qemu.conf"
    plain = conf.read_text()

    def begin_anew(settings: str) -> None:
        conf.write_text(f"{plain}{settings}\n")
        hypervisor.host.libvirtd("restart")
        hypervisor.reconnect()

    try:
        for name, settings in (("tls", 'vnc_tls = 1\nvnc_tls_x509_cert_dir = "/srv/vnc"'), ("sasl", "vnc_sasl = 1")):
            begin_anew(settings)
            hypervisor.put(name, emulator=FIXED_QEMU, running=True)
        yield
    finally:
        # For a moment, a new libvirtd takes those that run for being off.
        hypervisor.clear()
        begin_anew("")


OFFERED = """
import socket, sys
server = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 60)
server.sendall(server.recv(12, socket.MSG_WAITALL))
print(*server.recv(server.recv(1)[0], socket.MSG_WAITALL))
"""
"""The security types that a VNC server offers (RFC 6143, 7.1.2)."""


def test_vnc_that_wants_tls_or_sasl_is_read_all_the_same(hypervisor: Any, secured: None) -> None:
    for name, security in (("tls", "19"), ("sasl", "20")):
        port = str(5900 + int(hypervisor.host.virsh("vncdisplay", name).strip().rpartition(":")[2]))
        assert hypervisor.host.exec("/usr/bin/python3", "-c", OFFERED, port).stdout.split() == [security]
    result = shoot(hypervisor, capture="vnc", wait_for={"text": "No bootable device", "timeout": 60})
    assert "failed" not in result, result
    assert [record["screens"][0]["width"] for record in result["domains"]] == [720, 720]


def ansible(hypervisor: Any, folder: Path, program: Sequence[str], **arguments: Any) -> subprocess.Popen[str]:
    """The module over SSH, as people run it; `program` is ansible."""
    (folder / "inventory.yml").write_text(hypervisor.host.inventory())
    words = [*program, "-i", str(folder / "inventory.yml"), "all", "-m", "kvmops.console.domain_screenshot"]
    words += ["-a", json.dumps({"fetch_to": str(folder / "home"), **arguments})]
    environment = {**os.environ, "ANSIBLE_HOME": str(folder / "ansible")}
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_pictures_come_home_in_one_transfer(hypervisor: Any, text_guest: str, tmp_path: Path) -> None:
    """The pictures are files, and in no result."""
    hypervisor.put("..|etc|passwd", running=True)
    program = str(Path(sys.executable).with_name("ansible"))

    def shown(*more: str) -> str:
        with ansible(hypervisor, tmp_path, [program, *more]) as running:
            said, _nothing = running.communicate(timeout=120)
        assert running.returncode == 0, said
        return said

    assert '"changed": true' in shown("--check")
    assert not (tmp_path / "home").exists()
    assert "iVBORw0KGgo" not in shown(), "no picture is in the result"
    names = sorted(path.name for path in (tmp_path / "home" / "it-domains").iterdir())
    assert names == ["_etc_passwd-92dff380.png", "guest.png"]
    with Image.open(tmp_path / "home/it-domains/guest.png") as picture:
        assert picture.size == (720, 400)


IMPATIENT = """
import sys
from ansible.cli.adhoc import AdHocCLI
from ansible.plugins.loader import init_plugin_loader
init_plugin_loader()
from ansible_collections.kvmops.console.plugins.plugin_utils import _fetch_pictures
_fetch_pictures.PAUSE = 0.2
AdHocCLI.cli_executor(sys.argv)
"""
"""The program ansible, with more frequent words of progress."""


def test_a_long_run_tells_how_far_it_is(hypervisor: Any, text_guest: str, tmp_path: Path) -> None:
    """What is waited for happens when progress was told: seen over another connection by SSH than the module's."""
    hypervisor.put("off")
    guest = hypervisor.connection.lookupByName("guest")
    guest.suspend()  # its cursor blinks
    wait = {"changed": True, "timeout": 100}
    told = "it-domains: waiting for the screens to change, 1 of 2 done, "
    with ansible(hypervisor, tmp_path, [sys.executable, "-c", IMPATIENT], wait_for=wait) as running:
        assert running.stdout is not None
        said = ""
        for line in running.stdout:
            said += line
            if line.startswith(told):
                break
        guest.resume()
        guest.reset(0)
        said += running.communicate(timeout=120)[0]
    assert told in said
    assert running.returncode == 0, said
    assert (tmp_path / "home/it-domains/guest.png").exists()
