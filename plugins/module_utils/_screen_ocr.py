# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Recognizes text on graphical screens by Tesseract, where that is installed; nothing needs it.

Private to this collection.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import typing as t

from ansible_collections.kvmops.console.plugins.module_utils._image import Picture, encode_png, enlarged_grey
from ansible_collections.kvmops.console.plugins.module_utils._screen_text import ScreenText

PROGRAM = "tesseract"
INSTALL = "install tesseract-ocr (Debian, Ubuntu, SUSE) or tesseract (Fedora; RHEL: from EPEL), or leave ocr out."
SECONDS = 30.0
SURE = 60.0
"""A word that Tesseract is surer of than this, in per cent, counts as matched."""

# tesseract(1): sparse text, as much of it as there is, in no order that matters.
_SPARSE = "11"
# The columns of its table: level, page, block, paragraph, line, word, left, top, width, height, confidence, text.
_COLUMNS = 12
_FIRST = "level\t"


class _Word(t.NamedTuple):
    left: int
    top: int
    height: int
    sure: float
    text: str


def is_installed() -> bool:
    """Whether there is a Tesseract."""
    return shutil.which(PROGRAM) is not None


def ocr(picture: Picture, seconds: float = SECONDS) -> ScreenText | None:
    """The words on `picture`, if any; None without Tesseract, or when it fails or takes `seconds`."""
    program = shutil.which(PROGRAM)
    if program is None or seconds <= 0:
        return None
    # Letters of screens are half as high as those it was taught with. Its threads only get into each other's way.
    image = encode_png(enlarged_grey(picture))
    try:
        # This part knows nothing of Ansible, so it has no module to run commands by.
        done = subprocess.run(  # pylint: disable=ansible-bad-function
            [program, "stdin", "stdout", "--psm", _SPARSE, "tsv"],
            input=image,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=seconds,
            check=False,
            env={**os.environ, "OMP_THREAD_LIMIT": "1", "LC_ALL": "C.UTF-8"},
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode:
        return None
    return parse(done.stdout.decode("utf-8", "replace"))


def parse(table: str) -> ScreenText | None:
    """The text of Tesseract's table (tsv): words that stand at the same height are one line. None for no table."""
    if not table.startswith(_FIRST):
        return None
    words = sorted(filter(None, map(_word, table.splitlines())), key=lambda word: word.top + word.height / 2)
    lines: list[list[_Word]] = []
    for word in words:
        last = lines[-1][-1] if lines else None
        if last and word.top + word.height / 2 < last.top + last.height:
            lines[-1].append(word)
        else:
            lines.append([word])
    told = [" ".join(word.text for word in sorted(line, key=lambda word: word.left)) for line in lines]
    return ScreenText(told, len(words), sum(word.sure >= SURE for word in words))


def _word(line: str) -> _Word | None:
    fields = line.split("\t")
    if len(fields) != _COLUMNS or not fields[0].isdigit() or not fields[-1].strip():
        return None
    try:
        left, top, _width, height = map(int, fields[6:10])
        return _Word(left, top, height, float(fields[10]), fields[-1].strip())
    except ValueError:
        return None
