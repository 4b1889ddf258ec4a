# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The probe of a QEMU binary: the process around it, and what its end tells.

Real QEMUs are probed in tests/integration/probe.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _qemu_probe, _vnc
from ansible_collections.kvmops.console.plugins.module_utils._verdict import (
    INCAPABLE,
    PROBE,
    UNKNOWN,
    BinaryProbe,
    Verdict,
)

SECONDS = 20.0


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the probe's user can reach too, unlike tmp_path."""
    path = Path(tempfile.mkdtemp(prefix="kvmops-test-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def script(folder: Path, text: str) -> str:
    """Write an executable shell script."""
    path = folder / "qemu-system-x86_64"
    path.write_text(f"#!/bin/bash\n{text}\n")  # sh knows no descriptor above 9
    path.chmod(0o755)
    return os.fspath(path)


ON_QMP = 'for a; do case $a in socket,*fd=*) echo "{}" >&"${{a##*fd=}}";; esac; done'
"""What writes a line to QMP's descriptor."""


def probe(path: str, *, timeout: float = SECONDS, allow_wrapper: bool = True) -> BinaryProbe:
    return _qemu_probe.probe_binary(path, timeout=timeout, allow_wrapper=allow_wrapper)


def is_gone(pid: int) -> bool:
    """Whether the process ended. What was killed may take a moment to, and isn't ours to wait for."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([watched], [], [], SECONDS)[0])
    finally:
        os.close(watched)


# --- What is not started ----------------------------------------------------------------------------------------------


def test_no_such_file(folder: Path) -> None:
    path = folder / "absent"
    assert probe(os.fspath(path)) == BinaryProbe(
        Verdict(UNKNOWN, PROBE, f"{path} can't be opened: No such file or directory"), None, None, os.fspath(path)
    )


def test_folder_is_no_binary(folder: Path) -> None:
    assert probe(os.fspath(folder)).verdict.evidence == f"{folder} is no file"


def test_fifo_is_no_binary(folder: Path) -> None:
    os.mkfifo(folder / "fifo")
    assert probe(os.fspath(folder / "fifo")).verdict.evidence.endswith("is no file")


def test_file_without_permission_to_execute(folder: Path) -> None:
    path = script(folder, "exit 0")
    Path(path).chmod(0o644)
    assert probe(path).verdict.evidence == f"{path} is not executable"


def test_wrapper_is_not_started_unless_allowed(folder: Path) -> None:
    (folder / "out").mkdir(mode=0o777)
    (folder / "out").chmod(0o777)
    path = script(folder, f"touch {folder}/out/started")
    told = probe(path, allow_wrapper=False)
    assert told.verdict == Verdict(
        UNKNOWN, PROBE, f"{path} is a script or another wrapper, which is not started unless allowed"
    )
    assert not (folder / "out/started").exists()
    probe(path, allow_wrapper=True)
    assert (folder / "out/started").exists()


def test_interpreter_that_is_not_there(folder: Path) -> None:
    path = folder / "wrapper"
    path.write_text("#!/nonexistent/interpreter\n")
    path.chmod(0o755)
    told = probe(os.fspath(path)).verdict
    assert told == Verdict(UNKNOWN, PROBE, f"{path} can't be started: No such file or directory")


# --- What its end tells -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words", ["-vnc unix:/x,power-control=on: Invalid parameter 'power-control'", "VNC support is disabled"]
)
def test_binary_without_power_control(folder: Path, words: str) -> None:
    version = "QEMU emulator version 5.2.0 (Debian 1:5.2+dfsg-11)"
    path = script(folder, f'[ "$1" = --version ] && {{ echo "{version}"; exit; }}\necho "{words}" >&2; exit 1')
    told = probe(path)
    assert told.verdict.verdict == INCAPABLE
    assert told.verdict.evidence == f"the binary says: {words.rpartition(': ')[2]}"
    assert (told.version, told.package) == ("5.2.0", "Debian 1:5.2+dfsg-11")


def test_binary_that_fails_for_another_reason(folder: Path) -> None:
    path = script(folder, "printf 'could not read\\n\\tkeymap file:\\033[1m en-us\\n' >&2; exit 1")
    told = probe(path)
    assert told == BinaryProbe(
        Verdict(UNKNOWN, PROBE, "the binary did not start: could not read keymap file: [1m en-us"), None, None, path
    )


def test_binary_that_ends_without_a_word(folder: Path) -> None:
    path = script(folder, "exit 0")
    assert probe(path).verdict == Verdict(UNKNOWN, PROBE, "the binary did not start: it ended without a word")


def test_evidence_is_bounded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[int] = []
    one_line = _qemu_probe._one_line

    def measured(text: str) -> str:
        kept.append(len(text))
        return one_line(text)

    monkeypatch.setattr(_qemu_probe, "_one_line", measured)
    path = script(folder, "head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1")
    evidence = probe(path).verdict.evidence
    assert evidence.startswith("the binary did not start: xxx"), "it does not hang in writing"
    assert evidence.endswith("xxx...")
    assert len(evidence) < 400
    assert kept == [4096]


def test_binary_that_never_stops_talking(folder: Path) -> None:
    path = script(folder, "while :; do echo help >&2; done")
    told = probe(path, timeout=1)
    assert told.verdict.evidence.startswith("the binary did not answer within 1 seconds: help help")


def test_binary_that_speaks_something_else(folder: Path) -> None:
    path = script(folder, f"{ON_QMP.format('hello')}; read -r x")
    evidence = probe(path).verdict.evidence
    assert evidence.startswith("the binary did not start: Expecting value")


def test_binary_that_ends_just_after_its_greeting(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hear = _qemu_probe._Qemu._hear

    def hear_and_wait(qemu: _qemu_probe._Qemu, deadline: _vnc.Deadline) -> dict[str, object]:
        greeting = hear(qemu, deadline)
        qemu._process.wait()
        return greeting

    monkeypatch.setattr(_qemu_probe._Qemu, "_hear", hear_and_wait)
    path = script(
        folder,
        '[ "$1" = --version ] && { echo "QEMU emulator version 7.2.22"; exit; }\n'
        f"{ON_QMP.format('{}')}; echo 'invalid accelerator tcg' >&2; exit 1",
    )
    told = probe(path)
    assert told.verdict.evidence == "the binary did not start: invalid accelerator tcg"
    assert told.version == "7.2.22"


def test_binary_that_hangs(folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out").chmod(0o777)
    path = script(
        folder, f"echo $$ >{folder}/out/pid; echo waiting >&2; sleep 1000 & echo $! >{folder}/out/child; wait"
    )
    told = probe(path, timeout=1)
    assert told.verdict == Verdict(UNKNOWN, PROBE, "the binary did not answer within 1 seconds: waiting")
    for name in ("pid", "child"):
        assert is_gone(int((folder / "out" / name).read_text()))


def test_nothing_is_left_when_the_probe_itself_fails(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "out").mkdir()
    (folder / "out").chmod(0o777)
    (folder / "private").mkdir(mode=0o755)
    monkeypatch.setattr(_qemu_probe, "_FOLDERS", (os.fspath(folder / "private"),))
    path = script(folder, f"echo $$ >{folder}/out/pid; sleep 1000")
    started = _qemu_probe._Qemu.greet

    def interrupted(self: _qemu_probe._Qemu, deadline: _vnc.Deadline) -> dict[str, object]:
        with contextlib.suppress(OSError):  # A socket's time-out: the script is running by now
            started(self, _vnc.Deadline(1))
        raise KeyboardInterrupt

    monkeypatch.setattr(_qemu_probe._Qemu, "greet", interrupted)
    before = set(os.listdir("/proc/self/fd"))
    with pytest.raises(KeyboardInterrupt):
        probe(path)
    assert is_gone(int((folder / "out/pid").read_text()))
    assert len(set(os.listdir("/proc/self/fd"))) == len(before)
    assert not list((folder / "private").iterdir())


def test_root_starts_it_as_nobody(folder: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root has privileges to drop")
    path = script(folder, 'echo "$(id -u)" "$(id -g)" >&2; exit 1')
    user = _qemu_probe._Unprivileged.find()
    assert user is not None
    assert user.uid != 0
    assert probe(path).verdict.evidence == f"the binary did not start: {user.uid} {user.gid}"


def test_environment_and_descriptors_of_the_caller_are_not_handed_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "geheim")
    secret = os.open(__file__, os.O_RDONLY)
    os.set_inheritable(secret, True)
    try:
        path = script(folder, "env >&2; ls -l /proc/$$/fd >&2; exit 1")
        evidence = probe(path).verdict.evidence
    finally:
        os.close(secret)
    assert "LC_ALL=C" in evidence
    assert "geheim" not in evidence
    assert os.path.basename(__file__) not in evidence


# --- Versions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("QEMU emulator version 7.2.0\nCopyright", ("7.2.0", None)),
        (
            "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright (c)",
            ("7.2.22", "Debian 1:7.2+dfsg-7+deb12u18"),
        ),
        ("QEMU emulator version 8.2.0 (qemu-kvm-8.2.0-11.el9_4.4)", ("8.2.0", "qemu-kvm-8.2.0-11.el9_4.4")),
        ("QEMU emulator version 9.0.50 (v9.0.0-1-gabc)", ("9.0.50", "v9.0.0-1-gabc")),
        ("busybox", (None, None)),
        ("", (None, None)),
    ],
)
def test_version_text(text: str, expected: tuple[str | None, str | None]) -> None:
    assert _qemu_probe.parse_version_text(text) == expected


@pytest.mark.parametrize(
    ("package", "expected"),
    [("", None), ("Debian 1:7.2+dfsg-7+deb12u18", "Debian 1:7.2+dfsg-7+deb12u18"), (" (el9)", "el9")],
)
def test_version_of_the_greeting(package: str, expected: str | None) -> None:
    greeting = {"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": package}}}
    assert _qemu_probe._told_version(greeting) == ("7.2.22", expected)


@pytest.mark.parametrize("greeting", [{}, {"QMP": 1}, {"QMP": {"version": {"qemu": {"major": "x"}, "package": ""}}}])
def test_greeting_without_a_version(greeting: dict[str, object]) -> None:
    assert _qemu_probe._told_version(greeting) == (None, None)
