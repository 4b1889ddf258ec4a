# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long PNGs of real consoles take, and how large they are, by Pillow's settings; how long reading their text takes.

Run by `make bench`, or by itself with folders of PPMs as arguments. Nothing here is asserted: a person reads the table.
Ratios are to Pillow's default, measured in turn in one run: time <= 1.00 and size <= 1.20 is what we want.
"""

from __future__ import annotations

import io
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import PIL
from PIL import Image

from ansible_collections.kvmops.console.plugins.module_utils import _image, _screen_fonts, _screen_text
from ansible_collections.kvmops.console.plugins.module_utils._image import Picture
from ansible_collections.kvmops.console.tests.integration.screens import guest

QEMU = "/usr/bin/qemu-system-x86_64"
ROUNDS = 7

LISTING = "exec >/dev/tty1; clear; ls -la /bin; dmesg | tail -n 40\n"
NOISE = "dd if=/dev/urandom of=/dev/fb0 bs=65536\n"


def real_screens(folder: Path) -> Iterator[tuple[str, Picture]]:
    """Screens of guests that run here and now."""
    with guest.qemu(QEMU, folder / "firmware", "-vga", "std") as machine:
        machine.until(lambda: "No bootable device" in machine.firmware(), "end of the firmware")
        yield "SeaBIOS 720x400", machine.screen()
    with guest.linux(QEMU, folder / "text", LISTING + guest.DONE) as machine:
        yield "Linux text 720x400", guest.drawn(machine)
    for name, script in (("console", LISTING), ("noise", NOISE)):
        with guest.linux(QEMU, folder / name, script + guest.DONE, arguments="vga=0x318") as machine:
            yield f"Linux {name} 1024x768", guest.drawn(machine)


def desktop() -> Picture:
    """1024x768 with a background of many colours, windows of one, and something like text in them."""
    image = Image.linear_gradient("L").resize((1024, 768))
    image = Image.merge("RGB", (image, image.rotate(180), image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)))
    dice = random.Random(3)
    for left, top in ((60, 40), (400, 200), (200, 420)):
        window = Image.new("RGB", (420, 300), (250, 250, 250))
        for _dot in range(4000):
            grey = dice.randrange(160)
            window.putpixel((dice.randrange(8, 412), dice.randrange(2, 18) * 16 + dice.randrange(10)), (grey,) * 3)
        image.paste(window, (left, top))
    return Picture(1024, 768, image.tobytes())


def files(names: list[str]) -> Iterator[tuple[str, Picture]]:
    for name in names:
        for path in sorted(Path(name).glob("*.ppm")):
            yield path.stem, _image.decode(path.read_bytes())


def by_pillow(**settings: Any) -> Callable[[Picture], bytes]:
    def encode(picture: Picture) -> bytes:
        out = io.BytesIO()
        Image.frombytes("RGB", picture[:2], picture.rgb).save(out, "PNG", **settings)
        return out.getvalue()

    return encode


ENCODERS: dict[str, Callable[[Picture], bytes]] = {
    "Pillow's default": by_pillow(),
    **{f"compress_level={level}": by_pillow(compress_level=level) for level in (1, 2, 3, 4, 5, 9)},
    "Z_RLE": by_pillow(compress_type=3),
    "Z_RLE, level 1": by_pillow(compress_type=3, compress_level=1),
    "Z_HUFFMAN_ONLY": by_pillow(compress_type=2),
    "Z_FILTERED": by_pillow(compress_type=1),
    "encode_png": _image.encode_png,
}


def milliseconds(call: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    call()
    return (time.perf_counter() - begin) * 1000


def compare(name: str, picture: Picture) -> None:
    """One screen's table."""
    times: dict[str, list[float]] = {encoder: [] for encoder in ENCODERS}
    for _round in range(ROUNDS):
        for encoder, encode in ENCODERS.items():
            times[encoder].append(milliseconds(lambda encode=encode: encode(picture)))  # type: ignore[misc]
    base_time, base_size = statistics.median(times["Pillow's default"]), len(by_pillow()(picture))
    print(f"\n{name}: {picture.width} x {picture.height}")
    print(f"  {'':20} {'ms':>8} {'ratio':>7} {'bytes':>9} {'ratio':>7}")
    for encoder, encode in ENCODERS.items():
        middle, size = statistics.median(times[encoder]), len(encode(picture))
        print(f"  {encoder:20} {middle:8.1f} {middle / base_time:7.2f} {size:9} {size / base_size:7.2f}")
    fonts = _screen_fonts.load_fonts()
    read = statistics.median(milliseconds(lambda: _screen_text.read(picture, fonts)) for _round in range(ROUNDS))
    text = _screen_text.read(picture, fonts)
    told = f"{text.matched} of {text.cells} cells, {text.font}" if text else "no text screen"
    print(f"  read: {read:.1f} ms ({told})")


def main() -> None:
    print(f"Pillow {PIL.__version__}, Python {sys.version.split()[0]}, median of {ROUNDS}")
    with tempfile.TemporaryDirectory() as folder:
        screens = files(sys.argv[1:]) if sys.argv[1:] else real_screens(Path(folder))
        for name, picture in screens:
            compare(name, picture)
    compare("drawn desktop", desktop())


if __name__ == "__main__":
    main()
