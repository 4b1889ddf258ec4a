# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The keeper of patches, and the list of what it keeps."""

from __future__ import annotations

import fcntl
import json
import os
import re
import subprocess
import sys
import time
import typing as t
from pathlib import Path
from unittest import mock

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _novnc, _novnc_kept, _novnc_patch
from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError
from ansible_collections.kvmops.console.plugins.module_utils._run import _novnc_keep
from ansible_collections.kvmops.console.plugins.module_utils._run._novnc_patcher import LOCK, PATCHED, Patcher
from ansible_collections.kvmops.console.tests.unit.plugins.module_utils import novnc_shapes as shapes

COLLECTION = Path(__file__).resolve().parents[4]
PAGE = '<html><script type="module" src="app/ui.js"></script></html>\n'


class Host:
    """A folder with a noVNC that is to stay patched, and the state folder of this collection."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "srv"
        self.state = folder / "state"
        self.state.mkdir(mode=0o700)
        self.page = self.write("novnc/vnc.html", PAGE)
        self.script = self.write("novnc/core/rfb.js", shapes.MODULE)
        self.keep(self.script)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        return path

    def keep(self, *paths: Path, mode: str = "tolerant") -> None:
        told = {os.fspath(path): mode for path in paths}
        (self.state / _novnc_kept.NAME).write_text(json.dumps(told), encoding="utf-8")

    def patch(self, mode: str = "tolerant") -> None:
        """What the role did."""
        patcher = Patcher(PATCHED, mode, _novnc.Originals(os.fspath(self.state)), force=False, check_mode=False)
        for installation in _novnc.find_in([os.fspath(self.folder)]):
            patcher.patch(installation)

    def look(self) -> int:
        return _novnc_keep.main(os.fspath(self.state), quiet=0)

    def mode(self) -> str | None:
        patch = _novnc_patch.find_patch(self.script.read_text(encoding="utf-8"))
        return patch.mode if patch else None

    def contents(self) -> dict[str, bytes]:
        return {os.fspath(path): path.read_bytes() for path in sorted(self.folder.rglob("*")) if path.is_file()}


@pytest.fixture(autouse=True)
def _no_packages() -> t.Iterator[None]:
    """The package managers of the machine that the tests run on have no say, and take their time."""
    with mock.patch.object(_novnc, "_asked", return_value=None):
        yield


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize("mode", ["tolerant", "full"])
def test_upgrade(host: Host, capsys: pytest.CaptureFixture[str], mode: str) -> None:
    host.keep(host.script, mode=mode)
    host.patch(mode)
    patched = host.contents()
    assert host.look() == 0
    assert capsys.readouterr().out == "", "there was nothing to do"
    host.write("novnc/core/rfb.js", shapes.MODULE)
    host.write("novnc/vnc.html", PAGE)
    assert host.look() == 0
    assert host.contents() == patched
    assert capsys.readouterr().out == f"<5>put the patch back into {host.script}, {host.page}.\n"
    newer = shapes.MODULE.replace("case 7:", "case 8:")
    host.write("novnc/core/rfb.js", newer)
    assert host.look() == 0
    assert _novnc_patch.remove(host.script.read_text(encoding="utf-8")) == newer


def test_what_it_was_not_told_of_is_left_alone(host: Host) -> None:
    beside = host.write("novnc/lib/rfb.js", shapes.COMMONJS)
    other = host.write("other/core/rfb.js", shapes.MODULE)
    assert host.look() == 0
    assert host.mode() == "tolerant"
    assert beside.read_text(encoding="utf-8") == shapes.COMMONJS
    assert other.read_text(encoding="utf-8") == shapes.MODULE


def test_nothing_is_kept(host: Host) -> None:
    before = host.contents()
    host.keep()
    assert host.look() == 0
    (host.state / _novnc_kept.NAME).unlink()
    assert host.look() == 0
    assert host.contents() == before


def test_file_is_gone(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    other = host.write("other/core/rfb.js", shapes.MODULE)
    host.keep(host.script, other)
    host.script.unlink()
    assert host.look() == 0, "a package that was removed is no fault"
    assert f"<6>{host.script} is not there" in capsys.readouterr().out
    assert _novnc_patch.find_patch(other.read_text(encoding="utf-8")), "the others are kept"


def test_link_is_not_followed(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    """Neither one in the file's place nor one on the way to it."""
    other = host.write("other/core/rfb.js", shapes.MODULE)
    before = host.contents()
    host.script.unlink()
    host.script.symlink_to(other)
    assert host.look() == 1
    assert f"<3>{host.script} leads to {other} now: run the role" in capsys.readouterr().out
    host.script.unlink()
    host.script.parent.rmdir()
    host.script.parent.symlink_to(other.parent)
    assert host.look() == 1
    assert {path: before[path] for path in (os.fspath(other), os.fspath(host.page))} == {
        path: data for path, data in host.contents().items() if path != os.fspath(host.script)
    }


REFUSED = {
    "changed by hand": (shapes.MODULE.replace("case 7:", "case -257:\n return true;\n case 7:"), "breaks the mouse"),
    "no class": ("export { default } from './other.js';\n", "has no RFB class in it any more"),
    "another class": (shapes.MODULE.replace("_handleRect", "_readRect"), "could not be patched again"),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_what_the_module_refuses(host: Host, capsys: pytest.CaptureFixture[str], case: str) -> None:
    text, what = REFUSED[case]
    host.write("novnc/core/rfb.js", text)
    before = host.contents()
    assert host.look() == 1
    out = capsys.readouterr().out
    assert out.startswith("<3>")
    assert what in out
    assert host.contents() == before


def test_one_that_needs_no_patch_any_more(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    host.write("novnc/core/rfb.js", shapes.MODULE.replace("case 7:", "case encodings.pseudoEncodingPointerTypeChange:"))
    before = host.contents()
    assert host.look() == 0
    assert capsys.readouterr().out.startswith(f"<6>{host.folder}/novnc needs none: ")
    assert host.contents() == before


def test_half_done(host: Host) -> None:
    """Killed between the script and the page."""
    host.patch()
    patched = host.contents()
    host.page.write_bytes(PAGE.encode())
    assert host.look() == 0
    assert host.contents() == patched


def test_somebody_else_is_at_work(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    before = host.contents()
    with open(host.state / LOCK, "wb") as other, mock.patch.object(_novnc_keep, "LOCK_SECONDS", 0.01):
        fcntl.flock(other, fcntl.LOCK_EX)
        assert host.look() != 0
        assert "was held by somebody else" in capsys.readouterr().out
        assert host.contents() == before
    assert host.look() == 0
    assert host.mode() == "tolerant"


def test_change_while_it_works(host: Host) -> None:
    """systemd does not watch then: it looks again by itself."""
    newer = shapes.MODULE.replace("case 7:", "case 8:")
    patch = Patcher.patch
    rounds: list[bool] = []

    def disturbed(self: Patcher, installation: _novnc.Installation) -> dict[str, t.Any]:
        record = patch(self, installation)
        if not rounds:
            host.write("novnc/core/rfb.js", newer)
        rounds.append(record["changed"])
        return record

    with mock.patch.object(Patcher, "patch", disturbed):
        assert host.look() == 0
    assert rounds == [True, True, False]
    assert _novnc_patch.remove(host.script.read_text(encoding="utf-8")) == newer


def test_somebody_takes_it_out_each_time(host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    patch = Patcher.patch

    def undone(self: Patcher, installation: _novnc.Installation) -> dict[str, t.Any]:
        record = patch(self, installation)
        host.write("novnc/core/rfb.js", shapes.MODULE)
        return record

    with mock.patch.object(Patcher, "patch", undone):
        assert host.look() == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("<3>somebody takes the patch out as often")


def test_waits_until_nothing_changes(host: Host) -> None:
    """It sees a file change three times, one look apart each, before it is quiet."""
    changes = iter(range(3))
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        if next(changes, None) is not None:
            host.script.write_bytes(host.script.read_bytes() + b"\n")

    with mock.patch.object(time, "sleep", sleep), mock.patch.object(time, "monotonic") as clock:
        clock.side_effect = lambda: now
        _novnc_keep._wait([os.fspath(host.script)], 10.0)
        assert now == 13.0
        changes = iter(range(1000))
        _novnc_keep._wait([os.fspath(host.script)], 10.0)
        assert now == 13.0 + _novnc_keep.PATIENCE


@pytest.mark.parametrize("text", ["{", "[]", '{"rfb.js": "tolerant"}', '{"/rfb.js": "other"}', '{"/rfb.js": [1]}'])
def test_list_that_is_none(host: Host, capsys: pytest.CaptureFixture[str], text: str) -> None:
    (host.state / _novnc_kept.NAME).write_text(text, encoding="utf-8")
    before = host.contents()
    with pytest.raises(InputError, match="run the role novnc_patch again"):
        _novnc_kept.read(os.fspath(host.state))
    assert host.look() == 1
    assert "is no list of files and modes" in capsys.readouterr().out
    assert host.contents() == before
    _novnc_kept.follow(os.fspath(host.state), [os.fspath(host.script)], None)
    assert (host.state / _novnc_kept.NAME).read_text(encoding="utf-8") == text, "the role writes it anew"


def test_list_follows_what_the_module_is_told(host: Host) -> None:
    path, other = os.fspath(host.script), "/srv/other.js"
    host.keep(host.script, Path(other))
    _novnc_kept.follow(os.fspath(host.state), [path, "/srv/unknown.js"], "full")
    assert _novnc_kept.read(os.fspath(host.state)) == {path: "full", other: "tolerant"}
    _novnc_kept.follow(os.fspath(host.state), [path], None)
    assert _novnc_kept.read(os.fspath(host.state)) == {other: "tolerant"}
    written = (host.state / _novnc_kept.NAME).read_text(encoding="utf-8")
    assert written == json.dumps({other: "tolerant"}, indent=4, sort_keys=True) + "\n", "as the role writes it"


def test_list_is_made_by_the_role_alone(host: Host) -> None:
    (host.state / _novnc_kept.NAME).unlink()
    _novnc_kept.follow(os.fspath(host.state), [os.fspath(host.script)], "full")
    assert not (host.state / _novnc_kept.NAME).exists()


def code() -> list[str]:
    """The files that the role copies."""
    text = (COLLECTION / "roles/novnc_patch/vars/main.yml").read_text(encoding="utf-8")
    return re.findall(r"^  - (\S+)$", text, re.MULTILINE)


def test_runs_without_ansible_and_without_the_rest_of_the_collection(host: Host, tmp_path: Path) -> None:
    """What the role copies is all that it needs, and all that it uses."""
    place = tmp_path / "tool"
    place.mkdir()
    told = {name: (COLLECTION / "plugins/module_utils" / name).read_text(encoding="utf-8") for name in code()}
    (place / "modules.json").write_text(json.dumps(told), encoding="utf-8")
    tool = place / "keep.py"
    tool.write_bytes((COLLECTION / "roles/novnc_patch/files/keep.py").read_bytes())
    words = [sys.executable, "-I", "-S", "-B", "-v", os.fspath(tool), os.fspath(host.state)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"<5>put the patch back into {host.script}, {host.page}")
    assert host.mode() == "tolerant"
    used = re.findall(r"^import '[\w.]+\.module_utils\.([\w.]+)' #", done.stderr, re.MULTILINE)
    assert {f"{name.replace('.', '/')}.py" for name in used} - {"_run.py"} == set(code())
