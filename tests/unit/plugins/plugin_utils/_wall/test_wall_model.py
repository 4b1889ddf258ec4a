# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The wall as data: every screen has a status, and what a host says is not taken on trust."""

from __future__ import annotations

import typing as t

import pytest

from ansible_collections.kvmops.console.plugins.plugin_utils._wall import model

NOW = "2026-11-20T12:00:00Z"
SCREEN = {
    "head": 0,
    "fetched_to": "/w/pictures/h/a.png",
    "sha256": "0" * 64,
    "width": 720,
    "height": 400,
    "captured_at": "2026-11-20T11:59:00.500000Z",
    "screen": {"kind": "login", "reason": "r"},
    "text": "a login: ",
    "unchanged_for": 3,
}


def build(*results: tuple[str, t.Any], previous: t.Any = None) -> dict[str, t.Any]:
    return model.build(results, previous, title="T", generated_at=NOW)


def running(**more: t.Any) -> dict[str, t.Any]:
    return {"name": "a", "state": "running", "screens": [SCREEN], **more}


def one(wall: dict[str, t.Any]) -> dict[str, t.Any]:
    (screen,) = wall["screens"]
    return dict(screen)


@pytest.mark.parametrize("key", ["domains", "instances", "machines"])
def test_a_seen_screen(key: str) -> None:
    screen = one(build(("h", {key: [running()]})))
    assert (screen["status"], screen["kind"], screen["text"], screen["unchanged_for"]) == (
        "seen",
        "login",
        "a login:",
        3.0,
    )


@pytest.mark.parametrize(
    ("record", "status", "note"),
    [
        ({"state": "shutoff", "skipped": "it is off", "screens": []}, "off", "it is off"),
        ({"state": "Stopped", "skipped": "it is off", "screens": []}, "off", "it is off"),
        ({"skipped": "its owner lets nobody see its screen", "screens": []}, "private", "its owner lets nobody"),
        ({"error": "hung", "screens": []}, "failed", "hung"),
        ({"screens": []}, "failed", "it has no screen"),
        ({"error": "not in time"}, "failed", "not in time"),
    ],
)
def test_statuses(record: dict[str, t.Any], status: str, note: str) -> None:
    screen = one(build(("h", {"domains": [running(**record)]})))
    assert screen["status"] == status
    assert screen["note"].startswith(note)


@pytest.mark.parametrize(
    ("result", "status"),
    [
        ({"unreachable": True, "msg": "no route"}, "unreachable"),
        ({"failed": True, "msg": "no libvirt"}, "failed"),
        (None, "missing"),
        ({"skipped": True}, "missing"),
        ("nonsense", "missing"),
        ({"domains": "nonsense"}, "ok"),
    ],
)
def test_a_silent_host_keeps_its_last_pictures(result: t.Any, status: str) -> None:
    first = build(("h", {"domains": [running()]}))
    wall = build(("h", result), previous=first)
    assert wall["hosts"][0]["status"] == status
    if status != "ok":
        screen = one(wall)
        assert (screen["status"], screen["captured_at"]) == ("stale", SCREEN["captured_at"])


def test_a_machine_that_fails_keeps_its_last_picture() -> None:
    first = build(("h", {"domains": [running()]}))
    result = {"failed": True, "msg": "1 failed", "domains": [running(error="hung", screens=[])]}
    screen = one(build(("h", result), previous=first))
    assert (screen["status"], screen["note"], screen["sha256"]) == ("failed", "hung", SCREEN["sha256"])


@pytest.mark.parametrize("previous", [None, [], "x", {"schema_version": 2}, {"schema_version": 1, "screens": [3, {}]}])
def test_a_wall_before_that_is_none(previous: t.Any) -> None:
    assert build(("h", {"unreachable": True}), previous=previous)["screens"] == []


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sha256", "../../etc/passwd"),
        ("captured_at", "yesterday"),
        ("captured_at", "2026-13-45T11:59:00Z"),
        ("fetched_to", "a\0b"),
        ("unchanged_for", float("nan")),
        ("unchanged_for", True),
        ("width", "720"),
    ],
)
def test_nonsense_is_not_known(key: str, value: t.Any) -> None:
    screen = one(build(("h", {"domains": [running(screens=[{**SCREEN, key: value}])]})))
    assert screen["picture" if key == "fetched_to" else key] is None


def test_text_is_bounded_cleaned_and_masked() -> None:
    text = "password=geheim\n\x1b[31m" + "x" * 9000 + "\n" * 9000
    said = one(build(("h", {"domains": [running(screens=[{**SCREEN, "text": text}])]})))["text"]
    assert "geheim" not in said
    assert "\x1b" not in said
    assert len(said) <= model.LONGEST_LINE * 2 + 1


def test_no_screen_is_there_twice() -> None:
    assert one(build(("h", {"domains": [running(), running(state="paused")]})))["state"] == "running"


def named(wall: dict[str, t.Any]) -> dict[str, tuple[str, str]]:
    return {screen["name"]: (screen["source"], screen["status"]) for screen in wall["screens"]}


def test_machines_of_one_name() -> None:
    results = [("h", {key: [running(), running(name=key)]}) for key in ("machines", "instances", "domains")]
    wall = build(*results)
    assert named(wall) == {
        "a": ("libvirt", "seen"),
        "a (Incus)": ("incus", "seen"),
        "a (QMP)": ("qmp", "seen"),
        "domains": ("libvirt", "seen"),
        "instances": ("incus", "seen"),
        "machines": ("qmp", "seen"),
    }
    # A name is kept for one that is not told of, and nobody else's pictures are taken for its.
    again = build(("h", {"failed": True, "msg": "no libvirt"}), results[1], previous=wall)
    assert named(again)["a"] == ("libvirt", "stale")
    assert named(again)["a (Incus)"] == ("incus", "seen")
    # It is free when there is no such machine any more.
    assert named(build(("h", {"domains": []}), results[1], previous=wall)) == {
        "a": ("incus", "seen"),
        "instances": ("incus", "seen"),
    }


def test_domains_of_one_name_behind_two_connections() -> None:
    wall = build(("h", {"domains": [running(uuid="1")]}), ("h", {"domains": [running(uuid="2"), running(uuid="1")]}))
    assert named(wall) == {"a": ("libvirt", "seen"), "a (2)": ("libvirt", "seen")}


def test_instances_of_two_projects() -> None:
    wall = build(("h", {"instances": [running(project="default"), running(project="web")]}))
    assert [screen["name"] for screen in wall["screens"]] == ["a", "web_a"]


def test_counts() -> None:
    counts = model.flat_counts(build(("h", {"domains": [running()]}), ("i", None)))
    assert counts["kvmops_screen_hosts"] == 2
    assert counts["kvmops_screen_hosts_failed"] == 1
    assert counts["kvmops_screens_seen"] == counts["kvmops_screens_login"] == counts["kvmops_screens"] == 1


ASKED_FOR_NOTHING = {"skipped": True, "changed": False, "skip_reason": "Conditional result was False"}
INSTANCES = {"instances": [running(name="box", project="default")]}


def test_a_host_that_was_asked_by_several_modules() -> None:
    wall = build(("h", {"domains": [running()]}), ("h", INSTANCES), ("h", None), ("h", ASKED_FOR_NOTHING))
    assert [host["status"] for host in wall["hosts"]] == ["ok"]
    assert sorted(screen["name"] for screen in wall["screens"]) == ["a", "box"]
    none = build(("h", ASKED_FOR_NOTHING), ("h", None))
    assert [host["status"] for host in none["hosts"]] == ["missing"]


def test_where_one_of_several_is_silent_its_machines_are_stale_and_no_others() -> None:
    first = build(("h", {"domains": [running(screens=[SCREEN, {**SCREEN, "head": 1}])]}), ("h", INSTANCES))
    silent = {"failed": True, "msg": "Incus is not there."}
    wall = build(("h", {"domains": [running()]}), ("h", silent), previous=first)
    assert [(host["status"], host["message"]) for host in wall["hosts"]] == [("failed", "Incus is not there.")]
    assert [(screen["name"], screen["status"]) for screen in wall["screens"]] == [("a", "seen"), ("box", "stale")]
