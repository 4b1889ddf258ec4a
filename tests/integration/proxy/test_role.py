# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role vnc_proxy and the playbook deploy_proxy: on a host with a real systemd, up to its removal."""

from __future__ import annotations

import configparser
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ansible_collections
import pytest
import yaml

from ansible_collections.kvmops.console.tests.integration.booted import Booted, systemd, until
from ansible_collections.kvmops.console.tests.lab.kvmlab import FIXED_QEMU, Lab, domain_xml

websocket = pytest.importorskip("websocket", reason="websocket-client is not installed")

COLLECTION = Path(__file__).resolve().parents[3]
COLLECTIONS = Path(next(iter(ansible_collections.__path__))).parent
ROLE = COLLECTION / "roles/vnc_proxy"
LOCK = ROLE / "files/requirements.txt"
CACHE = Path(os.environ.get("KVMOPS_CACHE") or "/var/cache/kvmops-console")
ANSIBLE_PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
PYTHON = "/usr/bin/python3"

UNIT = "kvmops-vnc-proxy.service"
SOCKETS = ("kvmops-vnc-proxy-browsers.socket", "kvmops-vnc-proxy-nginx.socket", "kvmops-vnc-proxy-viewers.socket")
VERSIONS = "/usr/local/lib/kvmops-vnc-proxy"
ETC = "/etc/kvmops-vnc-proxy"
MADE = (
    VERSIONS,
    "/usr/local/bin/kvmops-vnc-proxy",
    "/var/lib/kvmops-vnc-proxy",
    "/run/kvmops-vnc-proxy",
    "/etc/polkit-1/rules.d/50-kvmops-vnc-proxy.rules",
    *(f"/etc/systemd/system/{unit}" for unit in (UNIT, *SOCKETS)),
)
SECRET = "an-old-secret-of-the-portal-0123456789"
WEB = "/run/kvmops-web.sock"
MOST_EXPOSED = 2.0


# --- What is written down twice ---------------------------------------------------------------------------------------


def _options(found: dict[str, Any]) -> dict[str, Any]:
    """The names that an argument specification knows, nested; {} for what is not looked into."""
    return {name: _options(option["options"]) if "options" in option else {} for name, option in found.items()}


def _keys(schema: dict[str, Any], top: dict[str, Any]) -> dict[str, Any]:
    """The same of the configuration's schema."""
    found = top["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    properties = found.get("properties") or found.get("items", {}).get("properties") or {}
    return {name: _keys(each, top) for name, each in properties.items()}


def test_variables_are_the_configuration_s_keys() -> None:
    specs = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]
    options = {name: option for spec in specs.values() for name, option in spec["options"].items()}
    assert sorted(options) == sorted(yaml.safe_load((ROLE / "defaults/main.yml").read_text(encoding="utf-8")))
    schema = json.loads((ROLE / "files/kvmops_vnc_proxy/config.schema.json").read_text(encoding="utf-8"))
    known = {name.replace("vnc_proxy_", "", 1): _options(option.get("options", {})) for name, option in options.items()}
    wanted = _keys(schema, schema)
    # These are said with one variable each, and hold one value each.
    assert wanted.pop("metrics") == {"from": {}}
    assert wanted.pop("audit") == {"file": {}}
    assert {"metrics_from", "audit_file"} < known.keys()
    assert {name: known[name] for name in wanted} == wanted


def test_lock_names_hashes_of_every_library() -> None:
    lines = [line for line in LOCK.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    pins = [line for line in lines if not line.startswith(" ")]
    # No markers: where wheels are downloaded for other hosts, pip judges them by its own Python.
    names = [re.fullmatch(r"([a-z-]+)==[0-9.]+ \\", pin) for pin in pins]
    assert [name and name[1] for name in names] == ["prometheus-client", "pyjwt", "typing-extensions", "websockets"]
    hashes = [line for line in lines if line.startswith(" ")]
    assert len(hashes) >= 2 * len(pins)
    assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in hashes)


# --- The rules for polkit ---------------------------------------------------------------------------------------------

# polkit as its rules see it: they are asked until one has an answer.
POLKIT = """
const rules = [];
const polkit = {Result: {YES: "yes", NO: "no", NOT_HANDLED: null}, addRule: (rule) => rules.push(rule)};
const cases = JSON.parse(require("fs").readFileSync(0, "utf8"));
eval(cases.rule);
console.log(JSON.stringify(cases.asked.map(([user, id, details]) =>
    rules[0]({id: id, lookup: (key) => details[key]}, {user: user}))));
"""
API = "org.libvirt.api"


def rendered(name: str, folder: Path, **variables: object) -> str:
    """What the role writes."""
    given = {"vnc_proxy_user": "kvmops-vnc-proxy", "ansible_python_interpreter": sys.executable, **variables}
    words = [os.fspath(ANSIBLE_PLAYBOOK.with_name("ansible")), "-i", "localhost,", "-c", "local", "localhost"]
    words += ["-m", "ansible.builtin.template", "-a", f"src={ROLE}/templates/{name}.j2 dest={folder}/{name}"]
    environment = {**os.environ, "ANSIBLE_HOME": os.fspath(folder / "home")}
    done = subprocess.run(
        [*words, "-e", json.dumps(given)], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return (folder / name).read_text(encoding="utf-8")


@pytest.mark.skipif(not shutil.which("node"), reason="there is no Node.js to run polkit's rule")
def test_rule_allows_consoles_and_nothing_else(tmp_path: Path) -> None:
    us, web = "kvmops-vnc-proxy", {"domain_name": "web-1", "domain_uuid": "u-1"}
    asked = [
        (us, "org.libvirt.unix.manage", {}, "yes"),
        (us, f"{API}.connect.getattr", {}, "yes"),
        (us, f"{API}.domain.getattr", web, "yes"),
        (us, f"{API}.domain.read", web, "yes"),
        (us, f"{API}.domain.open-graphics", web, "yes"),
        (us, f"{API}.domain.open-graphics", {"domain_name": "by its UUID", "domain_uuid": "u-2"}, "yes"),
        (us, f"{API}.domain.open-graphics", {"domain_name": "other", "domain_uuid": "u-3"}, "no"),
        (us, f"{API}.domain.stop", web, "no"),
        (us, f"{API}.domain.read-secure", web, "no"),
        (us, f"{API}.connect.write", {}, "no"),
        (us, "org.libvirt.unix.monitor", {}, "no"),
        (us, "org.freedesktop.systemd1.manage-units", {}, None),
        ("root", "org.libvirt.unix.manage", {}, None),
        ("another", f"{API}.domain.stop", web, None),
    ]
    rule = rendered("kvmops-vnc-proxy.rules", tmp_path, vnc_proxy_polkit_domains=["web-1", "u-2"])
    done = subprocess.run(
        ["node", "-e", POLKIT],
        input=json.dumps({"rule": rule, "asked": [case[:3] for case in asked]}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [case[3] for case in asked]


def test_old_form_of_the_rule_allows_the_same(tmp_path: Path) -> None:
    parser = configparser.ConfigParser(delimiters="=", interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(rendered("kvmops-vnc-proxy.pkla", tmp_path))
    (section,) = parser.sections()
    found = dict(parser[section])
    actions = re.findall(
        r'"(org\.libvirt\.[a-z.-]+[a-z])"', rendered("kvmops-vnc-proxy.rules", tmp_path, vnc_proxy_polkit_domains=[])
    )
    assert found.pop("Action").split(";") == actions
    assert found.pop("Identity") == "unix-user:kvmops-vnc-proxy"
    assert found == {"ResultAny": "yes", "ResultInactive": "yes", "ResultActive": "yes"}


# --- The host ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wheels() -> Path:
    """A folder with what the lock file names, for the machine's Python, which may lack pip: the lab has no way out."""
    version = subprocess.run([PYTHON, "--version"], capture_output=True, text=True, check=True).stdout
    folder = CACHE / "wheels" / hashlib.sha256(LOCK.read_bytes() + version.encode()).hexdigest()[:16]
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        words = [
            "download",
            "--quiet",
            "--no-deps",
            "--require-hashes",
            "--only-binary=:all:",
            "--disable-pip-version-check",
        ]
        done = subprocess.run(
            [sys.executable, "-m", "pip", *words, "--dest", os.fspath(folder), "--requirement", os.fspath(LOCK)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode and "Could not find a version" not in done.stderr and "HASHES" not in done.stderr:
            pytest.skip(f"the lock file's wheels can't be had: {done.stderr.strip().splitlines()[-1]}")
        assert done.returncode == 0, done.stderr
        (folder / "complete").touch()
    return folder


class Console:
    """A session over a WebSocket through the proxy, as far as the picture's first bytes."""

    def __init__(self, path: Path, url: str) -> None:
        self._rest = b""
        raw = socket.socket(socket.AF_UNIX)
        try:
            raw.settimeout(60)
            raw.connect(os.fspath(path))
            self._web = websocket.create_connection(f"ws://localhost{url}", socket=raw, timeout=60)
        except BaseException:
            raw.close()
            raise
        assert self._read(12) == b"RFB 003.008\n"
        self._web.send_binary(b"RFB 003.008\n")
        assert 1 in self._read(self._read(1)[0])
        self._web.send_binary(b"\x01")
        assert self._read(4) == bytes(4)
        self._web.send_binary(b"\x01")
        head = self._read(24)
        self.width = int.from_bytes(head[:2], "big")
        self.desktop = self._read(int.from_bytes(head[20:], "big")).decode()

    def _read(self, count: int) -> bytes:
        while len(self._rest) < count:
            opcode, data = self._web.recv_data()
            assert opcode == websocket.ABNF.OPCODE_BINARY, (opcode, data)
            self._rest += data
        found, self._rest = self._rest[:count], self._rest[count:]
        return found

    def look(self) -> None:
        """Ask for a pixel, and get the beginning of a FramebufferUpdate: to be done once."""
        self._web.send_binary(b"\x03\x00" + bytes(4) + b"\x00\x01\x00\x01")
        head = self._read(4)
        assert (head[0], int.from_bytes(head[2:], "big") > 0) == (0, True), head

    def close(self) -> None:
        self._web.close()


class Proxied:
    """A host with a systemd, a QEMU and a domain, on which Ansible deploys the proxy."""

    def __init__(self, booted: Booted, folder: Path, wheels: Path) -> None:
        self.booted = booted
        self.folder = folder
        self._wheels = wheels

    def variables(self) -> dict[str, Any]:
        return {
            "ansible_python_interpreter": sys.executable,
            "vnc_proxy_install": "venv",
            "vnc_proxy_wheels": os.fspath(self._wheels),
            # What the machine has: a host of the lab can't install packages.
            "vnc_proxy_packages_of": {"venv": {}},
            "vnc_proxy_polkit": "rules",
            "vnc_proxy_polkit_domains": ["web-1"],
            "vnc_proxy_users": {"by": ["token"]},
            "vnc_proxy_files": {"jwt.key": SECRET},
            "vnc_proxy_tokens": {"jwt": {"algorithm": "HS256", "single_use": True}},
            "vnc_proxy_targets": {"lone": {"unix": "/run/lone.vnc"}},
            "vnc_proxy_domains": {"open_by_name": True},
            "vnc_proxy_trusted_proxies": ["unix"],
            # A session of these tests answers no ping while a play runs.
            "vnc_proxy_limits": {"ping_seconds": 3600},
            "vnc_proxy_listeners": [
                {"name": "browsers", "kind": "web", "address": "127.0.0.1", "port": 6080},
                {"name": "nginx", "kind": "web", "unix": WEB, "mode": "660"},
                {"name": "viewers", "kind": "vnc", "address": "::", "port": 443, "target": "lone"},
            ],
        }

    def play(self, *words: str, collections: Path = COLLECTIONS, wrong: bool = False, **more: object) -> str:
        """Run the playbook on the host, by Ansible there; what it says. `wrong`: it has to fail."""
        command = [os.fspath(ANSIBLE_PLAYBOOK), "-i", "localhost,", "-c", "local", "kvmops.console.deploy_proxy"]
        done = self.booted.run(
            *command,
            *("-e", json.dumps({**self.variables(), **more}), *words),
            env={
                "ANSIBLE_HOME": os.fspath(self.folder / "home"),
                "ANSIBLE_NOCOLOR": "1",
                "ANSIBLE_COLLECTIONS_PATH": os.fspath(collections),
            },
        )
        said = done.stdout + done.stderr
        assert (done.returncode != 0) == wrong, said
        assert SECRET not in said
        return said

    def exists(self, path: str) -> bool:
        return os.path.lexists(f"{self.booted.root}{path}")

    def read(self, path: str) -> str:
        return Path(f"{self.booted.root}{path}").read_text(encoding="utf-8")

    def token(self, *words: str) -> str:
        config = f"{ETC}/config.json"
        return self.booted.tell("kvmops-vnc-proxy", "token", "--config", config, "--seconds", "600", *words).strip()

    def open(self, place: str, **of: str) -> Console:
        """A console, with a token of its own."""
        token = self.token(*(word for name, value in of.items() for word in (f"--{name}", value)))
        return Console(Path(f"{self.booted.root}{WEB}"), f"{place}?token={token}")

    def process(self) -> str:
        return self.booted.tell("systemctl", "show", "--property=MainPID", "--value", UNIT).strip()

    def current(self) -> str:
        return os.readlink(f"{self.booted.root}{VERSIONS}/current")

    def journal(self) -> str:
        self.booted.tell("journalctl", "--sync")
        return self.booted.tell("journalctl", "--no-pager", "--output=cat", f"--unit={UNIT}")


@pytest.fixture
def host(tmp_path: Path, wheels: Path) -> Iterator[Proxied]:
    # Its own host: systemd takes over much of it.
    with Lab("it-proxy-role") as lab, systemd(lab["it-proxy-role"]) as booted:
        host = lab["it-proxy-role"]
        host.virsh("define", "/dev/stdin", stdin=domain_xml("web-1", emulator=FIXED_QEMU))
        host.virsh("start", "web-1")
        words = f"{FIXED_QEMU} -name lone -display none -nic none -accel tcg -m 32 -vga std -S -daemonize"
        host.exec(*words.split(), "-vnc", "unix:/run/lone.vnc", "-pidfile", "/run/lone.pid")
        host.exec("chmod", "666", "/run/lone.vnc")
        host.exec("chmod", "666", "/run/libvirt/libvirt-sock")
        yield Proxied(booted, tmp_path, wheels)
        host.exec("sh", "-c", "kill -9 $(cat /run/lone.pid)")


def of_another_version(folder: Path) -> Path:
    """The collection as it may be after an upgrade: where it lies."""
    place = folder / "upgraded/ansible_collections/kvmops/console"
    for name in ("meta", "playbooks", "plugins", "roles"):
        shutil.copytree(COLLECTION / name, place / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(COLLECTION / "galaxy.yml", place)
    code = place / "roles/vnc_proxy/files/kvmops_vnc_proxy/__init__.py"
    code.write_text(
        re.sub('__version__ = ".*"', '__version__ = "99.0.0"', code.read_text(encoding="utf-8")), encoding="utf-8"
    )
    return folder / "upgraded"


def exposure(said: str) -> float:
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+) ", said)
    assert found, said
    return float(found[1])


def test_from_deployment_to_removal(host: Proxied, tmp_path: Path) -> None:
    """One host for all of it: each step takes up where the one before has ended."""
    deploy(host)
    deploy_again(host)
    upgraded = of_another_version(tmp_path)
    upgrade(host, upgraded)
    refuse(host, upgraded)
    move(host, upgraded)
    remove(host)


def deploy(host: Proxied) -> None:
    foreseen = host.play("--check", "--diff")
    assert "failed=0" in foreseen
    assert not any(map(host.exists, (*MADE, ETC)))
    host.play()
    units = [f"/etc/systemd/system/{unit}" for unit in (UNIT, *SOCKETS)]
    judged = host.booted.run("systemd-analyze", "verify", "--man=no", *units)
    assert (judged.returncode, judged.stdout, judged.stderr) == (0, "", "")
    exposed = exposure(host.booted.tell("systemd-analyze", "security", "--offline=true", "--no-pager", units[0]))
    assert exposed <= MOST_EXPOSED
    assert host.booted.tell("systemctl", "is-enabled", UNIT, *SOCKETS) == "enabled\n" * 4
    modes = host.booted.tell("stat", "-c", "%a %U:%G %n", ETC, f"{ETC}/config.json", f"{ETC}/files/jwt.key", WEB)
    assert modes.splitlines() == [
        f"750 root:kvmops-vnc-proxy {ETC}",
        f"640 root:kvmops-vnc-proxy {ETC}/config.json",
        f"640 root:kvmops-vnc-proxy {ETC}/files/jwt.key",
        f"660 kvmops-vnc-proxy:kvmops-vnc-proxy {WEB}",
    ]
    user = host.booted.tell("ps", "-o", "user:32=", "-p", host.process())
    assert user.strip() == "kvmops-vnc-proxy"


def deploy_again(host: Proxied) -> None:
    process = host.process()
    opened: dict[str, Any] = {"vnc_proxy_check_open": "/target/lone"}
    opened["vnc_proxy_check_token"] = host.token("--target", "lone")
    again = host.play(**opened)
    assert "changed=0" in again, again
    assert host.process() == process
    only_checked = ("--start-at-task", "Check that it answers")
    used_up = host.play(*only_checked, wrong=True, **opened)
    assert "cannot be opened through it" in used_up, "the token was for one session"
    assert opened["vnc_proxy_check_token"] not in used_up


def upgrade(host: Proxied, upgraded: Path) -> None:
    """A new process, and the sessions go on."""
    process, before = host.process(), host.current()
    lone = host.open("/target/lone", target="lone")
    domain = host.open("/domain/web-1", domain="web-1")
    assert (lone.desktop, domain.desktop) == ("QEMU (lone)", "QEMU (web-1)")
    host.play(collections=upgraded)
    assert host.current() != before
    assert host.booted.tell("kvmops-vnc-proxy", "--version") == "99.0.0\n"
    assert host.process() not in ("0", process)
    later = host.open("/target/lone", target="lone")
    for each in (lone, domain, later):
        each.look()
        each.close()
    until(
        lambda: host.booted.run("kill", "-0", process).returncode != 0,
        lambda: f"the old process stays without sessions: {host.journal()}",
    )
    versions = Path(f"{host.booted.root}{VERSIONS}")
    assert {path.name for path in versions.iterdir()} == {before, host.current(), "current"}


def refuse(host: Proxied, collections: Path) -> None:
    """What the proxy can't use is told, and what runs goes on with what it has."""
    process, config = host.process(), host.read(f"{ETC}/config.json")
    said = host.play(wrong=True, collections=collections, vnc_proxy_targets={"lone": {"host": "a.example"}})
    assert "host and port belong together" in said, said
    assert (host.read(f"{ETC}/config.json"), host.process()) == (config, process)


def move(host: Proxied, collections: Path) -> None:
    """One listener has another port, and one is gone."""
    listeners = [dict(each) for each in host.variables()["vnc_proxy_listeners"][:2]]
    listeners[0]["port"] = 6081
    host.play(collections=collections, vnc_proxy_listeners=listeners)
    listening = host.booted.tell("ss", "--listening", "--no-header", "--tcp", "--numeric")
    assert "127.0.0.1:6081 " in listening
    assert ":6080 " not in listening
    assert ":443 " not in listening
    assert not host.exists(f"/etc/systemd/system/{SOCKETS[2]}")


def remove(host: Proxied) -> None:
    """What the role has made goes, what is the administrator's stays."""
    Path(f"{host.booted.root}{ETC}/own.pem").write_text("", encoding="utf-8")
    host.play(vnc_proxy_state="absent")
    assert not any(map(host.exists, MADE))
    assert os.listdir(f"{host.booted.root}{ETC}") == ["own.pem"]
    for kind in ("passwd", "group"):
        assert "kvmops-vnc-proxy" not in host.read(f"/etc/{kind}")
    assert "kvmops" not in host.booted.tell("systemctl", "list-units", "--all", "--no-legend", "kvmops*")
    assert "changed=0" in host.play(vnc_proxy_state="absent")
