# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The verdicts that are remembered: whose they are, and who may have written them."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _probe_cache
from ansible_collections.kvmops.console.plugins.module_utils._probe_cache import Cache, Key
from ansible_collections.kvmops.console.plugins.module_utils._verdict import (
    AFFECTED,
    FIXED,
    PROBE,
    UNKNOWN,
    BinaryProbe,
    Verdict,
)

SECONDS = 20.0

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
    with cache.lock(KEY, 1):
        assert cache.get(KEY) == PROBED


def test_default_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert _probe_cache.default_folder() == "/var/lib/kvmops-console/probes"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_CACHE_HOME", "/home/me/cache")
    assert _probe_cache.default_folder() == "/home/me/cache/kvmops-console/probes"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/me")
    assert _probe_cache.default_folder() == "/home/me/.cache/kvmops-console/probes"


def test_lock_is_one_at_a_time_and_gives_up_at_the_deadline(tmp_path: Path) -> None:
    first, second = Cache(os.fspath(tmp_path / "probes")), Cache(os.fspath(tmp_path / "probes"))
    with first.lock(KEY, SECONDS):
        descriptor = os.open(tmp_path / "probes" / f"{KEY.name}.lock", os.O_RDWR)
        try:
            with pytest.raises(OSError, match="unavailable"):
                _probe_cache._lock(descriptor, 0.05)
        finally:
            os.close(descriptor)
        with second.lock(KEY, 0.05):
            pass  # Goes on without it
        with second.lock(KEY._replace(inode=5), SECONDS):
            pass
    with second.lock(KEY, SECONDS):
        pass


def test_key_is_of_the_image_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "image").write_text("x")
    (tmp_path / "link").symlink_to("image")
    assert Key.of(os.fspath(tmp_path / "link")) == Key.of(os.fspath(tmp_path / "image"))
    assert Key.of(os.fspath(tmp_path / "link")).path == os.fspath(tmp_path / "image")


def test_probe_is_done_once(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_text("one")
    folder = os.fspath(tmp_path / "probes")
    asked: list[str] = []

    def probe() -> BinaryProbe:
        asked.append(image.read_text())
        return BinaryProbe(Verdict(FIXED, PROBE, asked[-1]), None, None, os.path.realpath(image))

    first = _probe_cache.known_or_probed(os.fspath(image), Cache(folder), probe)
    assert _probe_cache.known_or_probed(os.fspath(image), Cache(folder), probe) == first
    assert asked == ["one"]
    image.write_text("two, longer")
    assert _probe_cache.known_or_probed(os.fspath(image), Cache(folder), probe).verdict.evidence == "two, longer"
    assert asked == ["one", "two, longer"]


def test_what_is_not_there_is_not_cached(tmp_path: Path) -> None:
    cache = Cache(os.fspath(tmp_path / "probes"))
    absent = BinaryProbe(Verdict(UNKNOWN, PROBE, "it can't be opened"), None, None, "absent")
    assert _probe_cache.known_or_probed(os.fspath(tmp_path / "absent"), cache, lambda: absent) == absent
    assert not cache._known
