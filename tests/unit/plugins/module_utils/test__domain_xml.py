# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every function of _domain_xml, with the exact text before and after; and what it makes of hostile documents."""

from __future__ import annotations

import importlib.util
import sys
import typing as t
from pathlib import Path

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _domain_xml as dx
from ansible_collections.kvmops.console.plugins.module_utils._domain_xml import Memory, Remembered, Setting
from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError

DOMAIN = """<domain type="kvm">
  <name>web-1</name>
  <uuid>4dea22b3-1d52-d8f3-2516-782e98ab3fa0</uuid>
  <!-- mind the gap -->
  <os>
    <type arch="x86_64" machine="pc-q35-7.2">hvm</type>
  </os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <input type="tablet" bus="usb"/>
    <input type="mouse" bus="ps2"/>
    <input type="keyboard" bus="ps2"/>
    <graphics type="spice" autoport="yes" passwd="spicy"/>
    <graphics type="vnc" port="-1" autoport="yes" powerControl="yes" passwd="s3cret">
      <listen type="address" address="127.0.0.1"/>
    </graphics>
    <graphics type="vnc" port="5901"/>
  </devices>
</domain>"""

METADATA = """
  <metadata>
    <kvmops:console xmlns:kvmops="https://kvmops.github.io/console/1">
      <kvmops:powerControl graphics="0" was="yes" wanted="yes" ours="no"/>
    </kvmops:console>
  </metadata>"""

UUID_LINE = "<uuid>4dea22b3-1d52-d8f3-2516-782e98ab3fa0</uuid>"

MEMORY: Memory = {0: Remembered("yes", "yes", "no")}

SNAPSHOT = """<domainsnapshot>
  <name>before</name>
  <domain type="kvm">
    <devices>
      <graphics type="vnc" powerControl="yes"/>
    </devices>
  </domain>
  <inactiveDomain type="kvm">
    <devices>
      <graphics type="vnc"/>
    </devices>
  </inactiveDomain>
</domainsnapshot>"""


LOOKALIKE = "<m:x xmlns:m='urn:m'><devices><graphics type='vnc' powerControl='yes'/></devices></m:x>"


def edited(xml: str, *settings: Setting) -> str:
    root = dx.parse(xml)
    dx.apply_settings(root, settings)
    return dx.serialize(root)


def remembering(xml: str, memory: Memory) -> str:
    root = dx.parse(xml)
    dx.write_memory(root, memory)
    return dx.serialize(root)


# parse, serialize


def test_a_document_comes_back_as_it_was() -> None:
    assert dx.serialize(dx.parse(DOMAIN)) == DOMAIN


@pytest.mark.parametrize(
    "xml",
    [
        "",
        " ",
        "web-1",
        "<domain>",
        "<domain><name></domain>",
        "<domain a='1' a='2'/>",
        "<domain/><domain/>",
        "<domain>\0</domain>",
        "<domain>&undefined;</domain>",
        "<domain>\udcff</domain>",
        "<domain a='" + "x" * 11_000_000 + "'/>",
        "<a>" * 300 + "</a>" * 300,
    ],
    ids=lambda xml: repr(xml[:20]),
)
def test_what_is_no_document_is_one_sentence(xml: str) -> None:
    with pytest.raises(InputError, match=r"^This is not a domain's XML: [^\n]+$"):
        dx.parse(xml)


@pytest.mark.parametrize("text", ["名前", "😀", "a b", "a/b", "../etc", 'it\'s "quoted"', "<&>", "a\tb"])
def test_any_text_survives(text: str) -> None:
    root = dx.parse("<domain><name/><devices><graphics type='vnc'/></devices></domain>")
    root[0].text = text
    root[1][0].set("passwd", text)
    again = dx.parse(dx.serialize(root))
    assert (dx.child_value(again, "name"), dx.secrets(again)) == (text, [text])
    assert dx.differences(root, dx.serialize(again)) == []


def test_a_long_attribute_is_kept() -> None:
    value = "x" * 1_000_000
    assert dx.parse(f"<domain a='{value}'/>").get("a") == value


def bomb() -> str:
    entities = "".join(f"<!ENTITY l{n} '{f'&l{n - 1};' * 10}'>" for n in range(1, 12))
    return f"<!DOCTYPE domain [<!ENTITY l0 'lol'>{entities}]>"


@pytest.mark.parametrize("body", ["<domain><name>&l11;</name></domain>", "<domain a='&l11;'/>"])
def test_a_billion_laughs_are_refused(body: str) -> None:
    with pytest.raises(InputError):
        dx.parse(bomb() + body)


@pytest.mark.parametrize(
    "declaration",
    ["<!ENTITY x SYSTEM 'file://{}'>", "<!ENTITY % p SYSTEM 'file://{}'> %p; <!ENTITY x 'harmless'>"],
)
def test_nothing_is_loaded_from_outside(tmp_path: Path, declaration: str) -> None:
    secret = tmp_path / "secret"
    secret.write_text("<!ENTITY x 'LOADED'>", encoding="utf-8")
    document = f"<!DOCTYPE domain [{declaration.format(secret)}]><domain><name>a&x;b</name></domain>"
    assert "LOADED" not in dx.serialize(dx.parse(document))


def test_an_external_dtd_is_not_loaded(tmp_path: Path) -> None:
    dtd = tmp_path / "domain.dtd"
    dtd.write_text("<!ATTLIST domain type CDATA 'LOADED'>", encoding="utf-8")
    root = dx.parse(f"<!DOCTYPE domain SYSTEM 'file://{dtd}'><domain/>")
    assert root.get("type") is None


def test_without_lxml_the_traceback_is_kept_for_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lxml", None)
    spec = importlib.util.spec_from_file_location("without_lxml", dx.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert "ModuleNotFoundError" in module.LXML_TRACEBACK
    assert dx.LXML_TRACEBACK is None


# graphics_elements, vnc_elements, settings, apply_settings, has_effect


def test_graphics_in_document_order() -> None:
    root = dx.parse(DOMAIN)
    assert [element.get("type") for element in dx.graphics_elements(root)] == ["spice", "vnc", "vnc"]
    assert [element.get("port") for element in dx.vnc_elements(root)] == ["-1", "5901"]


@pytest.mark.parametrize(
    ("xml", "expected"),
    [
        (DOMAIN, ("yes", None)),
        (SNAPSHOT, ("yes", None)),
        ("<domain/>", ()),
        ("<domain><devices/></domain>", ()),
        ("<domain><devices><graphics type='spice' powerControl='yes'/></devices></domain>", ()),
        ("<domain><devices><graphics type='vnc' powerControl='no'/></devices></domain>", ("no",)),
        ("<domaincheckpoint><domain><devices><graphics type='vnc'/></devices></domain></domaincheckpoint>", (None,)),
        # What is another's: device lists below <metadata>, and graphics that are no device.
        (
            f"<domain><metadata>{LOOKALIKE}</metadata><devices><graphics type='vnc'/></devices></domain>",
            (None,),
        ),
        ("<domain><graphics type='vnc' powerControl='yes'/></domain>", ()),
    ],
)
def test_settings(xml: str, expected: tuple[Setting, ...]) -> None:
    assert dx.settings(dx.parse(xml)) == expected


@pytest.mark.parametrize(
    ("wanted", "first", "second"),
    [
        (("yes", None), ' powerControl="yes"', ""),
        (("no", None), ' powerControl="no"', ""),
        ((None, None), "", ""),
        ((None, "yes"), "", ' powerControl="yes"'),
        (("no", "no"), ' powerControl="no"', ' powerControl="no"'),
    ],
)
def test_only_the_attribute_changes(wanted: tuple[Setting, ...], first: str, second: str) -> None:
    expected = DOMAIN.replace(' powerControl="yes"', first).replace(' port="5901"', f' port="5901"{second}')
    assert edited(DOMAIN, *wanted) == expected


def test_both_domains_of_a_snapshot_are_edited() -> None:
    expected = SNAPSHOT.replace('powerControl="yes"', 'powerControl="no"').replace('"vnc"/', '"vnc" powerControl="no"/')
    assert edited(SNAPSHOT, "no", "no") == expected


@pytest.mark.parametrize("wanted", [(), ("no",), ("no", "no", "no")])
def test_settings_must_be_as_many_as_the_elements(wanted: tuple[Setting, ...]) -> None:
    with pytest.raises(InputError, match=f"^The definition has 2 VNC graphics elements, not {len(wanted)}; read it ag"):
        edited(DOMAIN, *wanted)


@pytest.mark.parametrize(("setting", "effect"), [("yes", True), ("no", False), (None, False)])
def test_has_effect(setting: Setting, effect: bool) -> None:
    assert dx.has_effect(setting) is effect


# read_memory, write_memory


def test_memory_is_written_where_libvirt_writes_metadata() -> None:
    expected = DOMAIN.replace(UUID_LINE, UUID_LINE + METADATA)
    assert remembering(DOMAIN, MEMORY) == expected
    assert dx.read_memory(dx.parse(expected)) == MEMORY


def test_forgetting_leaves_no_trace() -> None:
    assert remembering(remembering(DOMAIN, MEMORY), {}) == DOMAIN


def test_memory_that_is_the_same_touches_nothing() -> None:
    untidy = DOMAIN.replace(UUID_LINE, UUID_LINE + METADATA.replace("\n", ""))
    assert remembering(untidy, MEMORY) == untidy


def test_entries_are_replaced_and_sorted() -> None:
    memory: Memory = {10: Remembered("no", None, None), 2: Remembered(None, "no", "yes")}
    entry = '<kvmops:powerControl graphics="0" was="yes" wanted="yes" ours="no"/>'
    entries = (
        '<kvmops:powerControl graphics="2" was="absent" wanted="no" ours="yes"/>\n'
        '      <kvmops:powerControl graphics="10" was="no" wanted="absent" ours="absent"/>'
    )
    assert remembering(remembering(DOMAIN, MEMORY), memory) == DOMAIN.replace(
        UUID_LINE, UUID_LINE + METADATA.replace(entry, entries)
    )
    assert dx.read_memory(dx.parse(remembering(DOMAIN, memory))) == memory


OTHERS = [
    '<m:x xmlns:m="urn:m"/>',
    '<m:x xmlns:m="urn:m"><m:y>text <m:z/> tail</m:y></m:x>',
    "<!-- only a comment -->",
]


@pytest.mark.parametrize("others", OTHERS)
def test_what_others_keep_in_the_metadata_stays(others: str) -> None:
    before = DOMAIN.replace(UUID_LINE, f"{UUID_LINE}\n  <metadata>\n    {others}\n  </metadata>")
    ours = METADATA.split("<metadata>\n")[1].split("\n  </metadata>")[0]
    after = remembering(before, MEMORY)
    assert after == before.replace(others, f"{others}\n{ours}")
    assert remembering(after, {}) == before


@pytest.mark.parametrize(
    "xml",
    [
        "<domain/>",
        "<domain></domain>",
        "<domain><name>a</name></domain>",
        "<domain><devices/></domain>",
        "<domain><devices/><name>a</name><os/></domain>",
        "<domain>\n  <!-- c -->\n  <devices/>\n</domain>",
        "<domain><name>a</name><title>t</title><description>d</description><memory>1</memory></domain>",
        '<domain><metadata><m:x xmlns:m="urn:m"/></metadata></domain>',
        '<domain><metadata>words<m:x xmlns:m="urn:m"/>more</metadata></domain>',
        "<domain><metadata>words</metadata></domain>",
        '<domain><metadata id="1"/></domain>',
    ],
)
def test_memory_can_be_kept_anywhere_and_taken_back(xml: str) -> None:
    root = dx.parse(xml)
    kept = remembering(xml, MEMORY)
    assert dx.read_memory(dx.parse(kept)) == MEMORY
    assert remembering(kept, {}) == dx.serialize(root)
    for words in ("words", "more"):
        assert kept.count(words) == xml.count(words)


def test_the_metadata_stands_behind_the_naming_elements() -> None:
    kept = dx.parse(remembering("<domain><name/><devices/><description/><os/></domain>", MEMORY))
    assert [child.tag for child in kept] == ["name", "devices", "description", "metadata", "os"]


@pytest.mark.parametrize(
    "entry",
    [
        "<k:powerControl/>",
        "<k:powerControl graphics='' ours='no'/>",
        "<k:powerControl graphics='-1' ours='no'/>",
        "<k:powerControl graphics='one' ours='no'/>",
        "<k:powerControl graphics='²' ours='no'/>",
        f"<k:powerControl graphics='{'9' * 5000}' ours='no'/>",
        "<k:other graphics='0' ours='no'/>",
        "<powerControl graphics='0' ours='no'/>",
    ],
    ids=lambda entry: entry[:40],
)
def test_an_entry_that_cannot_be_understood_is_none(entry: str) -> None:
    xml = f"<domain><metadata><k:console xmlns:k='{dx.NAMESPACE}'>{entry}</k:console></metadata></domain>"
    assert dx.read_memory(dx.parse(xml)) == {}


def test_a_word_that_cannot_be_understood_is_absent() -> None:
    xml = remembering(DOMAIN, MEMORY).replace('wanted="yes"', 'wanted="maybe"').replace('was="yes" ', "")
    assert dx.read_memory(dx.parse(xml)) == {0: Remembered(None, None, "no")}


def test_another_namespace_is_not_ours() -> None:
    assert dx.read_memory(dx.parse(remembering(DOMAIN, MEMORY).replace("/console/1", "/console/2"))) == {}


# The owner's order


def ordered(element: str) -> str:
    ours = f"<metadata><k:console xmlns:k='{dx.NAMESPACE}'>{element}</k:console></metadata>"
    return f"<domain><name>a</name>{ours}</domain>"


@pytest.mark.parametrize(
    ("element", "expected"),
    [
        ("", (None, [], [])),
        ("<k:order/>", (None, [], [])),
        ("<k:order priority='0'/>", (0, [], [])),
        ("<k:order priority='-1'/>", (None, [], [])),
        ("<k:order priority='99999999999'/>", (None, [], [])),
        (
            "<k:order priority='7'><k:after> d 1 </k:after><k:after>e</k:after><k:before>w</k:before></k:order>",
            (7, ["d 1", "e"], ["w"]),
        ),
        ("<order xmlns='urn:other' priority='10'/>", (None, [], [])),
    ],
)
def test_read_order(element: str, expected: tuple[object, ...]) -> None:
    assert dx.read_order(dx.parse(ordered(element))) == expected


def test_memory_leaves_the_order_alone() -> None:
    root = dx.parse(ordered("<k:order priority='10'/>"))
    dx.write_memory(root, {0: Remembered("yes", "yes", "no")})
    dx.write_memory(root, {})
    assert dx.read_order(root).priority == 10


# differences, same

LEAF = "<a><b x='1' y='2'>t</b><c/></a>"


@pytest.mark.parametrize(
    ("other", "found"),
    [
        (LEAF, []),
        ("<a>\n  <b y='2' x='1'>t</b>\n  <c></c>\n</a>", []),
        ("<a><!-- why --><b x='1' y='2'>t</b><?pi?><c/></a>", []),
        ("<a><b x='1' y='2'><!-- why -->t</b><c/></a>", []),
        ("<z><b x='1' y='2'>t</b><c/></z>", ["/a"]),
        ("<a><b x='1' y='3'>t</b><c/></a>", ["/a/b[1]/@y"]),
        ("<a><b x='1'>t</b><c/></a>", ["/a/b[1]/@y"]),
        ("<a><b x='1' y='2' z=''>t</b><c/></a>", ["/a/b[1]/@z"]),
        ("<a><b x='1' y='2'>u</b><c/></a>", ["/a/b[1]/text()"]),
        ("<a><b x='1' y='2'/><c/></a>", ["/a/b[1]/text()"]),
        ("<a><b x='1' y='2'>t<!-- --> and more</b><c/></a>", ["/a/b[1]/text()"]),
        ("<a><b x='1' y='2'>t</b>tail<c/></a>", ["/a/text()"]),
        ("<a><b x='1' y='2'>t</b><c/>tail</a>", ["/a/text()"]),
        ("<a><b x='1' y='2'>t</b><c/><c/></a>", ["/a/*"]),
        ("<a><b x='1' y='2'>t</b></a>", ["/a/*"]),
        ("<a><c/><b x='1' y='2'>t</b></a>", ["/a/b[1]", "/a/c[2]"]),
        ("<a><b x='1' y='2'>t</b><d:c xmlns:d='urn:d'/></a>", ["/a/c[2]"]),
        ("<a><b x='9' y='9'>u</b><c z='1'/></a>", ["/a/b[1]/@x", "/a/b[1]/@y", "/a/b[1]/text()", "/a/c[2]/@z"]),
    ],
)
def test_differences(other: str, found: list[str]) -> None:
    assert dx.differences(dx.parse(LEAF), other) == found
    assert bool(dx.differences(dx.parse(other), LEAF)) == bool(found)
    assert dx.same(LEAF, other) is (not found)


def test_text_that_moved_is_a_difference() -> None:
    assert dx.differences(dx.parse("<a>x<b/></a>"), "<a><b/>x</a>") == ["/a/text()"]


def test_a_difference_names_no_value() -> None:
    one = dx.parse("<a passwd='hunter2'>hunter2</a>")
    assert dx.differences(one, "<a passwd='hunter3'>hunter3</a>") == ["/a/@passwd", "/a/text()"]


@pytest.mark.parametrize(("value", "found"), [("1", []), ("2", ["/a/b[1]/@x"])])
def test_a_namespace_that_is_no_uri_of_its_own(value: str, found: list[str]) -> None:
    """C14N knows no relative namespaces; libvirt keeps them in metadata."""
    xml = "<a><b xmlns='relative' x='{}'/></a>"
    assert dx.differences(dx.parse(xml.format("1")), xml.format(value)) == found


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        ("<a/>", "<a/>", True),
        ("<a/>", "<a></a>", True),
        ("<a x='1'/>", '<a x="1"/>', True),
        ("<a x='1'/>", "<a x='2'/>", False),
        ("no XML at all", "no XML at all", True),
    ],
)
def test_same(one: str, two: str, expected: bool) -> None:
    assert dx.same(one, two) is expected


def test_same_says_what_is_no_document() -> None:
    with pytest.raises(InputError):
        dx.same("<a/>", "<a>")


# masked_lines, secrets, scrub


def test_masked_lines() -> None:
    assert dx.masked_lines(dx.parse(remembering(DOMAIN, MEMORY))) == [
        '<graphics type="vnc" port="-1" autoport="yes" powerControl="yes" passwd="********">',
        '<graphics type="vnc" port="5901">',
        '<kvmops:powerControl graphics="0" was="yes" wanted="yes" ours="no">',
    ]


def test_a_masked_line_is_one_line() -> None:
    root = dx.parse("<domain><devices><graphics type='vnc' socket='a&#10;b &quot;&lt;é'/></devices></domain>")
    assert dx.masked_lines(root) == ['<graphics type="vnc" socket="a&#10;b &quot;&lt;é">']


def test_secrets() -> None:
    assert dx.secrets(dx.parse(DOMAIN)) == ["spicy", "s3cret"]
    assert dx.secrets(dx.parse("<domain><!-- passwd='x' --><?passwd x?><graphics passwd=''/></domain>")) == []


def with_passwords(*passwords: str) -> t.Any:
    root = dx.parse("<domain><devices/></domain>")
    for password in passwords:
        root[0].append(dx.parse("<graphics type='vnc'/>"))
        root[0][-1].set("passwd", password)
    return root


@pytest.mark.parametrize(
    ("passwords", "text", "expected"),
    [
        (["s3cret"], "bad s3cret, very s3cret", "bad ********, very ********"),
        ([], "nothing to hide", "nothing to hide"),
        (["Defining"], "Defining web-1 failed", "******** web-1 failed"),
        (["a"], "a bad day", "******** b********d d********y"),
        # The longer one first: else its end would be left.
        (["pass", "password"], "it is password, not pass", "it is ********, not ********"),
        (["password", "pass"], "it is password, not pass", "it is ********, not ********"),
        # libvirt quotes what it was sent, and that was XML.
        (["a&\"<>'b"], 'near passwd="a&amp;&quot;&lt;&gt;\'b"', 'near passwd="********"'),
        (["a&\"<>'b"], "plain a&\"<>'b", "plain ********"),
        (["é😀"], "né né😀", "né n********"),
    ],
)
def test_scrub(passwords: list[str], text: str, expected: str) -> None:
    assert dx.scrub(text, with_passwords(*passwords)) == expected


# child_value, describe_graphics, pointer_devices


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("devices/emulator", "/usr/bin/qemu-system-x86_64"),
        ("os/type/@machine", "pc-q35-7.2"),
        ("devices/graphics/@type", "spice"),
        ("title", None),
    ],
)
def test_child_value(path: str, expected: str | None) -> None:
    assert dx.child_value(dx.parse(DOMAIN), path) == expected


PLAIN = {
    "index": 3,
    "type": "vnc",
    "port": None,
    "autoport": False,
    "websocket": None,
    "socket": None,
    "listen": [],
    "password": False,
}


@pytest.mark.parametrize(
    ("element", "differs"),
    [
        ("<graphics type='vnc'/>", {}),
        ("<graphics type='spice' port='5900'/>", {"type": "spice", "port": 5900}),
        ("<graphics type='vnc' port='-1' autoport='yes' websocket='-1'/>", {"autoport": True}),
        ("<graphics type='vnc' port='5901' autoport='no' websocket='5700'/>", {"port": 5901, "websocket": 5700}),
        ("<graphics type='vnc' port='0'/>", {}),
        ("<graphics type='vnc' port='²'/>", {}),
        ("<graphics type='vnc' passwd='x' passwdValidTo='2030-01-01T00:00:00'/>",
         {"password": True, "password_valid_to": "2030-01-01T00:00:00"}),
        ("<graphics type='vnc' sharePolicy='force-shared'/>", {"share_policy": "force-shared"}),
        ("<graphics type='vnc' listen='10.0.0.1'/>", {"listen": [{"type": "address", "address": "10.0.0.1"}]}),
        ("<graphics type='vnc' listen='10.0.0.1'><listen type='address' address='10.0.0.2'/></graphics>",
         {"listen": [{"type": "address", "address": "10.0.0.2"}]}),
        ("<graphics type='vnc'><listen type='network' network='default' address='10.0.0.1' fromConfig='1'/></graphics>",
         {"listen": [{"type": "network", "network": "default", "address": "10.0.0.1"}]}),
        ("<graphics type='vnc'><listen type='none'/></graphics>", {"listen": [{"type": "none"}]}),
        ("<graphics type='vnc' socket='/run/a'/>", {"socket": "/run/a"}),
        ("<graphics type='vnc'><listen type='socket' socket='/run/b'/></graphics>",
         {"socket": "/run/b", "listen": [{"type": "socket", "socket": "/run/b"}]}),
    ],
)  # fmt: skip
def test_describe_graphics(element: str, differs: dict[str, t.Any]) -> None:
    assert dx.describe_graphics(dx.parse(element), 3) == {**PLAIN, **differs}


def test_pointer_devices() -> None:
    assert dx.pointer_devices(dx.parse(DOMAIN)) == ["tablet:usb", "mouse:ps2"]
    assert dx.pointer_devices(dx.parse("<domain/>")) == []
