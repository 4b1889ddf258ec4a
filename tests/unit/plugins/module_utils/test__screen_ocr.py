# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text recognition: what is made of Tesseract's table, and that nothing needs Tesseract."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _image, _screen_ocr
from ansible_collections.kvmops.console.plugins.module_utils._image import Picture
from ansible_collections.kvmops.console.plugins.module_utils._screen_ocr import ocr, parse
from ansible_collections.kvmops.console.plugins.module_utils._screen_text import ScreenText

PICTURE = Picture(4, 2, bytes(24))
HEAD = "level\tpage_num\tblock_num\tpar_num\tline_num\tword_num\tleft\ttop\twidth\theight\tconf\ttext"


def row(left: int, top: int, sure: float, text: str, height: int = 20) -> str:
    return f"5\t1\t1\t1\t1\t1\t{left}\t{top}\t50\t{height}\t{sure}\t{text}"


TABLE = "\n".join(
    [
        HEAD,
        "1\t1\t0\t0\t0\t0\t0\t0\t800\t600\t-1\t",
        row(90, 98, 95.5, "in"),
        row(10, 300, 30, "?~"),
        row(10, 100, 96, "Log"),
        row(10, 130, 60, "Password"),
        "5\t1\t1\tcut off",
        row(200, 100, 90, " "),
    ]
)
TEXT = ScreenText(["Log in", "Password", "?~"], 4, 3, None)


def test_parse() -> None:
    assert parse(TABLE) == TEXT
    assert parse(HEAD) == ScreenText([], 0, 0, None)
    assert parse("") is None


def program(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "tesseract"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_the_program_gets_a_png_twice_as_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "table").write_text(TABLE)
    program(
        tmp_path, f"cat >{tmp_path}/png; echo $* $OMP_THREAD_LIMIT >{tmp_path}/words; cat {tmp_path}/table", monkeypatch
    )
    assert ocr(PICTURE) == TEXT
    assert _image.check_png((tmp_path / "png").read_bytes()) == (8, 4)
    assert (tmp_path / "words").read_text() == "stdin stdout --psm 11 tsv 1\n"


@pytest.mark.parametrize("script", ["cat {table}; exit 1", "exit 0", "printf '\\377\\t\\n'"])
def test_a_program_that_fails_is_none(script: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "table").write_text(TABLE)
    program(tmp_path, "cat >/dev/null; " + script.format(table=tmp_path / "table"), monkeypatch)
    assert ocr(PICTURE) is None


def test_a_program_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "exec sleep 600", monkeypatch)
    assert ocr(PICTURE, seconds=0.2) is None


def test_without_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _screen_ocr.ocr(PICTURE) is None


def test_enlarged_grey() -> None:
    grey = _image.enlarged_grey(Picture(2, 1, b"\xff\0\0" * 2))
    assert grey == Picture(4, 2, b"\x4c" * 24)
    large = Picture(4096, 1024, bytes(4096 * 1024 * 3))
    assert _image.enlarged_grey(large)[:2] == (4096, 1024)
