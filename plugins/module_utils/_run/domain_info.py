# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The run of kvmops.console.domain_info: read every domain, judge its QEMUs, say what is wrong. Changes nothing.

Private to this collection.
"""

from __future__ import annotations

import typing as t
from collections import Counter
from contextlib import nullcontext, suppress
from datetime import datetime, timezone
from os.path import lexists

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.console.plugins.module_utils import (
    _blind_spots,
    _domain_xml,
    _findings,
    _libvirt,
    _managers,
    _qemu_conf,
    _qemu_facts,
    _qemu_process,
)
from ansible_collections.kvmops.console.plugins.module_utils._errors import AccessDenied, ConsoleError, LibvirtFailure
from ansible_collections.kvmops.console.plugins.module_utils._libvirt import Connection, Listed
from ansible_collections.kvmops.console.plugins.module_utils._probe_cache import Cache
from ansible_collections.kvmops.console.plugins.module_utils._processes import deal_out, how_many
from ansible_collections.kvmops.console.plugins.module_utils._qemu_process import QemuProcess
from ansible_collections.kvmops.console.plugins.module_utils._run._domain_options import selection
from ansible_collections.kvmops.console.plugins.module_utils._run._needs_libvirt import need_libvirt
from ansible_collections.kvmops.console.plugins.module_utils._run._task import report_unmatched
from ansible_collections.kvmops.console.plugins.module_utils._verdict import AFFECTED, FIXED, INCAPABLE, UNKNOWN

if t.TYPE_CHECKING:
    from lxml.etree import _Element

Record = dict[str, t.Any]

AT_ONCE = 100
"""Domains whose definitions are read one right behind the other: a libvirt that has to wait between two falls asleep,
and waking up takes as long as reading.
"""
A_PROCESS = 200
"""Domains that are worth a process of their own."""


def run(module: AnsibleModule) -> Record:
    """The module's result."""
    need_libvirt(module)
    params = module.params
    uri = params["uri"]

    def work(domains: t.Sequence[Listed]) -> t.Iterator[Record]:
        return _audit_apart(domains, params)

    with _libvirt.connect_to_read(uri) as connection:
        listed, unmatched = selection(params).pick(connection.domains(), lambda domain: (domain.name, domain.uuid))
        report_unmatched(module, unmatched, uri)
        host = describe_host(connection)
        processes = 1 if _libvirt.runs_here(uri) else how_many(len(listed), A_PROCESS)
        records = list(_auditor(connection, params).audit(listed)) if processes == 1 else []
        # Handles keep their connection open, and a new process must not find an open one.
        listed = [domain._replace(handle=None) for domain in listed]
    if processes > 1:
        records = deal_out(listed, processes, work, work, _lost)
    return {
        "changed": False,
        "domains": records,
        "summary": summarize(records),
        "unmatched": unmatched,
        "host": {**host, "blind_spots": count_blind_spots(records)},
    }


def _auditor(connection: Connection, params: Record) -> Auditor:
    judge = _qemu_facts.Judge(params["probe"], params["probe_wrappers"], Cache(params["cache_dir"]))
    return Auditor(connection, judge, _qemu_conf.read(params["uri"]))


def _audit_apart(domains: t.Sequence[Listed], params: Record) -> t.Iterator[Record]:
    """The records of domains that another connection has listed, over one of this process' own."""
    try:
        with _libvirt.connect_to_read(params["uri"]) as connection:
            yield from _auditor(connection, params).audit(domains)
    except LibvirtFailure as e:
        yield from ({**_listed(domain), "error": str(e)} for domain in domains)


def _listed(domain: Listed) -> Record:
    """What the listing tells of a domain."""
    return {
        "name": domain.name,
        "uuid": domain.uuid,
        "state": domain.state,
        "persistent": domain.persistent,
        "autostart": domain.autostart,
        "managed_save": domain.managed_save,
    }


def _lost(domain: Listed, _begun: bool) -> Record:
    """Of a domain whose process was killed."""
    return {**_listed(domain), "error": f"The process that was to audit {domain.name} was killed: run this again."}


def describe_host(connection: Connection) -> Record:
    """What the audit was told by."""
    return {
        "hostname": connection.hostname(),
        "uri": connection.uri,
        "libvirt_version": connection.library_version(),
        "read_only": connection.read_only,
        "not_seen": _managers.not_seen(lexists) if connection.is_local else [],
        "audited_at": datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }


def count_blind_spots(records: t.Sequence[Record]) -> dict[str, int]:
    """Of how many domains each could not be seen."""
    counted = Counter(spot for record in records for spot in record.get("blind_spots", ()))
    return {spot: counted[spot] for spot in _blind_spots.SPOKEN if counted[spot]}


def summarize(records: t.Sequence[Record]) -> Record:
    """Counts over all records; a domain's verdict is that of its next start, or of its process where it has no next
    start.
    """
    sound = [record for record in records if not record.get("error")]
    verdicts = Counter(_telling_verdict(record) for record in sound)
    findings = [finding for record in sound for finding in record["findings"]]
    return {
        "domains": len(records),
        "running": sum(record["state"] not in ("shutoff", "nostate") for record in records),
        **{verdict: verdicts[verdict] for verdict in (AFFECTED, FIXED, INCAPABLE, UNKNOWN)},
        "restart_pending": sum(record["restart_pending"] for record in sound),
        "errors": len(records) - len(sound),
        "findings": dict(sorted(Counter(finding["id"] for finding in findings).items())),
        "severities": {
            severity: sum(finding["severity"] == severity for finding in findings) for severity in _findings.SEVERITIES
        },
    }


def _telling_verdict(record: Record) -> str:
    """The worst that holds for the domain, now or at its next start."""
    found = {facts["verdict"] for facts in record["qemu"].values() if facts}
    return next((verdict for verdict in (AFFECTED, UNKNOWN, INCAPABLE, FIXED) if verdict in found), UNKNOWN)


class Definitions(t.NamedTuple):
    """A domain's, as libvirt writes them; None where it is not running, or not persistent. `secrets`: whether they are
    in there.
    """

    live: str | None
    config: str | None
    secrets: bool = True


class Auditor:
    """Makes the records of one host's domains."""

    def __init__(self, connection: Connection, judge: _qemu_facts.Judge, defaults: _qemu_conf.VncDefaults) -> None:
        self._connection = connection
        self._judge = judge
        self._defaults = defaults
        self._libvirt_version = connection.library_version()

    def audit(self, domains: t.Sequence[Listed]) -> t.Iterator[Record]:
        """The record of each; one that cannot be read has `error`, and nothing that was guessed."""
        for first in range(0, len(domains), AT_ONCE):
            # All of them read before the first is described.
            yield from (self._record(*read) for read in list(map(self._read, domains[first : first + AT_ONCE])))

    def _read(self, domain: Listed) -> tuple[Listed, Definitions | ConsoleError]:
        """The domain within reach, and its definitions or why there are none."""
        try:
            if domain.handle is None:
                domain = self._connection.reach(domain)
            with suppress(AccessDenied):
                return domain, self._definitions(domain, not self._connection.read_only)
            return domain, self._definitions(domain, False)
        except ConsoleError as e:
            return domain, e

    def _definitions(self, domain: Listed, secrets: bool) -> Definitions:
        return Definitions(
            _libvirt.live_xml(domain, self._connection, secrets) if domain.active else None,
            _libvirt.inactive_xml(domain, self._connection, secrets) if domain.persistent else None,
            secrets,
        )

    def _record(self, domain: Listed, read: Definitions | ConsoleError) -> Record:
        record = _listed(domain)
        try:
            if isinstance(read, ConsoleError):
                raise read
            record.update(self._describe(domain, read))
        except ConsoleError as e:
            return {**record, "error": str(e)}
        record["findings"] = _findings.findings(record)
        return record

    def _describe(self, domain: Listed, read: Definitions) -> Record:
        live = None if read.live is None else _domain_xml.parse(read.live)
        config = None if read.config is None else _domain_xml.parse(read.config)
        root = live if live is not None else config
        if root is None:
            raise ConsoleError(f"{domain.name} is gone: it ended while it was being read.")
        process = self._process(domain)
        live_settings = self._live_settings(live, process)
        config_settings = _domain_xml.settings(config) if config is not None else ()
        graphics = self._graphics(root, process, live_settings, config_settings, read.secrets)
        saved_states = self._saved_states(domain, config_settings, read.secrets)
        record: Record = {
            "type": root.get("type"),
            "arch": _domain_xml.child_value(root, "os/type/@arch"),
            "machine": _domain_xml.child_value(root, "os/type/@machine"),
            "emulator": _domain_xml.child_value(root, "devices/emulator"),
            "pointer_devices": _domain_xml.pointer_devices(root),
            "graphics": graphics,
            "restart_pending": bool(config is not None and live is not None)
            and list(map(_domain_xml.has_effect, live_settings)) != list(map(_domain_xml.has_effect, config_settings)),
            **self._qemu(domain, live, root if config is None else config, process),
            "saved_states": saved_states or [],
        }
        record.update(_told_by_owner(root, config))
        sees_process = process is not None or not self._has_process(domain)
        record["blind_spots"] = _blind_spots.find(record, process=sees_process, saved_states=saved_states is not None)
        return record

    def _has_process(self, domain: Listed) -> bool:
        return domain.active and self._connection.driver == "qemu"

    def _process(self, domain: Listed) -> QemuProcess | None:
        if not domain.active or not self._connection.is_local:
            return None
        return _qemu_process.find(self._connection.uri, domain.name, domain.uuid)

    def _live_settings(self, live: _Element | None, process: QemuProcess | None) -> tuple[str | None, ...]:
        """What the running QEMU was started with; libvirt's live definition tells it where the process is not seen."""
        if live is None:
            return ()
        told = _domain_xml.settings(live)
        seen = process.power_control() if process else []
        return tuple(seen) if len(seen) == len(told) else told

    def _graphics(
        self,
        root: _Element,
        process: QemuProcess | None,
        live: t.Sequence[str | None],
        config: t.Sequence[str | None],
        secrets: bool,
    ) -> list[Record]:
        described = [
            _domain_xml.describe_graphics(element, index)
            for index, element in enumerate(_domain_xml.graphics_elements(root))
        ]
        for entry in described:
            entry["listen"] = self._listen(entry)
        options = process.vnc_options() if process else []
        for number, entry in enumerate(entry for entry in described if entry["type"] == "vnc"):
            entry.update(self._authentication(entry, options[number] if number < len(options) else None, secrets))
            entry["power_control"] = {"live": _at(live, number), "config": _at(config, number)}
        for entry in described:
            if entry["type"] != "vnc":
                entry.update(tls=None, sasl=None, power_control={"live": None, "config": None})
                if entry["type"] == "spice" and not secrets:
                    entry["password"] = entry["password"] or None
        return described

    def _listen(self, entry: Record) -> list[dict[str, str]]:
        """Where it listens, with the host's default filled in where the definition leaves the address open."""
        default = self._defaults.listen or "127.0.0.1"
        listen = entry["listen"] or ([] if entry["socket"] else [{"type": "address"}])
        return [{"address": default, **one} if one.get("type") == "address" else one for one in listen]

    def _authentication(self, entry: Record, options: dict[str, str] | None, secrets: bool) -> Record:
        """What a client must show: as the process was started, or as libvirt would start it."""
        if options is not None:
            password = entry["password"] or options.get("password") == "on" or "password-secret" in options
            tls = "tls-creds" in options
            return {"password": password, "tls": tls, "sasl": options.get("sasl") == "on"}
        password = entry["password"] or self._defaults.password
        return {
            "password": password if password or (secrets and self._defaults.seen) else None,
            "tls": self._defaults.tls if self._defaults.seen else None,
            "sasl": self._defaults.sasl if self._defaults.seen else None,
        }

    def _qemu(self, domain: Listed, live: _Element | None, coming: _Element, process: QemuProcess | None) -> Record:
        """The verdicts, and whether the process is older than what is installed; `coming` is what starts next."""
        emulator = _domain_xml.child_value(coming, "devices/emulator")
        types = [element.get("type") for element in _domain_xml.graphics_elements(coming)]
        if _qemu_facts.served_by_qemu_vnc(self._libvirt_version, types):
            facts = _qemu_facts.qemu_vnc_facts(emulator)
            return {"qemu": {"running": facts if live is not None else None, "next_start": facts}}
        following = self._judge.next_start(emulator)
        if live is None:
            return {"qemu": {"running": None, "next_start": following}}
        running = self._judge.running(process, lambda: self._ask_live(domain, live))
        outdated = None if self._has_process(domain) else False
        if process is not None:
            outdated = emulator is not None and not process.runs(emulator)
        return {"qemu": {"running": running, "next_start": following}, "outdated_process": outdated}

    def _ask_live(self, domain: Listed, live: _Element) -> t.Any:
        """Ask the domain's first VNC server itself, over a socket from libvirt."""
        elements = _domain_xml.graphics_elements(live)
        index = next((i for i, element in enumerate(elements) if element.get("type") == "vnc"), None)
        if index is None:
            raise ConsoleError(f"{domain.name} has no VNC server to ask")
        if self._connection.read_only or not self._connection.is_local:
            raise ConsoleError(
                f"the VNC server of {domain.name} can only be asked on its host, with libvirt's full rights"
            )
        power_control = _domain_xml.has_effect(elements[index].get(_domain_xml.ATTRIBUTE))
        # Over a connection of its own: a QEMU that hangs takes the connection that asked for it along. A driver in this
        # very process has none to lose, and may start anew with each.
        uri = self._connection.uri
        with nullcontext(self._connection) if _libvirt.runs_here(uri) else _libvirt.connect(uri) as own:
            apart = domain._replace(handle=_libvirt.find(own, domain.uuid))
            return _qemu_facts.ask_descriptor(_libvirt.graphics_socket(apart, index), power_control)

    def _saved_states(self, domain: Listed, config: t.Sequence[str | None], secrets: bool) -> list[Record] | None:
        """Where another powerControl comes back from; None where that may not be seen."""
        with suppress(AccessDenied):
            return self._described_states(domain, config, secrets)
        return None

    def _described_states(self, domain: Listed, config: t.Sequence[str | None], secrets: bool) -> list[Record]:
        """A snapshot may hold two domains, so each setting is compared."""
        described = []
        for state in _libvirt.saved_states(domain, secrets):
            with _libvirt.translated(f"Reading the {state.kind} of {domain.name}", needs=_libvirt.READ):
                carried = _domain_xml.settings(_domain_xml.parse(state.read()))
            described.append(
                {
                    "kind": state.kind,
                    "name": state.name,
                    "power_control": list(carried),
                    "differs": differs(carried, config),
                }
            )
        return described


def differs(carried: t.Sequence[str | None], config: t.Sequence[str | None]) -> bool:
    """Whether a saved state would bring back power control, or its absence, other than `config` says."""
    if not carried or not config:
        return False
    return any(
        _domain_xml.has_effect(setting) != _domain_xml.has_effect(config[number % len(config)])
        for number, setting in enumerate(carried)
    )


def _told_by_owner(root: _Element, config: _Element | None) -> Record:
    """What the metadata tells, where it does: few domains have any, and Ansible walks over every value of all."""
    metadata = root if config is None else config
    order = _domain_xml.read_order(metadata)
    told = {
        "owner_wants": _owner_wants(config),
        "managed_by": _managers.describe(metadata),
        "order": None if order == _domain_xml.NO_ORDER else order._asdict(),
    }
    return {key: value for key, value in told.items() if value is not None}


def _owner_wants(config: _Element | None) -> str | None:
    """What is remembered of the owner's wish, where the definition says otherwise because of us."""
    if config is None:
        return None
    memory = _domain_xml.read_memory(config)
    now = _domain_xml.settings(config)
    wishes = {
        remembered.wanted for index, remembered in memory.items() if index < len(now) and remembered.ours == now[index]
    }
    if not wishes:
        return None
    return "enabled" if "yes" in wishes else "disabled"


def _at(settings: t.Sequence[str | None], number: int) -> str | None:
    return settings[number] if number < len(settings) else None
