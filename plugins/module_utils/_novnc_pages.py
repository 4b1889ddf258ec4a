# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Gives noVNC's script another address in the pages that load it, so that browsers do not use the one that they keep.

Private to this collection.

websockify and nova-novncproxy tell browsers nothing but when a file was last changed; so browsers guess for how long it
is good (RFC 9111, 4.2.2), which is weeks for a file of last year, and a reload does not ask for modules again. A page
says where the new one is:

- of a module, in an import map (HTML, "Import maps"), since the modules between the page and rfb.js name it by path;
- of a bundle, in the query of the script element.
"""

from __future__ import annotations

import re

from ansible_collections.kvmops.console.plugins.module_utils._novnc_patch import PatchRefused

TAG_LENGTH = 12

_MAP = re.compile(
    r'<script type="importmap" data-kvmops="novnc_patch">\{"imports":\{"\./core/rfb\.js":"\./core/rfb\.js\?kvmops='
    rf'(?P<tag>[0-9a-f]{{{TAG_LENGTH}}})"\}}\}}</script>'
)
_QUERY = re.compile(rf"[?&]kvmops=(?P<tag>[0-9a-f]{{{TAG_LENGTH}}})(?=[\"'])")
_COMMENT_OR_SCRIPT = re.compile(r"<!--.*?-->|(?P<script><script\b)", re.DOTALL | re.IGNORECASE)
_MODULE_SCRIPT = re.compile(r"<script\b[^>]*\btype=[\"']?module", re.IGNORECASE)
_OTHER_MAP = re.compile(r"<script\b[^>]*\btype=[\"']?importmap", re.IGNORECASE)
_BASE = re.compile(r"<base\b[^>]*\bhref", re.IGNORECASE)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


def tag_of(sha256: str) -> str:
    """What stands in an address for a file with that hash."""
    return sha256[:TAG_LENGTH]


def tag_in(page: str) -> str | None:
    """The tag that a page has, or None."""
    found = _MAP.search(page) or _QUERY.search(page)
    return found["tag"] if found else None


def without_tag(page: str) -> str:
    """The page as it was before with_map() or with_query()."""
    return _QUERY.sub("", _MAP.sub("", page))


def loads_module(page: str) -> bool:
    """Whether a page loads core/rfb.js as a module, by itself or through noVNC's user interface."""
    shown = _COMMENT.sub("", page)
    return bool(_MODULE_SCRIPT.search(shown) and re.search(r"\b(?:core/rfb|app/ui)\.js\b", shown))


def loads_script(page: str, name: str) -> bool:
    """Whether a page has a script element for a file of that name."""
    return bool(_source(name).search(_COMMENT.sub("", page)))


def with_map(page: str, tag: str) -> str:
    """The page with an import map for core/rfb.js; raises PatchRefused where that has no effect."""
    page = without_tag(page)
    shown = _COMMENT.sub("", page)
    if _OTHER_MAP.search(shown):
        raise PatchRefused("it has an import map of its own: add ./core/rfb.js to that, with a new query.")
    if _BASE.search(shown):
        raise PatchRefused("it has a base address of its own: let the web server send Cache-Control: no-cache.")
    first = next(match.start() for match in _COMMENT_OR_SCRIPT.finditer(page) if match["script"])
    text = f'{{"imports":{{"./core/rfb.js":"./core/rfb.js?kvmops={tag}"}}}}'
    return f'{page[:first]}<script type="importmap" data-kvmops="novnc_patch">{text}</script>{page[first:]}'


def with_query(page: str, name: str, tag: str) -> str:
    """The page with the tag in the query of every script element for a file of that name."""

    def tagged(match: re.Match[str]) -> str:
        return f"{match[1]}{match[2]}{'&' if '?' in match[2] else '?'}kvmops={tag}{match[3]}"

    return _source(name).sub(tagged, without_tag(page))


def _source(name: str) -> re.Pattern[str]:
    return re.compile(
        rf"""(<script\b[^>]*\bsrc=["'])((?:[^"'?\#]*/)?{re.escape(name)}(?:\?[^"'\#]*)?)(["'])""", re.IGNORECASE
    )
