# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pictures of screens: read from what QEMU writes, compared, masked, made small, and written as PNG.

Private to this collection.

Works on bytes in memory only. Pillow does what costs time; versions from 8.1 (Debian 11, RHEL 9) on will do. Everything
that comes in was written by somebody else's program and may be cut off: it is checked before memory is taken for it.
"""

from __future__ import annotations

import hashlib
import io
import operator
import re
import struct
import traceback
import typing as t
import warnings
import zlib

from ansible_collections.kvmops.console.plugins.module_utils._errors import ImageError, MissingLibrary

try:
    from PIL import Image, ImageChops, ImageDraw
except ImportError:
    PILLOW_TRACEBACK: str | None = traceback.format_exc()
else:
    PILLOW_TRACEBACK = None

MOST_PIXELS = 64_000_000
"""The largest picture that is looked at: 8K has 33 million. At three bytes a pixel this is 192 MB."""

MOST_COLOURS = 256
"""Up to as many colours a picture is written with a palette, and a screen may be text."""

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"

_NEEDS_PILLOW = (
    "Pictures need Pillow: install python3-pil (Debian, Ubuntu) or python3-pillow (RHEL, Fedora, SUSE) on the host"
    " that takes them."
)
# Netpbm's ppm(5): the numbers stand between white space, in which comments may run to the end of a line; exactly one
# character of white space comes before the pixels.
_PPM = re.compile(rb"P6(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})\s")
_PPM_HEADER = 1024
# Pillow's own constants have names that differ between its versions; their values do not.
_BOX: t.Any = 4
_BICUBIC: t.Any = 3
_NOISE, _NOISE_BANDS, _NOISE_ROWS = 0.9, 4, 4
_GREY = (128, 128, 128)
# Weights with which the few colours of a screen become as many different greys; the first that do are taken.
_WEIGHTS = (
    (1.0, 0.0, 0.0),
    (0.4, 0.5, 0.1),
    (0.13, 0.29, 0.58),
    (0.57, 0.17, 0.26),
    (0.21, 0.62, 0.17),
    (0.7, 0.2, 0.1),
)
# Of the small greyscale pictures that are compared for likeness.
_LIKENESS = (160, 120)


class Picture(t.NamedTuple):
    """`rgb`: three bytes a pixel, row by row from the top, nothing between rows."""

    width: int
    height: int
    rgb: bytes


class Rectangle(t.NamedTuple):
    """In pixels, from the upper left corner of the picture."""

    x: int
    y: int
    width: int
    height: int


class Flat(t.NamedTuple):
    """A picture of few colours: one byte a pixel, which is the index of its colour."""

    colours: list[tuple[int, int, int]]
    pixels: t.Any
    """An Image of mode L."""


def require_pillow() -> None:
    """Raise MissingLibrary unless Pillow is there."""
    if PILLOW_TRACEBACK is not None:
        raise MissingLibrary(_NEEDS_PILLOW)


def decode(data: bytes) -> Picture:
    """The picture in `data`: a PPM (P6, 8 bits) or a PNG.

    Raises ImageError when it is neither, cut off, damaged, followed by something else, or larger than MOST_PIXELS.
    """
    if not data:
        raise ImageError("The picture is empty (0 bytes): nothing was captured, so take it again.")
    if data.startswith(b"P6"):
        return _decode_ppm(data)
    if data.startswith(PNG_SIGNATURE):
        return _decode_png(data)
    if data.startswith(PNG_SIGNATURE[:2]) and PNG_SIGNATURE.startswith(data):
        raise ImageError(f"The PNG is cut off after {len(data)} bytes: take the picture again.")
    raise ImageError(f"What was captured is neither a PPM (P6) nor a PNG: it starts with {data[:8]!r}.")


def from_bgrx(width: int, height: int, pixels: bytes) -> Picture:
    """The picture of pixels of four bytes, blue, green, red and one of no meaning, row by row."""
    require_pillow()
    return Picture(width, height, Image.frombuffer("RGB", (width, height), pixels, "raw", "BGRX", 0, 1).tobytes())


def encode_png(picture: Picture, few: Flat | None = None) -> bytes:
    """`picture` as a PNG. `few` is flat(picture), where somebody has it already.

    Consoles have few colours: with a palette there is a third of the data to compress, and none of Pillow's choosing a
    filter for every row. Of pictures with many colours zlib's level 3 makes files about as large as Pillow's default,
    in less time; what hardly gets smaller (noise) is written as it is.
    Measured by tests/bench/png.py.
    """
    require_pillow()
    out = io.BytesIO()
    few = few or flat(picture)
    if few is not None:
        image = few.pixels.copy()
        image.putpalette([value for colour in few.colours for value in colour])
        image.save(out, "PNG", bits=_bits(len(few.colours)), compress_level=6)
    elif _is_noise(picture):
        _image(picture).save(out, "PNG", compress_level=0)
    else:
        _image(picture).save(out, "PNG", compress_level=3)
    return out.getvalue()


def check_png(data: bytes) -> tuple[int, int]:
    """Width and height of the PNG in `data`, every chunk of which is whole and sound; its pixels are not decoded.

    PNG (RFC 2083): signature, then chunks of length, type, data and CRC, of which IHDR is the first and IEND the last.
    Raises ImageError, also when something follows.
    """
    if not data.startswith(PNG_SIGNATURE):
        raise ImageError(f"What should be a PNG does not start like one: {data[:8]!r}.")
    size: tuple[int, int] | None = None
    for kind, content in _chunks(data):
        if size is None:
            size = _header(kind, content)
    if size is None:
        raise ImageError(f"The PNG is cut off after {len(data)} bytes: take the picture again.")
    return size


def thumbnail(picture: Picture, width: int) -> Picture:
    """`picture` at `width`, its height in proportion; itself when it is not wider."""
    require_pillow()
    if width < 1:
        raise ImageError(f"A thumbnail can't be {width} pixels wide: ask for 1 or more.")
    if picture.width <= width:
        return picture
    height = max(1, round(picture.height * width / picture.width))
    return Picture(width, height, _image(picture).resize((width, height), _BOX).tobytes())


def mask(picture: Picture, rectangles: t.Sequence[Rectangle]) -> Picture:
    """`picture` with grey where `rectangles` are; what of them lies outside is of no matter."""
    require_pillow()
    image = None
    for one in rectangles:
        if one.width < 0 or one.height < 0:
            raise ImageError(
                f"A mask of {one.width} x {one.height} pixels can't be: give a width and height from 0 on."
            )
        if not one.width or not one.height:
            continue
        image = image or _image(picture)
        # The far corner is part of what Pillow draws.
        corner = (one.x + one.width - 1, one.y + one.height - 1)
        ImageDraw.Draw(image).rectangle(((one.x, one.y), corner), fill=_GREY)
    return picture if image is None else picture._replace(rgb=image.tobytes())


def changed(one: Picture, other: Picture) -> float:
    """The share of pixels that differ, 0.0 to 1.0; 1.0 for pictures of different sizes."""
    if one[:2] != other[:2]:
        return 1.0
    if one.rgb == other.rgb:
        return 0.0
    require_pillow()
    red, green, blue = ImageChops.difference(_image(one), _image(other)).split()
    same = ImageChops.lighter(ImageChops.lighter(red, green), blue).histogram()[0]
    return 1.0 - same / (one.width * one.height)


def similar(picture: Picture, reference: Picture) -> float:
    """How much `picture` looks like `reference`, 0.0 to 1.0 (the same).

    Both are made small, so a cursor or a clock costs next to nothing and sizes may differ. The result is the
    correlation of their brightness, which sees what is where however little of it there is (text on black is black for
    the most part), times the likeness of their colours.
    """
    if picture == reference:
        return 1.0
    require_pillow()
    one, other = (_image(part).resize(_LIKENESS, _BOX) for part in (picture, reference))
    histogram = ImageChops.difference(one, other).histogram()
    apart = sum(count * (number % 256) for number, count in enumerate(histogram)) / (sum(histogram) * 255)
    return max(0.0, _correlation(one.convert("L").tobytes(), other.convert("L").tobytes())) * (1.0 - apart)


def enlarged_grey(picture: Picture) -> Picture:
    """`picture` at twice its size, in greys, for text recognition; one that is large already keeps its size."""
    require_pillow()
    grey = _image(picture).convert("L")
    if picture.width * picture.height * 4 <= MOST_PIXELS // 4:
        grey = grey.resize((picture.width * 2, picture.height * 2), _BICUBIC)
    width, height = grey.size
    return Picture(width, height, grey.convert("RGB").tobytes())


def digest(picture: Picture, few: Flat | None = None) -> str:
    """A SHA-256 of size and pixels, in hexadecimal: the same for the same screen, whatever file it came in.

    `few` is flat(picture), where somebody has it already; it has a third of the bytes.
    """
    few = few or flat(picture)
    hashed = hashlib.sha256(b"%dx%d\n" % (picture.width, picture.height))
    if few is None:
        hashed.update(picture.rgb)
    else:
        hashed.update(repr(few.colours).encode())
        hashed.update(few.pixels.tobytes())
    return hashed.hexdigest()


def flat(picture: Picture) -> Flat | None:
    """`picture` as indexes of its colours, the most frequent first; None when it has more than MOST_COLOURS.

    Pillow has no exact conversion of the kind, but it multiplies: a weighted sum of red, green and blue that is another
    one for each colour tells them apart.
    """
    require_pillow()
    image = _image(picture)
    counted = image.getcolors(MOST_COLOURS)
    if counted is None:
        return None
    colours = [colour for _count, colour in sorted(counted, key=operator.itemgetter(0), reverse=True)]
    for band in range(3):
        # What is grey, as most consoles are, needs no more than this, which takes a tenth of the time.
        values = {colour[band]: number for number, colour in enumerate(colours)}
        if len(values) == len(colours):
            return Flat(colours, image.getchannel(band).point(_table(values)))
    strip = Image.frombytes("RGB", (len(colours), 1), bytes(value for colour in colours for value in colour))
    for weights in _WEIGHTS:
        matrix = (*weights, 0.0)
        greys = strip.convert("L", matrix).tobytes()
        if len(set(greys)) == len(greys):
            table = [0] * 256
            for index, grey in enumerate(greys):
                table[grey] = index
            return Flat(colours, image.convert("L", matrix).point(table))
    return Flat(colours, _indexed(image, colours))


def _indexed(image: t.Any, colours: list[tuple[int, int, int]]) -> t.Any:
    """The same for colours that no weights tell apart, in slower steps: red and green first, then that and blue."""
    bands = image.split()
    pixels = bands[0]
    known: list[tuple[int, ...]] = sorted({colour[:1] for colour in colours})
    pixels = pixels.point(_table({colour[0]: index for index, colour in enumerate(known)}))
    for band in (1, 2):
        wanted: list[tuple[int, ...]] = sorted({colour[: band + 1] for colour in colours})
        if band == 2:
            wanted = list(colours)
        joined = Image.new("L", image.size)
        for index, start in enumerate(known):
            here = pixels.point(_table({index: 255}))
            values = {colour[band]: number for number, colour in enumerate(wanted) if colour[:band] == start}
            joined.paste(bands[band].point(_table(values)), mask=here)
        pixels, known = joined, wanted
    return pixels


def _table(values: dict[int, int]) -> list[int]:
    table = [0] * 256
    for key, value in values.items():
        table[key] = value
    return table


def _image(picture: Picture) -> t.Any:
    return Image.frombytes("RGB", (picture.width, picture.height), picture.rgb)


def _bits(colours: int) -> int:
    """A pixel's bits in the file."""
    return next(bits for bits in (1, 2, 4, 8) if colours <= 1 << bits)


def _is_noise(picture: Picture) -> bool:
    """Whether some rows, from all over the picture, hardly get smaller, neither as they are nor filtered as a PNG's."""
    stride = picture.width * 3
    tops = range(0, picture.height, max(_NOISE_ROWS, -(-picture.height // _NOISE_BANDS)))
    rows = b"".join([picture.rgb[top * stride : (top + _NOISE_ROWS) * stride] for top in tops])
    if len(zlib.compress(rows, 1)) <= _NOISE * len(rows):
        return False
    sample = io.BytesIO()
    _image(Picture(picture.width, len(rows) // stride, rows)).save(sample, "PNG", compress_level=1)
    return len(sample.getvalue()) > _NOISE * len(rows)


def _check_size(width: int, height: int, what: str) -> None:
    if not width or not height:
        raise ImageError(f"The {what} is {width} x {height} pixels: there is nothing on it.")
    if width * height > MOST_PIXELS:
        raise ImageError(
            f"The {what} is {width} x {height} pixels, more than the {MOST_PIXELS:,} that are looked at: give the guest"
            " a smaller screen."
        )


def _decode_ppm(data: bytes) -> Picture:
    header = _PPM.match(data[:_PPM_HEADER])
    if header is None:
        raise ImageError(f"The PPM is cut off or damaged: it starts with {data[:24]!r}.")
    width, height, most = map(int, header.groups())
    if most != 255:
        raise ImageError(f"The PPM counts its colours up to {most}; only 255 is understood.")
    _check_size(width, height, "PPM")
    size = width * height * 3
    found = len(data) - header.end()
    if found < size:
        raise ImageError(f"The PPM is cut off: {found} of the {size} bytes of its {width} x {height} pixels are there.")
    if found > size:
        raise ImageError(
            f"{found - size} bytes follow the PPM of {width} x {height} pixels: this is no single picture."
        )
    return Picture(width, height, data[header.end() :])


def _decode_png(data: bytes) -> Picture:
    width, height = check_png(data)
    require_pillow()
    try:
        with warnings.catch_warnings():
            # Pillow warns of large pictures before it knows whether they are; we know.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
                rgb = image.convert("RGB").tobytes()
    except (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError) as e:
        raise ImageError(f"The PNG is damaged ({e}): take the picture again.") from e
    return Picture(width, height, rgb)


def _chunks(data: bytes) -> t.Iterator[tuple[bytes, bytes]]:
    """The chunks' types and contents, up to and with IEND, behind which there may be nothing."""
    at = len(PNG_SIGNATURE)
    kind = b""
    while kind != b"IEND":
        if at + 12 > len(data):
            raise ImageError(f"The PNG is cut off after {len(data)} bytes: take the picture again.")
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 12 + length
        if end > len(data):
            raise ImageError(f"The PNG is cut off after {len(data)} bytes: take the picture again.")
        if struct.unpack_from(">I", data, end - 4)[0] != zlib.crc32(memoryview(data)[at + 4 : end - 4]):
            raise ImageError(f"The PNG is damaged: the checksum of its {kind!r} is wrong.")
        yield kind, data[at + 8 : end - 4]
        at = end
    if at != len(data):
        raise ImageError(f"{len(data) - at} bytes follow the PNG: this is no single picture.")


def _header(kind: bytes, content: bytes) -> tuple[int, int]:
    """Width and height that the first chunk gives (RFC 2083, 4.1.1)."""
    if kind != b"IHDR" or len(content) != 13:
        raise ImageError(f"The PNG is damaged: it starts with {kind!r} instead of its header.")
    width, height, depth = struct.unpack_from(">IIB", content)
    _check_size(width, height, "PNG")
    if depth > 8:
        raise ImageError(f"The PNG has {depth} bits a colour; up to 8 are understood.")
    return width, height


def _correlation(one: bytes, other: bytes) -> float:
    """Pearson's, -1.0 to 1.0; of two pictures with nothing on them 1.0, of one such and another 0.0."""
    count = len(one)
    mean, other_mean = sum(one) / count, sum(other) / count
    variance = sum(map(operator.mul, one, one)) / count - mean * mean
    other_variance = sum(map(operator.mul, other, other)) / count - other_mean * other_mean
    if variance < 0.5 or other_variance < 0.5:
        return 1.0 if variance < 0.5 and other_variance < 0.5 else 0.0
    covariance = sum(map(operator.mul, one, other)) / count - mean * other_mean
    return float(covariance / (variance * other_variance) ** 0.5)
