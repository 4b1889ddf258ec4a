# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads text consoles exactly: every cell of the screen is one glyph of a known font, or it is not.

Private to this collection.

A console is a grid of cells, from the upper left corner of the picture unless its font says otherwise, each in two
colours. What is in a cell is made
one number, its pattern: a bit a pixel, column by column from the left, each from the top, the first pixel the highest
bit; set where there is ink. Which of the two colours is ink is not known, so both are tried.

In VGA text mode cells are 9 pixels wide and glyphs 8: the ninth column has the colour of the background, or repeats the
eighth where the VGA joins lines (0xC0 to 0xDF; QEMU 7.2: hw/display/vga.c, vga_draw_text(), from 0xB0).
"""

from __future__ import annotations

import gzip
import io
import struct
import typing as t
import zlib
from collections import Counter

from ansible_collections.kvmops.console.plugins.module_utils._image import Flat, Picture, flat

UNKNOWN = "\ufffd"
"""Stands where a cell has something that is no glyph of the font."""

MOST_CURSORS = 2
"""A console's own, and a mouse's."""

# Of the cells with ink in two colours, how many have to be glyphs: for a font to be tried on the whole screen, for the
# screen to be text, and for no better font to be looked for among the unlikely ones.
_PROMISING, _TEXT, _GOOD = 0.5, 0.8, 0.95
# Of all cells with ink: a boot logo has more than two colours, and text may be below it.
_LEAST = 0.25
_SAMPLE = 200
# Fonts come with the likeliest first, every drawing among them: if none of so many is near, none will be.
_MOST_FRUITLESS = 80
# Pillow's Transpose.TRANSPOSE, which has another name in older versions.
_TRANSPOSE: t.Any = 5

# What IBM's PC shows for codes below 0x20 and for 0x7F.
_CP437 = (
    " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼"
    + bytes(range(0x20, 0x7F)).decode("ascii")
    + "⌂"
    + bytes(range(0x80, 0xFF)).decode("cp437")
    + " "
)
_MOST_FONT = 4 << 20
_PSF1, _PSF2 = b"\x36\x04", b"\x72\xb5\x4a\x86"
_MOST_WIDTH, _MOST_HEIGHT, _MOST_GLYPHS = 64, 128, 65536


class Area(t.NamedTuple):
    """A part of a picture, in pixels: its upper left corner, and its size."""

    left: int
    top: int
    width: int
    height: int


def whole(screen: tuple[int, int]) -> list[Area]:
    """All of a screen of that size."""
    return [Area(0, 0, *screen)]


class Font(t.NamedTuple):
    """`glyphs`: patterns, of `width` x `height` bits, and their characters.

    `areas`: where on a screen of some size text in this font may be, the likelier first.
    """

    name: str
    width: int
    height: int
    glyphs: dict[int, str]
    areas: t.Callable[[tuple[int, int]], list[Area]] = whole


class ScreenText(t.NamedTuple):
    """`lines` have no white space at their ends. `matched` of `cells` were a glyph's shape to the pixel.

    `font` is the name of the font; of text that was recognized instead (OCR) None, and its cells are words.
    """

    lines: list[str]
    cells: int
    matched: int
    font: str | None = None

    @property
    def text(self) -> str:
        """All lines, without the empty ones at the end."""
        return "\n".join(self.lines).rstrip()

    @property
    def confidence(self) -> float:
        """0.0 to 1.0."""
        return self.matched / self.cells if self.cells else 0.0


_Place = tuple[Area, int, int, int]


class _Cell(t.NamedTuple):
    """`patterns`: what it may be, the likelier first. `ink`: it is not of one colour."""

    patterns: tuple[int, ...]
    ink: bool


class _Grid(t.NamedTuple):
    """How cells lie in `area` of a picture: `cell` pixels from one to the next, of which the font has `width`.

    `seen` are cells that were looked at, by their pixels: a screen has far fewer shapes than cells. `rows` are those
    that were cut up, by their upper edge: what promises a font is looked at twice.
    """

    screen: Flat
    area: Area
    cell: int
    width: int
    height: int
    seen: dict[bytes, _Cell]
    rows: dict[int, list[bytes]]

    @property
    def place(self) -> _Place:
        """What another font's grid has in common with it, if that cuts the picture in the same way."""
        return self.area, self.cell, self.width, self.height


class _Score(t.NamedTuple):
    """`hits` of the cells with `ink` are glyphs; `readable` have two colours."""

    hits: int
    readable: int
    ink: int

    @property
    def share(self) -> float:
        return self.hits / self.readable if self.readable else 0.0


class _Reading(t.NamedTuple):
    """`hits` are the score's without what is under a cursor; `cells` are the screen's, whatever the font."""

    score: _Score
    text: ScreenText
    hits: int
    cells: Counter[_Cell]


class _Tried(t.NamedTuple):
    """What is known of a grid: some of its cells, and its best reading so far."""

    grid: _Grid
    sample: Counter[_Cell]
    reading: _Reading | None


def read(picture: Picture, fonts: t.Iterable[Font], few: Flat | None = None) -> ScreenText | None:
    """The text on `picture`, by the one of `fonts` that most cells match; None when it is no text screen.

    `fonts` are asked for one after the other, until one reads everything. A cursor's cell is read by its other
    rows and not counted as matched. A screen of one colour is None, too; one with nothing but a cursor is empty lines.
    `few` is flat(picture), where somebody has it already.
    """
    screen = few or flat(picture)
    if screen is None or len(screen.colours) < 2:
        return None
    best: _Reading | None = None
    tried: dict[_Place, _Tried] = {}
    for number, font in enumerate(fonts):
        # Where areas overlap, as the smaller modes of firmware do the larger, one may have a part of the text only.
        reading = max(_readings(screen, font, tried), key=lambda one: one.score.hits, default=None)
        if reading and (best is None or reading.score.share > best.score.share):
            best = reading
        if best and best.score.share >= 1.0:
            return best.text
        if not any(_two_coloured(one.sample) for one in tried.values()):
            break
        if number >= _MOST_FRUITLESS and _is_fruitless(best, tried.values()):
            break
    return best and best.text


def from_vgabios(rom: bytes) -> list[Font]:
    """The fonts in a VGA BIOS, 8 pixels wide and 16, 14 or 8 high; none when there are none.

    They are bare bitmaps, in the order of code page 437. Each is found by what all drawings of it share: a full block
    (0xDB), then a lower, a left and a right half, and blanks for 0x00, 0x20 and 0xFF.
    """
    found = []
    for height in (16, 14, 8):
        halves = b"\xf0" * height + b"\x0f" * height
        at = rom.find(halves)
        while at >= 0:
            start = at - 0xDD * height
            bitmaps = rom[start : start + 256 * height] if start >= 0 else b""
            if _is_cp437(bitmaps, height):
                glyphs = (bitmaps[code * height : (code + 1) * height] for code in range(256))
                found.append(Font(f"VGA 8x{height}", 8, height, glyphs_of(8, height, zip(glyphs, _CP437))))
                break
            at = rom.find(halves, at + 1)
    return found


def from_psf(data: bytes, name: str = "console font") -> Font:
    """The console font in `data`, PSF1 or PSF2 (kbd: psf.h), as it is or compressed by gzip.

    One without a table of characters is in the order of code page 437. Raises ValueError for anything else.
    """
    try:
        if data.startswith(b"\x1f\x8b"):
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as unpacked:
                data = unpacked.read(_MOST_FONT)
        if data.startswith(_PSF1):
            return _psf1(data, name)
        if data.startswith(_PSF2):
            return _psf2(data, name)
    except (OSError, EOFError, zlib.error, struct.error, IndexError, UnicodeDecodeError) as e:
        raise ValueError(f"The console font {name} is damaged ({e}).") from e
    raise ValueError(f"{name} is no console font (PSF).")


def pattern(rows: bytes, width: int, height: int) -> int:
    """The pattern of a bitmap whose rows are whole bytes, the highest bit of the first the leftmost pixel."""
    stride = (width + 7) // 8
    bits = format(int.from_bytes(rows, "big"), f"0{stride * 8 * height}b")
    return int("".join([bits[column :: stride * 8] for column in range(width)]), 2)


def glyphs_of(width: int, height: int, drawn: t.Iterable[tuple[bytes, str]]) -> dict[int, str]:
    """Patterns and characters. Of characters with the same drawing ASCII's is taken, or else the first."""
    glyphs: dict[int, str] = {0: " "}
    for rows, character in drawn:
        shape = pattern(rows, width, height)
        if shape not in glyphs or (character.isascii() and not glyphs[shape].isascii()):
            glyphs[shape] = character
    return glyphs


def _is_cp437(bitmaps: bytes, height: int) -> bool:
    def glyph(code: int) -> bytes:
        return bitmaps[code * height : (code + 1) * height]

    blank = bytes(height)
    return (
        len(bitmaps) == 256 * height
        and glyph(0xDB) == b"\xff" * height
        and glyph(0) == glyph(32) == glyph(255) == blank
    )


def _psf1(data: bytes, name: str) -> Font:
    """Magic, mode (1: 512 glyphs, 2 and 4: a table of characters), bytes a glyph; 8 pixels wide."""
    mode, height = data[2], data[3]
    count = 512 if mode & 1 else 256
    table = data[4 + count * height :]
    words = struct.unpack(f"<{len(table) // 2}H", table[: len(table) // 2 * 2]) if mode & 6 else ()
    characters = _by_words(words, count) if mode & 6 else None
    return _psf(name, 8, height, data[4 : 4 + count * height], count, characters)


def _psf2(data: bytes, name: str) -> Font:
    """Magic, version, size of the header, flags (1: a table of characters), glyphs, bytes a glyph, height, width."""
    _version, start, flags, count, size, height, width = struct.unpack_from("<7I", data, 4)
    if size != (width + 7) // 8 * height or count > _MOST_GLYPHS:
        raise ValueError(f"The console font {name} is damaged: {count} glyphs of {size} bytes for {width} x {height}.")
    end = start + count * size
    characters = _by_text(data[end:], count) if flags & 1 else None
    return _psf(name, width, height, data[start:end], count, characters)


def _psf(name: str, width: int, height: int, bitmaps: bytes, count: int, characters: list[str] | None) -> Font:
    if not (0 < width <= _MOST_WIDTH and 0 < height <= _MOST_HEIGHT):
        raise ValueError(f"The console font {name} has glyphs of {width} x {height} pixels.")
    size = (width + 7) // 8 * height
    if len(bitmaps) != count * size:
        raise ValueError(f"The console font {name} is cut off: {len(bitmaps)} of {count * size} bytes are there.")
    rows = (bitmaps[number * size : (number + 1) * size] for number in range(count))
    drawn = ((row, character) for row, character in zip(rows, characters or _CP437) if character)
    return Font(name, width, height, glyphs_of(width, height, drawn))


def _by_words(words: t.Sequence[int], count: int) -> list[str]:
    """PSF1's table: of each glyph its characters, 0xFFFE before sequences, 0xFFFF at the end."""
    characters = []
    of_glyph: list[str] = []
    sequence = False
    for word in words:
        if word == 0xFFFF:
            characters.append(_preferred(of_glyph))
            of_glyph, sequence = [], False
            if len(characters) == count:
                return characters
        elif word == 0xFFFE:
            sequence = True
        elif not sequence:
            of_glyph.append(chr(word))
    raise ValueError("its table of characters is cut off")


def _by_text(table: bytes, count: int) -> list[str]:
    """PSF2's table: the same in UTF-8, with 0xFE and 0xFF."""
    entries = table.split(b"\xff")
    if len(entries) <= count:
        raise ValueError("its table of characters is cut off")
    return [_preferred(list(entry.split(b"\xfe")[0].decode("utf-8"))) for entry in entries[:count]]


def _preferred(characters: list[str]) -> str:
    """The one to show for a glyph: ASCII's, or else the first that is printed; '' for none."""
    printed = [character for character in characters if character.isprintable() or character.isspace()]
    plain = [character for character in printed if " " <= character <= "~"]
    character = (plain or printed or [""])[0]
    return " " if character.isspace() else character


def _grids(screen: Flat, font: Font) -> t.Iterator[_Grid]:
    """How cells of `font` may lie on the screen."""
    for area in font.areas(screen.pixels.size):
        if area.height < font.height or area.width < font.width:
            continue
        if font.width == 8 and area.width % 9 == 0:
            yield _Grid(screen, area, 9, 8, font.height, {}, {})
        yield _Grid(screen, area, font.width, font.width, font.height, {}, {})


def _readings(screen: Flat, font: Font, tried: dict[_Place, _Tried]) -> t.Iterator[_Reading]:
    """What is text in `font`, wherever it may be; what is `tried` is kept for the next font."""
    for grid in _grids(screen, font):
        before = tried.get(grid.place)
        if before is None:
            before = tried[grid.place] = _Tried(grid, _sample(grid), None)
        if not _promises(before, font):
            continue
        reading = _read(before.grid, font)
        tried[grid.place] = before._replace(reading=reading)
        if _is_text(reading.score):
            yield reading


def _rows(grid: _Grid) -> t.Iterator[list[bytes]]:
    """Row by row the pixels of the cells, column by column; of a row in one colour just one cell."""
    for top in range(grid.area.top, grid.area.top + grid.area.height - grid.height + 1, grid.height):
        row = grid.rows.get(top)
        if row is None:
            row = grid.rows[top] = _cut(grid, top)
        yield row


def _cut(grid: _Grid, top: int) -> list[bytes]:
    width = grid.area.width // grid.cell * grid.cell
    size = grid.cell * grid.height
    strip = grid.screen.pixels.crop((grid.area.left, top, grid.area.left + width, top + grid.height))
    low, high = strip.getextrema()
    if low == high:
        return [bytes([low]) * size]
    pixels = strip.transpose(_TRANSPOSE).tobytes()
    return [pixels[at : at + size] for at in range(0, len(pixels), size)]


def _cell(pixels: bytes, grid: _Grid) -> _Cell:
    """What a cell's pixels may be."""
    cell = grid.seen.get(pixels)
    if cell is None:
        cell = grid.seen[pixels] = _look(pixels, grid)
    return cell


def _look(pixels: bytes, grid: _Grid) -> _Cell:
    values = sorted(set(pixels))
    if len(values) == 1:
        return _Cell((0,), False)
    if len(values) > 2:
        return _Cell((), True)
    # The colour that is the more frequent one on the screen is taken for the background first.
    patterns = [_shape(pixels, back, ink, grid) for back, ink in (values, values[::-1])]
    return _Cell(tuple(one for one in patterns if one is not None), True)


def _shape(pixels: bytes, back: int, ink: int, grid: _Grid) -> int | None:
    """The pattern on a background of colour `back`; None when the ninth column can't be."""
    size = grid.width * grid.height
    if len(pixels) > size:
        ninth = pixels[size:]
        if ninth != bytes([back]) * len(ninth) and ninth != pixels[size - len(ninth) : size]:
            return None
    return int(pixels[:size].translate(_digits(back, ink)), 2)


def _digits(back: int, ink: int) -> bytes:
    table = bytearray(256)
    table[back], table[ink] = b"01"
    return bytes(table)


def _sample(grid: _Grid) -> Counter[_Cell]:
    """The first cells with ink, some _SAMPLE of them."""
    sample: Counter[_Cell] = Counter()
    for row in _rows(grid):
        for pixels, count in Counter(row).items():
            cell = _cell(pixels, grid)
            if cell.ink:
                sample[cell] += count
        if sum(sample.values()) >= _SAMPLE:
            break
    return sample


def _two_coloured(sample: Counter[_Cell]) -> bool:
    """Whether most cells have the two colours of text."""
    return sum(count for cell, count in sample.items() if cell.patterns) >= _PROMISING * sum(sample.values())


def _character(cell: _Cell, font: Font) -> str | None:
    for shape in cell.patterns:
        character = font.glyphs.get(shape)
        if character is not None:
            return character
    return None


def _score(cells: Counter[_Cell], font: Font) -> _Score:
    hits = readable = ink = 0
    for cell, count in cells.items():
        if not cell.ink:
            continue
        ink += count
        if cell.patterns:
            readable += count
            hits += count if _character(cell, font) is not None else 0
    return _Score(hits, readable, ink)


def _promises(tried: _Tried, font: Font) -> bool:
    """Whether the whole screen is worth reading with `font`, too: it costs a hundred times what this does."""
    if tried.reading:
        return _score(tried.reading.cells, font).hits > tried.reading.hits
    score = _score(tried.sample, font)
    return score.ink <= MOST_CURSORS or score.hits >= _PROMISING * score.readable > 0


def _is_fruitless(best: _Reading | None, tried: t.Iterable[_Tried]) -> bool:
    """Whether the likely fonts gave a good reading, or none at all."""
    if best:
        return best.score.share >= _GOOD
    return not any(one.reading for one in tried)


def _is_text(score: _Score) -> bool:
    return score.hits > 0 and score.hits >= _TEXT * score.readable and score.hits >= _LEAST * score.ink


def _read(grid: _Grid, font: Font) -> _Reading:
    """Every cell of the screen, read with `font`."""
    known: dict[bytes, tuple[_Cell, str | None]] = {}
    counted: Counter[_Cell] = Counter()
    columns = grid.area.width // grid.cell
    lines: list[list[str]] = []
    missed: list[tuple[int, int, bytes]] = []
    for number, row in enumerate(_rows(grid)):
        line = []
        for column, pixels in enumerate(row):
            entry = known.get(pixels)
            if entry is None:
                cell = _cell(pixels, grid)
                entry = known[pixels] = cell, _character(cell, font)
            counted[entry[0]] += 1
            if entry[1] is None:
                missed.append((number, column, pixels))
            line.append(entry[1] or UNKNOWN)
        lines.append(line)
    cells = columns * len(lines)
    score = _score(counted, font)
    cursors = _cursors(missed, grid, font)
    for number, column, character in cursors:
        lines[number][column] = character
    # For the question whether this is text, a character under a cursor is as good as one without.
    seen = score._replace(hits=score.hits + len(cursors))
    text = ScreenText(["".join(line).rstrip() for line in lines], cells, cells - len(missed), font.name)
    return _Reading(seen, text, score.hits, counted)


def _cursors(missed: list[tuple[int, int, bytes]], grid: _Grid, font: Font) -> list[tuple[int, int, str]]:
    """What stands under the cursors, where `missed` cells are that: few, and a glyph but for some full rows."""
    found = [(row, column, _under_cursor(pixels, grid, font)) for row, column, pixels in missed[: MOST_CURSORS * 4]]
    read_ = [(row, column, character) for row, column, character in found if character is not None]
    return read_ if len(read_) <= MOST_CURSORS else []


def _under_cursor(pixels: bytes, grid: _Grid, font: Font) -> str | None:
    """The character of a cell in which some rows, next to each other, are all ink; None when there is none such."""
    values = sorted(set(pixels))
    if len(values) != 2:
        return None
    for back, ink in (values, values[::-1]):
        rows = [pixels[row :: grid.height] == bytes([ink]) * grid.cell for row in range(grid.height)]
        if not any(rows):
            continue
        last = max(row for row in range(grid.height) if rows[row])
        first = last
        while first and rows[first - 1]:
            first -= 1
        column = "".join("0" if first <= row <= last else "1" for row in range(grid.height))
        free = int(column * grid.width, 2)
        shape = int(pixels[: grid.width * grid.height].translate(_digits(back, ink)), 2) & free
        fitting = [character for glyph, character in font.glyphs.items() if glyph & free == shape]
        if fitting:
            return min(fitting, key=lambda character: (not character.isspace(), not character.isascii()))
    return None
