# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The playbook awx_setup, with the real modules of awx.awx, on something that answers like AWX's API."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ansible_collections
import pytest

from ansible_collections.kvmops.console.tests.integration.awx import awx_collection, fake_awx
from ansible_collections.kvmops.console.tests.integration.awx.fake_awx import TOKEN, Awx
from ansible_collections.kvmops.console.tests.tools import surveys

COLLECTIONS = Path(next(iter(ansible_collections.__path__))).parent
SECRETS = {"key": "KEY-OF-ROOT", "publish": "TOKEN-OF-THE-FILES", "address": "sig=SESAME"}

DATA: dict[str, Any] = {
    "awx_setup_image": "registry.example.com/consoles:1.0.0",
    "awx_setup_machine": {"username": "root", "ssh_key_data": SECRETS["key"]},
    "awx_setup_publish": {"to": f"https://files.example.com/?{SECRETS['address']}", "token": SECRETS["publish"]},
    "awx_setup_hypervisors": [{"name": "hv-1", "variables": {"fleet_exclude": ["db-*"]}}],
    "awx_setup_inventory_sources": [
        {"name": "fleet", "source": "scm", "source_project": "Consoles", "source_path": "inventory/fleet.yml"}
    ],
    "awx_setup_notifications": [
        {
            "name": "chat",
            "notification_type": "webhook",
            "notification_configuration": {"url": "https://chat.example.com/hook", "headers": {}},
        }
    ],
}


@pytest.fixture
def awx() -> Iterator[Awx]:
    with fake_awx.serve(surveys.ROOT) as found:
        yield found


def play(folder: Path, *words: str, collections: str = "", **more: str) -> subprocess.CompletedProcess[str]:
    """Run the playbook as an administrator does."""
    names = ("CONTROLLER_HOST", "CONTROLLER_OAUTH_TOKEN", "CONTROLLER_USERNAME", "CONTROLLER_PASSWORD")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    environment.update(
        ANSIBLE_COLLECTIONS_PATH=f"{COLLECTIONS}:{collections}",
        ANSIBLE_COLLECTIONS_SCAN_SYS_PATH="false",
        ANSIBLE_HOME=os.fspath(folder / "home"),
        ANSIBLE_NOCOLOR="1",
        HOME=os.fspath(folder),
        **more,
    )
    return subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "kvmops.console.awx_setup", *words],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_says_what_is_missing(tmp_path: Path) -> None:
    done = play(tmp_path)
    assert done.returncode != 0
    said = " ".join((done.stdout + done.stderr).split())
    assert "The collection awx.awx is not installed here: ansible-galaxy collection install awx.awx" in said
    assert "Nothing says where AWX is: set CONTROLLER_HOST" in said
    assert "Nothing says who you are in AWX: set CONTROLLER_OAUTH_TOKEN" in said


def test_makes_what_the_data_says_once(awx: Awx, tmp_path: Path) -> None:
    (tmp_path / "awx.json").write_text(json.dumps(DATA), encoding="utf-8")
    words = ["-e", "@awx.json", "-vvv"]
    settings = {"CONTROLLER_HOST": awx.url, "CONTROLLER_OAUTH_TOKEN": TOKEN}
    first = play(tmp_path, *words, collections=os.fspath(awx_collection.collections()), **settings)
    assert first.returncode == 0, first.stdout[-4000:] + first.stderr
    for secret in (*SECRETS.values(), TOKEN):
        assert secret not in first.stdout + first.stderr
    compare(awx)

    awx.writes.clear()
    second = play(tmp_path, *words, collections=os.fspath(awx_collection.collections()), **settings)
    assert second.returncode == 0, second.stdout[-4000:] + second.stderr
    assert "changed=0" in second.stdout
    assert awx.writes == []


def compare(awx: Awx) -> None:
    """What is in AWX, and what the data says."""
    assert awx.named("projects")["Consoles"]["scm_branch"] == surveys.load(surveys.ROOT / "galaxy.yml")["version"]
    assert awx.named("execution_environments")["Consoles"]["image"] == DATA["awx_setup_image"]
    credentials = awx.named("credentials")
    assert credentials["Consoles: hypervisors"]["inputs"] == DATA["awx_setup_machine"]
    assert credentials["Consoles: publish"]["inputs"] == DATA["awx_setup_publish"]
    injected = awx.named("credential_types")["Consoles: publish"]["injectors"]["env"]
    assert injected == {"KVMOPS_PUBLISH_TO": "{{ to }}", "KVMOPS_PUBLISH_TOKEN": "{{ token }}"}
    assert json.loads(awx.named("hosts")["hv-1"]["variables"]) == {"fleet_exclude": ["db-*"]}
    source = awx.named("inventory_sources")["fleet"]
    assert source["inventory"] == awx.named("inventories")["Consoles"]["id"]

    templates = awx.named("job_templates")
    stored = surveys.load(surveys.ROOT / surveys.TARGET)["awx_setup_surveys"]
    assert sorted(Path(each["playbook"]).stem for each in templates.values()) == sorted(stored)
    for name, template in templates.items():
        assert awx.survey("job_templates", name) == stored[Path(template["playbook"]).stem]
        assert template["survey_enabled"] is True
        assert template["ask_limit_on_launch"] is True
        assert template["execution_environment"] == awx.named("execution_environments")["Consoles"]["id"]
        assert awx.linked("job_templates", name, "credentials") == ["Consoles: hypervisors", "Consoles: publish"]
        assert awx.linked("job_templates", name, "notification_templates_error") == ["chat"]

    workflow = "Consoles: audit, approve, remediate, audit"
    assert awx.survey("workflow_job_templates", workflow) == stored["remediate"]
    assert awx.linked("workflow_job_templates", workflow, "notification_templates_approvals") == ["chat"]
    numbers = {
        each["id"]: name for kind in (*fake_awx.TEMPLATES, fake_awx.APPROVALS) for name, each in awx.named(kind).items()
    }
    runs = {
        name: numbers[node["unified_job_template"]] for name, node in awx.named("workflow_job_template_nodes").items()
    }
    assert runs == {
        "audit": "Consoles: audit",
        "approval": "Remediate after this audit?",
        "remediate": "Consoles: remediate",
        "audit-again": "Consoles: audit",
    }
    ways = {
        (name, link): awx.linked("workflow_job_template_nodes", name, link)
        for name in runs
        for link in ("always_nodes", "success_nodes", "failure_nodes")
    }
    assert {way: there for way, there in ways.items() if there} == {
        ("audit", "always_nodes"): ["approval"],
        ("approval", "success_nodes"): ["remediate"],
        ("remediate", "always_nodes"): ["audit-again"],
    }
    schedules = awx.named("schedules")
    assert {name: each["enabled"] for name, each in schedules.items()} == {
        "Consoles: audit every night": True,
        "Consoles: screenshots every hour": False,
    }
    assert schedules["Consoles: audit every night"]["unified_job_template"] == templates["Consoles: audit"]["id"]
