# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The action in real plays: what tasks registered goes through Ansible's own variables, templating and tags."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
import typing as t
from pathlib import Path

import pytest

from ansible_collections.kvmops.console.plugins.plugin_utils._report import model
from ansible_collections.kvmops.console.tests.unit.plugins.plugin_utils._report import fleet

COLLECTIONS = Path(model.__file__).parents[6]

PLAYED = '''
"""Returns what a file says for the host; cannot reach it where the file says so; writes what it is given."""

import json
import os

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    _requires_connection = False

    def run(self, tmp=None, task_vars=None):
        if "keep" in self._task.args:
            with open(self._task.args["to"], "w", encoding="utf-8") as file:
                json.dump(self._task.args["keep"], file)
            return {"changed": False}
        path = os.path.join(self._task.args["folder"], task_vars["inventory_hostname"] + ".json")
        with open(path, encoding="utf-8") as file:
            result = json.load(file)[self._task.args["phase"]]
        if result.get("unreachable"):
            raise AnsibleConnectionFailure(result["msg"])
        return result
'''

AUDITS = """
    - name: Audit before
      played: {folder: FOLDER, phase: before}
      register: kvmops_audit_before
      ignore_errors: true
      ignore_unreachable: true
      when: inventory_hostname != 'hv-missing'
    - name: Change
      played: {folder: FOLDER, phase: changes}
      register: kvmops_changes
      when: inventory_hostname == 'hv-fine'
    - name: Audit after
      played: {folder: FOLDER, phase: after}
      register: kvmops_audit_after
      when: inventory_hostname == 'hv-fine'
"""

PLAY = """
- name: Play
  hosts: all
  gather_facts: false
  tasks:
AUDITS
"""

REPORT = """
    - name: Report {number}
      kvmops.console.report: {options}
      check_mode: {check}
      diff: {diff}
      register: report
      ignore_errors: true
    - name: Keep {number}
      played: {{keep: "{{{{ report }}}}", to: {folder}/kept-{number}.json}}
      run_once: true
"""

HOSTS = ("hv-fine", "hv-failed", "hv-missing", "hv-unreachable")


class Task(t.NamedTuple):
    """A task that reports."""

    options: fleet.Json
    check: bool = False
    diff: bool = False


class Play(t.NamedTuple):
    """A play in a folder."""

    folder: Path

    def run(self, *tasks: Task, words: t.Sequence[str] = (), audits: bool = False) -> list[fleet.Json]:
        """What each task returned, with what was printed from it to the next one as `said`; one start of Ansible.

        Without audits there is one host that nothing is known about, which is quicker.
        """
        text = PLAY.replace("AUDITS", AUDITS.replace("FOLDER", str(self.folder)) if audits else "")
        for number, task in enumerate(tasks):
            options = json.dumps({"dest": str(self.folder / "out"), **task.options})
            folder = self.folder
            text += REPORT.format(number=number, options=options, check=task.check, diff=task.diff, folder=folder)
        hosts = HOSTS if audits else HOSTS[:1]
        (self.folder / "play.yml").write_text(text, encoding="utf-8")
        done = subprocess.run(
            [sys.executable, "-m", "ansible.cli.playbook", "-i", ",".join(hosts) + ",", *words, "play.yml"],
            cwd=self.folder,
            env={
                **os.environ,
                "ANSIBLE_ACTION_PLUGINS": str(self.folder / "action_plugins"),
                "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS),
                "ANSIBLE_HOME": str(self.folder / "home"),
                "ANSIBLE_NOCOLOR": "1",
                "HOME": str(self.folder),
            },
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        _before, *said = re.split(r"^TASK \[Report \d+\]", done.stdout, flags=re.MULTILINE)
        assert len(said) == len(tasks), done.stdout
        kept = [json.loads((self.folder / f"kept-{n}.json").read_text(encoding="utf-8")) for n in range(len(tasks))]
        return [{**result, "said": words} for result, words in zip(kept, said)]

    def written(self, name: str) -> str:
        return (self.folder / "out" / name).read_text(encoding="utf-8")


@pytest.fixture
def play(tmp_path: Path) -> Play:
    (tmp_path / "action_plugins").mkdir()
    (tmp_path / "action_plugins/played.py").write_text(PLAYED, encoding="utf-8")
    kinds = [fleet.affected("{{ 7 * 7 }}"), fleet.fine("<script>alert(1)</script>"), fleet.fine("=1+1")]
    whole = fleet.host("hv-fine", kinds)
    results = {
        "hv-fine": {"before": whole.before, "changes": whole.changes, "after": whole.after},
        "hv-failed": {"before": {"failed": True, "msg": "libvirt is not there; password=hunter2"}},
        "hv-unreachable": {"before": fleet.UNREACHABLE},
    }
    for name, result in results.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(result), encoding="utf-8")
    return Play(tmp_path)


NAMES: fleet.Json = {"after": "kvmops_audit_after", "changes": "kvmops_changes"}


def test_a_fleet_is_predicted_then_written_then_the_same(play: Play) -> None:
    (predicted,) = play.run(Task(NAMES, check=True, diff=True), audits=True)
    assert predicted["changed"] is True
    assert "+kvmops_affected: 1" in predicted["said"]
    assert "<html" not in predicted["said"]
    assert not (play.folder / "out").exists()

    result, *again = play.run(Task(NAMES), Task(NAMES, check=True), Task(NAMES), audits=True)
    assert result["changed"] is True
    assert {key: result[key] for key in ("files", "summary")} == {key: predicted[key] for key in ("files", "summary")}
    assert sorted(result["files"]) == ["csv", "html", "json", "prometheus"]
    assert all(Path(path).is_file() for path in result["files"].values())
    wanted = {"hosts": 4, "hosts_failed": 3, "hosts_unreachable": 1, "hosts_missing": 1, "domains": 3, "affected": 1}
    assert {key: result["summary"][f"kvmops_{key}"] for key in wanted} == wanted
    check_files(play)
    assert [later["changed"] for later in again] == [False, False]


def check_files(play: Play) -> None:
    report = json.loads(play.written("console-report.json"))
    assert {host["name"]: host["status"] for host in report["hosts"]} == {
        "hv-fine": "ok",
        "hv-failed": "failed",
        "hv-missing": "missing",
        "hv-unreachable": "unreachable",
    }
    assert "No route to host" in report["hosts"][0]["problems"][0]["message"]
    assert {domain["name"] for domain in report["domains"]} == {"{{ 7 * 7 }}", "<script>alert(1)</script>", "=1+1"}
    assert report["domains"][0]["change"]["changed"] is True
    assert "hunter2" not in play.written("console-report.json") + play.written("console-report.html")
    assert "<script" not in play.written("console-report.html")
    rows = list(csv.DictReader(io.StringIO(play.written("console-report.csv"))))
    assert {row["name"] for row in rows if row["host"] == "hv-fine"} >= {"'=1+1", "{{ 7 * 7 }}"}
    assert 'kvmops_console_host_up{host="hv-unreachable"} 0' in play.written("console-report.prom")


def test_diff_tells_the_counts_before_and_after(play: Play) -> None:
    one, two = ({"hosts": hosts, "formats": ["json"]} for hosts in (["a"], ["a", "b"]))
    said = play.run(Task(one), Task(two, diff=True))[1]["said"]
    assert "-kvmops_hosts: 1" in said
    assert "+kvmops_hosts: 2" in said


def test_a_report_on_one_audit_of_some_hosts(play: Play) -> None:
    options = {
        "before": "another_name",
        "hosts": ["hv-failed", "hv-nowhere"],
        "formats": ["json"],
        "basename": "audit",
        "title": "{{ 'Ti' ~ 'tle' }}",
        **NAMES,
    }
    words = ["--extra-vars", json.dumps({"another_name": "{{ kvmops_audit_before }}"})]
    (result,) = play.run(Task(options), words=words, audits=True)
    assert list(result["files"]) == ["json"]
    report = json.loads(play.written("audit.json"))
    assert report["title"] == "Title"
    assert {host["name"]: host["status"] for host in report["hosts"]} == {
        "hv-nowhere": "missing",
        "hv-failed": "failed",
    }


MISTAKES: dict[str, fleet.Json] = {
    "basename is to be the name of a file without a folder, and '../evil' is none.": {"basename": "../evil"},
    "value of formats must be one or more of: html, json, csv, prometheus": {"formats": ["pdf"]},
    "The report cannot be written to": {"dest": "play.yml"},
    "Unsupported parameters for": {"folder": "x"},
}


def test_mistakes_are_told_in_a_sentence_and_a_relative_folder_is_beside_the_playbook(play: Play) -> None:
    *mistakes, well = play.run(*map(Task, MISTAKES.values()), Task({"dest": "reports/today"}))
    for sentence, result in zip(MISTAKES, mistakes):
        assert result["failed"] is True
        assert sentence in result["msg"]
        assert sentence in " ".join(result["said"].split())
        assert "Traceback" not in result["said"]
    assert not list(play.folder.rglob("evil*"))
    assert well["changed"] is True
    assert (play.folder / "reports/today/console-report.html").is_file()
