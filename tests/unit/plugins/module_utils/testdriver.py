# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host on libvirt's test driver, and a module run on it as Ansible runs it.

Needs libvirt's bindings: import it after `pytest.importorskip("libvirt")`.
"""

from __future__ import annotations

import contextlib
import io
import json
import typing as t
from unittest import mock
from xml.sax.saxutils import escape, quoteattr

import libvirt
import pytest
from ansible.module_utils import basic

from ansible_collections.kvmops.console.plugins.module_utils import _libvirt
from ansible_collections.kvmops.console.plugins.module_utils._probe_cache import Cache
from ansible_collections.kvmops.console.plugins.module_utils._verdict import PROBE, UNKNOWN, BinaryProbe, Verdict

URI = "test:///default"
PASSWORD = "s3cret&\"'<>"
INACTIVE = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE

Result = dict[str, t.Any]


def call(main: t.Callable[[], None], **params: t.Any) -> Result:
    """The result of a module's main(), with `failed` where it failed, as Ansible would read it."""
    arguments = {"_ansible_remote_tmp": "/tmp", "_ansible_keep_remote_files": False, **params}
    output = io.StringIO()
    status: t.Any = None
    warnings: list[str] = []
    # Where another test has made this process a controller, ansible-core shows warnings instead of returning them.
    kept = mock.patch.object(basic.AnsibleModule, "warn", lambda module, warning: warnings.append(warning))
    with _arguments(arguments), kept, contextlib.redirect_stdout(output):
        try:
            main()
        except SystemExit as e:
            status = e.code
    result: Result = json.loads(output.getvalue())
    assert (status or 0) == int(result.get("failed", False)), "main() has to end by exit_json() or fail_json()"
    return {**result, "warnings": warnings}


@contextlib.contextmanager
def _arguments(arguments: Result) -> t.Iterator[None]:
    """What AnsibleModule reads, in the way of ansible-core before and after 2.19."""
    told = {
        "_ANSIBLE_ARGS": json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode(),
        "_ANSIBLE_PROFILE": "legacy",
    }
    kept = {name: getattr(basic, name) for name in told if hasattr(basic, name)}
    for name in kept:
        setattr(basic, name, told[name])
    try:
        yield
    finally:
        for name, value in kept.items():
            setattr(basic, name, value)


class Host:
    """The domains of test:///default, which all connections of a process share for as long as one is open."""

    def __init__(self) -> None:
        _libvirt.DefinitionWatch.prepare()
        libvirt.registerErrorHandler(lambda context, error: None, None)
        self.connection = libvirt.open(URI)
        self._empty()

    def close(self) -> None:
        self._empty()
        self.connection.close()

    def _empty(self) -> None:
        for domain in self.connection.listAllDomains():
            if domain.isActive():
                domain.destroy()
            with contextlib.suppress(libvirt.libvirtError):  # a transient one is gone by now
                domain.undefineFlags(
                    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
                )

    def define(self, xml: str) -> t.Any:
        defined = self.connection.defineXML(xml)
        self.settle()
        return defined

    def settle(self) -> None:
        """Deliver the events that wait: the test driver hands old ones to new listeners, too."""
        done: list[int] = []
        timer = libvirt.virEventAddTimeout(0, lambda timer, opaque: done.append(timer), None)
        while not done:
            libvirt.virEventRunDefaultImpl()
        libvirt.virEventRemoveTimeout(timer)

    def xml(self, name: str) -> str:
        """What the next start of the domain will use."""
        return str(self.connection.lookupByName(name).XMLDesc(INACTIVE))

    def definitions(self) -> dict[str, str]:
        return {domain.name(): domain.XMLDesc(INACTIVE) for domain in self.connection.listAllDomains()}


def vnc(setting: str | None = None, **more: str) -> str:
    """A VNC element."""
    attributes = {"type": "vnc", "port": "-1", "autoport": "yes", **more}
    if setting:
        attributes["powerControl"] = setting
    return f"<graphics {' '.join(f'{name}={quoteattr(value)}' for name, value in attributes.items())}/>"


def domain(name: str, *devices: str, emulator: str = "/opt/affected", number: int = 1) -> str:
    """A domain's XML; `number` makes its UUID."""
    return (
        f"<domain type='test'><name>{escape(name)}</name><uuid>{uuid(number)}</uuid><memory>1024</memory>"
        f"<os><type>hvm</type></os><devices><emulator>{emulator}</emulator>{''.join(devices)}</devices></domain>"
    )


def uuid(number: int) -> str:
    return f"4dea22b3-1d52-d8f3-2516-{number:012d}"


def probe(path: str, cache: Cache, *, allow_wrapper: bool = False) -> BinaryProbe:
    """A stand-in for probing: the verdict is the file's name, /opt/affected and so on."""
    word = path.rpartition("/")[2]
    version, package = (None, None) if word == UNKNOWN else ("7.2.0", "Debian 1:7.2")
    return BinaryProbe(Verdict(word, PROBE, f"probe of {path}"), version, package, path)


def lose_libvirt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the first connection be the last."""
    opener = libvirt.open
    opened: list[str] = []

    def open_once(uri: str) -> t.Any:
        if opened:
            raise libvirt.libvirtError("it is gone")
        opened.append(uri)
        return opener(uri)

    monkeypatch.setattr(libvirt, "open", open_once)
    monkeypatch.setattr(libvirt, "openReadOnly", open_once)
