# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The fonts of what runs before a system: GRUB's on graphical terminals, and UEFI's of EDK2 (OVMF).

Private to this collection. Neither's text begins in the corner of the screen.
"""

from __future__ import annotations

import struct
import sys
import typing as t

from ansible_collections.kvmops.console.plugins.module_utils._screen_text import Area, Font, glyphs_of

_MOST_UNPACKED = 64 << 20
_MOST_MEMORY = 256 << 20
_MOST_CELL = 64
# gfxterm leaves as much room on each side (GRUB 2.06: grub-core/term/gfxterm.c, DEFAULT_BORDER_WIDTH).
_BORDER = 10

# A section of firmware that is packed by LZMA (EDK2: MdeModulePkg/Include/Guid/LzmaDecompress.h): a section's header of
# four bytes, this, the offset of the data from the header, attributes.
_PACKED = bytes.fromhex("98584eee143959429d6edc7bd79403cf")
# The glyphs of EDK2's console (GraphicsConsoleDxe/LaffStd.c), as EFI_NARROW_GLYPH has them (UEFI 2.10, 33.3.2.3): the
# character, attributes, and a byte for each row. There are characters from the blank on, in no order, and zeroes last.
_WIDTH, _HEIGHT = 8, 19
_GLYPH = struct.Struct(f"<HB{_HEIGHT}s")
_BLANK = _GLYPH.pack(0x20, 0, b"")
_MOST_GLYPHS = 65536
# Text modes that firmware has on whatever screen; another one is as large as the screen (GraphicsConsole.c).
_MODES = ((80, 25), (100, 31))


def from_pf2(data: bytes, name: str = "GRUB's font") -> Font:
    """GRUB's font in `data` (GRUB's manual for developers: "PFF2 Font File Format"); characters of double width lack.

    Raises ValueError for anything else.
    """
    try:
        return _pf2(data, name)
    except (struct.error, KeyError, IndexError, OverflowError) as e:
        raise ValueError(f"{name} is no font of GRUB (PF2), or damaged.") from e


def from_edk2(firmware: bytes, name: str = "UEFI 8x19") -> Font | None:
    """The font of the text console in an image of EDK2's firmware; None when there is none."""
    at = firmware.find(_PACKED)
    while at >= 0:
        unpacked = _unpacked(firmware, at)
        start = unpacked.find(_BLANK + struct.pack("<HB", 0x21, 0))
        if start >= 0:
            return Font(name, _WIDTH, _HEIGHT, glyphs_of(_WIDTH, _HEIGHT, _narrow(unpacked, start)), _centred)
        at = firmware.find(_PACKED, at + 1)
    return None


def _pf2(data: bytes, name: str) -> Font:
    """Sections of a name, a length and contents; the last is DATA, where the index leads, counted from the file's."""
    sections: dict[bytes, bytes] = {}
    at = 0
    while True:
        kind, length = struct.unpack_from(">4sI", data, at)
        if kind == b"DATA":
            break
        sections[kind] = data[at + 8 : at + 8 + length]
        at += 8 + length
    if sections[b"FILE"] != b"PFF2":
        raise ValueError(f"{name} is no font of GRUB (PF2).")
    height, ascent = (struct.unpack(">H", sections[kind])[0] for kind in (b"MAXH", b"ASCE"))
    index = {code: offset for code, flags, offset in struct.iter_unpack(">IBI", sections[b"CHIX"]) if not flags}
    # A terminal's cell is as wide as the widest of these (gfxterm.c, calculate_normal_character_width()).
    width = max(struct.unpack_from(">h", data, index[code] + 8)[0] for code in range(0x20, 0x7F))
    if not (0 < width <= _MOST_CELL and 0 < height <= _MOST_CELL):
        raise ValueError(f"{name} has cells of {width} x {height} pixels.")
    # Beyond Unicode there are forms of Arabic letters. Of characters with one drawing those of frames are meant.
    order = sorted((not 0x2500 <= code < 0x25A0, code) for code in index if code <= sys.maxunicode)
    characters = ((chr(code), index[code]) for _later, code in order)
    drawn = ((_bitmap(data, offset, width, height, ascent), one) for one, offset in characters if one.isprintable())
    known = ((rows, character) for rows, character in drawn if rows is not None)

    def areas(screen: tuple[int, int]) -> list[Area]:
        columns, lines = ((size - 2 * _BORDER) // cell for size, cell in zip(screen, (width, height)))
        return [Area(_BORDER, _BORDER, columns * width, lines * height)]

    return Font(name, width, height, glyphs_of(width, height, known), areas)


def _bitmap(data: bytes, offset: int, width: int, height: int, ascent: int) -> bytes | None:
    """The rows of a whole cell, of whole bytes; None for a glyph that needs more or less room.

    A glyph is stored as its width, height, offsets to the right and up from the base line, and width of its cell, and a
    bit a pixel, with nothing between rows.
    """
    wide, high, left, up, cell = struct.unpack_from(">HHhhh", data, offset)
    top = ascent - up - high
    if cell != width or left < 0 or left + wide > width or top < 0 or top + high > height:
        return None
    stored = data[offset + 10 : offset + 10 + (wide * high + 7) // 8]
    bits = format(int.from_bytes(stored, "big"), f"0{len(stored) * 8}b") if stored else ""
    if len(bits) < wide * high:
        raise IndexError
    size = (width + 7) // 8
    rows = [int(bits[row * wide : (row + 1) * wide] or "0", 2) << size * 8 - left - wide for row in range(high)]
    return b"".join(row.to_bytes(size, "big") for row in [*[0] * top, *rows, *[0] * (height - top - high)])


def _unpacked(firmware: bytes, at: int) -> bytes:
    """What is in the section whose GUID is at `at`; nothing where it is none."""
    try:
        import lzma
    except ImportError:  # Python can be built without it
        return b""
    try:
        (offset,) = struct.unpack_from("<H", firmware, at + len(_PACKED))
        unpack = lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_MOST_MEMORY)
        return unpack.decompress(firmware[at - 4 + offset :], _MOST_UNPACKED)
    except (struct.error, lzma.LZMAError, EOFError):
        return b""


def _narrow(unpacked: bytes, start: int) -> t.Iterator[tuple[bytes, str]]:
    """Rows and character of each glyph."""
    end = min(len(unpacked) - _GLYPH.size, start + _MOST_GLYPHS * _GLYPH.size)
    for at in range(start, end + 1, _GLYPH.size):
        code, attributes, rows = _GLYPH.unpack_from(unpacked, at)
        if not code or attributes:
            return
        yield rows, chr(code)


def _centred(screen: tuple[int, int]) -> list[Area]:
    """The console of each mode is in the middle of the screen (GraphicsConsole.c, DeltaX and DeltaY)."""
    width, height = screen
    areas = []
    for columns, lines in ((width // _WIDTH, height // _HEIGHT), *_MODES):
        left, top = (width - columns * _WIDTH) // 2, (height - lines * _HEIGHT) // 2
        if left >= 0 and top >= 0:
            areas.append(Area(left, top, columns * _WIDTH, lines * _HEIGHT))
    return areas
