# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a domain's definition makes of a power action: ways that cannot work, actions that would do something else.

Private to this collection.

Pure. Each trap is told in one sentence, before anything is requested.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.console.plugins.module_utils import _managers, _power
from ansible_collections.kvmops.console.plugins.module_utils._domain_xml import NAMESPACE, child_value

if t.TYPE_CHECKING:
    from lxml.etree import _Element

AGENT = "agent"
ACPI = "acpi"
METHODS = (AGENT, ACPI)

AGENT_CHANNEL = "org.qemu.guest_agent.0"

_NOT_MISSED = (_power.REBOOTED_STATE, _power.RESET_STATE, _power.NMI_SENT)
"""The states in which those who run a domain still find its process running."""

_STOPS = (_power.STOPPED, _power.POWER_CYCLED, _power.PENDING_APPLIED)


class Traps(t.NamedTuple):
    """`refusal`: why the state must not be asked for at all; `unusable`: methods that cannot work, and why; `notes`:
    what would surprise otherwise.
    """

    refusal: str | None
    unusable: dict[str, str]
    notes: list[str]


class Circumstances(t.NamedTuple):
    """What the definition does not say."""

    persistent: bool
    autostart: bool
    managed_save: bool


def find(root: _Element, state: str, domain: Circumstances, allow_vanish: bool) -> Traps:
    """The traps on the way of the domain with the live (else the only) definition `root` to `state`."""
    refusal = _transient(state, domain, allow_vanish) or _on_reboot(root, state)
    unusable = {}
    for method, why in ((AGENT, agent_trouble(root)), (ACPI, _acpi_trouble(root))):
        reason = _on_poweroff(root, state) or why
        if reason is not None:
            unusable[method] = reason
    return Traps(refusal, unusable, list(_notes(root, state, domain)))


def _transient(state: str, domain: Circumstances, allow_vanish: bool) -> str | None:
    if domain.persistent:
        return None
    if state in (_power.POWER_CYCLED, _power.PENDING_APPLIED, _power.SAVED):
        return "it is transient: it would vanish with its process, and there is no definition to start it again from"
    if state == _power.STOPPED and not allow_vanish:
        return "it is transient: it would vanish with its process (allow_vanish lets it)"
    return None


def _on_reboot(root: _Element, state: str) -> str | None:
    """libvirt ends the process when the guest begins anew (qemu_process.c, qemuProcessHandleReset), and never lets it
    come back from a reboot of its own (qemu_driver.c, qemuDomainReboot).
    """
    action = child_value(root, "on_reboot")
    if state in (_power.REBOOTED_STATE, _power.RESET_STATE) and action not in (None, "restart"):
        return f"its definition has on_reboot {action}, so it would go off: ask for power_cycled, or change that"
    return None


def _on_poweroff(root: _Element, state: str) -> str | None:
    """libvirt makes a reboot of a shutdown (qemu_driver.c, qemuDomainShutdownFlags)."""
    if state in _STOPS and child_value(root, "on_poweroff") == "restart":
        return "the definition has on_poweroff restart, so its guest would reboot instead of going off"
    return None


def agent_trouble(root: _Element) -> str | None:
    """Why the guest agent cannot be asked. libvirt tells the state of its channel in the live definition."""
    target = next(
        (one for one in root.iterfind("devices/channel/target") if one.get("name") == AGENT_CHANNEL),
        None,
    )
    if target is None:
        return "its definition has no channel for a guest agent"
    if target.get("state") != "connected":
        return "no guest agent has opened its channel"
    return None


_ACPI_MACHINES = ("i686", "x86_64")
"""Where the power button is ACPI's, and libvirt takes ACPI away from a definition that does not ask for it."""


def _acpi_trouble(root: _Element) -> str | None:
    if child_value(root, "os/type/@arch") in _ACPI_MACHINES and root.find("features/acpi") is None:
        return "its definition has no <acpi/>, so it has no power button"
    return None


def _notes(root: _Element, state: str, domain: Circumstances) -> t.Iterator[str]:
    if state == _power.STARTED and domain.managed_save:
        yield "its memory was saved: it goes on from there, with the definition of that time, instead of booting"
    if state == _power.STOPPED and domain.autostart:
        yield "autostart is on: it starts again with its host"
    if state == _power.STOPPED and not domain.persistent:
        yield "it was transient: it is gone"
    manager = _managers.manager_of(root)
    if manager is not None and manager.rewrites == _managers.START and state not in _NOT_MISSED:
        yield f"{manager.name} runs it, and may take this for a crash or undo it: do it there, or tell it afterwards"


class Lock(t.NamedTuple):
    """What the owner put into the metadata: hands off. Both words may be empty."""

    reason: str
    by: str

    def __str__(self) -> str:
        said = f"locked by {self.by}" if self.by else "locked by its owner"
        return f"{said}: {self.reason}" if self.reason else said


def lock(roots: t.Iterable[_Element]) -> Lock | None:
    """The first lock in a domain's definitions, live or not: `<lock reason="..." by="..."/>` in our element."""
    for root in roots:
        element = root.find(f"metadata/{{{NAMESPACE}}}console/{{{NAMESPACE}}}lock")
        if element is not None:
            return Lock(element.get("reason") or (element.text or "").strip(), element.get("by", ""))
    return None


def title(root: _Element) -> str | None:
    """The domain's title, for people."""
    return child_value(root, "title")
