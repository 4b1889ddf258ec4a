# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The service's life: it starts, reloads, hands over to its successor, drains and stops.

Private to this collection.

    SIGTERM, SIGINT   take no more connections, wait limits.drain_seconds for sessions to end, end them, stop;
                      a second one does not wait
    SIGHUP            read the configuration and TLS files again, open the audit log anew
    SIGUSR2           start a new process, which takes the listening sockets over; this one keeps its sessions until
                      they end, or limits.hand_over_seconds have passed
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import signal
import socket
import stat
import subprocess
import sys
from typing import NamedTuple

from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError, InputError

from . import _listeners, _metrics, _notify
from ._asking import Asking
from ._audit import AuditLog
from ._config import ConfigurationInvalid, Settings, load, missing_files
from ._connections import Connections
from ._listeners import Listener
from ._record import verdict_on
from ._seats import END, Heir, Heritage, read_until_end
from ._targets import Directory

PARENT = "KVMOPS_VNC_PROXY_PARENT"
"""Environment variable of a hand-over: the descriptor that leads to the process before this one."""
TLS_SECONDS = 30.0
"""Seconds between looks at the TLS files."""
START_SECONDS = 60.0
"""Seconds that a new process may take until it is ready to take over."""

_GO = b"go\n"

_log = logging.getLogger(__name__)


class _Parent(NamedTuple):
    """The process that hands over to this one."""

    sock: socket.socket

    @classmethod
    def of_environment(cls) -> _Parent | None:
        """Return it, if there is one; the variable is gone afterwards."""
        number = os.environ.pop(PARENT, "")
        return cls(socket.socket(fileno=int(number))) if number.isdecimal() else None

    def wait_for_go(self) -> bytes:
        """Say that we are ready, and wait until the other accepts nothing more; return what it says of its sessions.

        Raises InputError when it has gone.
        """
        self.sock.settimeout(START_SECONDS)
        try:
            self.sock.sendall(f"ready {os.getpid()}\n".encode())
            answer = self.sock.recv(len(_GO))
            said = read_until_end(self.sock) if answer else b""
        except OSError as error:
            self.sock.close()
            raise InputError(f"The process that hands over did not answer: {error}.") from error
        if not answer:
            self.sock.close()
            raise InputError("The process that hands over has gone without doing so.")
        return said


class Service:
    """One process of the proxy. `path` is the configuration's."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._settings = load(path)
        self._connections: Connections | None = None
        self._asking: Asking | None = None
        self._directory: Directory | None = None
        self._audit: AuditLog | None = None
        self._listeners: list[Listener] = []
        self._stop: asyncio.Event
        self._stops = 0
        self._handing_over = False
        self._handed_over = False
        self._heritage: Heritage | None = None
        self._heir: Heir | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    # --- Start --------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until told to stop. Raises ConsoleError when it can't start."""
        parent = _Parent.of_environment()
        self._stop = asyncio.Event()
        try:
            connections = self._start(parent)
            connections.listen(self._listeners)
            self._announce(connections)
            await self._serve(connections)
        finally:
            if parent is not None and self._heritage is None:
                parent.sock.close()
            await self._clean_up()

    def _start(self, parent: _Parent | None) -> Connections:
        settings = self._settings
        mistakes = missing_files(settings)
        if mistakes:
            raise ConfigurationInvalid(mistakes)
        _raise_descriptors(settings)
        if settings.web.metrics_from or settings.web.metrics_from_unix:
            _metrics.require()
        self._listeners = _open_listeners(settings)
        self._audit = _open_audit(settings)
        self._asking = Asking(told=self._told)
        self._directory = self._make_directory(settings)
        said = b""
        if parent is not None:
            said = parent.wait_for_go()
            # What the other process has noted until now, such as tokens that are used up, has to be read once more.
            self._directory.close()
            self._directory = self._make_directory(settings)
        self._connections = Connections(settings, self._directory, self._audit)
        if parent is not None:
            self._heritage = Heritage(parent.sock, self._connections.seats, said)
        return self._connections

    def _make_directory(self, settings: Settings) -> Directory:
        if self._asking is None:
            raise RuntimeError("asking comes first")
        return Directory(settings.targets, self._asking, used_tokens=_used_tokens(settings))

    def _told(self, behaviour: object) -> None:
        if self._connections is not None:
            self._connections.metrics.behaviours[verdict_on(behaviour)] += 1  # type: ignore[arg-type]

    def _announce(self, connections: Connections) -> None:
        loop = asyncio.get_running_loop()
        for number, action in (
            (signal.SIGTERM, self._on_stop),
            (signal.SIGINT, self._on_stop),
            (signal.SIGHUP, self._on_reload),
            (signal.SIGUSR2, self._on_hand_over),
        ):
            loop.add_signal_handler(number, action)
        for listener in self._listeners:
            tls = " with TLS" if listener.context else ""
            for place in listener.places:
                _log.info("Listening at %s%s, for %s.", place, tls, _KINDS[listener.settings.kind])
        del connections
        # What is there now stays: no collection has to look at it again.
        gc.collect()
        gc.freeze()
        _notify.ready("STATUS=Serving consoles.")

    async def _serve(self, connections: Connections) -> None:
        self._spawn(self._watch_tls())
        seconds = _notify.watchdog_seconds()
        if seconds is not None:
            self._spawn(self._feed_watchdog(seconds))
        await self._stop.wait()
        limits = self._settings.limits
        if self._handed_over:
            _log.info("Handed over; %d sessions go on here.", connections.sessions)
            await self._drain(connections, limits.hand_over_seconds)
            _log.info("The last session here has ended.")
            await self._outlive_the_one_before()
            return
        _notify.stopping("Waiting for sessions to end.")
        self._close_listeners(connections)
        _log.info("Stopping; %d sessions are open.", connections.sessions)
        await self._drain(connections, limits.drain_seconds)
        _log.info("Stopped.")

    async def _drain(self, connections: Connections, seconds: float | None) -> None:
        """Drain, but no longer than until the next signal to stop."""
        self._stop.clear()
        draining = asyncio.ensure_future(connections.drain(seconds))
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait((draining, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not draining.done():
            if self._handed_over and self._stops == 1:  # the first SIGTERM after a hand-over: now drain like the other
                await self._drain_again(connections, draining)
                return
            draining.cancel()
            await connections.end()
            return
        await draining

    async def _outlive_the_one_before(self) -> None:
        """What it tells of its sessions, only this process can tell the next one."""
        if self._heritage is None or self._stops:
            return
        over, stop = asyncio.ensure_future(self._heritage.over.wait()), asyncio.ensure_future(self._stop.wait())
        await asyncio.wait((over, stop), return_when=asyncio.FIRST_COMPLETED)
        for each in (over, stop):
            each.cancel()

    async def _drain_again(self, connections: Connections, draining: asyncio.Future[None]) -> None:
        draining.cancel()
        await asyncio.wait((draining,))
        self._handed_over = False
        await self._drain(connections, self._settings.limits.drain_seconds)

    def _close_listeners(self, connections: Connections) -> None:
        connections.stop_listening()
        for listener in self._listeners:
            if listener.settings.unix is not None:
                _unlink(listener)
            listener.close()
        self._listeners = []

    async def _clean_up(self) -> None:
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for listener in self._listeners:
            listener.close()
        for other in (self._heritage, self._heir):
            if other is not None:
                other.close()
        if self._directory is not None:
            self._directory.close()
        if self._asking is not None:
            self._asking.close()
        if self._audit is not None:
            self._audit.close()

    def _spawn(self, work: object) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _feed_watchdog(self, seconds: float) -> None:
        while True:
            _notify.alive()
            await asyncio.sleep(seconds)

    # --- Signals ------------------------------------------------------------------------------------------------------

    def _on_stop(self) -> None:
        self._stops += 1
        self._stop.set()

    def _on_reload(self) -> None:
        if self._stop.is_set() or self._handed_over or self._connections is None:
            return
        _notify.reloading()
        try:
            self._reload(self._connections)
        finally:
            _notify.ready("STATUS=Serving consoles.")

    def _on_hand_over(self) -> None:
        if self._handing_over or self._handed_over or self._stop.is_set() or self._connections is None:
            return
        self._handing_over = True
        self._spawn(self._hand_over(self._connections))

    # --- Reload -------------------------------------------------------------------------------------------------------

    def _reload(self, connections: Connections) -> None:
        """Take over what can change while sessions are open. What is wrong is told, and what was before stays."""
        try:
            settings = load(self._path)
            mistakes = missing_files(settings)
        except ConfigurationInvalid as error:
            mistakes = error.mistakes
        if mistakes:
            for mistake in mistakes:
                _log.error("The configuration was not taken over: %s", mistake)
            return
        fixed = self._settings
        later = [
            name
            for name, before, now in (
                ("listeners", _places(fixed), _places(settings)),
                ("domains", _libvirt(fixed), _libvirt(settings)),
            )
            if before != now
        ]
        if later:
            _log.warning("What has changed in %s counts after a hand-over (SIGUSR2) or a restart.", " and ".join(later))
        try:
            directory = self._renew_directory(settings)
            if self._audit is not None:
                self._audit.reopen(settings.audit_file)
        except ConsoleError as error:
            _log.error("The configuration was not taken over: %s", error)
            return
        except OSError as error:
            _log.error("The audit log %s can't be opened: %s.", settings.audit_file, error.strerror)
            return
        self._directory = directory
        self._settings = settings
        connections.use(settings, directory)
        self._reload_tls()
        _log.info("Reloaded.")

    def _renew_directory(self, settings: Settings) -> Directory:
        if self._directory is None:
            return self._make_directory(settings)
        return self._directory.renewed(settings.targets, used_tokens=_used_tokens(settings))

    def _reload_tls(self, *, only_changed: bool = False) -> None:
        settings = self._settings
        now = {each.name: each for each in settings.listeners}
        for listener in self._listeners:
            each = now.get(listener.settings.name, listener.settings)
            demand = _listeners.demands_certificate(each, settings)
            try:
                if listener.reload_tls(each.tls, demand=demand, only_changed=only_changed) and only_changed:
                    _log.info("The certificate of %s was read again.", listener.settings.name)
            except InputError as error:
                _log.error("The certificate of %s stays as it was: %s", listener.settings.name, error)

    async def _watch_tls(self) -> None:
        while True:
            await asyncio.sleep(TLS_SECONDS)
            self._reload_tls(only_changed=True)

    # --- Hand-over ----------------------------------------------------------------------------------------------------

    async def _hand_over(self, connections: Connections) -> None:
        _notify.reloading()
        try:
            process = await self._start_successor(connections)
        except OSError as error:
            _log.error("No new process could be started, so this one goes on: %s.", error.strerror or error)
            process = None
        finally:
            self._handing_over = False
        if process is None:
            _notify.ready("STATUS=Serving consoles; a hand-over has failed.")
            return
        _log.info("Process %d takes over.", process)
        _notify.ready(f"MAINPID={process}", "STATUS=Serving consoles.")
        self._handed_over = True
        self._stop.set()

    async def _start_successor(self, connections: Connections) -> int | None:
        """Start a new process and give it the sockets; return its number, None when it did not get ready."""
        ours, theirs = socket.socketpair()
        with contextlib.ExitStack() as unless_it_takes_over:
            unless_it_takes_over.callback(ours.close)
            with theirs:
                environment = dict(os.environ)
                environment[_listeners.HAND_OVER], numbers = _listeners.handed_over(self._listeners)
                environment[PARENT] = str(theirs.fileno())
                starter = subprocess.Popen(
                    _own_command(),
                    env=environment,
                    pass_fds=(*numbers, theirs.fileno()),
                    stdin=subprocess.DEVNULL,
                )
            self._spawn(_reap(starter))
            ours.setblocking(False)
            loop = asyncio.get_running_loop()
            try:
                words = (await asyncio.wait_for(loop.sock_recv(ours, 64), START_SECONDS)).split()
            except (asyncio.TimeoutError, OSError):
                words = []
            if len(words) != 2 or words[0] != b"ready":
                _log.error("The new process did not get ready, so this one goes on.")
                return None
            if self._stops:  # Without the go it ends, too
                return None
            for listener in connections.stop_listening():
                listener.close()
            self._listeners = []
            unless_it_takes_over.pop_all()
            self._heir = Heir(ours)
            self._heir.say(_GO)
            connections.seats.tell(self._heir.tell)
            self._heir.say(END)
            return int(words[1])


_KINDS = {"web": "browsers", "vnc": "viewers"}


async def _reap(starter: subprocess.Popen[bytes]) -> None:
    """Wait for the process that started the new one, which ends at once."""
    await asyncio.get_running_loop().run_in_executor(None, starter.wait)


def _own_command() -> list[str]:
    """Return the command that this process was started with."""
    words: list[str] | None = getattr(sys, "orig_argv", None)  # Python 3.10
    if words:
        return [sys.executable, *words[1:]]
    return [sys.executable, "-m", str(__package__), *sys.argv[1:]]


def step_aside() -> None:
    """In a hand-over: go on in a child, and end the process that was started.

    So the service manager is our parent, not the process that is about to end, and hears of our own end. To be called
    before anything else is there that a fork would break.
    """
    if PARENT not in os.environ:
        return
    if os.fork():
        os._exit(0)
    if "WATCHDOG_PID" in os.environ:
        os.environ["WATCHDOG_PID"] = str(os.getpid())


def _open_listeners(settings: Settings) -> list[Listener]:
    from_systemd = _listeners.inherited_from_systemd()
    try:
        from_before = _listeners.inherited_from_before()
    except BaseException:
        _listeners.let_go(from_systemd)
        raise
    return _listeners.open_all(settings, from_systemd, from_before)


def _open_audit(settings: Settings) -> AuditLog:
    try:
        return AuditLog(settings.audit_file)
    except OSError as error:
        raise InputError(f"audit.file: {settings.audit_file} can't be opened: {error.strerror}.") from error


def _used_tokens(settings: Settings) -> str | None:
    """Return the file that keeps tokens used up: in the directory that systemd gives a service for such things."""
    jwt = settings.targets.tokens.jwt
    if jwt is None or not jwt.single_use:
        return None
    folder = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    if not folder:
        _log.warning(
            "tokens.jwt.single_use: used tokens are forgotten at a restart, since there is no STATE_DIRECTORY."
        )
        return None
    return os.path.join(folder, "used-tokens")


def _places(settings: Settings) -> list[tuple[object, ...]]:
    """What of the listeners is fixed as long as their sockets are open."""
    return [(*each._replace(tls=None), each.tls is None) for each in settings.listeners]


def _libvirt(settings: Settings) -> tuple[object, ...] | None:
    domains = settings.targets.domains
    return (domains.uri, domains.connections, domains.timeout_seconds) if domains else None


def _unlink(listener: Listener) -> None:
    """Take our unix socket away, unless another process has put its own there."""
    path = listener.settings.unix or ""
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.unlink(path)


def _raise_descriptors(settings: Settings) -> None:
    """Take as many descriptors as the system gives: a session has two."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    wanted = 2 * settings.limits.sessions + settings.limits.requests + 64
    if hard != resource.RLIM_INFINITY and hard < wanted:
        _log.warning(
            "limits.sessions: %d sessions need %d open files, and the system gives %d (LimitNOFILE=).",
            settings.limits.sessions,
            wanted,
            hard,
        )
