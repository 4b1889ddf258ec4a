# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""domain_power_control, whole, through its main() on libvirt's test driver; only QEMU's verdict is a stand-in."""

from __future__ import annotations

import json
import os
import signal
import stat
import typing as t
from pathlib import Path

import pytest

libvirt = pytest.importorskip("libvirt", reason="needs libvirt's Python bindings, which only the system's Python has")

from ansible_collections.kvmops.console.plugins.module_utils import _domain_xml, _libvirt, _qemu_facts
from ansible_collections.kvmops.console.plugins.module_utils._backup import Backups
from ansible_collections.kvmops.console.plugins.module_utils._power_policy import STATES, Policy
from ansible_collections.kvmops.console.plugins.module_utils._probe_cache import Cache
from ansible_collections.kvmops.console.plugins.module_utils._processes import deal_out
from ansible_collections.kvmops.console.plugins.module_utils._run import domain_power_control as run_file
from ansible_collections.kvmops.console.plugins.modules import domain_power_control
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

SPICE = "<graphics type='spice' autoport='yes' passwd='spicy'/>"
LISTEN = "\n      <listen type='address'/>\n    </graphics>"

Play = t.Callable[..., Result]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Host]:
    monkeypatch.setattr(_qemu_facts, "probe_binary_cached", probe)
    made = Host()
    yield made
    made.close()


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    return tmp_path / "backups"


@pytest.fixture
def play(host: Host, backups: Path, tmp_path: Path) -> Play:
    """Run the module on the host."""

    def run(**params: t.Any) -> Result:
        host.settle()
        return call(
            domain_power_control.main, uri=URI, backup_dir=str(backups), cache_dir=str(tmp_path / "cache"), **params
        )

    return run


def only(result: Result) -> Result:
    (record,) = result["domains"]
    assert isinstance(record, dict)
    return record


def settings(host: Host, name: str) -> tuple[str | None, ...]:
    return _domain_xml.settings(_domain_xml.parse(host.xml(name)))


def fleet(host: Host) -> None:
    """One domain of each kind."""
    host.define(domain("affected on", vnc("yes", passwd=PASSWORD), emulator="/opt/affected", number=1))
    host.define(domain("affected off", vnc("no"), emulator="/opt/affected", number=2))
    host.define(domain("both", SPICE, vnc("yes", passwd=PASSWORD), vnc("yes"), emulator="/opt/unknown", number=3))
    host.define(domain("fixed", vnc("yes"), emulator="/opt/fixed", number=4))
    host.define(domain("incapable", vnc("yes"), emulator="/opt/incapable", number=5))
    host.define(domain('it\'s "é" 😀', vnc("yes"), emulator="/opt/affected", number=6)).create()
    host.define(domain("none", emulator="/opt/affected", number=7))
    host.define(domain("silent", vnc(), emulator="/opt/affected", number=8))
    host.define(domain("spice", SPICE, emulator="/opt/affected", number=9))
    host.connection.createXML(domain("transient", vnc("yes"), number=10), 0)
    host.settle()


# One domain


def test_auto_turns_it_off_and_remembers(host: Host, play: Play, backups: Path) -> None:
    host.define(domain("web-1", vnc("yes", passwd=PASSWORD)))
    before = host.xml("web-1")
    result = play()
    record = only(result)
    (kept,) = backups.iterdir()
    assert record == {
        "name": "web-1",
        "uuid": uuid(1),
        "state": "shutoff",
        "persistent": True,
        "changed": True,
        "graphics": [{"index": 0, "before": "yes", "after": "no"}],
        "reason": "the QEMU of the next start is affected (probe of /opt/affected)",
        "note": None,
        "restart_pending": False,
        "backup": str(kept),
        "saved_states": [],
    }
    assert result["changed"] is True
    assert result["unmatched"] == []
    assert result["summary"] == {"domains": 1, "changed": 1, "skipped": 0, "errors": 0, "restart_pending": 0}
    assert (kept.read_text(encoding="utf-8"), stat.S_IMODE(kept.stat().st_mode)) == (before, 0o600)
    metadata = (
        '\n  <metadata>\n    <kvmops:console xmlns:kvmops="https://kvmops.github.io/console/1">'
        '\n      <kvmops:powerControl graphics="0" was="yes" wanted="yes" ours="no"/>'
        "\n    </kvmops:console>\n  </metadata>"
    )
    expected = before.replace("powerControl='yes'", "powerControl='no'").replace("</uuid>", f"</uuid>{metadata}")
    assert host.xml("web-1") == expected


def test_the_password_survives(host: Host, play: Play) -> None:
    host.define(domain("web-1", vnc("yes", passwd=PASSWORD)))
    play()
    assert _domain_xml.secrets(_domain_xml.parse(host.xml("web-1"))) == [PASSWORD]


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("emulator", ["/opt/affected", "/opt/fixed", "/opt/incapable", "/opt/unknown"])
@pytest.mark.parametrize("setting", ["yes", "no", None])
def test_a_second_run_changes_nothing(
    host: Host, play: Play, backups: Path, state: str, emulator: str, setting: str | None
) -> None:
    host.define(domain("web-1", vnc(setting, passwd=PASSWORD), emulator=emulator))
    before = host.xml("web-1")
    first = play(state=state)
    after, kept = host.xml("web-1"), list(backups.glob("*"))
    second = play(state=state)
    assert first["changed"] is (before != after)
    assert second["changed"] is False
    assert only(second)["backup"] is None
    assert (host.xml("web-1"), list(backups.glob("*"))) == (after, kept)


@pytest.mark.parametrize("setting", ["yes", "no", None])
def test_restored_gives_back_the_very_definition(host: Host, play: Play, setting: str | None) -> None:
    metadata = "<metadata><m:x xmlns:m='urn:m'><m:y>kept</m:y></m:x></metadata>"
    host.define(domain("web-1", vnc(setting, passwd=PASSWORD)).replace("<memory>", f"{metadata}<memory>"))
    before = host.xml("web-1")
    for options in ({"state": "disabled"}, {"state": "enabled", "force": True}, {"state": "auto"}, {"state": "absent"}):
        play(**options)
    result = play(state="restored")
    assert only(result)["graphics"][0]["after"] == setting
    assert host.xml("web-1") == before


def test_auto_gives_it_back_with_a_fixed_qemu(host: Host, play: Play) -> None:
    host.define(domain("web-1", vnc("yes", passwd=PASSWORD)))
    before = host.xml("web-1")
    play()
    host.define(host.xml("web-1").replace("/opt/affected", "/opt/fixed"))
    record = only(play())
    assert record["graphics"] == [{"index": 0, "before": "no", "after": "yes"}]
    assert host.xml("web-1") == before.replace("/opt/affected", "/opt/fixed")


def test_auto_leaves_it_on_where_viewers_handle_it(host: Host, play: Play) -> None:
    host.define(domain("web-1", vnc("yes")))
    assert play(viewers_handle_pointer_change=True)["changed"] is False
    assert settings(host, "web-1") == ("yes",)


def test_enabled_is_refused_where_it_breaks_novnc(host: Host, play: Play, backups: Path) -> None:
    host.define(domain("web-1", vnc("no")))
    before = host.xml("web-1")
    result = play(state="enabled")
    assert result["failed"] is True
    assert only(result)["error"].startswith("The QEMU of the next start is affected (probe of /opt/affected), so noVNC")
    assert result["msg"] == f"1 of 1 domains failed: web-1 ({only(result)['error']})"
    assert result["summary"]["errors"] == 1
    assert result["changed"] is False
    assert host.xml("web-1") == before
    assert not backups.exists()


def test_without_probing_the_verdict_is_unknown(host: Host, play: Play) -> None:
    host.define(domain("web-1", vnc("yes"), emulator="/opt/fixed"))
    record = only(play(probe=False))
    assert record["graphics"][0]["after"] == "no"
    assert "probing is switched off" in record["reason"]


@pytest.mark.parametrize(
    ("live", "config", "pending"),
    [("yes", "yes", True), ("yes", "no", True), ("no", "yes", False), ("no", "no", False), (None, "yes", False)],
)
def test_restart_pending_is_told_from_what_runs(
    host: Host, play: Play, live: str | None, config: str, pending: bool
) -> None:
    host.define(domain("web-1", vnc(live))).create()
    host.define(domain("web-1", vnc(config)))
    result = play(state="disabled")
    assert only(result)["restart_pending"] is pending
    assert result["summary"]["restart_pending"] == int(pending)
    assert only(result)["state"] == "running"
    xml = host.connection.lookupByName("web-1").XMLDesc(0)
    assert _domain_xml.settings(_domain_xml.parse(xml)) == (live,)


# Many domains

FLEET_CHANGED = {"affected on", "both", "incapable", 'it\'s "é" 😀'}


def test_a_fleet(host: Host, play: Play) -> None:
    fleet(host)
    result = play()
    records = {record["name"]: record for record in result["domains"]}
    assert list(records) == sorted(records)
    assert {name for name, record in records.items() if record["changed"]} == FLEET_CHANGED
    assert {name: record["skipped"] for name, record in records.items() if "skipped" in record} == {
        "none": "it has no VNC graphics",
        "spice": "it has no VNC graphics",
        "transient": "it is transient: its definition ends with it, so change it where it is created",
    }
    assert result["summary"] == {"domains": 10, "changed": 4, "skipped": 3, "errors": 0, "restart_pending": 1}
    told = {name: [entry["after"] for entry in record["graphics"]] for name, record in records.items()}
    assert told == {
        "affected off": ["no"],
        "affected on": ["no"],
        "both": ["no", "no"],
        "fixed": ["yes"],
        "incapable": [None],
        'it\'s "é" 😀': ["no"],
        "none": [],
        "silent": [None],
        "spice": [],
        "transient": [],
    }
    assert {name: list(settings(host, name)) for name in told if name != "transient"} == {
        name: after for name, after in told.items() if name != "transient"
    }


@pytest.mark.parametrize("state", STATES)
def test_check_mode_predicts_exactly_and_changes_nothing(host: Host, play: Play, backups: Path, state: str) -> None:
    fleet(host)
    before = host.definitions()
    predicted = play(state=state, _ansible_check_mode=True, _ansible_diff=True)
    assert host.definitions() == before
    assert not backups.exists()
    done = play(state=state, _ansible_diff=True)
    assert (host.definitions() != before) is done["changed"]
    for record in [*predicted["domains"], *done["domains"]]:
        record.pop("backup")
    for key in ("changed", "domains", "summary", "diff", "unmatched", "msg"):
        assert predicted.get(key) == done.get(key), key


def test_the_diff_shows_the_lines_that_change(host: Host, play: Play) -> None:
    host.define(domain("web-1", SPICE, vnc("yes", passwd=PASSWORD)))
    host.define(domain("web-2", vnc("no"), number=2))
    assert play(_ansible_diff=True)["diff"] == [
        {
            "before_header": "web-1",
            "after_header": "web-1",
            "before": '<graphics type="vnc" port="-1" autoport="yes" powerControl="yes" passwd="********">\n',
            "after": '<graphics type="vnc" port="-1" autoport="yes" powerControl="no" passwd="********">\n'
            '<kvmops:powerControl graphics="0" was="yes" wanted="yes" ours="no">\n',
        }
    ]
    assert play(_ansible_diff=True)["diff"] == []
    assert "diff" not in play(state="restored")


@pytest.mark.parametrize("check", [True, False])
@pytest.mark.parametrize("state", STATES)
def test_no_result_holds_a_password(host: Host, play: Play, state: str, check: bool) -> None:
    for number, setting in enumerate(("yes", "no", None), start=1):
        host.define(domain(f"web-{number}", SPICE, vnc(setting, passwd="hunter2"), number=number))
    text = json.dumps(play(state=state, _ansible_check_mode=check, _ansible_diff=True))
    assert "hunter2" not in text
    assert "spicy" not in text


def test_one_failure_stops_nobody(host: Host, play: Play) -> None:
    host.define(domain("a", vnc("no"), emulator="/opt/affected", number=1))
    host.define(domain("b", vnc("no"), emulator="/opt/fixed", number=2))
    result = play(state="enabled")
    assert (result["failed"], result["changed"]) == (True, True)
    assert [bool(record.get("error")) for record in result["domains"]] == [True, False]
    assert (settings(host, "a"), settings(host, "b")) == (("no",), ("yes",))


def test_selection_and_what_it_missed(host: Host, play: Play) -> None:
    fleet(host)
    result = play(domains=["affected*", uuid(4), "gone"], exclude=["* off"])
    assert [record["name"] for record in result["domains"]] == ["affected on", "fixed"]
    assert result["unmatched"] == ["gone"]
    assert "No domain of test:///default is meant by: gone." in json.dumps(result["warnings"])


def test_no_libvirt_is_one_sentence(tmp_path: Path) -> None:
    uri = f"test://{tmp_path}/missing.xml"
    result = call(domain_power_control.main, uri=uri)
    assert result["failed"] is True
    assert result["msg"].startswith(f"Connecting to libvirt at {uri} failed: ")


def test_a_backup_folder_that_others_can_enter_stops_the_edit(host: Host, play: Play, backups: Path) -> None:
    host.define(domain("web-1", vnc("yes", passwd=PASSWORD)))
    before = host.xml("web-1")
    backups.mkdir()
    backups.chmod(0o755)
    assert "can be entered by others" in only(play())["error"]
    assert host.xml("web-1") == before


# Several processes: with the test driver each has a copy of the host, so what is looked at is the result


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let two share the work, from two domains on."""
    monkeypatch.setattr(_libvirt, "runs_here", lambda uri: False)
    monkeypatch.setattr(run_file, "how_many", lambda *how: 2)


def fleet_of(host: Host, names: str) -> None:
    for number, name in enumerate(names, start=1):
        host.define(domain(name, vnc("yes", passwd=PASSWORD), number=number))


def test_several_processes_give_what_one_gives(
    host: Host, play: Play, backups: Path, request: pytest.FixtureRequest
) -> None:
    fleet(host)
    one = play(_ansible_check_mode=True, _ansible_diff=True)
    request.getfixturevalue("processes")
    assert play(_ansible_check_mode=True, _ansible_diff=True) == one
    several = play(_ansible_diff=True)
    assert several["diff"] == one["diff"]
    for record in several["domains"]:
        kept = record.pop("backup")
        assert (kept is not None) is record["changed"]
        assert kept is None or Path(kept).parent == backups
    for record in one["domains"]:
        del record["backup"]
    assert several["domains"] == one["domains"]


def test_a_process_that_is_killed_loses_nobody(
    host: Host, play: Play, processes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet_of(host, "abcdefgh")
    define = _libvirt.define

    def fatal(connection: _libvirt.Connection, name: str, xml: str, unsaid: t.Callable[[str], str]) -> None:
        define(connection, name, xml, unsaid)
        if name == "d":
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(_libvirt, "define", fatal)
    result = play(_ansible_diff=True)
    killed = "The process that was to edit {} was killed: {}; run this again.".format
    assert {record["name"]: record["error"] for record in result["domains"] if "error" in record} == {
        "d": killed("d", "it is as it was before or as wanted"),
        "f": killed("f", "nothing was changed"),
        "h": killed("h", "nothing was changed"),
    }
    assert [record["name"] for record in result["domains"]] == list("abcdefgh")
    assert [record["name"] for record in result["domains"] if record["changed"]] == list("abceg")
    assert [diff["before_header"] for diff in result["diff"]] == list("abceg")
    assert result["summary"] == {"domains": 8, "changed": 5, "skipped": 0, "errors": 3, "restart_pending": 0}


def test_a_libvirt_that_is_gone_after_the_listing_is_told_by_every_domain(
    host: Host, play: Play, processes: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet_of(host, "abc")
    lose_libvirt(monkeypatch)
    result = play()
    assert {record["error"] for record in result["domains"]} == {f"Connecting to libvirt at {URI} failed: it is gone"}
    assert [(record["name"], record["changed"]) for record in result["domains"]] == [(name, False) for name in "abc"]


def test_a_domain_that_is_gone_after_the_listing(host: Host, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet_of(host, "ab")

    def undefine_first(*how: t.Any) -> t.Any:
        host.connection.lookupByName("a").undefine()
        return deal_out(*how)

    monkeypatch.setattr(run_file, "deal_out", undefine_first)
    first, second = play()["domains"]
    assert (first["error"], first["changed"]) == ("a is gone: it ended or was undefined meanwhile.", False)
    assert second["changed"] is True


# Somebody else, and a libvirt that refuses


def meanwhile(monkeypatch: pytest.MonkeyPatch, act: t.Callable[[int], None]) -> None:
    """`act(n)` while the nth backup is made: behind the reading and before the definition."""
    keep = Backups.keep
    count = []

    def kept(self: Backups, uid: str, kind: str, xml: str) -> str:
        count.append(kind)
        act(len(count))
        return keep(self, uid, kind, xml)

    monkeypatch.setattr(Backups, "keep", kept)


def behind(monkeypatch: pytest.MonkeyPatch, act: t.Callable[[int], None]) -> None:
    """`act(n)` right behind the nth definition of ours."""
    define = _libvirt.define
    count = []

    def defined(*arguments: t.Any) -> None:
        define(*arguments)
        count.append(1)
        act(len(count))

    monkeypatch.setattr(_libvirt, "define", defined)


def titled(title: str, setting: str = "yes") -> str:
    return domain("web-1", vnc(setting, passwd=PASSWORD)).replace("<memory>", f"<title>{title}</title><memory>")


def test_an_edit_before_ours_is_kept(host: Host, play: Play, backups: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host.define(titled("old"))
    meanwhile(monkeypatch, lambda time: host.connection.defineXML(titled("new")) if time == 1 else None)
    record = only(play())
    assert (record["changed"], "error" in record) == (True, False)
    assert "<title>new</title>" in host.xml("web-1")
    assert settings(host, "web-1") == ("no",)
    assert "<title>new</title>" in Path(record["backup"]).read_text(encoding="utf-8")
    assert len(list(backups.iterdir())) == 2


def test_an_edit_before_ours_that_does_our_work(host: Host, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    host.define(titled("old"))
    meanwhile(monkeypatch, lambda time: host.connection.defineXML(titled("new", "no")))
    record = only(play())
    assert record["changed"] is False
    assert record["graphics"] == [{"index": 0, "before": "no", "after": "no"}]
    assert "<title>new</title>" in host.xml("web-1")


def test_an_edit_behind_ours_is_kept(host: Host, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    host.define(titled("old"))
    behind(monkeypatch, lambda time: host.connection.defineXML(titled("new")) if time == 1 else None)
    record = only(play())
    assert (record["changed"], "error" in record) == (True, False)
    assert "<title>new</title>" in host.xml("web-1")
    assert settings(host, "web-1") == ("no",)


def test_edits_without_end_are_given_up(host: Host, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    host.define(titled("old"))
    meanwhile(monkeypatch, lambda time: host.connection.defineXML(titled(str(time))))
    record = only(play())
    assert record["error"] == ("web-1 is edited by somebody else all the time: let that end, and run this again.")
    assert record["changed"] is False
    assert f"<title>{run_file.ATTEMPTS}</title>" in host.xml("web-1")
    assert settings(host, "web-1") == ("yes",)


def test_what_was_undefined_meanwhile_stays_so(host: Host, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    host.define(titled("old")).create()
    meanwhile(monkeypatch, lambda time: host.connection.lookupByName("web-1").undefine())
    record = only(play())
    assert record["error"] == "web-1 was undefined meanwhile: nothing was changed."
    assert host.connection.lookupByName("web-1").isPersistent() == 0


def test_what_is_gone_meanwhile_stays_so(host: Host, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    host.define(titled("old"))
    meanwhile(monkeypatch, lambda time: host.connection.lookupByName("web-1").undefine())
    assert only(play())["error"].startswith("Reading web-1 failed: Domain not found")
    assert host.connection.listAllDomains() == []


def test_a_definition_that_libvirt_rejects_leaves_the_old_one(
    host: Host, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libvirt quotes the value that it does not like: here that is the password."""
    host.define(domain("web-1", vnc("yes", passwd="hunter2")))
    before = host.xml("web-1")
    serialize = _domain_xml.serialize
    monkeypatch.setattr(
        _domain_xml, "serialize", lambda root: serialize(root).replace('powerControl="no"', 'powerControl="hunter2"')
    )
    result = play()
    assert only(result)["error"].startswith("Defining web-1 failed: ")
    assert "********" in only(result)["error"]
    assert "hunter2" not in json.dumps(result)
    assert (only(result)["changed"], host.xml("web-1")) == (False, before)


def test_a_libvirt_that_changes_more_is_put_right(host: Host, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    host.define(titled("old"))
    before = host.xml("web-1")
    define = _libvirt.define
    titles = iter(("other", "old"))
    monkeypatch.setattr(
        _libvirt,
        "define",
        lambda one, name, xml, unsaid: define(one, name, xml.replace("old", next(titles)), unsaid),
    )
    record = only(play())
    assert record["error"].startswith("libvirt changed more of web-1 than was asked (/domain/title[3]/text()): the old")
    assert record["error"].endswith("the old definition was put back.")
    assert (record["changed"], host.xml("web-1")) == (False, before)


def test_a_libvirt_that_cannot_be_put_right_is_told(host: Host, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    host.define(titled("old"))
    define = _libvirt.define
    titles = iter(("<title>other</title>", ""))
    monkeypatch.setattr(
        _libvirt,
        "define",
        lambda one, name, xml, unsaid: define(one, name, xml.replace("<title>old</title>", next(titles)), unsaid),
    )
    record = only(play())
    assert record["error"].endswith(f"could not be put back whole; it is kept in {record['backup']}.")
    assert record["changed"] is True
    assert "<title>old</title>" in Path(record["backup"]).read_text(encoding="utf-8")


def test_a_definition_that_libvirt_reads_otherwise_even_unchanged(
    host: Host, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.define(titled("old"))
    define = _libvirt.define
    monkeypatch.setattr(
        _libvirt, "define", lambda one, name, xml, unsaid: define(one, name, xml.replace("old", "other"), unsaid)
    )
    record = only(play())
    assert record["error"] == (
        "libvirt reads web-1 otherwise when it is defined again, even unchanged (/domain/title[3]/text()): it is now as"
        f" this libvirt writes it, with powerControl as it was, and what it was is kept in {record['backup']}. Compare"
        " the two, and run this again."
    )
    assert record["changed"] is True
    assert "powerControl='yes'" in host.xml("web-1")
    assert "<title>old</title>" in Path(record["backup"]).read_text(encoding="utf-8")
    assert "error" not in only(play())
    assert "powerControl='no'" in host.xml("web-1")


def test_a_connection_that_breaks_half_way_is_told(host: Host, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    host.define(titled("old"))

    def broken(connection: _libvirt.Connection, name: str, xml: str, unsaid: t.Callable[[str], str]) -> None:
        connection.handle.close()
        with _libvirt.translated("Defining"):
            connection.handle.defineXML(xml)

    monkeypatch.setattr(_libvirt, "define", broken)
    assert only(play())["error"] == (
        "The connection to libvirt broke while web-1 was being defined: it is as it was before or as wanted; run this"
        " again."
    )


def test_a_definition_that_cannot_be_read_stays_with_its_domain(
    host: Host, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.define(domain("a", vnc("yes"), number=1))
    host.define(domain("b", vnc("yes"), number=2))
    read = _libvirt.inactive_xml
    monkeypatch.setattr(
        _libvirt, "inactive_xml", lambda one, connection: "<domain>" if one.name == "a" else read(one, connection)
    )
    first, second = play()["domains"]
    assert first["error"].startswith("This is not a domain's XML: ")
    assert second["graphics"] == [{"index": 0, "before": "yes", "after": "no"}]


# Saved states


def snapshot(host: Host, name: str, *settings_: str | None) -> None:
    """Snapshots of web-1, each of another setting; the last one is current."""
    for number, setting in enumerate(settings_):
        handle = host.define(domain(name, vnc(setting, passwd=PASSWORD)))
        handle.snapshotCreateXML(f"<domainsnapshot><name>s{number}</name></domainsnapshot>", 0)
    host.settle()


def snapshots(host: Host, name: str) -> dict[str, tuple[str | None, ...]]:
    handle = host.connection.lookupByName(name)
    return {
        one.getName(): _domain_xml.settings(_domain_xml.parse(one.getXMLDesc(0))) for one in handle.listAllSnapshots()
    }


def test_snapshots_are_told_and_left_alone(host: Host, play: Play) -> None:
    snapshot(host, "web-1", "no", None, "yes")
    record = only(play())
    told = {state["name"]: (state["before"], state["after"], state["differs"]) for state in record["saved_states"]}
    assert told == {"s0": (["no"], ["no"], False), "s1": ([None], [None], False), "s2": (["yes"], ["yes"], True)}
    assert snapshots(host, "web-1") == {"s0": ("no",), "s1": (None,), "s2": ("yes",)}


def test_snapshots_are_set_where_that_is_asked_for(host: Host, play: Play, backups: Path) -> None:
    snapshot(host, "web-1", "no", None, "yes")
    before = host.connection.lookupByName("web-1").snapshotLookupByName("s2").getXMLDesc(1)
    predicted = play(include_saved_states=True, _ansible_check_mode=True, _ansible_diff=True)
    assert snapshots(host, "web-1") == {"s0": ("no",), "s1": (None,), "s2": ("yes",)}
    result = play(include_saved_states=True, _ansible_diff=True)
    assert predicted["diff"] == result["diff"]
    assert [entry["before_header"] for entry in result["diff"]] == ["web-1", "web-1 (snapshot s2)"]
    told = {
        state["name"]: (state["before"], state["after"], state["differs"]) for state in only(result)["saved_states"]
    }
    # Where it has the same effect it stays as it is.
    assert told == {"s0": (["no"], ["no"], False), "s1": ([None], [None], False), "s2": (["yes"], ["no"], False)}
    assert snapshots(host, "web-1") == {"s0": ("no",), "s1": (None,), "s2": ("no",)}
    (kept,) = backups.glob("*-snapshot.xml")
    assert kept.read_text(encoding="utf-8") == before
    after = host.connection.lookupByName("web-1").snapshotLookupByName("s2").getXMLDesc(1)
    assert after == before.replace("powerControl='yes'", "powerControl='no'")
    assert PASSWORD not in json.dumps(result)
    again = play(include_saved_states=True)
    assert again["changed"] is False


def test_a_snapshot_alone_is_a_change(host: Host, play: Play) -> None:
    snapshot(host, "web-1", "yes")
    host.define(domain("web-1", vnc("no")))
    result = play(include_saved_states=True)
    assert only(result)["changed"] is True
    assert only(result)["backup"] is None
    assert snapshots(host, "web-1") == {"s0": ("no",)}


def test_a_saved_state_that_libvirt_changes_more_is_put_back(
    host: Host, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot(host, "web-1", "yes")
    host.define(domain("web-1", vnc("no")))
    before = host.connection.lookupByName("web-1").snapshotLookupByName("s0").getXMLDesc(1)
    serialize = _domain_xml.serialize
    touched: list[str] = []

    def touch(root: t.Any) -> str:
        """Change more than was asked, but not in what is put back."""
        touched.append(serialize(root))
        return touched[-1].replace("<on_reboot>restart", "<on_reboot>destroy") if len(touched) == 2 else touched[-1]

    monkeypatch.setattr(_domain_xml, "serialize", touch)
    record = only(play(include_saved_states=True))
    assert record["error"].startswith("libvirt changed more of the snapshot of web-1 than was asked (/domainsnapshot/")
    assert record["error"].endswith("the old one was put back.")
    assert host.connection.lookupByName("web-1").snapshotLookupByName("s0").getXMLDesc(1) == before


def test_a_saved_state_that_cannot_be_read_is_an_error_of_its_domain(host: Host, play: Play) -> None:
    host.define(domain("a", vnc("yes"), number=1)).create()
    host.connection.lookupByName("a").managedSave()
    host.define(domain("b", vnc("yes"), number=2))
    result = play()
    assert only({"domains": result["domains"][:1]})["error"].startswith("Reading the managed_save of a failed: ")
    assert [record["changed"] for record in result["domains"]] == [True, True]


# Pure parts


# Domains that others manage


def managed(metadata: str, setting: str | None = "yes") -> str:
    return domain("web", vnc(setting)).replace("<memory>", f"<metadata>{metadata}</metadata><memory>")


NOVA = '<nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1"/>'
TERRAFORM = f'<kvmops:console xmlns:kvmops="{_domain_xml.NAMESPACE}"><kvmops:managed by="terraform"/></kvmops:console>'
COCKPIT = '<c:data xmlns:c="https://github.com/cockpit-project/cockpit-machines"/>'


@pytest.mark.parametrize("check", [False, True])
def test_what_is_written_anew_at_each_start_is_left_alone(host: Host, play: Play, backups: Path, check: bool) -> None:
    host.define(managed(NOVA))
    before = host.definitions()
    result = play(_ansible_check_mode=check, _ansible_diff=True)
    assert "OpenStack Nova writes its definition anew at each start" in only(result)["skipped"]
    assert "Leave it to Nova" in only(result)["skipped"]
    assert (result["changed"], result["diff"], result["summary"]["skipped"]) == (False, [], 1)
    assert host.definitions() == before
    assert not backups.exists()


def test_what_is_written_anew_is_edited_where_that_is_asked_for(host: Host, play: Play) -> None:
    host.define(managed(NOVA))
    before = host.definitions()
    result = play(managed="edit")
    assert settings(host, "web") == ("no",)
    assert "skipped" not in only(result)
    assert "OpenStack Nova writes its definition anew at each start" in only(result)["note"]
    assert only(play(state="restored"))["changed"], "what this collection did can be undone without more ado"
    assert host.definitions() == before


def test_what_is_written_anew_some_day_is_edited_and_told(host: Host, play: Play) -> None:
    host.define(managed(TERRAFORM))
    record = only(play())
    assert settings(host, "web") == ("no",)
    assert "Terraform writes its definition anew when it changes the domain" in record["note"]
    assert "xslt" in record["note"]
    assert _domain_xml.parse(host.xml("web")).find(f".//{{{_domain_xml.NAMESPACE}}}managed") is not None
    assert only(play())["note"] is None, "where nothing changes, nothing is to be told"


@pytest.mark.parametrize(
    ("metadata", "setting"), [(COCKPIT, "yes"), (NOVA, None)], ids=["a-manager-that-keeps-it", "nothing-to-change"]
)
def test_other_managers_are_no_matter(host: Host, play: Play, metadata: str, setting: str | None) -> None:
    host.define(managed(metadata, setting))
    record = only(play())
    assert record["note"] is None
    assert "skipped" not in record
    assert settings(host, "web") == ("no" if setting else None,)


def test_a_plan_is_made_of_text() -> None:
    xml = domain("web-1", vnc("yes", passwd="hunter2"))
    plan = run_file.make_plan(xml, Policy("auto"), lambda emulator: probe(str(emulator), Cache()).verdict)
    assert plan.before == xml
    assert plan.changes is True
    assert (plan.settings, plan.decision.settings) == (("yes",), ("no",))
    assert _domain_xml.settings(plan.after) == ("no",)
    assert "hunter2" not in str(plan.lines)


def test_a_remote_host_is_not_judged_by_the_files_of_this_one(
    host: Host, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.define(domain("web-1", vnc("yes"), emulator="/opt/fixed"))
    monkeypatch.setattr(_libvirt.Connection, "is_local", property(lambda self: False))
    record = only(play())
    assert record["reason"] == (
        "the QEMU of the next start is unknown (test:///default is another machine: run the task there)"
    )
    assert settings(host, "web-1") == ("no",)
