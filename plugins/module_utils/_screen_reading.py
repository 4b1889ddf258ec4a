# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a screen says and what kind it is, as thoroughly as somebody wants to know.

Private to this collection.

The kind of a screen is told with every picture, so a glance has to do for it: the fonts of firmware and of Linux
itself, which read nearly all text screens, and cost a few milliseconds. What a glance leaves open is called unknown,
and never graphics.
"""

from __future__ import annotations

import typing as t
from itertools import islice

from ansible_collections.kvmops.console.plugins.module_utils import (
    _screen_fonts,
    _screen_kind,
    _screen_ocr,
    _screen_text,
)
from ansible_collections.kvmops.console.plugins.module_utils._image import Flat, Picture, flat
from ansible_collections.kvmops.console.plugins.module_utils._screen_text import ScreenText

GLANCE, READ, RECOGNIZED = 0, 1, 2
"""How thoroughly: with the likeliest fonts, with all of the host, and by text recognition where none fits."""

GLYPHS, OCR = "glyphs", "ocr"
"""Where text comes from."""

_LIKELY = 4
"""Fonts: those of the VGA BIOS, and the one that Linux has built in."""


class Reading(t.NamedTuple):
    """`depth` is how thorough it is, which may be more than what was asked for."""

    depth: int
    text: str | None
    confidence: float | None
    source: str | None
    kind: str
    reason: str


def read(picture: Picture, depth: int = READ, few: Flat | None = None) -> Reading:
    """`picture` at GLANCE or READ. `few` is flat(picture), where somebody has it already."""
    few = few or flat(picture)
    if few is None or len(few.colours) < 2:
        # No font could change that.
        return _reading(READ, None, _screen_kind.classify(picture, None, few))
    fonts: t.Iterable[_screen_text.Font] = _screen_fonts.load_fonts()
    text = _screen_text.read(picture, fonts if depth else islice(fonts, _LIKELY), few)
    if depth == GLANCE and text and text.cells - text.matched <= _screen_text.MOST_CURSORS:
        depth = READ
    return _reading(depth, text, _screen_kind.classify(picture, text, few, sure=bool(text) or depth >= READ))


def recognize(picture: Picture, before: Reading, seconds: float) -> Reading:
    """The same with what Tesseract recognizes, where no font read anything; `before` where it cannot tell."""
    if before.text is not None or before.kind == _screen_kind.BLANK or before.depth >= RECOGNIZED:
        return before._replace(depth=RECOGNIZED)
    text = _screen_ocr.ocr(picture, seconds)
    if text is None:
        return before
    return _reading(RECOGNIZED, text, _screen_kind.classify(picture, text))


def _reading(depth: int, text: ScreenText | None, kind: _screen_kind.Kind) -> Reading:
    if text is None or not text.cells:
        return Reading(depth, None, None, None, *kind)
    return Reading(depth, text.text, round(text.confidence, 4), GLYPHS if text.font else OCR, *kind)
