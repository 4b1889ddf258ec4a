# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The probe of a QEMU binary: the process around it, what its end tells, and the cache.

Real QEMUs are probed in tests/integration/probe.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _qemu_probe, _vnc
from ansible_collections.kvmops.console.plugins.module_utils._qemu_probe import BinaryProbe, Cache, Key
from ansible_collections.kvmops.console.plugins.module_utils._verdict import (
    AFFECTED,
    FIXED,
    INCAPABLE,
    PROBE,
    UNKNOWN,
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
    path = script(folder, f'{ON_QMP.format("hello")}; read -r x')
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


# --- The cache --------------------------------------------------------------------------------------------------------

KEY = Key("/usr/bin/qemu-system-x86_64", 1, 2, 3, 4)
PROBED = BinaryProbe(Verdict(AFFECTED, PROBE, "sends -257 unasked"), "7.2.0", "Debian 1:7.2", KEY.path)


def entry_of(folder: Path) -> Path:
    (entry,) = (folder / "probes").glob("*.json")
    return entry


def filled(folder: Path) -> Cache:
    """Return a cache that holds PROBED on disk."""
    cache = Cache(os.fspath(folder / "probes"))
    cache.put(KEY, PROBED)
    return cache


def test_cache_outlives_the_process(tmp_path: Path) -> None:
    filled(tmp_path)
    assert Cache(os.fspath(tmp_path / "probes")).get(KEY) == PROBED
    assert stat.S_IMODE((tmp_path / "probes").stat().st_mode) == 0o700
    assert stat.S_IMODE(entry_of(tmp_path).stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "other",
    [
        KEY._replace(path="/usr/bin/other"),
        KEY._replace(device=99),
        KEY._replace(inode=99),
        KEY._replace(size=99),
        KEY._replace(mtime_ns=99),
    ],
)
def test_cache_knows_only_the_very_image(tmp_path: Path, other: Key) -> None:
    filled(tmp_path)
    assert Cache(os.fspath(tmp_path / "probes")).get(other) is None


def test_unknown_is_remembered_by_the_process_alone(tmp_path: Path) -> None:
    cache = Cache(os.fspath(tmp_path / "probes"))
    unknown = PROBED._replace(verdict=Verdict(UNKNOWN, PROBE, "it hung"))
    cache.put(KEY, unknown)
    assert cache.get(KEY) == unknown
    assert Cache(os.fspath(tmp_path / "probes")).get(KEY) is None


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        "null",
        '{"format": 1}',
        json.dumps(
            {"format": 0, "key": KEY._asdict(), "verdict": PROBED.verdict._asdict(), "version": None, "package": None}
        ),
        json.dumps(
            {
                "format": 1,
                "key": KEY._asdict(),
                "verdict": {"verdict": 1, "basis": 2, "evidence": 3},
                "version": None,
                "package": None,
            }
        ),
        json.dumps(
            {"format": 1, "key": KEY._asdict(), "verdict": PROBED.verdict._asdict(), "version": 7, "package": None}
        ),
    ],
)
def test_damaged_entry_is_ignored_and_replaced(tmp_path: Path, damage: str) -> None:
    filled(tmp_path)
    entry_of(tmp_path).write_text(damage)
    cache = Cache(os.fspath(tmp_path / "probes"))
    assert cache.get(KEY) is None
    cache.put(KEY, PROBED)
    assert Cache(os.fspath(tmp_path / "probes")).get(KEY) == PROBED


@pytest.mark.parametrize("mode", [0o660, 0o606, 0o666])
def test_entry_that_others_may_write_is_not_trusted(tmp_path: Path, mode: int) -> None:
    filled(tmp_path)
    entry_of(tmp_path).chmod(mode)
    assert Cache(os.fspath(tmp_path / "probes")).get(KEY) is None


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_folder_that_others_may_write_is_not_used(tmp_path: Path, mode: int) -> None:
    filled(tmp_path)
    (tmp_path / "probes").chmod(mode)
    cache = Cache(os.fspath(tmp_path / "probes"))
    assert cache.get(KEY) is None
    cache.put(KEY._replace(inode=5), PROBED)
    assert len(list((tmp_path / "probes").iterdir())) == 1


def test_what_belongs_to_somebody_else_is_not_trusted(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    filled(tmp_path)
    os.chown(entry_of(tmp_path), 65534, 65534)
    assert Cache(os.fspath(tmp_path / "probes")).get(KEY) is None
    os.chown(entry_of(tmp_path), 0, 0)
    os.chown(tmp_path / "probes", 65534, 65534)
    assert Cache(os.fspath(tmp_path / "probes")).get(KEY) is None


def test_links_are_not_followed(tmp_path: Path) -> None:
    filled(tmp_path)
    entry = entry_of(tmp_path)
    entry.rename(tmp_path / "elsewhere")
    entry.symlink_to(tmp_path / "elsewhere")
    assert Cache(os.fspath(tmp_path / "probes")).get(KEY) is None
    (tmp_path / "link").symlink_to(tmp_path / "probes")
    assert not Cache(os.fspath(tmp_path / "link"))._ready()


def test_without_a_folder_the_process_remembers(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache(os.fspath(tmp_path / "file/probes"))
    cache.put(KEY, PROBED)
    assert cache.get(KEY) == PROBED
    with cache.lock(KEY, _vnc.Deadline(1)):
        assert cache.get(KEY) == PROBED


def test_default_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert _qemu_probe.default_folder() == "/var/lib/kvmops-console/probes"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", "/home/me/cache")
    assert _qemu_probe.default_folder() == "/home/me/cache/kvmops-console/probes"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert _qemu_probe.default_folder() == "/home/me/.cache/kvmops-console/probes"


def test_lock_is_one_at_a_time_and_gives_up_at_the_deadline(tmp_path: Path) -> None:
    first, second = Cache(os.fspath(tmp_path / "probes")), Cache(os.fspath(tmp_path / "probes"))
    with first.lock(KEY, _vnc.Deadline(SECONDS)):
        descriptor = os.open(tmp_path / "probes" / f"{KEY.name}.lock", os.O_RDWR)
        try:
            with pytest.raises(OSError, match="the time is over"):
                _qemu_probe._lock(descriptor, _vnc.Deadline(0.05))
        finally:
            os.close(descriptor)
        with second.lock(KEY, _vnc.Deadline(0.05)):
            pass  # Goes on without it
        with second.lock(KEY._replace(inode=5), _vnc.Deadline(SECONDS)):
            pass
    with second.lock(KEY, _vnc.Deadline(SECONDS)):
        pass


def test_key_is_of_the_image_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "image").write_text("x")
    (tmp_path / "link").symlink_to("image")
    assert Key.of(os.fspath(tmp_path / "link")) == Key.of(os.fspath(tmp_path / "image"))
    assert Key.of(os.fspath(tmp_path / "link")).path == os.fspath(tmp_path / "image")


def test_probe_is_done_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image = tmp_path / "image"
    image.write_text("one")
    asked: list[str] = []

    def fake(path: str, **options: object) -> BinaryProbe:
        asked.append(path)
        return BinaryProbe(Verdict(FIXED, PROBE, image.read_text()), None, None, os.path.realpath(path))

    monkeypatch.setattr(_qemu_probe, "probe_binary", fake)
    folder = os.fspath(tmp_path / "probes")
    first = _qemu_probe.probe_binary_cached(os.fspath(image), Cache(folder))
    assert _qemu_probe.probe_binary_cached(os.fspath(image), Cache(folder)) == first
    assert len(asked) == 1
    image.write_text("two, longer")
    assert _qemu_probe.probe_binary_cached(os.fspath(image), Cache(folder)).verdict.evidence == "two, longer"
    assert len(asked) == 2


def test_what_is_not_there_is_not_cached(tmp_path: Path) -> None:
    cache = Cache(os.fspath(tmp_path / "probes"))
    told = _qemu_probe.probe_binary_cached(os.fspath(tmp_path / "absent"), cache)
    assert told.verdict.verdict == UNKNOWN
    assert not cache._known
