# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The files: when they change, how they are put in place, and what is left behind."""

from __future__ import annotations

import os
import stat
import typing as t
from pathlib import Path

import pytest

from ansible_collections.kvmops.console.plugins.plugin_utils._report import write
from ansible_collections.kvmops.console.plugins.plugin_utils._report.model import HostResults
from ansible_collections.kvmops.console.tests.unit.plugins.plugin_utils._report import fleet
from ansible_collections.kvmops.console.tests.unit.plugins.plugin_utils._report.fleet import report


def do(folder: Path, results: list[HostResults] | None = None, *, written: str = fleet.WRITTEN) -> dict[str, bool]:
    """Write all formats; tell which changed."""
    planned = write.plan(report(results or fleet.small_fleet(), written=written), str(folder), "console", write.FORMATS)
    write.apply(str(folder), planned.values())
    return {name: file.changed for name, file in planned.items()}


def test_every_format_is_written(tmp_path: Path) -> None:
    assert do(tmp_path / "a" / "b") == dict.fromkeys(("html", "json", "csv", "prometheus"), True)
    names = sorted(path.name for path in (tmp_path / "a" / "b").iterdir())
    assert names == ["console.csv", "console.html", "console.json", "console.prom"]


def test_the_same_again_changes_nothing(tmp_path: Path) -> None:
    do(tmp_path)
    inodes = {path.name: path.stat().st_ino for path in tmp_path.iterdir()}
    assert not any(do(tmp_path).values())
    assert {path.name: path.stat().st_ino for path in tmp_path.iterdir()} == inodes


def test_another_time_is_no_change_but_is_told(tmp_path: Path) -> None:
    do(tmp_path)
    later = [
        one._replace(**{key: at(getattr(one, key), "2026-11-21T10:00:00Z") for key in ("before", "after")})
        for one in fleet.small_fleet()
    ]
    assert not any(do(tmp_path, later, written="2026-11-21T10:07:00Z").values())
    page = (tmp_path / "console.html").read_text(encoding="utf-8")
    assert "2026-11-21 10:00 UTC" in page
    assert "2026-11-21 10:07 UTC" in page
    assert '"generated_at": "2026-11-21T10:07:00Z"' in (tmp_path / "console.json").read_text(encoding="utf-8")
    assert "1795255200" in (tmp_path / "console.prom").read_text(encoding="utf-8")


def at(result: t.Any, moment: str) -> t.Any:
    """The same result of an audit, made at another time."""
    return {**result, "host": {**result["host"], "audited_at": moment}} if result and "host" in result else result


@pytest.mark.parametrize("name", ["html", "json", "csv", "prometheus"])
def test_another_domain_changes_every_format(tmp_path: Path, name: str) -> None:
    do(tmp_path)
    more = [*fleet.small_fleet(), fleet.host("hv-06", [fleet.exposed("late")])]
    assert do(tmp_path, more)[name] is True


def test_a_plan_writes_nothing(tmp_path: Path) -> None:
    planned = write.plan(report(fleet.small_fleet()), str(tmp_path / "new"), "console", write.FORMATS)
    assert all(file.changed for file in planned.values())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("umask", "mode"), [(0o000, 0o644), (0o022, 0o644), (0o077, 0o600)])
def test_a_new_file_honours_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    earlier = os.umask(umask)
    try:
        do(tmp_path)
    finally:
        os.umask(earlier)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {mode}


def test_a_file_keeps_its_mode(tmp_path: Path) -> None:
    page = tmp_path / "console.html"
    page.write_text("old", encoding="utf-8")
    page.chmod(0o640)
    do(tmp_path)
    assert stat.S_IMODE(page.stat().st_mode) == 0o640


def test_a_failure_keeps_the_old_file_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "console.html"
    page.write_text("old", encoding="utf-8")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        do(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["console.html"]
    assert page.read_text(encoding="utf-8") == "old"


def test_a_link_is_replaced_and_its_target_kept(tmp_path: Path) -> None:
    target = tmp_path / "precious"
    target.write_text("precious", encoding="utf-8")
    (tmp_path / "console.csv").symlink_to(target)
    do(tmp_path)
    assert target.read_text(encoding="utf-8") == "precious"


def test_what_is_no_text_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "console.html").write_bytes(b"\xff\xfe\x00")
    assert do(tmp_path)["html"] is True
