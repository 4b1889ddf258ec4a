# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that every module has that talks to a VNC server, and what their runs share: the way to it, the time.

Private to this collection. Documented in plugins/doc_fragments/vnc.py.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.kvmops.console.plugins.module_utils import _vnc
from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError

Params = dict[str, t.Any]

MOST_SECONDS = 600


def vnc_arguments(**more: dict[str, t.Any]) -> dict[str, t.Any]:
    """What AnsibleModule has to be told: the common options, and a module's own."""
    return {
        "argument_spec": {
            "address": {"type": "str"},
            "port": {"type": "int"},
            "socket": {"type": "path"},
            "url": {"type": "str"},
            "validate_certs": {"type": "bool", "default": True},
            "ca_path": {"type": "path"},
            "password": {"type": "str", "no_log": True},
            "timeout": {"type": "float", "default": 10.0},
            **more,
        },
        "mutually_exclusive": [("address", "socket", "url")],
        "required_one_of": [("address", "socket", "url")],
        "required_by": {"port": "address"},
        "supports_check_mode": True,
    }


def seconds(params: Params, option: str = "timeout") -> float:
    """A number of seconds that is bounded, as one of the options says it. Raises InputError."""
    asked: float = params[option]
    if not 0 < asked <= MOST_SECONDS:
        raise InputError(f"{option} is {asked:g}; it has to be more than 0 and at most {MOST_SECONDS} seconds.")
    return asked


def way(params: Params) -> _vnc.Way:
    """How to reach the server that is meant. Raises InputError."""
    if params["socket"] is not None:
        if len(os.fsencode(params["socket"])) > _vnc.LONGEST_SOCKET:
            raise InputError(
                f"socket has more than the {_vnc.LONGEST_SOCKET} bytes that the path of a unix socket may have: "
                "make a shorter symbolic link to its folder."
            )
        return _vnc.unix(params["socket"])
    if params["url"] is not None:
        return _vnc.web(params["url"], validate_certs=params["validate_certs"], ca_path=params["ca_path"])
    return _vnc.tcp(*_vnc.parse_address(params["address"], params["port"]))
