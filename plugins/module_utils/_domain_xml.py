# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads and edits a domain's XML: one attribute changed, everything else as it was, and a proof of that.

Private to this collection.

`powerControl` is an attribute of `<graphics type='vnc'>` (libvirt 7.1.0 and later, formatdomain.rst). A setting is
"yes",
"no", or None where the attribute is absent. Settings of a document are a tuple, one for each VNC element in document
order. Snapshots, checkpoints and saved images hold whole domains, so every function works on those documents, too.
"""

from __future__ import annotations

import traceback
import typing as t

from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError

try:
    from lxml import etree
except ImportError:
    LXML_TRACEBACK: str | None = traceback.format_exc()
else:
    LXML_TRACEBACK = None

if t.TYPE_CHECKING:
    from lxml.etree import _Element

NAMESPACE = "https://kvmops.github.io/console/1"
"""Of our element below `<metadata>`; libvirt keeps what it finds there."""

ATTRIBUTE = "powerControl"
MASK = "********"

Setting = t.Optional[str]
Settings = tuple[Setting, ...]


class Remembered(t.NamedTuple):
    """What we keep in the domain's metadata about one VNC element that we changed.

    `was`: before our first change. `wanted`: what the owner asks for. `ours`: what we wrote last; when the element says
    something else now, somebody edited it since and the rest of this is out of date.
    """

    was: Setting
    wanted: Setting
    ours: Setting


Memory = dict[int, Remembered]
"""By the index of the VNC element."""


def parse(xml: str) -> _Element:
    """The root of `xml`, white space and comments kept; never loads anything from outside (no DTD, no entities).

    libxml2's limits (10 MB a value, 256 levels, entities that grow) stay on: libvirt parses with them, too.
    """
    return _parsed(xml, remove_blank_text=False)


def _parsed(xml: str, *, remove_blank_text: bool) -> _Element:
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, load_dtd=False, remove_blank_text=remove_blank_text
    )
    try:
        return etree.fromstring(xml.encode("utf-8", "surrogateescape"), parser)
    except etree.XMLSyntaxError as e:
        raise InputError(f"This is not a domain's XML: {' '.join(str(e).split())}") from e


def serialize(root: _Element) -> str:
    """The text of `root`, to be handed to libvirt."""
    return etree.tostring(root, encoding="unicode")


def graphics_elements(root: _Element) -> list[_Element]:
    """Every `<graphics>` of the devices of every domain in the document, in document order.

    A snapshot may hold two domains (`<domain>` and `<inactiveDomain>`). What looks alike in `<metadata>` is another's.
    """
    domains = [root] if root.tag == "domain" else [child for child in root if child.tag in ("domain", "inactiveDomain")]
    return [element for domain in domains for element in domain.iterfind("devices/graphics")]


def vnc_elements(root: _Element) -> list[_Element]:
    """The VNC elements among `graphics_elements`."""
    return [element for element in graphics_elements(root) if element.get("type") == "vnc"]


def settings(root: _Element) -> Settings:
    """The powerControl of each VNC element."""
    return tuple(element.get(ATTRIBUTE) for element in vnc_elements(root))


def apply_settings(root: _Element, wanted: t.Sequence[Setting]) -> None:
    """Write `wanted` into the VNC elements of `root`: its length must be their number."""
    elements = vnc_elements(root)
    if len(elements) != len(wanted):
        raise InputError(f"The definition has {len(elements)} VNC graphics elements, not {len(wanted)}; read it again.")
    for element, setting in zip(elements, wanted):
        if setting is None:
            element.attrib.pop(ATTRIBUTE, None)
        else:
            element.set(ATTRIBUTE, setting)


def has_effect(setting: Setting) -> bool:
    """Whether QEMU is started with power control; libvirt passes nothing for an absent attribute, and QEMU's default is
    off.
    """
    return setting == "yes"


# What is remembered, in <metadata>

_OURS = f"{{{NAMESPACE}}}console"
_ENTRY = f"{{{NAMESPACE}}}powerControl"
_ORDER = f"{{{NAMESPACE}}}order"
_ABSENT = "absent"
_MOST_DIGITS = 9


def _word(setting: Setting) -> str:
    return _ABSENT if setting is None else setting


def _setting(word: str | None) -> Setting:
    return word if word in ("yes", "no") else None


def read_memory(root: _Element) -> Memory:
    """What the domain's metadata remembers; an entry that cannot be understood is as good as none."""
    memory: Memory = {}
    for entry in root.iterfind(f"metadata/{_OURS}/{_ENTRY}"):
        index = entry.get("graphics", "")
        if index.isascii() and index.isdigit() and len(index) <= _MOST_DIGITS:
            memory[int(index)] = Remembered(*(_setting(entry.get(name)) for name in Remembered._fields))
    return memory


def write_memory(root: _Element, memory: Memory) -> None:
    """Make the domain's metadata remember exactly `memory`; leaves no empty element of ours behind."""
    if memory == read_memory(root):
        return
    metadata = root.find("metadata")
    if metadata is None:
        metadata = etree.Element("metadata")
        _insert(root, _metadata_position(root), metadata)
    container = metadata.find(_OURS)
    if container is None:
        container = etree.Element(_OURS, nsmap={"kvmops": NAMESPACE})
        _insert(metadata, len(metadata), container)
    for entry in container.findall(_ENTRY):
        _drop(entry)
    for index, remembered in sorted(memory.items()):
        entry = etree.Element(_ENTRY, {"graphics": str(index)})
        for name, value in zip(Remembered._fields, remembered):
            entry.set(name, _word(value))
        _insert(container, len(container), entry)
    for element in (container, metadata):
        if _is_bare(element):
            _drop(element)


class Order(t.NamedTuple):
    """What a domain's owner says of its turn among others: `priority` (lowest first), and names or globs of domains
    that it comes `after` and `before`.
    """

    priority: int | None
    after: list[str]
    before: list[str]


NO_ORDER = Order(None, [], [])


def read_order(root: _Element) -> Order:
    """From `<order priority="10"><after>db-*</after><before>web</before></order>` in our element; what cannot be
    understood is as good as none.
    """
    element = root.find(f"metadata/{_OURS}/{_ORDER}")
    if element is None:
        return NO_ORDER
    priority = element.get("priority", "")
    known = priority.isascii() and priority.isdigit() and len(priority) <= _MOST_DIGITS
    return Order(int(priority) if known else None, _names(element, "after"), _names(element, "before"))


def _names(element: _Element, what: str) -> list[str]:
    said = ((child.text or "").strip() for child in element.iterfind(f"{{{NAMESPACE}}}{what}"))
    return [name for name in said if name]


def _is_bare(element: _Element) -> bool:
    return len(element) == 0 and not element.attrib and not (element.text or "").strip()


def _metadata_position(root: _Element) -> int:
    """Where libvirt itself writes `<metadata>`: behind the naming elements (virDomainDefFormatInternal)."""
    naming = {"name", "uuid", "genid", "title", "description"}
    return max((i + 1 for i, child in enumerate(root) if child.tag in naming), default=0)


def _insert(parent: _Element, position: int, child: _Element) -> None:
    """Put `child` into `parent`, indented as its neighbours are."""
    depth = sum(1 for _ancestor in parent.iterancestors()) + 1
    indent = "\n" + "  " * depth
    if position == 0:
        child.tail = parent.text if len(parent) or (parent.text or "").strip() else "\n" + "  " * (depth - 1)
        parent.text = indent
    else:
        before = parent[position - 1]
        child.tail = before.tail
        before.tail = indent
    parent.insert(position, child)


def _drop(child: _Element) -> None:
    """Take `child` out, with the white space that stood before it."""
    parent = child.getparent()
    if parent is None:
        return
    before = child.getprevious()
    if before is not None:
        before.tail = child.tail
    else:
        parent.text = child.tail
    parent.remove(child)
    if len(parent) == 0 and not (parent.text or "").strip():
        parent.text = None


# Comparing and showing


def differences(expected: _Element, actual: str) -> list[str]:
    """Where two documents differ in meaning, as paths and never as values (a value may be a secret); empty where they
    agree.

    White space between elements, comments and the order of attributes mean nothing to libvirt. The order of elements
    does.
    """
    found: list[str] = []
    if not _surely_same(serialize(expected), actual):
        _compare(expected, parse(actual), f"/{_local(expected)}", found)
    return found


def _surely_same(one: str, other: str) -> bool:
    """Whether the canonical forms are the same bytes, which libxml2 tells ten times as fast as `_compare`."""
    try:
        return _canonical(one) == _canonical(other)
    except etree.C14NError:  # a namespace in somebody's metadata is no absolute URI
        return False


def _canonical(xml: str) -> bytes:
    return etree.tostring(_parsed(xml, remove_blank_text=True), method="c14n", with_comments=False)


def _local(element: _Element) -> str:
    return str(etree.QName(element).localname)


def _children(element: _Element) -> list[_Element]:
    return [child for child in element if isinstance(child.tag, str)]


def _texts(element: _Element) -> list[str]:
    """The text before, between and behind the child elements; a comment in its midst divides nothing."""
    texts = [element.text or ""]
    for child in element:
        if isinstance(child.tag, str):
            texts.append(child.tail or "")
        else:
            texts[-1] += child.tail or ""
    return [text.strip() for text in texts]


def _compare(expected: _Element, actual: _Element, path: str, found: list[str]) -> None:
    if expected.tag != actual.tag:
        found.append(path)
        return
    names = set(expected.attrib) | set(actual.attrib)
    found.extend(f"{path}/@{name}" for name in sorted(map(str, names)) if expected.get(name) != actual.get(name))
    ours, theirs = _children(expected), _children(actual)
    if len(ours) != len(theirs):
        found.append(f"{path}/*")
        return
    if _texts(expected) != _texts(actual):
        found.append(f"{path}/text()")
    for position, (one, other) in enumerate(zip(ours, theirs), start=1):
        _compare(one, other, f"{path}/{_local(one)}[{position}]", found)


def same(one: str, other: str) -> bool:
    """Whether two texts of a definition mean the same."""
    return one == other or not differences(parse(one), other)


def masked_lines(root: _Element) -> list[str]:
    """The lines that we may change, for a diff: each VNC element's opening tag with its password masked, and our
    memory.
    """
    return [_opening_tag(element) for element in vnc_elements(root)] + [
        _opening_tag(entry) for entry in root.iterfind(f"metadata/{_OURS}/{_ENTRY}")
    ]


# xml.sax.saxutils has the same, and takes longer to import than libvirt's bindings: it brings urllib.request.
_IN_QUOTES = str.maketrans(
    {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "\t": "&#9;", "\n": "&#10;", "\r": "&#13;"}
)


def _opening_tag(element: _Element) -> str:
    prefix = f"{element.prefix}:" if element.prefix else ""
    shown = ((name, MASK if name == "passwd" else value) for name, value in element.attrib.items())
    attributes = "".join(f' {name}="{value.translate(_IN_QUOTES)}"' for name, value in shown)
    return f"<{prefix}{_local(element)}{attributes}>"


def secrets(root: _Element) -> list[str]:
    """The passwords in the document, so that they can be taken out of messages."""
    return [value for value in (element.get("passwd") for element in root.iter()) if value]


def scrub(text: str, root: _Element) -> str:
    """`text` without the passwords of the document, as they are and as XML writes them; the longest first, for one may
    begin with another.
    """
    spelled = {spelling for secret in secrets(root) for spelling in (secret, _in_xml(secret))}
    for secret in sorted(spelled, key=len, reverse=True):
        text = text.replace(secret, MASK)
    return text


def _in_xml(value: str) -> str:
    return etree.tostring(etree.Element("x", {"v": value}), encoding="unicode")[len('<x v="') : -len('"/>')]


# Reading what a record shows


def child_value(root: _Element, path: str) -> str | None:
    """The text that `path`, "os/type", finds first, or the attribute: "os/type/@arch"."""
    elements, _at, attribute = path.partition("/@")
    found = root.find(elements)
    if found is None:
        return None
    return (found.get(attribute) if attribute else found.text) or None


_SELDOM_SAID = {"password_valid_to": "passwdValidTo", "share_policy": "sharePolicy"}
"""Told where the definition says it: Ansible walks over every value of a thousand records, several times."""


def describe_graphics(element: _Element, index: int) -> dict[str, t.Any]:
    """One `<graphics>` as data, without its password: `password` only says whether there is one."""
    listen = [_describe_listen(child) for child in element.findall("listen")]
    if not listen and element.get("listen"):
        listen = [{"type": "address", "address": element.get("listen", "")}]
    sockets = [entry["socket"] for entry in listen if entry.get("socket")]
    return {
        "index": index,
        "type": element.get("type"),
        "port": _port(element.get("port")),
        "autoport": element.get("autoport") == "yes",
        "websocket": _port(element.get("websocket")),
        "socket": element.get("socket") or (sockets[0] if sockets else None),
        "listen": listen,
        "password": bool(element.get("passwd")),
        **{key: element.get(name) for key, name in _SELDOM_SAID.items() if element.get(name)},
    }


def _port(text: str | None) -> int | None:
    """libvirt writes -1 where the port is still to be chosen."""
    return int(text) if text and text.isascii() and text.isdigit() and text != "0" else None


_LISTEN = ("type", "address", "network", "socket")


def _describe_listen(element: _Element) -> dict[str, str]:
    return {str(name): str(value) for name, value in element.attrib.items() if name in _LISTEN}


def pointer_devices(root: _Element) -> list[str]:
    """The pointer devices as "kind:bus", libvirt's words: "tablet:usb", "mouse:ps2", "mouse:virtio", ..."""
    elements = [element for element in root.iterfind("devices/input") if element.get("type") in ("tablet", "mouse")]
    return [f"{element.get('type')}:{element.get('bus')}" for element in elements]
