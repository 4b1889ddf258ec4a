# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every playbook, run by ansible-runner as AWX runs it: from the project, with what its survey gives, as text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import ansible_collections
import pytest

from ansible_collections.kvmops.console.tests.tools import surveys
from ansible_collections.kvmops.console.tests.unit.plugins.module_utils import novnc_shapes as shapes

Json = dict[str, Any]

COLLECTIONS = Path(next(iter(ansible_collections.__path__))).parent
STORED: Json = surveys.load(surveys.ROOT / surveys.TARGET)["awx_setup_surveys"]
SIGNATURE, TOKEN = "signature=of-nobody-else", "token-of-nobody-else"
# What the modules keep on a host is kept out of this machine's.
APART = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /var/lib && exec "$@"', "sh"]
VNC = '<graphics type="vnc" port="5901" powerControl="yes"/>'
DOMAIN = """\
<domain type="test"><name>{name}</name><uuid>4dea22b3-1d52-d8f3-2516-782e98ab3fa{number}</uuid><memory>8192</memory>
  <os><type>hvm</type></os><devices>{devices}</devices></domain>"""
DOMAINS = ((1, "web-1", VNC), (2, "web-2", ""), (3, "db-1", ""))
NODE = "".join(DOMAIN.format(number=number, name=name, devices=devices) for number, name, devices in DOMAINS)


class Run(NamedTuple):
    """A job: its exit status, what it printed, what it hands to the next node, and its folder."""

    rc: int
    said: str
    artifacts: Json
    folder: Path

    def results(self, task: str) -> list[Json]:
        """What the tasks of that name returned."""
        events = [json.loads(path.read_text("utf-8")) for path in self.folder.glob("artifacts/job/job_events/*.json")]
        told = [event["event_data"] for event in events if event["event"].startswith("runner_on_")]
        return [data["res"] for data in told if data.get("task", "").endswith(task) and "res" in data]


def as_awx_writes(value: Any) -> str:
    """YAML in which no text from a survey is a template, as AWX writes it."""
    if isinstance(value, dict):
        return "".join(f"!unsafe {json.dumps(key)}: {as_awx_writes(each)}\n" for key, each in value.items())
    if isinstance(value, list):
        return "[" + ", ".join(map(as_awx_writes, value)) + "]"
    return f"!unsafe {json.dumps(value)}" if isinstance(value, str) else json.dumps(value)


def answers(playbook: str, **given: Any) -> Json:
    """What AWX hands over: what was answered, and what was left as it is."""
    found: Json = {}
    for question in STORED[playbook]["spec"]:
        default = question.get("default", "")
        found[question["variable"]] = default.splitlines() if question["type"] == "multiselect" else default
    assert set(given) <= set(found), "only what the survey asks"
    return {**found, **given}


def job(folder: Path, playbook: str, *words: str, inventory: Json, given: Json, **environment: str) -> Run:
    """Launch the job template of a playbook."""
    (folder / "env").mkdir(parents=True)
    (folder / "inventory").mkdir()
    (folder / "env/extravars").write_text(as_awx_writes(given), encoding="utf-8")
    (folder / "env/envvars").write_text(
        json.dumps(
            {"ANSIBLE_COLLECTIONS_PATH": os.fspath(COLLECTIONS), "ANSIBLE_HOME": f"{folder}/home", **environment}
        ),
        encoding="utf-8",
    )
    hosts = {"hv-1": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, **inventory}}
    (folder / "inventory/hosts.json").write_text(json.dumps({"all": {"hosts": hosts}}), encoding="utf-8")
    if words:
        (folder / "env/cmdline").write_text(" ".join(words), encoding="utf-8")
    runner = [os.fspath(Path(sys.executable).with_name("ansible-runner")), "run", os.fspath(folder), "--ident", "job"]
    done = subprocess.run(
        [*APART, *runner, "--project-dir", os.fspath(surveys.ROOT), "-p", f"playbooks/{playbook}.yml"],
        cwd=folder,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    said = done.stdout + done.stderr
    stats = [
        path
        for path in folder.glob("artifacts/job/job_events/*.json")
        if "playbook_on_stats" in path.read_text("utf-8")
    ]
    handed = json.loads(stats[0].read_text("utf-8"))["event_data"].get("artifact_data", {}) if stats else {}
    return Run(done.returncode, said, handed, folder)


class Files(ThreadingHTTPServer):
    """A web server that takes files from who has the token and the signature."""

    def __init__(self) -> None:
        self.taken: dict[str, bytes] = {}
        super().__init__(("127.0.0.1", 0), Taker)
        self.url = f"http://127.0.0.1:{self.server_port}"


class Taker(BaseHTTPRequestHandler):
    """One request."""

    server: Files

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        path, _mark, query = self.path.partition("?")
        known = query == SIGNATURE and self.headers["Authorization"] == f"Bearer {TOKEN}"
        if known:
            self.server.taken[path] = data
        self.send_response(201 if known else 403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """To nobody."""


@pytest.fixture(scope="module")
def files() -> Iterator[Files]:
    with Files() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def jobs(tmp_path_factory: pytest.TempPathFactory, files: Files) -> Iterator[dict[str, Future[Run]]]:
    """All jobs, two at a time."""
    base = tmp_path_factory.mktemp("jobs")
    (base / "node.xml").write_text(f"<node>{NODE}</node>", encoding="utf-8")
    uri = f"test://{base}/node.xml"
    novnc = base / "novnc"
    (novnc / "core").mkdir(parents=True)
    (novnc / "core/rfb.js").write_text(shapes.MODULE, encoding="utf-8")
    of_fleet = {"fleet_uri": uri, "fleet_exclude": ["db-*"]}
    of_wall = {"console_wall_uri": uri, "console_wall_store": f"{base}/store", "console_wall_dir": f"{base}/wall"}
    place = f"{files.url}/reports/?{SIGNATURE}"
    with ThreadPoolExecutor(2) as pool:

        def launch(
            name: str, playbook: str, *words: str, inventory: Json, environment: Json, **given: Any
        ) -> Future[Run]:
            asked = answers(playbook, **given)
            folder = base / name
            return pool.submit(job, folder, playbook, *words, inventory=inventory, given=asked, **environment)

        def reports(name: str) -> Json:
            return {**of_fleet, "fleet_report_dir": f"{base}/{name}-report"}

        yield {
            "audit": launch(
                "audit",
                "audit",
                inventory=reports("audit"),
                environment={"KVMOPS_PUBLISH_TOKEN": TOKEN},
                fleet_domains="web-*\r\ndb-1\n",
                fleet_probe="false",
                fleet_report_formats=["html", "json"],
                publish_to=place,
            ),
            "refused": launch(
                "refused",
                "audit",
                inventory=reports("refused"),
                environment={"KVMOPS_PUBLISH_TO": place, "KVMOPS_PUBLISH_TOKEN": "token-of-somebody"},
                fleet_probe="false",
            ),
            "remediate": launch(
                "remediate",
                "remediate",
                inventory=reports("remediate"),
                environment={},
                fleet_domains="web-1, web-2",
                fleet_state="disabled",
                fleet_probe="false",
                fleet_restart="true",
                fleet_batch=2,
            ),
            "rollback": launch(
                "rollback", "rollback", inventory=reports("rollback"), environment={}, fleet_probe="false"
            ),
            "screenshots": launch(
                "screenshots",
                "screenshots",
                inventory={**of_wall, "console_wall_exclude": ["db-*"]},
                environment={"KVMOPS_PUBLISH_TO": f"{base}/volume"},
                console_wall_domains="web-1\ndb-1",
                console_wall_max_age=0.0,
                console_wall_text="false",
            ),
            "power": launch(
                "power",
                "power",
                # That one domain is the same for all connections of a process; the driver knows no button of ACPI's.
                inventory={"power_uri": "test:///default"},
                environment={},
                power_state="stopped",
                power_domains="web-1\r\ntest\r\n",
                power_force="at_once",
                power_timeout=20.0,
            ),
            "patch_novnc": launch(
                "patch_novnc",
                "patch_novnc",
                inventory={
                    "novnc_patch_paths": [f"{novnc}"],
                    "novnc_patch_backup_dir": f"{base}/originals",
                    "novnc_patch_keep": False,
                },
                environment={},
            ),
            # A host of this kind has a systemd and packages, and belongs to the lab: here the job only looks.
            "deploy_proxy": launch(
                "deploy_proxy", "deploy_proxy", "--check", inventory={}, environment={}, vnc_proxy_state="absent"
            ),
        }


def test_every_template_is_launched(jobs: dict[str, Future[Run]]) -> None:
    assert set(jobs) == {*STORED, "refused"}


def test_audit_reports_and_publishes(jobs: dict[str, Future[Run]], files: Files) -> None:
    done = jobs["audit"].result()
    assert done.rc == 0, done.said
    assert (done.artifacts["kvmops_hosts_ok"], done.artifacts["kvmops_domains"]) == (1, 2)
    names = ["/reports/console-report.html", "/reports/console-report.json"]
    assert done.artifacts["kvmops_published"] == [files.url + name for name in names]
    assert sorted(files.taken) == names
    report = json.loads(files.taken[names[1]])
    assert [domain["name"] for domain in report["domains"]] == ["web-1", "web-2"]
    assert b"<html" in files.taken[names[0]]


@pytest.mark.parametrize("name", ["audit", "refused"])
def test_no_secret_is_in_what_awx_keeps(jobs: dict[str, Future[Run]], name: str) -> None:
    done = jobs[name].result()
    kept = [path for path in (done.folder / "artifacts").rglob("*") if path.is_file()]
    assert len(kept) > 10
    # What ansible-runner was told to put into the environment stands there; AWX masks that by itself.
    texts = {path: path.read_text("utf-8", "replace") for path in kept if path.name != "command"}
    for secret in (SIGNATURE, TOKEN, "token-of-somebody"):
        assert [path for path, text in texts.items() if secret in text] == []
        assert secret not in done.said


def test_refusal_fails_the_job_and_says_why(jobs: dict[str, Future[Run]], files: Files) -> None:
    done = jobs["refused"].result()
    assert done.rc != 0
    assert f"{files.url}/reports/console-report.html did not take the file: the server says 403" in done.said
    assert done.artifacts["kvmops_domains"] == 2, "the counts are handed over all the same"
    assert "kvmops_published" not in done.artifacts


def test_remediation_changes_what_the_survey_names(jobs: dict[str, Future[Run]]) -> None:
    done = jobs["remediate"].result()
    assert done.rc == 0, done.said
    assert done.artifacts["kvmops_changed"] == 1
    (result,) = done.results("Set powerControl")
    assert [(each["name"], each["changed"]) for each in result["domains"]] == [("web-1", True), ("web-2", False)]
    assert "kvmops_published" not in done.artifacts, "nothing says where to"


def test_rollback_finds_nothing_to_give_back(jobs: dict[str, Future[Run]]) -> None:
    done = jobs["rollback"].result()
    assert done.rc == 0, done.said
    assert (done.artifacts["kvmops_domains"], done.artifacts["kvmops_changed"]) == (2, 0)


def test_screenshots_are_published_in_one_page(jobs: dict[str, Future[Run]]) -> None:
    done = jobs["screenshots"].result()
    assert done.rc == 0, done.said
    assert (done.artifacts["kvmops_screens"], done.artifacts["kvmops_screens_seen"]) == (1, 1)
    volume = done.folder.parent / "volume"
    assert done.artifacts["kvmops_published"][0] == f"{volume}/index.html"
    assert "data:image/jpeg;base64," in (volume / "index.html").read_text(encoding="utf-8")
    (picture,) = volume.glob("pictures/hv-1/web-1*.png")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert (volume / "machines/hv-1/web-1.html").is_file()


def test_power_switches_what_the_survey_names(jobs: dict[str, Future[Run]]) -> None:
    done = jobs["power"].result()
    assert done.rc == 0, done.said
    (result,) = done.results("Switch")
    assert [(each["name"], each["after"]) for each in result["domains"]] == [("test", "off")]
    assert result["unmatched"] == ["web-1"]


def test_novnc_is_patched(jobs: dict[str, Future[Run]]) -> None:
    done = jobs["patch_novnc"].result()
    assert done.rc == 0, done.said
    (result,) = done.results("Patch noVNC, or take the patch out")
    assert [each["patched"] for each in result["installations"]] == [True]


def test_proxy_that_is_not_there_is_looked_for(jobs: dict[str, Future[Run]]) -> None:
    done = jobs["deploy_proxy"].result()
    assert done.rc == 0, done.said
    assert "failed=0" in done.said
