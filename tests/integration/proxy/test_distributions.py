# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the role does on each distribution, from the facts that Ansible has of it; and what only some policies need."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

ROLE = Path(__file__).resolve().parents[3] / "roles/vnc_proxy"
ANSIBLE_PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")

DEBIAN = ["python3-cryptography", "python3-jwt", "python3-prometheus-client", "python3-websockets"]
VENV_DEBIAN = ["python3-cryptography", "python3-venv"]
VENV_REDHAT = ["python3-cryptography"]
LIBVIRT = "python3-libvirt"


class Host(NamedTuple):
    """A distribution as its facts name it; where the libraries come from there, and what is installed."""

    distribution: str
    version: str
    family: str
    way: str
    packages: list[str]


HOSTS = (
    Host("Debian", "11.11", "Debian", "venv", VENV_DEBIAN),
    Host("Debian", "12.8", "Debian", "distribution", DEBIAN),
    Host("Debian", "13", "Debian", "distribution", DEBIAN),
    Host("Debian", "forky/sid", "Debian", "distribution", DEBIAN),
    Host("Ubuntu", "22.04", "Debian", "venv", VENV_DEBIAN),
    Host("Ubuntu", "24.04", "Debian", "distribution", DEBIAN),
    Host("Ubuntu", "25.10", "Debian", "distribution", DEBIAN),
    Host("Linux Mint", "22", "Debian", "venv", VENV_DEBIAN),
    Host("RedHat", "9.4", "RedHat", "venv", VENV_REDHAT),
    Host("Rocky", "9.5", "RedHat", "venv", VENV_REDHAT),
    Host("AlmaLinux", "9.5", "RedHat", "venv", VENV_REDHAT),
    Host("CentOS", "9", "RedHat", "venv", VENV_REDHAT),
    Host("Archlinux", "NA", "Archlinux", "venv", []),
)
POLICIES: dict[str, tuple[dict[str, Any], dict[str, Any], bool]] = {
    "nothing": ({}, {}, False),
    "session": (
        {"identity": "session"},
        {"a": {"unix": "/a"}, "b": {"host": "h", "port": 1, "policy": None}},
        False,
    ),
    "default": ({"identity": "listener"}, {}, True),
    "target": ({}, {"a": {"unix": "/a"}, "b": {"host": "h", "port": 1, "policy": {"identity": "listener"}}}, True),
}
GIVEN: dict[str, dict[str, Any]] = {
    "default": {"vnc_proxy_packages": ["novnc"]},
    "said": {"vnc_proxy_install": "distribution", "vnc_proxy_libvirt": False},
}


def _facts(host: Host) -> dict[str, str]:
    return {"distribution": host.distribution, "distribution_version": host.version, "os_family": host.family}


def _noted(key: str, value: str, given: dict[str, Any]) -> dict[str, Any]:
    """A task that notes a value, with these variables given."""
    found = f"{{{{ found | default({{}}) | combine({{key: {value}}}) }}}}"
    return {"ansible.builtin.set_fact": {"found": found}, "vars": {"role_path": str(ROLE), "key": key, **given}}


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The role's variables in each case, of one run for all of them."""
    folder = tmp_path_factory.mktemp("distributions")
    tasks: list[dict[str, Any]] = [{"ansible.builtin.include_vars": str(ROLE / "vars/main.yml")}]
    for number, host in enumerate(HOSTS):
        for name, given in GIVEN.items():
            value = "[vnc_proxy_way | trim, vnc_proxy_wanted_packages]"
            tasks.append(_noted(f"{number} {name}", value, {"ansible_facts": _facts(host), **given}))
    for name, (policy, targets, _asks) in POLICIES.items():
        given = {"vnc_proxy_policy": policy, "vnc_proxy_targets": targets}
        tasks.append(_noted(name, "vnc_proxy_asks_kernel | bool", given))
    content = {"content": "{{ found | to_json }}", "dest": f"{folder}/found.json", "mode": "0600"}
    tasks.append({"ansible.builtin.copy": content, "vars": {"ansible_python_interpreter": sys.executable}})
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text(encoding="utf-8"))
    play = {"hosts": "localhost", "connection": "local", "gather_facts": False, "vars": defaults, "tasks": tasks}
    (folder / "play.yml").write_text(json.dumps([play]), encoding="utf-8")
    done = subprocess.run(
        [os.fspath(ANSIBLE_PLAYBOOK), "-i", "localhost,", "play.yml"],
        cwd=folder,
        env={**os.environ, "ANSIBLE_HOME": os.fspath(folder / "home"), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads((folder / "found.json").read_text(encoding="utf-8"))
    return found


@pytest.mark.parametrize("number", range(len(HOSTS)), ids=[f"{host[0]} {host[1]}".replace("/", "-") for host in HOSTS])
def test_where_the_libraries_come_from(values: dict[str, Any], number: int) -> None:
    host = HOSTS[number]
    assert values[f"{number} default"] == [host.way, [*host.packages, LIBVIRT, "novnc"]]


def test_what_is_said_counts_more(values: dict[str, Any]) -> None:
    """As for whoever has the libraries' packages from elsewhere; libvirt's are for who has libvirt."""
    for number, host in enumerate(HOSTS):
        way, packages = values[f"{number} said"]
        assert way == "distribution"
        wanted = {"Debian": DEBIAN, "RedHat": [name.replace("prometheus-c", "prometheus_c") for name in DEBIAN]}
        assert packages == wanted.get(host.family, [])


@pytest.mark.parametrize("name", POLICIES)
def test_the_kernel_may_be_asked_where_a_policy_wants_it(values: dict[str, Any], name: str) -> None:
    assert values[name] is POLICIES[name][2]
