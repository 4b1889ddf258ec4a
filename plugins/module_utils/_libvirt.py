# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""libvirt: one connection a task, its errors turned into ours, and a host's domains read in a handful of calls.

Private to this collection.
"""

from __future__ import annotations

import errno
import os
import pwd
import traceback
import typing as t
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from urllib.parse import urlsplit

from ansible_collections.kvmops.console.plugins.module_utils._concurrent import bounded, left_behind
from ansible_collections.kvmops.console.plugins.module_utils._errors import AccessDenied, LibvirtFailure

try:
    import libvirt
except ImportError:
    LIBVIRT_TRACEBACK: str | None = traceback.format_exc()
else:
    LIBVIRT_TRACEBACK = None

STATES = ("nostate", "running", "blocked", "paused", "shutdown", "shutoff", "crashed", "pmsuspended")
"""By virDomainState's number."""


GUIDE = "docs/least-privilege.md"
SEARCH = "connect.search-domains"
READ = "domain.read"
READ_SECURE = "domain.read and domain.read-secure"
RIGHTS = f"a rule in /etc/polkit-1/rules.d gives it: see {GUIDE}"


class Listed(t.NamedTuple):
    """A domain as the listing tells it, without a call of its own."""

    handle: t.Any
    name: str
    uuid: str
    state: str
    persistent: bool
    autostart: bool
    managed_save: bool
    snapshots: bool
    checkpoints: bool

    @property
    def active(self) -> bool:
        return self.state not in ("shutoff", "nostate")


@contextmanager
def translated(doing: str, unsaid: t.Callable[[str], str] = lambda text: text, needs: str = "") -> t.Iterator[None]:
    """Turn libvirt's error into ours: "<doing> failed: <what libvirt says>". `unsaid` takes secrets out of what it
    says. `needs`: the permissions that it takes, as docs/polkit/rights.yml names them: libvirt does not say.
    """
    try:
        yield
    except libvirt.libvirtError as e:
        lacking = denied(e, needs)
        if lacking:
            raise AccessDenied(f"{doing} failed: {lacking}.") from e
        raise LibvirtFailure(unsaid(f"{doing} failed: {e.get_error_message() or e}")) from e


def denied(error: t.Any, needs: str = "") -> str | None:
    """What the user lacks, where libvirt's error is that; libvirt's own words name neither permission nor user."""
    code, said, user = error.get_error_code(), str(error.get_error_message() or error), _user()
    if code == libvirt.VIR_ERR_ACCESS_DENIED:
        return f"libvirt's access control denies it to {user}; it takes {needs or 'more permissions'} ({RIGHTS})"
    if code in (libvirt.VIR_ERR_AUTH_FAILED, libvirt.VIR_ERR_AUTH_UNAVAILABLE, libvirt.VIR_ERR_AUTH_CANCELLED):
        return f"polkit does not let {user} connect; it takes org.libvirt.unix.manage ({RIGHTS}; libvirt says: {said})"
    if code == libvirt.VIR_ERR_OPERATION_DENIED:
        return f"a read-only connection does not allow it ({said})"
    if code == libvirt.VIR_ERR_SYSTEM_ERROR and error.get_int1() in (errno.EACCES, errno.EPERM):
        return f"{user} may not open libvirt's socket: run the task with become, or see {GUIDE} ({said})"
    return None


def _user() -> str:
    try:
        return f"the user {pwd.getpwuid(os.geteuid()).pw_name}"
    except KeyError:
        return f"the user {os.geteuid()}"


class Connection:
    """An open connection to libvirt. `read_only` says whether it may see secrets and change anything."""

    def __init__(self, handle: t.Any, uri: str, read_only: bool) -> None:
        self.handle = handle
        self.uri = uri
        self.read_only = read_only
        self._handles: dict[str, t.Any] | None = None

    @property
    def is_local(self) -> bool:
        """Whether the domains' processes and files are on this machine, as far as the URI tells."""
        return not urlsplit(self.uri).hostname

    @property
    def driver(self) -> str:
        """ "qemu", "test", ..."""
        return urlsplit(self.uri).scheme.partition("+")[0]

    @property
    def is_alive(self) -> bool:
        try:
            return bool(self.handle.isAlive())
        except libvirt.libvirtError:
            return False

    def library_version(self) -> str:
        """Of the libvirt on the other side: "9.0.0"."""
        with translated(f"Asking libvirt at {self.uri} for its version", needs="connect.getattr"):
            number = self.handle.getLibVersion()
        return f"{number // 1000000}.{number // 1000 % 1000}.{number % 1000}"

    def hostname(self) -> str:
        with translated(f"Asking libvirt at {self.uri} for the host's name", needs="connect.getattr"):
            return str(self.handle.getHostname())

    def domains(self) -> list[Listed]:
        """Every domain of the host, sorted by name.

        The flags are asked for by filtered listings, one call each, not by five calls a domain.
        """
        with translated(f"Listing the domains of {self.uri}", needs=SEARCH):
            handles = self.handle.listAllDomains(0)
            if not handles:
                return []
            persistent, autostart, saved, snapshots, checkpoints = (
                {domain.UUIDString() for domain in self._filtered(flag)}
                for flag in (
                    libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT,
                    libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART,
                    libvirt.VIR_CONNECT_LIST_DOMAINS_MANAGEDSAVE,
                    libvirt.VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT,
                    getattr(libvirt, "VIR_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT", None),
                )
            )
            states = self._states(handles)
        listed = [
            Listed(
                handle,
                handle.name(),
                uid,
                states.get(uid, "nostate"),
                uid in persistent,
                uid in autostart,
                uid in saved,
                uid in snapshots,
                uid in checkpoints,
            )
            for handle, uid in ((handle, handle.UUIDString()) for handle in handles)
        ]
        return sorted(listed, key=lambda domain: domain.name)

    def reach(self, domain: Listed) -> Listed:
        """The domain, listed over another connection, with a handle of this one.

        All handles come with the first: one call instead of one a domain.
        """
        if self._handles is None:
            with translated(f"Listing the domains of {self.uri}", needs=SEARCH):
                self._handles = {handle.UUIDString(): handle for handle in self.handle.listAllDomains(0)}
        if domain.uuid not in self._handles:
            raise LibvirtFailure(f"{domain.name} is gone: it ended or was undefined meanwhile.")
        return domain._replace(handle=self._handles[domain.uuid])

    def _filtered(self, flag: int | None) -> list[t.Any]:
        """The domains with `flag`; none where this driver knows no such filter."""
        if flag is None:
            return []
        try:
            return list(self.handle.listAllDomains(flag))
        except libvirt.libvirtError as e:
            if e.get_error_code() in (libvirt.VIR_ERR_INVALID_ARG, libvirt.VIR_ERR_NO_SUPPORT):
                return []
            raise

    def _states(self, handles: list[t.Any]) -> dict[str, str]:
        """State by UUID: the usual ones from a filtered listing each, the others asked one by one (no monitor is
        involved).
        """
        states = {
            domain.UUIDString(): state
            for flag, state in (
                (libvirt.VIR_CONNECT_LIST_DOMAINS_SHUTOFF, "shutoff"),
                (libvirt.VIR_CONNECT_LIST_DOMAINS_RUNNING, "running"),
                (libvirt.VIR_CONNECT_LIST_DOMAINS_PAUSED, "paused"),
            )
            for domain in self._filtered(flag)
        }
        for domain in handles:
            uid = domain.UUIDString()
            if uid not in states:
                try:
                    states[uid] = STATES[domain.state()[0]]
                except (libvirt.libvirtError, IndexError):
                    states[uid] = "nostate"
        return states


def runs_here(uri: str) -> bool:
    """Whether the driver itself runs in the process that connects: another process would not see the same domains."""
    parts = urlsplit(uri)
    return parts.scheme == "test" or parts.path == "/embed"


@contextmanager
def connect(uri: str, read_only: bool = False) -> t.Iterator[Connection]:
    """A connection to `uri` for the length of a `with` block."""
    libvirt.registerErrorHandler(lambda context, error: None, None)  # else the library writes to stderr, too
    opener = libvirt.openReadOnly if read_only else libvirt.open
    with translated(f"Connecting to libvirt at {uri}", needs="connect.getattr"):
        handle = opener(uri)
    try:
        yield Connection(handle, uri, read_only)
    finally:
        if not left_behind():  # else closing would wait for the call that hangs
            with suppress(libvirt.libvirtError):  # a libvirtd that died while we worked has closed it for us
                handle.close()


@contextmanager
def connect_to_read(uri: str) -> t.Iterator[Connection]:
    """The fullest connection that we may have: one that sees secrets, else a read-only one."""
    with ExitStack() as stack:
        try:
            connection = stack.enter_context(connect(uri))
        except LibvirtFailure:
            connection = stack.enter_context(connect(uri, read_only=True))
        yield connection


def live_xml(domain: Listed, connection: Connection, secrets: bool = True) -> str:
    """The definition that the running domain has. `secrets`: with passwords, unless the connection is read-only."""
    return _xml(domain, connection, secrets, 0, "live definition")


def inactive_xml(domain: Listed, connection: Connection, secrets: bool = True) -> str:
    """The definition that the next start will use.

    With `secrets` wherever it may be defined again: defining anything read without them drops the VNC password.
    """
    return _xml(domain, connection, secrets, libvirt.VIR_DOMAIN_XML_INACTIVE, "definition")


def _xml(domain: Listed, connection: Connection, secrets: bool, flags: int, what: str) -> str:
    secrets = secrets and not connection.read_only
    with translated(f"Reading the {what} of {domain.name}", needs=READ_SECURE if secrets else READ):
        return str(domain.handle.XMLDesc(flags | (libvirt.VIR_DOMAIN_XML_SECURE if secrets else 0)))


def define(connection: Connection, name: str, xml: str, unsaid: t.Callable[[str], str]) -> None:
    """Make `xml` the definition of the domain `name`; libvirt keeps the old one where it refuses."""
    with translated(f"Defining {name}", unsaid, "domain.write and domain.save"):
        connection.handle.defineXML(xml)


def find(connection: Connection, uuid: str) -> t.Any:
    """libvirt's handle of a domain."""
    with translated(f"Looking for the domain {uuid}", needs="domain.getattr"):
        return connection.handle.lookupByUUIDString(uuid)


def graphics_socket(domain: Listed, index: int, timeout: float = 5.0) -> int:
    """A descriptor connected to the domain's graphics `index`, past its authentication (virDomainOpenGraphicsFD).

    libvirt waits for QEMU's monitor without end; after `timeout` seconds the call is left behind.
    """

    def ask() -> int:
        with translated(f"Opening the graphics of {domain.name}", needs="domain.open-graphics"):
            return int(domain.handle.openGraphicsFD(index, libvirt.VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH))

    return bounded(ask, timeout, f"Opening the graphics of {domain.name}")


class SavedState(t.NamedTuple):
    """A place outside the definition that carries a definition of its own.

    `kind`: "managed_save", "snapshot" or "checkpoint". `read()` gives its XML; `write(xml)` replaces it, and takes the
    permissions `writing`.
    """

    kind: str
    name: str | None
    read: t.Callable[[], str]
    write: t.Callable[[str], None]
    writing: str = ""


def saved_states(domain: Listed, secrets: bool = True) -> list[SavedState]:
    """The saved states of a domain. With `secrets`, which a state needs that is to be written again, it takes a
    connection that may see them.
    """
    states = [_managed_save(domain.handle, secrets)] if domain.managed_save else []
    with translated(f"Listing the saved states of {domain.name}", needs=READ):
        if domain.snapshots:
            states += [
                _snapshot(domain.handle, snapshot, secrets) for snapshot in _by_name(domain.handle.listAllSnapshots(0))
            ]
        if domain.checkpoints:
            states += [
                _checkpoint(domain.handle, checkpoint, secrets)
                for checkpoint in _by_name(domain.handle.listAllCheckpoints(0))
            ]
    return states


def _by_name(handles: list[t.Any]) -> list[t.Any]:
    return sorted(handles, key=lambda handle: str(handle.getName()))


def _managed_save(handle: t.Any, secrets: bool) -> SavedState:
    return SavedState(
        "managed_save",
        None,
        lambda: str(handle.managedSaveGetXMLDesc(libvirt.VIR_DOMAIN_SAVE_IMAGE_XML_SECURE if secrets else 0)),
        lambda xml: handle.managedSaveDefineXML(xml, 0),
        "domain.write and domain.hibernate",
    )


def _snapshot(handle: t.Any, snapshot: t.Any, secrets: bool) -> SavedState:
    def write(xml: str) -> None:
        flags = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE
        if snapshot.isCurrent(0):
            flags |= libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT
        handle.snapshotCreateXML(xml, flags)

    return SavedState(
        "snapshot",
        snapshot.getName(),
        lambda: str(snapshot.getXMLDesc(libvirt.VIR_DOMAIN_SNAPSHOT_XML_SECURE if secrets else 0)),
        write,
        "domain.write and domain.snapshot",
    )


def _checkpoint(handle: t.Any, checkpoint: t.Any, secrets: bool) -> SavedState:
    return SavedState(
        "checkpoint",
        checkpoint.getName(),
        lambda: str(checkpoint.getXMLDesc(libvirt.VIR_DOMAIN_CHECKPOINT_XML_SECURE if secrets else 0)),
        lambda xml: handle.checkpointCreateXML(xml, libvirt.VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE),
        "domain.write and domain.checkpoint",
    )


class DefinitionWatch:
    """Tells how often a domain was defined since the watch began, so that somebody else's edit is not taken for ours.

    libvirt has no compare-and-swap. Its events tell afterwards whether one define, ours, came between two readings, or
    two.
    Must be made before the connection (`prepare`), and costs nothing until it is asked.
    """

    PATIENCE = 50
    """Milliseconds to wait for an event that is still on its way."""

    _prepared = False

    @classmethod
    def prepare(cls) -> None:
        """Register libvirt's own event loop, which nothing runs but `somebody_else`."""
        if not cls._prepared:
            libvirt.virEventRegisterDefaultImpl()
            cls._prepared = True

    def __init__(self, connection: Connection) -> None:
        self._unexplained: Counter[str] = Counter()
        with translated(f"Listening to the events of {connection.uri}", needs=SEARCH):
            connection.handle.domainEventRegisterAny(None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, self._on_event, None)

    def _on_event(self, connection: t.Any, domain: t.Any, event: int, detail: int, opaque: t.Any) -> None:
        if event == libvirt.VIR_DOMAIN_EVENT_DEFINED:
            self._unexplained[domain.UUIDString()] += 1

    def ours(self, uuid: str) -> None:
        """One define of the domain is ours."""
        self._unexplained[uuid] -= 1

    def somebody_else(self, uuid: str) -> bool:
        """Whether anybody else has defined the domain since the watch began, or since this was last asked."""
        quiet: list[int] = []
        timer = libvirt.virEventAddTimeout(self.PATIENCE, lambda timer, opaque: quiet.append(timer), None)
        try:
            while not quiet:
                libvirt.virEventRunDefaultImpl()
        finally:
            libvirt.virEventRemoveTimeout(timer)
        return self._unexplained.pop(uuid, 0) > 0


def screenshot(connection: Connection, domain: Listed, head: int) -> bytes:
    """A picture of one screen by virDomainScreenshot: a PPM or a PNG, as libvirt and QEMU have it. Taints nothing."""
    chunks: list[bytes] = []
    with translated(f"Taking a picture of {domain.name}", needs="domain.screenshot"):
        stream = connection.handle.newStream(0)
        domain.handle.screenshot(stream, head, 0)
        stream.recvAll(lambda _stream, data, _opaque: chunks.append(data), None)
        stream.finish()
    return b"".join(chunks)


_LEFT_SHIFT = 42
"""Its Linux key code."""


def press_shift(domain: Listed) -> None:
    """Press and release Shift, which wakes a screen and types nothing."""
    with translated(f"Waking the screen of {domain.name}", needs="domain.send-input"):
        domain.handle.sendKey(libvirt.VIR_KEYCODE_SET_LINUX, 50, [_LEFT_SHIFT], 1, 0)
