# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The verdict on a QEMU by the best means there are: the binary, the live server, the package, the version.

Private to this collection.

What asks is imported where it is needed: mostly every answer is remembered, and Ansible compiles all that a task
imports anew.
"""

from __future__ import annotations

import socket
import typing as t

from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError
from ansible_collections.kvmops.console.plugins.module_utils._probe_cache import Cache, known_or_probed
from ansible_collections.kvmops.console.plugins.module_utils._qemu_process import QemuProcess
from ansible_collections.kvmops.console.plugins.module_utils._verdict import (
    INCAPABLE,
    NOTHING,
    UNKNOWN,
    BinaryProbe,
    Verdict,
)

if t.TYPE_CHECKING:
    from ansible_collections.kvmops.console.plugins.module_utils._packages import Package

LIVE_TIMEOUT = 5.0
"""Seconds that a live VNC server may take to answer; it takes 6 to 18 ms."""

Facts = dict[str, t.Any]

STANDALONE_VNC = (12, 5, 0)
"""libvirt, from this version on, may serve VNC by the program qemu-vnc, which knows nothing of power control."""


def facts(verdict: Verdict, path: str | None, version: str | None = None, package: str | None = None) -> Facts:
    """As results show it."""
    return {**verdict._asdict(), "version": version, "package": package, "path": path}


class Judge:
    """Tells about each binary once a task. `probing`: whether binaries may be started. `wrappers`: scripts, too."""

    def __init__(self, probing: bool = True, wrappers: bool = False, cache: Cache | None = None) -> None:
        self._probing = probing
        self._wrappers = wrappers
        self._cache = cache or Cache()
        self._known: dict[str, Facts] = {}

    def next_start(self, emulator: str | None) -> Facts:
        """On the binary that the definition names."""
        if not emulator:
            return facts(Verdict(UNKNOWN, NOTHING, "the definition names no emulator"), None)
        if emulator not in self._known:
            self._known[emulator] = self._binary(emulator)
        return self._known[emulator]

    def running(self, process: QemuProcess | None, ask_live: t.Callable[[], Verdict]) -> Facts:
        """On the process that runs now: its image, else its VNC server, else what is written about it.

        `ask_live` puts the question to the domain's own VNC server; it may raise ConsoleError.
        """
        if process is None:
            return facts(self._live(ask_live), None)
        if process.runs(process.path):
            return {**self.next_start(process.path), "path": process.path}
        probed = self._probe(process.image)
        if probed.verdict.verdict != UNKNOWN:
            return facts(probed.verdict, process.path, probed.version, probed.package)
        live = self._live(ask_live) if self._probing else probed.verdict
        if live.verdict != UNKNOWN:
            return facts(live, process.path, probed.version, probed.package)
        return self._written(process.path, probed, None)  # the package owns what is installed, not what runs

    def _live(self, ask_live: t.Callable[[], Verdict]) -> Verdict:
        try:
            return ask_live()
        except ConsoleError as e:
            return Verdict(UNKNOWN, NOTHING, str(e))

    def _binary(self, path: str) -> Facts:
        probed = self._probe(path)
        if probed.verdict.verdict != UNKNOWN:
            return facts(probed.verdict, path, probed.version, probed.package)
        from ansible_collections.kvmops.console.plugins.module_utils import _packages

        return self._written(path, probed, _packages.owner(path))

    def _probe(self, image: str) -> BinaryProbe:
        if not self._probing:
            return BinaryProbe(Verdict(UNKNOWN, NOTHING, "probing is switched off"), None, None, image)
        return probe_binary_cached(image, self._cache, allow_wrapper=self._wrappers)

    def _written(self, path: str, probed: BinaryProbe, owner: Package | None) -> Facts:
        """By package and version, with the reason why it was not asked."""
        from ansible_collections.kvmops.console.plugins.module_utils import _qemu_version

        version = probed.version or (owner.version if owner else None)
        package = probed.package or (f"{owner.name} {owner.version}" if owner else None)
        verdict = _qemu_version.by_rules(version, package, owner.changelog if owner else None)
        evidence = f"{verdict.evidence}; not probed: {probed.verdict.evidence}"
        known = _qemu_version.parse_version(version)
        spoken = _qemu_version.spoken(known) if known else None
        return facts(verdict._replace(evidence=evidence), path, spoken, package)


def probe_binary_cached(path: str, cache: Cache, *, timeout: float = 10.0, allow_wrapper: bool = False) -> BinaryProbe:
    """`_qemu_probe.probe_binary`, unless `cache` knows the answer."""

    def probe() -> BinaryProbe:
        from ansible_collections.kvmops.console.plugins.module_utils import _qemu_probe

        return _qemu_probe.probe_binary(path, timeout=timeout, allow_wrapper=allow_wrapper)

    return known_or_probed(path, cache, probe, timeout)


def ask_descriptor(descriptor: int, power_control: bool) -> Verdict:
    """Put the harmless question to the VNC server at the other end of `descriptor`, which is closed afterwards."""
    from ansible_collections.kvmops.console.plugins.module_utils import _vnc

    with socket.socket(fileno=descriptor) as connected:
        return _vnc.ask_running(connected, power_control=power_control, timeout=LIVE_TIMEOUT)


def served_by_qemu_vnc(libvirt_version: str, graphics_types: t.Iterable[str | None]) -> bool:
    """Whether libvirt serves this domain's VNC by qemu-vnc instead of by QEMU itself (libvirt 12.5, qemu_vnc.c)."""
    version = tuple(int(part) for part in libvirt_version.split("."))
    return version >= STANDALONE_VNC and {"dbus", "vnc"} <= set(graphics_types)


def qemu_vnc_facts(path: str | None) -> Facts:
    return facts(Verdict(INCAPABLE, NOTHING, "VNC is served by qemu-vnc, which has no power control"), path)
