# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The run of kvmops.console.incus_screenshot: pictures of what many virtual machines of an Incus server show.

Private to this collection.
"""

from __future__ import annotations

import hashlib
import typing as t

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.console.plugins.module_utils import _image, _incus, _screens
from ansible_collections.kvmops.console.plugins.module_utils._concurrent import bounded_map
from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError, IncusError
from ansible_collections.kvmops.console.plugins.module_utils._incus import Client, Instance, Server
from ansible_collections.kvmops.console.plugins.module_utils._incus_names import file_name
from ansible_collections.kvmops.console.plugins.module_utils._run import _incus_options
from ansible_collections.kvmops.console.plugins.module_utils._run._progress import Progress
from ansible_collections.kvmops.console.plugins.module_utils._run._screen_options import (
    check_enclosed,
    finish_record,
    host_allows,
    screen_options,
)
from ansible_collections.kvmops.console.plugins.module_utils._screens import Options, Screen, Shot

Record = dict[str, t.Any]

CAPTURE = "incus"

_GRACE = 1.0
"""Seconds that a machine has above its own limits, so that it is the limit that tells what took long."""

SHOWING = ("Running", "Frozen")
"""Of a frozen machine Incus gives what it showed last."""


def run(module: AnsibleModule) -> Record:
    """The module's result."""
    _incus_options.need_requests(module, PIL=_image.PILLOW_TRACEBACK)
    params = module.params
    options = screen_options(module)
    way = _incus_options.way(params)
    with Client(way, params["timeout"]) as client:
        server = client.server()
        need_screenshots(server, way.name)
        instances, unmatched = _incus_options.choose(client, params)
        if unmatched:
            module.warn(f"Nothing on {way.name} is meant by: {', '.join(unmatched)}.")
        photographer = Photographer(client, options, host_allows())
        patience = params["timeout"] + (options.wait.timeout if options.wait else 0.0)
        with Progress(len(instances)) as progress:
            outcomes = bounded_map(
                progress.counted(photographer.picture),
                instances,
                concurrency=params["concurrency"],
                timeout=patience + _GRACE,
                doing=lambda instance: f"Capturing the screen of {instance.name}",
            )
    records = [_record(instance, outcome) for instance, outcome in zip(instances, outcomes)]
    check_enclosed(records)
    return {
        "changed": False,
        "instances": records,
        "summary": summarize(records),
        "unmatched": unmatched,
        "server": {"name": way.name, "version": server.version, "fingerprint": server.fingerprint},
    }


def need_screenshots(server: Server, name: str) -> None:
    """Raise IncusError unless the server can take screenshots; one that cannot answers with a text console."""
    if _incus.SCREENSHOT not in server.extensions:
        raise IncusError(
            f"Incus {server.version} at {name} takes no screenshots: upgrade it to 6.0.3, 6.8, or later (it lacks the"
            f" API extension {_incus.SCREENSHOT})."
        )


def summarize(records: t.Sequence[Record]) -> Record:
    """Counts over all records."""
    return {
        "instances": len(records),
        "screens": sum(len(record["screens"]) for record in records),
        "skipped": sum("skipped" in record for record in records),
        "errors": sum("error" in record for record in records),
    }


def _record(instance: Instance, outcome: Record | BaseException) -> Record:
    base: Record = {
        "name": instance.name,
        "project": instance.project,
        "uuid": instance.uuid,
        "type": "virtual-machine" if instance.is_vm else "container",
        "state": instance.status,
        "changed": False,
        "screens": [],
    }
    return {**base, **finish_record(outcome)}


class Photographer:
    """Takes the pictures of one server's virtual machines."""

    def __init__(self, client: Client, options: Options, allowed: bool) -> None:
        self._client = client
        self._options = options
        self._allowed = allowed

    def picture(self, instance: Instance) -> Record:
        """What `instance` shows, or why there is no picture of it."""
        if not (self._allowed and instance.capture):
            return {"skipped": "its owner lets nobody see its screen"}
        outcome = without(instance)
        if outcome is not None:
            return outcome
        screen = Screen(
            key_of(instance, self._client.way.name),
            file_name(instance.project, instance.name),
            0,
            lambda: self.take(instance),
            instance.masks,
        )
        try:
            return {"screens": [_screens.shoot(screen, self._options)]}
        except _screens.WaitFailed as e:
            return {"screens": [e.record], "error": str(e)}
        except _incus.NotRunning as e:
            # It may have ended since it was listed, and that is nobody's fault.
            status = self._client.status(instance)
            outcome = without(instance._replace(status=status)) or {"error": str(e)}
            return {**outcome, "state": status}
        except ConsoleError as e:
            return {"error": str(e) if instance.name in str(e) else f"{instance.name}: {e}"}

    def take(self, instance: Instance) -> Shot:
        """Capture the screen, as the store wants it."""
        png = self._client.screenshot(instance)
        return Shot(_image.decode(png), CAPTURE, png)


def without(instance: Instance) -> Record | None:
    """What there is to tell of an instance that shows nothing; None when it should show something."""
    if not instance.is_vm:
        return {"skipped": "it is a container, and has no screen"}
    if instance.status == _incus.STOPPED:
        return {"skipped": "it is off"}
    if instance.status == _incus.ERROR:
        return {"error": f"{instance.name} is in the state Error: Incus has lost hold of its QEMU; see `incus info`."}
    return None if instance.status in SHOWING else {"skipped": f"its state is {instance.status}"}


def key_of(instance: Instance, server: str) -> str:
    """The name of its folder in the store: the same however it is reached, as long as it has a UUID."""
    if instance.uuid != _incus.NO_UUID:
        return f"incus-{instance.uuid}"
    words = f"{server}\n{instance.project}\n{instance.name}"
    return f"incus-{hashlib.sha256(words.encode()).hexdigest()[:32]}"
