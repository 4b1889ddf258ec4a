# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lab's network: a bridge on the machine, and a cable from it to each host. No router, no DNS, no way out."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator
from itertools import chain

from . import state
from .machine import LabError, run

BRIDGE = "kvmlab"
_FILE = "network.json"
_CANDIDATES = ("10.214.{}.0/24", "172.29.{}.0/24", "192.168.{}.0/24")


def _used() -> Iterator[ipaddress.IPv4Network]:
    """Every network that the machine has an address in, or a way to."""
    for link in json.loads(run("ip", "-json", "-4", "address") or "[]"):
        for address in link.get("addr_info", ()):
            yield ipaddress.IPv4Network((address["local"], address["prefixlen"]), strict=False)
    for route in json.loads(run("ip", "-json", "-4", "route", "show", "table", "all") or "[]"):
        if route["dst"] != "default":
            yield ipaddress.IPv4Network(route["dst"], strict=False)


def _free() -> ipaddress.IPv4Network:
    used = list(_used())
    for candidate in chain.from_iterable((form.format(third) for third in range(200, 232)) for form in _CANDIDATES):
        network = ipaddress.IPv4Network(candidate)
        if not any(network.overlaps(other) for other in used):
            return network
    raise LabError("no private network is free for the lab: the machine's routes cover every one that it tries.")


def _hardware(number: int) -> str:
    """The MAC address that goes with an IP address. Were it another every time, neighbours would call the old one."""
    return f"02:6b:76:6d:00:{number:02x}"


def _exists(link: str) -> bool:
    return any(found["ifname"] == link for found in json.loads(run("ip", "-json", "link") or "[]"))


def network() -> ipaddress.IPv4Network:
    """The lab's network; its bridge is made when it is not there."""
    path = state.ROOT / _FILE
    if path.exists() and _exists(BRIDGE):
        return ipaddress.IPv4Network(json.loads(path.read_text(encoding="utf-8"))["network"])
    # One without the other is what a killed command left.
    remove()
    chosen = _free()
    state.write_json(path, {"network": str(chosen)})
    run("ip", "link", "add", BRIDGE, "address", _hardware(1), "type", "bridge")
    run("ip", "address", "add", f"{chosen[1]}/{chosen.prefixlen}", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")
    return chosen


def remove() -> None:
    """Take the bridge away."""
    if _exists(BRIDGE):
        run("ip", "link", "delete", BRIDGE)
    (state.ROOT / _FILE).unlink(missing_ok=True)


def plug(number: int, pid: int) -> None:
    """Run a cable from the bridge into the namespace of `pid`, where it is eth0."""
    link = f"{BRIDGE}-{number}"
    unplug(number)
    end = ("name", "eth0", "address", _hardware(number), "netns", str(pid))
    run("ip", "link", "add", link, "type", "veth", "peer", *end)
    run("ip", "link", "set", link, "master", BRIDGE, "up")


def unplug(number: int) -> None:
    """Remove a cable, if it is there; the kernel does so too, some time after the namespace ended."""
    link = f"{BRIDGE}-{number}"
    try:
        run("ip", "link", "delete", link)
    except LabError:
        if _exists(link):
            raise


def inside(number: int, network: ipaddress.IPv4Network) -> tuple[str, list[list[str]]]:
    """The address of a host, and the `ip` commands that make its end."""
    address = str(network[number])
    return address, [
        ["link", "set", "lo", "up"],
        ["address", "add", f"{address}/{network.prefixlen}", "dev", "eth0"],
        ["link", "set", "eth0", "up"],
    ]
