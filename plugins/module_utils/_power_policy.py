# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What powerControl shall be: the policy, as a function of what is, what the owner wants, and what QEMU would do.

Private to this collection.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.console.plugins.module_utils._domain_xml import Memory, Remembered, Setting
from ansible_collections.kvmops.console.plugins.module_utils._errors import EditConflict
from ansible_collections.kvmops.console.plugins.module_utils._verdict import FIXED, INCAPABLE, Verdict

AUTO = "auto"
ENABLED = "enabled"
DISABLED = "disabled"
ABSENT = "absent"
RESTORED = "restored"
STATES = (AUTO, ENABLED, DISABLED, ABSENT, RESTORED)

_EXPLICIT: dict[str, Setting] = {ENABLED: "yes", DISABLED: "no", ABSENT: None}


class Policy(t.NamedTuple):
    """`state`: one of STATES. `viewers_handle`: viewers survive an unasked -257. `force`: enable whatever QEMU does."""

    state: str
    viewers_handle: bool = False
    force: bool = False


class Decision(t.NamedTuple):
    """What the VNC elements shall say, what is to be remembered, and one sentence why."""

    settings: tuple[Setting, ...]
    memory: Memory
    reason: str


def decide(policy: Policy, now: t.Sequence[Setting], memory: Memory, qemu: t.Callable[[], Verdict]) -> Decision:
    """Decide for every VNC element of a definition that says `now`.

    `qemu()` tells about the QEMU of the next start; it is only called where the answer matters.
    Raises EditConflict where the policy refuses.
    """
    current = {index: entry for index, entry in memory.items() if index < len(now) and entry.ours == now[index]}
    each = [_decide_one(policy, setting, current.get(index), qemu) for index, setting in enumerate(now)]
    kept = {index: entry for index, (_setting, entry, _reason) in enumerate(each) if entry is not None}
    reasons = list(dict.fromkeys(reason for _setting, _entry, reason in each))
    return Decision(tuple(setting for setting, _entry, _reason in each), kept, "; ".join(reasons))


_One = tuple[Setting, t.Optional[Remembered], str]


def _decide_one(policy: Policy, now: Setting, known: Remembered | None, qemu: t.Callable[[], Verdict]) -> _One:
    was = known.was if known else now
    if policy.state == RESTORED:
        return (
            was,
            None,
            "it is as it was before this collection changed it" if known else "there is nothing to restore",
        )
    if policy.state in _EXPLICIT:
        wanted = _EXPLICIT[policy.state]
        _check_explicit(policy, wanted, qemu)
        return wanted, _remember(was, wanted, wanted), f"the play asks for it to be {policy.state}"
    wanted = known.wanted if known else now
    setting, reason = _auto(policy, wanted, qemu)
    return setting, _remember(was, wanted, setting), reason


def _remember(was: Setting, wanted: Setting, ours: Setting) -> Remembered | None:
    """Nothing needs remembering where the definition itself says what was and what is wanted."""
    return None if was == wanted == ours else Remembered(was, wanted, ours)


def _check_explicit(policy: Policy, wanted: Setting, qemu: t.Callable[[], Verdict]) -> None:
    if wanted is None:
        return
    verdict = qemu()
    if verdict.verdict == INCAPABLE:
        raise EditConflict(
            f"The QEMU of the next start has no power control ({verdict.evidence}), and libvirt then starts no domain"
            " that has the attribute: use state absent."
        )
    if wanted == "yes" and verdict.unsafe and not (policy.viewers_handle or policy.force):
        raise EditConflict(
            f"The QEMU of the next start is {verdict.verdict} ({verdict.evidence}), so noVNC would lose its connection:"
            " upgrade QEMU, or set viewers_handle_pointer_change where noVNC is patched or proxied, or force."
        )


def _auto(policy: Policy, wanted: Setting, qemu: t.Callable[[], Verdict]) -> tuple[Setting, str]:
    """What the owner wants where it is safe, else off."""
    if wanted is None:
        return None, "the owner does not ask for power control"
    verdict = qemu()
    if verdict.verdict == INCAPABLE:
        return None, f"the QEMU of the next start has no power control ({verdict.evidence})"
    if wanted != "yes":
        return wanted, "the owner wants it off"
    if verdict.verdict == FIXED:
        return "yes", f"the owner wants it on, and the QEMU of the next start is fixed ({verdict.evidence})"
    if policy.viewers_handle:
        return "yes", f"the owner wants it on, and viewers handle what the {verdict.verdict} QEMU sends"
    return "no", f"the QEMU of the next start is {verdict.verdict} ({verdict.evidence})"
