# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A host of the lab whose libvirtd asks polkit about everything, and a user there who is nobody but for his groups.

The rules are those of docs/polkit, and one of the tests': whoever is in the group no-PERMISSION does not have it, and
who is in yes-PERMISSION does. Groups count as soon as they are in /etc/group, while polkit reads new rules whenever it
likes. libvirtd writes down what it asks. polkit cannot see who connects from outside the host, so everything is done
inside.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ansible_collections.kvmops.console.tests.lab.kvmlab import Host, domain_xml
from ansible_collections.kvmops.console.tests.lab.kvmlab.systemd import until
from ansible_collections.kvmops.console.tests.tools.rights import API, Rights

Result = dict[str, Any]

HERE = Path(__file__).resolve().parent
RULES = HERE.parents[2] / "docs/polkit"
RUN_MODULE = HERE.parent / "run_module.py"
POLKITD = "/usr/lib/polkit-1/polkitd" if Path("/usr/lib/polkit-1/polkitd").exists() else "/usr/libexec/polkitd"

USER = "operator"
USER_ID = 4242
HOME = "/var/lib/operator"
LOG = "/run/libvirtd.log"

DISK_FILE = "/run/guest.img"
DISK = f"""<disk type="file" device="disk"><driver name="qemu" type="raw"/><source file="{DISK_FILE}"/>
<target dev="hda" bus="ide"/></disk>"""
SLEEPER = bytes.fromhex("ba0406 b80024 ef f4 ebfd").ljust(510, b"\0") + b"\x55\xaa"
"""A boot sector that goes to sleep (S3): PM1a_CNT, which SeaBIOS puts at port 604h, gets SLP_EN and the type that QEMU
calls suspend (hw/acpi/core.c, acpi_pm1_cnt_write)."""

TESTS_RULE = """\
polkit.addRule(function(action, subject) {
    if (action.id.indexOf("org.libvirt.") === 0) {
        var name = action.id.replace("org.libvirt.api.", "");
        if (subject.isInGroup("no-" + name)) {
            return polkit.Result.NO;
        }
        if (subject.isInGroup("yes-" + name)) {
            return polkit.Result.YES;
        }
    }
    return polkit.Result.NOT_HANDLED;
});
"""

LIBVIRTD_CONF = """\
auth_unix_ro = "polkit"
auth_unix_rw = "polkit"
unix_sock_ro_perms = "0777"
unix_sock_rw_perms = "0777"
access_drivers = [ "polkit" ]
keepalive_interval = -1
log_filters = "1:access"
log_outputs = "1:stderr"
"""

START = f"""
mkdir -p /run/dbus /etc/polkit-1/rules.d {HOME}
chown {USER_ID}:{USER_ID} {HOME}
chmod 755 /etc/polkit-1/rules.d /usr/share/polkit-1/rules.d
dbus-daemon --system --fork --nopidfile
setsid --fork "$0" --no-debug >/run/polkitd.log 2>&1
rm -f /run/libvirt/libvirt-sock
setsid --fork libvirtd >{LOG} 2>&1
until [ -S /run/libvirt/libvirt-sock ] && pkaction >/dev/null 2>&1; do sleep 0.02; done
virsh --quiet --connect qemu:///system list --name
"""

# What libvirt's packages bring: everybody may look, only some may do.
POLICY = """\
<?xml version="1.0"?>
<policyconfig>
{actions}
</policyconfig>
"""
ACTION = """\
<action id="{id}"><description>{id}</description><message>{id}</message><defaults><allow_any>{say}</allow_any>\
<allow_inactive>{say}</allow_inactive><allow_active>{say}</allow_active></defaults></action>
"""


class Guarded:
    """The host. `groups` are those of the user."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.groups: tuple[str, ...] = ()
        # The tests' policy has no action for undefining, so this outlives its domain.
        self._left: list[tuple[str, ...]] = []
        self._group = (host.root / "etc/group").read_text(encoding="utf-8")

    def virsh(self, *words: str, stdin: str = "") -> str:
        """As root."""
        return self.host.virsh(*words, stdin=stdin)

    def put(
        self,
        name: str,
        *,
        running: bool = False,
        snapshot: bool = False,
        checkpoint: bool = False,
        saved: bool = False,
        asleep: bool = False,
        **what: Any,
    ) -> None:
        """A new domain, in place of one with that name."""
        self.remove(name)
        xml = domain_xml(name, **what, devices=DISK if asleep or checkpoint else "")
        self.virsh("define", "/dev/stdin", stdin=xml)
        if asleep or checkpoint:
            (self.host.root / DISK_FILE[1:]).write_bytes(SLEEPER)
        if snapshot:
            told = f"<name>s</name><state>shutoff</state><creationTime>1</creationTime>{xml}"
            words = ("snapshot-create", name, "--xmlfile", "/dev/stdin", "--redefine")
            self.virsh(*words, stdin=f"<domainsnapshot>{told}</domainsnapshot>")
            self._left.append(("snapshot-delete", name, "s", "--metadata"))
        if checkpoint:
            told = f"<name>c</name><creationTime>1</creationTime><disks><disk name='hda' checkpoint='no'/></disks>{xml}"
            words = ("checkpoint-create", name, "--xmlfile", "/dev/stdin", "--redefine")
            self.virsh(*words, stdin=f"<domaincheckpoint>{told}</domaincheckpoint>")
            self._left.append(("checkpoint-delete", name, "c", "--metadata"))
        if running or saved or asleep:
            self.virsh("start", name)
        if saved:
            self.virsh("managedsave", name)
        if asleep:
            until(lambda: self.virsh("domstate", name).strip() == "pmsuspended", lambda: f"{name} does not sleep.")

    def remove(self, name: str) -> None:
        """End the domain and all that is its."""
        script = 'virsh destroy "$1"; virsh undefine "$1" --managed-save --snapshots-metadata; true'
        self.host.exec("sh", "-c", script, "sh", name)
        for words in self._left:
            self.virsh(*words)
        self._left.clear()

    def join(self, *groups: str) -> None:
        """The user is in these groups, and in no other."""
        self.groups = groups
        lines = [f"{group}:x:{5000 + number}:{USER}\n" for number, group in enumerate(groups)]
        (self.host.root / "etc/group").write_text(self._group + "".join(lines), encoding="utf-8")

    def mark(self) -> int:
        """A moment, for asked()."""
        return self._log.stat().st_size

    def asked(self, since: int) -> list[str]:
        """The permissions of the user that libvirtd has asked polkit for since then, as the table calls them."""
        with open(self._log, encoding="utf-8", errors="replace") as stream:
            stream.seek(since)
            said = stream.read()
        found = re.findall(rf"Check action '(\S+)' for process .* uid {USER_ID}\b", said)
        return sorted({one.replace(API, "") for one in found})

    @property
    def _log(self) -> Path:
        return self.host.root / LOG[1:]

    def module(self, name: str, *, check: bool = False, **arguments: Any) -> Result:
        """The result of a module of the collection, run by the user."""
        return self.python(os.fspath(RUN_MODULE), name, str(int(check)), "0", stdin=json.dumps(arguments))

    def python(self, *words: str, stdin: str = "") -> Result:
        """What a program prints as JSON, run by the user."""
        become = ("setpriv", f"--reuid={USER_ID}", f"--regid={USER_ID}", "--init-groups", "--inh-caps=-all", "--")
        done = subprocess.run(
            self.host.command(*become, sys.executable, "-B", *words),
            input=stdin,
            env={**self.host.environment({"PYTHONPATH": ":".join(path for path in sys.path if path)}), "HOME": HOME},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        try:
            return dict(json.loads(done.stdout))
        except ValueError:
            raise AssertionError(f"no result: {done.stdout}{done.stderr}") from None


def guarded(host: Host, rights: Rights) -> Guarded:
    """Have the host's libvirtd ask polkit, until the host goes. `rights`: the table."""
    root = host.root
    host.libvirtd("stop")
    said = {f"{API}{name}": "yes" if told.get("everybody") else "no" for name, told in rights["permissions"].items()}
    said.update({"org.libvirt.unix.monitor": "yes", "org.libvirt.unix.manage": "auth_admin_keep"})
    policy = POLICY.format(actions="".join(ACTION.format(id=name, say=say) for name, say in said.items()))
    rules = root / "etc/polkit-1/rules.d"
    for path in (root / "usr/share/polkit-1/actions").glob("org.libvirt.*"):
        path.unlink()
    for path, text in (
        (root / "usr/share/polkit-1/actions/org.libvirt.policy", policy),
        (rules / "10-tests.rules", TESTS_RULE),
        (root / "etc/libvirt/libvirtd.conf", LIBVIRTD_CONF),
    ):
        path.write_text(text, encoding="utf-8")
    for path in RULES.glob("*.rules"):
        shutil.copy(path, rules / path.name)
    for name, line in (
        ("passwd", f"{USER}:x:{USER_ID}:{USER_ID}:Operator:{HOME}:/bin/sh"),
        ("group", f"{USER}:x:{USER_ID}:"),
    ):
        with open(root / "etc" / name, "a", encoding="utf-8") as stream:
            stream.write(f"{line}\n")
    host.exec("sh", "-ec", START, POLKITD)
    return Guarded(host)
