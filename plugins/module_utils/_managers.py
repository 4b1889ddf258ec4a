# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Who else writes a domain's definition, and what runs guests beside this libvirt.

Private to this collection.

Pure. A manager is known by what it leaves in the definitions that it makes; to know one more is one more line of a
table. The owner has the last word: `<managed by="terraform"/>` in our element of the metadata names a manager that
leaves no trace, and `<managed by="nobody"/>` one whose trace has outlived it, as in a copy.
"""

from __future__ import annotations

import typing as t

from ansible_collections.kvmops.console.plugins.module_utils._domain_xml import NAMESPACE, child_value

if t.TYPE_CHECKING:
    from lxml.etree import _Element

START = "start"
"""The manager writes the definition anew at each start: an edit is lost with the next one."""
CHANGE = "change"
"""The manager writes the definition anew when it changes the domain: an edit is lost some day."""
NEVER = "never"
"""The manager changes what it was asked to, and keeps the rest."""

NOBODY = "nobody"
LONGEST_NAME = 60
"""Of a manager that only the owner knows, in characters."""


class Manager(t.NamedTuple):
    """`remedy`: where its users set powerControl. `namespaces`: how those of its elements below `<metadata>` begin.
    `product`: what it writes into the SMBIOS system's product. `description`: the first and the last letters of what it
    describes domains by.
    """

    id: str
    name: str
    rewrites: str
    remedy: str
    namespaces: tuple[str, ...] = ()
    product: str | None = None
    description: tuple[str, str] | None = None


MANAGERS: tuple[Manager, ...] = (
    # nova/virt/libvirt/config.py: NOVA_NS; LibvirtConfigGuestGraphics knows no powerControl.
    # nova/virt/libvirt/driver.py: power_on() is a _hard_reboot(), which makes the XML anew.
    Manager(
        "nova",
        "OpenStack Nova",
        START,
        "Leave it to Nova, which never writes powerControl, so that it is off from the next start on, and has no option"
        " for it. Switch the guest with Nova (openstack server stop, start, reboot --hard), and let nobody but"
        " nova-novncproxy reach the VNC servers (a firewall, or vencrypt in [vnc]auth_schemes).",
        ("http://openstack.org/xmlns/libvirt/nova/",),
    ),
    # lib/vdsm/virt/xmlconstants.py: METADATA_VM_VDSM_URI; the engine sends the XML of each start (LibvirtVmXmlBuilder).
    Manager(
        "ovirt",
        "oVirt",
        START,
        "Set it by a VDSM hook on every host: a script in /usr/libexec/vdsm/hooks/before_vm_start that changes the"
        " graphics in the file named by _hook_domxml. The engine has no option for it.",
        ("http://ovirt.org/vm/",),
    ),
    # pkg/virt-launcher/virtwrap: converter makes the XML from the VMI at each start; metadata <kubevirt
    # xmlns="http://kubevirt.io">; cmd/sidecars/README.md: onDefineDomain. Harvester's machines are KubeVirt's.
    Manager(
        "kubevirt",
        "KubeVirt",
        START,
        "Set it by a hook sidecar of the VirtualMachine (annotation hooks.kubevirt.io/hookSidecars, onDefineDomain),"
        " as KubeVirt has no option for it. This holds for Harvester, too.",
        ("http://kubevirt.io",),
    ),
    # src/vmm/LibVirtDriverKVM.cc writes a deployment file for each start, with <one:vm> in the metadata.
    Manager(
        "opennebula",
        "OpenNebula",
        START,
        "Set it where the KVM driver deploys (remotes/vmm/kvm/deploy on the front end, then onehost sync --force), as"
        " the template's GRAPHICS has no option for it.",
        ("http://opennebula.org/xmlns/libvirt/",),
    ),
    # plugins/hypervisors/kvm: LibvirtVMDef's SMBIOS entries, domains created by each start; docs: "KVM hooks".
    Manager(
        "cloudstack",
        "Apache CloudStack",
        START,
        "Set it by the agent's transformer of definitions on every host"
        " (agent.hooks.libvirt_vm_xml_transformer.script in agent.properties).",
        product="CloudStack KVM Hypervisor",
    ),
    # terraform-provider-libvirt leaves no trace. 0.9: internal/provider/domain_resource.go, Update() defines the whole
    # domain; docs/resources/domain.md: vnc.power_control. 0.8: website/docs/r/domain.html.markdown, xslt.
    Manager(
        "terraform",
        "Terraform",
        CHANGE,
        "Set it in the libvirt_domain resource: power_control of its vnc graphics (provider 0.9 and later), or an xslt"
        " block (0.8 and earlier).",
    ),
    # pkg/machines of cockpit, later cockpit-machines: METADATA_NAMESPACE in src/libvirt-xml-parse.
    Manager(
        "cockpit",
        "Cockpit",
        NEVER,
        "Nothing: it keeps powerControl.",
        ("https://github.com/cockpit-project/",),
    ),
    # src/vm-configurator.vala: BOXES_NS_URI
    Manager(
        "boxes",
        "GNOME Boxes",
        NEVER,
        "Nothing: it keeps powerControl.",
        ("https://wiki.gnome.org/Apps/Boxes",),
    ),
    # lib/vagrant-libvirt/action/create_domain.rb: the description; start_domain.rb changes what is there.
    Manager(
        "vagrant",
        "Vagrant",
        NEVER,
        "Nothing: it keeps powerControl for as long as the machine is not destroyed.",
        description=("Source: ", "/Vagrantfile"),
    ),
    # virt-manager, virt-install and others that ask libosinfo; none of them knows powerControl.
    Manager(
        "libosinfo",
        "virt-manager or virt-install",
        NEVER,
        "Nothing: it keeps powerControl.",
        ("http://libosinfo.org/xmlns/libvirt/domain/",),
    ),
)
"""Those that write over an edit first: a domain of Nova's may have libosinfo's element, too."""

_BY_ID = {manager.id: manager for manager in MANAGERS}

_UNKNOWN_REMEDY = "Set powerControl where the domain's owner says that it is managed."


def manager_of(root: _Element) -> Manager | None:
    """Who writes the definition `root`, or None where nobody is known to."""
    metadata = root.find("metadata")
    elements = [] if metadata is None else list(metadata)
    told = _told(elements)
    if told is not None:
        return by_name(told) if told != NOBODY else None
    spaces = [str(element.tag)[1:].partition("}")[0] for element in elements if str(element.tag).startswith("{")]
    product = _product(root)
    description = child_value(root, "description") or ""
    if not (spaces or product or description):
        return None
    return next((one for one in MANAGERS if _left_a_trace(one, spaces, product, description)), None)


def describe(root: _Element) -> dict[str, str] | None:
    """The manager of the definition `root`, for a domain's record."""
    manager = manager_of(root)
    return None if manager is None else {"id": manager.id, "name": manager.name, "rewrites": manager.rewrites}


def by_name(told: str) -> Manager:
    """The manager of an id, in any case; one that is not known may write everything over."""
    name = "".join(letter for letter in told if letter.isprintable())[:LONGEST_NAME]
    return _BY_ID.get(name.lower()) or Manager("other", name, CHANGE, _UNKNOWN_REMEDY)


def _told(elements: t.Sequence[_Element]) -> str | None:
    for element in elements:
        if element.tag != f"{{{NAMESPACE}}}console":
            continue
        managed = element.find(f"{{{NAMESPACE}}}managed")
        if managed is not None:
            return managed.get("by", "").strip() or None
    return None


def _product(root: _Element) -> str | None:
    sysinfo = root.find("sysinfo")
    entries = [] if sysinfo is None else sysinfo.iterfind("system/entry")
    return next((entry.text for entry in entries if entry.get("name") == "product"), None)


def _left_a_trace(manager: Manager, spaces: t.Sequence[str], product: str | None, description: str) -> bool:
    if manager.namespaces:
        return any(space.startswith(manager.namespaces) for space in spaces)
    if manager.description is not None:
        begins, ends = manager.description
        return description.startswith(begins) and description.endswith(ends)
    return manager.product is not None and manager.product == product


class Beside(t.NamedTuple):
    """What runs guests without this libvirt. `paths`: one of them is there where it is installed."""

    id: str
    name: str
    paths: tuple[str, ...]
    remedy: str


BESIDE: tuple[Beside, ...] = (
    # pve-docs, pmxcfs(8): /etc/pve/nodes holds the nodes' guests. QEMU's VNC server is on a unix socket, with a
    # password that each console gets anew, and without power-control.
    Beside(
        "proxmox",
        "Proxmox VE",
        ("/etc/pve/nodes",),
        "Proxmox VE starts QEMU itself, and without power control unless args in the guest's configuration asks for it"
        " (qm config ID): upgrade pve-qemu-kvm, and see the VNC servers (/run/qemu-server/ID.vnc) with"
        " kvmops.console.vnc_probe.",
    ),
    # incus: internal/server/util, the folder of its socket; doc/environment.md
    Beside(
        "incus",
        "Incus",
        ("/var/lib/incus/unix.socket", "/run/incus/unix.socket"),
        "Switch them with kvmops.console.incus_power. Incus gives them no VNC server.",
    ),
    # lxd: doc/environment.md, and the snap's folder
    Beside(
        "lxd",
        "LXD",
        ("/var/snap/lxd/common/lxd/unix.socket", "/var/lib/lxd/unix.socket"),
        "LXD starts QEMU itself, and gives its guests no VNC server.",
    ),
    # kubevirt: cmd/virt-handler, virtShareDir; each guest has a libvirt of its own in its pod.
    Beside(
        "kubevirt",
        "KubeVirt",
        ("/var/run/kubevirt",),
        "Each of its guests has a libvirt of its own, in its pod; powerControl is set by a hook sidecar.",
    ),
)


def not_seen(is_there: t.Callable[[str], bool]) -> list[dict[str, str]]:
    """What runs guests on a host that its libvirt knows nothing of; `is_there(path)` looks for a path of that host."""
    found = (one for one in BESIDE if any(map(is_there, one.paths)))
    return [{"id": one.id, "name": one.name, "remedy": one.remedy} for one in found]
