# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one way in which a request is turned away."""

from __future__ import annotations


class Denied(Exception):
    """A request finds no target, or its target can't be opened.

    `status` is the HTTP status that fits (401, 403, 404, 410, 503); `sentence`, which is `str()` too, says why: for
    logs and for whoever asked. No secret is in it.
    """

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.sentence = sentence


def shown(text: str, most: int = 100) -> str:
    """Return a name that came from outside as it can stand in a sentence: printable, and not too long."""
    printable = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: most + 1])
    return f"'{printable}'" if len(printable) <= most else f"'{printable[:most]}…'"
