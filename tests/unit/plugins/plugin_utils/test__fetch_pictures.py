# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pictures become files on the controller, where nothing the host says leads astray."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.kvmops.console.plugins.action import domain_screenshot, incus_screenshot, qmp_screenshot
from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError
from ansible_collections.kvmops.console.plugins.plugin_utils import _fetch_pictures
from ansible_collections.kvmops.console.plugins.plugin_utils._fetch_pictures import FetchPictures, still_at_work

PNG = b"\x89PNG\r\n\x1a\n and so on"


class Fetch(FetchPictures):
    def __init__(self, check_mode: bool = False) -> None:
        self._task: Any = SimpleNamespace(check_mode=check_mode)


def record(name: str = "web-1", data: bytes = PNG, head: int = 0, **other: Any) -> dict[str, Any]:
    screen = {
        "head": head,
        "sha256": hashlib.sha256(data).hexdigest(),
        "content": base64.b64encode(data).decode(),
        **other,
    }
    return {"name": name, "changed": False, "screens": [screen]}


def test_a_picture_becomes_a_file_and_leaves_the_result(tmp_path: Path) -> None:
    records = [record(), record("web-1", PNG + b"2", 1)]
    assert Fetch()._bring_home(records, str(tmp_path / "kvm-1")) is True
    assert (tmp_path / "kvm-1/web-1.png").read_bytes() == PNG
    assert (tmp_path / "kvm-1/web-1~1.png").read_bytes() == PNG + b"2"
    assert "content" not in str(records)
    assert [one["screens"][0]["fetched_to"] for one in records] == [
        str(tmp_path / "kvm-1/web-1.png"),
        str(tmp_path / "kvm-1/web-1~1.png"),
    ]
    assert [one["changed"] for one in records] == [True, True]
    again = [record()]
    assert Fetch()._bring_home(again, str(tmp_path / "kvm-1")) is False
    assert again[0]["changed"] is False


@pytest.mark.parametrize(
    ("plugin", "arguments", "name"),
    [
        (domain_screenshot, {}, "web-1.png"),
        (domain_screenshot, {"uri": "qemu:///system"}, "web-1.png"),
        (domain_screenshot, {"uri": "qemu+ssh://kvm-2/system"}, "web-1~797e5c99.png"),
        (domain_screenshot, {"uri": "qemu+ssh://kvm-3/system"}, "web-1~4b3d85f2.png"),
        (incus_screenshot, {}, "web-1~incus.png"),
        (qmp_screenshot, {}, "web-1~qmp.png"),
    ],
)
def test_machines_of_one_name_have_a_file_each(
    tmp_path: Path, plugin: Any, arguments: dict[str, str], name: str
) -> None:
    action = plugin.ActionModule.__new__(plugin.ActionModule)
    action._task = SimpleNamespace(check_mode=False, args=arguments)
    action._bring_home([{**record(), "project": "default"}], str(tmp_path))
    assert os.listdir(tmp_path) == [name]


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    assert Fetch(check_mode=True)._bring_home([record()], str(tmp_path / "home")) is True
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", ["../../etc/cron.d/x", "/etc/passwd", "..", "a\0b"])
def test_no_name_leads_out_of_the_folder(tmp_path: Path, name: str) -> None:
    home = tmp_path / "home"
    Fetch()._bring_home([record(name)], str(home))
    assert os.listdir(tmp_path) == ["home"]
    assert len(os.listdir(home)) == 1


@pytest.mark.parametrize(
    "wrong",
    [{"content": "no base64!"}, {"content": base64.b64encode(b"<html>").decode()}, {"sha256": "0" * 64}],
)
def test_what_is_not_the_picture_that_was_told_is_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConsoleError, match=r"^The picture of web-1 did not arrive whole"):
        Fetch()._bring_home([record(**wrong)], str(tmp_path / "home"))
    assert os.listdir(tmp_path) == []


def test_a_record_without_pictures_is_left_alone(tmp_path: Path) -> None:
    assert Fetch()._bring_home([{"name": "off", "skipped": "it is off", "screens": []}], str(tmp_path)) is False


def test_a_long_run_says_what_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fetch_pictures, "PAUSE", 0.001)
    said: list[str] = []
    twice = threading.Event()

    def say(words: str) -> None:
        said.append(words)
        if len(said) >= 2:
            twice.set()

    before = threading.active_count()
    with still_at_work(say, "kvm-1: taking pictures"):
        assert twice.wait(60)
    assert threading.active_count() == before
    assert said[0] == "kvm-1: taking pictures, 0 s so far"


def test_a_long_run_says_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_fetch_pictures, "PAUSE", 0.001)
    said: list[str] = []
    spoken = threading.Event()

    def say(words: str) -> None:
        said.append(words)
        spoken.set()

    with still_at_work(say, "taking pictures", lambda: "12 of 200"):
        assert spoken.wait(60)
    assert said[0] == "taking pictures, 12 of 200 done, 0 s so far"


@pytest.mark.parametrize(
    ("given", "words"),
    [({"stdout": "3\n.."}, "2 of 3"), ({"stdout": "", "rc": 1}, None), (OSError("the host is gone"), None)],
)
def test_how_far_is_asked_beside_the_module(given: Any, words: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, str]] = []

    def ask(self: Any, command: str) -> Any:
        asked.append((self._connection, command))
        if isinstance(given, Exception):
            raise given
        return given

    monkeypatch.setattr(Fetch, "_low_level_execute_command", ask)
    action: Any = Fetch()
    action._connection = SimpleNamespace()
    assert action._far("/tmp/.kvmops-console-0") == words
    ((connection, command),) = asked
    assert command == "cat /tmp/.kvmops-console-0"
    assert connection is not action._connection


def test_a_short_run_is_silent_and_an_error_ends_it() -> None:
    said: list[str] = []
    with pytest.raises(ValueError, match="x"), still_at_work(said.append, "kvm-1: taking pictures"):
        raise ValueError("x")
    assert said == []


@pytest.mark.parametrize(
    ("wait", "words"),
    [
        (None, "taking pictures"),
        ("{{ late }}", "taking pictures"),
        ({"timeout": 900}, "taking pictures"),
        ({"text": "login:"}, "waiting for the screens to show a text that matches 'login:'"),
        ({"still": 5, "timeout": 1}, "waiting for the screens to stay the same for 5 s"),
        ({"changed": True}, "waiting for the screens to change"),
        ({"image": "/srv/a.png"}, "waiting for the screens to look like /srv/a.png"),
    ],
)
def test_what_goes_on(wait: Any, words: str) -> None:
    assert _fetch_pictures._doing({"wait_for": wait}) == words


def test_the_controller_needs_nothing_that_takes_or_reads_pictures() -> None:
    """A picture is a file to it: what is imported here is imported anew for every host of every task."""
    plugins = ", ".join(plugin.__name__ for plugin in (domain_screenshot, incus_screenshot, qmp_screenshot))
    asked = f"import sys, {plugins}; print(*[name for name in sys.modules if 'screen_' in name or '_image' in name])"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    words = [sys.executable, "-c", asked]
    assert subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout.split() == []
