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

from ansible_collections.kvmops.console.tests.integration import others_collections
from ansible_collections.kvmops.console.tests.integration.awx import fake_awx
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
ONE_OF_EACH: dict[str, Any] = {
    "awx_setup_job_templates": [{"name": "Consoles: audit"}],
    "awx_setup_schedules": [{"name": "Consoles: audit every night", "unified_job_template": "Consoles: audit"}],
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
    done = play(tmp_path, "-e", "awx_setup_state=away")
    assert done.returncode != 0
    said = " ".join((done.stdout + done.stderr).split())
    assert "The collection awx.awx is not installed here: ansible-galaxy collection install awx.awx" in said
    assert "awx_setup_state is neither present nor absent." in said
    assert "Nothing says where AWX is: set CONTROLLER_HOST" in said
    assert "Nothing says who you are in AWX: set CONTROLLER_OAUTH_TOKEN" in said


def set_up(awx: Awx, folder: Path, *words: str) -> str:
    """What the playbook says; nothing secret, and all went well. `awx.writes` has what this run has sent."""
    (folder / "awx.json").write_text(json.dumps(DATA), encoding="utf-8")
    awx.writes.clear()
    settings = {"CONTROLLER_HOST": awx.url, "CONTROLLER_OAUTH_TOKEN": TOKEN}
    collections = os.fspath(others_collections.collections())
    done = play(folder, "-e", "@awx.json", "-vvv", *words, collections=collections, **settings)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    for secret in (*SECRETS.values(), TOKEN):
        assert secret not in done.stdout + done.stderr
    return done.stdout


def test_makes_what_the_data_says_once_and_takes_it_away(awx: Awx, tmp_path: Path) -> None:
    set_up(awx, tmp_path)
    compare(awx)
    assert "changed=0" in set_up(awx, tmp_path)
    assert awx.writes == []

    absent = ("-e", "awx_setup_state=absent")
    one_of_each = ("-e", json.dumps(ONE_OF_EACH))
    strangers = {**numbers_of(Awx(surveys.ROOT)), **add_strangers(awx)}
    told = set_up(awx, tmp_path, *absent, *one_of_each, "--check")
    # Schedule, workflow, template, notification, inventory, two credentials and their type, project, image.
    assert "changed=9 " in told, "a task for each kind"
    assert awx.writes == []

    set_up(awx, tmp_path, *absent)
    assert {write.method for write in awx.writes} == {"DELETE"}
    assert numbers_of(awx) == strangers

    assert "changed=0" in set_up(awx, tmp_path, *absent, *one_of_each)
    assert awx.writes == []


def numbers_of(awx: Awx) -> dict[int, str]:
    """Everything that is in AWX."""
    return {each["id"]: each["url"] for found in awx.objects.values() for each in found}


def add_strangers(awx: Awx) -> dict[int, str]:
    """What somebody else has in AWX, much of it with the names of ours."""
    before = numbers_of(awx)

    def add(endpoint: str, **data: Any) -> int:
        return int(awx.post(f"/api/v2/{endpoint}/", data)[1]["id"])

    here = awx.named("organizations")["Default"]["id"]
    other = add("organizations", name="Other")
    machine = awx.named("credential_types")["Machine"]["id"]
    inventory = add("inventories", name="Consoles", organization=other)
    add("hosts", name="hv-1", inventory=inventory)
    add("credentials", name="Consoles: hypervisors", organization=other, credential_type=machine)
    add("credentials", name="Others", organization=here, credential_type=machine)
    add("projects", name="Consoles", organization=other)
    add("notification_templates", name="chat", organization=other)
    for organization, name in ((other, "Consoles: audit"), (here, "Others")):
        template = add("job_templates", name=name, organization=organization, playbook="playbooks/audit.yml")
        add("schedules", name="Consoles: audit every night", unified_job_template=template, rrule="RRULE:FREQ=DAILY")
    return {number: url for number, url in numbers_of(awx).items() if number not in before}


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
