# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An Ansible module that does nothing but hand on a result: what a result of that size costs Ansible."""

from __future__ import annotations

import json
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Return what `path` has."""
    module = AnsibleModule({"path": {"type": "path", "required": True}})
    module.exit_json(**json.loads(Path(module.params["path"]).read_text(encoding="utf-8")))


if __name__ == "__main__":
    main()
