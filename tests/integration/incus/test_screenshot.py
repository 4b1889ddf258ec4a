# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""incus_screenshot against a real Incus with real virtual machines."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _image, _incus
from ansible_collections.kvmops.console.plugins.module_utils._errors import IncusRefused, TookTooLong
from ansible_collections.kvmops.console.plugins.module_utils._run.incus_screenshot import Photographer
from ansible_collections.kvmops.console.plugins.module_utils._screens import Options
from ansible_collections.kvmops.console.tests.lab.incus.incuslab import Incus, Vm

Result = dict[str, Any]
ROOT = Path(__file__).resolve().parents[3]


def by_name(result: Result) -> dict[str, Result]:
    return {f"{record['project']}/{record['name']}": record for record in result["instances"]}


def text_of(record: Result) -> str:
    (screen,) = record["screens"]
    return str(screen["text"]).strip()


class TestUnixSocket:
    def test_shows_what_runs_and_calmly_passes_over_the_rest(self, site: Any) -> None:
        result = site.shoot(text=True)
        assert "failed" not in result, result
        records = by_name(result)
        assert list(records) == ["default/box", "default/off", "default/web"]
        assert records["default/box"]["skipped"] == "it is a container, and has no screen"
        assert records["default/off"]["skipped"] == "it is off"
        assert text_of(records["default/web"]) == "HELLO INCUS"
        assert result["summary"] == {"instances": 3, "screens": 1, "skipped": 2, "errors": 0}
        assert result["server"]["version"] == site.incus.get("/1.0")["environment"]["server_version"]

    def test_keeps_a_whole_png(self, site: Any) -> None:
        (record,) = site.shoot(instances=["web"])["instances"]
        (screen,) = record["screens"]
        data = Path(screen["path"]).read_bytes()
        assert hashlib.sha256(data).hexdigest() == screen["sha256"]
        picture = _image.decode(data)
        assert (picture.width, picture.height) == (screen["width"], screen["height"]) == (720, 400)
        assert (screen["capture"], screen["cached"]) == ("incus", False)
        assert record["uuid"] in screen["path"]

    def test_globs_projects_exclude_and_what_means_nothing(self, site: Any) -> None:
        result = site.shoot(projects=["*", "nope-*"], instances=["w?b", "db"], exclude=["no-such"])
        assert list(by_name(result)) == ["blog/web", "default/web"]
        assert result["unmatched"] == ["nope-*", "db"]
        assert site.shoot(projects=["blog"], exclude=["w*"])["instances"] == []

    def test_a_uuid_means_one_machine_in_whatever_project(self, site: Any) -> None:
        uid = site.incus.get("/1.0/instances/web?project=blog")["config"]["volatile.uuid"]
        assert list(by_name(site.shoot(projects=["*"], instances=[uid]))) == ["blog/web"]

    def test_a_project_that_is_not_there(self, site: Any) -> None:
        result = site.shoot(projects=["nope"])
        assert result["failed"]
        assert "has no project nope that this client may see" in result["msg"]
        # Incus would not have told.
        assert site.incus.get("/1.0/instances?project=nope") == []

    def test_machines_of_two_projects_get_two_files(self, site: Any, tmp_path: Path) -> None:
        result = site.shoot(projects=["*"], instances=["web"], dest=str(tmp_path / "shown"))
        paths = {key: record["screens"][0]["path"] for key, record in by_name(result).items()}
        assert paths == {
            "blog/web": str(tmp_path / "shown/blog_web.png"),
            "default/web": str(tmp_path / "shown/web.png"),
        }

    def test_there_is_no_incus(self, site: Any, tmp_path: Path) -> None:
        result = site.shoot(socket_path=str(tmp_path / "none"))
        assert result["msg"].startswith(f"There is no Incus at {tmp_path}/none: start it")


class TestHttps:
    @pytest.mark.parametrize("how", ["server_cert", "fingerprint", "ca_path"])
    def test_with_a_client_certificate(self, site: Any, url: str, trusted: Any, how: str) -> None:
        certificate = str(site.incus.folder / "server.crt")
        fingerprint = site.incus.get("/1.0")["environment"]["certificate_fingerprint"]
        value = fingerprint if how == "fingerprint" else certificate
        result = site.over_https(trusted, url=url, text=True, instances=["web"], projects=["*"], **{how: value})
        assert {key: text_of(record) for key, record in by_name(result).items()} == {
            "blog/web": "THE BLOG",
            "default/web": "HELLO INCUS",
        }
        assert (result["server"]["name"], result["server"]["fingerprint"]) == (url, fingerprint)

    def test_both_ways_share_one_picture(self, site: Any, url: str, trusted: Any) -> None:
        first, second = (
            shoot["instances"][0]["screens"][0]
            for shoot in (
                site.shoot(instances=["web"]),
                site.over_https(trusted, url=url, instances=["web"], max_age=3600),
            )
        )
        assert (second["cached"], second["path"]) == (True, first["path"])

    def test_another_server_is_not_asked(self, site: Any, url: str, trusted: Any) -> None:
        result = site.over_https(trusted, url=url, fingerprint="ab" * 32)
        assert "shows another certificate than the one that was given" in result["msg"]

    def test_nobody_vouches_for_its_certificate(self, site: Any, url: str, trusted: Any) -> None:
        result = site.shoot(url=url, client_cert=trusted.cert, client_key=trusted.key)
        assert "nobody known vouches for its certificate" in result["msg"]

    def test_a_stranger_is_told_what_to_do(self, site: Any, url: str, stranger: Any) -> None:
        result = site.over_https(stranger, url=url)
        assert "does not know this client" in result["msg"]
        assert "incus config trust add-certificate" in result["msg"]

    def test_a_restricted_client_sees_its_project(self, site: Any, url: str, restricted: Any) -> None:
        result = site.over_https(restricted, url=url, projects=["*"], text=True)
        assert {key: text_of(record) for key, record in by_name(result).items()} == {"blog/web": "THE BLOG"}

    def test_a_restricted_client_sees_no_other(self, site: Any, url: str, restricted: Any) -> None:
        result = site.over_https(restricted, url=url)
        assert result["failed"]
        assert "has no project default that this client may see" in result["msg"]


class TestStates:
    def test_frozen(self, site: Any) -> None:
        (before,) = site.shoot(instances=["web"])["instances"]
        vm = Vm(site.incus, "web", "default")
        vm.freeze()
        try:
            (record,) = site.shoot(instances=["web"], text=True)["instances"]
        finally:
            vm.unfreeze()
        assert (record["state"], text_of(record)) == ("Frozen", "HELLO INCUS")
        assert record["screens"][0]["sha256"] == before["screens"][0]["sha256"]
        assert record["screens"][0]["changed_since_last"] is False

    def test_stopped_after_it_ran(self, site: Any) -> None:
        vm = site.incus.vm("ran", "IT RAN")
        vm.stop()
        (record,) = site.shoot(instances=["ran"])["instances"]
        assert (record["skipped"], record["screens"]) == ("it is off", [])
        # What Incus gives instead of a picture, under status 200.
        status, data = site.incus.raw("GET", "/1.0/instances/ran/console?type=vga")
        assert status == 200
        assert b"IT RAN" in data

    def test_stopped_while_we_look(self, site: Any) -> None:
        vm = site.incus.vm("falls", "IT FALLS")
        with _incus.Client(_incus.unix(site.incus.socket), 30.0) as client:
            (instance,) = (one for one in client.instances("default") if one.name == "falls")
            vm.stop()
            with pytest.raises(_incus.NotRunning):
                client.screenshot(instance)
            record = Photographer(client, Options(str(site.store)), True).picture(instance)
        assert record == {"state": "Stopped", "skipped": "it is off"}

    def test_waits_for_a_text(self, site: Any) -> None:
        vm = site.incus.vm("boots", "NOW IT IS UP")
        vm.stop()
        vm.start()
        (record,) = site.shoot(instances=["boots"], wait_for={"text": "NOW IT", "timeout": 60})["instances"]
        assert "error" not in record
        (record,) = site.shoot(instances=["boots"], text=True, wait_for={"text": "login:", "timeout": 0.2})["instances"]
        assert "did not show a text that matches 'login:'" in record["error"]
        assert text_of(record) == "NOW IT IS UP"


class TestPrivacy:
    @pytest.fixture
    def vm(self, site: Any) -> Vm:
        name = "private"
        if f"/1.0/instances/{name}" not in site.incus.get("/1.0/instances"):
            site.incus.vm(name, "A SECRET")
        return Vm(site.incus, name, "default")

    def configure(self, vm: Vm, **config: str) -> None:
        settings = {f"user.kvmops.console.{key}": value for key, value in config.items()}
        vm.incus.do("PATCH", f"/1.0/instances/{vm.name}", {"config": settings})

    def test_the_owner_forbids_it(self, site: Any, vm: Vm) -> None:
        self.configure(vm, capture="no", mask="")
        (record,) = site.shoot(instances=[vm.name])["instances"]
        assert (record["skipped"], record["screens"]) == ("its owner lets nobody see its screen", [])
        assert not any(site.store.rglob("*.png"))

    def test_the_owner_hides_a_part(self, site: Any, vm: Vm) -> None:
        self.configure(vm, capture="true", mask="0,0,720,16")
        (record,) = site.shoot(instances=[vm.name], text=True)["instances"]
        picture = _image.decode(Path(record["screens"][0]["path"]).read_bytes())
        row = picture.width * 3
        assert len(set(picture.rgb[: 16 * row])) == 1
        assert set(picture.rgb[16 * row :]) == {0}


class TestDebiansFault:
    """Debian's 6.0.4 as it is shipped, and after what the message says."""

    def test_is_told_with_its_remedy_which_helps(self, tmp_path: Path, site: Any) -> None:
        with Incus() as incus:
            version = incus.get("/1.0")["environment"]["server_version"]
            if version != "6.0.4":
                pytest.skip(f"this is Incus {version}: the fault was mended in 6.0.6")
            vm = incus.vm("web", "MENDED")
            here = site._replace(incus=incus)
            result = here.shoot()
            assert result["msg"].startswith("1 of 1 instances failed: web (Incus cannot write the screenshot of web")
            told = re.search(r"`chmod 711 (\S+)`", result["instances"][0]["error"])
            assert told is not None
            # It was asked once: every try leaves an empty file behind.
            assert len(list(vm.folder.glob("screenshot-*.png"))) == 1
            Path(f"/proc/{incus.pid}/root{told[1]}").chmod(0o711)
            (record,) = here.shoot(text=True)["instances"]
            assert text_of(record) == "MENDED"


class TestManyAtOnce:
    def test_processes_share_one_screen(self, site: Any) -> None:
        tasks = [site.start(instances=["web"]) for _turn in range(6)]
        screens = []
        for task in tasks:
            out, errors = task.communicate(timeout=120)
            (record,) = json.loads(out or errors)["instances"]
            screens.append(record["screens"][0])
        assert len({screen["sha256"] for screen in screens}) == 1
        assert len({screen["captured_at"] for screen in screens}) == sum(not screen["cached"] for screen in screens)

    def test_machines_side_by_side(self, site: Any) -> None:
        for number in range(4):
            site.incus.vm(f"many-{number}", f"NUMBER {number}")
        result = site.shoot(instances=["many-*"], text=True, concurrency=4)
        assert [text_of(record) for record in result["instances"]] == [f"NUMBER {number}" for number in range(4)]


class TestOperations:
    """What the power actions will need of the client."""

    @pytest.fixture
    def path(self, site: Any) -> str:
        name = "acted-on"
        if f"/1.0/instances/{name}" not in site.incus.get("/1.0/instances"):
            site.incus.vm(name, "ACTED ON")
        return f"/1.0/instances/{name}/state"

    @pytest.fixture
    def client(self, site: Any) -> Any:
        with _incus.Client(_incus.unix(site.incus.socket), 30.0) as client:
            yield client

    def test_ends_well(self, client: Any, path: str) -> None:
        assert client.follow("PUT", path, {"action": "restart", "timeout": 30, "force": True}, 30.0)
        assert client.get(path)["status"] == "Running"

    def test_fails_under_status_200(self, client: Any, path: str) -> None:
        with pytest.raises(IncusRefused, match="failed: The instance is already running"):
            client.follow("PUT", path, {"action": "start", "timeout": 30}, 30.0)

    def test_is_refused_at_once(self, client: Any, path: str) -> None:
        with pytest.raises(IncusRefused, match=r"refused PUT .*Unknown action: 'bogus'"):
            client.follow("PUT", path, {"action": "bogus"}, 30.0)

    def test_takes_longer_than_we_wait(self, client: Any, path: str) -> None:
        # The guest knows nothing of ACPI.
        with pytest.raises(TookTooLong, match="took longer than 0 s"):
            client.follow("PUT", path, {"action": "stop", "timeout": 3}, 0.0)
        # Another one has to wait for it, and then fails as it did.
        with pytest.raises(IncusRefused, match="failed: "):
            client.follow("PUT", path, {"action": "stop", "timeout": 1}, 30.0)


def test_playbook_brings_the_pictures_home(site: Any, tmp_path: Path) -> None:
    arguments = {
        "socket_path": site.incus.socket,
        "store": str(site.store),
        "projects": ["*"],
        "instances": ["web"],
        "fetch_to": str(tmp_path / "home"),
    }
    play = {
        "hosts": "localhost",
        "gather_facts": False,
        "tasks": [
            {"kvmops.console.incus_screenshot": arguments, "register": "shots"},
            {
                "ansible.builtin.copy": {
                    "content": "{{ shots | to_json }}",
                    "dest": str(tmp_path / "shots"),
                    "mode": "0600",
                }
            },
        ],
    }
    (tmp_path / "play.yml").write_text(json.dumps([play]), encoding="utf-8")
    collections = next((path for path in map(Path, sys.path) if (path / "ansible_collections/kvmops").is_dir()), ROOT)
    done = subprocess.run(
        [
            f"{Path(sys.executable).parent}/ansible-playbook",
            "-i",
            "localhost,",
            "-c",
            "local",
            "-e",
            f"ansible_python_interpreter={sys.executable}",
            str(tmp_path / "play.yml"),
        ],
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(collections), "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp")},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    home = tmp_path / "home/localhost"
    assert sorted(path.name for path in home.iterdir()) == ["blog_web~incus.png", "web~incus.png"]
    shots = json.loads((tmp_path / "shots").read_text(encoding="utf-8"))
    assert shots["changed"]
    for record in shots["instances"]:
        (screen,) = record["screens"]
        assert "content" not in screen
        assert hashlib.sha256(Path(screen["fetched_to"]).read_bytes()).hexdigest() == screen["sha256"]
