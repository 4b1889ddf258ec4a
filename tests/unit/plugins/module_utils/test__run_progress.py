# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How far a module is can be read from a file while it works, and never stands in its way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.kvmops.console.plugins.module_utils._processes import deal_out
from ansible_collections.kvmops.console.plugins.module_utils._run import _progress
from ansible_collections.kvmops.console.plugins.module_utils._run._progress import Progress, told


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "progress"
    monkeypatch.setenv(_progress.VARIABLE, os.fspath(path))
    return path


def test_each_machine_counts_when_it_is_done(file: Path) -> None:
    def look(item: int) -> tuple[int, str | None]:
        return item, told(file.read_text(encoding="utf-8")) if file.exists() else None

    with Progress(3) as progress:
        work = progress.counted(look)
        assert [work(1), work(2)] == [(1, "0 of 3"), (2, "1 of 3")]
        assert look(0) == (0, "2 of 3")
        assert file.stat().st_mode & 0o777 == 0o600
    assert work(3) == (3, None), "the file is gone, and what was left behind ends without harm"


def test_one_that_fails_is_done_too(file: Path) -> None:
    def fail(_item: int) -> None:
        raise ValueError("x")

    with Progress(1) as progress:
        with pytest.raises(ValueError, match="x"):
            progress.counted(fail)(1)
        assert told(file.read_text(encoding="utf-8")) == "1 of 1"


def test_all_processes_count(file: Path) -> None:
    with Progress(4) as progress:
        work = progress.counted(lambda item: {"item": item})
        results = deal_out([1, 2, 3, 4], 2, lambda items: map(work, items), lambda items: map(work, items))
        assert [result["item"] for result in results] == [1, 2, 3, 4]
        assert told(file.read_text(encoding="utf-8")) == "4 of 4"


def test_what_is_there_already_is_left_alone(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("theirs", encoding="utf-8")
    file.symlink_to(other)
    with Progress(1) as progress:
        assert progress.counted(str)(1) == "1"
    assert (file.is_symlink(), other.read_text(encoding="utf-8")) == (True, "theirs")


def test_nobody_asks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(_progress.VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)
    with Progress(1) as progress:
        assert progress.counted(str)(1) == "1"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", ["", "None", "3", "x\n..", "3\n..x", "-1\n", "\u00b2\n."])
def test_anything_else_tells_nothing(content: str) -> None:
    assert told(content) is None


def test_what_it_tells() -> None:
    assert [told("200\n" + "." * 12), told("200\n" + "." * 12 + "\n"), told("2\n")] == ["12 of 200"] * 2 + ["0 of 2"]
    assert told("2\r\n.") == "1 of 2", "as a terminal gives it"
