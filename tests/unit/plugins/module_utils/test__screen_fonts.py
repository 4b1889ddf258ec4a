# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fonts are found where distributions put them, in an order, each read once and only when asked for."""

from __future__ import annotations

import gzip
import os
import random
import threading
from itertools import islice
from pathlib import Path

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _screen_fonts
from ansible_collections.kvmops.console.plugins.module_utils._screen_fonts import Fonts, linux_font, load_fonts
from ansible_collections.kvmops.console.plugins.module_utils._screen_text import Font, from_vgabios, pattern
from ansible_collections.kvmops.console.tests.unit.plugins.module_utils import boot_font_files


def bitmaps(height: int) -> list[bytes]:
    dice = random.Random(height)
    glyphs = [bytes(dice.randrange(256) for _row in range(height)) for _code in range(256)]
    for blank in (0, 32, 255):
        glyphs[blank] = bytes(height)
    glyphs[0xDB], glyphs[0xDD], glyphs[0xDE] = b"\xff" * height, b"\xf0" * height, b"\x0f" * height
    return glyphs


def rom(*heights: int) -> bytes:
    return b"BIOS".join(b"".join(bitmaps(height)) for height in (*heights, 3))


def psf(height: int = 16) -> bytes:
    return b"\x36\x04\0" + bytes([height]) + b"".join(bitmaps(height))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A host with VGA BIOSes and console fonts, in folders of its own."""
    (tmp_path / "roms").mkdir()
    (tmp_path / "roms/vgabios-ati.bin").write_bytes(rom(8))
    (tmp_path / "roms/vgabios-stdvga.bin").write_bytes(rom(16, 14))
    (tmp_path / "roms/bios.bin").write_bytes(rom(8))
    fonts = tmp_path / "fonts"
    fonts.mkdir()
    for name in ("Arabic-Fixed15.psf.gz", "Uni2-Fixed16.psf.gz", "Lat15-TerminusBold16.psf.gz", "eurlatgr.psfu.gz"):
        (fonts / name).write_bytes(gzip.compress(psf()))
    (fonts / "ter-122n.psf").write_bytes(psf(15))
    (fonts / "broken.psf.gz").write_bytes(b"\x1f\x8b...")
    (fonts / "README").write_text("no font")
    (fonts / "large.psf").write_bytes(psf().ljust(_screen_fonts._MOST_BYTES + 1, b"\0"))
    (fonts / "folder.psf").mkdir()
    (tmp_path / "grub.pf2").write_bytes(boot_font_files.pf2(boot_font_files.plain_glyphs()))
    (tmp_path / "broken.pf2").write_bytes(b"FILE")
    (tmp_path / "OVMF").mkdir()
    (tmp_path / "OVMF/OVMF_CODE.fd").write_bytes(b"no font")
    (tmp_path / "OVMF/OVMF_CODE_4M.fd").write_bytes(boot_font_files.firmware(boot_font_files.narrow()))
    (tmp_path / "OVMF/OVMF_CODE_4M.ms.fd").write_bytes(boot_font_files.firmware(boot_font_files.narrow()))
    (tmp_path / "same").symlink_to(fonts)
    return tmp_path


def of(folder: Path) -> Fonts:
    names = ("nowhere", "fonts", "same")
    return Fonts(
        [f"{folder}/nowhere", f"{folder}/roms"],
        [f"{folder}/{name}" for name in names],
        [f"{folder}/{name}.pf2" for name in ("nowhere", "broken", "grub", "grub")],
        [f"{folder}/nowhere", f"{folder}/OVMF"],
    )


def test_order(folder: Path) -> None:
    assert [font.name for font in of(folder)] == [
        "VGA 8x16",
        "VGA 8x14",
        "Linux 8x16",
        "eurlatgr.psfu.gz",
        "Uni2-Fixed16.psf.gz",
        "Lat15-TerminusBold16.psf.gz",
        "GRUB's grub.pf2",
        "UEFI 8x19",
        "ter-122n.psf",
        "Arabic-Fixed15.psf.gz",
    ]


def test_the_next_folder_s_bios_when_the_first_has_no_font(folder: Path) -> None:
    (folder / "nowhere").mkdir()
    (folder / "nowhere/vgabios.bin").write_bytes(b"no font")
    assert next(iter(of(folder))).name == "VGA 8x16"


def test_files_are_read_when_asked_for_and_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    content = _screen_fonts._content

    def counted(path: Path, *most: int) -> bytes | None:
        read.append(os.fspath(path))
        return content(path, *most)

    monkeypatch.setattr(_screen_fonts, "_content", counted)
    fonts = of(folder)
    assert [font.name for font in islice(fonts, 2)] == ["VGA 8x16", "VGA 8x14"]
    assert read == [f"{folder}/roms/vgabios-stdvga.bin"]
    everything = list(fonts)
    assert list(fonts) == everything
    assert sorted(set(read)) == sorted(read)
    assert f"{folder}/OVMF/OVMF_CODE_4M.ms.fd" not in read


def test_threads_see_every_font_once(folder: Path) -> None:
    fonts = of(folder)
    seen: list[list[str]] = []
    start = threading.Barrier(8)

    def look() -> None:
        start.wait(60)
        seen.append([font.name for font in fonts])

    threads = [threading.Thread(target=look) for _thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert seen == [[font.name for font in of(folder)]] * 8


def test_a_host_without_fonts(tmp_path: Path) -> None:
    nowhere = str(tmp_path / "nowhere")
    assert list(Fonts([str(tmp_path)], [nowhere], [nowhere], [nowhere])) == []


def test_linux_draws_some_characters_in_its_own_way() -> None:
    vga = from_vgabios(rom(16))[0]
    font = linux_font(vga)
    assert font[:3] == ("Linux 8x16", 8, 16)
    assert sorted(font.glyphs.values()) == sorted(vga.glyphs.values())
    zero = "0000386cc6c6d6d6c6c66c3800000000"
    assert font.glyphs[pattern(bytes.fromhex(zero), 8, 16)] == "0"
    assert pattern(bitmaps(16)[ord("0")], 8, 16) not in font.glyphs
    assert font.glyphs[pattern(bitmaps(16)[ord("1")], 8, 16)] == "1"
    assert len(font.glyphs) - len(set(font.glyphs) & set(vga.glyphs)) == 42


def test_the_process_has_one_set_of_fonts() -> None:
    assert load_fonts() is load_fonts()
    assert all(isinstance(font, Font) for font in islice(load_fonts(), 4))
