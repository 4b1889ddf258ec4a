# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real screens of real guests, on an affected and on a fixed QEMU: every cell but the cursor's is read."""

from __future__ import annotations

import os
import subprocess
import tarfile
from itertools import islice
from pathlib import Path
from typing import Optional

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import (
    _image,
    _screen_fonts,
    _screen_kind,
    _screen_reading,
    _screen_text,
)
from ansible_collections.kvmops.console.plugins.module_utils._image import Picture
from ansible_collections.kvmops.console.plugins.module_utils._screen_text import ScreenText
from ansible_collections.kvmops.console.tests.integration.screens.guest import DONE, drawn, linux, qemu
from ansible_collections.kvmops.console.tests.lab.kvmlab import build
from ansible_collections.kvmops.console.tests.lab.kvmlab.machine import cache

FIXED_QEMU = "/usr/bin/qemu-system-x86_64"
AFFECTED_QEMU = os.fspath(cache() / "qemu-7.2.0/bin/qemu-system-x86_64")

FRAMEBUFFER = "vga=0x318"
CONSOLE = "exec >/dev/tty1 2>&1; clear\n"
# Linux prints glyph 0xNN of its font, whatever that shows, for U+F0NN.
EVERY_GLYPH = "\n".join("".join(chr(0xF000 + start + code) for code in range(32)) for start in range(0, 256, 32)) + "\n"
CP437 = [
    " ☺☻♥♦♣♠•◘○◙♂♀♪♫☼►◄↕‼¶§▬↨↑↓→←∟↔▲▼",
    " !\"#$%&'()*+,-./0123456789:;<=>?",
    "@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_",
    "`abcdefghijklmnopqrstuvwxyz{|}~⌂",
    "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒ",
    "áíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐",
    # The full block is a blank in another colour.
    "└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌ ▄▌▐▀",
    "αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■",
]


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    """QEMUs, firmware and guest: what the lab is made of."""
    build()


def text_of(picture: Picture) -> ScreenText:
    text = _screen_text.read(picture, _screen_fonts.load_fonts())
    assert text is not None
    return text


def read(picture: Picture) -> Optional[str]:
    return _screen_reading.read(picture).text


def kind_of(picture: Picture) -> str:
    return _screen_kind.classify(picture, _screen_text.read(picture, _screen_fonts.load_fonts())).kind


def all_but_the_cursor(text: _screen_text.ScreenText) -> bool:
    """Whether every cell was matched but the one with the cursor, which blinks."""
    return text.cells - text.matched in (0, 1)


@pytest.mark.parametrize("program", [AFFECTED_QEMU, FIXED_QEMU])
def test_firmware(program: str, tmp_path: Path) -> None:
    with qemu(program, tmp_path, "-vga", "std") as machine:
        machine.until(lambda: "No bootable device" in machine.firmware(), "end of the firmware")
        picture = machine.screen()
    text = text_of(picture)
    assert (picture[:2], text.cells, text.font) == ((720, 400), 2000, "VGA 8x16")
    assert all_but_the_cursor(text)
    assert text.lines[0].startswith("SeaBIOS (version ")
    assert text.text.endswith("\nNo bootable device.")
    assert _screen_kind.classify(picture, text).kind == "text"


def test_boot_menu(tmp_path: Path) -> None:
    with qemu(FIXED_QEMU, tmp_path, "-vga", "std", "-boot", "menu=on,splash-time=60000") as machine:
        machine.until(lambda: "Press ESC for boot menu" in machine.firmware(), "offer of a boot menu")
        asked = machine.screen()
        machine.keys("esc")
        machine.until(lambda: "Select boot device" in machine.firmware(), "boot menu")
        picture = machine.screen()
    assert kind_of(asked) == "boot_menu"
    assert "Select boot device:" in text_of(picture).lines
    assert kind_of(picture) == "boot_menu"


@pytest.mark.parametrize("program", [AFFECTED_QEMU, FIXED_QEMU])
@pytest.mark.parametrize("video", ["virtio-gpu-pci", "VGA"])
def test_a_guest_that_shows_nothing(program: str, video: str, tmp_path: Path) -> None:
    with qemu(program, tmp_path, "-device", video, "-S") as machine:
        picture = machine.screen()
    text = text_of(picture)
    assert (picture[:2], text.cells, text.matched) == ((640, 480), 2400, 2400)
    assert kind_of(picture) == "no_signal"


@pytest.mark.parametrize(
    ("arguments", "size", "cells", "font"),
    [("", (720, 400), 2000, "VGA 8x16"), (FRAMEBUFFER, (1024, 768), 6144, "Linux 8x16")],
)
def test_every_glyph_of_linux(arguments: str, size: tuple[int, int], cells: int, font: str, tmp_path: Path) -> None:
    script = CONSOLE + "cat /glyphs; printf '\\033[1;33;44mbright\\033[0;7minverse\\033[0m\\nlogin: '\n" + DONE
    with linux(FIXED_QEMU, tmp_path, script, files={"glyphs": EVERY_GLYPH.encode()}, arguments=arguments) as machine:
        picture = drawn(machine)
    text = text_of(picture)
    assert picture[:2] == size
    assert text.lines[:10] == [*CP437, "brightinverse", "login:"]
    assert (text.cells, text.font) == (cells, font)
    assert all_but_the_cursor(text)
    assert kind_of(picture) == "login"
    assert _image.decode(_image.encode_png(picture)) == picture


GRUB_MODULES = ("all_video", "biosdisk", "font", "gfxterm", "normal", "tar", "test", "true")
GRUB_SETTINGS = """
loadfont $prefix/unicode.pf2
set gfxmode=1024x768
terminal_output gfxterm
set menu_color_normal=cyan/blue
set menu_color_highlight=white/blue
menuentry 'Lab GNU/Linux' { true }
menuentry 'Überprüfung — memtest' { true }
"""


def grub(folder: Path) -> list[str]:
    """QEMU's options for a disk with GRUB, and one with what it reads: an archive, for want of a file system."""
    settings, core, disk, files = (folder / name for name in ("grub.cfg", "core.img", "disk.img", "files.tar"))
    settings.write_text(GRUB_SETTINGS, encoding="utf-8")
    with tarfile.open(files, "w") as archive:
        archive.add(settings, "grub/grub.cfg")
        archive.add("/usr/share/grub/unicode.pf2", "grub/unicode.pf2")
    words = ["grub-mkimage", "-O", "i386-pc", "-p", "(hd1)/grub", "-o", os.fspath(core), *GRUB_MODULES]
    subprocess.run(words, check=True)
    image = Path("/usr/lib/grub/i386-pc/boot.img").read_bytes() + core.read_bytes()
    disk.write_bytes(image.ljust(1 << 20, b"\0"))
    return [word for path in (disk, files) for word in ("-drive", f"if=ide,format=raw,readonly=off,file={path}")]


def test_the_menu_of_grub_on_a_graphical_terminal(tmp_path: Path) -> None:
    with qemu(FIXED_QEMU, tmp_path, "-vga", "std", *grub(tmp_path)) as machine:
        machine.until(lambda: kind_of(machine.screen()) == "boot_menu", "menu of GRUB")
        # GRUB draws from the top.
        machine.until(lambda: "keys to select which entry" in text_of(machine.screen()).text, "end of the menu")
        picture = machine.screen()
    text = text_of(picture)
    assert (picture[:2], text.cells, text.font) == ((1024, 768), 125 * 46, "GRUB's unicode.pf2")
    assert all_but_the_cursor(text)
    assert text.lines[1].strip().startswith("GNU GRUB  version")
    assert text.lines[3].strip() == f"┏{'━' * 121}┓"
    assert [line.strip(" ┃*") for line in text.lines[4:6]] == ["Lab GNU/Linux", "Überprüfung — memtest"]
    assert "Use the ↑ and ↓ keys to select which entry is highlighted." in text.text


def test_uefi_s_console(tmp_path: Path) -> None:
    firmware = "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/OVMF_CODE_4M.fd"
    with qemu(FIXED_QEMU, tmp_path, "-vga", "std", "-drive", firmware) as machine:
        # The serial port is its console, too, and the screen may be behind it.
        machine.until(lambda: "seconds to skip" in machine.serial(), "shell of UEFI")
        machine.keys("esc")
        machine.until(lambda: "Shell>" in (read(machine.screen()) or ""), "shell of UEFI on the screen")
        picture = machine.screen()
    text = text_of(picture)
    assert (picture[:2], text.font) == ((1280, 800), "UEFI 8x19")
    assert all_but_the_cursor(text)
    assert text.lines[0].startswith("UEFI Interactive Shell v2")
    assert text.text.endswith("\nShell>")


def psf() -> bytes:
    """A font of 8 x 20 with a table of its own: the VGA's with more room around, and Cyrillic in its upper half."""
    table = ""
    bitmaps = b""
    vga = next(iter(_screen_fonts.load_fonts()))
    shapes = {character: shape for shape, character in vga.glyphs.items()}
    for number, character in enumerate(_screen_text._CP437):
        shape = shapes[character]
        columns = [shape >> (7 - x) * 16 for x in range(8)]
        rows = [sum((column >> (15 - y) & 1) << (7 - x) for x, column in enumerate(columns)) for y in range(16)]
        bitmaps += bytes([0, 0, *rows, 0, 0])
        table += (character if character.isascii() else chr(0x400 + number)) + "\uffff"
    return b"\x36\x04\x02\x14" + bitmaps + table.encode("utf-16-le")


def test_a_console_font(tmp_path: Path) -> None:
    said = "Welcome to the lab: 100 % [ok] {done} | grep -v 'x'"
    font = psf()
    script = CONSOLE + f'loadfont </font; clear; echo "{said}"; printf "\\033%%G\\322\\220"\n' + DONE
    with linux(FIXED_QEMU, tmp_path, script, files={"font": font}, arguments=FRAMEBUFFER) as machine:
        picture = drawn(machine)
    text = _screen_text.read(picture, [*islice(_screen_fonts.load_fonts(), 4), _screen_text.from_psf(font, "ours")])
    assert text is not None
    assert text.lines[:2] == [said, chr(0x490)]
    assert (text.font, text.cells) == ("ours", 128 * 38)
    assert all_but_the_cursor(text)


@pytest.mark.parametrize("arguments", ["", FRAMEBUFFER])
def test_panic(arguments: str, tmp_path: Path) -> None:
    with linux(FIXED_QEMU, tmp_path, "exit 3", arguments=f"console=ttyS0 {arguments}") as machine:
        machine.until(lambda: "end Kernel panic" in machine.serial(), "panic")
        # The serial port may have the words before the screen has.
        machine.until(lambda: kind_of(machine.screen()) == "panic", "panic on the screen")
        picture = machine.screen()
    text = text_of(picture)
    assert "Kernel panic - not syncing: Attempted to kill init!" in text.text.replace("\n", "")
    assert all_but_the_cursor(text)


def test_text_on_a_graphical_screen_is_recognized(tmp_path: Path) -> None:
    """A console's words above a picture: no font fits a screen of so many colours."""
    said = "Please insert the installation disk"
    script = f"{CONSOLE}printf '\\033[?25l\\n\\n  {said}\\n'; dd if=/dev/urandom of=/dev/fb0 bs=4096 seek=384\n{DONE}"
    with linux(FIXED_QEMU, tmp_path, script, arguments=FRAMEBUFFER) as machine:
        picture = drawn(machine)
    exact = _screen_reading.read(picture)
    assert (exact.text, exact.kind) == (None, "graphics")
    recognized = _screen_reading.recognize(picture, exact, 100.0)
    assert (recognized.depth, recognized.source) == (_screen_reading.RECOGNIZED, "ocr")
    assert recognized.text is not None
    assert said in recognized.text


def test_login(tmp_path: Path) -> None:
    script = CONSOLE + "printf 'Debian GNU/Linux 12 lab tty1\\n\\nlab login: '\n" + DONE
    with linux(FIXED_QEMU, tmp_path, script) as machine:
        picture = drawn(machine)
    assert text_of(picture).text == "Debian GNU/Linux 12 lab tty1\n\nlab login:"
    assert kind_of(picture) == "login"


@pytest.mark.parametrize(("arguments", "cursor"), [("", "h"), (FRAMEBUFFER, "l")])
def test_blank(arguments: str, cursor: str, tmp_path: Path) -> None:
    with linux(FIXED_QEMU, tmp_path, f"{CONSOLE}printf '\\033[?25{cursor}'\n{DONE}", arguments=arguments) as machine:
        picture = drawn(machine)
    assert kind_of(picture) == "blank"


def test_graphics(tmp_path: Path) -> None:
    script = CONSOLE + "printf '\\033[?25l'; dd if=/dev/urandom of=/dev/fb0 bs=65536 2>/dev/null\n" + DONE
    with linux(FIXED_QEMU, tmp_path, script, arguments=FRAMEBUFFER) as machine:
        picture = drawn(machine)
        data = machine.dump(format="png")
    assert kind_of(picture) == "graphics"
    # QEMU's own PNG has the same pixels.
    assert _image.check_png(data) == (1024, 768)
    assert _image.digest(_image.decode(data)) == _image.digest(picture)
    assert _image.changed(_image.decode(data), picture) == 0.0
