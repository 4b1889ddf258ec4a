# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where clients come in: sockets that we open, that systemd or an earlier process hands over, and TLS on them.

Private to this collection.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import socket
import ssl
import stat
from collections.abc import Iterable
from typing import NamedTuple

from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError

from ._config import ListenerSettings, Settings, TlsSettings

BACKLOG = 1024
FIRST_DESCRIPTOR = 3
"""systemd's SD_LISTEN_FDS_START (sd_listen_fds(3))."""
HAND_OVER = "KVMOPS_VNC_PROXY_SOCKETS"
"""Environment variable of a hand-over: a JSON list with [place, descriptor] for each socket."""

_log = logging.getLogger(__name__)


class Listener:
    """One place: its settings, its sockets (systemd may hand over several under one name), and TLS."""

    __slots__ = ("context", "settings", "sockets", "stamp")

    def __init__(
        self, settings: ListenerSettings, sockets: list[socket.socket], context: ssl.SSLContext | None
    ) -> None:
        self.settings = settings
        self.sockets = sockets
        self.context = context
        self.stamp = stamp_of(settings.tls)

    @property
    def places(self) -> list[str]:
        """Where it listens, for sentences."""
        return [place_of(sock) for sock in self.sockets]

    def reload_tls(self, settings: TlsSettings | None, *, demand: bool, only_changed: bool = False) -> bool:
        """Read the certificate again, and return whether it was. Raises InputError; what was read before stays then."""
        if settings is None or self.context is None:
            return False
        stamp = stamp_of(settings)
        if only_changed and stamp == self.stamp:
            return False
        self.stamp = stamp  # also where it fails: to be told once
        self.context = make_context(settings, demand=demand)
        return True

    def close(self) -> None:
        """Take no more connections."""
        for sock in self.sockets:
            sock.close()


# --- Sockets ----------------------------------------------------------------------------------------------------------

Inherited = dict[str, list[socket.socket]]
"""Sockets that were handed over, by systemd's name or by place."""


def inherited_from_systemd() -> Inherited:
    """Take the sockets that systemd hands over (sd_listen_fds(3)); the variables are gone afterwards."""
    process, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    names = os.environ.pop("LISTEN_FDNAMES", "").split(":")
    if process != str(os.getpid()) or not count.isdecimal():
        return {}
    names += ["unknown"] * int(count)
    return _adopt_all((names[index], FIRST_DESCRIPTOR + index) for index in range(int(count)))


def inherited_from_before() -> Inherited:
    """Take the sockets that the process before this one hands over, by place."""
    return _adopt_all(json.loads(os.environ.pop(HAND_OVER, "[]")))


def _adopt_all(entries: Iterable[tuple[str, int]]) -> Inherited:
    """Take descriptors, by name. Raises InputError, with none of them left open."""
    found: Inherited = {}
    try:
        for name, number in entries:
            found.setdefault(name, []).append(_adopt(number, name))
    except BaseException:
        let_go(found)
        raise
    return found


def let_go(inherited: Inherited) -> None:
    """Close what is left."""
    for sockets in inherited.values():
        for sock in sockets:
            sock.close()
    inherited.clear()


def handed_over(listeners: list[Listener]) -> tuple[str, list[int]]:
    """Return what HAND_OVER says of these, and their descriptors."""
    entries = [(_place_in(each.settings), sock.fileno()) for each in listeners for sock in each.sockets]
    return json.dumps(entries), [number for _place, number in entries]


def _place_in(settings: ListenerSettings) -> str:
    """What makes a listener the same in another configuration: where it listens."""
    if settings.systemd is not None:
        return f"systemd:{settings.systemd}"
    if settings.unix is not None:
        return f"unix:{settings.unix}"
    # Where the system chose the port, only the name is left.
    return f"{settings.address} {settings.port or settings.name}"


def _adopt(number: int, name: str) -> socket.socket:
    try:
        sock = socket.socket(fileno=number)
    except OSError as error:
        raise InputError(
            f"The socket {name} was handed over as descriptor {number}, which is no socket: {error.strerror}."
        ) from error
    if sock.type != socket.SOCK_STREAM or not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.close()
        raise InputError(
            f"The socket {name} that was handed over takes no connections; "
            "a socket unit needs ListenStream= and Accept=no."
        )
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock


def open_all(settings: Settings, from_systemd: Inherited, from_before: Inherited) -> list[Listener]:
    """Open every listener, or take what was handed over for it. Raises InputError, with nothing left open."""
    listeners: list[Listener] = []
    try:
        for index, each in enumerate(settings.listeners):
            where = f"listeners[{index}]"
            context = None
            if each.tls:
                context = make_context(each.tls, demand=demands_certificate(each, settings))
            sockets = from_before.pop(_place_in(each), None) or _open(each, where, from_systemd)
            listeners.append(Listener(each, sockets, context))
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    finally:
        for left in (from_systemd, from_before):
            for name in left:
                _log.warning("The socket %s was handed over, and no listener is for it.", name)
            let_go(left)
    return listeners


def _open(settings: ListenerSettings, where: str, from_systemd: Inherited) -> list[socket.socket]:
    if settings.systemd is not None:
        sockets = from_systemd.pop(settings.systemd, None)
        if not sockets:
            raise InputError(
                f"{where}.systemd: systemd handed over no socket of the name {settings.systemd}; "
                f"the socket unit needs FileDescriptorName={settings.systemd}, and has to be started first."
            )
        return sockets
    try:
        if settings.unix is not None:
            return [_open_unix(settings.unix, settings.mode)]
        return [_open_tcp(settings.address or "", settings.port)]
    except OSError as error:
        place = settings.unix or f"{settings.address}, port {settings.port}"
        reason = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE:
            reason = "another program listens there"
        raise InputError(f"{where}: {place} can't be listened at: {reason}.") from error


def _open_tcp(address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if address == "::" else 1)
        sock.setblocking(False)
        sock.bind((address, port))
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _open_unix(path: str, mode: int) -> socket.socket:
    """Make the socket, with its permissions from the first moment."""
    _make_room(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        before = os.umask(0o777 & ~mode)
        try:
            sock.bind(path)
        finally:
            os.umask(before)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock


def _make_room(path: str) -> None:
    """Take away the socket that an earlier process has left, and nothing else."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise FileExistsError(errno.EEXIST, "there is a file that is no socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        if probe.connect_ex(path) == 0:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    os.unlink(path)


def place_of(sock: socket.socket) -> str:
    """Where a socket listens, as people write it."""
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{name if isinstance(name, str) else name.decode('utf-8', 'replace')}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{host}:{name[1]}"


# --- TLS --------------------------------------------------------------------------------------------------------------


class Stamp(NamedTuple):
    """What shows that a file has changed."""

    path: str
    inode: int
    size: int
    modified: int


def stamp_of(settings: TlsSettings | None) -> tuple[Stamp | None, ...]:
    """Return the stamps of the files; None for one that is not there."""
    if settings is None:
        return ()
    return tuple(_stamp(path) for path in settings if path)


def _stamp(path: str) -> Stamp | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return Stamp(path, found.st_ino, found.st_size, found.st_mtime_ns)


def demands_certificate(listener: ListenerSettings, settings: Settings) -> bool:
    """Whether a client has to show a certificate, where it may: always, if nothing else lets anybody in."""
    if listener.tls is None or listener.tls.client_ca is None:
        return False
    return listener.kind == "vnc" or settings.web.users.by == ("certificate",)


def make_context(settings: TlsSettings, *, demand: bool) -> ssl.SSLContext:
    """Read the files. Raises InputError with the file that is wrong."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    # One ticket is enough for noVNC's files to come without a handshake for each; two would be made and sent for each.
    context.num_tickets = 1
    _readable(settings.certificate, "certificate")
    _readable(settings.key, "key")
    try:
        # A key with a passphrase would be asked for on a terminal that nobody looks at.
        context.load_cert_chain(settings.certificate, settings.key, password=lambda: "")
    except (OSError, ValueError) as error:
        raise InputError(
            f"{settings.certificate} and {settings.key} are no certificate with its key in PEM: {_reason(error)}."
        ) from error
    if settings.client_ca is not None:
        _readable(settings.client_ca, "certificates")
        try:
            context.load_verify_locations(settings.client_ca)
        except (OSError, ValueError) as error:
            raise InputError(f"{settings.client_ca} has no certificates in PEM: {_reason(error)}.") from error
        context.verify_mode = ssl.CERT_REQUIRED if demand else ssl.CERT_OPTIONAL
    return context


def _readable(path: str, what: str) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise InputError(f"The TLS {what} {path} can't be read: {error.strerror}.") from error


def _reason(error: Exception) -> str:
    words = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
    return str(words).lower().replace("_", " ")


def name_in(certificate: object) -> str | None:
    """Return whom a client's certificate (SSLSocket.getpeercert) is about: its common name, or an address of his."""
    if not isinstance(certificate, dict):
        return None
    for part in certificate.get("subject", ()):
        for key, value in part:
            if key == "commonName" and value:
                return str(value)
    for _kind, value in certificate.get("subjectAltName", ()):
        if value:
            return str(value)
    return None
