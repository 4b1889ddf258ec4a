# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab itself: its hosts are hypervisors, stand side by side, and leave nothing behind."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from ansible_collections.kvmops.console.tests.lab.kvmlab import (
    AFFECTED_QEMU,
    DEMO,
    FIXED_QEMU,
    Demo,
    Host,
    Lab,
    LabError,
    domain_xml,
    fleet,
    init,
    inventory,
    network,
    seed,
    state,
    systemd,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the lab makes namespaces and mounts, and needs root for it")

COMMAND = Path(__file__).with_name("lab")
# Nobody else's hosts: others may run on the same machine.
PREFIX = f"test-{os.getpid()}"


def lab_command(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(COMMAND), *words], input=stdin, capture_output=True, text=True, timeout=300, check=False)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Lab(f"{PREFIX}-a", f"{PREFIX}-b") as running:
        yield running


@pytest.fixture
def host(lab: Lab) -> Host:
    return lab[f"{PREFIX}-a"]


@pytest.fixture
def other(lab: Lab) -> Host:
    return lab[f"{PREFIX}-b"]


@pytest.fixture
def short_lived() -> Iterator[str]:
    """The name of a host that a test starts and ends by itself."""
    name = f"{PREFIX}-short"
    yield name
    Lab().down(name)


@contextlib.contextmanager
def domain(host: Host, xml: str) -> Iterator[str]:
    """A domain that runs."""
    name = ET.fromstring(xml).findtext("name", "")
    host.virsh("define", "/dev/stdin", stdin=xml)
    try:
        host.virsh("start", name)
        yield name
    finally:
        host.virsh("destroy", name, check=False)
        host.virsh("undefine", name, "--managed-save")


def qemu_pid(host: Host) -> int:
    (pid,) = (pid for pid, name in host.processes() if name.startswith("qemu-system"))
    return pid


def traces(name: str, number: int) -> list[str]:
    """What a host has left on the machine."""
    found = [line for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines() if f"/{name}/" in line]
    links = json.loads(subprocess.check_output(["ip", "-json", "link"]))
    found += [link["ifname"] for link in links if link["ifname"] == f"{network.BRIDGE}-{number}"]
    found += [str(path) for path in (state.folder(name),) if path.exists()]
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            if name.encode() in words and state.started(int(entry.name)) is not None:
                found.append(words.decode(errors="replace"))
    return found


class TestHost:
    def test_stands_beside_another(self, host: Host, other: Host) -> None:
        names = [
            one.exec("sh", "-c", "hostname; cat /etc/hostname; virsh -q -c qemu:///system hostname").stdout.split()
            for one in (host, other)
        ]
        assert names == [[host.name] * 3, [other.name] * 3]
        assert {pid for pid, _name in host.processes()}.isdisjoint(pid for pid, _name in other.processes())
        uuids = {ET.fromstring(one.virsh("capabilities")).findtext("host/uuid") for one in (host, other)}
        assert len(uuids) == 2

    def test_has_its_own_domains(self, host: Host, other: Host) -> None:
        with domain(host, domain_xml("only-here")):
            assert host.virsh("list", "--name").split() == ["only-here"]
            assert other.virsh("list", "--all", "--name").split() == []

    @pytest.mark.parametrize(
        "folder", ["/etc", "/opt", "/run", "/usr/share", "/var/lib", "/var/lib/libvirt", "/dev/shm"]
    )
    def test_changes_no_file_but_its_own(self, host: Host, other: Host, folder: str) -> None:
        path = f"{folder}/{PREFIX}"
        host.exec("sh", "-c", f"echo here >{path}")
        assert (host.root / path[1:]).read_text(encoding="utf-8") == "here\n"
        assert not Path(path).exists()
        assert not (other.root / path[1:]).exists()

    def test_is_not_made_where_it_would_write_to_the_machine(self, tmp_path: Path) -> None:
        machine = {tmp_path.stat().st_dev}
        old = tmp_path / "old"
        old.write_text("the machine's", encoding="utf-8")
        for path in (old, tmp_path / "new", tmp_path / "folder" / "new"):
            with pytest.raises(OSError, match="the lab writes nothing there"):
                init.write_files({str(path): [0o644, "the host's"]}, machine)
        assert [entry.name for entry in tmp_path.iterdir()] == ["old"]
        assert old.read_text(encoding="utf-8") == "the machine's"
        assert os.stat("/etc").st_dev in init.machine_devices()

    def test_has_no_kvm(self, host: Host) -> None:
        assert not (host.root / "dev/kvm").exists()
        types = {one.get("type") for one in ET.fromstring(host.virsh("capabilities")).iterfind("guest/arch/domain")}
        assert types == {"qemu"}

    def test_sees_its_network_and_the_other_host_and_no_way_out(self, host: Host, other: Host) -> None:
        routes = json.loads(host.exec("ip", "-json", "route").stdout)
        assert [route["dev"] for route in routes] == ["eth0"]
        script = "import socket, sys; print(socket.create_connection((sys.argv[1], 22), 20).recv(4).decode())"
        assert host.exec("/usr/bin/python3", "-c", script, other.address).stdout == "SSH-\n"
        assert host.exec("/usr/bin/python3", "-c", script, "127.0.0.1", check=False).returncode == 1

    def test_is_reached_from_outside_by_its_uri(self, host: Host) -> None:
        answer = subprocess.check_output(["virsh", "-q", "-c", host.uri, "hostname"], text=True)
        assert answer.strip() == host.name

    def test_runs_qemu_as_another_user(self, host: Host) -> None:
        with domain(host, domain_xml("user")):
            assert Path(f"/proc/{qemu_pid(host)}").stat().st_uid != 0
            assert os.readlink(f"/proc/{qemu_pid(host)}/exe") == AFFECTED_QEMU

    def test_takes_in_orphans(self, host: Host) -> None:
        subprocess.run(host.command("setsid", "--fork", "sleep", "600"), check=True)
        (orphan,) = (pid for pid, name in host.processes() if name in ("setsid", "sleep"))
        descriptor = os.pidfd_open(orphan)
        until = time.monotonic() + 30
        gone = False
        while not gone and time.monotonic() < until:
            try:
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            except ProcessLookupError:  # a zombie would take signals for ever
                gone = True
        os.close(descriptor)
        assert gone

    def test_can_be_the_machine_of_another_lab(self, host: Host) -> None:
        # As in a container with CAP_SYS_ADMIN, whose root is an overlay; with a file system of its own below /var.
        storage, name = "/var/lib/storage", f"{PREFIX}-inner"
        lab = str(COMMAND)
        host.exec("mkdir", storage)
        host.exec("mount", "--bind", str(COMMAND.parent), storage)
        try:
            host.exec(lab, "up", name)
            assert host.exec(lab, "exec", name, "--", "virsh", "-q", "hostname").stdout.strip() == name
            inside = host.exec(lab, "exec", name, "--", "ls", "-A", storage).stdout.split()
            assert sorted(inside) == sorted(os.listdir(COMMAND.parent))
            host.exec(lab, "exec", name, "--", "touch", f"{storage}/{PREFIX}")
            assert not (COMMAND.parent / PREFIX).exists()
        finally:
            host.exec(lab, "down", "--all")
            host.exec("umount", storage)
        assert json.loads(host.exec("ip", "-json", "link").stdout)[-1]["ifname"] == "eth0"
        assert not (host.root / "run/kvmops-lab").exists()


class TestExec:
    def test_passes_streams_and_status(self, host: Host) -> None:
        done = lab_command("exec", host.name, "--", "sh", "-c", "cat; echo wrong >&2; exit 7", stdin="given\n")
        assert (done.stdout, done.stderr, done.returncode) == ("given\n", "wrong\n", 7)

    def test_passes_words_as_they_are(self, host: Host) -> None:
        words = ["a b", "ü", "$HOME", "--", "'", ""]
        done = lab_command("exec", host.name, "--", "printf", "[%s]", *words)
        assert done.stdout == "".join(f"[{word}]" for word in words)

    def test_starts_where_the_caller_is(self, host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        assert host.exec("pwd").stdout.strip() == str(tmp_path)

    def test_tells_a_failure(self, host: Host) -> None:
        with pytest.raises(LabError, match="no such thing"):
            host.exec("sh", "-c", "echo no such thing >&2; exit 1")

    def test_of_a_host_that_is_not_up(self) -> None:
        done = lab_command("exec", f"{PREFIX}-none", "--", "true")
        assert (done.returncode, done.stderr) == (
            1,
            f"lab: the host {PREFIX}-none is not up: start it with 'lab up {PREFIX}-none'.\n",
        )


class TestUp:
    def test_again_changes_nothing(self, lab: Lab, host: Host) -> None:
        before = host.processes()
        (again,) = lab.up(host.name)
        assert again.pid == host.pid
        assert again.processes() == before

    def test_is_locked_out_while_another_works(self, short_lived: str) -> None:
        with state.locked(60):
            done = lab_command("up", short_lived)
        assert done.returncode == 1
        assert f"another lab command is at work (process {os.getpid()})" in done.stderr
        assert not state.folder(short_lived).exists()

    @pytest.mark.parametrize("name", ["", "..", "A", "a_b", "a/b", "-a", "a" * 50])
    def test_refuses_what_is_no_name(self, name: str) -> None:
        with pytest.raises(LabError, match="can't be a host's name"):
            Lab().up(name)

    def test_says_what_is_missing_without_the_right_to_make_namespaces(self, short_lived: str) -> None:
        bare = ["setpriv", "--inh-caps=-sys_admin", "--bounding-set=-sys_admin", str(COMMAND), "up", "--wait", "60"]
        done = subprocess.run([*bare, short_lived], capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 1
        assert "allows no new namespaces" in done.stderr
        assert "CAP_SYS_ADMIN" in done.stderr
        assert not state.folder(short_lived).exists()

    def test_takes_a_network_that_nobody_uses(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(network, "_used", lambda: iter([ipaddress.IPv4Network("10.0.0.0/8")]))
        assert not network._free().overlaps(ipaddress.IPv4Network("10.0.0.0/8"))
        monkeypatch.setattr(network, "_used", lambda: iter([ipaddress.IPv4Network("0.0.0.0/0")]))
        with pytest.raises(LabError, match="no private network is free"):
            network._free()


class TestDown:
    def test_leaves_nothing_behind(self, short_lived: str) -> None:
        with Lab(short_lived) as lab:
            host = lab[short_lived]
            variables = inventory.variables({**_record(short_lived)})
            control = f"{variables['ansible_control_path_dir']}/test"
            # As Ansible does: the connection stays open, in a process on the machine.
            options = ["-o", "ControlMaster=auto", "-o", "ControlPersist=600", "-o", f"ControlPath={control}"]
            subprocess.run(
                [*ssh(variables, *options), "true"], stdin=subprocess.DEVNULL, capture_output=True, check=True
            )
            host.virsh("define", "/dev/stdin", stdin=domain_xml("left"))
            host.virsh("start", "left")
            number = _record(short_lived)["number"]
            pids = [pid for pid, _name in host.processes()]
            # PID 1, libvirtd, sshd, QEMU; files, a link, and what ssh holds open
            assert len(pids) >= 4
            assert len(traces(short_lived, number)) >= 3
            assert os.path.exists(control)
            # Without its cable the host can't tell ssh that it ends.
            network.unplug(number)
        assert traces(short_lived, number) == []
        assert [pid for pid in pids if state.started(pid) is not None] == []
        assert short_lived not in {one["name"] for one in lab.list()}

    def test_of_no_host_is_fine(self) -> None:
        assert lab_command("down", "--wait", "60", f"{PREFIX}-none").returncode == 0

    def test_asks_for_names(self) -> None:
        done = lab_command("down")
        assert (done.returncode, done.stderr) == (1, "lab: name the hosts to end, or say --all.\n")

    def test_after_the_host_was_killed(self, short_lived: str) -> None:
        with Lab(short_lived) as lab:
            number = _record(short_lived)["number"]
            descriptor = os.pidfd_open(lab[short_lived].pid)
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
            assert select.select([descriptor], [], [], 30)[0]
            os.close(descriptor)
            assert [one["state"] for one in lab.list() if one["name"] == short_lived] == ["dead"]
            with pytest.raises(LabError, match="is not up"):
                lab[short_lived]
            # A dead host can be started again too.
            (again,) = lab.up(short_lived)
            assert again.virsh("hostname") == short_lived
            os.kill(again.pid, signal.SIGKILL)
        assert traces(short_lived, number) == []

    def test_after_up_was_killed_half_way(self, short_lived: str) -> None:
        script = (
            "import os, signal, sys\n"
            "from ansible_collections.kvmops.console.tests.lab.kvmlab import Lab, services\n"
            "services.files = lambda *words: os.kill(os.getpid(), signal.SIGKILL)\n"
            "Lab().up(sys.argv[1])\n"
        )
        done = subprocess.run([sys.executable, "-c", script, short_lived], env={**os.environ, **_path()}, check=False)
        assert done.returncode == -signal.SIGKILL
        record = _record(short_lived)
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(record["pid"])
            assert select.select([descriptor], [], [], 30)[0]  # its PID 1 ends by itself
            os.close(descriptor)
        Lab().down(short_lived)
        assert traces(short_lived, record["number"]) == []

    def test_after_up_failed(self, short_lived: str, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(record: state.Record) -> None:
            raise LabError("no libvirtd today")

        monkeypatch.setattr("ansible_collections.kvmops.console.tests.lab.kvmlab.services.start_libvirtd", fail)
        with pytest.raises(LabError, match="no libvirtd today"):
            Lab().up(short_lived)
        assert not state.folder(short_lived).exists()


def _path() -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}


def _record(name: str) -> state.Record:
    record = state.read(name)
    assert record is not None
    return record


def ssh(variables: dict[str, str], *options: str) -> list[str]:
    words = variables["ansible_ssh_common_args"].split()
    key = variables["ansible_ssh_private_key_file"]
    return ["ssh", *words, "-i", key, "-o", "BatchMode=yes", *options, f"root@{variables['ansible_host']}"]


class TestInventory:
    def test_is_yaml(self, lab: Lab, host: Host, other: Host) -> None:
        yaml = pytest.importorskip("yaml", reason="PyYAML, which comes with Ansible, reads the inventory back")
        hosts = yaml.safe_load(lab.inventory(host.name, other.name))["all"]["children"]["lab"]["hosts"]
        assert hosts == {one.name: inventory.variables(_record(one.name)) for one in (host, other)}
        assert yaml.safe_load(host.inventory())["all"]["children"]["lab"]["hosts"].keys() == {host.name}

    def test_reaches_the_host(self, host: Host) -> None:
        variables = inventory.variables(_record(host.name))
        command = [*ssh(variables), "hostname; id -u; echo $HOME; test -t 0 || echo no terminal"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout.splitlines() == [host.name, "0", "/var/lib/kvmops-lab/root", "no terminal"]

    def test_of_a_host_that_is_not_up(self) -> None:
        with pytest.raises(LabError, match="is not up"):
            Lab().inventory(f"{PREFIX}-none")


class TestSshd:
    def test_stopped_cannot_be_reached_until_it_is_started(self, host: Host) -> None:
        address = (host.address, host.ssh_port)
        assert lab_command("sshd", host.name, "stop").returncode == 0
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, 20)
        host.sshd("start")
        socket.create_connection(address, 20).close()

    def test_knows_what_it_can_do(self, host: Host) -> None:
        with pytest.raises(LabError, match="start or stop"):
            host.sshd("pause")


class TestFleet:
    def test_refuses_a_member_that_it_does_not_know(self) -> None:
        with pytest.raises(LabError, match="no member nonsense"):
            fleet.begin(["affected", "nonsense"])

    def test_inventory_tells_who_is_sound_and_as_whom_to_come(
        self, lab: Lab, host: Host, other: Host, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        yaml = pytest.importorskip("yaml", reason="PyYAML, which comes with Ansible, reads the inventory back")
        monkeypatch.setattr(fleet, "PREFIX", f"{PREFIX}-")
        members = {
            "a": fleet.Member((Demo("one", state="off"),)),
            "b": fleet.Member((), after=lambda host: host.sshd("stop"), user="reader", sound=False),
        }
        monkeypatch.setattr(fleet, "MEMBERS", members)
        for _again in range(2):
            groups = yaml.safe_load(fleet.begin(wait=60))["all"]["children"]
            assert groups["lab"]["hosts"][host.name]["ansible_user"] == "root"
            assert groups["lab"]["hosts"][other.name]["ansible_user"] == "reader"
            assert groups["sound"]["hosts"] == {host.name: {}}
            assert "one" in host.virsh("list", "--all", "--name").split()
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((other.address, other.ssh_port), 20)
        other.sshd("start")
        host.virsh("undefine", "one")


class TestSystemd:
    def test_is_what_comers_by_ssh_meet_and_ends_with_its_host(self, short_lived: str) -> None:
        if systemd.missing():
            pytest.skip(str(systemd.missing()))
        (host,) = Lab().up(short_lived)
        first = systemd.start(host, ssh=True)
        assert systemd.start(host, ssh=True) == first, "one that runs is left alone"
        begun = state.started(first)
        variables = host.variables()
        words = ["ssh", *variables["ansible_ssh_common_args"].split(), "-i", variables["ansible_ssh_private_key_file"]]
        words += [f"root@{host.address}", "cat /proc/1/comm; systemctl is-system-running"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
        assert done.stdout.split() == ["systemd", "running"], done.stderr
        Lab().down(short_lived)
        assert state.started(first) != begun
        assert not list(Path("/sys/fs/cgroup").glob(f"**/kvmops-{short_lived}"))


class TestLibvirtd:
    def test_killed_and_started_again_keeps_the_guests(self, host: Host) -> None:
        with domain(host, domain_xml("survivor")):
            before = qemu_pid(host)
            host.libvirtd("kill")
            assert host.libvirtd_pid() is None
            assert host.virsh("list", check=False) == ""
            assert qemu_pid(host) == before
            host.libvirtd("start")
            assert host.virsh("list", "--name").split() == ["survivor"]
            assert qemu_pid(host) == before

    def test_restart_is_another_process(self, host: Host) -> None:
        before = host.libvirtd_pid()
        assert lab_command("libvirtd", host.name, "restart").returncode == 0
        assert host.libvirtd_pid() not in (before, None)

    def test_that_does_not_start_is_told_with_the_end_of_its_log(self, host: Host) -> None:
        path = host.root / "etc/libvirt/libvirtd.conf"
        good = path.read_text(encoding="utf-8")
        host.libvirtd("stop")
        path.write_text("auth_unix_rw = nonsense\n", encoding="utf-8")
        try:
            with pytest.raises(LabError, match=r"(?s)libvirtd ended instead of starting.*libvirtd\.conf"):
                host.libvirtd("start")
        finally:
            path.write_text(good, encoding="utf-8")
            host.libvirtd("start")

    def test_knows_what_it_can_do(self, host: Host) -> None:
        with pytest.raises(LabError, match="start, stop, kill or restart"):
            host.libvirtd("pause")


def unsolicited_rectangle(address: tuple[str, int]) -> bool:
    """Whether a VNC server sends -257 to a client that asked for XVP alone (RFC 6143 section 7; rfbproto for XVP)."""
    with socket.create_connection(address, timeout=30) as connection, connection.makefile("rwb") as stream:

        def say(message: bytes) -> None:
            stream.write(message)
            stream.flush()

        say(stream.read(12))
        assert stream.read(stream.read(1)[0]) == b"\x01"
        say(b"\x01")
        assert stream.read(4) == bytes(4)
        say(b"\x01")
        stream.read(struct.unpack(">20xI", stream.read(24))[0])
        # XVP; then the extended key event, whose acknowledgement ends the exchange
        for encoding in (-309, -258):
            say(struct.pack(">BxHi", 2, 1, encoding))
        seen = []
        while -258 not in seen:
            if stream.read(1) == b"\xfa":
                stream.read(3)
            else:
                assert stream.read(3) == b"\x00\x00\x01"
                seen.append(struct.unpack(">8xi", stream.read(12))[0])
        return -257 in seen


class TestDomains:
    @pytest.mark.parametrize(
        ("emulator", "power_control", "expected"),
        [(AFFECTED_QEMU, "yes", True), (AFFECTED_QEMU, "no", False), (FIXED_QEMU, "yes", False)],
    )
    def test_have_the_bug_where_they_should(
        self, host: Host, emulator: str, power_control: str, expected: bool
    ) -> None:
        xml = domain_xml("bug", emulator=emulator, power_control=power_control, listen=host.address)
        with domain(host, xml):
            port = 5900 + int(host.virsh("vncdisplay", "bug").rpartition(":")[2])
            assert unsolicited_rectangle((host.address, port)) is expected

    def test_can_be_saved_and_come_back(self, host: Host) -> None:
        with domain(host, domain_xml("saved", power_control="yes", password="secret")):
            host.virsh("managedsave", "saved")
            assert "powerControl='yes'" in host.virsh("managedsave-dumpxml", "saved")
            host.virsh("start", "saved")
            assert host.virsh("domstate", "saved") == "running"

    def test_guest_boots_and_ends_at_the_button(self, host: Host) -> None:
        gateway = str(next(ipaddress.IPv4Network(f"{host.address}/24", strict=False).hosts()))
        with socket.create_server((gateway, 0)) as server:
            server.settimeout(60)
            serial = (
                f'<serial type="tcp"><source mode="connect" host="{gateway}" service="{server.getsockname()[1]}"/>'
                '<protocol type="raw"/></serial>'
            )
            with domain(host, domain_xml("guest", guest=True, serial=serial)):
                connection, _address = server.accept()
                with connection, connection.makefile("rb") as lines:
                    connection.settimeout(240)
                    assert any(line.strip() == b"LAB GUEST READY" for line in lines)
                process = os.pidfd_open(qemu_pid(host))
                host.virsh("shutdown", "guest", "--mode", "acpi")
                assert select.select([process], [], [], 120)[0]
                os.close(process)

    def test_graphics_are_what_was_asked_for(self, host: Host) -> None:
        host.virsh("define", "/dev/stdin", stdin=domain_xml("none & <all>", graphics=(), tablet=False))
        try:
            told = ET.fromstring(host.virsh("dumpxml", "none & <all>"))
        finally:
            host.virsh("undefine", "none & <all>")
        assert told.findall("devices/graphics") == []
        assert [one.get("type") for one in told.iterfind("devices/input")] == ["mouse", "keyboard"]


def power_control(host: Host, name: str, *options: str) -> str | None:
    graphics = ET.fromstring(host.virsh("dumpxml", name, *options)).find("devices/graphics")
    return None if graphics is None else graphics.get("powerControl")


class TestSeed:
    def test_puts_the_demo_on_a_host_again_and_again(self, other: Host) -> None:
        assert len(seed(other)) == len(DEMO)
        assert seed(other, ["database", "archive"]) == ["database", "archive"]
        states = {one.name: other.virsh("domstate", one.name) for one in DEMO}
        assert states == {one.name: "running" if one.state == "running" else "shut off" for one in DEMO}
        # A restart is pending, and a saved state carries another value.
        assert power_control(other, "database") == "yes"
        assert power_control(other, "database", "--inactive") == "no"
        assert "powerControl='yes'" in other.virsh("managedsave-dumpxml", "archive")
        assert power_control(other, "archive") == "no"
        assert power_control(other, "büro pc 7") == "yes"
        assert power_control(other, "monitoring") is None

    def test_refuses_a_name_that_it_does_not_know(self, host: Host) -> None:
        with pytest.raises(LabError, match="no domain nonsense"):
            seed(host, ["nonsense"])
