# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""domain_power_control on a real libvirt: what changes, and what does not."""

from __future__ import annotations

import socket
import stat
from pathlib import Path
from typing import Any

import libvirt
import pytest
from lxml import etree

from ansible_collections.kvmops.console.plugins.module_utils import _libvirt, _qemu_facts
from ansible_collections.kvmops.console.plugins.module_utils._backup import Backups
from ansible_collections.kvmops.console.plugins.module_utils._power_policy import Policy
from ansible_collections.kvmops.console.plugins.module_utils._run.domain_power_control import Editor
from ansible_collections.kvmops.console.tests.lab.kvmlab import AFFECTED_QEMU, FIXED_QEMU, domain_xml
from ansible_collections.kvmops.console.tests.lab.kvmlab.domains import spice_xml, vnc_xml

PASSWORD = "geheim-7"


def without_ours(xml: str) -> bytes:
    """A definition without powerControl and without what we remember, in canonical form: all that must stay."""
    root = etree.fromstring(xml, etree.XMLParser(remove_blank_text=True))
    for element in root.iter("graphics"):
        element.attrib.pop("powerControl", None)
    for metadata in root.findall("metadata"):
        for ours in metadata.findall("{https://kvmops.github.io/console/1}console"):
            metadata.remove(ours)
        if len(metadata) == 0:
            root.remove(metadata)
    return bytes(etree.tostring(root, method="c14n"))


def test_auto_turns_an_affected_domain_off_and_keeps_everything_else(hypervisor: Any) -> None:
    hypervisor.put("guest", power_control="yes", password=PASSWORD, running=True)
    before = hypervisor.definition("guest")
    record = hypervisor.set("guest")
    assert record["changed"] is True
    assert record["graphics"] == [{"index": 0, "before": "yes", "after": "no"}]
    assert record["restart_pending"] is True
    assert "affected" in record["reason"]
    vnc = hypervisor.vnc("guest")
    assert (vnc["powerControl"], vnc["passwd"]) == ("no", PASSWORD)
    assert without_ours(hypervisor.definition("guest")) == without_ours(before)
    again = hypervisor.set("guest")
    assert again["changed"] is False
    assert again["backup"] is None
    assert again["restart_pending"] is True, "nothing was written, and the process still has the old setting"


def test_the_password_is_still_asked_for_after_the_next_start(hypervisor: Any) -> None:
    domain = hypervisor.put("guest", power_control="yes", password=PASSWORD)
    hypervisor.set("guest")
    domain.create()
    port = int(hypervisor.record("guest")["graphics"][0]["port"])
    script = (
        "import socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); s.recv(12);"
        " s.sendall(b'RFB 003.008\\n'); print(list(s.recv(1) + s.recv(9)))"
    )
    offered = hypervisor.host.exec("/usr/bin/python3", "-c", script, str(port)).stdout.strip()
    assert offered == "[1, 2]", "one security type: VNC authentication"
    command = hypervisor.host.exec("sh", "-c", "tr '\\0' ' ' < /proc/$(cat /run/libvirt/qemu/guest.pid)/cmdline").stdout
    assert "power-control=off" in command


def test_auto_gives_power_control_back_on_a_fixed_qemu(hypervisor: Any) -> None:
    hypervisor.put("guest", power_control="yes", password=PASSWORD)
    hypervisor.set("guest")
    assert hypervisor.record("guest")["owner_wants"] == "enabled"
    upgraded = hypervisor.definition("guest").replace(AFFECTED_QEMU, FIXED_QEMU)
    hypervisor.connection.defineXML(upgraded)
    record = hypervisor.set("guest")
    assert record["graphics"] == [{"index": 0, "before": "no", "after": "yes"}]
    assert hypervisor.vnc("guest")["passwd"] == PASSWORD
    assert "kvmops" not in hypervisor.definition("guest"), "nothing is left to remember"


def test_restored_puts_back_what_was_there(hypervisor: Any) -> None:
    hypervisor.put("guest", power_control="yes", password=PASSWORD)
    before = hypervisor.definition("guest")
    hypervisor.set("guest")
    hypervisor.set("guest", state="absent")
    record = hypervisor.set("guest", state="restored")
    assert record["graphics"] == [{"index": 0, "before": None, "after": "yes"}]
    assert hypervisor.definition("guest") == before
    assert hypervisor.set("guest", state="restored")["changed"] is False


def test_enabled_is_refused_on_an_affected_qemu_unless_it_is_meant(hypervisor: Any) -> None:
    hypervisor.put("guest", power_control="no")
    before = hypervisor.definition("guest")
    result = hypervisor.module("domain_power_control", state="enabled")
    assert result["failed"] is True
    assert "1 of 1 domains failed: guest (The QEMU of the next start is affected" in result["msg"]
    assert hypervisor.definition("guest") == before
    assert hypervisor.set("guest", state="enabled", viewers_handle_pointer_change=True)["changed"] is True
    hypervisor.set("guest", state="disabled")
    assert hypervisor.set("guest", state="enabled", force=True)["changed"] is True
    assert hypervisor.vnc("guest")["powerControl"] == "yes"


def test_check_mode_predicts_exactly_and_changes_nothing(hypervisor: Any) -> None:
    hypervisor.put("a", power_control="yes", password=PASSWORD, running=True)
    hypervisor.put("f", emulator=FIXED_QEMU, power_control="yes")
    before = {name: hypervisor.definition(name) for name in ("a", "f")}
    predicted = hypervisor.module("domain_power_control", check=True, diff=True)
    assert {name: hypervisor.definition(name) for name in before} == before
    assert hypervisor.host.exec("find", "/var/lib/kvmops-console", "-name", "*.xml").stdout == ""
    done = hypervisor.module("domain_power_control", diff=True)
    for result in (predicted, done):
        for record in result["domains"]:
            record.pop("backup")
        result.pop("invocation", None)
    assert predicted == done
    assert PASSWORD not in str(predicted)
    assert done["diff"] == [
        {
            "before_header": "a",
            "after_header": "a",
            "before": '<graphics type="vnc" port="-1" autoport="yes" listen="127.0.0.1" powerControl="yes"'
            ' passwd="********">\n',
            "after": '<graphics type="vnc" port="-1" autoport="yes" listen="127.0.0.1" powerControl="no"'
            ' passwd="********">\n<kvmops:powerControl graphics="0" was="yes" wanted="yes" ours="no">\n',
        }
    ]


def test_the_backup_is_the_definition_as_it_was_and_private(hypervisor: Any) -> None:
    hypervisor.put("guest", power_control="yes", password=PASSWORD)
    before = hypervisor.definition("guest")
    path = hypervisor.host.root / hypervisor.set("guest")["backup"].lstrip("/")
    assert path.read_text() == before
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_backup_folder_that_others_may_enter_is_refused_before_anything_changes(hypervisor: Any) -> None:
    hypervisor.put("guest", power_control="yes")
    hypervisor.host.exec("install", "-d", "-m", "0755", "/run/open-backups")
    record = hypervisor.set("guest", backup_dir="/run/open-backups")
    assert record["error"] == (
        "The folder /run/open-backups can be entered by others, and what is kept there is private: make it yours with"
        " mode 0700, or name another backup_dir."
    )
    assert hypervisor.vnc("guest")["powerControl"] == "yes"


def test_domains_that_have_nothing_to_set_are_skipped_with_a_reason(hypervisor: Any) -> None:
    hypervisor.put("none", graphics=())
    hypervisor.put("spice", emulator=FIXED_QEMU, graphics=(spice_xml(),))
    transient = hypervisor.put("transient", power_control="yes", running=True)
    transient.undefine()
    result = hypervisor.module("domain_power_control")
    assert {record["name"]: record["skipped"] for record in result["domains"]} == {
        "none": "it has no VNC graphics",
        "spice": "it has no VNC graphics",
        "transient": "it is transient: its definition ends with it, so change it where it is created",
    }
    assert (result["changed"], result["summary"]["skipped"]) == (False, 3)
    assert transient.isPersistent() == 0, "a transient domain was not made persistent"


def test_vnc_beside_spice(hypervisor: Any) -> None:
    hypervisor.put("both", emulator=FIXED_QEMU, graphics=(spice_xml(), vnc_xml(power_control="yes", password=PASSWORD)))
    before = hypervisor.definition("both")
    record = hypervisor.set("both", state="disabled")
    assert record["graphics"] == [{"index": 0, "before": "yes", "after": "no"}]
    assert without_ours(hypervisor.definition("both")) == without_ours(before)


@pytest.mark.parametrize("name", ["büro pc 7", "..x", "a'b\"c", "$(reboot)", "[a-z]*", "-rf", "名前", "🖥", "a&b<c>"])
def test_any_name_that_libvirt_allows(hypervisor: Any, name: str) -> None:
    hypervisor.connection.defineXML(domain_xml(name, power_control="yes", password=PASSWORD))
    record = hypervisor.set(name)
    assert record["graphics"] == [{"index": 0, "before": "yes", "after": "no"}]
    assert (hypervisor.vnc(name)["powerControl"], hypervisor.vnc(name)["passwd"]) == ("no", PASSWORD)
    assert record["backup"].startswith("/var/lib/kvmops-console/backups/" + record["uuid"])


def test_metadata_of_others_stays(hypervisor: Any) -> None:
    domain = hypervisor.put("guest", power_control="yes")
    theirs = '<theirs:note xmlns:theirs="https://example.org/note" by="owner">keep <b>this</b></theirs:note>'
    xml = hypervisor.definition("guest").replace("<memory ", f"<metadata>{theirs}</metadata><memory ", 1)
    hypervisor.connection.defineXML(xml)
    before = hypervisor.definition("guest")
    hypervisor.set("guest")
    assert without_ours(hypervisor.definition("guest")) == without_ours(before)
    hypervisor.set("guest", state="restored")
    assert hypervisor.definition("guest") == before
    assert domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, "https://example.org/note").count("this") == 1


def test_a_definition_that_libvirt_rejects_leaves_the_old_one_and_the_other_domains_go_on(hypervisor: Any) -> None:
    hypervisor.host.exec("sh", "-c", f"install -D {AFFECTED_QEMU} /run/gone/bin/qemu && chmod -R a+rX /run/gone")
    hypervisor.put("a-bad", emulator="/run/gone/bin/qemu", power_control="yes", password=PASSWORD)
    hypervisor.put("b-good", power_control="yes", password=PASSWORD)
    before = hypervisor.definition("a-bad")
    hypervisor.host.exec("rm", "-r", "/run/gone")
    result = hypervisor.module("domain_power_control")
    bad, good = result["domains"]
    assert result["failed"] is True
    assert bad["error"].startswith("Defining a-bad failed: ")
    assert PASSWORD not in str(result)
    assert bad["changed"] is False
    assert hypervisor.definition("a-bad") == before
    assert (good["changed"], hypervisor.vnc("b-good")["powerControl"]) == (True, "no")


def test_no_guest_is_touched(hypervisor: Any) -> None:
    """The same process, the same viewer, no taint, nothing new in QEMU's log."""
    domain = hypervisor.put("guest", power_control="yes", password=PASSWORD, running=True)
    look = (
        "pid=$(cat /run/libvirt/qemu/guest.pid); cut -d' ' -f1,22 /proc/$pid/stat; cat /var/log/libvirt/qemu/guest.log"
    )
    viewer = socket.socket(fileno=domain.openGraphicsFD(0, libvirt.VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH))
    with viewer:
        viewer.settimeout(10)
        assert viewer.recv(12) == b"RFB 003.008\n"
        before = hypervisor.host.exec("sh", "-c", look).stdout
        hypervisor.set("guest")
        hypervisor.record("guest")
        assert hypervisor.host.exec("sh", "-c", look).stdout == before
        viewer.sendall(b"RFB 003.008\n")
        assert viewer.recv(1) == b"\x01"


def test_a_domain_that_is_undefined_meanwhile_does_not_come_back(
    hypervisor: Any, monkeypatch: Any, tmp_path: Path
) -> None:
    result = _edit_here(hypervisor, monkeypatch, tmp_path, lambda domain: domain.undefine(), running=True)
    assert "was undefined meanwhile" in result["error"] or "Reading" in result["error"]
    assert hypervisor.connection.lookupByName("guest").isPersistent() == 0


def test_an_edit_of_somebody_else_before_ours_is_kept(hypervisor: Any, monkeypatch: Any, tmp_path: Path) -> None:
    def edit(domain: Any) -> None:
        domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_TITLE, "theirs", None, None, libvirt.VIR_DOMAIN_AFFECT_CONFIG)

    result = _edit_here(hypervisor, monkeypatch, tmp_path, edit)
    assert result["changed"] is True
    assert "<title>theirs</title>" in hypervisor.definition("guest")
    assert (hypervisor.vnc("guest")["powerControl"], hypervisor.vnc("guest")["passwd"]) == ("no", PASSWORD)


def test_an_edit_of_somebody_else_behind_ours_is_kept(hypervisor: Any, monkeypatch: Any, tmp_path: Path) -> None:
    real = _libvirt.define
    theirs: list[str] = []

    def define(connection: Any, name: str, xml: str, unsaid: Any) -> None:
        real(connection, name, xml, unsaid)
        if not theirs:
            theirs.append(name)
            current = hypervisor.definition(name)
            hypervisor.connection.defineXML(current.replace("<memory ", "<title>theirs</title><memory ", 1))

    monkeypatch.setattr(_libvirt, "define", define)
    result = _edit_here(hypervisor, monkeypatch, tmp_path, lambda domain: None)
    assert theirs == ["guest"]
    assert "error" not in result
    assert "<title>theirs</title>" in hypervisor.definition("guest")
    assert (hypervisor.vnc("guest")["powerControl"], hypervisor.vnc("guest")["passwd"]) == ("no", PASSWORD)


def test_a_definition_in_which_libvirt_changes_more_is_put_back(
    hypervisor: Any, monkeypatch: Any, tmp_path: Path
) -> None:
    real = _libvirt.define
    calls: list[str] = []

    def define(connection: Any, name: str, xml: str, unsaid: Any) -> None:
        calls.append(name)
        changed = xml if len(calls) > 1 else xml.replace(f' passwd="{PASSWORD}"', "")
        real(connection, name, changed, unsaid)

    monkeypatch.setattr(_libvirt, "define", define)
    result = _edit_here(hypervisor, monkeypatch, tmp_path, lambda domain: None)
    assert len(calls) == 2
    assert result["error"].startswith("libvirt changed more of guest than was asked (/domain/devices[")
    assert result["error"].endswith("the old definition was put back.")
    assert result["changed"] is False
    assert (hypervisor.vnc("guest")["powerControl"], hypervisor.vnc("guest")["passwd"]) == ("yes", PASSWORD)


def _edit_here(hypervisor: Any, monkeypatch: Any, tmp_path: Path, meanwhile: Any, running: bool = False) -> Any:
    """Edit one domain from this process; between reading and defining, somebody else does `meanwhile(domain)`."""
    hypervisor.put("guest", power_control="yes", password=PASSWORD, running=running)
    _libvirt.DefinitionWatch.prepare()
    done: list[str] = []

    class Meanwhile(Backups):
        def keep(self, uuid: str, kind: str, xml: str) -> str:
            if not done:
                done.append(uuid)
                meanwhile(hypervisor.connection.lookupByUUIDString(uuid))
            return super().keep(uuid, kind, xml)

    judge = _qemu_facts.Judge()
    monkeypatch.setattr(
        judge, "next_start", lambda emulator: {"verdict": "affected", "basis": "probe", "evidence": "it is"}
    )
    with _libvirt.connect(hypervisor.uri) as connection:
        editor = Editor(
            connection,
            Policy("auto"),
            judge,
            Meanwhile(str(tmp_path / "backups")),
            include_saved_states=False,
            edit_managed=False,
            check_mode=False,
        )
        result = [editor.edit(domain) for domain in connection.domains()]
    assert done, "somebody else had their turn"
    return result[0]
