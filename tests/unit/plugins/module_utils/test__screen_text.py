# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Text is read to the pixel: screens drawn here from fonts made here, in every cell, colour and with cursors."""

from __future__ import annotations

import gzip
import random
import struct
from collections.abc import Iterator, Sequence
from typing import Optional

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _screen_text
from ansible_collections.kvmops.console.plugins.module_utils._image import Picture
from ansible_collections.kvmops.console.plugins.module_utils._screen_text import (
    UNKNOWN,
    Font,
    ScreenText,
    from_psf,
    from_vgabios,
    read,
)

Colour = tuple[int, int, int]
BLACK, GREY, WHITE, BLUE, YELLOW = (0, 0, 0), (170, 170, 170), (255, 255, 255), (0, 0, 170), (255, 255, 85)
NEARLY_BLACK = (0, 0, 1)

CP437 = bytes(range(32, 127)).decode("ascii")
LINES = ["Booting from Hard Disk...", "", "  GRUB loading.", "error: no such device: 0a1b-2c3d."]


def bitmaps(height: int, seed: int = 0) -> list[bytes]:
    """A font in the order of code page 437: blanks, blocks and lines as they are, all else drawn by dice."""
    dice = random.Random(seed * 100 + height)
    glyphs = [bytes(dice.randrange(1, 255) & 0xFE for _row in range(height)) for _code in range(256)]
    for blank in (0, 32, 255):
        glyphs[blank] = bytes(height)
    half = height // 2
    glyphs[0xC4] = bytes(0xFF if row == half else 0 for row in range(height))
    glyphs[0xB3] = b"\x18" * height
    glyphs[0xDB] = b"\xff" * height
    glyphs[0xDC] = bytes(half) + b"\xff" * (height - half)
    glyphs[0xDD] = b"\xf0" * height
    glyphs[0xDE] = b"\x0f" * height
    glyphs[0xDF] = b"\xff" * half + bytes(height - half)
    return glyphs


def rom(*heights: int) -> bytes:
    """A VGA BIOS with fonts of these heights among other bytes."""
    dice = random.Random(7)
    parts = [dice.randbytes(501)]
    for height in heights:
        parts += [b"".join(bitmaps(height)), dice.randbytes(33)]
    return b"".join(parts)


VGA = from_vgabios(rom(14, 16, 8))


class Screen:
    """A text screen to draw on."""

    def __init__(self, columns: int, rows: int, *, cell: int = 8, height: int = 16, seed: int = 0) -> None:
        self.columns, self.rows, self.cell, self.height = columns, rows, cell, height
        self.glyphs = bitmaps(height, seed)
        self.pixels = [[BLACK] * columns * cell for _line in range(rows * height)]

    def put(self, column: int, row: int, code: int, ink: Colour = GREY, back: Colour = BLACK) -> None:
        for y, bits in enumerate(self.glyphs[code]):
            drawn = [ink if bits >> (7 - x) & 1 else back for x in range(8)]
            if self.cell == 9:
                drawn.append(drawn[7] if 0xC0 <= code <= 0xDF else back)
            left = column * self.cell
            self.pixels[row * self.height + y][left : left + self.cell] = drawn

    def write(self, lines: Sequence[str], ink: Colour = GREY, back: Colour = BLACK, *, top: int = 0) -> Screen:
        for row, line in enumerate(lines):
            for column, code in enumerate(line.encode("cp437")):
                self.put(column, row + top, code, ink, back)
        return self

    def cursor(self, column: int, row: int, first: int = 13, last: int = 14, ink: Colour = GREY) -> Screen:
        left = column * self.cell
        for y in range(first, last + 1):
            self.pixels[row * self.height + y][left : left + self.cell] = [ink] * self.cell
        return self

    def picture(self, right: int = 0, below: int = 0) -> Picture:
        """With so many more pixels than whole cells."""
        lines = [line + [BLACK] * right for line in self.pixels]
        lines += [[BLACK] * len(lines[0]) for _line in range(below)]
        return Picture(len(lines[0]), len(lines), b"".join(bytes(pixel) for line in lines for pixel in line))


def lines_of(text: Optional[ScreenText]) -> list[str]:
    assert text is not None
    return text.lines


@pytest.mark.parametrize(("cell", "height"), [(8, 16), (9, 16), (8, 14), (9, 14), (8, 8), (9, 8)])
def test_every_cell_matches(cell: int, height: int) -> None:
    picture = Screen(80, 25, cell=cell, height=height).write(LINES).picture()
    text = read(picture, VGA)
    assert text == ScreenText([*LINES, *[""] * 21], 2000, 2000, f"VGA 8x{height}")
    assert text.text == "\n".join(LINES)
    assert text.confidence == 1.0


@pytest.mark.parametrize("cell", [8, 9])
def test_all_characters(cell: int) -> None:
    screen = Screen(80, 25, cell=cell)
    for code in range(256):
        screen.put(code % 64, code // 64, code)
    text = read(screen.picture(), VGA)
    assert text is not None
    expected = " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼ !\"#$%&'()*+,-./0123456789:;<=>?"
    assert text.lines[:2] == [expected, bytes(range(64, 127)).decode() + "⌂"]
    # A full block can't be told from a blank on a background of its colour.
    assert text.lines[2] == bytes(range(128, 192)).decode("cp437")
    assert text.lines[3] == bytes(range(192, 255)).decode("cp437").replace("█", " ")
    assert text.matched == 2000


@pytest.mark.parametrize(
    ("ink", "back"), [(WHITE, BLACK), (BLACK, GREY), (YELLOW, BLUE), (NEARLY_BLACK, BLACK), (BLACK, NEARLY_BLACK)]
)
@pytest.mark.parametrize("cell", [8, 9])
def test_any_two_colours(ink: Colour, back: Colour, cell: int) -> None:
    screen = Screen(80, 25, cell=cell).write(["menu"]).write(["[ an entry ] of GRUB "], ink, back, top=3)
    text = read(screen.picture(), VGA)
    assert text is not None
    assert (text.lines[0], text.lines[3], text.matched) == ("menu", "[ an entry ] of GRUB", 2000)


def test_halves_are_told_by_what_the_screen_s_background_is() -> None:
    text = read(Screen(80, 25).write(["▄▀▌▐", "text around them, so that this is read"]).picture(), VGA)
    assert lines_of(text)[0] == "▄▀▌▐"


@pytest.mark.parametrize("cell", [8, 9])
@pytest.mark.parametrize(("first", "last"), [(13, 14), (14, 15), (15, 15), (0, 15), (11, 15)])
@pytest.mark.parametrize(("column", "under"), [(4, " "), (0, "l"), (70, " ")])
def test_a_cursor_is_looked_under(cell: int, first: int, last: int, column: int, under: str) -> None:
    screen = Screen(80, 25, cell=cell).write(["lab login:", "lab"]).cursor(column, 1, first, last)
    text = read(screen.picture(), VGA)
    assert text is not None
    if (first, last) == (0, 15):
        # A full block is a blank in the other colour.
        assert text.matched == 2000
        assert text.lines[1].ljust(80)[column] == " "
    else:
        assert text.matched == 1999
        assert text.lines[1].ljust(80)[column] == under
    assert text.lines[0] == "lab login:"


def test_a_cursor_in_inverse_video() -> None:
    screen = Screen(80, 25).write(LINES).write(["password"], BLACK, GREY, top=9).cursor(2, 9, ink=BLACK)
    text = read(screen.picture(), VGA)
    assert text is not None
    assert (text.lines[9], text.matched) == ("password", 1999)


def test_nothing_but_a_cursor_is_an_empty_text() -> None:
    text = read(Screen(80, 25, cell=9).cursor(0, 0).picture(), VGA)
    assert text is not None
    assert (text.text, text.cells, text.matched) == ("", 2000, 1999)


def test_many_bars_are_no_cursors() -> None:
    screen = Screen(80, 25)
    for column in range(3):
        screen.cursor(column * 2, 3)
    assert read(screen.picture(), VGA) is None


def test_many_bars_in_a_text_are_no_cursors_either() -> None:
    screen = Screen(80, 25).write(LINES)
    for column in range(3):
        screen.cursor(column, 0)
    text = read(screen.picture(), VGA)
    assert text is not None
    assert (text.lines[0], text.matched) == (UNKNOWN * 3 + LINES[0][3:], 1997)


def test_under_a_cursor_a_blank_is_likelier_than_a_line() -> None:
    screen = Screen(80, 25).write(LINES).cursor(40, 0, 12, 15)
    line = bytes(13) + b"\xff\xff\0"
    font = VGA[0]._replace(glyphs={_screen_text.pattern(line, 8, 16): "_", **VGA[0].glyphs})
    assert lines_of(read(screen.picture(), [font]))[0] == LINES[0]


def test_of_characters_drawn_alike_ascii_is_read() -> None:
    rows = b"\x55" * 16
    for drawn in ("\u0410A", "A\u0410", "\u0410\u0391A"):
        assert set(_screen_text.glyphs_of(8, 16, [(rows, character) for character in drawn]).values()) == {" ", "A"}


def test_what_is_no_glyph_is_told_and_counted() -> None:
    screen = Screen(80, 25).write(LINES)
    for x, y in ((3, 5), (4, 9)):
        row = screen.pixels[y]
        row[x] = GREY if row[x] == BLACK else BLACK
    text = read(screen.picture(), VGA)
    assert text is not None
    assert text.lines[0] == UNKNOWN + LINES[0][1:]
    assert text.matched == 1999
    assert text.confidence == 1999 / 2000


def test_the_ninth_column_has_to_fit() -> None:
    """A dot there belongs to no glyph."""
    screen = Screen(80, 25, cell=9).write(LINES)
    screen.pixels[5][8] = GREY
    text = read(screen.picture(), VGA)
    assert text is not None
    assert (text.lines[0][0], text.matched) == (UNKNOWN, 1999)


def test_cells_start_at_the_upper_left_and_what_is_left_over_is_ignored() -> None:
    picture = Screen(100, 40).write(LINES).picture(right=5, below=8)
    text = read(picture, VGA)
    assert text is not None
    assert (text.lines[:4], text.cells, text.matched) == (LINES, 4000, 4000)


def test_a_logo_above_the_text() -> None:
    dice = random.Random(5)
    screen = Screen(128, 48).write(LINES * 4, top=6)
    for y in range(80):
        for x in range(80):
            screen.pixels[y][x] = (dice.randrange(4) * 60, dice.randrange(4) * 60, dice.randrange(4) * 60)
    text = read(screen.picture(), VGA)
    assert text is not None
    assert text.lines[6:10] == LINES
    assert (text.cells, text.matched) == (6144, 6144 - 50)


def test_the_font_with_most_matches_wins() -> None:
    picture = Screen(80, 25, seed=1).write(LINES).picture()
    glyphs = bitmaps(16, 1)

    def font(name: str, known: str) -> Font:
        drawn = ((glyphs[ord(character)], character) for character in known)
        return Font(name, 8, 16, _screen_text.glyphs_of(8, 16, drawn))

    written = "".join(sorted(set("".join(LINES))))
    most = written.replace("H", "")
    fonts = [*VGA, font("most", most), font("all", written), font("never asked", written)]
    text = read(picture, fonts)
    assert text is not None
    assert (text.font, text.matched) == ("all", 2000)
    text = read(picture, fonts[:4])
    assert text is not None
    assert (text.font, text.matched, text.lines[0]) == ("most", 1999, LINES[0].replace("H", UNKNOWN))
    assert read(picture, VGA) is None


def test_fonts_are_asked_for_only_until_one_reads_everything() -> None:
    def fonts() -> Iterator[Font]:
        yield from VGA
        raise AssertionError("one more was asked for")

    assert lines_of(read(Screen(80, 25).write(LINES).picture(), fonts()))[0] == LINES[0]


def test_graphics_ask_for_no_further_font() -> None:
    dice = random.Random(4)
    # Too many colours for anything, and few, but more than two a cell.
    many = Picture(1024, 768, dice.randbytes(1024 * 768 * 3))
    few = Picture(320, 320, b"".join(bytes(dice.choice([BLACK, GREY, WHITE])) for _pixel in range(320 * 320)))
    asked = []

    def fonts() -> Iterator[Font]:
        for font in VGA * 20:
            asked.append(font.name)
            yield font

    assert read(many, fonts()) is None
    assert asked == []
    assert read(few, fonts()) is None
    assert len(asked) == 1


@pytest.mark.parametrize(("seed", "known"), [(9, False), (0, True)])
def test_the_search_for_a_better_font_ends(seed: int, known: bool) -> None:
    """Where no font is near, and where one reads everything but a cell."""
    screen = Screen(80, 25, seed=seed).write(LINES)
    screen.pixels[5][3] = GREY if screen.pixels[5][3] == BLACK else BLACK
    asked = []

    def fonts() -> Iterator[Font]:
        for font in VGA * 200:
            asked.append(font.name)
            yield font

    assert (read(screen.picture(), fonts()) is not None) is known
    assert len(asked) == _screen_text._MOST_FRUITLESS + 1


@pytest.mark.parametrize("size", [(1, 1), (7, 15), (8, 15), (640, 480)])
def test_one_colour_and_small_pictures_are_no_text(size: tuple[int, int]) -> None:
    width, height = size
    assert read(Picture(width, height, bytes(width * height * 3)), VGA) is None
    assert read(Picture(width, height, bytes(range(1, 4)) + bytes(width * height * 3 - 3)), VGA) is None


def test_from_vgabios() -> None:
    assert [font[:3] for font in VGA] == [("VGA 8x16", 8, 16), ("VGA 8x14", 8, 14), ("VGA 8x8", 8, 8)]
    # Three blanks are one, and the full block is there.
    assert [len(font.glyphs) for font in VGA] == [254] * 3
    assert from_vgabios(b"") == []
    assert from_vgabios(rom()) == []
    assert [font.height for font in from_vgabios(rom(8))] == [8]
    cut = rom(16)
    assert from_vgabios(cut[:-100]) == []
    assert from_vgabios(cut[1000:]) == []


def test_from_vgabios_goes_on_after_what_only_looks_like_a_font() -> None:
    halves = b"\xf0" * 16 + b"\x0f" * 16
    assert [font.height for font in from_vgabios(halves * 3 + bytes(5000) + halves + rom(16))] == [16]


def test_pattern_is_column_by_column() -> None:
    assert _screen_text.pattern(b"\x80\x00", 8, 2) == 1 << 15
    assert _screen_text.pattern(b"\x00\x01", 8, 2) == 1
    assert _screen_text.pattern(b"\x00\x10\x80\x00", 12, 2) == 1 << 22 | 2


def psf1(glyphs: Sequence[bytes], table: Optional[Sequence[Sequence[int]]] = None) -> bytes:
    mode = (1 if len(glyphs) == 512 else 0) | (2 if table else 0)
    words = [word for entry in table or [] for word in [*entry, 0xFFFF]]
    return b"\x36\x04" + bytes([mode, len(glyphs[0])]) + b"".join(glyphs) + struct.pack(f"<{len(words)}H", *words)


def psf2(glyphs: Sequence[bytes], width: int, height: int, table: Optional[Sequence[bytes]] = None) -> bytes:
    head = struct.pack("<7I", 0, 36, int(bool(table)), len(glyphs), len(glyphs[0]), height, width)
    # Four bytes of a header that may be longer than we know.
    return b"\x72\xb5\x4a\x86" + head + b"more" + b"".join(glyphs) + b"".join(entry + b"\xff" for entry in table or [])


def test_psf1_without_a_table_is_in_the_order_of_cp437() -> None:
    assert from_psf(psf1(bitmaps(16)), "plain") == VGA[0]._replace(name="plain")


def test_psf1_with_a_table() -> None:
    glyphs = [bytes([code % 255 + 1, code // 255]) for code in range(512)]
    table: list[list[int]] = [[] for _code in range(512)]
    table[1] = [0x2010, 0x2D, 0xAD]
    table[2] = [0x416, 0xFFFE, 0x41, 0x301]
    table[3] = [0xFFFE, 0x41, 0x301]
    table[511] = [0x20AC]
    font = from_psf(psf1(glyphs, table))
    known = {_screen_text.pattern(glyphs[at], 8, 2): character for at, character in ((1, "-"), (2, "Ж"), (511, "€"))}
    assert font == Font("console font", 8, 2, {0: " ", **known})


@pytest.mark.parametrize("packed", [False, True])
def test_psf2(packed: bool) -> None:
    glyphs = [bytes([1, 0x10, 2, 0x20, 3, 0x30]), bytes([0xFF, 0xF0] * 3), bytes([4, 0x10, 2, 0x20, 3, 0x30])]
    table = ["é".encode() + b"\xfee\xcc\x81", "\u00a0 ".encode(), "‐-".encode()]
    data = psf2(glyphs, 12, 3, table)
    font = from_psf(gzip.compress(data) if packed else data, "wide")
    patterns = [_screen_text.pattern(glyph, 12, 3) for glyph in glyphs]
    assert font == Font("wide", 12, 3, {0: " ", patterns[0]: "é", patterns[1]: " ", patterns[2]: "-"})


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x36\x04",
        b"\x36\x04\x00",
        b"\x36\x04\x00\x00",
        psf1(bitmaps(16))[:-1],
        psf1(bitmaps(16), [[65]] * 255),
        psf2([bytes(6)], 12, 3)[:20],
        psf2([bytes(6)], 12, 3)[:-1],
        psf2([bytes(6)], 13, 4),
        psf2([bytes(6)], 12, 3, [])[:12] + b"\1" + psf2([bytes(6)], 12, 3, [])[13:],
        psf2([bytes(6)], 12, 3, [b"\x80"]),
        psf2([bytes(0)], 0, 3),
        gzip.compress(psf1(bitmaps(16)), mtime=0)[:-9],
        gzip.compress(b"no font", mtime=0),
        b"\x1f\x8bno gzip",
        b"STARTFONT 2.1",
    ],
)
def test_psf_that_is_none(data: bytes) -> None:
    with pytest.raises(
        ValueError, match=r"(?i)font .*(damaged|is no|cut off|has glyphs|bytes for)|cut off|no console font"
    ):
        from_psf(data, "bad font")


def test_a_wide_font_on_the_screen() -> None:
    """As Linux draws with a font of 12 x 24."""
    dice = random.Random(6)
    glyphs = [
        bytes(byte for _row in range(24) for byte in (dice.randrange(256), dice.randrange(16) << 4)) for _code in CP437
    ]
    glyphs[0] = bytes(48)
    font = from_psf(psf2(glyphs, 12, 24, [character.encode() for character in CP437]), "wide")
    said = "login: root"
    pixels = [[BLACK] * 1024 for _line in range(768)]
    for column, character in enumerate(said):
        rows = glyphs[CP437.index(character)]
        for y in range(24):
            bits = int.from_bytes(rows[2 * y : 2 * y + 2], "big")
            pixels[24 + y][column * 12 : column * 12 + 12] = [
                GREY if bits >> (15 - x) & 1 else BLACK for x in range(12)
            ]
    picture = Picture(1024, 768, b"".join(bytes(pixel) for line in pixels for pixel in line))
    assert read(picture, [*VGA, font]) == ScreenText(["", said, *[""] * 30], 85 * 32, 85 * 32, "wide")


def test_no_text_has_no_confidence() -> None:
    assert ScreenText([], 0, 0).confidence == 0.0
