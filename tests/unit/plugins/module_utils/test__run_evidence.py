# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How long the pictures of power actions are kept; they are taken in tests/integration/power/test_guards.py."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

pytest.importorskip("libvirt", reason="libvirt's bindings are not installed for this Python")

from ansible_collections.kvmops.console.plugins.module_utils import _libvirt
from ansible_collections.kvmops.console.plugins.module_utils._run import _evidence
from ansible_collections.kvmops.console.plugins.module_utils._run._evidence import Evidence
from ansible_collections.kvmops.console.tests.unit.plugins.module_utils.testdriver import URI, Host, domain

OLD = ("20260101T000000.000000Z", "20260102T000000.000000Z", "20260103T000000.000000Z")


def runs(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for run in OLD:
        for when in ("before", "after"):
            (tmp_path / f"{run}-{when}").mkdir()
            (tmp_path / f"{run}-{when}" / "web.png").touch()
    return tmp_path


@pytest.mark.parametrize(("keep", "left"), [(1, 0), (2, 1), (3, 2), (4, 3), (100, 3)])
def test_newest_runs_are_kept_and_this_one_counts(folder: Path, keep: int, left: int) -> None:
    evidence = Evidence("test:///default", str(folder))
    own = f"{evidence._run}-before"
    (folder / own).mkdir()
    evidence.prune(keep)
    assert runs(folder) == sorted([own, *(f"{run}-{when}" for run in OLD[3 - left :] for when in ("before", "after"))])


def test_nothing_else_is_touched(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "precious").touch()
    (folder / "20250101T000000.000000Z-before").symlink_to(elsewhere)
    (folder / "20250102T000000.000000Z-after").touch()
    for name in ("mine", "20250101T000000.000000Z", "20250101T000000.000000Z-before.old"):
        (folder / name).mkdir()
    before = runs(folder)
    Evidence("test:///default", str(folder)).prune(1)
    assert runs(folder) == [name for name in before if not name.startswith(OLD)]
    assert (elsewhere / "precious").exists()


def test_folder_that_is_not_there(tmp_path: Path) -> None:
    Evidence("test:///default", str(tmp_path / "none")).prune(1)
    assert runs(tmp_path) == []


def test_host_where_nobody_may_take_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_evidence, "host_allows", lambda: False)
    with contextlib.closing(Host()) as host, _libvirt.connect(URI) as connection:
        host.define(domain("web")).create()
        domains = connection.domains()
        taken = Evidence(URI, str(tmp_path)).take(domains, _evidence.BEFORE)
    assert taken == [{"skipped": "its owner lets nobody see its screen"}] * len(domains) != []
    assert runs(tmp_path) == []
