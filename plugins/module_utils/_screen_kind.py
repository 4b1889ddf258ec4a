# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Tells what kind of screen a picture shows: a hint, with its reason, never more.

Private to this collection.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.kvmops.console.plugins.module_utils._image import Flat, Picture, flat
from ansible_collections.kvmops.console.plugins.module_utils._screen_text import ScreenText

BLANK = "blank"
NO_SIGNAL = "no_signal"
BOOT_MENU = "boot_menu"
LOGIN = "login"
PANIC = "panic"
TEXT = "text"
GRAPHICS = "graphics"
UNKNOWN = "unknown"
KINDS = (BLANK, NO_SIGNAL, BOOT_MENU, LOGIN, PANIC, TEXT, GRAPHICS, UNKNOWN)

# A mouse pointer on an empty screen leaves more of it in one colour than this.
_EMPTY = 0.999

# What QEMU itself shows for a guest that drives no display (7.2: ui/console.c, hw/display/virtio-gpu-base.c).
_PLACEHOLDERS = (
    "Display output is not active.",
    "Guest has not initialized the display (yet).",
    "This VM has no graphic display device.",
)
# Anywhere on the screen, and the end of the system.
_PANIC = re.compile(
    r"Kernel panic - not syncing.*|---\[ end Kernel panic.*"  # Linux
    r"|Your (?:PC|device) ran into a problem.*|A problem has been detected and Windows.*|\*\*\* ?STOP: 0x.*"
    r"|^panic: .*|^panic\(cpu.*|Fatal trap \d+.*"  # BSD, macOS
    r"|VMware ESXi .*\[.*Releasebuild.*(?=[\s\S]*(?:PSOD|PANIC|#PF Exception))"
    r"|^!!!! X64 Exception Type.*",  # EDK2
    re.MULTILINE,
)
# An oops: the guest may go on, so a prompt below it counts for more.
_OOPS = re.compile(
    r"kernel BUG at .*|BUG: (?:unable to handle|kernel NULL|soft lockup).*|Oops: .*|Unable to mount root fs.*",
    re.MULTILINE,
)
_BOOT_MENU = re.compile(
    r"GNU GRUB +version.*|Use the .* keys to (?:select which entry is highlighted|change the selection).*"
    r"|The highlighted entry will be executed automatically.*"
    r"|Automatic boot in \d+ seconds?.*|Press \[?Tab\]? to edit options.*|^boot:\s*\Z"  # ISOLINUX
    r"|Windows Boot Manager.*|Choose an operating system to start.*|Choose an option$"
    r"|Reboot Into Firmware Interface.*|^Boot in \d+ s\.?"  # systemd-boot
    r"|Select boot device:.*|Press (?:ESC|F12) for boot menu.*"  # SeaBIOS
    r"|Autoboot in \d+ seconds.*|Please select boot device.*|Boot Manager Menu.*",
    re.MULTILINE,
)
_LOGIN = re.compile(r"(?:^|\s)(?:login|username|password(?: for \S+)?): *\S*$", re.IGNORECASE)


class Kind(t.NamedTuple):
    """One of KINDS, and the sentence that says why."""

    kind: str
    reason: str


def classify(picture: Picture, text: ScreenText | None, few: Flat | None = None, *, sure: bool = True) -> Kind:
    """What `picture` shows, on which `text` was read; text that was recognized (OCR) counts for what it says only.

    `few` is flat(picture), where somebody has it already. `sure`: another font would not have read more.
    """
    said = _by_words(text) if text else None
    if said:
        return said
    return _by_pixels(picture, text, few, sure)


def _by_words(text: ScreenText) -> Kind | None:
    whole = text.text
    lines = [line.strip() for line in whole.splitlines() if line.strip()]
    if not lines:
        return None
    if len(lines) == 1 and lines[0] in _PLACEHOLDERS:
        return Kind(NO_SIGNAL, f"QEMU shows its own sentence instead of a screen of the guest: {lines[0]}")
    panic = _PANIC.search(whole)
    if panic:
        return Kind(PANIC, f"The screen says: {panic[0].strip()}")
    if _LOGIN.search(lines[-1]):
        return Kind(LOGIN, f"The last line is a prompt: {lines[-1]}")
    menu = _BOOT_MENU.search(whole)
    if menu:
        return Kind(BOOT_MENU, f"The screen says: {menu[0].strip()}")
    oops = _OOPS.search(whole)
    if oops:
        return Kind(PANIC, f"The screen says: {oops[0].strip()}")
    return None


def _by_pixels(picture: Picture, text: ScreenText | None, few: Flat | None, sure: bool) -> Kind:
    if text and text.font and text.text:
        return Kind(TEXT, f"{text.matched} of {text.cells} cells are characters of the font {text.font}.")
    if text and text.font:
        return Kind(BLANK, "There is nothing on the text screen but a cursor.")
    few = few or flat(picture)
    if few is None:
        return Kind(GRAPHICS, "The picture has more colours than a text screen.")
    if len(few.colours) == 1:
        return Kind(BLANK, f"Every pixel has the same colour, #{bytes(few.colours[0]).hex()}.")
    share = few.pixels.histogram()[0] / (picture.width * picture.height)
    if share >= _EMPTY:
        return Kind(BLANK, f"{share:.2%} of the pixels have the same colour, #{bytes(few.colours[0]).hex()}.")
    if not sure:
        colours = len(few.colours)
        return Kind(UNKNOWN, f"The picture has {colours} colours, so it may be text in another font: ask for the text.")
    return Kind(GRAPHICS, f"The picture has {len(few.colours)} colours, and no text was read on it.")
