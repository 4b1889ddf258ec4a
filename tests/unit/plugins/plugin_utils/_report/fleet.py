# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A made-up fleet, as the modules would describe it, for the tests of the report: the same for the same arguments."""

from __future__ import annotations

import random
import typing as t
import uuid

from ansible_collections.kvmops.console.plugins.plugin_utils._report import model
from ansible_collections.kvmops.console.plugins.plugin_utils._report.model import HostResults

Json = dict[str, t.Any]

NASTY_NAMES = (
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(2)>' onmouseover='alert(3)",
    "=cmd|'/c calc'!A0",
    "+1+1",
    "-2+3",
    "@SUM(A1:A9)",
    "two\nlines",
    "{{ 7 * 7 }} {% raw %}",
    "back\\slash \"quoted\" 'single'",
    "\u202eevil\u202c \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 caf\u00e9 \u65e5\u672c\u8a9e",
    "x" * 300,
    "</style></title><!-- --><svg onload=alert(4)>",
    "&lt;already&gt; &amp;",
    "../../etc/passwd",
    "nul\x00bell\x07escape\x1b[31m",
    "lone \ud800 surrogate",
    "   ",
)

REMEDIES = {
    "unsolicited_pointer_change": "Upgrade QEMU to 7.2.7, 8.1.2, 8.2 or later and power-cycle the domain; until then"
    " run kvmops.console.remediate (powerControl off), patch noVNC, or use the proxy.",
    "ungated_power_messages": "Upgrade QEMU and power-cycle the domain; until then let nobody reach the VNC server"
    " but through kvmops.console.vnc_proxy. Turning powerControl off does not close this.",
    "restart_pending": "Power-cycle the domain (shut it down and start it; a reboot inside the guest is not enough).",
    "outdated_process": "Power-cycle the domain or migrate it, so that it runs the QEMU that is installed.",
    "saved_state_differs": "Run domain_power_control with include_saved_states, or remove the saved state.",
    "vnc_without_authentication": "Set a VNC password, TLS or SASL (qemu.conf), or listen on a unix socket.",
    "vnc_listens_everywhere": "Listen on one address, on loopback behind a proxy, or on a unix socket.",
    "relative_pointer": "Add <input type='tablet' bus='usb'/> to the domain.",
    "qemu_verdict_unknown": "Let the audit probe the QEMU binary, or install a QEMU that is known.",
}

AFFECTED_QEMU = {
    "verdict": "affected",
    "basis": "probe",
    "evidence": "asked for -309 it sent 00000001 00000000 028001e0 fffffeff, -257 unasked; power message obeyed",
    "version": "7.2.0",
    "package": None,
    "path": "/opt/qemu-7.2.0/bin/qemu-system-x86_64",
}
FIXED_QEMU = {
    "verdict": "fixed",
    "basis": "probe",
    "evidence": "asked for -309 it answered with XVP INIT and nothing else; power message refused",
    "version": "7.2.22",
    "package": "qemu-system-x86 1:7.2+dfsg-7+deb12u18",
    "path": "/usr/bin/qemu-system-x86_64",
}
INCAPABLE_QEMU = {
    "verdict": "incapable",
    "basis": "version",
    "evidence": "QEMU 5.2.0 is older than 6.0.0, which brought power control",
    "version": "5.2.0",
    "package": "qemu-system-x86 1:5.2+dfsg-11+deb11u3",
    "path": "/usr/bin/qemu-system-x86_64",
}
UNKNOWN_QEMU = {
    "verdict": "unknown",
    "basis": "none",
    "evidence": "the binary could not be started: error while loading shared libraries: libpmem.so.1",
    "version": "6.2.0",
    "package": None,
    "path": "/usr/libexec/qemu-kvm",
}


FINDINGS = {
    "pointer_now": (
        "unsolicited_pointer_change",
        "critical",
        "noVNC cannot keep a connection: the running QEMU sends it a -257 rectangle that it did not ask for",
    ),
    "pointer_later": (
        "unsolicited_pointer_change",
        "high",
        "noVNC will lose its connection from the next start on: the QEMU to be started sends -257 unasked",
    ),
    "power_now": (
        "ungated_power_messages",
        "high",
        "whoever reaches the VNC server can shut the guest down or reset it, whatever powerControl says",
    ),
    "power_later": (
        "ungated_power_messages",
        "medium",
        "from the next start on, whoever reaches the VNC server can shut the guest down or reset it",
    ),
    "restart_pending": (
        "restart_pending",
        "medium",
        "the definition's powerControl is not what the running QEMU was started with",
    ),
    "outdated_process": (
        "outdated_process",
        "medium",
        "the guest runs QEMU 7.2.0, while 7.2.22 is installed and waits for its next start",
    ),
    "saved_state": ("saved_state_differs", "medium", "another powerControl comes back with snapshot before-upgrade"),
    "no_authentication": (
        "vnc_without_authentication",
        "high",
        "the VNC server is on the network and asks for no password, certificate or login",
    ),
    "everywhere": (
        "vnc_listens_everywhere",
        "medium",
        "the VNC server listens on every address of the host (0.0.0.0)",
    ),
    "no_tablet": (
        "relative_pointer",
        "info",
        "there is no tablet: the pointer over VNC is relative, and drifts from the viewer's own",
    ),
    "not_judged": (
        "qemu_verdict_unknown",
        "medium",
        f"nothing is known about the running QEMU, so it is treated as affected: {UNKNOWN_QEMU['evidence']}",
    ),
}


def finding(key: str) -> Json:
    finding_id, severity, message = FINDINGS[key]
    return {"id": finding_id, "severity": severity, "message": message, "remedy": REMEDIES[finding_id]}


def record(name: str, **changes: t.Any) -> Json:
    """A running domain with nothing to say, but for the changes."""
    return {
        "name": name,
        "uuid": str(uuid.uuid5(uuid.NAMESPACE_OID, name.encode("utf-8", "replace").decode())),
        "state": "running",
        "persistent": True,
        "autostart": True,
        "type": "kvm",
        "arch": "x86_64",
        "machine": "pc-q35-7.2",
        "emulator": "/usr/bin/qemu-system-x86_64",
        "managed_save": False,
        "restart_pending": False,
        "pointer_devices": ["tablet:usb", "mouse:ps2"],
        "graphics": [graphics()],
        "saved_states": [],
        "qemu": {"running": FIXED_QEMU, "next_start": FIXED_QEMU},
        "findings": [],
        **changes,
    }


def graphics(index: int = 0, live: str | None = "yes", config: str | None = "yes", **changes: t.Any) -> Json:
    return {
        "index": index,
        "type": "vnc",
        "port": 5900 + index,
        "autoport": True,
        "websocket": None,
        "socket": None,
        "listen": [{"type": "address", "address": "127.0.0.1"}],
        "password": True,
        "tls": False,
        "sasl": False,
        "power_control": {"live": live, "config": config},
        **changes,
    }


def change(of: Json, **changes: t.Any) -> Json:
    """What domain_power_control returns for a domain that it leaves as it is, but for the changes."""
    return {
        "name": of["name"],
        "uuid": of["uuid"],
        "changed": False,
        "graphics": [{"index": 0, "before": "yes", "after": "yes"}],
        "reason": "powerControl is as wanted",
        "note": None,
        "restart_pending": False,
        "backup": None,
        "saved_states": [],
        **changes,
    }


def result(domains: list[Json], **changes: t.Any) -> Json:
    """A registered result, with the keys that Ansible adds."""
    return {
        "changed": False,
        "failed": False,
        "domains": domains,
        "summary": {"domains": len(domains)},
        "host": {
            "hostname": "hv",
            "uri": "qemu:///system",
            "libvirt_version": "9.0.0",
            "read_only": False,
            "not_seen": [],
            "audited_at": "2026-11-20T09:05:00Z",
        },
        "invocation": {"module_args": {"uri": "qemu:///system"}},
        **changes,
    }


UNREACHABLE = {
    "changed": False,
    "unreachable": True,
    "msg": "Failed to connect to the host via ssh: ssh: connect to host hv-03 port 22: No route to host",
}


def affected(name: str) -> tuple[Json, Json, Json]:
    """Runs an affected QEMU with power control on; the run turns it off, and it now waits for a restart."""
    before = record(
        name,
        emulator="/opt/qemu-7.2.0/bin/qemu-system-x86_64",
        qemu={"running": AFFECTED_QEMU, "next_start": AFFECTED_QEMU},
        owner_wants="enabled",
        findings=[
            finding("pointer_now"),
            finding("power_now"),
        ],
    )
    after = {
        **before,
        "graphics": [graphics(config="no")],
        "restart_pending": True,
        "findings": [
            *before["findings"],
            finding("restart_pending"),
        ],
    }
    changed = change(
        before,
        changed=True,
        graphics=[{"index": 0, "before": "yes", "after": "no"}],
        reason="the QEMU of the next start is affected",
        restart_pending=True,
        backup=f"/var/backups/kvmops-console/{before['uuid']}-20261120T090500Z.xml",
    )
    return before, after, changed


def affected_off(name: str) -> tuple[Json, Json, Json]:
    """Is switched off, and would break at the next start; the run mends it."""
    before = record(
        name,
        state="shutoff",
        qemu={"running": None, "next_start": AFFECTED_QEMU},
        graphics=[graphics(live=None, port=-1)],
        findings=[
            finding("pointer_later"),
            finding("power_later"),
        ],
    )
    after = {**before, "graphics": [graphics(live=None, config="no", port=-1)], "findings": before["findings"][1:]}
    changed = change(
        before,
        changed=True,
        graphics=[{"index": 0, "before": "yes", "after": "no"}],
        reason="the QEMU of the next start is affected",
    )
    return before, after, changed


def fine(name: str) -> tuple[Json, Json, Json]:
    before = record(name)
    return before, before, change(before)


def exposed(name: str) -> tuple[Json, Json, Json]:
    """A fixed QEMU, with a VNC server that is open to everyone, and a snapshot with another value."""
    before = record(
        name,
        graphics=[graphics(password=False, listen=[{"type": "address", "address": "0.0.0.0"}], websocket=5700)],
        pointer_devices=["mouse:ps2"],
        saved_states=[{"kind": "snapshot", "name": "before-upgrade", "power_control": ["no"], "differs": True}],
        findings=[
            finding("no_authentication"),
            finding("everywhere"),
            finding("saved_state"),
            finding("no_tablet"),
        ],
    )
    return before, before, change(before)


def outdated(name: str) -> tuple[Json, Json, Json]:
    """Runs the affected QEMU with power control off, while the fixed one is installed."""
    before = record(
        name,
        qemu={"running": AFFECTED_QEMU, "next_start": FIXED_QEMU},
        graphics=[graphics(live="no", config="no"), graphics(1, live="no", config="no")],
        findings=[
            finding("power_now"),
            finding("outdated_process"),
        ],
    )
    return before, before, change(before, graphics=[{"index": 0, "before": "no", "after": "no"}])


def unknown(name: str) -> tuple[Json, Json, Json]:
    before = record(
        name,
        persistent=False,
        qemu={"running": UNKNOWN_QEMU, "next_start": UNKNOWN_QEMU},
        findings=[
            finding("not_judged"),
        ],
    )
    skipped = change(before, skipped="the domain is transient: it has no definition to change")
    return before, before, skipped


def spice(name: str) -> tuple[Json, Json, Json]:
    before = record(name, graphics=[graphics(type="spice", live=None, config=None)], state="paused")
    return before, before, change(before, skipped="the domain has no VNC graphics", graphics=[])


def broken(name: str) -> tuple[Json, Json, Json]:
    before = record(name, error="The definition cannot be read: domain has no XML; look at libvirtd's log on the host.")
    failed = change(before, error="The domain was not changed: its definition was edited by someone else meanwhile.")
    return before, before, failed


KINDS = (affected, affected_off, fine, exposed, outdated, unknown, spice, broken)
WEIGHTS = (30, 8, 40, 6, 6, 4, 4, 2)


def host(name: str, kinds: t.Iterable[tuple[Json, Json, Json]]) -> HostResults:
    before, after, changes = ([list(column) for column in zip(*kinds)]) or ([], [], [])
    return HostResults(name, result(before), result(after), result(changes, host=None))


def fleet(hosts: int, domains_per_host: int, seed: int = 1) -> list[HostResults]:
    """Mostly healthy hosts; every 50th is unreachable, and every 70th fails in its second audit."""
    rng = random.Random(seed)
    made = []
    for number in range(1, hosts + 1):
        name = f"hv-{number:03d}.example.org"
        kinds = rng.choices(KINDS, WEIGHTS, k=domains_per_host)
        one = host(
            name, [kind(f"{kind.__name__.replace('_', '-')}-{number}-{index}") for index, kind in enumerate(kinds)]
        )
        if number % 50 == 3:
            one = HostResults(name, UNREACHABLE)
        elif number % 70 == 5:
            one = one._replace(after={"failed": True, "msg": "libvirtd closed the connection; look at its log."})
        made.append(one)
    return made


def small_fleet() -> list[HostResults]:
    """What `make demo` might show: a few hosts, every kind of domain, and hosts in trouble."""
    return [
        host(
            "hv-01.example.org",
            [affected("web-1"), affected("web-2"), affected_off("web-10"), fine("db-1"), spice("desk-4")],
        ),
        host(
            "hv-02.example.org",
            [exposed("lab-guest"), outdated("mail"), unknown("scratch"), fine("db-2"), fine("db-3")],
        ),
        HostResults("hv-03.example.org", UNREACHABLE),
        HostResults("hv-04.example.org", None),
        host("hv-05.example.org", [broken("billing"), fine("wiki")])._replace(
            before=result([broken("billing")[0], fine("wiki")[0]], failed=True, msg="1 of 2 domains failed: billing")
        ),
    ]


def nasty_fleet() -> list[HostResults]:
    """Hosts and domains that try to break out of every format, and secrets where none belong."""
    kinds = [affected(name) for name in NASTY_NAMES]
    for before, after, changes in kinds:
        for each in (before, after, changes):
            each["vnc_password"] = "hunter2"
            each["error"] = f"{each['name']} <b>bold</b> {SECRET_TEXT}"
        for each in (before, after):
            each["graphics"][0] = {**each["graphics"][0], "password": "hunter2", "passwd": "hunter2"}
            each["findings"] = [{**each["findings"][0], "id": each["name"], "message": each["name"]}]
    failed = result([], failed=True, msg=f"<script>alert('host')</script> {SECRET_TEXT}", module_stderr="hunter2")
    return [
        host('hv "quoted" \\ <b>\nnew line', kinds),
        HostResults("=hv()", failed, failed, failed),
        HostResults("hv-\U0001f525", {"unreachable": True, "msg": "=HYPERLINK('http://x')\n<script>"}),
    ]


def managed_fleet() -> list[HostResults]:
    """A domain that somebody else manages, on a host that has guests without libvirt, too."""
    nova = {"id": "nova", "name": "OpenStack Nova", "rewrites": "start"}
    told = {"id": "managed_elsewhere", "severity": "info", "message": "Nova writes", "remedy": "Ask Nova."}
    before = record("web", managed_by=nova, findings=[told])
    audit = result([before])
    audit["host"]["not_seen"] = [{"id": "proxmox", "name": "Proxmox <VE>", "remedy": "Ask qm."}]
    return [HostResults("hv", audit, audit, result([change(before, changed=True, note="Nova undoes it.")]))]


def blind_fleet() -> list[HostResults]:
    """A domain that was seen in part, by a user who may only look."""
    before = record("web", findings=[], blind_spots=["password", "process", "something <new>"])
    audit = result([before])
    audit["host"].update(read_only=True, blind_spots={"password": 1, "process": 3})
    return [HostResults("hv", audit)]


SECRET_TEXT = "<graphics type='vnc' passwd='hunter2'/> qemu+tcp://admin:hunter2@hv/system password=hunter2"

AUDIT = model.Asked("kvmops_audit_before")
REMEDIATION = model.Asked("kvmops_audit_before", "kvmops_audit_after", "kvmops_changes")
WRITTEN = "2026-11-20T09:12:00Z"


def report(
    results: t.Iterable[HostResults], asked: model.Asked = REMEDIATION, *, written: str = WRITTEN, **changes: str
) -> Json:
    return model.build(results, asked, generated_at=written, **{"title": "Console report", **changes})


def audit_only(results: t.Iterable[HostResults]) -> list[HostResults]:
    return [one._replace(after=None, changes=None) for one in results]
