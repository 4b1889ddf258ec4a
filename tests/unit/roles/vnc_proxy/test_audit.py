# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from ansible_collections.kvmops.console.roles.vnc_proxy.files.kvmops_vnc_proxy._audit import AuditLog, timestamp


def test_a_line_is_an_object_with_its_time(tmp_path: Path) -> None:
    log = AuditLog(str(tmp_path / "audit"))
    log.write("refused", source="::1", user=None, wanted='a"\n\u2028ä', status=403)
    log.close()
    (text,) = (tmp_path / "audit").read_text().splitlines()
    line = json.loads(text)
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("time"))
    assert line == {"event": "refused", "source": "::1", "wanted": 'a"\n\u2028ä', "status": 403}


def test_what_comes_from_outside_is_cut(tmp_path: Path) -> None:
    log = AuditLog(str(tmp_path / "audit"))
    log.write("refused", wanted="a" * 100_000)
    log.close()
    assert len((tmp_path / "audit").read_text()) < 700


def test_lines_are_appended_and_the_file_is_not_for_everybody(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    for _turn in range(2):
        log = AuditLog(str(path))
        log.write("session_start")
        log.close()
    assert len(path.read_text().splitlines()) == 2
    assert path.stat().st_mode & 0o007 == 0


def test_a_file_that_was_moved_away_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "audit"
    log = AuditLog(str(path))
    log.write("one")
    path.rename(tmp_path / "audit.1")
    log.reopen(str(path))
    log.write("two")
    log.reopen(str(tmp_path / "other"))
    log.write("three")
    log.close()
    events = [json.loads((tmp_path / name).read_text())["event"] for name in ("audit.1", "audit", "other")]
    assert events == ["one", "two", "three"]


def test_a_new_file_that_cannot_be_opened_changes_nothing(tmp_path: Path) -> None:
    log = AuditLog(str(tmp_path / "audit"))
    with pytest.raises(OSError, match="No such file"):
        log.reopen(str(tmp_path / "none" / "audit"))
    log.write("still")
    log.close()
    assert "still" in (tmp_path / "audit").read_text()


def test_lost_lines_are_counted_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    log = AuditLog("/dev/full")
    for _turn in range(3):
        log.write("session_start")
    log.close()
    assert log.lost == 3
    assert [record.getMessage() for record in caplog.records] == [
        "A line of the audit log is lost: /dev/full can't be written: No space left on device."
    ]


def test_standard_output_stays_open(capfd: pytest.CaptureFixture[str]) -> None:
    log = AuditLog(None)
    log.write("one")
    log.close()
    log.reopen(None)
    log.write("two")
    os.write(1, b"end\n")
    assert [line[-6:] for line in capfd.readouterr().out.splitlines()] == ['"one"}', '"two"}', "end"]


def test_moments() -> None:
    assert timestamp(0.0) == "1970-01-01T00:00:00.000Z"
    assert timestamp(1.9996) == "1970-01-01T00:00:01.999Z"
