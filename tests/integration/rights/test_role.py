# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The role least_privilege, run on the host itself: what it gives holds in polkit, and what it takes does not."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import ansible_collections

from ansible_collections.kvmops.console.tests.integration.rights.guarded import USER, Guarded
from ansible_collections.kvmops.console.tests.lab.kvmlab import FIXED_QEMU
from ansible_collections.kvmops.console.tests.lab.kvmlab.systemd import until

COLLECTIONS = Path(next(iter(ansible_collections.__path__))).parent
GIVEN = {
    "least_privilege_rules": ["power", "screenshots"],
    "least_privilege_users": [USER],
    "least_privilege_domains": ["guest"],
    "least_privilege_optional": ["domain.send-input"],
}
START = ("domain_power", {"state": "started"})
PICTURE = ("domain_screenshot", {"capture": "screendump", "wake": "key"})


def play(host: Guarded, **runs: dict[str, Any]) -> tuple[str, dict[str, tuple[int, int]]]:
    """Run the role once for each of `runs`: what Ansible says, and how much each has changed and has failed in."""
    plays = [
        {
            "hosts": name,
            "connection": "local",
            "gather_facts": False,
            "vars": {"ansible_python_interpreter": sys.executable, **GIVEN, **variables},
            "roles": ["kvmops.console.least_privilege"],
        }
        for name, variables in runs.items()
    ]
    folder = host.host.root / "run/controller"
    folder.mkdir(exist_ok=True)
    (folder / "play.json").write_text(json.dumps(plays), encoding="utf-8")
    words = ["-m", "ansible", "playbook", "-i", ",".join([*runs, ""]), "/run/controller/play.json"]
    settings = {
        "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
        "ANSIBLE_HOME": "/run/controller",
        "ANSIBLE_NOCOLOR": "1",
        "PYTHONPATH": ":".join(path for path in sys.path if path),
    }
    done = subprocess.run(
        host.host.command(sys.executable, *words),
        env=host.host.environment(settings),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    told = re.findall(r"^(\w+) +: ok=.* changed=(\d+) .* failed=(\d+)", done.stdout, re.MULTILINE)
    assert {name for name, _changed, _failed in told} == set(runs), done.stdout + done.stderr
    return done.stdout + done.stderr, {name: (int(changed), int(failed)) for name, changed, failed in told}


def failure(host: Guarded, what: tuple[str, dict[str, Any]], domain: str) -> str:
    """Why the user cannot do something with a domain; nothing when he can."""
    module, arguments = what
    result = host.module(module, **arguments, domains=[domain])
    return str(result["msg"]) if result.get("failed") else ""


def test_what_the_role_gives_and_takes(host: Guarded) -> None:
    for name in ("guest", "other"):
        host.put(name, emulator=FIXED_QEMU)
    for path in (host.host.root / "etc/polkit-1/rules.d").glob("50-*"):
        path.unlink()

    said, told = play(host, present={}, again={})
    assert (told["present"][1], told["again"]) == (0, (0, 0)), said
    assert told["present"][0] > 0
    # polkit reads its rules when it is told of new ones, some time.
    until(lambda: not failure(host, START, "guest"), lambda: failure(host, START, "guest"))
    assert failure(host, PICTURE, "guest") == "", "the group of the other rule, and what is optional there"
    assert "it takes domain.start (" in failure(host, START, "other")

    bare = {"least_privilege_libvirt_conf": "/etc/passwd"}
    said, told = play(host, absent={"least_privilege_state": "absent"}, bare=bare)
    assert told == {"absent": (2, 0), "bare": (0, 1)}, said
    assert "may do everything: put access_drivers" in " ".join(said.split())
    assert "kvmops-" not in (host.host.root / "etc/group").read_text(encoding="utf-8")
    until(lambda: "does not let the user" in failure(host, START, "other"), lambda: "The rules still hold.")
