# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The run of kvmops.console.domain_screenshot: capture the screens of many domains at once.

Private to this collection.
"""

from __future__ import annotations

import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.console.plugins.module_utils import _domain_screens, _domain_xml, _libvirt, _screens
from ansible_collections.kvmops.console.plugins.module_utils._concurrent import bounded_map
from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError
from ansible_collections.kvmops.console.plugins.module_utils._libvirt import Connection, Listed
from ansible_collections.kvmops.console.plugins.module_utils._processes import deal_out, how_many
from ansible_collections.kvmops.console.plugins.module_utils._run._domain_options import selection
from ansible_collections.kvmops.console.plugins.module_utils._run._needs_libvirt import need_libvirt
from ansible_collections.kvmops.console.plugins.module_utils._run._needs_pictures import need_pictures
from ansible_collections.kvmops.console.plugins.module_utils._run._progress import Progress
from ansible_collections.kvmops.console.plugins.module_utils._run._screen_options import (
    check_enclosed,
    finish_record,
    host_allows,
    screen_options,
    shoot_each,
)
from ansible_collections.kvmops.console.plugins.module_utils._run._task import report_unmatched

Record = dict[str, t.Any]

CONCURRENCY = 16
A_PROCESS = 8
"""Domains at a time that are worth a process of their own: looking at pictures keeps it busy."""


def run(module: AnsibleModule) -> Record:
    """The module's result."""
    need_libvirt(module)
    need_pictures(module)
    params = module.params
    options = screen_options(module)
    with _libvirt.connect(params["uri"]) as connection:
        listed, unmatched = selection(params).pick(connection.domains(), lambda domain: (domain.name, domain.uuid))
        report_unmatched(module, unmatched, params["uri"])
        processes = how_many(min(params["concurrency"], sum(domain.active for domain in listed)), A_PROCESS)

        progress = Progress(len(listed))

        def shoot(domains: t.Sequence[Listed], over: Connection) -> list[Record]:
            return _shoot(domains, Photographer(over, options, params), params["concurrency"] // processes, progress)

        def here(domains: t.Sequence[Listed]) -> list[Record]:
            return shoot(domains, connection)

        def there(domains: t.Sequence[Listed]) -> list[Record]:
            with _libvirt.connect(params["uri"]) as own:
                return shoot(domains, own)

        with progress:
            records = deal_out(listed, processes, here, there)
    check_enclosed(records)
    return {
        "changed": False,
        "domains": records,
        "summary": {
            "domains": len(records),
            "screens": sum(len(record["screens"]) for record in records),
            "skipped": sum("skipped" in record for record in records),
            "errors": sum("error" in record for record in records),
        },
        "unmatched": unmatched,
    }


def _shoot(
    domains: t.Sequence[Listed], photographer: Photographer, concurrency: int, progress: Progress
) -> list[Record]:
    """A record of each."""
    outcomes = bounded_map(
        progress.counted(photographer.picture),
        domains,
        concurrency=concurrency,
        timeout=photographer.patience,
        doing=lambda domain: f"Capturing the screen of {domain.name}",
    )
    return [_record(domain, outcome) for domain, outcome in zip(domains, outcomes)]


def _record(domain: Listed, outcome: Record | BaseException) -> Record:
    base = {"name": domain.name, "uuid": domain.uuid, "state": domain.state, "changed": False, "screens": []}
    return {**base, **finish_record(outcome)}


class Photographer:
    """Takes the pictures of one connection's domains."""

    def __init__(self, connection: Connection, options: _screens.Options, params: Record) -> None:
        self._connection = connection
        self._options = options
        self._params = params
        self.patience: float = params["timeout"] + (options.wait.timeout if options.wait else 0.0)
        """Seconds for one domain."""

    def picture(self, domain: Listed) -> Record:
        """The screens of a domain, or why there are none. One screen's failure stays with it."""
        if not domain.active:
            return {"skipped": "it is off"}
        domain = domain._replace(handle=_libvirt.find(self._connection, domain.uuid))
        live = _domain_xml.parse(_libvirt.live_xml(domain, self._connection, secrets=False))
        privacy = _domain_screens.privacy(live)
        if not privacy.capture or not host_allows():
            return {"skipped": "its owner lets nobody see its screen"}
        camera = _domain_screens.Camera(
            self._connection,
            domain,
            live,
            self._params["capture"],
            self._params["wake"],
            self._params["timeout"],
        )

        def tell(error: ConsoleError) -> str:
            return f"{domain.name}: {error}" if domain.name not in str(error) else str(error)

        try:
            heads = _domain_screens.choose_heads(live, self._params["head"])
        except ConsoleError as e:
            return {"error": tell(e)}
        return shoot_each((camera.screen(head, privacy.masks.get(head, ())) for head in heads), self._options, tell)
