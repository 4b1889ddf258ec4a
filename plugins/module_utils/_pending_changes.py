# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a new process would bring to a running domain: where its definition says something else than its live one.

Private to this collection.

Pure. A power cycle for nothing is worse than one that is left out, and would come again and again. So this rests on
what libvirt does when it starts a domain: it adds (aliases, labels, ports, backing chains), and hardly ever takes away
or changes. What the definition states has to be found in the live one; what only the live one has counts where the
tables below name it. They also name what libvirt does change by itself, and what people change while a domain runs.
Elements that are not known here are never looked at. (libvirt 9.0: formatdomain.rst, virDomainDefFormatInternal,
virDomainObjSetDefTransient, qemuProcessPrepareDomain.)

Only names are returned, never values: some are secrets.
"""

from __future__ import annotations

import typing as t

if t.TYPE_CHECKING:
    from lxml.etree import _Element

PARTS = (
    "os", "features", "memoryBacking", "clock", "on_poweroff", "on_reboot", "on_crash", "pm", "sysinfo", "keywrap",
    "launchSecurity", "commandline", "capabilities", "override",
)  # fmt: skip
"""What is compared as it stands; memory, vcpu, iothreads, numatune, cpu and the devices have rules of their own.

Left out is what can be set on a running domain without its definition: tuning (cputune, memtune, blkiotune), the number
of virtual processors that are plugged in, the balloon; and what no process depends on (title, description, metadata).
"""

REMOVABLE = frozenset((
    "memoryBacking", "pm", "sysinfo", "launchSecurity", "commandline", "capabilities", "override",
    "os/bootmenu", "os/kernel", "os/initrd", "os/cmdline", "os/dtb", "os/bios", "os/smbios",
    "features/acpi", "features/apic", "features/pae", "features/hap", "features/pmu", "features/vmport",
    "features/vmcoreinfo", "features/hyperv", "features/kvm",
    "memoryBacking/hugepages", "memoryBacking/locked", "memoryBacking/nosharepages", "memoryBacking/source",
    "memoryBacking/access", "memoryBacking/allocation", "memoryBacking/discard",
    "clock/timer",
    "devices/*/boot", "devices/disk/readonly", "devices/disk/shareable", "devices/disk/serial",
    "devices/graphics/@keymap", "devices/graphics/@sharePolicy",
))  # fmt: skip
"""What libvirt adds to no running domain, so that the definition has lost it."""

EXACT = frozenset(("sysinfo", "commandline", "capabilities", "override", "features/hyperv", "features/kvm"))
"""What libvirt leaves alone altogether: all below is removable."""

ANYWAY = frozenset((
    # what is given out afresh
    "devices/*/alias", "devices/*/address", "devices/*/seclabel", "devices/*/source/seclabel",
    "devices/graphics/@listen",  # says again what the first <listen> says
    # what is known by itself elsewhere: findings and _domain_xml.settings
    "devices/graphics/@powerControl",
    # secrets, which are not read
    "devices/graphics/@passwd",
    # what is found out
    "devices/disk/backingStore", "devices/disk/source/@index", "devices/tpm/backend/profile",
    # what changes while it runs, by the guest's or the user's hand
    "clock/@adjustment", "clock/@start", "devices/disk/target/@tray", "devices/disk/iotune",
    "devices/disk/throttlefilters", "devices/interface/link", "devices/interface/bandwidth",
    "devices/interface/filterref", "devices/graphics/@passwdValidTo", "devices/graphics/@connected",
    "devices/memballoon/stats",
))  # fmt: skip
"""What says nothing. "*" is any device."""

DEVICES = frozenset((
    "emulator", "disk", "controller", "filesystem", "interface", "serial", "parallel", "console", "channel", "input",
    "tpm", "graphics", "sound", "video", "hostdev", "redirdev", "smartcard", "hub", "watchdog", "memballoon", "rng",
    "panic", "shmem", "memory", "iommu", "vsock", "nvram",
))  # fmt: skip
"""Those that are compared. `audio` is left out: libvirt's newer versions add one to each definition."""

FIXED = ("graphics", "video")
"""Those that nobody can plug in, so that one more means that the definition has lost it."""

PLUGGED = ("disk", "interface", "hostdev", "filesystem", "memory")
"""Those that people plug into running domains."""

_LEAST_KIB = 1024
"""libvirt rounds memory up when it starts a domain: to whole MiB, on pSeries to more (qemuDomainAlignMemorySizes)."""
_LEAST_KIB_OF = {"ppc64": 256 * 1024, "ppc64le": 256 * 1024}

_UNITS = {
    "b": 1, "bytes": 1, "KB": 1000, "k": 1024, "KiB": 1024, "MB": 1000**2, "M": 1024**2, "MiB": 1024**2,
    "GB": 1000**3, "G": 1024**3, "GiB": 1024**3, "TB": 1000**4, "T": 1024**4, "TiB": 1024**4,
}  # fmt: skip


def find(live: _Element, config: _Element) -> list[str]:
    """The parts of the definition `config` that the running domain with the definition `live` does not have yet, such
    as "memory", "disk vda", "graphics vnc"; each once, in the order of the tables.
    """
    mine, theirs = (_grouped(_children(root), _local) for root in (live, config))
    found = [
        part for part in PARTS if _lists_differ(mine.get(part, ()), theirs.get(part, ()), _path_of(part, live, config))
    ]
    found += [name for name, check in _CHECKS.items() if check(live, config)]
    found += _devices(live, config)
    return list(dict.fromkeys(found))


def live_only(live: _Element, config: _Element) -> list[str]:
    """The devices of the process that its definition does not have, and that a new process would not have either.

    They were plugged in, or were taken out of the definition since: nothing tells which.
    """
    mine, theirs = (_grouped(_elements(root, "devices"), _local) for root in (live, config))
    found = []
    for tag in PLUGGED:
        here, there = mine.get(tag, []), theirs.get(tag, [])
        if tag in _KEYS:
            known = set(map(_KEYS[tag], there))
            found += [_name(one) for one in here if _KEYS[tag](one) not in known]
        elif len(here) > len(there):
            found.append(tag)
    return found


# One element and another


def _any_device(path: str) -> str:
    parts = path.split("/", 2)
    return "/".join(("devices", "*", *parts[2:])) if parts[0] == "devices" else path


def _is_removable(path: str) -> bool:
    if path in REMOVABLE or _any_device(path) in REMOVABLE:
        return True
    return any(path.startswith(f"{exact}/") for exact in EXACT)


class _Path(t.NamedTuple):
    """Where a comparison stands, "devices/disk/source", and what says nothing in this one place, besides `ANYWAY`."""

    name: str
    ignored: frozenset[str]

    def __truediv__(self, step: str) -> _Path:
        return self._replace(name=f"{self.name}/{step}")

    @property
    def counts(self) -> bool:
        return not {self.name, _any_device(self.name)} & ANYWAY and self.name not in self.ignored


def _differs(live: _Element, config: _Element, path: _Path) -> bool:
    """Whether `config` states what `live` does not, or has lost what it cannot have lost by itself."""
    if _attributes_differ(live, config, path):
        return True
    said = (config.text or "").strip()
    if said and said != (live.text or "").strip():
        return True
    mine, theirs = (_grouped(_children(root), _local) for root in (live, config))
    return any(_lists_differ(mine.get(tag, ()), theirs.get(tag, ()), path / tag) for tag in {**theirs, **mine})


def _attributes_differ(live: _Element, config: _Element, path: _Path) -> bool:
    mine, said = dict(live.attrib), dict(config.attrib)
    for name in {**said, **mine}:
        if mine.get(name) == said.get(name):
            continue
        step = path / f"@{name}"
        if step.counts and (name in said or _is_removable(step.name)):
            return True
    return False


def _lists_differ(live: t.Sequence[_Element], config: t.Sequence[_Element], path: _Path) -> bool:
    """Of elements of one tag: whether not each of the definition's has one of its own in the live ones."""
    if not path.counts:
        return False
    if path.name == "os/boot":
        return [one.get("dev") for one in live] != [one.get("dev") for one in config]
    if len(config) < len(live) and _is_removable(path.name):
        return True
    return bool(_unmatched(live, config, lambda mine, said: not _differs(mine, said, path)))


def _unmatched(
    live: t.Sequence[_Element], config: t.Sequence[_Element], fits: t.Callable[[_Element, _Element], bool]
) -> list[_Element]:
    """Those of `config` that are left over when as many as can be have one of `live` each, in whatever order."""
    taken: dict[int, int] = {}

    def place(number: int, tried: set[int]) -> bool:
        for at, mine in enumerate(live):
            if at not in tried and fits(mine, config[number]):
                tried.add(at)
                if at not in taken or place(taken[at], tried):
                    taken[at] = number
                    return True
        return False

    return [said for number, said in enumerate(config) if not place(number, set())]


def _local(element: _Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _children(element: _Element) -> list[_Element]:
    return [child for child in element if isinstance(child.tag, str)]


_Key = t.TypeVar("_Key")


def _grouped(elements: t.Iterable[_Element], key: t.Callable[[_Element], _Key]) -> dict[_Key, list[_Element]]:
    groups: dict[_Key, list[_Element]] = {}
    for one in elements:
        groups.setdefault(key(one), []).append(one)
    return groups


def _elements(root: _Element, path: str) -> list[_Element]:
    found = root.find(path)
    return [] if found is None else _children(found)


def _path_of(part: str, live: _Element, config: _Element) -> _Path:
    return _Path(part, frozenset(_IGNORED_IN[part](live, config) if part in _IGNORED_IN else ()))


def _get(root: _Element, path: str, attribute: str) -> str:
    found = root.find(path)
    return "" if found is None else found.get(attribute, "")


def _of_os(live: _Element, config: _Element) -> t.Iterator[str]:
    """libvirt chooses files where it is asked for a firmware, and takes a machine's newest version for a short name
    like "pc" (which definitions keep that were read while their QEMU was not to be had).
    """
    if "-" not in _get(config, "os/type", "machine") and "-" in _get(live, "os/type", "machine"):
        yield "os/type/@machine"
    if _get(config, "os", "firmware"):
        yield from ("os/loader", "os/nvram", "os/firmware")


def _of_features(live: _Element, config: _Element) -> t.Iterator[str]:
    """libvirt spells these out at the start."""
    if _get(config, "features/hyperv", "mode") in ("passthrough", "host-model"):
        yield "features/hyperv"


def _of_clock(live: _Element, config: _Element) -> t.Iterator[str]:
    """formatdomain.rst: a hypervisor may turn the other offsets into this one."""
    if _get(live, "clock", "offset") == "variable":
        yield from ("clock/@offset", "clock/@timezone")


_IGNORED_IN: t.Mapping[str, t.Callable[[_Element, _Element], t.Iterator[str]]] = {
    "os": _of_os,
    "features": _of_features,
    "clock": _of_clock,
}


# Parts with rules of their own


def _kib(element: _Element) -> int:
    text = (element.text or "").strip()
    number = int(text) if text.isdecimal() else 0
    return number * _UNITS.get(element.get("unit", "KiB"), 1024) // 1024


def _is_rounded(live: int, config: int, root: _Element) -> bool:
    """Whether `live` may be what libvirt makes of `config`: each cell and each module is rounded up by itself."""
    if live == config:
        return True
    least = _LEAST_KIB_OF.get(_get(root, "os/type", "arch"), _LEAST_KIB)
    pieces = len(root.findall("cpu/numa/cell")) + len(root.findall("devices/memory"))
    return live % least == 0 and 0 < live - config < least * max(pieces, 1)


def _memory(live: _Element, config: _Element) -> bool:
    """Modules count with it, be they plugged in or not."""

    def whole_and_base(root: _Element) -> tuple[int, int]:
        element = root.find("memory")
        whole = 0 if element is None else _kib(element)
        return whole, whole - sum(_kib(size) for size in root.iterfind("devices/memory/target/size"))

    pairs = zip(whole_and_base(live), whole_and_base(config))
    return not any(_is_rounded(mine, said, config) for mine, said in pairs)


def _most_memory(live: _Element, config: _Element) -> bool:
    mine, said = live.find("maxMemory"), config.find("maxMemory")
    if mine is None or said is None:
        return mine is not said
    return mine.get("slots") != said.get("slots") or not _is_rounded(_kib(mine), _kib(said), config)


def _vcpu(live: _Element, config: _Element) -> bool:
    """The most there can be. How many of them are plugged in changes while it runs."""
    mine, said = ((root.findtext("vcpu") or "1").strip() for root in (live, config))
    return mine != said


def _iothreads(live: _Element, config: _Element) -> bool:
    """They can be added to the process, and taken away."""
    mine, said = (int(root.findtext("iothreads") or "0") for root in (live, config))
    return said > mine


def _numatune(live: _Element, config: _Element) -> bool:
    """Its nodes can be changed while it runs; its mode cannot."""
    mine, said = (root.find("numatune/memory") for root in (live, config))
    return said is not None and (mine is None or mine.get("mode", "strict") != said.get("mode", "strict"))


_ON = ("require", "force")


def _cpu(live: _Element, config: _Element) -> bool:
    """libvirt writes a processor of its own into the live definition for all modes but those that pass the host's on,
    with all the features that QEMU has made of it (virCPUUpdateLive).
    """
    mine, said = live.find("cpu"), config.find("cpu")
    if said is None:
        return False
    if mine is None:
        return True
    has, gets = mine.get("mode", "custom"), said.get("mode", "custom")
    if has != gets and not (has == "custom" and gets == "host-model"):
        return True
    model, wanted = ((one.findtext("model") or "").strip() for one in (mine, said))
    if gets == "custom" and said.get("match") != "minimum" and wanted not in ("", model):
        return True
    if any(
        _lists_differ(mine.findall(part), said.findall(part), _Path(f"cpu/{part}", _ROUNDED))
        for part in ("topology", "numa", "maxphysaddr")
    ):
        return True
    return _features_differ(mine, said)


_ROUNDED = frozenset(("cpu/numa/cell/@memory", "cpu/numa/cell/@unit"))


def _features_differ(live: _Element, config: _Element) -> bool:
    """QEMU may refuse a feature that is required, which libvirt then tells as disabled, and drop one that it does not
    know: so what is required has to be named, and what is disabled must not be on.
    """
    has = {one.get("name"): one.get("policy", "require") for one in live.iterfind("feature")}
    for one in config.iterfind("feature"):
        name, policy = one.get("name"), one.get("policy", "require")
        if (policy in _ON and name not in has) or (policy == "disable" and has.get(name) in _ON):
            return True
    return False


def _type(live: _Element, config: _Element) -> bool:
    return live.get("type") != config.get("type")


_CHECKS: t.Mapping[str, t.Callable[[_Element, _Element], bool]] = {
    "type": _type,
    "memory": _memory,
    "maxMemory": _most_memory,
    "vcpu": _vcpu,
    "iothreads": _iothreads,
    "numatune": _numatune,
    "cpu": _cpu,
}


# Devices


def _of_disk(live: _Element, config: _Element) -> t.Iterator[str]:
    """A medium is changed while the guest runs, and a transient disk's file is one of libvirt's own."""
    if config.get("device") in ("cdrom", "floppy"):
        yield from ("devices/disk/@type", "devices/disk/source", "devices/disk/driver")
    if config.find("transient") is not None:
        yield from ("devices/disk/@type", "devices/disk/source", "devices/disk/driver/@type")


def _of_interface(live: _Element, config: _Element) -> t.Iterator[str]:
    """libvirt shows what a network has made of it (virDomainActualNetDefFormat)."""
    if config.get("type") == "network" and live.get("type") != "network":
        yield from ("devices/interface/@type", "devices/interface/source", "devices/interface/virtualport")


def _of_graphics(live: _Element, config: _Element) -> t.Iterator[str]:
    if config.get("autoport") == "yes":
        yield from ("devices/graphics/@port", "devices/graphics/@tlsPort")
    if config.get("websocket") == "-1":
        yield "devices/graphics/@websocket"
    first = config.find("listen")
    if first is not None and first.get("type") == "address" and first.get("address") is None:
        # It is qemu.conf's to say, and may even be a socket (vnc_auto_unix_socket).
        yield from (f"devices/graphics/{what}" for what in ("listen", "@port", "@autoport"))


def _of_channel(live: _Element, config: _Element) -> t.Iterator[str]:
    """Paths that libvirt made up for a domain of another name or number stay in some old definitions."""
    source = config.find("source")
    if source is not None and "/channel/target/" in source.get("path", ""):
        yield "devices/channel/source"


def _of_terminal(live: _Element, config: _Element) -> t.Iterator[str]:
    """libvirt counts the ports of consoles anew at the start."""
    yield f"devices/{_local(config)}/target/@port"
    if config.get("type") == "pty":
        yield f"devices/{_local(config)}/source"


def _of_vsock(live: _Element, config: _Element) -> t.Iterator[str]:
    if _get(config, "cid", "auto") == "yes":
        yield "devices/vsock/cid/@address"


def _of_memory(live: _Element, config: _Element) -> t.Iterator[str]:
    yield from ("devices/memory/target/size", "devices/memory/target/requested", "devices/memory/target/current")


_IGNORED: t.Mapping[str, t.Callable[[_Element, _Element], t.Iterator[str]]] = {
    "disk": _of_disk,
    "interface": _of_interface,
    "graphics": _of_graphics,
    "channel": _of_channel,
    "serial": _of_terminal,
    "parallel": _of_terminal,
    "console": _of_terminal,
    "vsock": _of_vsock,
    "memory": _of_memory,
}
"""What says nothing in a device, for what it is."""


def _attribute(path: str, name: str) -> t.Callable[[_Element], str]:
    return lambda device: _get(device, path, name)


_KEYS: t.Mapping[str, t.Callable[[_Element], str]] = {
    "disk": _attribute("target", "dev"),
    "interface": _attribute("mac", "address"),
    "filesystem": _attribute("target", "dir"),
    "controller": lambda device: f"{device.get('type', '')} {device.get('index', '0')}",
    "graphics": lambda device: device.get("type", ""),
    "video": lambda device: "",
}
"""What a device is known by. Others are what they are: each of the definition's needs one like it in the process."""

_SHOWN: t.Mapping[str, t.Callable[[_Element], str]] = {
    **_KEYS,
    "channel": _attribute("target", "name"),
    "input": lambda device: device.get("type", ""),
    "sound": lambda device: device.get("model", ""),
    "tpm": lambda device: device.get("model", ""),
    "watchdog": lambda device: device.get("model", ""),
}
"""What its name adds to its tag, for people."""


def _name(device: _Element) -> str:
    tag = _local(device)
    more = _SHOWN[tag](device) if tag in _SHOWN else ""
    return f"{tag} {more}" if more else tag


def _is_compared(device: _Element) -> bool:
    """What leads where on the PCI bus is libvirt's affair, and a serial console is the first serial port again."""
    tag, kind = _local(device), device.get("type")
    if tag == "console":
        return _get(device, "target", "type") != "serial"
    return tag in DEVICES and not (tag == "controller" and kind == "pci")


def _may_be_missing(device: _Element) -> bool:
    """Whether the process may have started without it, or libvirt's newer versions add it to definitions (iTCO)."""
    policies = {device.get("startupPolicy")} | {one.get("startupPolicy") for one in device.iterfind("source")}
    if policies & {"optional", "requisite"}:
        return True
    return _local(device) == "watchdog" and device.get("model") == "itco"


def _identity(device: _Element) -> tuple[str, str]:
    tag = _local(device)
    return tag, _KEYS[tag](device) if tag in _KEYS else ""


def _devices(live: _Element, config: _Element) -> t.Iterator[str]:
    mine, theirs = (_grouped(filter(_is_compared, _elements(root, "devices")), _identity) for root in (live, config))
    for identity, wanted in theirs.items():
        same = mine.get(identity, [])
        for device in _unmatched(same, wanted, _is_like):
            if not (_may_be_missing(device) and len(same) < len(wanted)):
                yield _name(device)
    for tag in FIXED:
        here, there = (
            sum(len(group) for (kind, _key), group in all_.items() if kind == tag) for all_ in (mine, theirs)
        )
        if here > there:
            yield tag


def _is_like(live: _Element, config: _Element) -> bool:
    tag = _local(config)
    ignored = frozenset(_IGNORED[tag](live, config) if tag in _IGNORED else ())
    return not _differs(live, config, _Path(f"devices/{tag}", ignored))
