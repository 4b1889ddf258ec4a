# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Recognises noVNC's RFB class in JavaScript, puts the patch behind it, and takes it out again.

Private to this collection.

There is one way in for every release and packaging: the class gets its `messages` in one assignment,

    RFB.messages = { keyEvent..., pointerEvent..., ... };

whose property names survive compilers and minifiers, while names of variables do not. The class is complete there, and
its name is in scope, also inside a bundle. The patch goes behind the closing brace, as the next operand of a comma, so
that it fits whatever follows: a semicolon, a comma, or the end of a line. No line of upstream's text is changed, so
taking the patch out gives the original back; the hash in the mark proves it.
"""

from __future__ import annotations

import hashlib
import re
import typing as t

from ansible_collections.kvmops.console.plugins.module_utils import _novnc_js
from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError
from ansible_collections.kvmops.console.plugins.module_utils._novnc_script import TOLD, VERSION, script

MODULE, COMMONJS, SCRIPT, BUNDLE, MINIFIED = "module", "commonjs", "script", "bundle", "minified"
"""Kinds of files: an ES module, CommonJS as npm has it, a script with globals (0.x), and what others make of them."""

OTHER_WAY = "put the proxy (role kvmops.console.vnc_proxy) in front of it instead, which needs no patch"
"""How every refusal ends."""

_MESSAGES = re.compile(r"(?<![\w$.])([A-Za-z_$][\w$]*)\.messages\s*=\s*(\{)")
_KEYS = ("keyEvent", "pointerEvent", "clientEncodings", r"fbUpdateRequests?")
_DEFINES = re.compile(rb"""_framebufferUpdate(?:\s*\(\s*\)\s*\{|\s*:\s*function\b|["'])""")
"""As a method, as a property, or as a name given to a helper of a compiler; upstream's tests only call it."""
_BY_HAND = re.compile(r"""case\s*-\s*257\b|["']-257["']|\[\s*-\s*257\s*\]|===?\s*-\s*257\b""")
_NATIVE = re.compile(r"pseudoEncoding\w*Pointer(?:Motion|Type)Change")
_MARK = re.compile(
    rf",/\* BEGIN {re.escape(TOLD)} (?P<version>\d+) (?P<mode>\w+) sha256=(?P<sha256>[0-9a-f]{{64}}) \*/"
    rf".*?/\* END {re.escape(TOLD)} \*/",
    re.DOTALL,
)
_BUILT_IN = re.compile(rf"{re.escape(TOLD)} (?P<version>\d+) (?P<mode>\w+)")
_STARTS_STATEMENT = frozenset(("", ";", "}", "{", ")", ",", "(", "return", "else", "do", "]", "`", "/"))
_LONG_LINE = 300


class PatchRefused(ConsoleError):
    """The file is none that can be patched, or given back, without guessing."""


class AlreadyHandled(PatchRefused):
    """The file knows encoding -257 by itself."""


class Place(t.NamedTuple):
    """Where a patch goes: the offset, the name of the class there, and the kind of file."""

    offset: int
    name: str
    kind: str


class Patch(t.NamedTuple):
    """A patch that is in a file. `current`: it is what this version writes. `built_in`: a bundler took it in."""

    version: int
    mode: str
    original: str | None
    current: bool
    built_in: bool


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def decode(data: bytes) -> str:
    """Bytes as text that encode() gives back byte for byte, whatever their encoding."""
    return data.decode("utf-8", "surrogateescape")


def encode(text: str) -> bytes:
    """What decode() was given."""
    return text.encode("utf-8", "surrogateescape")


def may_have_rfb(data: bytes) -> bool:
    """A quick look: False where there is certainly no RFB class of noVNC."""
    return b"pointerEvent" in data and b"_FBU" in data and bool(_DEFINES.search(data))


def find_place(text: str) -> Place:
    """Where the patch goes in an original; raises PatchRefused where that is not certain."""
    if not re.search(r"\b_handleRect\b|\b_encHandlers\b", text):
        raise PatchRefused(f"it does not read rectangles in any way that noVNC has done so far: {OTHER_WAY}.")
    if _NATIVE.search(text):
        raise AlreadyHandled("it knows encoding -257 by itself.")
    if _BY_HAND.search(text):
        raise PatchRefused(
            "somebody already changed what it does about encoding -257, and merely ignoring that breaks the mouse: put"
            f" the original back (reinstall it) and run this again, or {OTHER_WAY}."
        )
    found = {match.start(2): match for match in _MESSAGES.finditer(text)}
    try:
        brackets = _novnc_js.brackets(text, found)
    except _novnc_js.NotJavaScript as e:
        raise PatchRefused(f"it cannot be read as JavaScript ({e}): {OTHER_WAY}.") from None
    fitting = [offset for offset, bracket in brackets.items() if _is_rfb(text[offset : bracket.end])]
    if len(fitting) != 1:
        many = "more than one class" if fitting else "no class"
        raise PatchRefused(f"{many} in it looks like noVNC's RFB: {OTHER_WAY}.")
    bracket = brackets[fitting[0]]
    # before: ..., name, ".", "messages", "="
    if bracket.before[-5] not in _STARTS_STATEMENT or bracket.around == "[" or bracket.called:
        raise PatchRefused(f"its RFB class is put together in a way that leaves no room for the patch: {OTHER_WAY}.")
    return Place(bracket.end, found[fitting[0]].group(1), _kind(text))


def _is_rfb(literal: str) -> bool:
    return all(re.search(rf"[{{,\s]{key}\s*[(:]", literal) for key in _KEYS)


def _kind(text: str) -> str:
    if text.count("\n") * _LONG_LINE < len(text):
        return MINIFIED
    if re.search(r"^export default\b", text, re.MULTILINE):
        return MODULE
    if re.search(r"^exports(?:\.default|\[[\"']default[\"']\])\s*=", text, re.MULTILINE):
        return COMMONJS
    # In 0.x one file is one class; a bundle has noVNC's other parts, too.
    return BUNDLE if re.search(r"\b(?:class|var|function) (?:Websock|Display|Keyboard)\d*\b", text) else SCRIPT


def kind_of(text: str) -> str:
    """The kind of a file, patched or not."""
    return _kind(_MARK.sub("", text, count=1))


def find_patch(text: str) -> Patch | None:
    """The patch that is in a file, or None."""
    mark = _MARK.search(text)
    if mark:
        name = mark.group().rpartition("(")[2].partition(")")[0]
        version, mode, original = int(mark["version"]), mark["mode"], mark["sha256"]
        current = mark.group() == _block(name, mode, original)
        return Patch(version, mode, original, current, False)
    told = _BUILT_IN.search(text)
    return Patch(int(told["version"]), told["mode"], None, True, True) if told else None


def is_added(text: str) -> bool:
    """Whether a file has the patch from us. What was built of a patched file is as new as its builder says."""
    patch = find_patch(text)
    return patch is not None and not patch.built_in


def _block(name: str, mode: str, sha256: str) -> str:
    return f",/* BEGIN {TOLD} {VERSION} {mode} sha256={sha256} */\n({script(mode)})({name})\n/* END {TOLD} */"


def add(text: str, mode: str, sha256: str) -> str:
    """The original `text` with the patch, which remembers `sha256` of the original; raises PatchRefused."""
    place = find_place(text)
    result = text[: place.offset] + _block(place.name, mode, sha256) + text[place.offset :]
    try:
        _novnc_js.brackets(result, ())
    except _novnc_js.NotJavaScript as e:  # cannot be, but nothing is written that was not read again
        raise PatchRefused(f"the patch does not fit into it ({e}): {OTHER_WAY}.") from None
    return result


def remove(text: str) -> str:
    """The text without the patch, which need not be the original: compare its hash. Raises PatchRefused."""
    marks = list(_MARK.finditer(text))
    if len(marks) != 1:
        raise PatchRefused(f"it has {len(marks)} patches in it instead of one: reinstall noVNC, or {OTHER_WAY}.")
    return text[: marks[0].start()] + text[marks[0].end() :]
