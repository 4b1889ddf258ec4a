# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The XML edits on made-up documents: any domain, any text, any bytes. The same ones in every run."""

from __future__ import annotations

import typing as t

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from ansible_collections.kvmops.console.plugins.module_utils import _domain_xml as dx
from ansible_collections.kvmops.console.plugins.module_utils._domain_xml import Memory, Remembered, Setting
from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError

bounded = settings(
    derandomize=True, database=None, deadline=None, max_examples=200, suppress_health_check=[HealthCheck.too_slow]
)

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), max_size=20)
SPACE = st.sampled_from(["", "\n", "\n  ", "\t"])
SETTING: st.SearchStrategy[Setting] = st.sampled_from(["yes", "no", None])
REMEMBERED = st.builds(Remembered, SETTING, SETTING, SETTING)
MEMORY: st.SearchStrategy[Memory] = st.dictionaries(st.integers(0, 20), REMEMBERED, max_size=4)
TAG = st.sampled_from(["name", "uuid", "title", "os", "metadata", "devices", "graphics", "domain", "{urn:m}x"])
ATTRIBUTES = st.dictionaries(
    st.sampled_from(["type", "port", "passwd", "{urn:m}powerControl", "listen", "id"]), TEXT, max_size=3
)


@st.composite
def trees(draw: st.DrawFn, depth: int = 3) -> t.Any:
    """An element with children, comments, and text anywhere."""
    element = etree.Element(draw(TAG), draw(ATTRIBUTES))
    element.text = draw(st.one_of(TEXT, SPACE))
    for _time in range(draw(st.integers(0, 3)) if depth else 0):
        child = etree.Comment("note") if draw(st.integers(0, 5)) == 0 else draw(trees(depth=depth - 1))
        child.tail = draw(st.one_of(TEXT, SPACE))
        element.append(child)
    return element


@st.composite
def domains(draw: st.DrawFn) -> str:
    """A domain with VNC elements among anything else."""
    root = etree.Element("domain")
    for _time in range(draw(st.integers(0, 3))):
        root.append(draw(trees(depth=2)))
    devices = etree.SubElement(root, "devices")
    for _time in range(draw(st.integers(0, 4))):
        graphics = etree.SubElement(devices, "graphics", draw(ATTRIBUTES))
        graphics.set("type", draw(st.sampled_from(["vnc", "spice"])))
        setting = draw(SETTING)
        if setting:
            graphics.set("powerControl", setting)
        graphics.tail = draw(SPACE)
    return etree.tostring(root, encoding="unicode")


def canonical(text: str) -> str:
    return etree.tostring(etree.fromstring(text.encode()), method="c14n").decode()


def stripped(text: str) -> str:
    """C14N without powerControl of VNC and without our own element; an empty `<metadata>` counts as none."""
    root = etree.fromstring(text.encode())
    for element in root.xpath("/domain/devices/graphics[@type='vnc']"):
        element.attrib.pop("powerControl", None)
    for element in root.iter():
        element.text, element.tail = (element.text or "").strip() or None, (element.tail or "").strip() or None
    for metadata in root.findall("metadata"):
        for container in metadata.findall(f"{{{dx.NAMESPACE}}}console"):
            container.clear(keep_tail=True)
        etree.strip_tags(metadata, f"{{{dx.NAMESPACE}}}console")
        if len(metadata) == 0 and not metadata.text and not metadata.attrib:
            root.remove(metadata)
    return etree.tostring(root, method="c14n").decode()


@bounded
@given(domains(), st.data())
def test_an_edit_changes_what_was_asked_for_and_can_be_taken_back(text: str, data: st.DataObject) -> None:
    root = dx.parse(text)
    before = dx.settings(root)
    wanted = tuple(data.draw(SETTING) for _each in before)
    dx.apply_settings(root, wanted)
    again = dx.parse(dx.serialize(root))
    assert dx.settings(again) == wanted
    assert stripped(dx.serialize(again)) == stripped(text)
    changed = [path for path in dx.differences(dx.parse(text), dx.serialize(again)) if path]
    assert len(changed) == sum(one != other for one, other in zip(before, wanted))
    assert all(path.endswith("/@powerControl") for path in changed)
    dx.apply_settings(again, before)
    assert canonical(dx.serialize(again)) == canonical(text)


@bounded
@given(domains(), MEMORY, MEMORY)
def test_memory_is_kept_and_forgotten(text: str, first: Memory, second: Memory) -> None:
    root = dx.parse(text)
    for memory in (first, second, {}):
        dx.write_memory(root, memory)
        again = dx.parse(dx.serialize(root))
        assert dx.read_memory(again) == memory
        assert stripped(dx.serialize(again)) == stripped(text)


@bounded
@given(trees(), trees())
def test_the_comparison_is_no_guess(one: t.Any, other: t.Any) -> None:
    """Equal to itself; the same both ways; and never blind to what C14N sees."""
    first, second = (etree.tostring(tree, encoding="unicode", with_tail=False) for tree in (one, other))
    assert dx.differences(dx.parse(first), first) == []
    assert dx.same(first, second) is dx.same(second, first)
    if squeezed(first) != squeezed(second):
        assert not dx.same(first, second)


def squeezed(text: str) -> str:
    """C14N without comments and without white space around text."""
    root = etree.fromstring(text.encode(), etree.XMLParser(remove_comments=True))
    for element in root.iter():
        element.text, element.tail = (element.text or "").strip() or None, (element.tail or "").strip() or None
    return etree.tostring(root, method="c14n").decode()


@bounded
@given(st.one_of(st.text(), st.binary().map(lambda raw: raw.decode("utf-8", "surrogateescape"))))
def test_anything_is_a_document_or_one_sentence(text: str) -> None:
    try:
        root = dx.parse(text)
    except InputError as e:
        said = str(e).splitlines()
    else:
        said = ["it is one"] if dx.same(dx.serialize(root), text) else []
    assert len(said) == 1


@bounded
@given(domains(), st.integers(0), st.text(max_size=3))
def test_a_damaged_document_is_a_document_or_one_sentence(text: str, position: int, junk: str) -> None:
    position %= len(text)
    damaged = text[:position] + junk + text[position + 1 :]
    try:
        root = dx.parse(damaged)
    except InputError:
        return
    dx.read_memory(root)
    dx.masked_lines(root)
    dx.pointer_devices(root)
    for index, element in enumerate(dx.graphics_elements(root)):
        assert dx.describe_graphics(element, index)["index"] == index


@bounded
@given(st.lists(TEXT.filter(lambda text: len(text) > 3 and "*" not in text), max_size=4), TEXT)
def test_no_password_is_left_in_a_message(passwords: list[str], around: str) -> None:
    root = etree.fromstring("<domain><devices/></domain>")
    for password in passwords:
        etree.SubElement(root[0], "graphics", {"type": "vnc", "passwd": password})
    message = around + around.join([*passwords, dx.serialize(root)]) + around
    said = dx.scrub(message, root)
    assert all(password not in said for password in passwords)
    assert dx.masked_lines(root) == ['<graphics type="vnc" passwd="********">'] * len(passwords)
