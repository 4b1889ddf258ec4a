# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The probe and the questions against real QEMUs: an affected one (7.2.0) and a fixed one (the distribution's)."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Callable

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _qemu_facts, _qemu_probe, _rfb, _vnc
from ansible_collections.kvmops.console.plugins.module_utils._errors import VncRefused, VncUnreachable
from ansible_collections.kvmops.console.plugins.module_utils._probe_cache import Cache, Key
from ansible_collections.kvmops.console.plugins.module_utils._run import vnc_probe
from ansible_collections.kvmops.console.plugins.module_utils._verdict import (
    AFFECTED,
    FIXED,
    UNKNOWN,
    BinaryProbe,
    Verdict,
)

SECONDS = 60.0
PASSWORD = "geheim12"
POWER_EVENTS = {"RESET", "POWERDOWN", "SHUTDOWN", "STOP", "RESUME"}

REPOSITORY = Path(__file__).resolve().parents[3]
PREFIX = Path(os.environ.get("KVMOPS_CACHE", "/var/cache/kvmops-console")) / "qemu-7.2.0"
FIXED_QEMU = "/usr/bin/qemu-system-x86_64"

AFFECTED_EVIDENCE = "the started binary sends -257 unasked; obeys power messages that were not negotiated"
FIXED_EVIDENCE = (
    "the started binary offers power control and sends no -257; turns power messages away that were not negotiated"
)


@pytest.fixture(scope="session")
def affected() -> str:
    """The path of the affected QEMU, built once and cached outside the repository."""
    path = PREFIX / "bin/qemu-system-x86_64"
    if not path.exists():
        subprocess.run([os.fspath(REPOSITORY / "tests/lab/build-qemu.sh"), os.fspath(PREFIX)], check=True)
    return os.fspath(path)


@pytest.fixture(scope="session")
def fixed() -> str:
    """The path of the distribution's QEMU, which is fixed on every distribution that these tests run on."""
    if not os.path.exists(FIXED_QEMU):
        command = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "qemu-system-x86"]
        subprocess.run(command, check=True)
    return FIXED_QEMU


@pytest.fixture(params=["affected", "fixed"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def qemu(kind: str, affected: str, fixed: str) -> str:
    return affected if kind == "affected" else fixed


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the probe's user can reach too, unlike tmp_path."""
    path = Path(tempfile.mkdtemp(prefix="kvmops-test-", dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def probe(path: str, *, timeout: float = SECONDS, allow_wrapper: bool = False) -> BinaryProbe:
    return _qemu_probe.probe_binary(path, timeout=timeout, allow_wrapper=allow_wrapper)


def script(path: Path, text: str) -> str:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return os.fspath(path)


def processes_of(image: str) -> list[int]:
    """The processes that run this very file."""
    found = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdigit() and os.path.samefile(f"/proc/{name}/exe", image):
                found.append(int(name))
    return found


# --- A binary ---------------------------------------------------------------------------------------------------------


def test_affected_binary(affected: str) -> None:
    assert probe(affected) == BinaryProbe(Verdict(AFFECTED, "probe", AFFECTED_EVIDENCE), "7.2.0", None, affected)


def test_fixed_binary(fixed: str) -> None:
    told = probe(fixed)
    assert told.verdict == Verdict(FIXED, "probe", FIXED_EVIDENCE)
    said = subprocess.run([fixed, "--version"], check=True, capture_output=True, text=True).stdout
    assert (told.version, told.package) == _qemu_probe.parse_version_text(said)
    assert told.version


def test_binary_is_probed_by_an_ordinary_user_too(qemu: str, kind: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("we are an ordinary user: the other tests show it")
    assert as_nobody(lambda: probe(qemu).verdict.verdict) == kind


def as_nobody(work: Callable[[], str]) -> str:
    """Return what `work` returns when an ordinary user does it, in a child."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            os.write(writer, work().encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    os.waitpid(child, 0)
    return said


def copy_of(affected: str, folder: Path) -> Path:
    """Copy the affected QEMU to where none of its data files are."""
    (folder / "bin").mkdir()
    image = folder / "bin/qemu-system-x86_64"
    shutil.copy(affected, image)
    return image


def test_nothing_is_left_running(folder: Path, affected: str) -> None:
    image = os.fspath(copy_of(affected, folder))
    assert probe(image).verdict.verdict == AFFECTED
    assert not processes_of(image)


def test_data_files_are_not_needed(folder: Path, affected: str) -> None:
    image = os.fspath(copy_of(affected, folder))
    command = [image, "-machine", "none", "-display", "none", "-vnc", f"unix:{folder}/v"]
    plain = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "could not read keymap file" in plain.stderr, "no data files are found there"
    assert probe(image).verdict == Verdict(AFFECTED, "probe", AFFECTED_EVIDENCE)


def test_image_in_a_folder_that_the_probe_may_not_enter(folder: Path, affected: str) -> None:
    image = copy_of(affected, folder)
    (folder / "bin").chmod(0o700)
    assert probe(os.fspath(image)).verdict == Verdict(AFFECTED, "probe", AFFECTED_EVIDENCE)


def test_image_of_a_running_process_whose_file_was_replaced(folder: Path, affected: str) -> None:
    image = copy_of(affected, folder)
    before = Key.of(os.fspath(image))
    with Qemu(os.fspath(image), "-L", os.fspath(PREFIX / "share/qemu")) as running:
        image.unlink()
        script(image, "exit 1")
        told = probe(f"/proc/{running.pid}/exe")
        key = Key.of(f"/proc/{running.pid}/exe")
        now = probe(os.fspath(image))
    assert told == BinaryProbe(Verdict(AFFECTED, "probe", AFFECTED_EVIDENCE), "7.2.0", None, f"{image} (deleted)")
    assert key == before._replace(path=f"{image} (deleted)")
    assert now.verdict.verdict == UNKNOWN
    assert "wrapper" in now.verdict.evidence


def test_wrapper_is_started_when_allowed(folder: Path, qemu: str, kind: str) -> None:
    wrapper = script(folder / "wrapper", f'exec {qemu} "$@"')
    assert probe(wrapper).verdict.verdict == UNKNOWN
    told = probe(wrapper, allow_wrapper=True)
    assert told.verdict.verdict == kind
    assert told.path == wrapper


def test_wrapper_that_adds_an_option_that_breaks_it(folder: Path, qemu: str) -> None:
    wrapper = script(folder / "wrapper", f'exec {qemu} "$@" -accel tcg')
    told = probe(wrapper, allow_wrapper=True)
    assert told.verdict.verdict == UNKNOWN
    assert "accel" in told.verdict.evidence


def test_other_program() -> None:
    told = probe("/bin/sleep")
    assert told.verdict.verdict == UNKNOWN
    assert "sleep: " in told.verdict.evidence
    assert (told.version, told.package) == (None, None)


# pause() for ever: "mov $34, %eax; syscall; jmp" and "mov x8, #73 (ppoll with no end); movz x0..x4, #0; svc; b"
_PAUSE = {
    "x86_64": (62, bytes.fromhex("b822000000 0f05 ebf7")),
    "aarch64": (183, bytes.fromhex("280980d2 000080d2 010080d2 020080d2 030080d2 040080d2 010000d4 f9ffff17")),
}


def sleeper(folder: Path) -> str:
    """Write an ELF image that takes any arguments and does nothing, for ever."""
    machine, code = _PAUSE[platform.machine()]
    start = 0x400000
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, machine, 1, start + 120, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    size = 120 + len(code)
    path = folder / "sleeper"
    path.write_bytes(header + struct.pack("<IIQQQQQQ", 1, 5, 0, start, start, size, size, 0x1000) + code)
    path.chmod(0o755)
    return os.fspath(path)


def test_binary_that_hangs(folder: Path) -> None:
    image = sleeper(folder)
    assert probe(image, timeout=0.5).verdict == Verdict(
        UNKNOWN, "probe", "the binary did not answer within 0.5 seconds"
    )
    assert not processes_of(image)


def test_nothing_is_left_of_a_probe_that_is_killed(folder: Path) -> None:
    image = sleeper(folder)
    code = (
        "import sys; from ansible_collections.kvmops.console.plugins.module_utils import _qemu_probe as p\n"
        "p._FOLDERS = (sys.argv[2],)  # Where what a killed probe leaves behind is removed\n"
        "started = p._Qemu.greet\n"
        "p._Qemu.greet = lambda self, deadline: (print(self._process.pid, flush=True), started(self, deadline))[1]\n"
        "p.probe_binary(sys.argv[1], timeout=600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, image, os.fspath(folder)], stdout=subprocess.PIPE, text=True
    ) as prober:
        assert prober.stdout
        child = int(prober.stdout.readline())
        watched = os.pidfd_open(child)
        try:
            assert processes_of(image) == [child]
            prober.send_signal(signal.SIGKILL)
            assert select.select([watched], [], [], SECONDS)[0], "the probed binary outlives the probe"
        finally:
            os.close(watched)


def test_callers_at_the_same_time_probe_once(folder: Path, affected: str) -> None:
    (folder / "out").mkdir()
    (folder / "out").chmod(0o777)
    wrapper = script(folder / "wrapper", f'echo started >>{folder}/out/log; exec {affected} "$@"')
    code = (
        "import sys; from ansible_collections.kvmops.console.plugins.module_utils import _qemu_facts as p\n"
        "sys.stdin.read()\n"
        "told = p.probe_binary_cached(sys.argv[1], p.Cache(sys.argv[2]), timeout=60, allow_wrapper=True)\n"
        "print(told.verdict.verdict)"
    )
    command = [sys.executable, "-c", code, wrapper, os.fspath(folder / "probes")]
    with contextlib.ExitStack() as stack:
        callers = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _turn in range(4)
        ]
        for caller in callers:
            assert caller.stdin
            caller.stdin.close()
        assert [caller.stdout.read().strip() for caller in callers if caller.stdout] == [AFFECTED] * 4
    assert (folder / "out/log").read_text() == "started\n"
    again = _qemu_facts.probe_binary_cached(wrapper, Cache(os.fspath(folder / "probes")), allow_wrapper=True)
    assert (again.verdict.evidence, again.version) == (AFFECTED_EVIDENCE, "7.2.0")
    assert (folder / "out/log").read_text() == "started\n"


# --- A running server -------------------------------------------------------------------------------------------------


class Qemu:
    """A QEMU that runs meanwhile, without a guest, with QMP and with VNC on a unix socket."""

    def __init__(self, image: str, *options: str, power_control: bool = True, password: bool = False) -> None:
        self._folder = tempfile.mkdtemp(dir="/tmp")
        self.vnc = f"{self._folder}/v"
        self._qmp, theirs = socket.socketpair()
        self._qmp.settimeout(SECONDS)
        vnc = f"unix:{self.vnc},power-control={'on' if power_control else 'off'}"
        if password:
            vnc += ",password-secret=vnc"
        with theirs:
            self._process = subprocess.Popen(
                [
                    *(image, "-machine", "none", "-nodefaults", "-no-user-config", "-S", "-name", "web-1"),
                    *("-display", "none", "-monitor", "none", "-serial", "none"),
                    *("-chardev", f"socket,id=qmp,fd={theirs.fileno()}", "-mon", "chardev=qmp,mode=control"),
                    *("-object", f"secret,id=vnc,data={PASSWORD}", "-vnc", vnc, *options),
                ],
                pass_fds=(theirs.fileno(),),
            )
        self.pid = self._process.pid
        self._lines = self._qmp.makefile("r")
        self.events: list[str] = []

    def __enter__(self) -> Qemu:
        self._read()
        self.execute("qmp_capabilities")
        return self

    def __exit__(self, *_failure: object) -> None:
        self._process.kill()
        self._process.wait()
        self._lines.close()
        self._qmp.close()
        shutil.rmtree(self._folder)

    def _read(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._lines.readline())
        return message

    def execute(self, command: str, *descriptors: int, **arguments: Any) -> Any:
        text = json.dumps({"execute": command, "arguments": arguments}).encode()
        socket.send_fds(self._qmp, [text], descriptors)
        while True:
            answer = self._read()
            if "event" in answer:
                self.events.append(answer["event"])
                continue
            assert "return" in answer, answer
            return answer["return"]

    def hand_out(self, *, skipauth: bool) -> socket.socket:
        """Return a connection to the VNC server, as libvirt's virDomainOpenGraphicsFD makes one."""
        ours, theirs = socket.socketpair()
        with theirs:
            self.execute("getfd", theirs.fileno(), fdname="viewer")
            self.execute("add_client", protocol="vnc", fdname="viewer", skipauth=skipauth)
        return ours

    def power_events(self) -> set[str]:
        """What has been done to the guest until now."""
        self.execute("query-status")
        return POWER_EVENTS & set(self.events)


@pytest.mark.parametrize("password", [True, False])
def test_running_server(qemu: str, kind: str, password: bool) -> None:
    with Qemu(qemu, password=password) as running:
        told = _vnc.ask_running(running.hand_out(skipauth=True), power_control=True, timeout=SECONDS)
        assert told.verdict == kind
        assert not running.power_events()


def test_running_server_without_power_control(qemu: str) -> None:
    with Qemu(qemu, power_control=False) as running:
        told = _vnc.ask_running(running.hand_out(skipauth=True), power_control=False, timeout=SECONDS)
    assert told.verdict == UNKNOWN
    assert "power control is off" in told.evidence


def test_running_server_that_wants_its_password(qemu: str) -> None:
    with Qemu(qemu, password=True) as running, pytest.raises(VncRefused, match="lets nobody in without authentication"):
        _vnc.ask_running(running.hand_out(skipauth=False), power_control=True, timeout=SECONDS)


def test_running_server_that_hangs(qemu: str) -> None:
    with Qemu(qemu) as running:
        connection = running.hand_out(skipauth=True)
        os.kill(running.pid, signal.SIGSTOP)
        with pytest.raises(VncUnreachable, match=r"did not answer within 0\.3 seconds"):
            _vnc.ask_running(connection, power_control=True, timeout=0.3)


def test_viewers_are_not_disturbed(qemu: str, kind: str) -> None:
    with Qemu(qemu) as running, Viewer(running.vnc) as viewer:
        told = _vnc.ask_running(running.hand_out(skipauth=True), power_control=True, timeout=SECONDS)
        vnc_probe.probe(params(socket=running.vnc, check_gate=True))
        assert told.verdict == kind
        viewer.still_there()
        assert not running.power_events()


class Viewer:
    """Somebody who looks at the screen meanwhile."""

    def __init__(self, path: str) -> None:
        self._connection = socket.socket(socket.AF_UNIX)
        self._connection.settimeout(SECONDS)
        self._connection.connect(path)
        self._client = _rfb.Client()
        self._until(lambda event: isinstance(event, _rfb.ServerInit))

    def __enter__(self) -> Viewer:
        return self

    def __exit__(self, *_failure: object) -> None:
        self._connection.close()

    def _until(self, wanted: Callable[[_rfb.Event], bool]) -> None:
        while True:
            self._connection.sendall(self._client.data_to_send())
            data = self._connection.recv(65536)
            assert data, "the viewer was disconnected"
            events = self._client.receive_data(data)
            self._connection.sendall(self._client.data_to_send())
            if any(wanted(event) for event in events):
                return

    def still_there(self) -> None:
        self._client.send(_rfb.set_encodings(_rfb.EXTENDED_KEY))
        self._until(lambda event: isinstance(event, _rfb.Rectangle) and event.encoding == _rfb.EXTENDED_KEY)


# --- vnc_probe --------------------------------------------------------------------------------------------------------


def params(**given: Any) -> dict[str, Any]:
    """Return the options as AnsibleModule hands them over."""
    options = vnc_probe.vnc_probe_options()["argument_spec"]
    return {**{name: option.get("default") for name, option in options.items()}, "timeout": SECONDS, **given}


@pytest.mark.parametrize("power_control", [True, False])
@pytest.mark.parametrize("password", [PASSWORD, None])
def test_vnc_probe(qemu: str, kind: str, power_control: bool, password: str | None) -> None:
    with Qemu(qemu, power_control=power_control, password=password is not None) as running:
        result = vnc_probe.probe(params(socket=running.vnc, password=password, check_gate=True))
        assert not running.power_events()
    assert result["verdict"] == kind
    assert result["power_control"] is power_control
    assert result["pointer_change_unasked"] is (kind == AFFECTED and power_control)
    assert result["power_messages_gated"] is (kind == FIXED)
    assert result["desktop"] == {"name": "QEMU (web-1)", "width": 640, "height": 480}
    assert result["security_types"] == [
        {"number": 2, "name": "VNC authentication"} if password else {"number": 1, "name": "None"}
    ]


def test_vnc_probe_with_a_wrong_password(qemu: str) -> None:
    with Qemu(qemu, password=True) as running:
        with pytest.raises(VncRefused, match="refuses the password: Authentication failed") as caught:
            vnc_probe.probe(params(socket=running.vnc, password="sesame"))
        without = vnc_probe.probe(params(socket=running.vnc))
    assert "sesame" not in str(caught.value)
    assert (without["verdict"], without["authenticated"]) == (UNKNOWN, False)


def test_vnc_probe_over_the_websocket_of_qemu(qemu: str, kind: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain, socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        display = plain.getsockname()[1] - _vnc.FIRST_PORT
    web = f"127.0.0.1:{display},id=web,websocket={port},power-control=on"
    with Qemu(qemu, "-vnc", web) as running:
        result = vnc_probe.probe(params(url=f"ws://127.0.0.1:{port}/", check_gate=True))
        assert not running.power_events()
    assert result["verdict"] == kind


@contextlib.contextmanager
def websockify(target: str, *options: str) -> Iterator[int]:
    """Run a real websockify in front of a unix socket; yield its port. It is handed a listening socket: it is ready."""
    pytest.importorskip("websockify", reason="needs websockify (tests/tools/requirements)")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = int(listener.getsockname()[1])
        command = [sys.executable, "-m", "websockify", "--inetd", f"--unix-target={target}", *options]
        process = subprocess.Popen(command, stdin=listener.fileno(), stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        yield port
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_vnc_probe_over_websockify(qemu: str, kind: str) -> None:
    with Qemu(qemu, password=True) as running, websockify(running.vnc) as port:
        url = f"ws://127.0.0.1:{port}/websockify?token=geheim"
        result = vnc_probe.probe(params(url=url, password=PASSWORD, check_gate=True))
        assert not running.power_events()
    assert result["verdict"] == kind
    assert result["target"] == f"ws://127.0.0.1:{port}/websockify"


def test_vnc_probe_over_tls(folder: Path, affected: str) -> None:
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"),
            *("-addext", "subjectAltName=DNS:localhost", "-keyout", os.fspath(key), "-out", os.fspath(certificate)),
        ],
        check=True,
        capture_output=True,
    )
    options = (f"--cert={certificate}", f"--key={key}", "--ssl-only")
    with Qemu(affected) as running, websockify(running.vnc, *options) as port:
        url = f"wss://localhost:{port}/"
        with pytest.raises(VncUnreachable, match="certificate verify failed"):
            vnc_probe.probe(params(url=url))
        assert vnc_probe.probe(params(url=url, ca_path=os.fspath(certificate)))["verdict"] == AFFECTED
        assert vnc_probe.probe(params(url=url, validate_certs=False))["verdict"] == AFFECTED


def test_vnc_probe_of_a_web_server() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        text=True,
    ) as server:
        try:
            assert server.stdout
            port = int(server.stdout.readline().split(" port ")[1].split()[0])
            with pytest.raises(VncUnreachable, match="no WebSocket there, but the HTTP status 404"):
                vnc_probe.probe(params(url=f"ws://127.0.0.1:{port}/websockify"))
        finally:
            server.kill()
