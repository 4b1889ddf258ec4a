# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files of GRUB's and of UEFI's fonts, made for tests."""

from __future__ import annotations

import lzma
import random
import struct
from typing import Any, Optional

ASCII = [chr(code) for code in range(0x20, 0x7F)]
Glyph = tuple[int, int, int, int, int, list[int]]


def drawn(character: str, rows: int) -> list[int]:
    """A drawing of 8 pixels' width that no other character has."""
    dice = random.Random(ord(character))
    return [0] * rows if character == " " else [dice.randrange(1, 256) for _row in range(rows)]


def stored(rows: list[int], width: int) -> bytes:
    bits = "".join(format(row, f"0{width}b") for row in rows)
    return bytes(int(bits[at : at + 8].ljust(8, "0"), 2) for at in range(0, len(bits), 8))


def plain_glyphs() -> dict[int, Glyph]:
    """Each of width, height, offsets to the right and up, width of its cell, and its rows."""
    blank: Glyph = (0, 0, 8, -2, 8, [])
    return {0x20: blank, **{ord(one): (8, 10, 0, 0, 8, drawn(one, 10)) for one in ASCII[1:]}}


def pf2(glyphs: dict[int, Glyph], *, flags: int = 0, **sections: Optional[bytes]) -> bytes:
    parts: dict[str, Optional[bytes]] = {"FILE": b"PFF2", "NAME": b"Unit\0", "MAXH": b"\0\x10", "ASCE": b"\0\x0e"}
    parts.update(sections)
    head = b"".join(
        name.encode() + struct.pack(">I", len(part)) + part for name, part in parts.items() if part is not None
    )
    start = len(head) + 8 + 9 * len(glyphs) + 8
    index = data = b""
    for code, (width, height, left, up, cell, rows) in glyphs.items():
        index += struct.pack(">IBI", code, flags, start + len(data))
        data += struct.pack(">HHhhh", width, height, left, up, cell) + stored(rows, width)
    return head + b"CHIX" + struct.pack(">I", len(index)) + index + b"DATA\xff\xff\xff\xff" + data


def narrow(attributes: int = 0) -> bytes:
    glyphs = [struct.pack("<HB19s", ord(one), attributes, bytes(drawn(one, 19))) for one in ASCII]
    return b"".join(glyphs) + bytes(22)


def firmware(unpacked: bytes, **how: Any) -> bytes:
    packed = lzma.compress(unpacked, lzma.FORMAT_ALONE, **how)
    guid = bytes.fromhex("98584eee143959429d6edc7bd79403cf")
    return b"volume" * 9 + b"\x20\0\0\x02" + guid + struct.pack("<HH", 24, 1) + packed + b"\xff" * 64
