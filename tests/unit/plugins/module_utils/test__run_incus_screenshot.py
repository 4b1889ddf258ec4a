# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The run of incus_screenshot: which instances it means, what it tells of each, and how often it asks."""

from __future__ import annotations

import contextlib
import http.server
import json
import os
import socketserver
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible.module_utils.basic import AnsibleModule

from ansible_collections.kvmops.console.plugins.module_utils import _image, _incus
from ansible_collections.kvmops.console.plugins.module_utils._errors import IncusError, IncusRefused, InputError
from ansible_collections.kvmops.console.plugins.module_utils._incus import Instance
from ansible_collections.kvmops.console.plugins.module_utils._incus_names import file_name
from ansible_collections.kvmops.console.plugins.module_utils._run import _incus_options, incus_screenshot
from ansible_collections.kvmops.console.plugins.module_utils._run._screen_options import screen_spec

UUIDS = {name: f"d65ab792-3a02-4077-a202-9c7edf3bcf{number:02x}" for number, name in enumerate("abcdefgh")}

COMMENT = b"tEXtSoftware\0an Incus"
OURS = _image.encode_png(_image.Picture(8, 4, bytes(range(96))))
PNG = OURS[:-12] + struct.pack(">I", len(COMMENT) - 4) + COMMENT + struct.pack(">I", zlib.crc32(COMMENT)) + OURS[-12:]
"""As the server gives it: not what we would make of the same pixels."""

STATES = {"a": "Running", "b": "Stopped", "c": "Error", "d": "Running", "e": "Frozen"}


class FakeIncus(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """An Incus with machines a to e (d is a container) in `default`, and another a in `blog`.

    As 7.0.2 does, it gives an empty picture to two who ask for one machine at the same time.
    """

    daemon_threads = True
    block_on_close = False
    # A unix socket turns away who does not fit in its queue.
    request_queue_size = 128

    def __init__(self, path: str) -> None:
        super().__init__(path, Handler)
        self.extensions = [_incus.SCREENSHOT]
        self.states = dict(STATES)
        self.config: dict[str, dict[str, str]] = {}
        self.pictures: dict[str, Optional[bytes]] = {}
        self.asked: list[str] = []
        self.at_once: dict[str, int] = {}
        self.collisions = 0
        self.linger = threading.Event()
        self.lock = threading.Lock()

    def instance(self, name: str, project: str) -> dict[str, Any]:
        uid = UUIDS[name] if project == "default" else UUIDS["h"]
        return {
            "name": name,
            "project": project,
            "type": "container" if name == "d" else "virtual-machine",
            "status": self.states[name],
            "expanded_config": {"volatile.uuid": uid, **self.config.get(name, {})},
        }

    def metadata(self, path: str, project: str) -> Any:
        if path == "/1.0":
            environment = {"server_version": "7.0.2", "certificate_fingerprint": "ab" * 32}
            return {"auth": "trusted", "api_extensions": self.extensions, "environment": environment}
        if path == "/1.0/projects":
            return [{"name": "default"}, {"name": "blog"}]
        if path == "/1.0/instances":
            return [self.instance(name, project) for name in (sorted(STATES) if project == "default" else "a")]
        return {"status": self.states[path.split("/")[3]]}

    def picture(self, name: str) -> bytes:
        with self.lock:
            self.asked.append(name)
            self.at_once[name] = self.at_once.get(name, 0) + 1
            alone = self.at_once[name] == 1
            self.collisions += not alone
        self.linger.wait(0.05)
        with self.lock:
            self.at_once[name] -= 1
        given = self.pictures.get(name, PNG)
        return given if alone and given is not None else b""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Any

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        project = parse_qs(parts.query).get("project", ["default"])[0]
        if parts.path.endswith("/console"):
            name = parts.path.split("/")[3]
            if self.server.pictures.get(name, PNG) is None:
                return self.answer(b"", "application/json")
            return self.answer(self.server.picture(name), "image/png")
        told = {"type": "sync", "metadata": self.server.metadata(parts.path, project)}
        return self.answer(json.dumps(told).encode(), "application/json")

    def answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def incus(tmp_path: Path) -> Iterator[FakeIncus]:
    with FakeIncus(str(tmp_path / "s")) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server
        server.linger.set()
        server.shutdown()
        thread.join()


class Ended(Exception):
    """What the module would have ended with."""


class FakeModule:
    """What a run needs of AnsibleModule."""

    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def fail_json(self, **result: Any) -> None:
        raise Ended(result)


def with_defaults(spec: dict[str, Any], given: dict[str, Any]) -> dict[str, Any]:
    values = {name: option.get("default") for name, option in spec.items()}
    for name, value in given.items():
        options = spec[name].get("options")
        values[name] = with_defaults(options, value) if options and value is not None else value
    return values


def module_for(incus: FakeIncus, tmp_path: Path, **given: Any) -> FakeModule:
    spec = _incus_options.incus_arguments(**screen_spec())["argument_spec"]
    common = {"socket_path": str(incus.server_address), "store": str(tmp_path / "store")}
    return FakeModule(with_defaults(spec, {**common, **given}))


def shoot(incus: FakeIncus, tmp_path: Path, **given: Any) -> dict[str, Any]:
    module: Any = module_for(incus, tmp_path, **given)
    return incus_screenshot.run(module)


def only(result: dict[str, Any]) -> dict[str, Any]:
    (record,) = result["instances"]
    return dict(record)


@pytest.fixture(autouse=True)
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incus_screenshot, "host_allows", lambda: True)


# --- What is told -----------------------------------------------------------------------------------------------------


def test_result(incus: FakeIncus, tmp_path: Path) -> None:
    result = shoot(incus, tmp_path)
    told = {
        record["name"]: (record["state"], record.get("skipped"), record.get("error"), len(record["screens"]))
        for record in result["instances"]
    }
    assert told == {
        "a": ("Running", None, None, 1),
        "b": ("Stopped", "it is off", None, 0),
        "c": ("Error", None, "c is in the state Error: Incus has lost hold of its QEMU; see `incus info`.", 0),
        "d": ("Running", "it is a container, and has no screen", None, 0),
        "e": ("Frozen", None, None, 1),
    }
    assert result["summary"] == {"instances": 5, "screens": 2, "skipped": 2, "errors": 1}
    assert result["server"] == {"name": str(tmp_path / "s"), "version": "7.0.2", "fingerprint": "ab" * 32}
    assert not result["changed"]
    assert sorted(incus.asked) == ["a", "e"]


def test_record(incus: FakeIncus, tmp_path: Path) -> None:
    record = only(shoot(incus, tmp_path, instances=["a"]))
    (screen,) = record.pop("screens")
    assert record == {
        "name": "a",
        "project": "default",
        "uuid": UUIDS["a"],
        "type": "virtual-machine",
        "state": "Running",
        "changed": False,
    }
    assert (screen["head"], screen["capture"], screen["blocked_ms"]) == (0, "incus", None)
    # The server's own file, not one encoded again.
    path = tmp_path / "store" / f"incus-{UUIDS['a']}" / "latest.png"
    assert (screen["path"], path.read_bytes()) == (str(path), PNG)


def test_a_server_without_screenshots_is_asked_for_none(incus: FakeIncus, tmp_path: Path) -> None:
    incus.extensions = ["something"]
    with pytest.raises(IncusError, match=r"Incus 7\.0\.2 at .* takes no screenshots: upgrade it to 6\.0\.3, 6\.8"):
        shoot(incus, tmp_path)
    assert incus.asked == []


def test_a_failure_stays_with_its_machine(incus: FakeIncus, tmp_path: Path) -> None:
    incus.pictures["a"] = PNG[:-3]
    result = shoot(incus, tmp_path, instances=["a", "e"])
    first, second = result["instances"]
    assert "no whole screenshot of a twice in a row" in first["error"]
    assert len(second["screens"]) == 1
    # No half picture, under whatever name.
    assert [path.parent.name for path in (tmp_path / "store").rglob("*.png")] == [f"incus-{UUIDS['e']}"]


@pytest.mark.parametrize(
    ("state", "told"),
    [
        ("Stopped", {"skipped": "it is off"}),
        ("Starting", {"skipped": "its state is Starting"}),
        ("Running", {"error": "Incus has no picture of a: it is off, or only just starting."}),
    ],
)
def test_a_machine_that_ends_meanwhile(
    incus: FakeIncus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, told: dict[str, str]
) -> None:
    incus.pictures["a"] = None
    real = _incus.Client.screenshot

    def late(client: _incus.Client, instance: Instance) -> bytes:
        incus.states["a"] = state
        return real(client, instance)

    monkeypatch.setattr(_incus.Client, "screenshot", late)
    record = only(shoot(incus, tmp_path, instances=["a"]))
    assert record["state"] == state
    assert {key: record[key] for key in ("skipped", "error") if key in record} == told


def test_privacy_of_a_machine(incus: FakeIncus, tmp_path: Path) -> None:
    incus.config["a"] = {_incus.CAPTURE_KEY: "false"}
    incus.config["e"] = {_incus.MASK_KEY: "0,0,8,4"}
    hidden, masked = shoot(incus, tmp_path, instances=["a", "e"])["instances"]
    assert (hidden["skipped"], hidden["screens"]) == ("its owner lets nobody see its screen", [])
    assert incus.asked == ["e"]
    picture = _image.decode(Path(masked["screens"][0]["path"]).read_bytes())
    assert len(set(picture.rgb)) == 1


def test_privacy_of_the_host(incus: FakeIncus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(incus_screenshot, "host_allows", lambda: False)
    assert shoot(incus, tmp_path)["summary"] == {"instances": 5, "screens": 0, "skipped": 5, "errors": 0}
    assert incus.asked == []


def test_what_is_waited_for_and_does_not_come(incus: FakeIncus, tmp_path: Path) -> None:
    wait = {"text": "login:", "timeout": 0.01}
    record = only(shoot(incus, tmp_path, instances=["a"], wait_for=wait))
    assert "did not show a text that matches 'login:'" in record["error"]
    assert len(record["screens"]) == 1


# --- Which are meant --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "names", "unmatched"),
    [
        ({"instances": ["[ab]"], "exclude": ["b"]}, ["default/a"], []),
        ({"instances": ["a", "x*"], "projects": ["*"]}, ["blog/a", "default/a"], ["x*"]),
        ({"instances": ["a"], "projects": ["blog", "no*"]}, ["blog/a"], ["no*"]),
        ({"instances": ["a"], "projects": ["blog", "b*", "blog"]}, ["blog/a"], []),
        ({"instances": [UUIDS["h"]], "projects": ["*"]}, ["blog/a"], []),
        ({"projects": []}, [], []),
    ],
)
def test_selection(
    incus: FakeIncus, tmp_path: Path, given: dict[str, Any], names: list[str], unmatched: list[str]
) -> None:
    module: Any = module_for(incus, tmp_path, **given)
    result = incus_screenshot.run(module)
    assert [f"{record['project']}/{record['name']}" for record in result["instances"]] == names
    assert result["unmatched"] == unmatched
    assert module.warnings == ([f"Nothing on {tmp_path / 's'} is meant by: {unmatched[0]}."] if unmatched else [])


def test_a_project_that_cannot_be_seen(incus: FakeIncus, tmp_path: Path) -> None:
    with pytest.raises(IncusRefused, match="has no project shop that this client may see"):
        shoot(incus, tmp_path, projects=["default", "shop"])


def test_names_of_files() -> None:
    assert [file_name("default", "web"), file_name("blog", "web")] == ["web", "blog_web"]


def test_keys_of_machines_without_uuid_are_their_own() -> None:
    plain = Instance("web", "default", _incus.NO_UUID, True, "Running")
    several = [
        incus_screenshot.key_of(plain, "one"),
        incus_screenshot.key_of(plain, "two"),
        incus_screenshot.key_of(plain._replace(project="../x"), "one"),
        incus_screenshot.key_of(plain._replace(uuid=UUIDS["a"]), "one"),
    ]
    assert len(set(several)) == 4
    assert all(key.isascii() and set(".\\/").isdisjoint(key) for key in several)
    again = incus_screenshot.key_of(plain._replace(uuid=UUIDS["a"], name="renamed"), "two")
    assert again == several[3]


# --- One at a time ----------------------------------------------------------------------------------------------------


def test_threads_ask_for_one_picture_of_a_machine_at_a_time(incus: FakeIncus, tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    threads = [
        threading.Thread(target=lambda: seen.append(only(shoot(incus, tmp_path, instances=["a"]))))
        for _turn in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [record.get("error") for record in seen] == [None] * 8
    assert incus.collisions == 0
    # Those who came while one was taken share it.
    assert len(incus.asked) == sum(not record["screens"][0]["cached"] for record in seen)


SCRIPT = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
from ansible_collections.kvmops.console.plugins.module_utils._run import incus_screenshot
incus_screenshot.host_allows = lambda: True
module = SimpleNamespace(params=json.load(sys.stdin), warn=print)
print(json.dumps(incus_screenshot.run(module)))
"""


def test_processes_ask_for_one_picture_of_a_machine_at_a_time(incus: FakeIncus, tmp_path: Path) -> None:
    params = json.dumps(module_for(incus, tmp_path, instances=["a", "e"]).params)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with contextlib.ExitStack() as stack:
        tasks = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-B", "-c", SCRIPT],
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for _turn in range(4)
        ]
        for task in tasks:
            assert task.stdin is not None
            task.stdin.write(params)
            task.stdin.close()
            task.stdin = None
        results = [json.loads(task.communicate(timeout=120)[0]) for task in tasks]
    assert [result["summary"]["errors"] for result in results] == [0] * 4
    assert incus.collisions == 0


# --- Options ----------------------------------------------------------------------------------------------------------


def test_the_way_that_is_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spec = _incus_options.incus_arguments()["argument_spec"]
    monkeypatch.setenv("INCUS_SOCKET", "/from/environment")
    assert _incus_options.way(with_defaults(spec, {})).name == "/from/environment"
    assert _incus_options.way(with_defaults(spec, {"socket_path": "/given"})).name == "/given"
    for name in ("crt", "key"):
        (tmp_path / name).write_bytes(b"x")
    given = {"client_cert": str(tmp_path / "crt"), "client_key": str(tmp_path / "key"), "fingerprint": "ab" * 32}
    way = _incus_options.way(with_defaults(spec, {"url": "https://incus", **given}))
    assert (way.name, way.fingerprint, way.socket_path) == ("https://incus:8443", "ab" * 32, None)
    with pytest.raises(InputError, match="set client_cert and client_key"):
        _incus_options.way(with_defaults(spec, {"url": "https://incus"}))


def test_libraries_are_asked_for_together(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(_incus_options, "need", lambda *arguments: asked.append(arguments[1:]))
    monkeypatch.setattr(_incus, "REQUESTS_TRACEBACK", "no requests")
    module: Any = FakeModule({})
    _incus_options.need_requests(module, PIL=None)
    ((traces, imports, packages),) = asked
    assert traces == {"requests": "no requests", "PIL": None}
    assert imports == "requests, PIL"
    assert packages.startswith("python3-requests and Pillow (Debian, Ubuntu: python3-pil;")


def test_ansible_takes_the_arguments() -> None:
    arguments = _incus_options.incus_arguments(**screen_spec())
    known = set(AnsibleModule.__init__.__code__.co_varnames)
    assert set(arguments) <= known
    assert arguments["argument_spec"]["client_key"]["no_log"] is False
