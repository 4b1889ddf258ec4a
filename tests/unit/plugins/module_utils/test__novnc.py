# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""noVNC's files on a host: found, replaced, given back; and everything that can be in the way."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import gzip
import io
import json
import os
import stat
import typing as t
from pathlib import Path
from unittest import mock

import pytest
from ansible.module_utils import basic

from ansible_collections.kvmops.console.plugins.module_utils import _novnc, _novnc_pages, _novnc_patch, _novnc_script
from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError
from ansible_collections.kvmops.console.plugins.module_utils._novnc_patch import PatchRefused
from ansible_collections.kvmops.console.plugins.module_utils._run import _novnc_patcher
from ansible_collections.kvmops.console.plugins.modules import novnc_info, novnc_patch
from ansible_collections.kvmops.console.tests.unit.plugins.module_utils import novnc_shapes as shapes

Result = dict[str, t.Any]

PAGE = '<html><script type="module" src="app/ui.js"></script></html>\n'


def call(main: t.Callable[[], None], *, check: bool = False, diff: bool = False, **params: t.Any) -> Result:
    """The result of a module, as Ansible reads it."""
    arguments = {**params, "_ansible_check_mode": check, "_ansible_diff": diff, "_ansible_remote_tmp": "/tmp"}
    output = io.StringIO()
    with contextlib.ExitStack() as stack:
        told = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
        stack.enter_context(mock.patch.object(basic, "_ANSIBLE_ARGS", told))
        if hasattr(basic, "_ANSIBLE_PROFILE"):
            stack.enter_context(mock.patch.object(basic, "_ANSIBLE_PROFILE", "legacy"))
        stack.enter_context(contextlib.redirect_stdout(output))
        with pytest.raises(SystemExit):
            main()
    return dict(json.loads(output.getvalue()))


class Host:
    """A folder with a noVNC of every kind in it, and the state folder of this collection."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "srv"
        self.state = folder / "state"
        self.novnc = self.folder / "novnc"
        self.script = self.write("novnc/core/rfb.js", shapes.MODULE.encode())
        self.page = self.write("novnc/vnc.html", PAGE.encode())

    def write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    def patch(self, *, check: bool = False, diff: bool = False, **params: t.Any) -> Result:
        params = {"paths": [os.fspath(self.folder)], "backup_dir": os.fspath(self.state), **params}
        return call(novnc_patch.main, check=check, diff=diff, **params)

    def info(self) -> Result:
        return call(novnc_info.main, paths=[os.fspath(self.folder)])

    def contents(self) -> dict[str, bytes]:
        found = (path for path in sorted(self.folder.rglob("*")) if path.is_file())
        return {os.fspath(path.relative_to(self.folder)): path.read_bytes() for path in found}


@pytest.fixture(autouse=True)
def _no_packages() -> t.Iterator[None]:
    """The package managers of the machine that the tests run on have no say, and take their time."""
    with mock.patch.object(_novnc, "_asked", return_value=None):
        yield


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def only(result: Result) -> Result:
    (record,) = result["installations"]
    return dict(record)


def error(result: Result) -> str:
    assert result["failed"]
    assert result["changed"] is False
    return str(only(result)["error"])


def test_there_and_back(host: Host) -> None:
    host.write("node_modules/@novnc/novnc/lib/rfb.js", shapes.COMMONJS.encode())
    host.write("node_modules/@novnc/novnc/package.json", b'{"name": "@novnc/novnc", "version": "1.5.0"}')
    host.write("old/include/rfb.js", shapes.SCRIPT.encode())
    host.write("old/vnc.html", b'<script src="include/util.js"></script>')
    host.write("pve/app.js", shapes.BUNDLE.encode())
    host.write("pve/index.html.tpl", b'<script type="module" src="/novnc/app.js?ver=1.6.0-2"></script>')
    host.write("cockpit/machines.js.gz", gzip.compress(shapes.MINIFIED.encode(), 4))
    host.write("novnc/core/rfb.js.gz", gzip.compress(shapes.MODULE.encode()))
    host.write("novnc/tests/test.rfb.js", b"it('pointerEvent', () => rfb._framebufferUpdate(rfb._FBU))")
    before = host.contents()

    foreseen = host.patch(check=True, diff=True)
    assert host.contents() == before
    assert not host.state.exists()
    done = host.patch(diff=True)
    assert done["changed"]
    assert foreseen == done, "check mode says what happens"
    assert done["summary"] == {"installations": 5, "changed": 5, "skipped": 0, "errors": 0}
    changed = {name for name, data in host.contents().items() if data != before[name]}
    assert changed == {
        *("node_modules/@novnc/novnc/lib/rfb.js", "old/include/rfb.js", "pve/app.js", "pve/index.html.tpl"),
        *("cockpit/machines.js.gz", "novnc/core/rfb.js.gz", "novnc/core/rfb.js", "novnc/vnc.html"),
    }
    assert {os.path.relpath(entry["after_header"], host.folder) for entry in done["diff"]} == changed

    again = host.patch(diff=True)
    assert (again["changed"], again["diff"]) == (False, [])
    told = host.info()
    assert told["summary"] == {"installations": 5, "patchable": 5, "patched": 5, "outdated": 0, "stale": 1}
    by_path = {os.path.relpath(record["path"], host.folder): record for record in told["installations"]}
    assert by_path["node_modules/@novnc/novnc"]["package"] == {
        "manager": "npm",
        "name": "@novnc/novnc",
        "version": "1.5.0",
    }
    assert by_path["node_modules/@novnc/novnc"]["version"] == "1.5.0"
    (page,) = by_path["old"]["pages"]
    assert page["stale"]
    assert "Cache-Control" in page["reason"]
    kinds = {
        os.path.basename(file["path"]): file["kind"] for record in told["installations"] for file in record["files"]
    }
    assert kinds == {"rfb.js": "script", "rfb.js.gz": "module", "app.js": "bundle", "machines.js.gz": "minified"}

    foreseen = host.patch(state="absent", check=True, diff=True)
    gone = host.patch(state="absent", diff=True)
    assert foreseen == gone
    assert host.contents() == before
    assert host.patch(state="absent")["changed"] is False


def test_mode_and_version_are_replaced(host: Host) -> None:
    host.patch()
    tolerant = host.contents()
    assert host.patch(mode="full")["changed"]
    assert only(host.info())["files"][0]["mode"] == "full"
    assert host.patch(mode="tolerant")["changed"]
    assert host.contents() == tolerant
    with mock.patch.object(_novnc_patch, "VERSION", 2), mock.patch.object(_novnc_patcher, "VERSION", 2):
        assert host.patch()["changed"]
        newer = host.contents()
    assert host.patch()["changed"] is False, "a newer patch stays"
    assert host.contents() == newer
    assert only(host.info())["files"][0]["patch_version"] == 2
    assert host.patch(state="absent")["changed"]
    assert host.script.read_bytes() == shapes.MODULE.encode()


def test_file_that_somebody_changed(host: Host) -> None:
    original = host.contents()
    host.patch()
    patched = host.script.read_bytes()
    host.script.write_bytes(patched.replace(b"case 7:", b"case 8:"))
    assert host.patch(check=True)["changed"], "the page's address"
    for state, mode in (("absent", "tolerant"), ("patched", "full")):
        before = host.contents()
        assert "somebody changed it after it was patched" in error(host.patch(state=state, mode=mode))
        assert host.contents() == before
    assert host.patch(state="absent", force=True)["changed"]
    assert host.contents() == original


def test_patch_that_somebody_changed(host: Host) -> None:
    original = host.contents()
    host.patch()
    patched = host.contents()
    host.script.write_bytes(patched["novnc/core/rfb.js"].replace(b"0x7FFF", b"0"))
    assert only(host.info())["current"] is False
    assert host.patch()["changed"]
    assert host.contents() == patched
    host.script.write_bytes(patched["novnc/core/rfb.js"].replace(b"0x7FFF", b"0"))
    assert host.patch(state="absent")["changed"]
    assert host.contents() == original


def test_original_of_a_compressed_file_is_gone(host: Host) -> None:
    host.write("novnc/core/rfb.js", gzip.compress(b"0"))
    host.script.rename(host.script.with_name("rfb.js.gz"))
    host.write("novnc/core/rfb.js.gz", gzip.compress(shapes.MODULE.encode(), 3, mtime=7))
    host.patch()
    for path in host.state.iterdir():
        path.write_bytes(b"torn")
    assert "its original is not kept on this host any more" in error(host.patch(state="absent"))


def test_compressed_file_that_somebody_changed(host: Host) -> None:
    path = host.write("novnc/core/rfb.js.gz", gzip.compress(shapes.MODULE.encode(), 3, mtime=7))
    host.script.unlink()
    original = host.contents()
    host.patch()
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()).replace(b"case 7:", b"case 8:")))
    before = host.contents()
    for state, mode in (("absent", "tolerant"), ("patched", "full")):
        assert "somebody changed it after it was patched" in error(host.patch(state=state, mode=mode))
        assert host.contents() == before
    assert host.patch(state="absent", force=True)["changed"]
    assert host.contents() == original


def test_what_was_built_of_a_patched_file(host: Host) -> None:
    host.script.write_bytes(shapes.MODULE.encode() + f"// {_novnc_script.TOLD} 1 full".encode())
    before = host.contents()
    assert host.patch()["changed"] is False
    assert "it was built from a patched file" in error(host.patch(state="absent"))
    assert host.contents() == before


@pytest.mark.parametrize("step", range(12))
def test_kill_at_any_point(host: Host, step: int) -> None:
    """What the next run makes of it is what an undisturbed one makes; and back again."""
    host.write("novnc/core/rfb.js.gz", gzip.compress(shapes.MODULE.encode(), 3))
    original = host.contents()
    calls = 0

    def dying(function: t.Callable[..., t.Any]) -> t.Callable[..., t.Any]:
        def wrapped(*args: t.Any, **more: t.Any) -> t.Any:
            nonlocal calls
            calls += 1
            if calls == step + 1:
                raise KeyboardInterrupt
            return function(*args, **more)

        return wrapped

    for state in ("patched", "absent"):
        calls = 0
        with contextlib.ExitStack() as stack:
            for name in ("replace", "fsync", "unlink"):
                stack.enter_context(mock.patch.object(os, name, dying(getattr(os, name))))
            with contextlib.suppress(KeyboardInterrupt, pytest.fail.Exception):
                host.patch(state=state)
        for name, data in host.contents().items():
            if not name.endswith(".kvmops-novnc"):
                read = _novnc.content_of(name, data).text
                patch = _novnc_patch.find_patch(read)
                assert patch is None or patch.current, "old or new, and whole"
        host.patch(state=state)
        assert not list(host.folder.rglob("*.kvmops-novnc"))
        told = only(host.info())
        assert {file["patched"] for file in told["files"]} == {state == "patched"}
        assert [page["stale"] for page in told["pages"]] == [False]
    assert host.contents() == original


def test_what_a_killed_run_has_left(host: Host) -> None:
    """Also beside files that nothing is to be done about."""
    left = host.script.with_name(".rfb.js.kvmops-novnc")
    left.write_bytes(b"half")
    assert host.patch(state="absent", check=True)["changed"] is False
    assert left.exists()
    assert host.patch(state="absent")["changed"] is False
    assert not left.exists()


def test_no_room_for_the_original(host: Host) -> None:
    before = host.contents()
    full = InputError("there is no room")
    with mock.patch.object(_novnc, "write_whole", side_effect=full):
        assert error(host.patch()) == "there is no room"
    assert host.contents() == before


def test_full_disk(host: Host) -> None:
    before = host.contents()
    room = os.statvfs(host.folder)
    none = mock.Mock(f_bfree=1, f_bavail=1, f_frsize=room.f_frsize)
    with mock.patch.object(os, "statvfs", return_value=none):
        for check in (True, False):
            assert "has no room for" in error(host.patch(check=check))
    with mock.patch.object(os, "fsync", side_effect=OSError(errno.ENOSPC, "No space left on device")):
        assert "cannot be replaced: No space left on device" in error(host.patch())
    assert host.contents() == before, "and nothing half written is left"


def test_tree_that_cannot_be_written_to(host: Host) -> None:
    with mock.patch.object(os, "access", return_value=False):
        for check in (True, False):
            assert "cannot be written to" in error(host.patch(check=check))
        (file,) = only(host.info())["files"]
        assert not file["patchable"]
        assert "vnc_proxy" in file["reason"]
        assert host.patch(state="absent")["changed"] is False, "nothing to do is no error"


def test_owner_mode_and_labels_stay(host: Host) -> None:
    host.script.chmod(0o444)
    with contextlib.suppress(OSError):
        os.setxattr(host.script, "user.label", b"ours")
    labels = {name: os.getxattr(host.script, name) for name in os.listxattr(host.script)}
    if os.geteuid() == 0:
        os.chown(host.script, 12, 34)
    before = host.script.stat()
    host.patch()
    after = host.script.stat()
    assert stat.S_IMODE(after.st_mode) == 0o444
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert {name: os.getxattr(host.script, name) for name in os.listxattr(host.script)} == labels
    assert after.st_ino != before.st_ino


def test_links(host: Host) -> None:
    """A link stays one; what it leads to is patched, once."""
    (host.novnc / "vnc_auto.html").symlink_to("vnc.html")
    (host.folder / "link.js").symlink_to(host.script)
    (host.folder / "dangling.js").symlink_to("nowhere")
    (host.folder / "loop.js").symlink_to("loop.js")
    record = only(host.patch(paths=[os.fspath(host.folder), os.fspath(host.folder / "link.js")]))
    assert record["replaced"] == [os.fspath(host.script), os.fspath(host.page)]
    assert (host.folder / "link.js").is_symlink()
    assert (host.novnc / "vnc_auto.html").is_symlink()
    assert (
        only(host.patch(state="absent", paths=[os.fspath(host.folder / "link.js")]))["replaced"] == record["replaced"]
    )
    assert (host.folder / "link.js").is_symlink()
    assert host.script.read_bytes() == shapes.MODULE.encode()


def test_things_that_are_no_files(host: Host) -> None:
    os.mkfifo(host.folder / "rfb.js")
    host.write("torn/core/rfb.js.gz", gzip.compress(shapes.MODULE.encode())[:-9])
    host.write("wrong/core/rfb.js.gz", b"no gzip")
    result = host.patch()
    reasons = {os.path.relpath(record["path"], host.folder): record.get("error") for record in result["installations"]}
    assert reasons["novnc"] is None
    assert "is no regular file" in reasons["."]
    assert "ends in the middle" in reasons["torn"]
    assert "is not what its name says" in reasons["wrong"]


def test_one_that_is_not_recognised_stops_no_other(host: Host) -> None:
    host.write("fork/core/rfb.js", shapes.MODULE.replace("pointerEvent(", "mouseEvent(").encode() + b"// pointerEvent")
    host.write("next/core/rfb.js", shapes.MODULE.encode() + b"// pseudoEncodingPointerTypeChange")
    result = host.patch()
    assert result["failed"]
    assert result["summary"] == {"installations": 3, "changed": 1, "skipped": 1, "errors": 1}
    records = {os.path.basename(record["path"]): record for record in result["installations"]}
    assert "no class in it" in records["fork"]["error"]
    assert "by itself" in records["next"]["skipped"]
    assert records["novnc"]["changed"]


def test_twin_that_cannot_be_made_anew(host: Host) -> None:
    host.write("novnc/core/rfb.js.br", b"brotli")
    assert "rfb.js.br would be served in its place" in error(host.patch())


def test_page_with_a_twin(host: Host) -> None:
    host.write("novnc/vnc.html.gz", gzip.compress(PAGE.encode()))
    (page,) = only(host.patch())["pages"]
    assert page["stale"]
    assert "twin" in page["reason"]


def test_file_that_changes_meanwhile(host: Host) -> None:
    content = _novnc.read(os.fspath(host.script))
    host.script.write_bytes(b"new")
    with pytest.raises(PatchRefused, match="is being changed by somebody else"):
        _novnc.replace(content, b"ours")
    assert host.script.read_bytes() == b"new"


def test_two_runs(host: Host) -> None:
    host.patch(check=True)
    host.patch()
    with open(host.state / "lock", "rb") as other, mock.patch.object(_novnc_patcher, "LOCK_SECONDS", 0.01):
        fcntl.flock(other, fcntl.LOCK_EX)
        result = host.patch(state="absent")
        assert "was held by somebody else" in result["msg"]


def test_list_of_what_is_kept_follows(host: Host) -> None:
    """What is taken out, or gets another mode, does not come back as it was."""
    path = os.fspath(host.script)
    host.patch()
    kept = host.state / "kept.json"
    kept.write_text(json.dumps({path: "tolerant", "/srv/other.js": "tolerant"}), encoding="utf-8")
    before = kept.read_bytes()
    host.patch(mode="full", check=True)
    assert kept.read_bytes() == before
    host.patch(mode="full")
    assert json.loads(kept.read_bytes()) == {path: "full", "/srv/other.js": "tolerant"}
    host.patch(state="absent", check=True)
    assert path in json.loads(kept.read_bytes())
    host.patch(state="absent")
    assert json.loads(kept.read_bytes()) == {"/srv/other.js": "tolerant"}
    host.patch()
    assert json.loads(kept.read_bytes()) == {"/srv/other.js": "tolerant"}, "the role decides on what is kept"


def test_originals_are_private(host: Host) -> None:
    host.patch()
    assert stat.S_IMODE(host.state.stat().st_mode) == 0o700
    kept = {path.name: path.read_bytes() for path in host.state.iterdir() if path.name != "lock"}
    assert {_novnc_patch.digest(data): data for data in kept.values()} == kept
    assert shapes.MODULE.encode() in kept.values()


def test_path_that_is_not_there(host: Host) -> None:
    assert host.patch(paths=["/nowhere/novnc"])["msg"].startswith("There is no /nowhere/novnc on this host")


def test_where_it_is_looked_for(host: Host, tmp_path: Path) -> None:
    """The usual folders, what websockify serves, what nova is set to, what packages have."""
    served = Host(tmp_path / "served")
    nova = tmp_path / "nova.conf"
    nova.write_text(f"[DEFAULT]\nweb = {served.novnc}\n", encoding="utf-8")
    with mock.patch.multiple(_novnc, ROOTS=(), NOVA=(), BUNDLES=()):
        with mock.patch.object(_novnc, "_served", return_value=[]):
            assert _novnc.find() == []
            with mock.patch.object(_novnc, "NOVA", (os.fspath(nova),)):
                assert [found.root for found in _novnc.find()] == [os.fspath(served.novnc)]
            with mock.patch.object(_novnc, "ROOTS", (os.fspath(host.folder)[:-1] + "*",)):
                assert [found.root for found in _novnc.find()] == [os.fspath(host.novnc)]
        with mock.patch.object(_novnc, "_served", return_value=[os.fspath(served.novnc), "/nowhere", "/"]):
            assert [found.root for found in _novnc.find()] == [os.fspath(served.novnc)]


def test_packages(host: Host) -> None:
    answers = {
        ("rpm", "-qa"): "novnc\n",
        ("rpm", "-ql"): f"{host.script}\n{host.page}\n",
        ("rpm", "-qf"): "novnc\t1.3.0-1.el9\n",
    }
    with mock.patch.object(_novnc, "_asked", lambda *words: answers.get(words[:2])):
        assert list(_novnc._packaged()) == [os.path.dirname(host.script)]
        assert _novnc.owner(os.fspath(host.script)) == ("rpm", "novnc", "1.3.0-1.el9")
        assert only(host.info())["version"] == "1.3.0"


def test_releases_are_known_by_their_hash() -> None:
    assert (
        _novnc.version("/nowhere", ["331109966c80bef620bcd09242d43dbc05fa83cb44eba439ad20148f86aa479e"], None)
        == "1.3.0"
    )
    assert _novnc.version("/nowhere", ["ab" * 32], None) is None


def test_tag_is_of_what_is_served(host: Host) -> None:
    host.patch()
    sha256 = _novnc_patch.digest(host.script.read_bytes())
    assert _novnc_pages.tag_in(host.page.read_text(encoding="utf-8")) == sha256[:12]
    assert _novnc_script.VERSION == 1
