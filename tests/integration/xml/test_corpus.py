# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Our edits over the XML files of libvirt's own test-suite: nothing differs but what was asked for.

C14N is the judge, and our own comparison is judged by it, too.
"""

from __future__ import annotations

import itertools
import random
import typing as t

import pytest
from lxml import etree

from ansible_collections.kvmops.console.plugins.module_utils import _domain_xml as dx
from ansible_collections.kvmops.console.plugins.module_utils._domain_xml import Memory, Remembered, Setting
from ansible_collections.kvmops.console.tests.integration.xml import corpus
from ansible_collections.kvmops.console.tests.integration.xml.corpus import Document, Root

SETTINGS: tuple[Setting, ...] = ("yes", "no", None)
MEMORY: Memory = {0: Remembered("yes", None, "no"), 3: Remembered(None, "no", "yes")}
MANY = 1000
"""libvirt's test-suite holds more than this; fewer mean that we do not find them."""


@pytest.fixture(scope="module")
def documents() -> list[Document]:
    found = corpus.documents()
    assert len(found) > MANY
    return found


def edit(text: str, wanted: t.Sequence[Setting], memory: Memory | None) -> str:
    root = dx.parse(text)
    dx.apply_settings(root, wanted)
    if memory is not None:
        dx.write_memory(root, memory)
    return dx.serialize(root)


def stripped(text: str, had_metadata: bool) -> bytes:
    """The canonical form without what we may change."""
    root = etree.fromstring(text.encode(), etree.XMLParser(remove_comments=True))
    for element in corpus.vnc(root):
        element.attrib.pop("powerControl", None)
    metadata = root.find("metadata")
    if metadata is not None:
        for container in metadata.findall(f"{{{dx.NAMESPACE}}}console"):
            metadata.remove(container)
    if metadata is not None and not had_metadata:
        assert len(metadata) == 0
        root.remove(metadata)
    return corpus.canonical_tree(root)


def test_nothing_differs_but_what_was_asked_for(documents: list[Document], capsys: pytest.CaptureFixture[str]) -> None:
    elements = edits = 0
    for document in documents:
        root = etree.fromstring(document.text.encode())
        before = tuple(element.get("powerControl") for element in corpus.vnc(root))
        had_metadata = root.find("metadata") is not None
        rest, meaning = stripped(document.text, True), corpus.canonical(document.text)
        elements += len(before)
        assert dx.settings(dx.parse(document.text)) == before, document.name
        # Without a VNC element, every setting is the same edit.
        settings = SETTINGS if before else SETTINGS[:1]
        for setting, memory in itertools.product(settings, (None, MEMORY) if root.tag == "domain" else (None,)):
            wanted = (setting,) * len(before)
            after = edit(document.text, wanted, memory)
            again = etree.fromstring(after.encode())
            assert tuple(element.get("powerControl") for element in corpus.vnc(again)) == wanted, document.name
            assert stripped(after, had_metadata) == rest, document.name
            back = edit(after, before, None if memory is None else {})
            assert corpus.canonical(back) == meaning, document.name
            edits += 1
    with capsys.disabled():
        print(f"\n{len(documents)} files with {elements} VNC elements: {edits} edits, 0 differences but the attribute")


def test_only_lines_of_ours_change(documents: list[Document]) -> None:
    """To the byte; measured against the text that lxml writes of the untouched document.

    That text may differ from the file in the quotes around attributes and in how an empty element is written.
    """
    for document in documents:
        base = dx.serialize(dx.parse(document.text))
        assert corpus.canonical(base) == corpus.canonical(document.text), document.name
        before = dx.settings(dx.parse(document.text))
        for setting in SETTINGS if before else SETTINGS[:1]:
            after = edit(document.text, (setting,) * len(before), None)
            lines = [(old, new) for old, new in zip(base.split("\n"), after.split("\n"), strict=True) if old != new]
            assert len(lines) == sum(setting != was for was in before), document.name
            for old, new in lines:
                assert "<graphics " in old, document.name
                assert [word for word in words(new) if word not in words(old)] == (
                    [] if setting is None else [f'powerControl="{setting}"']
                ), document.name
            back = edit(after, before, None)
            if setting is not None and None not in before:
                assert back == base, document.name
            # An attribute that was away comes back as the last one.
            assert sorted(words(back)) == sorted(words(base)), document.name


def words(text: str) -> list[str]:
    return text.replace("/>", " />").replace(">", " >").split()


def test_memory_is_lines_that_come_and_go(documents: list[Document]) -> None:
    for document in documents:
        root = etree.fromstring(document.text.encode())
        if root.tag != "domain":
            continue
        base = dx.serialize(dx.parse(document.text))
        before = dx.settings(dx.parse(document.text))
        after = edit(document.text, before, MEMORY)
        lines, kept = base.split("\n"), after.split("\n")
        added = [line for line in kept if "kvmops:" in line]
        assert len(added) == len(MEMORY) + 2, document.name
        position = kept.index(added[0])
        block = int(root.find("metadata") is None)
        rest = kept[: position - block] + kept[position + len(added) + block :]
        assert rest == lines, document.name
        assert edit(after, before, {}) == base, document.name


# Our own comparison, judged by C14N


def elements(root: Root) -> list[Root]:
    return [element for element in root.iter() if isinstance(element.tag, str)]


def change_attribute(chance: random.Random, root: Root) -> None:
    element = chance.choice([one for one in elements(root) if one.attrib])
    name = chance.choice(sorted(map(str, element.attrib)))
    element.set(name, f"{element.get(name)}x")


def drop_attribute(chance: random.Random, root: Root) -> None:
    element = chance.choice([one for one in elements(root) if one.attrib])
    del element.attrib[chance.choice(sorted(map(str, element.attrib)))]


def add_attribute(chance: random.Random, root: Root) -> None:
    chance.choice(elements(root)).set("unheardOf", "")


def change_text(chance: random.Random, root: Root) -> None:
    element = chance.choice(elements(root))
    element.text = f"{element.text or ''}x"


def change_tail(chance: random.Random, root: Root) -> None:
    element = chance.choice(elements(root)[1:])
    element.tail = f"x{element.tail or ''}"


def drop_element(chance: random.Random, root: Root) -> None:
    element = chance.choice(elements(root)[1:])
    element.getparent().remove(element)


def double_element(chance: random.Random, root: Root) -> None:
    element = chance.choice(elements(root)[1:])
    element.addnext(etree.fromstring(etree.tostring(element, with_tail=False)))


def rename_element(chance: random.Random, root: Root) -> None:
    chance.choice(elements(root)).tag = "renamed"


def change_namespace(chance: random.Random, root: Root) -> None:
    element = chance.choice(elements(root))
    element.tag = f"{{urn:other}}{etree.QName(element).localname}"


def move_element(chance: random.Random, root: Root) -> None:
    element = chance.choice(elements(root)[1:])
    element.getparent().insert(0, element)


def comment(chance: random.Random, root: Root) -> None:
    element = chance.choice(elements(root))
    element.insert(chance.randint(0, len(element)), etree.Comment(" x "))


def comment_in_text(chance: random.Random, root: Root) -> None:
    said = [one for one in elements(root) if (one.text or "").strip()]
    element = chance.choice(said)
    note = etree.Comment("x")
    cut = chance.randint(0, len(element.text))
    note.tail, element.text = element.text[cut:], element.text[:cut]
    element.insert(0, note)


def space(chance: random.Random, root: Root) -> None:
    element = chance.choice(elements(root)[1:])
    element.tail = f"{element.tail or ''}\n \t "


def shuffle_attributes(chance: random.Random, root: Root) -> None:
    for element in elements(root):
        pairs = list(element.attrib.items())
        chance.shuffle(pairs)
        element.attrib.clear()
        for name, value in pairs:
            element.set(name, value)


TELLING = (
    change_attribute, drop_attribute, add_attribute, change_text, change_tail, drop_element, double_element,
    rename_element, change_namespace,
)  # fmt: skip
NOISE = (comment, comment_in_text, space, shuffle_attributes)


@pytest.mark.parametrize("mutate", [*TELLING, move_element, *NOISE], ids=lambda mutate: str(mutate.__name__))
def test_our_comparison_agrees_with_c14n(
    documents: list[Document], mutate: t.Callable[[random.Random, Root], None]
) -> None:
    chance = random.Random(mutate.__name__)
    for document in documents[chance.randrange(3) :: 3]:
        root = etree.fromstring(document.text.encode())
        mutate(chance, root)
        mutated = etree.tostring(root, encoding="unicode")
        ours = dx.differences(dx.parse(document.text), mutated)
        assert bool(ours) == (corpus.canonical(document.text) != corpus.canonical(mutated)), (document.name, ours)
        if mutate is not move_element:
            assert bool(ours) is (mutate in TELLING), (document.name, ours)
