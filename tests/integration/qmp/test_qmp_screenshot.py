# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""qmp_screenshot on real QEMUs without libvirt: the distribution's, and the affected 7.2.0."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable, Optional

import ansible_collections
import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _image, _qmp
from ansible_collections.kvmops.console.plugins.module_utils._errors import QmpLost, QmpRefused, TookTooLong
from ansible_collections.kvmops.console.tests.lab.kvmlab.build import QEMU, build
from ansible_collections.kvmops.console.tests.lab.kvmlab.domains import FIXED_QEMU
from ansible_collections.kvmops.console.tests.lab.kvmlab.machine import cache

Record = dict[str, Any]

SECONDS = 60.0
NOBODY = 65534
RUN_MODULE = Path(__file__).resolve().parents[1] / "run_module.py"
TWO_HEADS = ("-vga", "none", "-device", "virtio-vga,max_outputs=2,id=video0")


class Machine:
    """A QEMU that runs meanwhile. Its socket is there before it is: whoever connects is served as soon as it can."""

    def __init__(self, program: str, path: Path, *options: str, user: Optional[int] = None) -> None:
        self.path = os.fspath(path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(self.path)
            listener.listen(16)
            number = listener.fileno()
            words = [program, "-display", "none", "-nic", "none", "-accel", "tcg", "-m", "32"]
            words += ["-chardev", f"socket,id=q,fd={number},server=on,wait=off", "-mon", "chardev=q,mode=control"]
            self.process = subprocess.Popen(
                [*words, *(options or ("-vga", "std"))],
                pass_fds=(number,),
                stdin=subprocess.DEVNULL,
                user=user,
                group=user,
                extra_groups=None if user is None else [],
            )

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def ask(self, command: str, arguments: Optional[Record] = None) -> Any:
        with _qmp.connect(self.path, SECONDS) as monitor:
            return monitor.execute(command, arguments)

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


Start = Callable[..., Machine]


@pytest.fixture(scope="session")
def programs() -> dict[str, str]:
    build()
    return {"affected": os.fspath(cache() / QEMU / "bin/qemu-system-x86_64"), "fixed": FIXED_QEMU}


@pytest.fixture(params=["affected", "fixed"])
def program(request: pytest.FixtureRequest, programs: dict[str, str]) -> str:
    return programs[request.param]


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name, since a socket's path has to be short; QEMU's user may enter it."""
    path = Path(tempfile.mkdtemp(prefix="kvmops-qmp-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def start(program: str, folder: Path) -> Iterator[Start]:
    machines: list[Machine] = []

    def start(name: str, *options: str, user: Optional[int] = None) -> Machine:
        machines.append(Machine(program, folder / f"{name}.qmp", *options, user=user))
        return machines[-1]

    yield start
    for machine in machines:
        machine.end()


class Call:
    """A run of the module, as Ansible's wrapper runs it."""

    def __init__(self, folder: Path, sockets: list[Any], **arguments: Any) -> None:
        arguments = {"store": os.fspath(folder / "store"), "timeout": SECONDS, **arguments, "sockets": sockets}
        self.process = subprocess.Popen(
            [sys.executable, "-B", os.fspath(RUN_MODULE), "qmp_screenshot", "0", "0"],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._arguments = json.dumps(arguments)

    def result(self) -> Record:
        out, errors = self.process.communicate(self._arguments, timeout=2 * SECONDS)
        assert not errors
        return dict(json.loads(out))


def shoot(folder: Path, *sockets: Any, **arguments: Any) -> Record:
    return Call(folder, list(sockets), **arguments).result()


def only(result: Record) -> Record:
    (record,) = result["machines"]
    (screen,) = record["screens"]
    return dict(screen)


def error(result: Record) -> str:
    (record,) = result["machines"]
    assert result["failed"]
    return str(record["error"])


def test_text_of_the_firmware(start: Start, folder: Path) -> None:
    machine = start("web-1")
    result = shoot(folder, machine.path, wait_for={"text": "No bootable device", "timeout": SECONDS})
    assert "failed" not in result, result
    (record,) = result["machines"]
    assert (record["name"], record["socket"], record["changed"]) == ("web-1", machine.path, False)
    screen = only(result)
    assert "SeaBIOS" in screen["text"]
    assert (screen["width"], screen["height"], screen["capture"]) == (720, 400, "qmp")
    assert screen["blocked_ms"] > 0
    assert _image.check_png(Path(screen["path"]).read_bytes()) == (720, 400)


def test_one_failure_never_stops_the_others(start: Start, folder: Path) -> None:
    good, other, blind, hung = start("good"), start("other"), start("blind", "-nodefaults"), start("hung")
    hung.ask("query-status")
    hung.send(signal.SIGSTOP)
    gone = start("gone")
    gone.end()
    missing = os.fspath(folder / "missing.qmp")
    paths = [one.path for one in (good, other, blind, hung, gone)]
    result = shoot(folder, *paths, missing, timeout=3.0, dest=os.fspath(folder / "screens"))
    records = {record["name"]: record for record in result["machines"]}
    assert list(records) == ["blind", "gone", "good", "hung", "missing", "other"]
    assert result["summary"] == {"machines": 6, "screens": 2, "skipped": 0, "errors": 4}
    assert result["failed"]
    assert records["blind"]["error"] == "blind: it has no display device, so there is no screen."
    assert records["gone"]["error"].startswith(f"gone: No QEMU listens on {gone.path} any more")
    assert records["hung"]["error"].startswith(f"hung: QEMU did not greet on {hung.path} within 3 s: it hangs, or")
    assert records["missing"]["error"].startswith(f"missing: There is no socket {missing}")
    assert sorted(os.listdir(folder / "screens")) == ["good.png", "other.png"]


def test_qemu_that_hung_is_as_before_when_it_goes_on(start: Start, folder: Path) -> None:
    machine = start("web-1")
    machine.ask("query-status")
    with _qmp.connect(machine.path, 0.5) as monitor:
        machine.send(signal.SIGSTOP)
        with pytest.raises(TookTooLong, match="did not answer query-status"):
            _qmp.screendump(monitor, None, 0)
        assert "did not greet" in error(shoot(folder, machine.path, timeout=0.5))
        machine.send(signal.SIGCONT)
    assert only(shoot(folder, machine.path))["cached"] is False
    assert machine.ask("query-fdsets") == []


def test_both_heads(start: Start, folder: Path) -> None:
    machine = start("desk", *TWO_HEADS)
    heads = [{"path": machine.path, "device": "video0", "head": head} for head in (0, 1)]
    result = shoot(folder, *heads, dest=os.fspath(folder / "screens"))
    assert "failed" not in result, result
    screens = [screen for record in result["machines"] for screen in record["screens"]]
    assert [screen["head"] for screen in screens] == [0, 1]
    assert [os.path.basename(screen["path"]) for screen in screens] == ["desk.png", "desk~1.png"]
    assert screens[0]["sha256"] != screens[1]["sha256"]
    assert (screens[1]["width"], screens[1]["height"]) == (640, 480), "QEMU's picture of a screen that is not in use"


def test_all_heads_and_one_by_its_number(start: Start, folder: Path) -> None:
    machine = start("desk", *TWO_HEADS, "-device", "secondary-vga,id=video1", "-device", "secondary-vga")
    result = shoot(folder, machine.path, head="all", dest=os.fspath(folder / "screens"))
    (record,) = result["machines"]
    assert [screen["head"] for screen in record["screens"]] == [0, 1, 2]
    assert record["error"] == ("desk: QEMU has no name for head 3: give its display device an id= when you start QEMU.")
    assert sorted(os.listdir(folder / "screens")) == ["desk.png", "desk~1.png", "desk~2.png"]
    shared = {"max_age": 2 * SECONDS}
    assert only(shoot(folder, machine.path, **shared))["cached"] is True, "head 0 is the primary console"
    assert only(shoot(folder, {"path": machine.path, "device": "video0", "head": 1}, **shared))["cached"] is True
    second = shoot(folder, {"path": machine.path, "device": "video1", "head": "all"}, **shared)
    assert (only(second)["head"], only(second)["cached"]) == (0, True), "head 2 of the machine"
    assert only(shoot(folder, {"path": machine.path, "head": 2}, **shared))["head"] == 2
    assert "desk: it has no head 4: its heads are 0 to 3." in error(shoot(folder, machine.path, head="4"))
    other = {"path": machine.path, "device": "nix", "head": "all"}
    assert "it has no device nix" in error(shoot(folder, other))


def test_screens_that_are_not_there(start: Start, folder: Path) -> None:
    path = start("desk", *TWO_HEADS).path
    assert "it has no device nix: give the id=" in error(shoot(folder, {"path": path, "device": "nix"}))
    absent = error(shoot(folder, {"path": path, "device": "video0", "head": 7}))
    assert absent == "desk: its device video0 has no screen 7: name another head, or a display device."


def test_ten_callers_share_one_picture(start: Start, folder: Path) -> None:
    path = start("web-1").path
    calls = [Call(folder, [path], max_age=2 * SECONDS) for _turn in range(10)]
    results: list[Record] = []
    threads = [threading.Thread(target=lambda call=call: results.append(call.result())) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    screens = [only(result) for result in results]
    assert sorted(screen["cached"] for screen in screens) == [False] + [True] * 9
    assert len({screen["captured_at"] for screen in screens}) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user's QEMU, which only root can start")
def test_qemu_of_another_user(start: Start, folder: Path) -> None:
    machine = start("web-1", user=NOBODY)
    (folder / "private").mkdir(mode=0o700)
    with pytest.raises(QmpRefused, match="Permission denied"):
        machine.ask("screendump", {"filename": os.fspath(folder / "private/picture")})
    assert _image.check_png(Path(only(shoot(folder, machine.path))["path"]).read_bytes())


def test_paused_qemu_keeps_no_more_than_a_few_descriptors(start: Start, folder: Path) -> None:
    """QEMU 9.1 and newer keep none; those never come to the bound."""
    machine = start("web-1")
    machine.ask("stop")
    for _turn in range(_qmp.MOST_KEPT):
        with _qmp.connect(machine.path, SECONDS) as monitor:
            assert _qmp.screendump(monitor, None, 0).ppm
    with _qmp.connect(machine.path, SECONDS) as monitor:
        keeps = bool(monitor.execute("query-fdsets"))
        assert keeps == (monitor.version < (9, 1, 0))
    result = shoot(folder, machine.path)
    assert ("failed" in result) == keeps
    if keeps:
        assert "is paused, and this version closes none of the 16 files" in error(result)
    machine.ask("cont")
    assert only(shoot(folder, machine.path))["cached"] is False
    assert machine.ask("query-fdsets") == []


@pytest.mark.parametrize("wake", ["key", "pointer"])
@pytest.mark.parametrize(
    "options", [("-vga", "std"), ("-machine", "pc,i8042=off", "-usb", "-device", "usb-kbd", "-device", "usb-tablet")]
)
def test_wake(start: Start, folder: Path, wake: str, options: tuple[str, ...]) -> None:
    assert only(shoot(folder, start("web-1", *options).path, wake=wake))["sha256"]


def test_qemu_that_ends_in_the_middle(start: Start) -> None:
    machine = start("web-1")
    with _qmp.connect(machine.path, SECONDS) as monitor:
        machine.send(signal.SIGSTOP)
        # Whatever of the conversation is under way by then: nothing of it is answered any more.
        threading.Timer(0.2, machine.send, (signal.SIGKILL,)).start()
        with pytest.raises(QmpLost, match=f"The QEMU on {machine.path} ended, or closed its monitor"):
            _qmp.screendump(monitor, None, 0)


def test_events(start: Start) -> None:
    machine = start("web-1")
    with _qmp.connect(machine.path, SECONDS) as monitor:
        assert monitor.version == tuple(
            monitor.execute("query-version")["qemu"][key] for key in ("major", "minor", "micro")
        )
        monitor.execute("system_reset")
        reset = monitor.wait_event({"RESET", "SHUTDOWN"}, SECONDS)
        assert reset is not None
        assert (reset.name, reset.data["guest"]) == ("RESET", False)
        with contextlib.suppress(QmpLost):  # it may be gone before it has answered
            monitor.execute("quit")
        end = monitor.wait_event({"SHUTDOWN"}, SECONDS)
        assert end is not None
        assert end.data["guest"] is False
        with pytest.raises(QmpLost):
            monitor.wait_event({"SHUTDOWN"}, SECONDS)


def test_pictures_come_home(start: Start, folder: Path) -> None:
    machine = start("web-1")
    play = [
        {
            "hosts": "localhost",
            "gather_facts": False,
            "vars": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable},
            "tasks": [
                {
                    "kvmops.console.qmp_screenshot": {
                        "sockets": [{"name": "../../etc/cron.d/x", "path": machine.path}],
                        "store": os.fspath(folder / "store"),
                        "fetch_to": os.fspath(folder / "home"),
                    },
                    "register": "seen",
                },
                {"ansible.builtin.copy": {"content": "{{ seen | to_json }}", "dest": os.fspath(folder / "seen")}},
            ],
        }
    ]
    (folder / "play.json").write_text(json.dumps(play))
    roots = [str(Path(path).parent) for path in ansible_collections.__path__]
    told = subprocess.run(
        [os.fspath(Path(sys.executable).parent / "ansible-playbook"), os.fspath(folder / "play.json")],
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": os.pathsep.join(roots), "ANSIBLE_LOCALHOST_WARNING": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    (record,) = json.loads((folder / "seen").read_text())["machines"]
    (screen,) = record["screens"]
    assert "content" not in screen
    home = Path(screen["fetched_to"])
    assert home.parent == folder / "home/localhost"
    assert home.read_bytes() == Path(screen["path"]).read_bytes()
