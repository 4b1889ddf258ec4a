# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The kind of a screen, from what it says and from its pixels, always with the reason."""

from __future__ import annotations

import random

import pytest

from ansible_collections.kvmops.console.plugins.module_utils._image import Picture
from ansible_collections.kvmops.console.plugins.module_utils._screen_kind import KINDS, classify
from ansible_collections.kvmops.console.plugins.module_utils._screen_text import ScreenText

# What is on it does not matter when there is text.
PICTURE = Picture(2, 1, bytes(3) + b"\xff" * 3)


def said(text: str, font: str | None = "VGA 8x16") -> ScreenText:
    return ScreenText([*text.splitlines(), "", ""], 2000, 1999, font)


PANIC = "[    2.1] Kernel panic - not syncing: Attempted to kill init!"
OOPS = "[    2.1] BUG: unable to handle page fault for address: 0000"


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("\n\n    Display output is not active.", "no_signal", "Display output is not active."),
        ("    Guest has not initialized the display (yet).", "no_signal", "QEMU shows its own sentence"),
        ("    This VM has no graphic display device.", "no_signal", "no graphic display device"),
        ("Display output is not active.\n#", "text", "1999 of 2000 cells"),
        ("# echo\nDisplay output is not active.", "text", "1999 of 2000 cells"),
        (f"x\n{PANIC}\n---[ end Kernel panic", "panic", "Kernel panic - not syncing: Attempted to kill init!"),
        (f"{PANIC}\nlab login:", "panic", "Kernel panic"),
        ("---[ end Kernel panic - not syncing: x ]---", "panic", "end Kernel panic"),
        ("*** STOP: 0x0000007B (0x0)", "panic", "STOP: 0x0000007B"),
        ("panic: vm_fault: fault on nofault entry", "panic", "panic: vm_fault"),
        ("$ cat notes\ndon't panic: it is fine\n$", "text", "font VGA 8x16"),
        (f"{OOPS}\nEnd of trace", "panic", "BUG: unable to handle page fault"),
        (f"{OOPS}\n\nlab login: ", "login", "lab login:"),
        ("Debian GNU/Linux 12 lab tty1\n\nlab login:", "login", "The last line is a prompt: lab login:"),
        ("lab login: root\nPassword: ", "login", "Password:"),
        ("lab login: root", "login", "root"),
        ("lab login: root\nWelcome\nroot@lab:~#", "text", "font VGA 8x16"),
        ("  GNU GRUB  version 2.06\n\n *Debian GNU/Linux", "boot_menu", "GNU GRUB  version 2.06"),
        ("The highlighted entry will be executed automatically in 3s.", "boot_menu", "highlighted entry"),
        ("ISOLINUX 6.04\nboot:", "boot_menu", "boot:"),
        ("boot: linux\nLoading linux", "text", "font VGA 8x16"),
        ("SeaBIOS\n\nSelect boot device:\n\n1. Floppy", "boot_menu", "Select boot device:"),
        ("Press ESC for boot menu.", "boot_menu", "Press ESC for boot menu."),
        ("Booting from Hard Disk...\nNo bootable device.", "text", "1999 of 2000 cells"),
        ("", "blank", "nothing on the text screen but a cursor"),
    ],
)
def test_by_words(text: str, kind: str, words: str) -> None:
    told = classify(PICTURE, said(text))
    assert told.kind == kind
    assert words in told.reason
    assert told.kind in KINDS


def test_recognized_text_makes_no_text_screen() -> None:
    assert classify(PICTURE, said("Files  Edit  View", None)).kind == "graphics"
    told = classify(PICTURE, said("Your device ran into a problem and needs to restart.", None))
    assert told == ("panic", "The screen says: Your device ran into a problem and needs to restart.")


def test_by_pixels() -> None:
    blank = Picture(100, 100, b"\1\2\3" * 10000)
    assert classify(blank, None) == ("blank", "Every pixel has the same colour, #010203.")
    pointer = blank._replace(rgb=blank.rgb[:-30] + b"\xff" * 30)
    assert classify(pointer, None) == ("blank", "99.90% of the pixels have the same colour, #010203.")
    window = blank._replace(rgb=blank.rgb[:-33] + b"\xff" * 33)
    assert classify(window, None) == ("graphics", "The picture has 2 colours, and no text was read on it.")
    noise = Picture(100, 100, random.Random(1).randbytes(30000))
    assert classify(noise, None) == ("graphics", "The picture has more colours than a text screen.")
