# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The wall as files: what is written, kept, let go of and kept from prying."""

from __future__ import annotations

import io
import json
import os
import re
import typing as t
from pathlib import Path

import pytest
from PIL import Image
from prometheus_client.parser import text_string_to_metric_families

from ansible_collections.kvmops.console.plugins.plugin_utils._wall import prometheus, site
from ansible_collections.kvmops.console.plugins.plugin_utils._wall.pictures import Rules
from ansible_collections.kvmops.console.tests.unit.plugins.plugin_utils._wall.lab import Lab, png

NASTY = ("<script>alert(1)</script>", "../../../etc/cron.d/x", "{{ 7 * 7 }}", "  ", "nul\x00", "a/b", "é?#%", "x" * 300)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path / "wall")


def at(minute: int) -> str:
    return f"2026-11-20T12:{minute:02d}:00"


def shown(lab: Lab, minute: int, text: str, name: str = "a") -> list[tuple[str, t.Any]]:
    return [("h", {"domains": [lab.domain("h", name, "text", text, at=f"{at(minute)}.000000Z")]})]


def history(lab: Lab, name: str = "a") -> list[str]:
    return sorted(path.name[9:13] for path in (lab.folder / "history" / "h" / name / "0").glob("*.png"))


def times(lab: Lab, minutes: t.Iterable[int], rules: Rules | None = None) -> None:
    for minute in minutes:
        lab.write(shown(lab, minute, f"minute {minute}"), f"{at(minute)}Z", rules)


def test_the_whole_fleet_is_told(lab: Lab) -> None:
    lab.write(lab.fleet())
    page = (lab.folder / "index.html").read_text("utf-8")
    for word in ("hv-03.example.org", "No route to host", "libvirt is missing", "its owner lets nobody", "no answer"):
        assert word in page
    assert page.count("data:image/jpeg;base64,") == 7
    assert "<script" not in page


def test_all_links_lead_somewhere(lab: Lab) -> None:
    times(lab, range(3))
    lab.write(lab.fleet(), "2026-11-20T13:00:00Z")
    for page in lab.folder.rglob("*.html"):
        links = re.findall(r'(?:href|src)="(?!data:|#)([^"]*)"', page.read_text("utf-8"))
        assert links
        assert [link for link in links if not (page.parent / link).is_file()] == []


def test_a_second_run_changes_nothing(lab: Lab) -> None:
    assert lab.write(lab.fleet()).changed
    again = lab.write(lab.fleet(), "2026-11-20T12:05:00Z")
    assert not again.changed
    assert "12:05:00" in (lab.folder / "index.html").read_text("utf-8")


def test_a_plan_writes_nothing(lab: Lab) -> None:
    results = lab.fleet()
    before = sorted(lab.folder.rglob("*"))
    assert site.plan(lab.wall(results), str(lab.folder), Rules()).changed
    assert sorted(lab.folder.rglob("*")) == before


def test_history_has_what_differs(lab: Lab) -> None:
    times(lab, (0, 1))
    lab.write(shown(lab, 2, "minute 1"), f"{at(2)}Z")
    assert history(lab) == ["1200", "1201"]
    page = (lab.folder / "machines" / "h" / "a.html").read_text("utf-8")
    assert "shown for 60 s<" in page
    assert "shown for 60 s so far" in page


def with_block(size: int) -> bytes:
    image = Image.open(io.BytesIO(png("the same"))).convert("RGB")
    image.paste("#ffffff", (100, 100, 100 + size, 100 + size))
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize(("size", "news"), [(11, False), (13, True)])
def test_a_cursor_that_blinks_is_no_news(lab: Lab, size: int, news: bool) -> None:
    for minute, block in ((0, 0), (1, size)):
        record = lab.domain("h", "a", "text", "the same", at=f"{at(minute)}.000000Z", data=with_block(block))
        lab.write([("h", {"domains": [record]})], f"{at(minute)}Z")
    assert history(lab) == (["1200", "1201"] if news else ["1200"])


def test_history_keeps_so_many(lab: Lab) -> None:
    times(lab, range(5), Rules(keep=2))
    assert history(lab) == ["1203", "1204"]


def test_history_keeps_so_long(lab: Lab) -> None:
    times(lab, range(5), Rules(keep_for=120))
    assert history(lab) == ["1202", "1203", "1204"]


def test_history_keeps_so_much_in_all(lab: Lab) -> None:
    size = len(png("minute 0"))
    lab.write(shown(lab, 0, "minute 0", "gone"), f"{at(0)}Z")
    times(lab, range(1, 5), Rules(max_bytes=size * 3))
    assert history(lab, "gone") == []
    assert 1 <= len(history(lab)) <= 3
    left = sum(path.stat().st_size for path in lab.folder.glob("history/**/*.png"))
    assert left <= size * 3


def test_small_pictures_that_nobody_shows_go(lab: Lab) -> None:
    times(lab, range(4), Rules(keep=1))
    assert len(list(lab.folder.glob("thumbnails/*"))) == 1


def test_no_history_at_all(lab: Lab) -> None:
    times(lab, range(3), Rules(keep=0))
    assert not (lab.folder / "history").exists()
    assert "data:image/jpeg" in (lab.folder / "index.html").read_text("utf-8")


def test_the_animation_has_the_last_pictures(lab: Lab) -> None:
    times(lab, range(5), Rules(animate=3))
    with Image.open(lab.folder / "machines" / "h" / "a.gif") as film:
        assert getattr(film, "n_frames", 1) == 3
    lab.write([("h", {"domains": []})])
    assert not list(lab.folder.glob("machines/*/*"))


def test_what_may_not_be_seen_any_more_is_removed(lab: Lab) -> None:
    times(lab, range(3))
    other = lab.domain("h", "a-1", "text", "of another machine")
    lab.screen("h", "a", head=1)
    private = {"name": "a", "state": "running", "skipped": "its owner lets nobody see its screen", "screens": []}
    lab.write([("h", {"domains": [private, other]})], "2026-11-20T13:00:00Z")
    assert not (lab.folder / "history" / "h" / "a").exists()
    assert [path.name for path in (lab.folder / "pictures" / "h").iterdir()] == ["a-1.png"]
    assert len(list(lab.folder.glob("thumbnails/*"))) == 1
    assert not list(lab.folder.glob("machines/h/*.gif"))
    assert "minute" not in "".join(path.read_text("utf-8") for path in lab.folder.rglob("*.html"))


def test_machines_of_one_name_share_nothing(lab: Lab) -> None:
    usual = lab.domain("h", "a", "text", "of libvirt")
    other = lab.domain("h", "a", "text", "of Incus", source="incus")
    lab.write([("h", {"domains": [usual]}), ("h", {"instances": [other]})])
    texts = {path.stem: path.read_text("utf-8") for path in lab.folder.glob("machines/h/*.html")}
    assert len(texts) == 2
    assert ["of libvirt" in text for text in texts.values()] != ["of Incus" in text for text in texts.values()]
    private = {"name": "a", "state": "running", "skipped": "its owner lets nobody see its screen", "screens": []}
    lab.screen("h", "a", source="0123abcd")
    lab.write([("h", {"domains": [private]}), ("h", {"instances": [other]})], "2026-11-20T13:00:00Z")
    assert [path.name for path in (lab.folder / "pictures/h").iterdir()] == ["a~incus.png"]
    page = "".join(path.read_text("utf-8") for path in lab.folder.rglob("*.html"))
    assert "of Incus" in page
    assert "of libvirt" not in page


def test_a_host_does_not_choose_what_is_read(lab: Lab, tmp_path: Path) -> None:
    """A picture elsewhere on the controller, named by the host with its true checksum."""
    secret = tmp_path / "secret.png"
    record = lab.domain("h", "a", "text", "x")
    (lab.folder / "pictures" / "h" / "a.png").rename(secret)
    link = lab.folder / "pictures" / "h" / "a.png"
    for path in (str(secret), "pictures/../../secret.png", str(link)):
        link.unlink(missing_ok=True)
        link.symlink_to(secret)
        record["screens"][0]["fetched_to"] = path
        lab.write([("h", {"domains": [record]})])
        assert "data:image/jpeg" not in (lab.folder / "index.html").read_text("utf-8")
    assert not (lab.folder / "history").exists()


@pytest.mark.parametrize("data", [b"", b"no picture", png("x")[:-20]])
def test_a_picture_that_is_none(lab: Lab, data: bytes) -> None:
    lab.write([("h", {"domains": [lab.domain("h", "a", data=data)]})])
    assert "No picture" in (lab.folder / "index.html").read_text("utf-8")


def test_names_stay_names(lab: Lab, tmp_path: Path) -> None:
    hosts = [(name, {"domains": [lab.domain(name, other) for other in NASTY]}) for name in NASTY]
    before = set(tmp_path.iterdir())
    lab.write(hosts)
    assert set(tmp_path.iterdir()) == before
    page = (lab.folder / "index.html").read_text("utf-8")
    assert "<script" not in page
    assert "{{ 7 * 7 }}" in page
    assert page.count('<li class="card') == len(NASTY) ** 2


def test_odd_files_in_the_history_are_left_alone(lab: Lab) -> None:
    times(lab, (0,))
    folder = lab.folder / "history" / "h" / "a" / "0"
    for name, data in (("x.png", "x"), ("20261120T115900.000000Z.png", "x"), ("y.png", "x"), ("y.json", "[]")):
        (folder / name).write_text(data)
    (folder / "20261120T115900.000000Z.json").write_text('{"captured_at": 3, "sha256": "../x"}')
    times(lab, (1,))
    assert (folder / "x.png").exists()


def test_a_torn_wall_before(lab: Lab) -> None:
    results = lab.fleet()
    (lab.folder / "wall.json").write_bytes(b'{"schema_version": 1, "screens": [{"host"\xff')
    assert lab.write(results).changed
    assert json.loads((lab.folder / "wall.json").read_text("utf-8"))["schema_version"] == 1


def test_a_full_disk_leaves_what_was_there(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    times(lab, (0,))
    before = {path: path.read_bytes() for path in lab.folder.rglob("*") if path.is_file()}
    results = shown(lab, 1, "minute 1")
    before[lab.folder / "pictures" / "h" / "a.png"] = (lab.folder / "pictures" / "h" / "a.png").read_bytes()

    def full(*_arguments: t.Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(Exception, match="No space left"):
        lab.write(results, f"{at(1)}Z")
    assert {path: path.read_bytes() for path in lab.folder.rglob("*") if path.is_file()} == before


def test_metrics(lab: Lab) -> None:
    text = prometheus.render(lab.wall(lab.fleet()))
    families = {family.name: family for family in text_string_to_metric_families(text)}
    names = {"host": "hv-01.example.org", "domain": "web-2", "head": "0"}

    def value(name: str, **labels: str) -> t.Any:
        samples = families[f"kvmops_console_{name}"].samples
        return next((sample.value for sample in samples if sample.labels == labels), None)

    assert value("screen_timestamp_seconds", **names) == 1795175998
    assert value("screen_unchanged_seconds", **names) == 61
    assert value("screen_kind", **names, kind="panic") == 1
    assert value("screen_up", **{**names, "domain": "hung"}) == 0
    assert value("screen_up", **{**names, "domain": "db-1"}) is None
    assert value("screen_host_up", host="hv-02.example.org") == 1
    assert value("screen_host_up", host="hv-03.example.org") == 0


def test_small_pictures_are_small(lab: Lab) -> None:
    lab.write([("h", {"domains": [lab.domain("h", "a", "graphics", data=png(size=(2560, 1600), colour="blue"))]})])
    (small,) = lab.folder.glob("thumbnails/*")
    with Image.open(io.BytesIO(small.read_bytes())) as image:
        assert image.size == (360, 225)
