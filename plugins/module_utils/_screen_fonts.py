# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finds the fonts that consoles draw with: in the firmware that QEMU gives its guests, GRUB's, and the console fonts.

Private to this collection.

Which is a matter of the guest, so this host's fonts are a guess, though a good one: firmware, and Linux in VGA text
mode, use the BIOS's; Linux on a framebuffer has one of its own until the distribution loads one of the console fonts.
UEFI's consoles and GRUB's graphical terminal have theirs, which take a while to be read.
"""

from __future__ import annotations

import os
import re
import threading
import typing as t
from functools import lru_cache
from pathlib import Path

from ansible_collections.kvmops.console.plugins.module_utils._screen_text import Font, from_psf, from_vgabios, pattern

ROM_FOLDERS = (
    "/usr/share/seabios",  # Debian, Ubuntu
    "/usr/share/seavgabios",  # RHEL, Fedora
    "/usr/share/qemu",  # SUSE, Arch, Alpine, and QEMU from source
    "/usr/local/share/qemu",
    "/usr/share/qemu-kvm",
    "/usr/share/kvm",  # Proxmox VE
    "/usr/share/vgabios",
)
FONT_FOLDERS = (
    "/usr/share/consolefonts",  # Debian, Ubuntu
    "/usr/lib/kbd/consolefonts",  # RHEL, Fedora
    "/lib/kbd/consolefonts",
    "/usr/share/kbd/consolefonts",  # SUSE, Arch
    "/usr/local/share/consolefonts",
)
GRUB_FONTS = (
    "/usr/share/grub/unicode.pf2",  # Debian, Ubuntu, Fedora
    "/usr/share/grub2/unicode.pf2",  # SUSE
    "/boot/grub/fonts/unicode.pf2",
    "/boot/grub2/fonts/unicode.pf2",  # RHEL
)
UEFI_FOLDERS = (
    "/usr/share/OVMF",  # Debian, Ubuntu
    "/usr/share/edk2/ovmf",  # RHEL, Fedora
    "/usr/share/edk2/x64",  # Arch
    "/usr/share/qemu",  # SUSE, and QEMU from source
    "/usr/local/share/qemu",
    "/usr/share/pve-edk2-firmware",  # Proxmox VE
)
_UEFI = r"OVMF_CODE.*\.fd|edk2-x86_64-(secure-)?code\.fd|ovmf-x86_64.*-code\.bin"
_MOST_BYTES = 1 << 20
_MOST_FIRMWARE = 16 << 20
# What distributions load by default comes first: eurlatgr (RHEL, Fedora, SUSE), Fixed (Debian, Ubuntu), the kernel's.
_PREFERRED = (
    r"eurlatgr\.",
    r"(Uni2|Lat15)-Fixed16",
    r"default8x16",
    r"(Uni2|Lat15)-(VGA|Terminus|TerminusBold|TerminusBoldVGA)16",
    r"(lat0|lat9|lat9w|latarcyrheb-sun)-?16|ter-[v12]16",
    r"(Uni2|Lat15)-|ter-[v1]\d|sun12x22|solar24x32|latarcyrheb-sun32",
    r"(Uni\d|Lat\d+|Full\w+)-",
)
_USUAL = 3
"""The rank of the last that a distribution loads by default."""
# Linux draws these characters of code page 437 in another way than the VGA BIOS, and all others in the same. Rows from
# the top, two digits each; read off the framebuffer console of a Linux 6.1 that printed all 256.
_LINUX = """
↔ 0000000000286cfe6c28000000000000   0 0000386cc6c6d6d6c6c66c3800000000   M 0000c6eefefed6c6c6c6c6c600000000
T 00007e7e5a1818181818183c00000000   V 0000c6c6c6c6c6c6c66c381000000000   W 0000c6c6c6c6d6d6d6feee6c00000000
X 0000c6c66c7c38387c6cc6c600000000   Y 0000666666663c181818183c00000000   Z 0000fec6860c183060c2c6fe00000000
` 0030180c000000000000000000000000   f 00001c36323078303030307800000000   m 0000000000ecfed6d6d6d6c600000000
v 0000000000c6c6c6c6c66c3800000000   w 0000000000c6c6d6d6d6fe6c00000000   x 0000000000c66c3838386cc600000000
| 00001818181818181818181800000000   ~ 0076dc00000000000000000000000000   Ç 00003c66c2c0c0c0c0c2663c18700000
ç 00000000007cc6c0c0c0c67c18700000   Å 386c3810386cc6fec6c6c6c600000000   É 0c1800fe66626878686266fe00000000
æ 0000000000ec36367ed8d86e00000000   ¢ 0018187cc6c0c0c0c67c181800000000   ¥ 000066663c187e187e18181800000000
₧ 00f8ccccf8c4ccdeccccccc600000000   ƒ 000e1b1818187e181818d87000000000   ª 00003c6c6c3e007e0000000000000000
º 0000386c6c38007c0000000000000000   ½ 0060e062666c183060dc860c183e0000   ¼ 0060e062666c183066ce9a3f06060000
π 0000000000fe6c6c6c6c6c6c00000000   Σ 0000fec6603018183060c6fe00000000   µ 00000000006666666666667c6060c000
Φ 00007e183c666666663c187e00000000   Θ 0000386cc6c6fec6c6c66c3800000000   ± 0000000018187e181800007e00000000
⌡ 181818181818181818d8d8d870000000   ÷ 000000000018007e0018000000000000   · 00000000000000180000000000000000
ⁿ 006c3636363636000000000000000000   ² 003c660c18327e000000000000000000   ■ 000000007e7e7e7e7e7e7e0000000000
"""


class Fonts:
    """The fonts of this host, the likeliest first. Files are read when somebody asks for one more, and kept.

    Reads with a VGA BIOS's font need one file of hundreds. For threads, too.
    """

    def __init__(
        self,
        roms: t.Sequence[str] = ROM_FOLDERS,
        folders: t.Sequence[str] = FONT_FOLDERS,
        grub: t.Sequence[str] = GRUB_FONTS,
        uefi: t.Sequence[str] = UEFI_FOLDERS,
    ) -> None:
        self._lock = threading.Lock()
        self._loaded: list[Font] = []
        self._more = _fonts(roms, folders, grub, uefi)

    def __iter__(self) -> t.Iterator[Font]:
        number = 0
        while True:
            with self._lock:
                if number == len(self._loaded):
                    font = next(self._more, None)
                    if font is None:
                        return
                    self._loaded.append(font)
            yield self._loaded[number]
            number += 1


@lru_cache(maxsize=1)
def load_fonts() -> Fonts:
    """This host's fonts, the same for all of this process. Files that are none, or can't be read, are left out."""
    return Fonts()


def linux_font(vga: Font) -> Font:
    """The font that Linux has built in (8x16), from the VGA BIOS's of the same size."""
    words = _LINUX.split()
    drawn = {character: pattern(bytes.fromhex(rows), 8, 16) for character, rows in zip(words[::2], words[1::2])}
    glyphs = {shape: character for shape, character in vga.glyphs.items() if character not in drawn}
    glyphs.update((shape, character) for character, shape in drawn.items())
    return Font("Linux 8x16", 8, 16, glyphs)


def _fonts(
    roms: t.Sequence[str], folders: t.Sequence[str], grub: t.Sequence[str], uefi: t.Sequence[str]
) -> t.Iterator[Font]:
    yield from _of_roms(roms)
    found = _console_fonts(folders)
    usual = [path for path in found if _rank(path)[0] <= _USUAL]
    yield from _of_files(usual)
    yield from _of_boot(grub, uefi)
    yield from _of_files(found[len(usual) :])


def _of_files(paths: t.Sequence[Path]) -> t.Iterator[Font]:
    for path in paths:
        data = _content(path)
        if data is None:
            continue
        try:
            yield from_psf(data, path.name)
        except ValueError:
            continue


def _of_boot(grub: t.Sequence[str], uefi: t.Sequence[str]) -> t.Iterator[Font]:
    """GRUB's font, and UEFI's of the first firmware that has any: EDK2's are all built with the same."""
    # Here, because most screens are read without it.
    from ansible_collections.kvmops.console.plugins.module_utils import _boot_fonts

    for path in map(Path, grub):
        data = _content(path, _MOST_FIRMWARE)
        if data is None:
            continue
        try:
            yield _boot_fonts.from_pf2(data, f"GRUB's {path.name}")
            break
        except ValueError:
            continue
    for folder in uefi:
        for path in sorted(_files(folder, _UEFI)):
            font = _boot_fonts.from_edk2(_content(path, _MOST_FIRMWARE) or b"")
            if font:
                yield font
                return


def _of_roms(folders: t.Sequence[str]) -> t.Iterator[Font]:
    """The fonts of the first VGA BIOS that has any: QEMU's are all built with the same."""
    for folder in folders:
        # The standard VGA's first, by its name.
        for path in sorted(_files(folder, r"vgabios.*\.bin"), key=lambda path: ("stdvga" not in path.name, path.name)):
            fonts = from_vgabios(_content(path) or b"")
            if fonts:
                yield from fonts
                yield from (linux_font(font) for font in fonts if font.height == 16)
                return


def _console_fonts(folders: t.Sequence[str]) -> list[Path]:
    """Every console font once, though folders are often links to one another; the likeliest first."""
    found = {path.name: path for folder in reversed(folders) for path in _files(folder, r".+\.psfu?(\.gz)?")}
    return sorted(found.values(), key=_rank)


def _rank(path: Path) -> tuple[int, str]:
    ranks = (number for number, expression in enumerate(_PREFERRED) if re.match(expression, path.name))
    return next(ranks, len(_PREFERRED)), path.name


def _files(folder: str, expression: str) -> list[Path]:
    try:
        names = os.listdir(folder)
    except OSError:
        return []
    return [Path(folder, name) for name in names if re.fullmatch(expression, name)]


def _content(path: Path, most: int = _MOST_BYTES) -> bytes | None:
    """What is in a file of no more than `most` bytes; None when it can't be read."""
    try:
        with open(path, "rb") as file:
            data = file.read(most + 1)
    except OSError:
        return None
    return data if len(data) <= most else None
