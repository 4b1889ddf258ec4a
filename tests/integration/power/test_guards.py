# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What keeps domain_power from touching a domain: viewers, locks, mistaken identity. And the pictures it takes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lxml import etree

from ansible_collections.kvmops.console.plugins.module_utils._domain_xml import NAMESPACE
from ansible_collections.kvmops.console.tests.lab.kvmlab.domains import domain_uuid, vnc_xml

STOP = {"state": "stopped", "force": "at_once"}


def door(guests: Any, name: str) -> str:
    """The port or the socket of its VNC server."""
    found = etree.fromstring(guests.host.virsh("dumpxml", name)).find("devices/graphics")
    assert found is not None
    return str(found.get("socket") or found.get("port"))


def test_viewer_is_not_thrown_out(guests: Any, leave: Any) -> None:
    guests.deaf("viewed")
    guests.deaf("alone")
    viewer = guests.look(door(guests, "viewed"))
    try:
        result = guests.power("viewed", "alone", if_viewers="refuse", **STOP)
        records = {record["name"]: record for record in result["domains"]}
        assert "somebody looks at its console: from 127.0.0.1 port " in records["viewed"]["error"]
        assert records["viewed"]["changed"] is False
        assert records["alone"]["after"] == "off"
        assert guests.state("viewed") == "running"
        waited = guests.one("viewed", if_viewers="wait", viewers_timeout=1, **STOP)
        assert "somebody looks at its console" in waited["error"]
        assert "taint" not in guests.host.virsh("dominfo", "viewed")
        assert "custom-monitor" not in (guests.host.root / "run/libvirt/qemu/viewed.xml").read_text()
    finally:
        leave(viewer)
    assert guests.one("viewed", if_viewers="refuse", **STOP)["after"] == "off"


def test_viewer_is_waited_for(guests: Any, leave: Any) -> None:
    guests.deaf("viewed", graphics=(vnc_xml(socket=""),))
    path = door(guests, "viewed")
    viewer = guests.look(path)
    module = guests.hypervisor.start_module(
        "domain_power", {"domains": ["viewed"], "if_viewers": "wait", "viewers_timeout": 100, **STOP}
    )
    assert guests.one("viewed", if_viewers="refuse", **STOP)["error"].endswith(f"through {path}.")
    assert module.process.poll() is None, "it waits"
    leave(viewer)
    (record,) = module.result()["domains"]
    assert (record["changed"], record["after"]) == (True, "off")


def test_viewer_through_libvirt_is_one(guests: Any) -> None:
    """The proxy's way: a descriptor, and no address at all."""
    domain = guests.deaf("viewed")
    command = guests.host.command(
        "/usr/bin/python3",
        "-c",
        "import libvirt, sys; d = libvirt.open('qemu:///system').lookupByName('viewed');"
        " fd = d.openGraphicsFD(0, 1); print('looking', flush=True); sys.stdin.read()",
    )
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as viewer:
        assert viewer.stdout is not None
        assert viewer.stdout.readline() == "looking\n"
        record = guests.one("viewed", if_viewers="refuse", **STOP)
        assert "through a connection that libvirt handed out" in record["error"]
        viewer.communicate(timeout=60)
    assert guests.one("viewed", if_viewers="refuse", **STOP)["after"] == "off"
    assert not domain.isActive()


@pytest.fixture
def spice_tls(guests: Any) -> Iterator[None]:
    """A host whose SPICE speaks TLS."""
    conf = guests.host.root / "etc/libvirt/qemu.conf"
    plain = conf.read_text()
    guests.host.exec(
        "sh",
        "-c",
        "mkdir -p /srv/spice && cd /srv/spice && openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=lab -days 1"
        " -keyout server-key.pem -out server-cert.pem && cp server-cert.pem ca-cert.pem && chmod -R a+rX .",
    )
    conf.write_text(f'{plain}spice_tls = 1\nspice_tls_x509_cert_dir = "/srv/spice"\n')
    guests.host.libvirtd("restart")
    guests.hypervisor.reconnect()
    yield
    conf.write_text(plain)
    guests.host.libvirtd("restart")


def test_viewer_through_spice_with_tls(guests: Any, spice_tls: None) -> None:
    graphics = '<graphics type="spice" autoport="yes" defaultMode="secure"><listen type="address"/></graphics>'
    guests.deaf("viewed", graphics=(graphics,))
    found = etree.fromstring(guests.host.virsh("dumpxml", "viewed")).find("devices/graphics")
    assert found is not None
    assert found.get("port") in (None, "-1"), "TLS only"
    client = ["openssl", "s_client", "-connect", f"127.0.0.1:{found.get('tlsPort')}"]
    with subprocess.Popen(guests.host.command(*client), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as viewer:
        assert viewer.stdout is not None
        assert any(b"BEGIN CERTIFICATE" in line for line in viewer.stdout), "QEMU speaks TLS"
        record = guests.one("viewed", if_viewers="refuse", **STOP)
        assert "somebody looks at its console: from 127.0.0.1 port " in record["error"]
        viewer.communicate(timeout=60)
    record = guests.one("viewed", if_viewers="wait", viewers_timeout=100, **STOP)
    assert record["after"] == "off", record


def test_lock_of_the_owner_holds(guests: Any) -> None:
    guests.hypervisor.put("locked")
    lock = f'<k:console xmlns:k="{NAMESPACE}"><k:lock reason="data moves" by="ann"/></k:console>'
    xml = guests.hypervisor.definition("locked").replace("</uuid>", f"</uuid><metadata>{lock}</metadata>")
    guests.hypervisor.connection.defineXML(xml)
    for check in (True, False):
        (record,) = guests.power("locked", state="started", check=check)["domains"]
        assert record["error"] == "it is locked by ann: data moves (if_locked proceed passes over that)."
        assert record["changed"] is False
    assert guests.one("locked", state="stopped").get("error") is None, "nothing to do"
    assert guests.one("locked", state="started", if_locked="proceed")["after"] == "on"
    assert "locked by ann" in guests.one("locked", **STOP)["error"]


def test_mistaken_identity(guests: Any) -> None:
    guests.hypervisor.put("db")
    xml = guests.hypervisor.definition("db").replace("</uuid>", "</uuid><title>The shop</title>")
    guests.hypervisor.connection.defineXML(xml)
    wrong = guests.one("db", state="started", confirm_identity={"db": "The other shop"})
    assert "it is not the domain that was meant" in wrong["error"]
    assert "'The shop'" in wrong["error"]
    missing = guests.one("db", state="started", confirm_identity={"web": "The shop"})
    assert "does not name it" in missing["error"]
    assert guests.state("db") == "shut off"
    assert guests.one("db", state="started", confirm_identity={"db": "The shop"})["after"] == "on"
    uuid = domain_uuid("db").upper()
    assert guests.one("db", confirm_identity={"db": uuid}, **STOP)["after"] == "off"


def test_pictures_before_and_after(guests: Any) -> None:
    guests.deaf("seen")
    guests.deaf("shy")
    private = f'<k:console xmlns:k="{NAMESPACE}"><k:screens capture="no"/></k:console>'
    guests.host.virsh("metadata", "shy", NAMESPACE, "--live", "--config", "--key", "k", "--set", _inner(private))
    result = guests.power("seen", "shy", state="reset", evidence=True, evidence_dir="/srv/evidence")
    seen, shy = result["domains"]
    for when in ("before", "after"):
        path = Path(seen["evidence"][when]["path"])
        assert (path.parent.parent, path.name) == (Path("/srv/evidence"), "seen.png")
        assert (guests.host.root / str(path)[1:]).read_bytes().startswith(b"\x89PNG")
        assert shy["evidence"][when] == {"skipped": "its owner lets nobody see its screen"}
    assert seen["evidence"]["before"]["path"] != seen["evidence"]["after"]["path"]
    stopped = guests.one("seen", evidence=True, evidence_dir="/srv/evidence", evidence_runs=1, **STOP)
    assert stopped["evidence"]["after"] == {"skipped": "it is off"}
    (kept,) = (guests.host.root / "srv/evidence").iterdir()
    assert str(kept).endswith(str(Path(stopped["evidence"]["before"]["path"]).parent)), "one run's, and no older ones"


def test_frozen_machine_is_forced_though_it_gives_no_picture(guests: Any) -> None:
    guests.deaf("frozen")
    guests.signal("frozen", "STOP")
    record = guests.one("frozen", evidence=True, evidence_dir="/srv/evidence", **STOP)
    assert (record["changed"], record["after"]) == (True, "off")
    assert "took longer than" in record["evidence"]["before"]["error"]


def test_guest_that_goes_off_while_its_viewer_is_waited_for(guests: Any, leave: Any) -> None:
    guests.deaf("viewed")
    viewer = guests.look(door(guests, "viewed"))
    module = guests.hypervisor.start_module(
        "domain_power", {"domains": ["viewed"], "if_viewers": "wait", "viewers_timeout": 100, **STOP}
    )
    assert "looks" in guests.one("viewed", if_viewers="refuse", **STOP)["error"]
    guests.signal("viewed", "KILL")
    (record,) = module.result()["domains"]
    assert (record.get("error"), record["after"]) == (None, "off")
    leave(viewer)


def _inner(element: str) -> str:
    """As virsh wants metadata: without the prefix that it will give itself."""
    return element.replace("k:", "").replace("xmlns:k", "xmlns").replace(f' xmlns="{NAMESPACE}"', "")
