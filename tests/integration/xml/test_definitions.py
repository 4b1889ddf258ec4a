# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""domain_power_control over libvirt's own domains, as many as the test driver takes, in one run.

The driver's own reading and writing stands between the edit and what is compared here, by C14N.
"""

from __future__ import annotations

import itertools
import typing as t
from pathlib import Path

import pytest
from lxml import etree

libvirt = pytest.importorskip("libvirt", reason="needs libvirt's Python bindings, which only the system's Python has")

from ansible_collections.kvmops.console.plugins.module_utils import _qemu_facts
from ansible_collections.kvmops.console.plugins.module_utils._probe_cache import Cache
from ansible_collections.kvmops.console.plugins.module_utils._verdict import AFFECTED, PROBE, BinaryProbe, Verdict
from ansible_collections.kvmops.console.plugins.modules import domain_power_control
from ansible_collections.kvmops.console.tests.integration.xml import corpus
from ansible_collections.kvmops.console.tests.integration.xml.corpus import Document
from ansible_collections.kvmops.console.tests.unit.plugins.module_utils.testdriver import URI, Host, Result, call, uuid

MANY = 500
"""The test driver takes more of them than this."""
VNC = "<graphics type='vnc' autoport='yes' powerControl='{}' passwd='s3cret&amp;&quot;'/>"


def affected(path: str, cache: Cache, *, allow_wrapper: bool = False) -> BinaryProbe:
    return BinaryProbe(Verdict(AFFECTED, PROBE, "said so"), "7.2.0", None, path)


def definitions(document: Document, number: int) -> t.Iterator[str]:
    """The domain as one of the test driver's, by its own name: with a VNC element where it had none, and without."""
    root = etree.fromstring(document.text.encode())
    if root.tag != "domain":
        return
    root.set("type", "test")
    for tag, text in (("name", f"domain {number}"), ("uuid", uuid(number))):
        for element in root.findall(tag):
            root.remove(element)
        element = etree.Element(tag)
        element.text = text
        root.insert(0, element)
    if not corpus.vnc(root):
        with_vnc = etree.fromstring(etree.tostring(root))
        with_vnc.findall("devices")[0].append(etree.fromstring(VNC.format(("yes", "no")[number % 2])))
        yield etree.tostring(with_vnc, encoding="unicode")
    yield etree.tostring(root, encoding="unicode")


def accepted(host: Host, text: str) -> bool:
    try:
        defined = host.connection.defineXML(text)
    except libvirt.libvirtError:
        return False
    return bool(defined)


def keeps(host: Host, name: str) -> bool:
    """Whether libvirt keeps the domain as it is when its own text is defined again; a few change each time."""
    for _time in range(3):
        before = host.xml(name)
        host.connection.defineXML(before)
        if host.xml(name) == before:
            return True
    return False


def stripped(text: str) -> bytes:
    """The canonical form without powerControl and without our metadata."""
    root = etree.fromstring(text.encode())
    for element in corpus.vnc(root):
        element.attrib.pop("powerControl", None)
    for metadata in root.findall("metadata"):
        for container in metadata.findall("{https://kvmops.github.io/console/1}console"):
            metadata.remove(container)
        if len(metadata) == 0:
            root.remove(metadata)
    return corpus.canonical_tree(root)


def settings(text: str) -> list[str | None]:
    return [element.get("powerControl") for element in corpus.vnc(etree.fromstring(text.encode()))]


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> t.Iterator[Host]:
    """A host with all the domains that the test driver takes and keeps."""
    monkeypatch.setattr(_qemu_facts, "probe_binary_cached", affected)
    made = Host()
    for number, document in enumerate(corpus.documents(), start=1):
        any(accepted(made, text) for text in definitions(document, number))
    for name in made.definitions():
        if not keeps(made, name):
            made.connection.lookupByName(name).undefine()
    made.settle()
    yield made
    made.close()


@pytest.fixture
def play(host: Host, tmp_path: Path) -> t.Callable[..., Result]:
    def run(**params: t.Any) -> Result:
        return call(
            domain_power_control.main,
            uri=URI,
            backup_dir=str(tmp_path / "backups"),
            cache_dir=str(tmp_path / "cache"),
            **params,
        )

    return run


def test_one_run_over_all_of_them(
    host: Host, play: t.Callable[..., Result], capsys: pytest.CaptureFixture[str]
) -> None:
    before = host.definitions()
    assert len(before) > MANY
    with_vnc = {name for name, text in before.items() if settings(text)}
    on = {name for name in with_vnc if "yes" in settings(before[name])}

    result = play(state="auto")
    after = host.definitions()
    assert "failed" not in result, result.get("msg")
    assert {record["name"] for record in result["domains"] if record["changed"]} == on
    assert {name for name in before if before[name] != after[name]} == on
    for name in before:
        assert settings(after[name]) == ["no" if setting == "yes" else setting for setting in settings(before[name])]
        assert stripped(after[name]) == stripped(before[name]), name
        assert after[name].count("passwd=") == before[name].count("passwd=")

    assert play(state="auto")["changed"] is False
    assert play(state="restored")["changed"] is True
    assert host.definitions() == before
    with capsys.disabled():
        print(f"\n{len(before)} domains defined, {len(with_vnc)} with VNC, {len(on)} of them turned off and back on")


def test_every_state_after_every_other(host: Host, play: t.Callable[..., Result]) -> None:
    """Whatever was done before, `restored` gives the very definitions back."""
    before = host.definitions()
    keep = [name for number, name in enumerate(before) if settings(before[name]) and number % 20 == 0]
    for first, second in itertools.permutations(("auto", "enabled", "disabled", "absent"), 2):
        for state in (first, second, "restored"):
            result = play(state=state, force=True, domains=keep)
            assert "failed" not in result, result.get("msg")
            for name in keep:
                assert stripped(host.xml(name)) == stripped(before[name]), (first, second, name)
        assert {name: host.xml(name) for name in keep} == {name: before[name] for name in keep}
