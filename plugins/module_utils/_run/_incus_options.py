# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The options that every Incus module has, and what their runs share: the way to the server, and which instances.

Private to this collection. Documented in plugins/doc_fragments/incus.py.
"""

from __future__ import annotations

import os
import typing as t

from ansible_collections.kvmops.console.plugins.module_utils import _incus
from ansible_collections.kvmops.console.plugins.module_utils._errors import IncusRefused
from ansible_collections.kvmops.console.plugins.module_utils._incus import Client, Instance, Way
from ansible_collections.kvmops.console.plugins.module_utils._run._task import need
from ansible_collections.kvmops.console.plugins.module_utils._selection import Selection, matches

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

Params = dict[str, t.Any]

_GLOB = frozenset("*?[")


def incus_arguments(**more: dict[str, t.Any]) -> dict[str, t.Any]:
    """What AnsibleModule has to be told: the common options, and a module's own."""
    return {
        "argument_spec": {
            "url": {"type": "str"},
            "socket_path": {"type": "path"},
            "client_cert": {"type": "path"},
            # The path of a key is no secret.
            "client_key": {"type": "path", "no_log": False},
            "server_cert": {"type": "path"},
            "fingerprint": {"type": "str"},
            "ca_path": {"type": "path"},
            "projects": {"type": "list", "elements": "str", "default": ["default"]},
            "instances": {"type": "list", "elements": "str", "default": []},
            "exclude": {"type": "list", "elements": "str", "default": []},
            **more,
        },
        "mutually_exclusive": [("url", "socket_path"), ("server_cert", "fingerprint", "ca_path")],
        "required_together": [("client_cert", "client_key")],
        "required_by": dict.fromkeys(("client_cert", "server_cert", "fingerprint", "ca_path"), "url"),
        "supports_check_mode": True,
    }


def need_requests(module: AnsibleModule, **others: str | None) -> None:
    """Make sure of requests, and of what else the module needs: the traceback of each `others`, None where it is there.

    One interpreter has to have them all.
    """
    imports = ", ".join(["requests", *others])
    packages = "python3-requests" + ("".join(f" and {_PACKAGES[name]}" for name in others))
    need(module, {"requests": _incus.REQUESTS_TRACEBACK, **others}, imports, packages)


_PACKAGES = {"PIL": "Pillow (Debian, Ubuntu: python3-pil; RHEL, Fedora: python3-pillow; SUSE: python3-Pillow)"}


def way(params: Params) -> Way:
    """How to reach the server that is meant. Raises InputError."""
    if params["url"] is None:
        return _incus.unix(params["socket_path"] or _incus.find_socket(os.environ))
    return _incus.https(
        params["url"],
        params["client_cert"],
        params["client_key"],
        server_cert=params["server_cert"],
        fingerprint=params["fingerprint"],
        ca_path=params["ca_path"],
    )


def choose(client: Client, params: Params) -> tuple[list[Instance], list[str]]:
    """The instances that are meant, by project and name, and the patterns that mean none.

    Raises IncusRefused for a project that is named, without a glob, and cannot be seen.
    """
    projects, idle = _projects(client, params["projects"])
    instances = [instance for project in projects for instance in client.instances(project)]
    instances.sort(key=lambda instance: (instance.project, instance.name))
    picked, unmatched = Selection(params["instances"], params["exclude"]).pick(
        instances, lambda instance: (instance.name, instance.uuid)
    )
    return picked, idle + unmatched


def _projects(client: Client, patterns: t.Sequence[str]) -> tuple[list[str], list[str]]:
    """The projects that are meant, and the globs that mean none.

    Incus lists the instances of a project that is not there as none at all; so it is looked up. Raises IncusRefused.
    """
    known = client.projects()
    meant = [name for name in known if any(matches(pattern, name, _incus.NO_UUID) for pattern in patterns)]
    idle = [pattern for pattern in patterns if not any(matches(pattern, name, _incus.NO_UUID) for name in known)]
    named = [pattern for pattern in idle if not _GLOB.intersection(pattern)]
    if named:
        raise IncusRefused(
            f"Incus at {client.way.name} has no project {named[0]} that this client may see: see `incus project list`."
        )
    return meant, idle
