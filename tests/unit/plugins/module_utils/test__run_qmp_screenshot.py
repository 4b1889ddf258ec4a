# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the sockets of qmp_screenshot mean. The pictures are taken in tests/integration/qmp."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _screens
from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError
from ansible_collections.kvmops.console.plugins.module_utils._picture_names import safe_name
from ansible_collections.kvmops.console.plugins.module_utils._qmp_screens import ALL, Head
from ansible_collections.kvmops.console.plugins.module_utils._run import qmp_screenshot
from ansible_collections.kvmops.console.plugins.module_utils._run.qmp_screenshot import Machine, read_machines


def test_paths_and_dictionaries_sorted_by_name() -> None:
    sockets = ["/run/vm/web-2.qmp", {"path": "/run/b/q", "name": "a", "device": "video0", "head": "1"}, "/run/vm/db"]
    assert read_machines(sockets) == [
        Machine("a", "/run/b/q", "video0", 1),
        Machine("db", "/run/vm/db", "", 0),
        Machine("web-2", "/run/vm/web-2.qmp", "", 0),
    ]


def test_home_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert read_machines(["~/web-1.qmp"])[0].path == "/home/someone/web-1.qmp"


def test_heads() -> None:
    sockets: list[Any] = ["/run/vm/web", {"path": "/run/vm/desk", "head": "all"}, {"path": "/run/vm/db", "head": 2}]
    assert [machine.head for machine in read_machines(sockets, "1")] == [2, ALL, 1]
    assert [machine.head for machine in read_machines(sockets, "all")] == [2, ALL, ALL]


def test_two_heads_of_one_machine() -> None:
    heads = [{"path": "/run/vm/desk", "device": "video0", "head": head} for head in (0, 1)]
    assert [machine.head for machine in read_machines(heads)] == [0, 1]


@pytest.mark.parametrize(
    ("sockets", "expected"),
    [
        ([7], "sockets has paths and dictionaries with a path, not 7"),
        ([{"name": "web-1"}], "missing required arguments: path"),
        ([{"path": "/q", "haed": 1}], "haed"),
        ([{"path": "/q", "device": "video0", "head": "one"}], "head"),
        (["/run/vm/"], "is no path of a socket"),
        ([""], "is no path of a socket"),
        (["/a\0b"], "is no path of a socket"),
        ([{"path": "/q", "device": "video0", "head": -1}], "q: head is a number from 0, or all, not '-1'"),
        ([{"path": "/q", "head": "all"}, {"path": "/q", "head": 1}], "/q is named twice with head 1: name it once"),
        (["/run/a/qmp.sock", "/run/b/qmp.sock"], "/run/a/qmp.sock and /run/b/qmp.sock are both called qmp"),
        (["/q", "/q"], "/q is named twice with head 0"),
        ([{"path": "/q", "device": one} for one in ("a", "b")], "/q is named twice with head 0: name it once, or give"),
    ],
)
def test_what_cannot_be_meant(sockets: list[Any], expected: str) -> None:
    with pytest.raises(InputError) as caught:
        read_machines(sockets)
    assert expected in str(caught.value)


def test_one_screen_has_one_folder_whatever_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    one, same = os.fspath(tmp_path / "q"), os.fspath(tmp_path / "link/q")
    primary, first, second = Head(0, "", 0), Head(0, "video0", 0), Head(1, "video0", 1)
    keys = {
        qmp_screenshot._key(path, head)
        for path, head in ((one, primary), (same, primary), (one, first), (one, second), (one, Head(3, "video0", 1)))
    }
    assert len(keys) == 3
    assert all(safe_name(key) == key for key in keys)


def test_owner_of_the_host_may_forbid_pictures(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(qmp_screenshot, "host_allows", lambda: False)
    camera = qmp_screenshot._Camera(_screens.Options(os.fspath(tmp_path)), qmp_screenshot.WAKE["none"])
    assert camera.picture(Machine("a", "/nowhere/q", "", 0)) == {"skipped": "its owner lets nobody see its screen"}


def test_error_names_the_machine(tmp_path: Path) -> None:
    store = tmp_path / "store"
    camera = qmp_screenshot._Camera(_screens.Options(os.fspath(store)), qmp_screenshot.WAKE["none"])
    record = camera.picture(Machine("a", "/nowhere/q", "", 0))
    assert record["error"].startswith("a: There is no socket /nowhere/q")
