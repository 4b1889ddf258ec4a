# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How thoroughly a screen is read: a glance tells what it can, and admits the rest."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import (
    _screen_fonts,
    _screen_kind,
    _screen_ocr,
    _screen_reading,
    _screen_text,
)
from ansible_collections.kvmops.console.plugins.module_utils._image import Picture, flat
from ansible_collections.kvmops.console.plugins.module_utils._screen_reading import (
    GLANCE,
    READ,
    RECOGNIZED,
    Reading,
    read,
    recognize,
)
from ansible_collections.kvmops.console.plugins.module_utils._screen_text import Font, ScreenText

pytest.importorskip("PIL", reason="pictures need Pillow")

LINES = ["web-1 kernel: done", "", "web-1 login:"]
COLUMNS, ROWS = 40, 25


def font(name: str, seed: int) -> Font:
    """Shapes for printed ASCII that no other seed's have."""
    dice = random.Random(seed)
    return Font(name, 8, 16, {0: " ", **{dice.getrandbits(127) << 1: chr(code) for code in range(33, 127)}})


def drawn(lines: list[str], with_: Font) -> Picture:
    """A text screen, white on black."""
    shapes = {character: shape for shape, character in with_.glyphs.items()}
    pixels = bytearray(3 * COLUMNS * 8 * ROWS * 16)
    for row, line in enumerate(lines):
        for column, character in enumerate(line):
            bits = format(shapes[character], "0128b")
            for number in (number for number in range(128) if bits[number] == "1"):
                at = 3 * ((row * 16 + number % 16) * COLUMNS * 8 + column * 8 + number // 16)
                pixels[at : at + 3] = b"\xff\xff\xff"
    return Picture(COLUMNS * 8, ROWS * 16, bytes(pixels))


FONTS = [font(f"font {number}", number) for number in range(6)]


@pytest.fixture(autouse=True)
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The fonts that were tried, of a host that has FONTS."""
    asked: list[str] = []

    def fonts() -> Iterator[Font]:
        for one in FONTS:
            asked.append(one.name)
            yield one

    monkeypatch.setattr(_screen_fonts, "load_fonts", fonts)
    return asked


@pytest.mark.parametrize("number", range(4))
def test_a_glance_reads_the_likely_fonts_and_that_is_all_there_is(number: int) -> None:
    reading = read(drawn(LINES, FONTS[number]), GLANCE)
    assert reading == read(drawn(LINES, FONTS[number]), READ)
    assert (reading.depth, reading.text, reading.confidence) == (READ, "\n".join(LINES), 1.0)
    assert (reading.source, reading.kind) == ("glyphs", "login")


def test_what_a_glance_leaves_open_is_unknown_and_a_reading_tells(asked: list[str]) -> None:
    picture = drawn(LINES, FONTS[5])
    glance = read(picture, GLANCE)
    assert asked == ["font 0", "font 1", "font 2", "font 3"]
    assert glance == Reading(
        GLANCE,
        None,
        None,
        None,
        "unknown",
        "The picture has 2 colours, so it may be text in another font: ask for the text.",
    )
    assert read(picture, READ)[:2] == (READ, "\n".join(LINES))


def test_a_font_that_fits_in_part_does_not_end_the_reading() -> None:
    mixed = Font("mixed", 8, 16, dict([*FONTS[0].glyphs.items(), *FONTS[1].glyphs.items()]))
    shapes = {character: shape for shape, character in FONTS[1].glyphs.items()}
    mixed.glyphs.clear()
    mixed.glyphs.update({shape: character for shape, character in FONTS[0].glyphs.items() if character != "n"})
    mixed.glyphs[shapes["n"]] = "n"
    glance = read(drawn(["lorem ipsum nnn dolor sit amet consectetur"[:COLUMNS]], mixed), GLANCE)
    assert (glance.depth, glance.kind) == (GLANCE, "text")


def test_what_no_font_could_change_is_final(asked: list[str]) -> None:
    noise = Picture(320, 400, random.Random(1).randbytes(320 * 400 * 3))
    assert (read(noise, GLANCE).depth, read(noise, GLANCE).kind) == (READ, "graphics")
    blank = Picture(320, 400, bytes(320 * 400 * 3))
    assert (read(blank, GLANCE).depth, read(blank, GLANCE).kind) == (READ, "blank")
    assert asked == []


def test_few_colours_that_are_there_are_not_looked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = drawn(LINES, FONTS[5])
    few = flat(picture)
    for module in (_screen_reading, _screen_kind, _screen_text):
        monkeypatch.setattr(module, "flat", None)
    assert read(picture, GLANCE, few).kind == "unknown"


@pytest.fixture
def recognized(monkeypatch: pytest.MonkeyPatch) -> list[ScreenText | None]:
    """What Tesseract will say."""
    says: list[ScreenText | None] = []
    monkeypatch.setattr(_screen_ocr, "ocr", lambda picture, seconds: says.pop(0))
    return says


GRAPHICS = Picture(320, 400, random.Random(2).randbytes(320 * 400 * 3))


def test_graphics_are_recognized(recognized: list[ScreenText | None]) -> None:
    recognized.append(ScreenText(["Your device ran into a problem"], 6, 5))
    assert recognize(GRAPHICS, read(GRAPHICS), 10) == Reading(
        RECOGNIZED,
        "Your device ran into a problem",
        0.8333,
        "ocr",
        "panic",
        "The screen says: Your device ran into a problem",
    )


def test_graphics_without_words_were_looked_at(recognized: list[ScreenText | None]) -> None:
    recognized.append(ScreenText([], 0, 0))
    before = read(GRAPHICS)
    assert recognize(GRAPHICS, before, 10) == before._replace(depth=RECOGNIZED)


def test_recognition_that_failed_is_tried_again(recognized: list[ScreenText | None]) -> None:
    recognized.append(None)
    before = read(GRAPHICS)
    assert recognize(GRAPHICS, before, 10) is before


@pytest.mark.parametrize("picture", [drawn(LINES, FONTS[0]), Picture(8, 16, bytes(8 * 16 * 3))])
def test_exact_text_and_blank_screens_need_no_recognition(
    picture: Picture, recognized: list[ScreenText | None]
) -> None:
    before = read(picture)
    assert recognize(picture, before, 10) == before._replace(depth=RECOGNIZED)
