# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The wall of real screens: the playbook over real SSH, and the role that keeps it up to date."""

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
from ansible_collections.kvmops.console.tests.lab.kvmlab import FIXED_QEMU

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
    assert sorted(path.name for path in pictures.iterdir()) == ["a-on.png", "lone.png"]
    assert _image.check_png((pictures / "lone.png").read_bytes()) == (640, 480)
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


# What ansible's systemd_service asks and is told, and what it has systemd do.
SYSTEMCTL = """\
#!/bin/sh
echo "$@" >>/srv/systemctl
case $1 in
  show) printf 'LoadState=loaded\\nActiveState=inactive\\nSubState=dead\\nUnitFileState=disabled\\n' ;;
  is-enabled) echo disabled; exit 1 ;;
esac
"""


@pytest.fixture
def systemd(hypervisor: Any) -> Iterator[None]:
    """A host of the lab has no systemd running: one that notes what is asked of it. Only that host sees it."""
    host = hypervisor.host
    real = host.exec("sh", "-c", "readlink -f $(command -v systemctl || echo /usr/bin/systemctl)").stdout.strip()
    host.exec("sh", "-ec", f"test ! -e {real} || mv {real} {real}.real; cat >{real}; chmod 755 {real}", stdin=SYSTEMCTL)
    host.exec("sh", "-ec", "mkdir -p /run/systemd/system; rm -rf /srv/systemctl /srv/wall /etc/kvmops-console")
    yield
    host.exec("sh", "-ec", f"rm -rf {real} /run/systemd/system; test ! -e {real}.real || mv {real}.real {real}")


ROLE = """\
- hosts: all
  gather_facts: false
  roles:
    - role: kvmops.console.console_wall
"""


def test_role(hypervisor: Any, systemd: None, tmp_path: Path) -> None:
    hypervisor.put("a-on", emulator=FIXED_QEMU, running=True)
    host = hypervisor.host
    local = f"localhost ansible_connection=local ansible_python_interpreter={sys.executable}\n"
    host.exec("sh", "-c", "cat >/srv/hypervisors", stdin=local)
    variables = {
        "console_wall_dir": "/srv/wall",
        "console_wall_metrics": "/srv/metrics/screens.prom",
        "console_wall_inventory": "/srv/hypervisors",
        "console_wall_interval": 30,
        "console_wall_title": 'Screens: it\'s 100 % "ours"',
        "console_wall_history": {"keep": 3, "keep_for": 60, "max_bytes": 1000000},
        "console_wall_ansible_playbook": str(ANSIBLE_PLAYBOOK),
        "console_wall_collections_path": str(COLLECTIONS),
    }
    (tmp_path / "role.yml").write_text(ROLE, encoding="utf-8")
    words = ["role.yml", "-e", json.dumps(variables), "-e", f"ansible_python_interpreter={sys.executable}"]
    done = play(tmp_path, host.inventory(), *words)
    assert done.returncode == 0, done.stdout + done.stderr
    asked = host.exec("cat", "/srv/systemctl").stdout.splitlines()
    assert "enable kvmops-console-wall.timer" in asked
    assert "start kvmops-console-wall.timer" in asked
    assert asked.index("daemon-reload") < asked.index("start kvmops-console-wall.timer")

    units = [f"/etc/systemd/system/kvmops-console-wall.{kind}" for kind in ("timer", "service")]
    if shutil.which("systemd-analyze"):
        host.exec("mkdir", "-p", "/srv/metrics")
        judged = host.exec("systemd-analyze", "verify", "--man=no", *units, check=False)
        assert (judged.returncode, judged.stdout, judged.stderr) == (0, "", "")
    timer, service = (host.exec("cat", unit).stdout for unit in units)
    assert "OnUnitInactiveSec=30s\n" in timer

    # What the timer would have systemd run.
    (command,) = re.findall(r"^ExecStart=(.*)$", service, re.MULTILINE)
    (path,) = re.findall(r"^Environment=(ANSIBLE_COLLECTIONS_PATH=.*)$", service, re.MULTILINE)
    host.exec("env", path, "ANSIBLE_HOME=/srv/ansible", *shlex.split(command), seconds=300)
    wall = host.root / "srv/wall"
    _hosts, screens = read(wall)
    assert screens["a-on"]["status"] == "seen"
    assert "<title>Screens: it&#39;s 100 % &#34;ours&#34;</title>" in (wall / "index.html").read_text(encoding="utf-8")
    gauges = metrics((host.root / "srv/metrics/screens.prom").read_text(encoding="utf-8"))
    assert gauges["screen_up"] == {'host="localhost",domain="a-on",head="0"': 1}

    again = play(tmp_path, host.inventory(), *words)
    assert again.returncode == 0, again.stdout
    gone = play(tmp_path, host.inventory(), *words, "-e", "console_wall_state=absent")
    assert gone.returncode == 0, gone.stdout
    assert host.exec("ls", "/etc/systemd/system").stdout.count("kvmops") == 0
    assert (wall / "index.html").exists(), "the pictures stay"
