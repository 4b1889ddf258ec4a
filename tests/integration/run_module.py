# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs one module of the collection as Ansible's wrapper would, with its arguments from standard input.

run_module.py NAME CHECK_MODE DIFF < ARGUMENTS
"""

from __future__ import annotations

import importlib
import json
import sys

from ansible.module_utils import basic


def main() -> None:
    """Print the module's result, as the module does."""
    name, check_mode, diff = sys.argv[1:]
    arguments = {**json.load(sys.stdin), "_ansible_check_mode": check_mode == "1", "_ansible_diff": diff == "1"}
    basic._ANSIBLE_ARGS = json.dumps({"ANSIBLE_MODULE_ARGS": arguments}).encode()
    if hasattr(basic, "_ANSIBLE_PROFILE"):
        basic._ANSIBLE_PROFILE = "legacy"
    importlib.import_module(f"ansible_collections.kvmops.console.plugins.modules.{name}").main()


if __name__ == "__main__":
    main()
