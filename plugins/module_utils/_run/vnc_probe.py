# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The run of the vnc_probe module: find the way to the server, ask it, tell what it answered.

Private to this collection.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.console.plugins.module_utils import _rfb, _vnc
from ansible_collections.kvmops.console.plugins.module_utils._run import _vnc_options
from ansible_collections.kvmops.console.plugins.module_utils._verdict import PROBE, UNKNOWN, Verdict

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

Params = dict[str, t.Any]
Result = dict[str, t.Any]

SUBJECT = "the VNC server"


def vnc_probe_options() -> dict[str, t.Any]:
    """Return what AnsibleModule has to be told."""
    return _vnc_options.vnc_arguments(check_gate={"type": "bool", "default": False})


def run(module: AnsibleModule) -> Result:
    """Ask the server that the options name. Raises ConsoleError."""
    return probe(module.params)


def probe(params: Params) -> Result:
    """Ask the server that `params` name, and describe it. Raises ConsoleError."""
    deadline = _vnc.Deadline(_vnc_options.seconds(params))
    way = _vnc_options.way(params)
    password = params["password"]
    hello, answers = _vnc.ask_server(way, deadline, password=password)
    if answers is None:
        return _describe(way, hello, None, None, "the server did not let us in", _not_let_in(hello, password))
    qemu = _vnc.looks_like_qemu(hello, answers)
    gated: bool | None = None
    reason = _why_not_gate(params["check_gate"], qemu)
    if reason is None:
        gated = _vnc.ask_gate(way, deadline, password=password)
    verdict = _vnc.verdict_of(SUBJECT, answers.pointer_change, answers.power_control, gated, qemu)
    return _describe(way, hello, answers, gated, reason, verdict)


def _why_not_gate(wanted: bool, qemu: bool) -> str | None:
    """Why no power message is sent; None when one may be."""
    if not wanted:
        return "check_gate was not asked for"
    return None if qemu else "this is not QEMU, and another server might obey the power message that tells"


def _not_let_in(hello: _vnc.Hello, password: str | None) -> Verdict:
    """Why there is no verdict on a server whose security types end the conversation."""
    if password is None and _rfb.SECURITY_VNC in hello.security_types:
        return Verdict(UNKNOWN, PROBE, f"{SUBJECT} wants a password, and none was given")
    types = ", ".join(_rfb.security_name(number) for number in hello.security_types)
    return Verdict(UNKNOWN, PROBE, f"{SUBJECT} offers only security types that this module does not speak: {types}")


def _describe(
    way: _vnc.Way,
    hello: _vnc.Hello,
    answers: _vnc.Answers | None,
    gated: bool | None,
    gate_reason: str | None,
    verdict: Verdict,
) -> Result:
    return {
        "changed": False,
        "target": way.name,
        "rfb_version": hello.rfb_version,
        "security_types": [
            {"number": number, "name": _rfb.SECURITY_TYPES.get(number)} for number in hello.security_types
        ],
        "security_type": hello.security_type,
        "authenticated": answers is not None,
        "desktop": {"name": hello.name, "width": hello.width, "height": hello.height} if answers else None,
        "power_control": answers.power_control if answers else None,
        "pointer_change_unasked": answers.pointer_change if answers else None,
        "power_messages_gated": gated,
        "gate_reason": gate_reason,
        **verdict._asdict(),
    }
