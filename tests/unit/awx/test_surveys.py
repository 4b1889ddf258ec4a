# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""AWX's surveys ask for what the playbooks take, in a way that AWX and the playbooks understand."""

from __future__ import annotations

import re
import shutil
import typing as t
from pathlib import Path

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from ansible_collections.kvmops.console.plugins.filter.as_list import as_list
from ansible_collections.kvmops.console.tests.tools import surveys
from ansible_collections.kvmops.console.tests.unit.awx import rules

Json = dict[str, t.Any]
STORED: Json = surveys.load(surveys.ROOT / surveys.TARGET)["awx_setup_surveys"]
DATA: Json = yaml.load(
    re.sub(r"!unsafe ", "", (surveys.ROOT / "playbooks/vars/awx.yml").read_text(encoding="utf-8")), yaml.SafeLoader
)
QUESTIONS = [(playbook, question) for playbook, survey in STORED.items() for question in survey["spec"]]
KNOWN = {"type", "elements", "choices", "default", "no_log", "options"}


def test_surveys_are_what_the_playbooks_take() -> None:
    assert surveys.findings() == []


def test_every_playbook_has_a_template_or_a_reason() -> None:
    templates = {template["playbook"]: template["survey"] for template in DATA["awx_setup_job_templates"]}
    expected = {f"playbooks/{name}.yml": name for name in surveys.playbooks() if name not in surveys.NO_TEMPLATE}
    assert templates == expected
    assert all(surveys.NO_TEMPLATE.values())
    assert all(all(survey.left_out.values()) for survey in surveys.SURVEYS.values())
    assert {workflow["survey"] for workflow in DATA["awx_setup_workflows"]} <= set(STORED)


def test_release_that_awx_fetches_is_this_one() -> None:
    assert DATA["awx_setup_scm_branch"] == surveys.load(surveys.ROOT / "galaxy.yml")["version"]


@pytest.mark.parametrize("playbook", STORED)
def test_awx_takes_it(playbook: str) -> None:
    assert rules.complaints(STORED[playbook]) == []


@pytest.mark.parametrize(
    ("playbook", "question"), QUESTIONS, ids=[f"{playbook}-{question['variable']}" for playbook, question in QUESTIONS]
)
def test_untouched_answer_is_the_default(playbook: str, question: Json) -> None:
    described = surveys.options(playbook)[question["variable"]]
    answer: t.Any = question.get("default")
    asks = answer in (None, "")
    # ansible-core from 2.19 on reads text that is empty as null, and that is no value of what has a default.
    assert question["required"] or "default" not in described
    if asks and not question["required"]:
        return
    if question["type"] == "multiselect":
        answer = answer.splitlines()
    if asks:
        # Somebody has to say.
        assert "default" not in described or described["default"] in ([], None)
        answer = question["choices"][0] if question.get("choices") else "web-1\nweb-2"
    spec = {key: value for key, value in described.items() if key in KNOWN - {"default"}}
    taken = ArgumentSpecValidator({question["variable"]: spec}).validate({question["variable"]: answer})
    assert not taken.error_messages, taken.error_messages
    meant: t.Any = taken.validated_parameters[question["variable"]]
    if question["type"] == "textarea":
        meant = as_list(answer, empty_for_all=True)
    assert meant == (
        answer if asks and question["type"] != "textarea" else ["web-1", "web-2"] if asks else described["default"]
    )


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the surveys are made of."""
    for name in ("playbooks", "roles", "plugins/modules", "plugins/doc_fragments"):
        shutil.copytree(
            surveys.ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "files", "templates")
        )
    return tmp_path


CHANGES = [
    (
        "roles/fleet/meta/argument_specs.yml",
        "      fleet_batch:",
        "      fleet_new: {type: str, description: New.}\n{}",
    ),
    ("roles/fleet/meta/argument_specs.yml", "fleet_power_force:", "fleet_plug:"),
    ("roles/fleet/meta/argument_specs.yml", "choices: [proceed, refuse, wait]", "choices: [proceed, refuse]"),
    ("roles/fleet/defaults/main.yml", "fleet_batch: 1", "fleet_batch: 2"),
    ("roles/console_wall/meta/argument_specs.yml", "          type: float\n", "          type: int\n"),
    ("roles/publish/tasks/main.yml", "  block:", "  block:\n    - ansible.builtin.import_role: {name: vnc_proxy}"),
    ("plugins/modules/domain_power.py", "    default: 50\n", "    default: 60\n"),
    ("plugins/modules/domain_power.py", "  concurrency:\n", "  at_once:\n"),
    ("playbooks/power.yml", "power_force | default('never')", "power_force | default('at_once')"),
    ("playbooks/power.yml", "  tasks:", "  vars: {x: '{{ power_new | default(1) }}'}\n  tasks:"),
    ("playbooks/patch_novnc.yml", "default('100%', true)", "default('50%', true)"),
    ("playbooks/audit.yml", "tasks_from: audit", "tasks_from: change"),
]


@pytest.mark.parametrize(("path", "old", "new"), CHANGES, ids=[str(number) for number in range(len(CHANGES))])
def test_nothing_drifts_unseen(checkout: Path, path: str, old: str, new: str) -> None:
    text = (checkout / path).read_text(encoding="utf-8")
    assert old in text
    (checkout / path).write_text(text.replace(old, new.replace("{}", old, 1), 1), encoding="utf-8")
    assert surveys.findings(checkout) != []


def test_new_playbook_wants_a_survey(checkout: Path) -> None:
    assert surveys.findings(checkout) == []
    (checkout / "playbooks/new.yml").write_text("- name: New\n  hosts: all\n", encoding="utf-8")
    (checkout / "playbooks/power.yml").unlink()
    assert surveys.findings(checkout) == ["new is a playbook without a survey", "there is no playbook power"]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"type": "boolean"}, "boolean is no type of a question"),
        ({"required": "no"}, "required is to be a bool"),
        ({"default": 1}, "the default 1 is no str"),
        ({"default": "often"}, "the default is no choice"),
        ({"default": "never\nalways"}, "there can be one default only"),
        ({"default": "never\n"}, "AWX would store another default than it is given"),
        ({"choices": None}, "the choices are to be a list of texts"),
    ],
)
def test_rules_refuse_what_awx_refuses(change: Json, complaint: str) -> None:
    question = {
        "question_name": "Pull the plug",
        "variable": "plug",
        "required": False,
        "type": "multiplechoice",
        "choices": ["never", "always"],
        "default": "never",
    }
    survey = {"name": "", "description": "", "spec": [question]}
    assert rules.complaints(survey) == []
    assert f"plug: {complaint}" in rules.complaints({**survey, "spec": [{**question, **change}]})
    assert "plug is asked twice" in rules.complaints({**survey, "spec": [question, question]})
