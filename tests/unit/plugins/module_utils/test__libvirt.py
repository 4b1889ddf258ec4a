# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The edge to libvirt, on libvirt's own test driver."""

from __future__ import annotations

import errno
import importlib.util
import os
import socket
import sys
import threading
import typing as t
from pathlib import Path
from types import SimpleNamespace

import pytest

libvirt = pytest.importorskip("libvirt", reason="needs libvirt's Python bindings, which only the system's Python has")

from ansible_collections.kvmops.console.plugins.module_utils import _libvirt
from ansible_collections.kvmops.console.plugins.module_utils._errors import AccessDenied, LibvirtFailure, TookTooLong
from ansible_collections.kvmops.console.plugins.module_utils._libvirt import (
    Connection,
    DefinitionWatch,
    Listed,
    connect,
    connect_to_read,
    define,
    graphics_socket,
    inactive_xml,
    live_xml,
    runs_here,
    saved_states,
    translated,
)
from ansible_collections.kvmops.console.tests.unit.plugins.module_utils.testdriver import (
    PASSWORD,
    URI,
    Host,
    domain,
    uuid,
    vnc,
)


@pytest.fixture
def host() -> t.Iterator[Host]:
    made = Host()
    yield made
    made.close()


@pytest.fixture
def connection(host: Host) -> t.Iterator[Connection]:
    with connect(URI) as opened:
        yield opened


def listed(connection: Connection, name: str) -> Listed:
    return next(one for one in connection.domains() if one.name == name)


# translated, connect, connect_to_read


def test_an_error_says_what_was_being_done(host: Host) -> None:
    with pytest.raises(LibvirtFailure) as caught, translated("Looking for web-9"):
        host.connection.lookupByName("web-9")
    assert str(caught.value) == "Looking for web-9 failed: Domain not found"


def test_an_error_is_said_without_secrets(host: Host) -> None:
    with pytest.raises(LibvirtFailure) as caught, translated("Looking", lambda text: text.replace("Domain", "****")):
        host.connection.lookupByName("web-9")
    assert str(caught.value) == "Looking failed: **** not found"


class Refusal(libvirt.libvirtError):  # type: ignore[misc,name-defined,unused-ignore]
    """An error of libvirt's, as its own functions raise it."""

    def __init__(self, code: int, message: str, number: int = 0) -> None:
        super().__init__(message)
        self.err = (code, 0, message, 0, None, None, None, number, 0)


@pytest.mark.parametrize(
    ("refusal", "sentence"),
    [
        pytest.param(
            Refusal(libvirt.VIR_ERR_ACCESS_DENIED, "access denied: 'QEMU' denied access"),
            "Reading failed: libvirt's access control denies it to the user U; it takes domain.read (a rule in"
            " /etc/polkit-1/rules.d gives it: see docs/least-privilege.md).",
            id="permission",
        ),
        pytest.param(
            Refusal(libvirt.VIR_ERR_AUTH_UNAVAILABLE, "authentication unavailable: no polkit agent available"),
            "Reading failed: polkit does not let the user U connect; it takes org.libvirt.unix.manage (a rule in"
            " /etc/polkit-1/rules.d gives it: see docs/least-privilege.md; libvirt says: authentication unavailable:"
            " no polkit agent available).",
            id="polkit",
        ),
        pytest.param(
            Refusal(libvirt.VIR_ERR_OPERATION_DENIED, "operation forbidden: read only access prevents it"),
            "Reading failed: a read-only connection does not allow it (operation forbidden: read only access prevents"
            " it).",
            id="read_only",
        ),
        pytest.param(
            Refusal(libvirt.VIR_ERR_SYSTEM_ERROR, "Failed to connect socket: Permission denied", errno.EACCES),
            "Reading failed: the user U may not open libvirt's socket: run the task with become, or see"
            " docs/least-privilege.md (Failed to connect socket: Permission denied).",
            id="socket",
        ),
    ],
)
def test_a_right_that_is_lacking_is_named(refusal: Refusal, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pwd.getpwuid", lambda number: SimpleNamespace(pw_name="U"))
    with pytest.raises(AccessDenied) as caught, translated("Reading", needs="domain.read"):
        raise refusal
    assert str(caught.value) == sentence


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(number: int) -> t.NoReturn:
        raise KeyError(number)

    monkeypatch.setattr("pwd.getpwuid", unknown)
    refusal = Refusal(libvirt.VIR_ERR_ACCESS_DENIED, "access denied")
    assert f"denies it to the user {os.geteuid()}; it takes more permissions" in str(_libvirt.denied(refusal))


def test_a_socket_that_is_not_there_is_no_lack_of_rights() -> None:
    refusal = Refusal(libvirt.VIR_ERR_SYSTEM_ERROR, "Failed to connect socket: No such file", errno.ENOENT)
    assert _libvirt.denied(refusal) is None


def test_other_errors_pass() -> None:
    with pytest.raises(KeyError), translated("Looking"):
        raise KeyError


def test_connect_closes_what_it_opened(host: Host) -> None:
    with connect(URI) as opened:
        assert (opened.uri, opened.read_only, opened.is_alive) == (URI, False, True)
        assert opened.handle.numOfDefinedDomains() == 0
    with pytest.raises(libvirt.libvirtError):
        opened.handle.numOfDefinedDomains()
    assert opened.is_alive is False


def test_connect_closes_after_an_error(host: Host) -> None:
    with pytest.raises(KeyError), connect(URI) as opened:
        raise KeyError
    assert opened.is_alive is False


def test_no_connection_is_one_sentence(tmp_path: Path) -> None:
    uri = f"test://{tmp_path}/missing.xml"
    with pytest.raises(LibvirtFailure, match=f"^Connecting to libvirt at {uri} failed: .*missing.xml"), connect(uri):
        pass


def test_reading_takes_the_fullest_connection(host: Host) -> None:
    with connect_to_read(URI) as opened:
        assert opened.read_only is False
        assert opened.is_alive
    assert opened.is_alive is False


def test_reading_is_content_with_a_read_only_connection(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libvirt, "open", refuse)
    with connect_to_read(URI) as opened:
        assert opened.read_only is True
        assert opened.handle.isAlive()
    assert opened.is_alive is False


def refuse(*_arguments: t.Any) -> t.NoReturn:
    raise libvirt.libvirtError("authentication failed")


def test_reading_says_why_it_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(libvirt, "open", refuse)
    monkeypatch.setattr(libvirt, "openReadOnly", refuse)
    with pytest.raises(LibvirtFailure, match=f"^Connecting to libvirt at {URI} failed: auth"), connect_to_read(URI):
        pass


# Connection


@pytest.mark.parametrize(
    ("uri", "local", "driver"),
    [
        ("qemu:///system", True, "qemu"),
        ("qemu+unix:///session", True, "qemu"),
        ("qemu+ssh://root@host/system", False, "qemu"),
        ("qemu+tls://[::1]/system", False, "qemu"),
        ("test:///default", True, "test"),
    ],
)
def test_what_a_uri_tells(uri: str, local: bool, driver: str) -> None:
    connection = Connection(None, uri, False)
    assert (connection.is_local, connection.driver) == (local, driver)


@pytest.mark.parametrize(
    ("uri", "here"),
    [
        ("test:///default", True),
        ("test:///srv/node.xml", True),
        ("qemu:///embed?root=/srv/one", True),
        ("qemu:///system", False),
        ("qemu:///session", False),
        ("test+unix:///default", False),
        ("qemu+ssh://embed/system", False),
    ],
)
def test_drivers_that_each_process_has_of_its_own(uri: str, here: bool) -> None:
    assert runs_here(uri) is here


class Odd:
    """A handle that says things libvirt's test driver does not."""

    def __init__(self, version: int = 0) -> None:
        self._version = version

    def getLibVersion(self) -> int:
        return self._version

    def isAlive(self) -> int:
        raise libvirt.libvirtError("client socket is closed")

    def getHostname(self) -> str:
        raise libvirt.libvirtError("client socket is closed")


@pytest.mark.parametrize(
    ("number", "spoken"), [(9000000, "9.0.0"), (12005001, "12.5.1"), (7001010, "7.1.10"), (10010000, "10.10.0")]
)
def test_library_version(number: int, spoken: str) -> None:
    assert Connection(Odd(number), URI, False).library_version() == spoken


def test_hostname(connection: Connection) -> None:
    assert connection.hostname() == connection.handle.getHostname()
    with pytest.raises(LibvirtFailure, match=f"^Asking libvirt at {URI} for the host's name failed: client socket"):
        Connection(Odd(), URI, False).hostname()


def test_a_broken_connection_is_not_alive(connection: Connection) -> None:
    assert connection.is_alive is True
    assert Connection(Odd(), URI, False).is_alive is False


# Connection.domains


def test_no_domains(connection: Connection) -> None:
    assert connection.domains() == []


def test_domains_are_sorted_and_described(host: Host, connection: Connection) -> None:
    host.define(domain("b", number=1))
    host.define(domain("a b'\"é😀", number=2)).create()
    paused = host.define(domain("C", number=3))
    paused.create()
    paused.suspend()
    paused.setAutostart(1)
    host.connection.createXML(domain("..", number=4), 0)
    saved = host.define(domain("saved", number=5))
    saved.create()
    saved.managedSave()
    host.define(domain("snapped", number=6)).snapshotCreateXML("<domainsnapshot><name>s</name></domainsnapshot>", 0)
    checked = host.define(domain("checked", DISK, number=7))
    checked.create()
    checked.checkpointCreateXML("<domaincheckpoint><name>c</name></domaincheckpoint>", 0)
    flags = ("persistent", "autostart", "managed_save", "snapshots", "checkpoints", "active")
    assert [
        (one.name, one.uuid, one.state, {flag for flag in flags if getattr(one, flag)}) for one in connection.domains()
    ] == [
        ("..", uuid(4), "running", {"active"}),
        ("C", uuid(3), "paused", {"persistent", "autostart", "active"}),
        ("a b'\"é😀", uuid(2), "running", {"persistent", "active"}),
        ("b", uuid(1), "shutoff", {"persistent"}),
        ("checked", uuid(7), "running", {"persistent", "checkpoints", "active"}),
        ("saved", uuid(5), "shutoff", {"persistent", "managed_save"}),
        ("snapped", uuid(6), "shutoff", {"persistent", "snapshots"}),
    ]


DISK = "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/d'/><target dev='vda'/></disk>"


def test_domains_are_reached_over_another_connection(host: Host, connection: Connection) -> None:
    """By one call for all of them."""
    for number, name in enumerate("ab", start=1):
        host.define(domain(name, number=number))
    with connect(URI) as first:
        one, other = (each._replace(handle=None) for each in first.domains())
    reached = connection.reach(one)
    assert reached == one._replace(handle=reached.handle)
    assert reached.handle.name() == "a"
    assert reached.handle.connect() is connection.handle
    host.connection.lookupByName("b").undefine()
    assert connection.reach(other).handle.UUIDString() == other.uuid, "it was listed with the first"


def test_a_domain_that_is_gone_is_out_of_reach(host: Host, connection: Connection) -> None:
    host.define(domain("a"))
    one = listed(connection, "a")
    host.connection.lookupByName("a").undefine()
    with pytest.raises(LibvirtFailure, match=r"^a is gone: it ended or was undefined meanwhile\.$"):
        connection.reach(one)


class Filtering:
    """A connection's handle whose filtered listings fail with `code`."""

    def __init__(self, handle: t.Any, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self._handle = handle
        monkeypatch.setattr(libvirt.libvirtError, "get_error_code", lambda error: code)

    def listAllDomains(self, flags: int = 0) -> list[t.Any]:
        if flags:
            raise libvirt.libvirtError("unsupported flags")
        return list(self._handle.listAllDomains(flags))


@pytest.mark.parametrize("name", ["VIR_ERR_INVALID_ARG", "VIR_ERR_NO_SUPPORT"])
def test_a_filter_that_a_driver_does_not_know_finds_nothing(
    host: Host, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    host.define(domain("off", number=1))
    host.define(domain("on", number=2)).create()
    handle = Filtering(host.connection, getattr(libvirt, name), monkeypatch)
    assert [(one.name, one.state, one.persistent) for one in Connection(handle, URI, False).domains()] == [
        ("off", "shutoff", False),
        ("on", "running", False),
    ]


def test_any_other_error_of_a_filter_is_one(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.define(domain("off"))
    handle = Filtering(host.connection, libvirt.VIR_ERR_INTERNAL_ERROR, monkeypatch)
    with pytest.raises(LibvirtFailure, match=f"^Listing the domains of {URI} failed: unsupported flags$"):
        Connection(handle, URI, False).domains()


def test_a_filter_that_the_bindings_do_not_know_finds_nothing(
    host: Host, connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.define(domain("a"))
    monkeypatch.delattr(libvirt, "VIR_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT")
    assert [one.checkpoints for one in connection.domains()] == [False]


class Vanishing:
    """A domain that is gone, or in a state with a number from the future, when its state is asked for."""

    def __init__(self, state: int | None) -> None:
        self._state = state

    def name(self) -> str:
        return "gone"

    def UUIDString(self) -> str:
        return uuid(9)

    def state(self) -> list[int]:
        if self._state is None:
            raise libvirt.libvirtError("Domain not found")
        return [self._state, 0]


class Listing:
    def __init__(self, only: Vanishing) -> None:
        self._only = only

    def listAllDomains(self, flags: int = 0) -> list[Vanishing]:
        return [] if flags else [self._only]


@pytest.mark.parametrize(("state", "spoken"), [(None, "nostate"), (99, "nostate"), (7, "pmsuspended"), (3, "paused")])
def test_states_by_their_number(state: int | None, spoken: str) -> None:
    (only,) = Connection(Listing(Vanishing(state)), URI, False).domains()
    assert only.state == spoken
    assert only.active is (spoken != "nostate")


# Definitions


def test_definitions_are_read_with_secrets(host: Host, connection: Connection) -> None:
    host.define(domain("a", vnc("yes", passwd=PASSWORD))).create()
    host.define(domain("a", vnc("no", passwd=PASSWORD)))
    one = listed(connection, "a")
    assert "powerControl='yes'" in live_xml(one, connection)
    assert "powerControl='no'" in inactive_xml(one, connection)
    for xml in (live_xml(one, connection), inactive_xml(one, connection)):
        assert "passwd='s3cret&amp;&quot;&apos;&lt;&gt;'" in xml


def test_a_read_only_connection_sees_no_secrets(host: Host, connection: Connection) -> None:
    host.define(domain("a", vnc("yes", passwd=PASSWORD))).create()
    host.define(domain("a", vnc("no", passwd=PASSWORD)))
    with connect(URI, read_only=True) as reading:
        one = listed(reading, "a")
        assert "powerControl='yes'" in live_xml(one, reading)
        assert "powerControl='no'" in inactive_xml(one, reading)
        assert "passwd" not in live_xml(one, reading) + inactive_xml(one, reading)


def test_reading_what_is_gone_is_one_sentence(host: Host, connection: Connection) -> None:
    handle = host.define(domain("a"))
    one = listed(connection, "a")
    handle.undefine()
    with pytest.raises(LibvirtFailure, match=r"^Reading the definition of a failed: Domain not found"):
        inactive_xml(one, connection)
    with pytest.raises(LibvirtFailure, match=r"^Reading the live definition of a failed: Domain not found"):
        live_xml(one, connection)


def test_define(host: Host, connection: Connection) -> None:
    define(connection, "a", domain("a", vnc("no")), str)
    assert "powerControl='no'" in host.xml("a")


def test_a_definition_that_is_refused_leaves_the_old_one(host: Host, connection: Connection) -> None:
    host.define(domain("a", vnc("yes")))
    before = host.xml("a")
    wrong = domain("a", vnc("s3cret"))
    with pytest.raises(LibvirtFailure) as caught:
        define(connection, "a", wrong, lambda text: text.replace("s3cret", "****"))
    assert str(caught.value).startswith("Defining a failed: ")
    assert "****" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert host.xml("a") == before


# graphics_socket


class Console:
    """A domain's handle that hands out a socket, as the QEMU driver does."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.asked: list[tuple[int, int]] = []

    def openGraphicsFD(self, index: int, flags: int) -> int:
        self.asked.append((index, flags))
        return self._descriptor


def test_graphics_socket(host: Host, connection: Connection) -> None:
    host.define(domain("a"))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        console = Console(ours.fileno())
        one = listed(connection, "a")._replace(handle=console)
        assert graphics_socket(one, 2) == ours.fileno()
        assert console.asked == [(2, libvirt.VIR_DOMAIN_OPEN_GRAPHICS_SKIPAUTH)]
        os.write(graphics_socket(one, 0), b"x")
        assert theirs.recv(1) == b"x"


def test_graphics_that_cannot_be_opened_are_one_sentence(host: Host, connection: Connection) -> None:
    host.define(domain("a", vnc())).create()
    with pytest.raises(LibvirtFailure, match=r"^Opening the graphics of a failed: this function is not supported"):
        graphics_socket(listed(connection, "a"), 0)


class Silent:
    """A domain's handle whose QEMU never answers."""

    def __init__(self) -> None:
        self.end = threading.Event()

    def openGraphicsFD(self, index: int, flags: int) -> int:
        self.end.wait()
        raise libvirt.libvirtError("the test is over")


def test_a_qemu_that_never_answers_is_left_behind(host: Host, connection: Connection) -> None:
    host.define(domain("a"))
    silent = Silent()
    try:
        with pytest.raises(TookTooLong, match=r"^Opening the graphics of a took longer than 0\.01 s\.$"):
            graphics_socket(listed(connection, "a")._replace(handle=silent), 0, timeout=0.01)
    finally:
        silent.end.set()


# saved_states


def test_a_domain_without_saved_states(host: Host, connection: Connection) -> None:
    host.define(domain("a"))
    assert saved_states(listed(connection, "a")) == []


@pytest.mark.parametrize("current", ["one", "two"])
def test_snapshots_are_read_and_written(host: Host, connection: Connection, current: str) -> None:
    handle = host.define(domain("a", vnc("yes", passwd=PASSWORD)))
    for name in ("one", "two") if current == "two" else ("two", "one"):
        handle.snapshotCreateXML(f"<domainsnapshot><name>{name}</name></domainsnapshot>", 0)
    states = {state.name: state for state in saved_states(listed(connection, "a"))}
    assert set(states) == {"one", "two"}
    before = states["one"].read()
    assert states["one"].kind == "snapshot"
    assert "passwd='s3cret" in before
    after = before.replace("powerControl='yes'", "powerControl='no'")
    states["one"].write(after)
    assert (states["one"].read(), states["two"].read().count("powerControl='yes'")) == (after, 1)
    assert handle.snapshotCurrent(0).getName() == current


class Recording:
    """A domain's handle that notes with which flags a snapshot is defined again."""

    def __init__(self, handle: t.Any) -> None:
        self._handle = handle
        self.flags: list[int] = []

    def listAllSnapshots(self, flags: int) -> list[t.Any]:
        return list(self._handle.listAllSnapshots(flags))

    def snapshotCreateXML(self, xml: str, flags: int) -> None:
        self.flags.append(flags)


def test_the_current_snapshot_is_defined_as_the_current_one(host: Host, connection: Connection) -> None:
    handle = host.define(domain("a"))
    for name in ("old", "current"):
        handle.snapshotCreateXML(f"<domainsnapshot><name>{name}</name></domainsnapshot>", 0)
    recording = Recording(handle)
    states = {state.name: state for state in saved_states(listed(connection, "a")._replace(handle=recording))}
    for name in ("old", "current"):
        states[name].write(states[name].read())
    redefine, current = libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE, libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_CURRENT
    assert recording.flags == [redefine, redefine | current]


def test_checkpoints_are_read_and_written(host: Host, connection: Connection) -> None:
    handle = host.define(domain("a", DISK, vnc("yes", passwd=PASSWORD)))
    handle.create()
    handle.checkpointCreateXML("<domaincheckpoint><name>one</name></domaincheckpoint>", 0)
    (state,) = saved_states(listed(connection, "a"))
    before = state.read()
    assert (state.kind, state.name) == ("checkpoint", "one")
    assert "passwd='s3cret" in before
    after = before.replace("powerControl='yes'", "powerControl='no'")
    state.write(after)
    assert state.read() == after


class Saved:
    """A handle with a managed save; the test driver cannot show one's XML."""

    def __init__(self) -> None:
        self.xml = "<domain/>"

    def managedSaveGetXMLDesc(self, flags: int) -> str:
        assert flags == libvirt.VIR_DOMAIN_SAVE_IMAGE_XML_SECURE
        return self.xml

    def managedSaveDefineXML(self, xml: str, flags: int) -> None:
        assert flags == 0
        self.xml = xml


def test_a_managed_save_is_read_and_written(host: Host, connection: Connection) -> None:
    host.define(domain("a"))
    handle = Saved()
    (state,) = saved_states(listed(connection, "a")._replace(handle=handle, managed_save=True))
    assert (state.kind, state.name, state.read()) == ("managed_save", None, "<domain/>")
    state.write("<domain type='test'/>")
    assert handle.xml == "<domain type='test'/>"


def test_saved_states_that_cannot_be_listed_are_one_sentence(host: Host, connection: Connection) -> None:
    handle = host.define(domain("a"))
    one = listed(connection, "a")._replace(snapshots=True)
    handle.undefine()
    with pytest.raises(LibvirtFailure, match=r"^Listing the saved states of a failed: Domain not found"):
        saved_states(one)


# DefinitionWatch


@pytest.mark.parametrize(
    ("ours", "all_of_them", "expected"), [(0, 0, False), (1, 1, False), (1, 2, True), (0, 1, True)]
)
def test_the_watch_tells_whose_definitions_came(
    host: Host, connection: Connection, ours: int, all_of_them: int, expected: bool
) -> None:
    host.define(domain("a", number=1))
    watch = DefinitionWatch(connection)
    for _time in range(ours):
        watch.ours(uuid(1))
    for _time in range(all_of_them):
        host.define(domain("a", number=1))
    host.define(domain("another", number=2))
    assert watch.somebody_else(uuid(1)) is expected
    assert watch.somebody_else(uuid(1)) is False


def test_the_watch_sees_definitions_only(host: Host, connection: Connection) -> None:
    handle = host.define(domain("a", number=1))
    watch = DefinitionWatch(connection)
    handle.create()
    handle.destroy()
    handle.undefine()
    assert watch.somebody_else(uuid(1)) is False


def test_the_watch_is_prepared_once(monkeypatch: pytest.MonkeyPatch) -> None:
    registered = []
    monkeypatch.setattr(libvirt, "virEventRegisterDefaultImpl", lambda: registered.append(1))
    monkeypatch.setattr(DefinitionWatch, "_prepared", False)
    DefinitionWatch.prepare()
    DefinitionWatch.prepare()
    assert registered == [1]


def test_a_watch_that_cannot_be_kept_is_one_sentence(host: Host) -> None:
    with connect(URI) as closed:
        pass
    with pytest.raises(LibvirtFailure, match=f"^Listening to the events of {URI} failed: "):
        DefinitionWatch(closed)


# Another host, from a file


def test_a_host_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "node.xml"
    path.write_text(f"<node>{domain('filed', vnc('yes'))}</node>", encoding="utf-8")
    with connect(f"test://{path}") as opened:
        (only,) = opened.domains()
        assert (only.name, only.state, only.persistent, opened.driver) == ("filed", "running", True, "test")
        assert "powerControl='yes'" in inactive_xml(only, opened)


def test_without_the_bindings_the_traceback_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "libvirt", None)
    spec = importlib.util.spec_from_file_location("without_libvirt", _libvirt.__file__)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert "ModuleNotFoundError" in module.LIBVIRT_TRACEBACK
    assert _libvirt.LIBVIRT_TRACEBACK is None
