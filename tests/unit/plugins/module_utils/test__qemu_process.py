# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Finding a domain's QEMU and reading how it was started, in a /proc that the test makes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _qemu_process
from ansible_collections.kvmops.console.plugins.module_utils._qemu_process import QemuProcess, find, pid_directories

UUID = "4dea22b3-1d52-d8f3-2516-782e98ab3fa0"
QEMU = "/usr/bin/qemu-system-x86_64"


def started(*arguments: str) -> QemuProcess:
    return QemuProcess(1, "/proc/1/exe", QEMU, [QEMU, *arguments])


@pytest.mark.parametrize(
    ("arguments", "options"),
    [
        ([], []),
        (["-vnc"], []),
        (["-vnc", "127.0.0.1:0"], [{}]),
        (["-vnc", "127.0.0.1:0,password=on,power-control=on"], [{"password": "on", "power-control": "on"}]),
        (["--vnc", "none,sasl"], [{"sasl": "on"}]),
        (["-vnc", "unix:/run/a,,b,share=ignore"], [{"share": "ignore"}]),
        (["-vnc", ":0,tls-creds=a,,power-control=on"], [{"tls-creds": "a,power-control=on"}]),
        (["-vnc", ":0,a=b=c"], [{"a": "b=c"}]),
        (["-vnc", ":0,x=1", "-S", "-vnc", ":1,x=2"], [{"x": "1"}, {"x": "2"}]),
    ],
)
def test_vnc_options(arguments: list[str], options: list[dict[str, str]]) -> None:
    assert started(*arguments).vnc_options() == options


@pytest.mark.parametrize(
    ("values", "settings"),
    [
        ([], []),
        ([":0"], [None]),
        ([":0,power-control=on"], ["yes"]),
        ([":0,power-control=yes"], ["yes"]),
        ([":0,power-control"], ["yes"]),
        ([":0,power-control=off"], ["no"]),
        ([":0,power-control=no"], ["no"]),
        ([":0,power-control=maybe"], [None]),
        ([":0,power-control=on", ":1", ":2,power-control=off"], ["yes", None, "no"]),
    ],
)
def test_power_control(values: list[str], settings: list[str | None]) -> None:
    arguments = [word for value in values for word in ("-vnc", value)]
    assert started(*arguments).power_control() == settings


def test_runs(tmp_path: Path) -> None:
    paths = {name: tmp_path / name for name in ("image", "same", "other", "longer", "script")}
    contents = {"other": "OTHER", "longer": "image!", "script": "#!/bin/sh\nexec image"}
    for name, path in paths.items():
        path.write_text(contents.get(name, "image"), encoding="utf-8")
        os.utime(path, (0, 0))  # a date tells nothing
    (tmp_path / "link").symlink_to(paths["image"])
    process = started()._replace(image=str(paths["image"]))
    expected_of = {"image": True, "link": True, "same": True, "other": False, "longer": False, "script": True}
    for name, expected in expected_of.items():
        assert process.runs(str(tmp_path / name)) is expected
    assert process.runs(str(tmp_path / "gone")) is False
    assert process._replace(image=str(tmp_path / "gone")).runs(str(paths["image"])) is False


@pytest.mark.parametrize(
    ("uri", "directories"),
    [
        ("qemu:///system", ["/run/libvirt/qemu", "/var/run/libvirt/qemu"]),
        ("qemu+unix:///system?socket=/x", ["/run/libvirt/qemu", "/var/run/libvirt/qemu"]),
        ("qemu:///session", ["/run/user/7/libvirt/qemu/run", "/home/me/.cache/libvirt/qemu/run"]),
        ("qemu:///embed?root=/lab/one", ["/lab/one/run/qemu"]),
        ("qemu:///embed", []),
    ],
)
def test_pid_directories(uri: str, directories: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr("os.getuid", lambda: 7)
    assert list(map(str, pid_directories(uri))) == directories


def test_pid_directories_of_a_session_by_its_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/r")
    monkeypatch.setenv("XDG_CACHE_HOME", "/c")
    assert list(map(str, pid_directories("qemu:///session"))) == ["/r/libvirt/qemu/run", "/c/libvirt/qemu/run"]


class Host:
    """A libvirt with one pid file, and a /proc with one process."""

    def __init__(self, folder: Path) -> None:
        self.uri = f"qemu:///embed?root={folder}"
        self.pids = folder / "run/qemu"
        self.proc = folder / "proc"
        self.pids.mkdir(parents=True)
        self.proc.mkdir()

    def start(self, name: str, *, pid: str = "42", image: str = QEMU, command: bytes | None = None) -> None:
        (self.pids / f"{name}.pid").write_text(pid, encoding="utf-8")
        process = self.proc / pid.strip()
        process.mkdir()
        (process / "exe").symlink_to(image)
        text = f"{QEMU}\0-uuid\0{UUID}\0".encode() if command is None else command
        (process / "cmdline").write_bytes(text)

    def find(self, name: str) -> QemuProcess | None:
        return find(self.uri, name, UUID, self.proc)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


@pytest.mark.parametrize("name", ["web-1", "a b", "..", 'it\'s "quoted"', "é😀", "a\nb"])
def test_find(host: Host, name: str) -> None:
    host.start(name)
    expected = QemuProcess(42, str(host.proc / "42/exe"), QEMU, [QEMU, "-uuid", UUID])
    assert host.find(name) == expected


def test_an_image_that_was_replaced_has_the_name_it_had(host: Host) -> None:
    host.start("web-1", pid="42\n", image=f"{QEMU} (deleted)")
    found = host.find("web-1")
    assert found is not None
    assert (found.pid, found.path) == (42, QEMU)


def test_arguments_that_are_no_text_are_kept(host: Host) -> None:
    host.start("web-1", command=b"qemu\0\xff\0" + UUID.encode() + b"\0")
    found = host.find("web-1")
    assert found is not None
    assert os.fsencode(found.arguments[1]) == b"\xff"


def test_a_number_that_another_process_has_now_is_not_taken(host: Host) -> None:
    host.start("web-1", command=b"/usr/bin/other\0-uuid\0" + UUID[::-1].encode() + b"\0")
    assert host.find("web-1") is None


@pytest.mark.parametrize("text", ["", "nonsense", "-1", "999", "4 2"])
def test_a_pid_file_that_names_no_process(host: Host, text: str) -> None:
    (host.pids / "web-1.pid").write_text(text, encoding="utf-8")
    assert host.find("web-1") is None


def test_what_cannot_be_read_is_none(host: Host) -> None:
    host.start("web-1")
    (host.pids / "web-1.pid").write_bytes(b"\xff")
    assert host.find("web-1") is None
    assert host.find("gone") is None
    assert host.find("x" * 300) is None
    assert host.find("../../proc/42/cmdline") is None


def test_the_second_place_counts_too(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.start("web-1")
    monkeypatch.setattr(_qemu_process, "pid_directories", lambda uri: [host.proc, host.pids])
    assert host.find("web-1") is not None
