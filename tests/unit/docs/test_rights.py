# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""docs/polkit: the rules, the page and what errors name are one with the table."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import typing as t
from pathlib import Path

import pytest
import yaml

from ansible_collections.kvmops.console.tests.tools import rights as table

RIGHTS = table.load()
ROOT = Path(table.__file__).resolve().parents[2]
RULES = table.rules(RIGHTS)

# polkit as a rule sees it.
POLKIT = """
const rules = [];
const polkit = {Result: {YES: "yes", NO: "no", NOT_HANDLED: null}, addRule: (rule) => rules.push(rule)};
const cases = JSON.parse(require("fs").readFileSync(0, "utf8"));
eval(cases.rule);
console.log(JSON.stringify(cases.asked.map(([groups, id, details]) =>
    rules[0]({id: id, lookup: (key) => details[key]}, {user: "u", isInGroup: (group) => groups.includes(group)}))));
"""

Asked = tuple[list[str], str, dict[str, str]]


def answers(rule: str, asked: list[Asked]) -> t.Any:
    """What polkit would answer."""
    done = subprocess.run(
        ["node", "-e", POLKIT],
        input=json.dumps({"rule": rule, "asked": asked}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_files_are_made_of_the_table() -> None:
    for folder in table.FOLDERS:
        files = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.rules")}
        assert files == RULES, "run python tests/tools/rights.py"


def test_the_role_offers_every_rule() -> None:
    specs = yaml.safe_load((ROOT / "roles/least_privilege/meta/argument_specs.yml").read_text(encoding="utf-8"))
    assert specs["argument_specs"]["main"]["options"]["least_privilege_rules"]["choices"] == list(RIGHTS["rules"])


def test_the_page_is_made_of_the_table() -> None:
    text = table.PAGE.read_text(encoding="utf-8")
    assert text == table.page(text, RIGHTS), "run python tests/tools/rights.py"


def test_every_permission_is_explained_and_none_is_left_over() -> None:
    named = {need.permission for module in RIGHTS["modules"] for need in table.needs(RIGHTS, module)}
    given = {one for rule in RIGHTS["rules"].values() for one in (*rule["permissions"], *rule.get("optional", {}))}
    assert named == given == set(RIGHTS["permissions"])
    assert set(RIGHTS["rules"]["everything"]["permissions"]) == named


@pytest.mark.parametrize(
    ("rule", "module"),
    [
        ("audit", "domain_info"),
        ("screenshots", "domain_screenshot"),
        ("edit", "domain_power_control"),
        ("power", "domain_power"),
    ],
)
def test_a_rule_is_for_a_module(rule: str, module: str) -> None:
    told = RIGHTS["rules"][rule]
    given = {*told["permissions"], *told.get("optional", {})}
    assert given == {need.permission for need in table.needs(RIGHTS, module)}


def test_looking_takes_what_everybody_has() -> None:
    given = set(RIGHTS["rules"]["audit-read-only"]["permissions"])
    assert given <= {name for name, told in RIGHTS["permissions"].items() if told.get("everybody")}
    assert given < set(RIGHTS["rules"]["audit"]["permissions"])


def test_the_proxys_rule_gives_what_the_table_says() -> None:
    template = (ROOT / "roles/vnc_proxy/templates/kvmops-vnc-proxy.rules.j2").read_text(encoding="utf-8")
    given = re.findall(r'^ +"(org\.libvirt\.[a-z.-]+)",?$', template, re.MULTILINE)
    needed = [table.API + need.permission for need in table.needs(RIGHTS, "vnc_proxy (role)")]
    assert given == ["org.libvirt.unix.manage", *needed]


def test_errors_name_permissions_of_the_table() -> None:
    said = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "plugins/module_utils").glob("_*.py"))
    named = set(re.findall(r"\b((?:connect|domain)\.[a-z]+(?:-[a-z]+)*)(?= and |\")", said))
    assert {"connect.search-domains", "domain.read-secure", "domain.init-control"} <= named
    assert named <= set(RIGHTS["permissions"])


@pytest.mark.skipif(not shutil.which("node"), reason="there is no Node.js to run polkit's rules")
@pytest.mark.parametrize("name", sorted(RIGHTS["rules"]))
def test_a_rule_allows_its_group_what_it_lists(name: str) -> None:
    told = RIGHTS["rules"][name]
    group, details = [f"kvmops-{name}"], {"domain_name": "web", "domain_uuid": "u"}
    actions = ["org.libvirt.unix.manage", "org.libvirt.unix.monitor", "org.freedesktop.login1.reboot"]
    actions += [table.API + permission for permission in RIGHTS["permissions"]]
    allowed = {told["connection"], *(table.API + permission for permission in told["permissions"])}
    rule = RULES[f"50-kvmops-{name}.rules"]
    ours: list[Asked] = [(group, action, details) for action in actions]
    assert answers(rule, ours) == ["yes" if action in allowed else None for action in actions]
    others: list[Asked] = [(["kvmops"], action, details) for action in actions]
    assert set(answers(rule, others)) == {None}


@pytest.mark.skipif(not shutil.which("node"), reason="there is no Node.js to run polkit's rules")
def test_a_rule_can_be_kept_to_some_domains_and_widened() -> None:
    rule = RULES["50-kvmops-screenshots.rules"]
    assert "var domains = [];" in rule
    rule = re.sub(r'// (?="org)', "", rule.replace("var domains = [];", 'var domains = ["web", "u-2"];'))
    cases = [
        ("org.libvirt.unix.manage", {}, "yes"),
        ("org.libvirt.api.connect.getattr", {}, "yes"),
        ("org.libvirt.api.domain.screenshot", {"domain_name": "web", "domain_uuid": "u-1"}, "yes"),
        ("org.libvirt.api.domain.open-graphics", {"domain_name": "by its UUID", "domain_uuid": "u-2"}, "yes"),
        ("org.libvirt.api.domain.send-input", {"domain_name": "web", "domain_uuid": "u-1"}, "yes"),
        ("org.libvirt.api.domain.screenshot", {"domain_name": "other", "domain_uuid": "u-3"}, None),
        ("org.libvirt.api.domain.write", {"domain_name": "web", "domain_uuid": "u-1"}, None),
    ]
    asked: list[Asked] = [(["kvmops-screenshots"], action, details) for action, details, _answer in cases]
    assert answers(rule, asked) == [answer for _action, _details, answer in cases]
