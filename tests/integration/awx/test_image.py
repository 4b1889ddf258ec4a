# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The image that AWX runs the playbooks in: what ansible-builder makes of the collection's needs, as far as that goes
without a container engine.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import ansible_collections
import yaml

from ansible_collections.kvmops.console.tests.tools import surveys

BUILDER = Path(sys.executable).with_name("ansible-builder")
COLLECTIONS = Path(next(iter(ansible_collections.__path__))).parent
DEFINITION = surveys.ROOT / "extensions/execution_environment/execution-environment.yml"


def lines(path: Path) -> list[str]:
    """What a list of requirements names."""
    text = path.read_text(encoding="utf-8")
    return [line.split("#")[0].strip() for line in text.splitlines() if line.split("#")[0].strip()]


def test_builder_makes_a_context(tmp_path: Path) -> None:
    words = ["create", "-f", os.fspath(DEFINITION), "-c", "context", "--output-filename", "Containerfile"]
    done = subprocess.run([BUILDER, *words], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    steps = (tmp_path / "context/Containerfile").read_text(encoding="utf-8")
    assert "ansible-galaxy collection install" in steps
    assert "quay.io/centos/centos:stream9" in steps
    wanted = yaml.safe_load((tmp_path / "context/_build/requirements.yml").read_text(encoding="utf-8"))
    version = surveys.load(surveys.ROOT / "galaxy.yml")["version"]
    assert wanted == {"collections": [{"name": "kvmops.console", "version": version}]}


def test_builder_finds_what_the_collection_needs(tmp_path: Path) -> None:
    files = [tmp_path / "python.txt", tmp_path / "system.txt"]
    words = ["introspect", f"--write-pip={files[0]}", f"--write-bindep={files[1]}", os.fspath(COLLECTIONS)]
    done = subprocess.run([BUILDER, *words], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert lines(files[0]) == lines(surveys.ROOT / "meta/ee-requirements.txt")
    assert [line.split("[")[0].strip() for line in lines(files[1])] == ["openssh-clients", "openssh-client"]


def test_everything_of_other_people_on_the_controller_is_named() -> None:
    named = {line.split(">")[0] for line in lines(surveys.ROOT / "meta/ee-requirements.txt")}
    assert named == {"Pillow", "websocket-client"}
    for line in (line for line in lines(surveys.ROOT / "tests/unit/requirements.txt") if line.startswith("Pillow")):
        assert line in lines(surveys.ROOT / "meta/ee-requirements.txt"), "the oldest one that is tested"


def test_checkout_installs_itself_as_a_project_of_awx(tmp_path: Path) -> None:
    galaxy = [sys.executable, "-m", "ansible", "galaxy", "collection", "install", "--offline"]
    done = subprocess.run(
        [*galaxy, "-r", "collections/requirements.yml", "-p", os.fspath(tmp_path)],
        cwd=surveys.ROOT,
        env={
            **os.environ,
            "ANSIBLE_HOME": os.fspath(tmp_path / "home"),
            "ANSIBLE_COLLECTIONS_PATH": os.fspath(tmp_path),
            # Where the tests find the collection it is installed already.
            "ANSIBLE_COLLECTIONS_SCAN_SYS_PATH": "false",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "ansible_collections/kvmops/console/playbooks/audit.yml").is_file()
