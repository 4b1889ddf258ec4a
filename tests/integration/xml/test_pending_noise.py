# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is pending, over the XML files of libvirt's own test-suite: nothing, whatever a start adds to a definition."""

from __future__ import annotations

import copy
import random

import pytest
from lxml import etree

from ansible_collections.kvmops.console.plugins.module_utils import _pending_changes
from ansible_collections.kvmops.console.tests.integration.xml import corpus
from ansible_collections.kvmops.console.tests.integration.xml.corpus import Document, Root

MANY = 300
"""libvirt's test-suite holds more domains than this in every fourth of its files."""


@pytest.fixture(scope="module")
def domains() -> list[tuple[Document, Root]]:
    parsed = [(document, etree.fromstring(document.text.encode())) for document in corpus.documents()[::4]]
    found = [(document, root) for document, root in parsed if root.tag == "domain"]
    assert len(found) > MANY
    return found


def started(root: Root, chance: random.Random) -> Root:
    """As a domain that runs: with names, labels and numbers, other terminals, chains and ports, in another order."""
    live = copy.deepcopy(root)
    live.set("id", "7")
    for devices in live.findall("devices"):
        for device in [one for one in devices if isinstance(one.tag, str)]:
            for alias in device.findall("alias"):
                device.remove(alias)
            etree.SubElement(device, "alias", name=f"{device.tag}0")
            if device.find("address") is None:
                etree.SubElement(device, "address", type="pci", slot="0x09")
            device.set("unheardOf", "7")
        for disk in devices.iterfind("disk"):
            etree.SubElement(disk, "unheardOf")
            for source in disk.findall("source"):
                source.set("index", "3")
        for graphics in devices.iterfind("graphics[@autoport='yes']"):
            graphics.set("port", "5907")
        for terminal in devices.iterfind("console[@type='pty']"):
            terminal.set("tty", "/dev/pts/7")
        ordered = [
            one for one in devices if one.tag in ("disk", "interface", "input", "channel", "hostdev", "redirdev")
        ]
        for device in ordered:
            devices.remove(device)
        chance.shuffle(ordered)
        devices.extend(ordered)
    etree.SubElement(live, "seclabel", type="dynamic", model="dac")
    etree.SubElement(live, "resource")
    return live


def test_nothing_is_pending_in_the_same_definition(domains: list[tuple[Document, Root]]) -> None:
    for document, root in domains:
        assert _pending_changes.find(root, root) == [], document.name
        assert _pending_changes.live_only(root, root) == [], document.name


def test_what_a_start_adds_is_nothing(domains: list[tuple[Document, Root]]) -> None:
    chance = random.Random("started")
    for document, root in domains:
        live = started(root, chance)
        assert _pending_changes.find(live, root) == [], document.name
        assert _pending_changes.live_only(live, root) == [], document.name


def test_device_that_the_process_has_not_is_seen(domains: list[tuple[Document, Root]]) -> None:
    """Each in turn, but those that the tables name."""
    seen = 0
    for document, root in domains:
        for tag in ("disk", "interface", "video", "rng", "channel", "sound"):
            live = copy.deepcopy(root)
            device = live.find(f"devices/{tag}")
            if device is None or "startupPolicy" in etree.tostring(device, encoding="unicode"):
                continue
            device.getparent().remove(device)
            (found,) = _pending_changes.find(live, root)
            assert found.split()[0] == tag, document.name
            seen += 1
    assert seen > MANY
