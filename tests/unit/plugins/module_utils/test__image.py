# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pictures: what is read and what is refused, exact encoding, comparison, masks, thumbnails."""

from __future__ import annotations

import io
import random
import re
import struct
import zlib
from typing import Any

import pytest
from PIL import Image

from ansible_collections.kvmops.console.plugins.module_utils import _image
from ansible_collections.kvmops.console.plugins.module_utils._errors import ImageError, MissingLibrary
from ansible_collections.kvmops.console.plugins.module_utils._image import Picture, Rectangle

RED, BLACK, WHITE = b"\xff\0\0", b"\0\0\0", b"\xff\xff\xff"
TINY = Picture(2, 1, RED + BLACK)


def noise(width: int, height: int, seed: int = 1) -> Picture:
    return Picture(width, height, random.Random(seed).randbytes(width * height * 3))


def coloured(count: int, width: int = 64, height: int = 48, seed: int = 2) -> Picture:
    """A picture in so many colours, every one of which is there."""
    dice = random.Random(seed)
    colours = [number.to_bytes(3, "big") for number in dice.sample(range(1 << 24), count)]
    pixels = colours + [dice.choice(colours) for _pixel in range(width * height - count)]
    return Picture(width, height, b"".join(pixels))


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def header(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def png(*chunks: bytes) -> bytes:
    return _image.PNG_SIGNATURE + b"".join(chunks)


END = chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "head",
    [
        b"P6\n2 1\n255\n",
        b"P6 2 1 255 ",
        b"P6\n# QEMU\n2 1\n255\n",
        b"P6 # a\n# b\n 2\t1 # c\n255\n",
        b"P6\r\n2\r1\n255\r",
    ],
)
def test_ppm(head: bytes) -> None:
    assert _image.decode(head + RED + BLACK) == TINY


def test_a_ppm_starts_right_behind_one_space() -> None:
    assert _image.decode(b"P6 2 1 255\n" + b"\n\n\n###") == Picture(2, 1, b"\n\n\n###")


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "The picture is empty (0 bytes): nothing was captured, so take it again."),
        (b"GIF89a....", "What was captured is neither a PPM (P6) nor a PNG: it starts with b'GIF89a..'."),
        (b"P5\n1 1\n255\n\0", "What was captured is neither a PPM (P6) nor a PNG: it starts with b'P5\\n1 1\\n2'."),
        (b"P6", "The PPM is cut off or damaged: it starts with b'P6'."),
        (b"P6\n2 1\n255", "The PPM is cut off or damaged: it starts with b'P6\\n2 1\\n255'."),
        (b"P6\n-2 1\n255\n", "The PPM is cut off or damaged: it starts with b'P6\\n-2 1\\n255\\n'."),
        (b"P6\n2 1\n255\n", "The PPM is cut off: 0 of the 6 bytes of its 2 x 1 pixels are there."),
        (b"P6\n2 1\n255\n12345", "The PPM is cut off: 5 of the 6 bytes of its 2 x 1 pixels are there."),
        (b"P6\n2 1\n255\n1234567", "1 bytes follow the PPM of 2 x 1 pixels: this is no single picture."),
        (b"P6\n2 1\n65535\n" + bytes(12), "The PPM counts its colours up to 65535; only 255 is understood."),
        (b"P6\n0 1\n255\n", "The PPM is 0 x 1 pixels: there is nothing on it."),
        (
            b"P6\n30000 30000\n255\n",
            "The PPM is 30000 x 30000 pixels, more than the 64,000,000 that are looked at: give the guest a",
        ),
        (b"\x89PN", "The PNG is cut off after 3 bytes: take the picture again."),
        (png(), "The PNG is cut off after 8 bytes: take the picture again."),
        (png(header(2, 1)), "The PNG is cut off after 33 bytes: take the picture again."),
        (png(END), "The PNG is damaged: it starts with b'IEND' instead of its header."),
        (png(header(2, 1), END), "The PNG is damaged (cannot"),
        (png(header(0, 1), END), "The PNG is 0 x 1 pixels: there is nothing on it."),
        (png(header(2, 1, depth=16), END), "The PNG has 16 bits a colour; up to 8 are understood."),
        (png(header(30000, 30000), END), "The PNG is 30000 x 30000 pixels, more than the 64,000,000"),
        (png(header(2, 1), chunk(b"IDAT", b"no zlib"), END), "The PNG is damaged ("),
        (png(header(2, 1), chunk(b"IDAT", zlib.compress(b"\0")), END), "The PNG is damaged ("),
    ],
)
def test_refused(data: bytes, sentence: str) -> None:
    with pytest.raises(ImageError) as caught:
        _image.decode(data)
    assert str(caught.value).startswith(sentence)


def test_every_cut_and_every_flipped_bit_of_a_png_is_seen() -> None:
    data = _image.encode_png(coloured(3, 8, 8))
    assert _image.check_png(data) == (8, 8)
    for length in range(len(data)):
        with pytest.raises(ImageError):
            _image.check_png(data[:length])
    for at in range(len(data)):
        with pytest.raises(ImageError):
            _image.check_png(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    with pytest.raises(ImageError, match=r"^1 bytes follow the PNG: this is no single picture\."):
        _image.check_png(data + b"\0")


def test_a_large_png_is_refused_before_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(*_: Any, **__: Any) -> None:
        raise AssertionError("Pillow was asked")

    monkeypatch.setattr(Image, "open", opened)
    with pytest.raises(ImageError, match="30000 x 30000"):
        _image.decode(png(header(30000, 30000), chunk(b"IDAT", zlib.compress(bytes(1000))), END))


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA"])
def test_png_of_every_kind(mode: str) -> None:
    image = Image.new("RGB", (3, 2), (255, 255, 255)).convert(mode)
    out = io.BytesIO()
    image.save(out, "PNG")
    assert _image.decode(out.getvalue()) == Picture(3, 2, WHITE * 6)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 16, 17, 255, 256, 257, 1000])
def test_encoding_loses_nothing(count: int) -> None:
    picture = coloured(count)
    data = _image.encode_png(picture)
    assert _image.check_png(data) == (64, 48)
    assert _image.decode(data) == picture


def test_noise_is_encoded_too() -> None:
    picture = noise(100, 90)
    assert _image._is_noise(picture)
    assert not _image._is_noise(coloured(300))
    data = _image.encode_png(picture)
    assert len(picture.rgb) < len(data) < 1.02 * len(picture.rgb), "nobody searches it for what repeats"
    assert _image.decode(data) == picture
    assert _image._is_noise(noise(100, 3))


def test_what_only_a_filter_makes_small_is_no_noise() -> None:
    """Each row the one above, but for little: bytes that a mere search for what repeats finds nothing in."""
    row = random.Random(3).randbytes(300)
    rows = [bytes((value + number * 37) % 256 for value in row) for number in range(60)]
    picture = Picture(100, 60, b"".join(rows))
    assert len(zlib.compress(picture.rgb, 1)) > 0.95 * len(picture.rgb)
    assert not _image._is_noise(picture)
    assert len(_image.encode_png(picture)) < 0.2 * len(picture.rgb)


def test_a_console_is_encoded_with_a_palette() -> None:
    small, large = _image.encode_png(coloured(4)), _image.encode_png(coloured(300))
    assert Image.open(io.BytesIO(small)).mode == "P"
    assert Image.open(io.BytesIO(large)).mode == "RGB"


@pytest.mark.parametrize("weights", [_image._WEIGHTS, ()])
@pytest.mark.parametrize("count", [2, 16, 40, 256])
def test_flat(count: int, weights: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_image, "_WEIGHTS", weights)
    picture = coloured(count)
    flat = _image.flat(picture)
    assert flat is not None
    assert b"".join(bytes(flat.colours[index]) for index in flat.pixels.tobytes()) == picture.rgb


@pytest.mark.parametrize("band", range(3))
def test_flat_of_colours_that_one_band_tells_apart(band: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_image, "_WEIGHTS", ())
    monkeypatch.setattr(_image, "_indexed", None)
    colours = [bytes(number if place == band else 7 for place in range(3)) for number in (9, 0, 255, 9)]
    flat = _image.flat(Picture(2, 2, b"".join(colours)))
    assert flat is not None
    assert [bytes(flat.colours[index]) for index in flat.pixels.tobytes()] == colours


def test_flat_has_the_most_frequent_colour_first_and_knows_its_limit() -> None:
    flat = _image.flat(Picture(4, 1, WHITE + RED + RED + BLACK))
    assert flat is not None
    assert flat.colours[0] == (255, 0, 0)
    assert _image.flat(coloured(257)) is None


def test_thumbnail() -> None:
    picture = Picture(4, 2, (RED * 2 + BLACK * 2) * 2)
    assert _image.thumbnail(picture, 2) == Picture(2, 1, RED + BLACK)
    assert _image.thumbnail(picture, 4) is picture
    # Averages: a thin line does not get lost.
    assert _image.thumbnail(Picture(4, 4, (BLACK * 3 + WHITE) * 4), 1).rgb == bytes([64]) * 3
    assert _image.thumbnail(picture, 100) is picture
    assert _image.thumbnail(Picture(9, 1, RED * 9), 3) == Picture(3, 1, RED * 3)
    with pytest.raises(ImageError, match="can't be 0 pixels wide"):
        _image.thumbnail(picture, 0)


def test_mask() -> None:
    grey = bytes(_image._GREY)
    picture = Picture(3, 2, RED * 6)
    assert _image.mask(picture, []) is picture
    assert _image.mask(picture, [Rectangle(1, 0, 1, 1)]).rgb == RED + grey + RED * 4
    assert _image.mask(picture, [Rectangle(-5, 1, 7, 9)]).rgb == RED * 3 + grey * 2 + RED
    assert _image.mask(picture, [Rectangle(9, 9, 1, 1), Rectangle(0, 0, 0, 5)]) == picture
    assert _image.mask(picture, [Rectangle(0, 0, 1, 2), Rectangle(2, 0, 1, 2)]).rgb == (grey + RED + grey) * 2
    with pytest.raises(ImageError, match="mask of -1 x 2 pixels can't be"):
        _image.mask(picture, [Rectangle(0, 0, -1, 2)])


def test_changed() -> None:
    picture = Picture(2, 2, RED * 4)
    assert _image.changed(picture, picture) == 0.0
    # One step of one colour counts.
    assert _image.changed(picture, Picture(2, 2, RED * 3 + b"\xfe\0\0")) == 0.25
    assert _image.changed(picture, Picture(2, 2, RED * 2 + b"\xff\0\1" + BLACK)) == 0.5
    assert _image.changed(picture, Picture(4, 1, RED * 4)) == 1.0


def test_similar() -> None:
    lines = Picture(320, 240, b"".join((WHITE if row % 40 < 20 else BLACK) * 320 for row in range(240)))
    blank = Picture(320, 240, BLACK * 320 * 240)
    columns = Picture(320, 240, (WHITE * 160 + BLACK * 160) * 240)
    with_cursor = Picture(320, 240, RED * 8 + lines.rgb[24:])
    assert _image.similar(lines, lines) == 1.0
    assert 0.99 < _image.similar(with_cursor, lines) < 1.0
    assert _image.similar(blank, lines) == 0.0
    assert _image.similar(columns, lines) < 0.05
    assert _image.similar(blank, Picture(64, 48, BLACK * 64 * 48)) == 1.0
    assert _image.similar(blank, Picture(64, 48, WHITE * 64 * 48)) == 0.0
    # Another size of the same.
    assert _image.similar(_image.thumbnail(lines, 160), lines) > 0.95


def test_digest_is_of_the_pixels() -> None:
    noise = Picture(40, 40, random.Random(1).randbytes(4800))
    for picture in (TINY, noise):
        other = picture._replace(rgb=picture.rgb[:-1] + bytes([picture.rgb[-1] ^ 1]))
        assert re.fullmatch("[0-9a-f]{64}", _image.digest(picture))
        assert _image.digest(picture, _image.flat(picture)) == _image.digest(picture) != _image.digest(other)
    # The same shapes in other colours.
    assert _image.digest(Picture(2, 1, RED + BLACK)) != _image.digest(Picture(2, 1, BLACK + RED))
    assert _image.digest(Picture(2, 1, RED + BLACK)) != _image.digest(Picture(2, 1, RED + WHITE))
    assert _image.digest(_image.decode(_image.encode_png(TINY))) == _image.digest(TINY)
    assert _image.digest(Picture(1, 2, TINY.rgb)) != _image.digest(TINY)


def test_without_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_image, "PILLOW_TRACEBACK", "ImportError")
    assert _image.decode(b"P6 2 1 255 " + TINY.rgb) == TINY
    for needs in (lambda: _image.encode_png(TINY), lambda: _image.thumbnail(TINY, 1), lambda: _image.flat(TINY)):
        with pytest.raises(MissingLibrary, match="install python3-pil "):
            needs()
