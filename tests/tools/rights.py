# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes polkit's rules, those of the role least_privilege among them, and the tables of docs/least-privilege.md from
docs/polkit/rights.yml: `python rights.py`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple, Optional

import yaml

DOCS = Path(__file__).resolve().parents[2] / "docs"
DATA = DOCS / "polkit/rights.yml"
FOLDERS = (DATA.parent, DOCS.parent / "roles/least_privilege/files")
"""Where the rules are: what is installed of a collection need not have docs."""
PAGE = DOCS / "least-privilege.md"
BEGIN, END = "<!-- tables: begin (python tests/tools/rights.py) -->", "<!-- tables: end -->"
API = "org.libvirt.api."

# REUSE-IgnoreStart
HEADER = """\
// Copyright: (c) 2026, The kvmops.console authors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later
"""
# REUSE-IgnoreEnd
RULE = """\
//
// {title}
// For libvirt with access_drivers = [ "polkit" ]; see docs/least-privilege.md of the collection kvmops.console.
polkit.addRule(function(action, subject) {{
    var group = {group};
    // Names or UUIDs of the domains that are meant; none for all.
    var domains = [];
    var actions = [
{actions}
    ];

    if (actions.indexOf(action.id) < 0 || !subject.isInGroup(group)) {{
        return polkit.Result.NOT_HANDLED;
    }}
    if (action.id.indexOf("org.libvirt.api.domain.") === 0 && domains.length > 0 &&
            domains.indexOf(action.lookup("domain_name")) < 0 && domains.indexOf(action.lookup("domain_uuid")) < 0) {{
        return polkit.Result.NOT_HANDLED;
    }}
    return polkit.Result.YES;
}});
"""


class Need(NamedTuple):
    """A permission that a module asks for; always, where `option` names none."""

    permission: str
    purpose: str
    option: Optional[str]


Rights = dict[str, Any]


def load(path: Path = DATA) -> Rights:
    """The table."""
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def needs(rights: Rights, module: str) -> list[Need]:
    """What a module asks for."""
    lines: list[list[str]] = []
    for entry in rights["modules"][module]:
        lines += entry if isinstance(entry[0], list) else [entry]
    return [Need(line[0], line[1], line[2] if len(line) > 2 else None) for line in lines]


def rule(rights: Rights, name: str) -> str:
    """A file for /etc/polkit-1/rules.d."""
    told = rights["rules"][name]
    wanted = [told["connection"], *(API + permission for permission in told["permissions"])]
    lines = [f"        {json.dumps(action)}," for action in wanted]
    for permission, why in told.get("optional", {}).items():
        lines.append(f"        // {why} It opens")
        lines.append(f"        // {rights['permissions'][permission]['opens']}.")
        lines.append(f"        // {json.dumps(API + permission)},")
    return HEADER + RULE.format(title=told["title"], group=json.dumps(f"kvmops-{name}"), actions="\n".join(lines))


def rules(rights: Rights) -> dict[str, str]:
    """All files, by name."""
    return {f"50-kvmops-{name}.rules": rule(rights, name) for name in rights["rules"]}


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def tables(rights: Rights) -> str:
    """In Markdown: by module, by permission, and by rule."""
    lines = ["### By module", ""]
    lines += [_row("module", "permission", "what for", "when"), _row("---", "---", "---", "---")]
    for module in rights["modules"]:
        for need in needs(rights, module):
            lines.append(_row(f"`{module}`", f"`{need.permission}`", need.purpose, need.option or "always"))
    lines += ["", "### By permission", ""]
    lines += [_row("permission", "what it opens", "who has it by default"), _row("---", "---", "---")]
    for permission, told in rights["permissions"].items():
        lines.append(_row(f"`{permission}`", told["opens"], "everybody" if told.get("everybody") else "nobody"))
    lines += ["", "### By rule", ""]
    lines += [_row("file in `docs/polkit`", "group", "for", "optional"), _row("---", "---", "---", "---")]
    for name, told in rights["rules"].items():
        optional = ", ".join(f"`{permission}`" for permission in told.get("optional", {}))
        lines.append(_row(f"`50-kvmops-{name}.rules`", f"`kvmops-{name}`", told["title"], optional or "-"))
    return "\n".join(lines)


def page(text: str, rights: Rights) -> str:
    """The page as it should be."""
    head, rest = text.split(BEGIN)
    return f"{head}{BEGIN}\n\n{tables(rights)}\n\n{END}{rest.split(END)[1]}"


def main() -> None:
    """Write the rules and the page."""
    rights = load()
    for name, text in rules(rights).items():
        for folder in FOLDERS:
            (folder / name).write_text(text, encoding="utf-8")
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), rights), encoding="utf-8")


if __name__ == "__main__":
    main()
