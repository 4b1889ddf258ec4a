# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The order of the means by which a QEMU is judged, with stand-ins for the means."""

from __future__ import annotations

import socket
import typing as t
from pathlib import Path

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _packages, _qemu_facts, _vnc
from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError, VncProtocolError
from ansible_collections.kvmops.console.plugins.module_utils._packages import Package
from ansible_collections.kvmops.console.plugins.module_utils._probe_cache import Cache
from ansible_collections.kvmops.console.plugins.module_utils._qemu_facts import (
    LIVE_TIMEOUT,
    Facts,
    Judge,
    ask_descriptor,
    facts,
    qemu_vnc_facts,
    served_by_qemu_vnc,
)
from ansible_collections.kvmops.console.plugins.module_utils._qemu_process import QemuProcess
from ansible_collections.kvmops.console.plugins.module_utils._verdict import (
    AFFECTED,
    FIXED,
    INCAPABLE,
    NOTHING,
    PACKAGE,
    PROBE,
    UNKNOWN,
    VERSION,
    BinaryProbe,
    Verdict,
)

QEMU = "/usr/bin/qemu-system-x86_64"


class Means:
    """What a probe and the package manager say, and what they were asked."""

    def __init__(self) -> None:
        self.probes: dict[str, BinaryProbe] = {}
        self.owners: dict[str, Package] = {}
        self.probed: list[tuple[str, bool]] = []

    def say(self, path: str, verdict: str, version: str | None = None, package: str | None = None) -> None:
        self.probes[path] = BinaryProbe(Verdict(verdict, PROBE, f"probe of {path}"), version, package, path)

    def probe(self, path: str, cache: Cache, *, allow_wrapper: bool = False) -> BinaryProbe:
        assert isinstance(cache, Cache)
        self.probed.append((path, allow_wrapper))
        return self.probes[path]


@pytest.fixture
def means(monkeypatch: pytest.MonkeyPatch) -> Means:
    said = Means()
    monkeypatch.setattr(_qemu_facts, "probe_binary_cached", said.probe)
    monkeypatch.setattr(_packages, "owner", said.owners.get)
    return said


def told(verdict: str, basis: str, evidence: str, **more: str | None) -> Facts:
    return {
        "verdict": verdict,
        "basis": basis,
        "evidence": evidence,
        "version": None,
        "package": None,
        "path": QEMU,
        **more,
    }


def not_asked() -> Verdict:
    raise AssertionError("the live server was asked although the binary told")


def test_facts() -> None:
    assert facts(Verdict(FIXED, PROBE, "seen"), QEMU, "8.2.0", "qemu 1") == told(
        FIXED, PROBE, "seen", version="8.2.0", package="qemu 1"
    )


# The next start


@pytest.mark.parametrize("verdict", [AFFECTED, FIXED, INCAPABLE])
def test_a_probe_that_knows_decides(means: Means, verdict: str) -> None:
    means.say(QEMU, verdict, "7.2.0", "Debian 1:7.2")
    means.owners[QEMU] = Package("qemu", "8.2.0", "VNC_FEATURE_XVP")
    expected = told(verdict, PROBE, f"probe of {QEMU}", version="7.2.0", package="Debian 1:7.2")
    assert Judge().next_start(QEMU) == expected


@pytest.mark.parametrize(
    ("version", "package", "owner", "expected"),
    [
        (None, None, None,
         told(UNKNOWN, NOTHING, f"the version could not be read; not probed: probe of {QEMU}")),
        ("7.2.22", "Debian 1:7.2+dfsg-7+deb12u18", None,
         told(FIXED, VERSION, "version 7.2.22: stable release 7.2.7 has the fix (97037995c1); not probed: probe of "
              + QEMU, version="7.2.22", package="Debian 1:7.2+dfsg-7+deb12u18")),
        (None, None, Package("qemu", "8.2.4", ""),
         told(FIXED, VERSION, "version 8.2.4: every release since 8.2.0 has the fix; not probed: probe of " + QEMU,
              version="8.2.4", package="qemu 8.2.4")),
        ("6.2.0", "own", Package("qemu", "1.0", "- fix 477b301000d6"),
         told(FIXED, PACKAGE, "the changelog of own says: - fix 477b301000d6; not probed: probe of " + QEMU,
              version="6.2.0", package="own")),
    ],
)  # fmt: skip
def test_what_is_written_decides_where_the_probe_does_not_know(
    means: Means, version: str | None, package: str | None, owner: Package | None, expected: Facts
) -> None:
    means.say(QEMU, UNKNOWN, version, package)
    if owner:
        means.owners[QEMU] = owner
    assert Judge().next_start(QEMU) == expected


def test_without_probing_nothing_is_started(means: Means) -> None:
    means.owners[QEMU] = Package("qemu", "8.2.4", "")
    evidence = "version 8.2.4: every release since 8.2.0 has the fix; not probed: probing is switched off"
    expected = told(FIXED, VERSION, evidence, version="8.2.4", package="qemu 8.2.4")
    assert Judge(probing=False).next_start(QEMU) == expected
    assert means.probed == []


@pytest.mark.parametrize("emulator", [None, ""])
def test_without_an_emulator_there_is_nothing_to_ask(means: Means, emulator: str | None) -> None:
    assert Judge().next_start(emulator) == told(UNKNOWN, NOTHING, "the definition names no emulator", path=None)
    assert means.probed == []


def test_each_binary_is_asked_once(means: Means) -> None:
    means.say(QEMU, FIXED)
    means.say("/opt/wrapper", AFFECTED)
    judge = Judge(wrappers=True)
    for _time in range(3):
        assert judge.next_start(QEMU)["verdict"] == FIXED
        assert judge.next_start("/opt/wrapper")["verdict"] == AFFECTED
    assert means.probed == [(QEMU, True), ("/opt/wrapper", True)]


def test_wrappers_are_not_started_unless_allowed(means: Means) -> None:
    means.say(QEMU, FIXED)
    Judge().next_start(QEMU)
    assert means.probed == [(QEMU, False)]


# The running process


@pytest.fixture
def process(tmp_path: Path) -> QemuProcess:
    """One whose image is not (any more) the file at its path."""
    image = tmp_path / "exe"
    image.write_bytes(b"old")
    return QemuProcess(42, str(image), QEMU, [])


def test_a_process_of_the_installed_image_has_its_verdict(means: Means, process: QemuProcess) -> None:
    same = process._replace(path=process.image)
    means.say(process.image, FIXED, "8.2.0")
    judge = Judge()
    assert judge.next_start(process.image) == judge.running(same, not_asked)
    assert means.probed == [(process.image, False)]


def test_a_process_of_another_image_is_judged_by_that(means: Means, process: QemuProcess) -> None:
    means.say(process.image, AFFECTED, "7.2.0")
    expected = told(AFFECTED, PROBE, f"probe of {process.image}", version="7.2.0")
    assert Judge().running(process, not_asked) == expected


@pytest.mark.parametrize("version", [None, "7.2.22"])
def test_where_the_image_does_not_tell_its_server_is_asked(
    means: Means, process: QemuProcess, version: str | None
) -> None:
    means.say(process.image, UNKNOWN, version)
    live = Verdict(AFFECTED, PROBE, "the server said so")
    assert Judge().running(process, lambda: live) == told(AFFECTED, PROBE, "the server said so", version=version)


def test_where_neither_tells_the_version_decides(means: Means, process: QemuProcess) -> None:
    means.say(process.image, UNKNOWN, "7.2.0")
    known = Judge().running(process, refused)
    assert (known["verdict"], known["basis"], known["version"]) == (AFFECTED, VERSION, "7.2.0")


@pytest.mark.parametrize("probing", [True, False])
def test_the_package_that_replaced_it_tells_nothing(means: Means, process: QemuProcess, probing: bool) -> None:
    """The old process would pass for a fixed one by the new package's version and changelog."""
    means.owners[QEMU] = Package("qemu", "8.2.4", "VNC_FEATURE_XVP")
    means.say(process.image, UNKNOWN)
    known = Judge(probing).running(process, refused)
    assert (known["verdict"], known["version"], known["package"]) == (UNKNOWN, None, None)


def test_a_server_that_does_not_know_either_changes_nothing(means: Means, process: QemuProcess) -> None:
    means.say(process.image, UNKNOWN)
    evidence = f"the version could not be read; not probed: probe of {process.image}"
    for answer in (lambda: Verdict(UNKNOWN, PROBE, "?"), refused):
        assert Judge().running(process, answer) == told(UNKNOWN, NOTHING, evidence)


def refused() -> Verdict:
    raise ConsoleError("it could not be asked")


def test_without_probing_no_server_is_asked(means: Means, process: QemuProcess) -> None:
    evidence = "the version could not be read; not probed: probing is switched off"
    assert Judge(probing=False).running(process, not_asked) == told(UNKNOWN, NOTHING, evidence)
    assert means.probed == []


@pytest.mark.usefixtures("means")
def test_a_process_that_is_not_seen_is_asked_live() -> None:
    live = Verdict(FIXED, PROBE, "the server said so")
    assert Judge().running(None, lambda: live) == told(FIXED, PROBE, "the server said so", path=None)
    assert Judge().running(None, refused) == told(UNKNOWN, NOTHING, "it could not be asked", path=None)


# The live server


def test_the_descriptor_is_asked_and_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def ask(connected: socket.socket, *, power_control: bool, timeout: float) -> Verdict:
        asked.append((connected.fileno(), power_control, timeout))
        connected.sendall(b"hello")
        return Verdict(FIXED, PROBE, "seen")

    monkeypatch.setattr(_vnc, "ask_running", ask)
    ours, theirs = socket.socketpair()
    with theirs:
        descriptor = ours.detach()
        assert ask_descriptor(descriptor, True) == Verdict(FIXED, PROBE, "seen")
        assert asked == [(descriptor, True, LIVE_TIMEOUT)]
        assert (theirs.recv(10), theirs.recv(10)) == (b"hello", b"")


def test_the_descriptor_is_closed_when_it_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(connected: socket.socket, **_options: t.Any) -> Verdict:
        raise VncProtocolError("no RFB")

    monkeypatch.setattr(_vnc, "ask_running", ask)
    ours, theirs = socket.socketpair()
    with theirs:
        with pytest.raises(VncProtocolError):
            ask_descriptor(ours.detach(), False)
        assert theirs.recv(10) == b""


# qemu-vnc


@pytest.mark.parametrize(
    ("version", "types", "expected"),
    [
        ("12.5.0", ["dbus", "vnc"], True),
        ("12.10.0", ["vnc", "spice", "dbus"], True),
        ("13.0.0", ["dbus", "vnc"], True),
        ("12.4.9", ["dbus", "vnc"], False),
        ("9.0.0", ["dbus", "vnc"], False),
        ("12.5.0", ["vnc"], False),
        ("12.5.0", ["dbus"], False),
        ("12.5.0", [None], False),
        ("12.5.0", [], False),
    ],
)
def test_served_by_qemu_vnc(version: str, types: list[str | None], expected: bool) -> None:
    assert served_by_qemu_vnc(version, types) is expected


def test_qemu_vnc_facts() -> None:
    evidence = "VNC is served by qemu-vnc, which has no power control"
    assert qemu_vnc_facts(QEMU) == told(INCAPABLE, NOTHING, evidence)
