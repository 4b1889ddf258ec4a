# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""GRUB's and UEFI's fonts, made here, and text in them where those put it; damaged files are refused."""

from __future__ import annotations

import struct
import sys

import pytest

from ansible_collections.kvmops.console.plugins.module_utils._boot_fonts import from_edk2, from_pf2
from ansible_collections.kvmops.console.plugins.module_utils._image import Picture
from ansible_collections.kvmops.console.plugins.module_utils._screen_text import Area, Font, pattern, read
from ansible_collections.kvmops.console.tests.unit.plugins.module_utils.boot_font_files import (
    ASCII,
    Glyph,
    drawn,
    firmware,
    narrow,
    pf2,
    plain_glyphs,
)

Image = pytest.importorskip("PIL.Image", reason="pictures need Pillow")
_TRANSPOSE = 5
"""Pillow's, which has another name in older versions."""

LINES = ["GNU GRUB  version 2.06", "", "*Debian GNU/Linux", " Advanced options"]


# --- GRUB -------------------------------------------------------------------------------------------------------------


def screen(font: Font, lines: list[str], size: tuple[int, int], area: Area) -> Picture:
    """`lines` in the upper left corner of `area`."""
    shapes = {character: shape for shape, character in font.glyphs.items()}
    image = Image.new("L", size)
    for row, line in enumerate(lines):
        for column, character in enumerate(line):
            bits = format(shapes[character], f"0{font.width * font.height}b")
            columns = bytes(0xAA * int(bit) for bit in bits)
            glyph = Image.frombytes("L", (font.height, font.width), columns).transpose(_TRANSPOSE)
            image.paste(glyph, (area.left + column * font.width, area.top + row * font.height))
    return Picture(*size, image.convert("RGB").tobytes())


def test_glyphs_stand_on_the_base_line() -> None:
    font = from_pf2(pf2({**plain_glyphs(), ord("g"): (3, 2, 4, -2, 8, [0b101, 0b011])}))
    assert font[:3] == ("GRUB's font", 8, 16)
    rows = bytes(14) + bytes([0b00001010, 0b00000110])
    assert font.glyphs[pattern(rows, 8, 16)] == "g"
    assert sorted(font.glyphs.values()) == ASCII


def test_of_equal_drawings_ascii_and_frames_count() -> None:
    line: Glyph = (8, 1, 0, 6, 8, [0xFF])
    also_a: Glyph = plain_glyphs()[ord("A")]
    font = from_pf2(pf2({**plain_glyphs(), 0x2014: line, 0x2500: line, 0x391: also_a}))
    assert {"A", "─"} < set(font.glyphs.values())
    assert not {"\u2014", "\u0391"} & set(font.glyphs.values())


@pytest.mark.parametrize(
    "glyph",
    [
        (8, 16, 0, -2, 16, [1] * 16),  # of double width
        (8, 10, 1, 0, 8, [1] * 10),  # right of its cell
        (8, 10, -1, 0, 8, [1] * 10),  # left
        (8, 10, 0, 5, 8, [1] * 10),  # above
        (8, 10, 0, -3, 8, [1] * 10),  # below
    ],
)
def test_what_is_larger_than_its_cell_is_left_out(glyph: Glyph) -> None:
    assert sorted(from_pf2(pf2({**plain_glyphs(), 0x100: glyph})).glyphs.values()) == ASCII


def test_grubs_text_begins_beside_the_corner() -> None:
    font = from_pf2(pf2(plain_glyphs()))
    assert font.areas((1024, 768)) == [Area(10, 10, 1000, 736)]
    text = read(screen(font, LINES, (1024, 768), Area(10, 10, 0, 0)), [font])
    assert text is not None
    assert (text.lines[:4], text.cells, text.matched) == (LINES, 125 * 46, 125 * 46)
    assert read(screen(font, LINES, (1024, 768), Area(11, 10, 0, 0)), [font]) is None


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "no font of GRUB"),
        (b"\x36\x04" * 50, "no font of GRUB"),
        (pf2(plain_glyphs())[:300], "no font of GRUB"),
        (pf2(plain_glyphs())[:-4], "no font of GRUB"),
        (pf2(plain_glyphs(), FILE=b"PFF3"), "no font of GRUB"),
        (pf2(plain_glyphs(), MAXH=None), "no font of GRUB"),
        (pf2(plain_glyphs(), ASCE=b"\0"), "no font of GRUB"),
        (pf2(plain_glyphs(), MAXH=b"\xff\xff"), "8 x 65535 pixels"),
        (pf2(plain_glyphs(), flags=1), "no font of GRUB"),  # packed in a way that nobody has defined
        (pf2({0x41: (8, 10, 0, 0, 8, [1] * 10)}), "no font of GRUB"),
    ],
    ids=["empty", "other", "cut-index", "cut-glyphs", "version", "height", "ascent", "huge", "packed", "one-letter"],
)
def test_what_is_no_font_of_grub(data: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        from_pf2(data)


# --- UEFI -------------------------------------------------------------------------------------------------------------


def test_the_font_is_in_the_packed_part_of_the_firmware() -> None:
    behind = struct.pack("<HB19s", 0x100, 0, bytes(drawn("\u0100", 19)))
    font = from_edk2(firmware(b"code" * 500 + narrow() + behind))
    assert font is not None
    assert font[:3] == ("UEFI 8x19", 8, 19)
    assert sorted(font.glyphs.values()) == ASCII
    assert font.glyphs[pattern(bytes(drawn("A", 19)), 8, 19)] == "A"


def test_the_font_ends_with_the_firmware() -> None:
    font = from_edk2(firmware(narrow()[:-22]))
    assert font is not None
    assert sorted(font.glyphs.values()) == ASCII


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"volume" * 100,
        narrow(),
        firmware(b"code" * 500),
        firmware(narrow())[:74],
        firmware(narrow())[:85],
        firmware(narrow())[:78] + b"\xff" * 500,
    ],
    ids=["empty", "nothing-packed", "not-packed", "no-font", "cut-header", "cut", "damaged"],
)
def test_firmware_without_a_font(data: bytes) -> None:
    assert from_edk2(data) is None


def test_what_needs_more_memory_than_firmware_does_is_not_unpacked() -> None:
    huge = bytearray(firmware(narrow()))
    huge[79:83] = struct.pack("<I", 1 << 31)  # the size of the dictionary, as the packed part says
    assert from_edk2(bytes(huge)) is None


def test_the_second_packed_part_counts_when_the_first_has_no_font() -> None:
    assert from_edk2(firmware(b"code") + firmware(narrow())) is not None


def test_a_python_without_lzma(monkeypatch: pytest.MonkeyPatch) -> None:
    data = firmware(narrow())
    monkeypatch.setitem(sys.modules, "lzma", None)
    assert from_edk2(data) is None


@pytest.mark.parametrize("area", [Area(0, 1, 1280, 798), Area(320, 162, 640, 475), Area(240, 105, 800, 589)])
def test_uefis_text_is_in_the_middle(area: Area) -> None:
    font = from_edk2(firmware(narrow()))
    assert font is not None
    assert area in font.areas((1280, 800))
    lines = [line.ljust(area.width // 8, ".") for line in LINES] + ["."] * (area.height // 19 - len(LINES))
    text = read(screen(font, lines, (1280, 800), area), [font])
    assert text is not None
    assert (text.lines, text.cells) == (lines, area.width * area.height // 8 // 19)


def test_modes_that_a_screen_has_no_room_for() -> None:
    font = from_edk2(firmware(narrow()))
    assert font is not None
    assert font.areas((640, 480)) == [Area(0, 2, 640, 475), Area(0, 2, 640, 475)]
