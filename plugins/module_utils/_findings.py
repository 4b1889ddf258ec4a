# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Findings: what is wrong with a domain's console, how bad it is, and what to do.

Private to this collection.

A finding is {id, severity, message, remedy}. The ids are stable; so is the remedy of an id, so that a report can say it
once (one for each other manager). Each rule reads a domain's record and gives the severity and the message where it
applies.
"""

from __future__ import annotations

import ipaddress
import typing as t

from ansible_collections.kvmops.console.plugins.module_utils import _managers
from ansible_collections.kvmops.console.plugins.module_utils._verdict import AFFECTED, INCAPABLE, UNKNOWN

SEVERITIES = ("critical", "high", "medium", "low", "info")
"""Worst first."""

Record = dict[str, t.Any]
Said = tuple[str, str]
"""Severity and message."""


class Rule(t.NamedTuple):
    id: str
    remedy: str | t.Callable[[Record], str]
    applies: t.Callable[[Record], t.Optional[Said]]


def findings(record: Record) -> list[dict[str, str]]:
    """The findings on a domain, worst first."""
    said = ((rule, rule.applies(record)) for rule in RULES)
    found = [
        {"id": rule.id, "severity": verdict[0], "message": verdict[1], "remedy": _remedy(rule, record)}
        for rule, verdict in said
        if verdict is not None
    ]
    return sorted(found, key=lambda finding: SEVERITIES.index(finding["severity"]))


def _remedy(rule: Rule, record: Record) -> str:
    return rule.remedy if isinstance(rule.remedy, str) else rule.remedy(record)


def _vnc(record: Record) -> list[Record]:
    return [graphics for graphics in record["graphics"] if graphics["type"] == "vnc"]


def _verdict(record: Record, when: str) -> str | None:
    facts = record["qemu"][when]
    return facts["verdict"] if facts else None


def _power(record: Record, which: str) -> bool:
    return any(graphics["power_control"][which] == "yes" for graphics in _vnc(record))


def _next_start_power(record: Record) -> bool:
    return record["persistent"] and _power(record, "config")


def _unsolicited_pointer_change(record: Record) -> Said | None:
    if _verdict(record, "running") == AFFECTED and _power(record, "live"):
        return "critical", "noVNC cannot keep a connection: the running QEMU sends a -257 rectangle unasked"
    if _verdict(record, "next_start") == AFFECTED and _next_start_power(record):
        return "high", "noVNC will not keep a connection from the next start on: that QEMU sends -257 unasked"
    return None


def _ungated_power_messages(record: Record) -> Said | None:
    if not _vnc(record):
        return None
    if _verdict(record, "running") == AFFECTED:
        return "high", "whoever reaches the VNC server can shut the guest down or reset it, whatever powerControl says"
    if _verdict(record, "next_start") == AFFECTED:
        return "medium", "from the next start on, whoever reaches the VNC server can shut the guest down or reset it"
    return None


def _restart_pending(record: Record) -> Said | None:
    if not record["restart_pending"]:
        return None
    return "medium", "the definition's powerControl is not what the running QEMU was started with"


def _outdated_process(record: Record) -> Said | None:
    if not record.get("outdated_process"):
        return None
    running, following = record["qemu"]["running"], record["qemu"]["next_start"]
    return "medium", (
        f"the guest runs QEMU {running['version'] or 'of unknown version'}, while"
        f" {following['version'] or 'another build'} is installed and waits for its next start"
    )


def _saved_state_differs(record: Record) -> Said | None:
    carriers = [
        "the managed save" if state["kind"] == "managed_save" else f"{state['kind']} {state['name']}"
        for state in record["saved_states"]
        if state["differs"]
    ]
    if not carriers:
        return None
    return "medium", f"another powerControl comes back with {', '.join(carriers)}"


def _vnc_without_authentication(record: Record) -> Said | None:
    open_ones = [
        graphics
        for graphics in _vnc(record)
        if graphics["password"] is False
        and not graphics["tls"]
        and not graphics["sasl"]
        and _network_addresses(graphics)
    ]
    if not open_ones:
        return None
    if any(not _is_loopback(address) for graphics in open_ones for address in _network_addresses(graphics)):
        return "high", "the VNC server is on the network and asks for no password, certificate or login"
    return "info", "the VNC server asks for no password: every user and program of the host can use the console"


def _vnc_listens_everywhere(record: Record) -> Said | None:
    everywhere = sorted(
        {address for graphics in _vnc(record) for address in _network_addresses(graphics) if _is_wildcard(address)}
    )
    if not everywhere:
        return None
    return "medium", f"the VNC server listens on every address of the host ({', '.join(everywhere)})"


def _relative_pointer(record: Record) -> Said | None:
    if not _vnc(record) or any(device.startswith("tablet:") for device in record["pointer_devices"]):
        return None
    return "info", "there is no tablet: the pointer over VNC is relative, and drifts from the viewer's own"


def _power_control_unsupported(record: Record) -> Said | None:
    configured = any(graphics["power_control"]["config"] is not None for graphics in _vnc(record))
    if not record["persistent"] or not configured or _verdict(record, "next_start") != INCAPABLE:
        return None
    return "high", "the domain cannot be started: its definition has powerControl, and its QEMU knows no such thing"


def _qemu_verdict_unknown(record: Record) -> Said | None:
    for when, spoken in (("running", "the running QEMU"), ("next_start", "the QEMU of the next start")):
        facts = record["qemu"][when]
        if _vnc(record) and facts and facts["verdict"] == UNKNOWN:
            return "medium", f"nothing is known about {spoken}, so it is treated as affected: {facts['evidence']}"
    return None


_WRITTEN_ANEW = {
    _managers.START: ("medium", "writes the definition anew at each start"),
    _managers.CHANGE: ("low", "writes the definition anew when it changes the domain"),
}


def _managed_elsewhere(record: Record) -> Said | None:
    manager = record.get("managed_by")
    if manager is None or manager["rewrites"] not in _WRITTEN_ANEW or not _vnc(record):
        return None
    severity, does = _WRITTEN_ANEW[manager["rewrites"]]
    if record.get("owner_wants") is not None:
        return severity, f"{manager['name']} {does}: the powerControl that this collection has set is lost then"
    return "info", f"{manager['name']} {does}: powerControl is then as {manager['name']} makes it, whatever is set here"


def _where_it_is_managed(record: Record) -> str:
    return _managers.by_name(record["managed_by"]["id"]).remedy


def _network_addresses(graphics: Record) -> list[str]:
    """Where the server listens on the network; nowhere, when it has a unix socket only."""
    return [entry["address"] for entry in graphics["listen"] if entry.get("address")]


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _is_loopback(text: str) -> bool:
    address = _address(text)
    return text == "localhost" if address is None else address.is_loopback


def _is_wildcard(text: str) -> bool:
    address = _address(text)
    return address is not None and address.is_unspecified


RULES: tuple[Rule, ...] = (
    Rule(
        "unsolicited_pointer_change",
        "Upgrade QEMU to 7.2.7, 8.1.2, 8.2 or later and power-cycle the domain; until then run kvmops.console.remediate"
        " (powerControl off), patch noVNC, or use the proxy.",
        _unsolicited_pointer_change,
    ),
    Rule(
        "ungated_power_messages",
        "Upgrade QEMU and power-cycle the domain; until then let nobody reach the VNC server but through"
        " kvmops.console.vnc_proxy. Turning powerControl off does not close this.",
        _ungated_power_messages,
    ),
    Rule(
        "restart_pending",
        "Power-cycle the domain (shut it down and start it; a reboot inside the guest is not enough).",
        _restart_pending,
    ),
    Rule(
        "outdated_process",
        "Power-cycle the domain or migrate it, so that it runs the QEMU that is installed.",
        _outdated_process,
    ),
    Rule(
        "saved_state_differs",
        "Run kvmops.console.domain_power_control with include_saved_states, or remove the saved state.",
        _saved_state_differs,
    ),
    Rule(
        "vnc_without_authentication",
        "Set a VNC password, TLS or SASL (qemu.conf), or listen on a unix socket behind a proxy.",
        _vnc_without_authentication,
    ),
    Rule(
        "vnc_listens_everywhere",
        "Listen on one address, on loopback behind a proxy, or on a unix socket.",
        _vnc_listens_everywhere,
    ),
    Rule("relative_pointer", "Add <input type='tablet' bus='usb'/> to the domain.", _relative_pointer),
    Rule(
        "power_control_unsupported",
        "Set the state absent with kvmops.console.domain_power_control, or install QEMU 6.0 or later.",
        _power_control_unsupported,
    ),
    Rule(
        "qemu_verdict_unknown",
        "Let the audit probe the QEMU binary (see the evidence for what stopped it), or install a QEMU that is known.",
        _qemu_verdict_unknown,
    ),
    Rule("managed_elsewhere", _where_it_is_managed, _managed_elsewhere),
)
