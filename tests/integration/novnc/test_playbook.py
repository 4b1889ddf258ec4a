# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook patch_novnc: on two hosts that are folders of this machine, the way out included."""

from __future__ import annotations

import functools
import http.server
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmops.console.tests.unit.plugins.module_utils import novnc_shapes as shapes

ORIGINAL = shapes.MODULE.encode()


class Consoles:
    """Two hosts, each with a noVNC of its own."""

    def __init__(self, folder: Path, address: str) -> None:
        self._folder = folder
        hosts: dict[str, Any] = {}
        for name in ("one", "two"):
            (folder / name / "core").mkdir(parents=True)
            self.script(name).write_bytes(ORIGINAL)
            hosts[name] = {
                "ansible_connection": "local",
                "ansible_python_interpreter": sys.executable,
                "novnc_patch_paths": [os.fspath(folder / name)],
                "novnc_patch_backup_dir": os.fspath(folder / f"{name}-originals"),
                # That changes the host itself: test_keep.py has one for it.
                "novnc_patch_keep": False,
                "novnc_patch_urls": [f"{address}/{name}/core/rfb.js"],
            }
        self._inventory = folder / "inventory.json"
        self._inventory.write_text(json.dumps({"all": {"hosts": hosts}}), encoding="utf-8")

    def script(self, name: str) -> Path:
        return self._folder / name / "core/rfb.js"

    def run(self, *words: str, **variables: Any) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ansible", "playbook", "-i", os.fspath(self._inventory)]
        return subprocess.run(
            [*command, "kvmops.console.patch_novnc", "-e", json.dumps(variables), *words],
            env={**os.environ, "ANSIBLE_HOME": os.fspath(self._folder / "home"), "ANSIBLE_NOCOLOR": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    def patched(self) -> list[str]:
        return [name for name in ("one", "two") if b"kvmops.console novnc_patch" in self.script(name).read_bytes()]


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Where the folder of the test is served."""
    handler = functools.partial(Quiet, directory=os.fspath(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def consoles(tmp_path: Path, address: str) -> Consoles:
    return Consoles(tmp_path, address)


def test_patch_then_nothing_then_roll_back(consoles: Consoles) -> None:
    foreseen = consoles.run("--check", "--diff")
    assert foreseen.returncode == 0, foreseen.stdout
    assert foreseen.stdout.count("changed=1") == 2
    assert consoles.patched() == []
    done = consoles.run()
    assert done.returncode == 0, done.stdout
    assert consoles.patched() == ["one", "two"]
    assert consoles.run().stdout.count("changed=0") == 2
    back = consoles.run(novnc_patch_state="absent")
    assert back.returncode == 0, back.stdout
    assert [consoles.script(name).read_bytes() for name in ("one", "two")] == [ORIGINAL, ORIGINAL]


def test_batch_that_fails_is_as_before(consoles: Consoles, address: str, tmp_path: Path) -> None:
    """One host serves something else than what was patched: the other one does not keep the patch either."""
    (tmp_path / "other.js").write_text("old", encoding="utf-8")
    urls = f"{{{{ ['{address}/other.js'] if inventory_hostname == 'two' else [] }}}}"
    failed = consoles.run(novnc_patch_urls=urls)
    assert failed.returncode != 0
    assert "other.js is served without the patch" in failed.stdout
    assert "Another host of the batch failed" in failed.stdout
    assert consoles.patched() == []
    assert consoles.script("two").read_bytes() == ORIGINAL
    in_turn = consoles.run(novnc_patch_urls=urls, novnc_patch_serial=1)
    assert in_turn.returncode != 0
    assert consoles.patched() == ["one"], "the batch before it stays"


def test_novnc_that_is_refused_fails_the_batch(consoles: Consoles) -> None:
    naive = ORIGINAL.replace(b"case 7:", b"case -257:\n                return true;\n            case 7:")
    consoles.script("two").write_bytes(naive)
    failed = consoles.run()
    assert failed.returncode != 0
    assert "breaks the mouse" in failed.stdout
    assert consoles.patched() == []
    assert consoles.script("two").read_bytes() == naive


def test_host_that_cannot_keep_the_patch(consoles: Consoles) -> None:
    """It is told before anything changes, and what to do instead."""
    failed = consoles.run(novnc_patch_keep=True, novnc_patch_keep_python="/nowhere/python3")
    assert failed.returncode != 0
    assert re.search("set novnc_patch_keep to false|/nowhere/python3 on this host is no Python 3.9", failed.stdout)
    assert consoles.patched() == []
