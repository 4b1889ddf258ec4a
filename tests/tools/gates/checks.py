# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of our own: licence headers, the action group, and README.md's list of contents, which is generated."""

from __future__ import annotations

import re
from pathlib import Path

# REUSE-IgnoreStart
COPYRIGHT = "Copyright: (c) 2026, The kvmops.console authors"
LICENCE = (
    "GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)"
)
SPDX = "SPDX-License-Identifier: GPL-3.0-or-later"
# REUSE-IgnoreEnd
COMMENTED = {".py", ".sh", ".yml", ".yaml", ".j2", ".toml", ".js", ".css"}
GENERATED = ("changelogs/changelog.yaml",)
FIRST_LINES = 8

GROUP = "domains"
GROUP_FRAGMENT = "kvmops.console.attributes.group"

BEGIN, END = "<!-- contents: begin (make docs) -->", "<!-- contents: end -->"


def headers(root: Path) -> list[str]:
    """Files whose first lines lack the licence header."""
    findings = []
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.suffix not in COMMENTED or path.is_symlink() or not path.stat().st_size or name in GENERATED:
            continue
        start = "\n".join(path.read_text(encoding="utf-8").splitlines()[:FIRST_LINES])
        findings += [f"{name}: the header lacks '{text}'" for text in (COPYRIGHT, LICENCE, SPDX) if text not in start]
    return findings


def action_group(root: Path) -> list[str]:
    """Modules that are in the action group and do not say so in their documentation, and the other way round."""
    runtime = (root / "meta/runtime.yml").read_text(encoding="utf-8")
    listed = re.search(rf"^  {GROUP}:\n((?:    - \w+\n)+)", runtime, re.MULTILINE)
    members = set(re.findall(r"- (\w+)", listed[1])) if listed else set()
    modules = {path.stem: path.read_text(encoding="utf-8") for path in (root / "plugins/modules").glob("*.py")}
    told = {name for name, text in modules.items() if GROUP_FRAGMENT in text}
    return [
        *(f"meta/runtime.yml: {name} says that it is in the action group {GROUP}" for name in sorted(told - members)),
        *(f"plugins/modules/{name}.py: does not name {GROUP_FRAGMENT}" for name in sorted(members - told)),
    ]


def _field(text: str, name: str) -> str:
    """The first one-line value of `name:` in YAML text, without markup."""
    found = re.search(rf"^\s*{name}:\s*(.+)$", text, re.MULTILINE)
    value = found[1].strip().strip("'\"") if found else ""
    return re.sub(r"\b[A-Z]{1,2}\(([^)]*)\)", r"`\1`", value)


def _modules(root: Path) -> list[tuple[str, str]]:
    files = sorted((root / "plugins/modules").glob("*.py"))
    return [(path.stem, _field(path.read_text(encoding="utf-8"), "short_description")) for path in files]


def _roles(root: Path) -> list[tuple[str, str]]:
    files = sorted((root / "roles").glob("*/meta/main.yml"))
    return [(path.parents[1].name, _field(path.read_text(encoding="utf-8"), "description")) for path in files]


def _playbooks(root: Path) -> list[tuple[str, str]]:
    files = sorted((root / "playbooks").glob("*.yml"))
    return [(path.stem, _field(path.read_text(encoding="utf-8"), "- name")) for path in files]


def contents_text(root: Path) -> str:
    """The README's list of contents, from the files themselves."""
    sections = (("Modules", _modules(root)), ("Roles", _roles(root)), ("Playbooks", _playbooks(root)))
    lines = [BEGIN]
    for title, rows in sections:
        if not rows:
            continue
        lines += ["", f"### {title}", "", "| name | what it does |", "| --- | --- |"]
        lines += [f"| `kvmops.console.{name}` | {text.rstrip('.')} |" for name, text in rows]
    return "\n".join([*lines, "", END])


def with_contents(root: Path) -> str:
    """README.md as it should be."""
    readme = (root / "README.md").read_text(encoding="utf-8")
    if BEGIN not in readme or END not in readme:
        raise ValueError(f"README.md lacks the lines '{BEGIN}' and '{END}'.")
    before, rest = readme.split(BEGIN, 1)
    return before + contents_text(root) + rest.split(END, 1)[1]


def contents(root: Path) -> list[str]:
    """What README.md lists wrongly."""
    findings = [
        f"{kind} {name} has no one-line description"
        for kind, rows in (("module", _modules(root)), ("role", _roles(root)), ("playbook", _playbooks(root)))
        for name, text in rows
        if not text
    ]
    try:
        if with_contents(root) != (root / "README.md").read_text(encoding="utf-8"):
            findings.append("README.md: the list of contents is not what the files say: run `make docs`")
    except ValueError as error:
        findings.append(str(error))
    return findings
