# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The run of the vnc_power module: press one of noVNC's power buttons, and tell no more than can be known.

Private to this collection.
"""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.kvmops.console.plugins.module_utils import _qmp, _rfb, _vnc
from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError, QmpLost
from ansible_collections.kvmops.console.plugins.module_utils._run import _vnc_options

if t.TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

Params = dict[str, t.Any]
Result = dict[str, t.Any]

CODES = {"shutdown": _rfb.XVP_SHUTDOWN, "reset": _rfb.XVP_RESET, "reboot": _rfb.XVP_REBOOT}
EVENTS = {"shutdown": "SHUTDOWN", "reset": "RESET", "reboot": "RESET"}
"""What QEMU tells over QMP when it has come to that (QEMU: qapi/run-state.json)."""

DONE = "done"
BY_EVENT, BY_END = "event", "connection"


def vnc_power_options() -> dict[str, t.Any]:
    """Return what AnsibleModule has to be told."""
    spec = _vnc_options.vnc_arguments(
        action={"type": "str", "choices": list(CODES), "required": True},
        wait={"type": "float"},
        qmp_socket={"type": "path"},
    )
    spec["required_by"]["qmp_socket"] = "wait"
    return spec


def run(module: AnsibleModule) -> Result:
    """The module's result. What failed ends the module here, with all that is known. Raises ConsoleError."""
    result = power(module.params, check=module.check_mode)
    error = result.pop("error", None)
    if error:
        module.fail_json(msg=error, **result)
    return result


class _Seen(t.NamedTuple):
    """What came of it.

    `outcome`: one of _vnc's, or DONE, then `proof` says by what; `event`: the one that QEMU told of, "" for none.
    """

    outcome: str
    proof: str | None = None
    event: str = ""


def power(params: Params, *, check: bool) -> Result:
    """Press the button that `params` name; `check`: look only whether it is there. Raises ConsoleError."""
    action: str = params["action"]
    deadline = _vnc.Deadline(_vnc_options.seconds(params))
    way = _vnc_options.way(params)
    wait = None if params["wait"] is None else _vnc_options.seconds(params, "wait")
    if wait is not None and params["qmp_socket"] is None and action != "shutdown":
        raise InputError(f"Nothing can be seen of a {action} over VNC: set qmp_socket, or leave wait out.")
    with contextlib.ExitStack() as stack:
        monitor = None
        if params["qmp_socket"] is not None and not check:
            # Before the message is sent, lest its event be missed.
            monitor = stack.enter_context(_qmp.connect(params["qmp_socket"], params["timeout"]))
        watch = wait if wait is not None and monitor is None else 0.0
        code = None if check else CODES[action]
        pressed = _vnc.press(way, deadline, code, password=params["password"], watch=watch)
        seen = _Seen(pressed.outcome)
        if monitor is not None and wait is not None and pressed.outcome in (_vnc.SENT, _vnc.UNANSWERED):
            seen = _by_event(monitor, action, wait, seen)
        elif (
            wait is not None
            and pressed.outcome in (_vnc.CLOSED, _vnc.UNANSWERED)
            and _vnc.is_gone(way, _vnc.Deadline(params["timeout"]))
        ):
            seen = _Seen(DONE, BY_END)
    return _describe(way.name, action, wait, pressed, seen)


def _by_event(monitor: _qmp.Monitor, action: str, wait: float, seen: _Seen) -> _Seen:
    """What QEMU's next event of this kind says. A QEMU with -no-reboot ends instead of a reset."""
    wanted = EVENTS[action]
    try:
        event = monitor.wait_event({wanted, "SHUTDOWN"}, wait)
    except QmpLost:
        return seen
    if event is None:
        return seen
    if event.name == wanted:
        return _Seen(DONE, BY_EVENT, event.name)
    return seen._replace(event=event.name)


def _describe(name: str, action: str, wait: float | None, pressed: _vnc.Pressed, seen: _Seen) -> Result:
    always_refused = action == "reboot" and pressed.qemu
    result: Result = {
        "changed": seen.outcome in (_vnc.SENT, _vnc.CLOSED, _vnc.UNANSWERED, DONE)
        or (seen.outcome == _vnc.NOT_SENT and not always_refused),
        "target": name,
        "action": action,
        "offered": pressed.outcome != _vnc.NOT_OFFERED,
        "sent": pressed.outcome not in (_vnc.NOT_OFFERED, _vnc.NOT_SENT),
        "outcome": _vnc.SENT if seen.outcome == _vnc.CLOSED else seen.outcome,
        "proof": seen.proof,
        "evidence": _evidence(action, seen),
        "desktop": pressed.hello.name,
    }
    error = _error(name, action, wait, pressed.outcome, seen, always_refused)
    return {**result, "error": error} if error else result


def _evidence(action: str, seen: _Seen) -> str:
    """What is known, in one line."""
    if seen.proof == BY_EVENT:
        return f"QEMU told of the event {seen.event}"
    return {
        _vnc.NOT_OFFERED: "the server did not announce power control (XVP INIT) to a viewer that listed it",
        _vnc.NOT_SENT: "the server offers power control; nothing was sent in check mode",
        _vnc.REFUSED: "the server answered with a refusal (XVP FAIL)",
        _vnc.UNANSWERED: "the message was sent, and nothing came after it that would tell what became of it",
        DONE: "the server closed the connection, and no VNC server is there any more",
    }.get(
        seen.outcome,
        f"the message was sent and not refused; VNC tells no more, so whether the guest does a {action} is not known",
    )


def _error(name: str, action: str, wait: float | None, outcome: str, seen: _Seen, always_refused: bool) -> str | None:
    """Why this is no success; None when it is one."""
    if outcome == _vnc.NOT_OFFERED:
        return (
            f"{name} offers no power control (XVP): have its owner switch it on (libvirt: powerControl='yes', QEMU:"
            " power-control=on), or use another way than VNC."
        )
    if always_refused and outcome in (_vnc.NOT_SENT, _vnc.REFUSED):
        verb = "would refuse" if outcome == _vnc.NOT_SENT else "refused"
        return f"{name} {verb} to reboot, as every QEMU does (XVP FAIL): use shutdown or reset."
    if outcome == _vnc.REFUSED:
        return f"{name} refused the {action} (XVP FAIL): see in its log why, or use another way than VNC."
    if seen.outcome == DONE:
        return None
    if seen.event:
        return f"{name} took the {action}, and QEMU ended instead: it was started with -no-reboot, or was shut down."
    if outcome == _vnc.UNANSWERED:
        return f"{name} was sent the {action} and did not answer any more: look whether the guest did it."
    if outcome != _vnc.NOT_SENT and wait is not None:
        return (
            f"{name} took the {action}, and within {wait:g} s nothing showed that the guest did it: it may ignore its"
            " power button, or need longer."
        )
    return None
