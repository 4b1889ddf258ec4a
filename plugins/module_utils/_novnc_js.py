# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where brackets of JavaScript begin and end: a tokenizer that knows strings, templates, comments and literals.

Private to this collection.

No distribution that we support ships a JavaScript parser for Python in its base (python3-esprima ends at ECMAScript
2017, which noVNC left in 2020), so this is one of our own, for the one question that the patch has. It keeps no tree:
a bundle of some megabytes takes seconds, and no more memory than its text.

What a slash means (a division or a regular expression) depends on the grammar (ECMA-262, 12 and 12.9.5). It is told
from the token before, and of a bracket that closes from what stood before the one that opened. Where that is wrong the
brackets do not match in the end, and the text is refused.
"""

from __future__ import annotations

import re
import typing as t
from collections import deque

_SKIP = re.compile(r"(?:\s|\ufeff|//[^\n\r\u2028\u2029]*|/\*.*?\*/)+", re.DOTALL)
_TOKEN = re.compile(
    r"""
    (?P<word>(?:[^\W\d]|[$\#@]|\\u)[\w$\u200c\u200d\\]*)
  | (?P<number>\d\w*(?:\.(?!\.)\w*)?(?:(?<=[eE])[+-]\d+)?|\.\d\w*(?:(?<=[eE])[+-]\d+)?)
  | (?P<string>"(?:[^"\\\n\r]|\\(?:\r\n|.))*"|'(?:[^'\\\n\r]|\\(?:\r\n|.))*')
  | (?P<open>[(\[{])
  | (?P<close>[)\]}])
  | (?P<tick>`)
  | (?P<slash>/)
  | (?P<other>=>|\+\+|--|\.\.\.|\?\.|[;,<>+\-*%&|^!~?:=.])
    """,
    re.DOTALL | re.VERBOSE,
)
_REGEX = re.compile(r"/(?![*/])(?:[^/\\\[\n\r]|\\[^\n\r]|\[(?:[^\]\\\n\r]|\\[^\n\r])*\])+/[\w$]*")
_TEMPLATE = re.compile(r"(?:[^`\\$]|\\.|\$(?!\{))*(?:`|\$\{)", re.DOTALL)
_BEFORE_EXPRESSION = frozenset(
    [
        *("return", "typeof", "instanceof", "in", "of", "new", "delete", "void", "throw", "case", "do", "else"),
        *("yield", "await", "default", "extends"),
    ]
)
_BEFORE_CONDITION = frozenset(("if", "while", "for", "with"))
_BEFORE_BODY = frozenset(("=>", ";", "{", "}", ")", "", "else", "do"))
_CLOSES = {"(": ")", "[": "]", "{": "}", "${": "}"}
_RECENT = 6


class NotJavaScript(ValueError):
    """The text is none that this tokenizer can read; `str()` says where it lost its way."""


class Bracket(t.NamedTuple):
    """One bracket of interest.

    `end` is the offset behind the one that closes it. `before` are the tokens before it, nearest last. `around` is the
    bracket that it stands in ("" for none), and `called` whether that one is the parenthesis of a call.
    """

    end: int
    before: tuple[str, ...]
    around: str
    called: bool


class _Open(t.NamedTuple):
    sign: str
    offset: int
    before: tuple[str, ...]
    is_value: bool
    """What it closes is a value, so that a slash behind it divides."""
    called: bool


def brackets(text: str, wanted: t.Collection[int]) -> dict[int, Bracket]:
    """What is known of those of the `wanted` offsets at which a bracket opens in code; raises NotJavaScript."""
    return _Scanner(text, frozenset(wanted)).run()


class _Scanner:
    def __init__(self, text: str, wanted: frozenset[int]) -> None:
        self._text = text
        self._wanted = wanted
        self._stack: list[_Open] = []
        self._recent: deque[str] = deque([""] * _RECENT, _RECENT)
        self._after_value = False
        self._found: dict[int, Bracket] = {}

    def run(self) -> dict[int, Bracket]:
        text, place = self._text, 0
        if text.startswith("#!"):
            place = text.find("\n") + 1 or len(text)
        skip, token = _SKIP.match, _TOKEN.match
        while True:
            space = skip(text, place)
            if space:
                place = space.end()
            if place >= len(text):
                break
            found = token(text, place)
            if not found:
                raise self._lost(place)
            place = self._take(found, place)
        if self._stack:
            raise NotJavaScript(
                f"the {self._stack[-1].sign} in line {self._line(self._stack[-1].offset)} is not closed"
            )
        return self._found

    def _take(self, found: re.Match[str], place: int) -> int:
        """Take in one token; the offset behind it."""
        kind, word = found.lastgroup, found.group()
        if kind == "open":
            self._open(word, place)
        elif kind == "close":
            return self._close(word, place)
        elif kind == "tick":
            return self._template(place + 1)
        elif kind == "slash" and not self._after_value:
            return self._regex(place)
        elif kind == "word":
            # A keyword behind a dot is the name of a property.
            is_name = word not in _BEFORE_EXPRESSION or self._recent[-1] in (".", "?.")
            self._note(word, after_value=is_name)
        else:
            self._note(word, after_value=kind in ("string", "number") or word in ("++", "--"))
        return found.end()

    def _note(self, word: str, *, after_value: bool) -> None:
        self._recent.append(word)
        self._after_value = after_value

    def _open(self, sign: str, place: int) -> None:
        before, behind_value = self._recent[-1], self._after_value
        if sign == "(":
            is_value = before not in _BEFORE_CONDITION or self._recent[-2] in (".", "?.")
            called = behind_value and is_value
        else:
            # A brace where a value is expected is an object; one behind a parenthesis, a name or => is a body.
            is_value = sign == "[" or (not behind_value and before not in _BEFORE_BODY)
            called = False
        self._stack.append(_Open(sign, place, tuple(self._recent), is_value, called))
        self._note(sign, after_value=False)

    def _close(self, sign: str, place: int) -> int:
        if not self._stack or _CLOSES[self._stack[-1].sign] != sign:
            raise self._lost(place)
        opened = self._stack.pop()
        if opened.sign == "${":
            return self._template(place + 1)
        if opened.offset in self._wanted:
            around = self._stack[-1] if self._stack else None
            self._found[opened.offset] = Bracket(
                place + 1, opened.before, around.sign if around else "", around.called if around else False
            )
        self._note(sign, after_value=opened.is_value)
        return place + 1

    def _template(self, place: int) -> int:
        """Text of a template up to its end or to the next thing that is put in."""
        found = _TEMPLATE.match(self._text, place)
        if not found:
            raise self._lost(place - 1)
        if found.group().endswith("${"):
            self._stack.append(_Open("${", place, tuple(self._recent), True, False))
            self._note("${", after_value=False)
        else:
            self._note("`", after_value=True)
        return found.end()

    def _regex(self, place: int) -> int:
        found = _REGEX.match(self._text, place)
        if not found:
            raise self._lost(place)
        self._note("/", after_value=True)
        return found.end()

    def _line(self, place: int) -> int:
        return self._text.count("\n", 0, place) + 1

    def _lost(self, place: int) -> NotJavaScript:
        return NotJavaScript(
            f"line {self._line(place)} cannot be understood from {self._text[place : place + 20]!r} on"
        )
