# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Brackets of JavaScript, where a slash, a quote or a brace is not what it looks like."""

from __future__ import annotations

import pytest

from ansible_collections.kvmops.console.plugins.module_utils._novnc_js import NotJavaScript, brackets

# Each has one brace that counts, marked by what follows it; all other brackets in it are none, or match.
READABLE = {
    "strings": "a = '}\\'{' + \"{\\\"\"; b = {X}",
    "comments": "// {\n/* { ' */ b = {X}",
    "template": "a = `}{ ${ f({a: `}${1}`}) } {`; b = {X}",
    "regular expression": "a = /[/}]{2}'\\/\"/g; b = {X}",
    "regular expression behind a condition": "if (a) /{'/.test(b); c = {X}",
    "regular expression behind a block": "if (a) { b() } /{'/.test(c); d = {X}",
    "regular expression behind return": 'function f() { return /{"/ } b = {X}',
    "division": "a = b / c; d = '/{'; e = {X}",
    "division behind a parenthesis": "a = (b) / c; d = '/{'; e = {X}",
    "division behind a bracket": "a = b[0] / 2 + '/{'; e = {X}",
    "division behind a number": "a = 1. / 2 + '/{' + 0x1f / .5e-3; e = {X}",
    "division behind ++": "a = b++ / 2 + '/{'; e = {X}",
    "division behind a property that is called like a keyword": "a = b.return / 2 + '/{'; e = {X}",
    "division behind an object": "a = {} / 2 + '/{'; e = {X}",
    "method called like a condition": "a = b.if(c) / 2 + '/{'; e = {X}",
    "line with a hash at the start": "#! {'\na = {X}",
    "byte order mark": "\ufeffa = {X}",
    "private names and other alphabets": "class Ä { #x = 1; f() { return #x in this } } b = {X}",
    "bytes that are no text": "a = '\udcff{'; b = {X}",
}


@pytest.mark.parametrize("case", list(READABLE))
def test_what_counts(case: str) -> None:
    text = READABLE[case].replace("X", "/*x*/")
    every = [place for place, sign in enumerate(text) if sign == "{"]
    wanted = text.index("{/*x*/}")
    found = brackets(text, every)
    assert found[wanted].end == wanted + len("{/*x*/}")
    inside = {place for place in every if text[max(0, place - 1) : place] in ("'", '"')}
    assert not inside & set(found)
    assert brackets(text, [wanted]) == {wanted: found[wanted]}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("a = {\n b = (}", "line 2 cannot be understood from '}'"),
        ("a = {", "the { in line 1 is not closed"),
        ("\n\na = 'b", 'line 3 cannot be understood from "\'b"'),
        ("a = `${b", "the ${ in line 1 is not closed"),
        ("a = `${b}", "line 1 cannot be understood from '}'"),
        ("a = /b", "line 1 cannot be understood from '/b'"),
        ("/* a", "line 1 cannot be understood from '/* a'"),
        ("a ‽ b", "line 1 cannot be understood from '‽ b'"),
    ],
    ids=["wrong", "open", "string", "template", "template's end", "regular expression", "comment", "sign"],
)
def test_what_is_none(text: str, what: str) -> None:
    with pytest.raises(NotJavaScript) as caught:
        brackets(text, ())
    assert str(caught.value).startswith(what)


@pytest.mark.parametrize(
    ("text", "around", "called"),
    [
        ("a.m = {}", "", False),
        ("{ a.m = {} }", "{", False),
        ("(a.m = {}, 1)", "(", False),
        ("if (a.m = {}) b", "(", False),
        ("f(a.m = {})", "(", True),
        ("f()(a.m = {})", "(", True),
        ("[a.m = {}]", "[", False),
        ("x => (a.m = {}, a)", "(", False),
    ],
    ids=["top", "block", "group", "condition", "argument", "argument of a result", "list", "arrow"],
)
def test_what_stands_around(text: str, around: str, called: bool) -> None:
    place = text.rindex("{")
    bracket = brackets(text, [place])[place]
    assert (bracket.around, bracket.called) == (around, called)
    assert bracket.before[-4:] == ("a", ".", "m", "=")
