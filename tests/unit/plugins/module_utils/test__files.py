# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Files that are whole or not there, folders that are ours alone, locks that end."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _files
from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError, LockTimeout


def test_a_private_folder_is_made_and_found_again(tmp_path: Path) -> None:
    path = str(tmp_path / "a" / "b")
    assert _files.private_folder(path, "store") == path
    assert os.stat(path).st_mode & 0o777 == 0o700
    assert _files.private_folder(path, "store") == path


def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    with pytest.raises(InputError, match=r"can be entered by others.*name another store\.$"):
        _files.private_folder(str(tmp_path), "store")


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/below cannot be used: Not a directory; name another store\.$"):
        _files.private_folder(str(tmp_path / "file" / "below"), "store")


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "picture"
    _files.write_whole(str(path), b"one")
    _files.write_whole(str(path), b"two", 0o644)
    assert path.read_bytes() == b"two"
    assert path.stat().st_mode & 0o777 == 0o644
    assert _files.read_whole(str(path)) == b"two"
    assert os.listdir(tmp_path) == ["picture"]


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "picture"
    _files.write_whole(str(path), b"one")

    def full(descriptor: int, mode: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fchmod", full)
    with pytest.raises(InputError, match="picture cannot be written: No space left on device; make room there"):
        _files.write_whole(str(path), b"two")
    assert path.read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["picture"]


def test_a_long_name_is_no_trouble(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 240)
    _files.write_whole(str(path), b"one")
    assert path.read_bytes() == b"one"


def test_nothing_to_read(tmp_path: Path) -> None:
    assert _files.read_whole(str(tmp_path / "absent")) is None
    assert _files.read_whole(str(tmp_path)) is None


def test_a_lock_is_held_by_one_and_given_up_at_the_end(tmp_path: Path) -> None:
    path = str(tmp_path / "lock")
    order: list[str] = []
    held = threading.Event()

    def other() -> None:
        held.wait(20)
        with _files.locked(path, 30):
            order.append("other")

    thread = threading.Thread(target=other)
    thread.start()
    with _files.locked(path, 30):
        held.set()
        with (
            pytest.raises(LockTimeout, match=r"was held by somebody else for 0 s; try again\.$"),
            _files.locked(path, 0),
        ):
            order.append("nobody")
        order.append("first")
    thread.join(30)
    assert order == ["first", "other"]


def test_a_lock_is_no_link(tmp_path: Path) -> None:
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="Too many levels of symbolic links"), _files.locked(str(tmp_path / "lock"), 1):
        raise AssertionError("held")
    assert not (tmp_path / "elsewhere").exists()
