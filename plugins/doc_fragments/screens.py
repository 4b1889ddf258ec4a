# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options of every screenshot module: where pictures go, who shares them, what is waited for."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  store:
    description:
      - Where the pictures are taken to and kept, a folder a screen, with mode 0700.
      - For root C(/var/lib/kvmops-console/screens) when not set, for other users a folder in their own state folder.
    type: path
  dest:
    description:
      - A folder on the host where people look for the pictures, named after the machine (C(NAME.png),
        C(NAME~HEAD.png)), with
        whatever a file name should not have replaced. Made when it is not there.
      - When not set, the pictures are in O(store) only.
    type: path
  max_age:
    description:
      - A picture that is at most so many seconds old will do. Everybody who asks within that time shares one capture.
      - Those who ask while a picture is being taken share it in any case.
    type: float
    default: 0.0
  thumbnail:
    description:
      - Also make a small picture of this width.
    type: int
  text:
    description:
      - Read what the screen says, where it shows characters of a font that the host has. That is exact.
    type: bool
    default: false
  ocr:
    description:
      - Also recognize the text of graphical screens, by Tesseract where the host has it (Debian, Ubuntu, SUSE
        C(tesseract-ocr), Fedora C(tesseract)), within O(timeout). That is a guess, and takes seconds for each screen
        that has changed.
      - Without Tesseract there is a warning, and no such text.
      - Implies O(text).
    type: bool
    default: false
  timeout:
    description:
      - Seconds that one capture may take. A QEMU that hangs is left behind then, and delays nobody else.
    type: float
    default: 30.0
  concurrency:
    description:
      - How many machines are captured at a time.
    type: int
    default: 8
  fetch_to:
    description:
      - A folder on the controller that the pictures are brought to, in one transfer, as C(HOST/NAME.png).
      - Where the machines are not those of the host's usual libvirt (C(qemu:///system)), the file's name tells them
        apart from others that are called the same, as C(NAME~incus.png), C(NAME~qmp.png), or with eight digits that
        stand for the URI of libvirt.
    type: path
  history:
    description:
      - Keep earlier pictures in O(store), too.
    type: dict
    suboptions:
      keep:
        description: How many.
        type: int
        default: 0
      keep_for:
        description: For how many seconds; for ever when not set.
        type: float
      drop_identical:
        description: Keep a picture only when it differs from the one before.
        type: bool
        default: true
  wait_for:
    description:
      - Look again and again until the screen shows something. When it does not in time, the task fails, and the last
        picture is
        returned all the same.
    type: dict
    suboptions:
      text:
        description: A regular expression that is found in what the screen says.
        type: str
      still:
        description: The screen stays the same for so many seconds.
        type: float
      changed:
        description: The screen shows something else than at the beginning.
        type: bool
      image:
        description: The screen looks like this picture, a path on the host.
        type: path
      similarity:
        description: How much of it has to, from 0 to 1.
        type: float
        default: 0.98
      timeout:
        description: For how many seconds to wait.
        type: float
        default: 60.0
requirements:
  - Pillow (Debian, Ubuntu C(python3-pil); RHEL, Fedora C(python3-pillow); SUSE C(python3-Pillow))
"""
