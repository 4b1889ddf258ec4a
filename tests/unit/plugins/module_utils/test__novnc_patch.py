# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Recognising noVNC, putting the patch in and taking it out; and what the patched code does, where Node.js is."""

from __future__ import annotations

import json
import shutil
import subprocess
import typing as t

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _novnc_patch, _novnc_script
from ansible_collections.kvmops.console.plugins.module_utils._novnc_patch import AlreadyHandled, PatchRefused
from ansible_collections.kvmops.console.tests.unit.plugins.module_utils import novnc_shapes as shapes

SHA256 = "ab" * 32


@pytest.mark.parametrize("name", list(shapes.EVERY))
@pytest.mark.parametrize("mode", _novnc_script.MODES)
def test_there_and_back(name: str, mode: str) -> None:
    text = shapes.EVERY[name]
    assert _novnc_patch.may_have_rfb(text.encode())
    assert _novnc_patch.find_patch(text) is None
    assert _novnc_patch.find_place(text).kind == shapes.KINDS[name]
    patched = _novnc_patch.add(text, mode, SHA256)
    patch = _novnc_patch.find_patch(patched)
    assert patch == (_novnc_script.VERSION, mode, SHA256, True, False)
    assert _novnc_patch.kind_of(patched) == shapes.KINDS[name]
    assert _novnc_patch.remove(patched) == text


@pytest.mark.parametrize(
    "text", ["\r\n".join(shapes.MODULE.splitlines()), "\ufeff" + shapes.MODULE], ids=["carriage returns", "mark"]
)
def test_bytes_stay(text: str) -> None:
    data = text.encode() + b"// caf\xe9\n"
    patched = _novnc_patch.add(_novnc_patch.decode(data), "tolerant", SHA256)
    assert _novnc_patch.encode(_novnc_patch.remove(patched)) == data


REFUSED = {
    "another way to read rectangles": (shapes.MODULE.replace("_handleRect", "_readRect"), "does not read rectangles"),
    "no class": (shapes.MODULE.replace("pointerEvent(", "mouseEvent("), "no class in it looks like"),
    "two classes": (shapes.MODULE + shapes.CLASS, "more than one class"),
    "only in a comment": (f"/*{shapes.MODULE.replace('*/', '')}*/", "no class in it looks like"),
    "only in a string": ("eval(" + json.dumps(shapes.MODULE) + ")", "no class in it looks like"),
    "torn": (shapes.MODULE[: shapes.MODULE.index("// Class Methods")] + "RFB.messages = {", "cannot be read as JavaS"),
    "an argument": (
        shapes.MODULE.replace("\nRFB.messages", "\nf(RFB.messages").replace("\n};\n", "\n});\n"),
        "leaves no room",
    ),
    "a list": (
        shapes.MODULE.replace("\nRFB.messages", "\n[RFB.messages").replace("\n};\n", "\n}];\n"),
        "leaves no room",
    ),
    "a longer list": (
        shapes.MODULE.replace("\nRFB.messages", "\n[0, RFB.messages").replace("\n};\n", "\n}];\n"),
        "leaves no room",
    ),
    "a value": (shapes.MODULE.replace("\nRFB.messages =", "\nconst m = RFB.messages ="), "leaves no room"),
    "ignored by hand": (shapes.MODULE.replace("case 7:", "case -257:\n return true;\n case 7:"), "breaks the mouse"),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_refused(case: str) -> None:
    text, what = REFUSED[case]
    with pytest.raises(PatchRefused, match=what) as caught:
        _novnc_patch.add(text, "tolerant", SHA256)
    assert not isinstance(caught.value, AlreadyHandled)
    assert "kvmops.console.vnc_proxy" in str(caught.value)
    assert str(caught.value).endswith(".")


def test_one_that_knows_by_itself() -> None:
    with pytest.raises(AlreadyHandled):
        _novnc_patch.find_place(shapes.MODULE.replace("case 7:", "case encodings.pseudoEncodingPointerTypeChange:"))


def test_place_is_where_it_fits() -> None:
    """Among other operands, in a condition, in a body of an arrow."""
    assert _novnc_patch.add(shapes.MODULE.replace("\nRFB.messages", "\na = 1, RFB.messages"), "full", SHA256)
    assert _novnc_patch.add(shapes.MODULE.replace("\nRFB.messages", "\nif (1) RFB.messages"), "full", SHA256)


def test_what_somebody_did_to_a_patched_file() -> None:
    patched = _novnc_patch.add(shapes.MODULE, "tolerant", SHA256)
    older = patched.replace("novnc_patch 1 tolerant", "novnc_patch 0 tolerant")
    assert t.cast(_novnc_patch.Patch, _novnc_patch.find_patch(older))[:4] == (0, "tolerant", SHA256, False)
    assert _novnc_patch.remove(older) == shapes.MODULE
    torn = patched.replace("0x7FFF", "0")
    assert t.cast(_novnc_patch.Patch, _novnc_patch.find_patch(torn)).current is False
    assert _novnc_patch.remove(torn) == shapes.MODULE
    around = patched.replace("case 7:", "case 8:")
    assert t.cast(_novnc_patch.Patch, _novnc_patch.find_patch(around)).current is True
    assert _novnc_patch.remove(around) == shapes.MODULE.replace("case 7:", "case 8:")
    with pytest.raises(PatchRefused, match="2 patches"):
        _novnc_patch.remove(patched + patched)
    endless = patched.replace("/* END", "/* end")
    assert t.cast(_novnc_patch.Patch, _novnc_patch.find_patch(endless)).built_in
    with pytest.raises(PatchRefused, match="0 patches"):
        _novnc_patch.remove(endless)


def test_built_in() -> None:
    """A minifier takes comments out and leaves strings."""
    patched = _novnc_patch.add(shapes.BUNDLE, "full", SHA256)
    built = "".join(part.partition("*/")[2] if place else part for place, part in enumerate(patched.split("/*")))
    assert _novnc_patch.find_patch(built) == (_novnc_script.VERSION, "full", None, True, True)


# --- What it does -----------------------------------------------------------------------------------------------------


def run(script: str) -> t.Any:
    """What a script shows last, in Node.js."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no Node.js here: apt-get install nodejs")
    done = subprocess.run([node, "-e", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


DRIVE = """
const rfb = new RFB();
const take = (...rects) => { rfb.rects = rects; return rfb._framebufferUpdate(); };
const send = RFB.messages.pointerEvent.length === 3 && !rfb._sock.push
  ? (x, y) => rfb._handleMouseMove(x, y) : (x, y) => RFB.messages.pointerEvent(rfb._sock, x, y, 0);
const sent = () => (rfb._sock.sent || rfb._sock).splice(0).map(event => event.slice(0, 2));
"""
PLAIN = {
    "class": shapes.CLASS,
    "table": shapes.TABLE.replace("export default ", ""),
    "script": shapes.SCRIPT,
}


def driven(name: str, mode: str | None, rest: str) -> t.Any:
    text = PLAIN[name] if mode is None else _novnc_patch.add(PLAIN[name], mode, SHA256)
    browser = "var window = {addEventListener() {}}, document = window, CustomEvent = function () {};"
    return run(f"{browser}\n{text}\n{DRIVE}\n{rest}")


@pytest.mark.parametrize("name", list(PLAIN))
def test_shapes_fail_without(name: str) -> None:
    told = driven(name, None, "try { take([1, -257]) } catch (e) { console.log(JSON.stringify(e.message)) }")
    assert "nsupported encoding" in told
    assert "-257" in told


@pytest.mark.parametrize("name", list(PLAIN))
def test_absolute_positions_stay(name: str) -> None:
    told = driven(
        name,
        "tolerant",
        "send(1, 2); const ok = take([1, -257], [0, 7]); send(3, 4); console.log(JSON.stringify([ok, sent()]))",
    )
    assert told == [True, [[1, 2], [3, 4]]]


@pytest.mark.parametrize("name", list(PLAIN))
def test_relative_positions_are_movements(name: str) -> None:
    script = """
      const ok = take([0, -257], [0, 7]);
      [[50, 50], [60, 55], [60, 55], [0, 0], [70000, 0], [0, 70000]].forEach(place => send(...place));
      const relative = sent();
      take([1, -257]); send(5, 6); const absolute = sent();
      take([0, -257]); send(9, 9); send(8, 10); const again = sent();
      console.log(JSON.stringify([ok, relative, absolute, again]));
    """
    told = driven(name, "tolerant", script)
    none = 0x7FFF
    assert told == [
        True,
        [[none, none], [none + 10, none + 5], [none, none], [none - 60, none - 55], [2 * none, none], [0, 2 * none]],
        [[5, 6]],
        [[none, none], [none - 1, none + 1]],
    ]


def test_next_connection_of_the_same_object_starts_anew() -> None:
    told = driven(
        "script", "tolerant", "take([0, -257]); rfb.connect(); send(5, 6); console.log(JSON.stringify(sent()))"
    )
    assert told == [[5, 6]]


def test_two_connections_do_not_mix() -> None:
    told = driven(
        "class",
        "tolerant",
        """take([0, -257]); const other = new RFB(); send(1, 1);
        RFB.messages.pointerEvent(other._sock, 7, 8, 1); console.log(JSON.stringify([sent(), other._sock]))""",
    )
    assert told == [[[0x7FFF, 0x7FFF]], [[7, 8, 1]]]


def test_nothing_is_sent_before_it_is_known_what_the_server_takes() -> None:
    """Later lists of encodings change nothing: no update need come after them."""
    told = driven(
        "class",
        "tolerant",
        """send(1, 1); sent(); rfb._sendEncodings(); sent(); send(2, 2); const before = sent();
        take([0, 7]); send(3, 3);
        const after = sent(); rfb._sendEncodings(); sent(); send(4, 4); take([0, -257]); send(5, 5); send(6, 7);
        rfb._sendEncodings(); take([0, -257]); send(6, 8);
        console.log(JSON.stringify([before, after, sent().filter(event => event[0] !== 'encodings')]))""",
    )
    none = 0x7FFF
    assert told == [[], [[3, 3]], [[4, 4], [none, none], [none + 1, none + 2], [none, none + 1]]]


def test_only_full_asks() -> None:
    ask = "rfb._sendEncodings(); RFB.messages.clientEncodings(rfb._sock, [1]); console.log(JSON.stringify(rfb._sock))"
    assert driven("class", "tolerant", ask) == [["encodings", 7, -309], ["encodings", 1]]
    assert driven("class", "full", ask) == [["encodings", 7, -309, -257], ["encodings", 1]]
