# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Backups: what is in them, what they are called, who may read them, and what happens when they cannot be made."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

import pytest

from ansible_collections.kvmops.console.plugins.module_utils._backup import Backups
from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError

UUID = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("xml", ["<domain passwd='s3cret'/>", "", "<name>é😀\r\n</name>", "<name>\udcff</name>"])
def test_a_backup_holds_the_very_text(tmp_path: Path, xml: str) -> None:
    path = Path(Backups(str(tmp_path / "kept")).keep(UUID, "domain", xml))
    assert path.read_bytes() == xml.encode("utf-8", "surrogateescape")


def test_only_its_owner_may_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "kept"
    previous = os.umask(0)
    try:
        path = Path(Backups(str(folder)).keep(UUID, "domain", "<domain/>"))
    finally:
        os.umask(previous)
    assert (mode(folder), mode(path)) == (0o700, 0o600)


def test_its_name_says_what_and_when(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    path = Path(Backups(str(tmp_path)).keep(UUID, "managed_save", "<domain/>"))
    assert path.parent == tmp_path
    assert re.fullmatch(rf"{UUID}-\d{{8}}T\d{{6}}\.\d{{6}}Z-managed_save\.xml", path.name)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    backups = Backups(str(tmp_path))
    paths = {backups.keep(UUID, "domain", f"<domain id='{number}'/>") for number in range(20)}
    assert len(paths) == len(list(tmp_path.iterdir())) == 20


@pytest.mark.parametrize("others", [0o755, 0o710, 0o701, 0o777])
def test_a_folder_that_others_can_enter_is_refused(tmp_path: Path, others: int) -> None:
    tmp_path.chmod(others)
    with pytest.raises(InputError, match=r"^The folder .* can be entered by others, .* mode 0700, or name"):
        Backups(str(tmp_path)).keep(UUID, "domain", "<domain passwd='s3cret'/>")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_another_user_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setattr("os.geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(InputError, match="can be entered by others"):
        Backups(str(tmp_path)).keep(UUID, "domain", "<domain/>")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "kept"
    with pytest.raises(InputError) as caught:
        Backups(str(folder)).keep(UUID, "domain", "<domain/>")
    assert str(caught.value) == f"The folder {folder} cannot be used: Not a directory; name another backup_dir."


def test_a_backup_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    backups = Backups(str(tmp_path))
    backups.keep(UUID, "domain", "<domain/>")
    with pytest.raises(InputError, match=r"^The backup .* cannot be written: File name too long; make room there, or"):
        backups.keep(UUID, "x" * 255, "<domain/>")


def test_the_folder_is_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked = []
    monkeypatch.setattr("os.makedirs", lambda path, **_options: looked.append(path))
    tmp_path.chmod(0o700)
    backups = Backups(str(tmp_path))
    backups.keep(UUID, "domain", "<domain/>")
    backups.keep(UUID, "domain", "<domain/>")
    assert looked == [str(tmp_path)]
