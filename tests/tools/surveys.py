# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The surveys of AWX's job templates, made from the documentation of what the playbooks take: `make docs`.

An option is described in one place: the argument specs of a role, or the documentation of a module. What this file adds
is which of them a person is asked, in which order and under which heading, and why the others are not asked. An option
that is neither asked nor left out, or that is no longer there, is an error.

An answer, and an empty one as well, takes the place of what the inventory says. So what differs by host is not asked.
And ansible-core from 2.19 on reads an empty answer as null, which is no value of an option that has a default. So
whatever has a default has to be answered, and AWX answers with the default.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
import typing as t
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
TARGET = "playbooks/vars/awx_surveys.yml"
HEAD = """\
# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
#
# Made by `make docs` (tests/tools/surveys.py) from the argument specs of roles and the documentation of modules.
---
"""

Json = dict[str, t.Any]

LIMIT = "AWX asks for the limit by itself"
GONE = "a path in the job's container, which is thrown away: publish_to says where files go"
HOST = "differs by host: it belongs into the inventory"
STRUCTURE = "a structure, which no question of a survey can be: the inventory or the variables of the template have it"
SERVER = "of the web server and not of the run: the variables of the template have it"
SECRET = "a secret: the credential has it"
INNER = "the playbook sets it"
GUARD = "a guard of the inventory, which an empty answer would lift"

NO_TEMPLATE = {"awx_setup": "it makes the job templates"}
"""Playbooks that are nothing to run in AWX, and why."""

PUBLISH = {"publish_to": "Publish to"}
NOT_PUBLISH = {
    "publish_token": SECRET,
    "publish_headers": STRUCTURE,
    "publish_validate_certs": SERVER,
    "publish_ca_path": SERVER,
    "publish_timeout": SERVER,
    "publish_files": INNER,
    "publish_root": INNER,
}
REPORT = {"fleet_report_title": "Title of the report", "fleet_report_formats": "Formats of the report", **PUBLISH}
DOMAINS = {"fleet_domains": "Domains"}
PROBE = {"fleet_probe": "Probe QEMU binaries"}
NOT_FLEET = {
    "fleet_hosts": LIMIT,
    "fleet_uri": HOST,
    "fleet_exclude": GUARD,
    "fleet_domain_facts": "goes with an inventory that has domains as hosts: that has it",
    "fleet_report_dir": GONE,
    **NOT_PUBLISH,
}
RESTART = {
    "fleet_restart": "Power-cycle what waits for it",
    "fleet_batch": "Power cycles at the same time",
    "fleet_power_force": "Pull the plug",
    "fleet_if_viewers": "Where somebody looks at the console",
}
NOT_RESTART = {
    "fleet_order": STRUCTURE,
    "fleet_gates": STRUCTURE,
    "fleet_window": STRUCTURE,
    "fleet_methods": STRUCTURE,
    "fleet_resume_file": GONE,
}
SERIAL = {"fleet_serial": "Hosts at the same time"}


class Survey(t.NamedTuple):
    """What is asked, as headings by variable, and what is not, as reasons by variable."""

    asked: t.Mapping[str, str]
    left_out: t.Mapping[str, str]
    required: t.Collection[str] = ()


SURVEYS = {
    "audit": Survey({**DOMAINS, **PROBE, **REPORT}, NOT_FLEET),
    "remediate": Survey(
        {
            **DOMAINS,
            "fleet_state": "powerControl",
            "fleet_include_saved_states": "Change saved states, too",
            "fleet_force": "Enable it whatever QEMU does",
            "fleet_managed": "What others manage",
            **SERIAL,
            **RESTART,
            **PROBE,
            **REPORT,
        },
        {**NOT_FLEET, **NOT_RESTART, "fleet_viewers_handle_pointer_change": HOST},
    ),
    "rollback": Survey(
        {
            **DOMAINS,
            "fleet_include_saved_states": "Change saved states, too",
            **SERIAL,
            **RESTART,
            **PROBE,
            **REPORT,
        },
        {
            **NOT_FLEET,
            **NOT_RESTART,
            "fleet_state": INNER,
            "fleet_viewers_handle_pointer_change": "means nothing with the state that the playbook sets",
            "fleet_force": "means nothing with the state that the playbook sets",
            "fleet_managed": "means nothing with the state that the playbook sets",
        },
    ),
    "screenshots": Survey(
        {
            "console_wall_domains": "Domains",
            "console_wall_head": "Screen",
            "console_wall_text": "Read the text",
            "console_wall_ocr": "Recognize text by Tesseract",
            "console_wall_max_age": "Oldest picture",
            "console_wall_timeout": "Time for a picture",
            "console_wall_concurrency": "Pictures at the same time",
            "console_wall_title": "Title of the wall",
            **PUBLISH,
        },
        {
            "fleet_hosts": LIMIT,
            "console_wall_exclude": GUARD,
            "console_wall_uri": HOST,
            "console_wall_libvirt": HOST,
            "console_wall_incus": HOST,
            "console_wall_incus_socket": HOST,
            "console_wall_incus_projects": HOST,
            "console_wall_incus_instances": HOST,
            "console_wall_qmp_sockets": HOST,
            "console_wall_store": HOST,
            "console_wall_dir": GONE,
            "console_wall_mode": GONE,
            "console_wall_metrics": GONE,
            "console_wall_history": "there is none in a container that is thrown away",
            "console_wall_refresh": SERVER,
            **NOT_PUBLISH,
        },
    ),
    "power": Survey(
        {
            "power_state": "State",
            "power_domains": "Domains",
            "power_force": "Pull the plug",
            "power_if_viewers": "Where somebody looks at the console",
            "power_viewers_timeout": "Time for viewers to go",
            "power_if_locked": "Where the owner has locked the domain",
            "power_allow_vanish": "Let transient domains vanish",
            "power_boot_id": "Ask for the boot id",
            "power_timeout": "Time for a request",
            "power_concurrency": "Requests at the same time",
            "power_evidence": "Take pictures before and after",
            **SERIAL,
        },
        {
            "fleet_hosts": LIMIT,
            "power_exclude": GUARD,
            "power_uri": HOST,
            "power_methods": STRUCTURE,
            "power_confirm_identity": STRUCTURE,
            "power_evidence_dir": HOST,
            "power_evidence_runs": HOST,
        },
        required=("power_state", "power_domains"),
    ),
    "patch_novnc": Survey(
        {
            "novnc_patch_state": "Patch",
            "novnc_patch_force": "Give up what somebody changed",
            "novnc_patch_serial": "Hosts at the same time",
        },
        {
            "novnc_patch_hosts": LIMIT,
            **dict.fromkeys(
                (
                    "novnc_patch_mode",
                    "novnc_patch_paths",
                    "novnc_patch_urls",
                    "novnc_patch_validate_certs",
                    "novnc_patch_backup_dir",
                    "novnc_patch_keep",
                    "novnc_patch_keep_python",
                ),
                HOST,
            ),
        },
    ),
    "deploy_proxy": Survey(
        {
            "vnc_proxy_state": "Proxy",
            "deploy_proxy_serial": "Hosts at the same time",
        },
        {
            "deploy_proxy_hosts": LIMIT,
            **dict.fromkeys(
                (
                    "vnc_proxy_files",
                    "vnc_proxy_listeners",
                    "vnc_proxy_users",
                    "vnc_proxy_novnc",
                    "vnc_proxy_policy",
                    "vnc_proxy_domains",
                    "vnc_proxy_targets",
                    "vnc_proxy_tokens",
                    "vnc_proxy_limits",
                ),
                STRUCTURE,
            ),
            **dict.fromkeys(
                (
                    "vnc_proxy_install",
                    "vnc_proxy_python",
                    "vnc_proxy_wheels",
                    "vnc_proxy_index_url",
                    "vnc_proxy_packages",
                    "vnc_proxy_user",
                    "vnc_proxy_group",
                    "vnc_proxy_groups",
                    "vnc_proxy_socket_activation",
                    "vnc_proxy_socket_group",
                    "vnc_proxy_origins",
                    "vnc_proxy_allow_no_origin",
                    "vnc_proxy_trusted_proxies",
                    "vnc_proxy_metrics_from",
                    "vnc_proxy_libvirt",
                    "vnc_proxy_audit_file",
                    "vnc_proxy_polkit",
                    "vnc_proxy_polkit_domains",
                    "vnc_proxy_hand_over_timeout",
                    "vnc_proxy_check_url",
                    "vnc_proxy_check_open",
                    "vnc_proxy_check_from",
                    "vnc_proxy_check_validate_certs",
                    "vnc_proxy_check_ca_path",
                ),
                HOST,
            ),
            "vnc_proxy_check_token": SECRET,
        },
    ),
}

_TOGETHER = "How many hosts go together, as a number or a percentage."
_PATTERN = {"description": "The hosts of the inventory that are meant, as a pattern.", "type": "str", "default": "all"}

OWN: dict[str, Json] = {
    "fleet_hosts": _PATTERN,
    "novnc_patch_hosts": _PATTERN,
    "deploy_proxy_hosts": _PATTERN,
    "fleet_serial": {"description": _TOGETHER, "type": "str", "default": "100%"},
    "novnc_patch_serial": {"description": _TOGETHER, "type": "str", "default": "100%"},
    "deploy_proxy_serial": {"description": _TOGETHER, "type": "str", "default": "1"},
}
"""Variables of plays, which no role and no module describes."""

MODULE_OF = {"power": ("domain_power", "domains")}
"""Playbooks that hand all options of a module to it: the module, and the fragment with those that others have, too."""

VARIABLE = re.compile(
    r"(?<![\w.])((?:fleet|power|publish|console_wall|novnc_patch|deploy_proxy|vnc_proxy)_\w+)"
    r"(?:\s*\|\s*default\((.*?)(?:, true)?\))?"
)


def load(path: Path) -> t.Any:
    """A YAML file. Not to be changed: who asks again gets the same."""
    return _parsed(path.read_text(encoding="utf-8"))


@functools.cache
def _parsed(content: str) -> t.Any:
    return yaml.safe_load(content)


def playbooks(root: Path = ROOT) -> list[str]:
    """The names of all playbooks."""
    return sorted(path.stem for path in (root / "playbooks").glob("*.yml"))


def _inclusions(tasks: t.Any, kind: str) -> t.Iterator[t.Any]:
    """The arguments of every task or play that includes or imports something of that kind."""
    if isinstance(tasks, list):
        for each in tasks:
            yield from _inclusions(each, kind)
    elif isinstance(tasks, dict):
        for key, value in tasks.items():
            if key in (f"ansible.builtin.import_{kind}", f"ansible.builtin.include_{kind}"):
                yield value
            elif isinstance(value, (list, dict)):
                yield from _inclusions(value, kind)


def _role_options(root: Path, arguments: Json, seen: set[tuple[str, str]]) -> Json:
    """The options of an entry point of a role of ours, and of the roles that it includes itself."""
    role, entry = arguments["name"].rpartition(".")[2], arguments.get("tasks_from", "main")
    if (role, entry) in seen or not isinstance(entry, str) or "{{" in role + entry:
        return {}
    seen.add((role, entry))
    tasks = root / f"roles/{role}/tasks/{entry}.yml"
    found = dict(load(root / f"roles/{role}/meta/argument_specs.yml")["argument_specs"].get(entry, {})["options"])
    for inner in _inclusions(load(tasks), "role"):
        found = {**_role_options(root, inner, seen), **found}
    return found


def _module_options(root: Path, module: str, fragment: str) -> Json:
    """The options of a module, from its documentation."""
    found: Json = {}
    for path in (f"plugins/doc_fragments/{fragment}.py", f"plugins/modules/{module}.py"):
        found.update(_documentation((root / path).read_text(encoding="utf-8")).get("options", {}))
    return found


@functools.cache
def _documentation(code: str) -> Json:
    """What a module or a fragment says of itself."""
    for node in ast.walk(ast.parse(code)):
        names = [name.id for name in getattr(node, "targets", ()) if isinstance(name, ast.Name)]
        if isinstance(node, ast.Assign) and "DOCUMENTATION" in names:
            return dict(yaml.safe_load(ast.literal_eval(node.value)))
    raise ValueError("There is no DOCUMENTATION.")


def variables(playbook: str, root: Path = ROOT) -> dict[str, set[str]]:
    """What the play itself reads, each with the defaults that it gives it, as they are written."""
    text = re.sub(r"(?m)^\s*#.*$", "", (root / f"playbooks/{playbook}.yml").read_text(encoding="utf-8"))
    found: dict[str, set[str]] = {}
    for name, default in VARIABLE.findall(text):
        found.setdefault(name, set()).update({default} - {""})
    return found


def options(playbook: str, root: Path = ROOT) -> Json:
    """Every option of a playbook, as its role or module describes it."""
    plays = load(root / f"playbooks/{playbook}.yml")
    found: Json = {}
    seen: set[tuple[str, str]] = set()
    for other in _inclusions(plays, "playbook"):
        found.update(options(Path(other).stem, root))
    for arguments in _inclusions(plays, "role"):
        found.update(_role_options(root, arguments, seen))
    if playbook in MODULE_OF:
        described = _module_options(root, *MODULE_OF[playbook])
        found.update({f"{playbook}_{name}": spec for name, spec in described.items()})
    for name in variables(playbook, root):
        if name not in found:
            # What nothing describes is shown as that by the test.
            found[name] = OWN.get(name, {})
    return found


def _plain(description: t.Any) -> str:
    """Ansible's markup as text, without what only leads elsewhere."""
    text = " ".join(description) if isinstance(description, list) else str(description)
    text = re.sub(r"; see (?:the )?[OPM]\([^()]*\)[^.]*\.", ".", text)
    text = re.sub(r"[A-Z]+\((?:kvmops\.console\.)?([^()#]+)(?:#\w+:?[^()]*)?\)", r"\1", text)
    return " ".join(text.split())


def _answers(spec: Json) -> Json:
    """The type of a question, with its choices and limits, and the default as that type has it."""
    kind, default, choices = spec.get("type", "str"), spec.get("default"), spec.get("choices")
    if spec.get("no_log"):
        return {"type": "password", "min": 0, "max": 4096}
    if kind == "bool":
        # A survey has no yes and no: the roles and modules take these words for it.
        words = {True: "true", False: "false", None: ""}
        return {"type": "multiplechoice", "choices": ["true", "false"], "default": words[default]}
    if kind == "list":
        lines = {"default": "\n".join(map(str, default or []))}
        if choices:
            return {"type": "multiselect", "choices": choices, **lines}
        return {"type": "textarea", "min": 0, "max": 16384, **lines}
    if choices:
        return {"type": "multiplechoice", "choices": choices, "default": default or ""}
    if kind in ("int", "float"):
        number = {"int": int, "float": float}[kind]
        return {"type": {"int": "integer"}.get(kind, kind), "min": 0, "max": None, "default": number(default or 0)}
    return {"type": "text", "min": 0, "max": 1024, "default": str(default if default is not None else "")}


ALL = {"fleet_domains": "**", "console_wall_domains": "**"}
"""The answer for all there are, where no item means that. ansible-core cannot read a lone asterisk from AWX."""


def question(variable: str, heading: str, spec: Json, *, required: bool) -> Json:
    """One question, with what AWX wants of it."""
    answers = _answers(spec)
    if variable in ALL:
        answers["default"] = ALL[variable]
    if not required and answers.get("default", "") == "":
        answers.pop("default", None)
    told = _plain(spec["description"])
    if answers["type"] == "textarea":
        told += " One a line, or separated by commas; ** for all."
    return {
        "question_name": heading,
        "question_description": told,
        "variable": variable,
        "required": required or "default" in answers,
        **answers,
    }


def survey(playbook: str, root: Path = ROOT) -> Json:
    """The whole survey of a playbook, as AWX stores it."""
    described, wanted = options(playbook, root), SURVEYS[playbook]
    return {
        "name": "",
        "description": "",
        "spec": [
            question(name, heading, described[name], required=name in wanted.required)
            for name, heading in wanted.asked.items()
        ],
    }


def findings(root: Path = ROOT) -> list[str]:
    """Where playbooks and surveys have drifted apart, a sentence each."""
    there, told = set(playbooks(root)), {*SURVEYS, *NO_TEMPLATE}
    found = [f"{name} is a playbook without a survey" for name in sorted(there - told)]
    found += [f"there is no playbook {name}" for name in sorted(told - there)]
    for name in sorted(there & set(SURVEYS)):
        found += [f"{name}: {finding}" for finding in _drift(name, SURVEYS[name], root)]
    target = root / TARGET
    if not found and (not target.exists() or target.read_text(encoding="utf-8") != text(root)):
        found.append(f"{TARGET} is not what the specs say: run `make docs`")
    return found


def _drift(playbook: str, wanted: Survey, root: Path) -> list[str]:
    described, known = options(playbook, root), {*wanted.asked, *wanted.left_out}
    found = [f"{name} is neither asked nor left out" for name in sorted(set(described) - known)]
    found += [f"{name} is no option" for name in sorted(known - set(described))]
    found += [f"{name} is both asked and left out" for name in sorted(set(wanted.asked) & set(wanted.left_out))]
    found += [f"{name} is described nowhere" for name in sorted(described) if not described[name].get("description")]
    defaults = _defaults(root)
    for name in sorted(known & set(described)):
        kept = described[name].get("default")
        if name in wanted.asked and name in defaults and defaults[name] not in (kept, "" if kept is None else kept):
            found.append(f"{name} is {defaults[name]!r} by default, and {kept!r} in its description")
    for name, written in variables(playbook, root).items():
        kept = described[name].get("default")
        read = {repr(yaml.safe_load(each)) for each in written if each not in ("omit", "''", "[]")}
        if read - {repr(kept), repr(_number(kept))}:
            found.append(f"{name} is {' and '.join(sorted(read))} by default, and {kept!r} in its description")
    handed = set(variables(playbook, root))
    return found + [
        f"{name} is not handed to the module"
        for name in sorted(described)
        if playbook in MODULE_OF and name.startswith(f"{playbook}_") and name not in handed
    ]


def _defaults(root: Path) -> Json:
    """The defaults of all roles."""
    found: Json = {}
    for path in sorted((root / "roles").glob("*/defaults/main.yml")):
        found.update(load(path) or {})
    return found


def _number(kept: t.Any) -> t.Any:
    """A number that is kept as text."""
    return int(kept) if isinstance(kept, str) and kept.isdigit() else kept


def text(root: Path = ROOT) -> str:
    """The file with all surveys."""
    data = {"awx_setup_surveys": {playbook: survey(playbook, root) for playbook in SURVEYS}}
    return HEAD + yaml.dump(data, Dumper=_Indented, sort_keys=False, allow_unicode=True, width=110)


class _Indented(yaml.SafeDumper):
    """Lists are indented, as yamllint wants it, and lines are lines."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: object) -> bool:
        return True


def _lines(dumper: yaml.SafeDumper, data: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", data, style="|" if "\n" in data else None)


_Indented.add_representer(str, _lines)


def main() -> int:
    """Write the file."""
    (ROOT / TARGET).parent.mkdir(exist_ok=True)
    (ROOT / TARGET).write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
