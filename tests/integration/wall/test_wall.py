# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The wall of real screens: the playbook over real SSH, and the role that has a real systemd keep it up to date."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ansible_collections
import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _image
from ansible_collections.kvmops.console.tests.integration.booted import Booted, systemd, until
from ansible_collections.kvmops.console.tests.integration.conftest import Hypervisor
from ansible_collections.kvmops.console.tests.lab.kvmlab import FIXED_QEMU, Host, Lab

COLLECTIONS = Path(next(iter(ansible_collections.__path__))).parent
ANSIBLE_PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
METRICS = re.compile(r"^kvmops_console_(\w+)\{(.*)\} (\d+)$", re.MULTILINE)
MONITOR = "/run/lone.qmp"


def play(folder: Path, inventory: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run ansible-playbook from `folder`."""
    (folder / "inventory.yml").write_text(inventory, encoding="utf-8")
    environment = {**os.environ, "ANSIBLE_HOME": str(folder / "home"), "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS)}
    return subprocess.run(
        [str(ANSIBLE_PLAYBOOK), "-i", "inventory.yml", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def read(wall: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The hosts and the screens of wall.json by name."""
    data = json.loads((wall / "wall.json").read_text(encoding="utf-8"))
    return {host["name"]: host for host in data["hosts"]}, {screen["name"]: screen for screen in data["screens"]}


def metrics(text: str) -> dict[str, dict[str, int]]:
    """Values by metric and, shortened to what differs, labels."""
    found: dict[str, dict[str, int]] = {}
    for name, labels, value in METRICS.findall(text):
        found.setdefault(name, {})[labels] = int(value)
    return found


@pytest.fixture
def machines(hypervisor: Any) -> Iterator[None]:
    """Of libvirt one that runs, one that is off, one that is private; and a QEMU without libvirt."""
    hypervisor.put("a-on", emulator=FIXED_QEMU, running=True)
    hypervisor.put("b-off")
    hypervisor.put("c-private", running=True)
    hypervisor.host.virsh(
        *("metadata", "c-private", "https://kvmops.github.io/console/1", "--live", "--key", "kvmops"),
        *("--set", "<console><screens capture='no'/></console>"),
    )
    words = f"{FIXED_QEMU} -display none -nic none -accel tcg -m 32 -vga std -S -daemonize -pidfile /run/lone.pid"
    hypervisor.host.exec(*shlex.split(words), "-qmp", f"unix:{MONITOR},server=on,wait=off")
    ready = hypervisor.module(
        "domain_screenshot", domains=["a-on"], wait_for={"text": "No bootable device", "timeout": 60}
    )
    assert "failed" not in ready, ready
    yield
    hypervisor.host.exec("sh", "-c", "kill -9 $(cat /run/lone.pid)")


def test_playbook(hypervisor: Any, machines: None, tmp_path: Path) -> None:
    (tmp_path / "lost.ini").write_text("lost ansible_host=127.0.0.1 ansible_port=1\n", encoding="utf-8")
    wall = tmp_path / "wall"
    words = ["kvmops.console.screenshots", "-e", f"console_wall_dir={wall}", "-e", "console_wall_max_age=0"]
    words += ["-e", json.dumps({"console_wall_qmp_sockets": [MONITOR], "console_wall_incus": False})]
    words += ["-e", f"ansible_python_interpreter={sys.executable}"]
    first = play(tmp_path, hypervisor.host.inventory(), *words, "-i", "lost.ini")
    assert "unreachable=" in first.stdout, first.stdout + first.stderr
    hosts, screens = read(wall)
    assert {name: host["status"] for name, host in hosts.items()} == {"it-domains": "ok", "lost": "unreachable"}
    assert {name: screen["status"] for name, screen in screens.items()} == {
        "a-on": "seen",
        "b-off": "off",
        "c-private": "private",
        "lone": "seen",
    }
    assert screens["a-on"]["kind"] == "text"
    assert "No bootable device." in screens["a-on"]["text"]
    assert (screens["lone"]["kind"], screens["lone"]["capture"]) == ("no_signal", "qmp")
    assert first.returncode != 0, "a host that could not be reached fails the run"
    assert re.search(r"it-domains +: .*failed=0", first.stdout), first.stdout

    pictures = wall / "pictures/it-domains"
    assert sorted(path.name for path in pictures.iterdir()) == ["a-on.png", "lone~qmp.png"]
    assert _image.check_png((pictures / "lone~qmp.png").read_bytes()) == (640, 480)
    page = (wall / "index.html").read_text(encoding="utf-8")
    assert page.count("data:image/jpeg;base64,") == 2
    assert (wall / "machines/it-domains/lone.html").exists()
    assert wall.stat().st_mode & 0o777 == 0o700
    gauges = metrics((wall / "kvmops-screens.prom").read_text(encoding="utf-8"))
    assert gauges["screen_host_up"] == {'host="it-domains"': 1, 'host="lost"': 0}
    assert gauges["screen_kind"]['host="it-domains",domain="lone",head="0",kind="no_signal"'] == 1

    hypervisor.connection.lookupByName("a-on").destroy()
    second = play(tmp_path, hypervisor.host.inventory(), *words)
    assert second.returncode == 0, second.stdout + second.stderr
    _hosts, screens = read(wall)
    assert screens["a-on"]["status"] == "off"
    assert list((wall / "history/it-domains/lone/0").glob("*.png"))


ROLE = """\
- hosts: all
  gather_facts: false
  roles:
    - role: kvmops.console.console_wall
"""
UNITS = ("kvmops-console-wall.timer", "kvmops-console-wall.service")


class Keeper:
    """A host on which systemd keeps the wall of its own domains up to date."""

    def __init__(self, host: Host, booted: Booted) -> None:
        self.booted = booted
        self.hypervisor = Hypervisor(host)
        self.wall = host.root / "srv/wall"
        self.metrics = host.root / "srv/metrics/screens.prom"
        self.metrics.parent.mkdir(parents=True)
        # Where it is installed; the service sees nobody's /tmp.
        for part in ("meta", "playbooks", "plugins", "roles"):
            here = f"ansible_collections/kvmops/console/{part}"
            shutil.copytree(COLLECTIONS / here, host.root / "srv/collections" / here)
        local = f"localhost ansible_connection=local ansible_python_interpreter={sys.executable}\n"
        (host.root / "srv/hypervisors").write_text(local, encoding="utf-8")
        (host.root / "srv/role.yml").write_text(ROLE, encoding="utf-8")

    def play(self, **more: object) -> str:
        """Have the role done on the host; what Ansible says."""
        variables = {
            "console_wall_dir": "/srv/wall",
            "console_wall_metrics": "/srv/metrics/screens.prom",
            "console_wall_inventory": "/srv/hypervisors",
            "console_wall_interval": 1,
            "console_wall_title": 'Screens: it\'s 100 % "ours"',
            "console_wall_history": {"keep": 3, "keep_for": 60, "max_bytes": 1000000},
            "console_wall_ansible_playbook": str(ANSIBLE_PLAYBOOK),
            "console_wall_collections_path": "/srv/collections",
            **more,
        }
        env = {"ANSIBLE_HOME": "/srv/ansible", "ANSIBLE_COLLECTIONS_PATH": "/srv/collections", "ANSIBLE_NOCOLOR": "1"}
        words = [str(ANSIBLE_PLAYBOOK), "-i", "/srv/hypervisors", "/srv/role.yml", "-e", json.dumps(variables)]
        done = self.booted.run(*words, env={**env, "ANSIBLE_PIPELINING": "1"})
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def status(self, name: str) -> object:
        """What the wall says of a machine; None while there is no wall."""
        if not (self.wall / "wall.json").exists():
            return None
        return read(self.wall)[1][name]["status"]

    def journal(self) -> str:
        return self.booted.run("journalctl", "--no-pager", "--unit=kvmops-console-wall.*").stdout


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    # Its own host: systemd takes over much of it.
    with Lab("it-wall") as lab, systemd(lab["it-wall"]) as booted:
        yield Keeper(lab["it-wall"], booted)


def test_role(keeper: Keeper) -> None:
    domain = keeper.hypervisor.put("a-on", emulator=FIXED_QEMU, running=True)
    keeper.play()
    judged = keeper.booted.run(
        "systemd-analyze", "verify", "--man=no", *(f"/etc/systemd/system/{one}" for one in UNITS)
    )
    assert (judged.returncode, judged.stdout, judged.stderr) == (0, "", "")
    assert keeper.booted.tell("systemctl", "is-enabled", UNITS[0]) == "enabled\n"

    # From here on nobody asks for anything.
    until(lambda: keeper.status("a-on") == "seen", keeper.journal)
    domain.destroy()
    until(lambda: keeper.status("a-on") == "off", keeper.journal)
    index = (keeper.wall / "index.html").read_text(encoding="utf-8")
    assert "<title>Screens: it&#39;s 100 % &#34;ours&#34;</title>" in index
    assert metrics(keeper.metrics.read_text(encoding="utf-8"))["screen_host_up"] == {'host="localhost"': 1}

    assert "changed=0" in keeper.play()
    keeper.play(console_wall_state="absent")
    assert "kvmops" not in keeper.booted.tell("systemctl", "list-units", "--all", "--no-legend", "kvmops*.timer")
    assert not any((keeper.booted.root / "etc/systemd/system" / unit).exists() for unit in UNITS)
    assert (keeper.wall / "index.html").exists(), "the pictures stay"
