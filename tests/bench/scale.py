# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet of simulated hosts, audited by one ansible-playbook: its time, its memory, its report, the cost of a domain.

Each host is libvirt's test driver behind the local connection, with definitions of its own. Run by `make bench`, or
alone as `python -m ansible_collections.kvmops.console.tests.bench.scale [--docs]`, with SCALE_HOSTS=200,
SCALE_DOMAINS=50 and SCALE_ROUNDS=3; `--docs` writes the figures into docs/scale.md. Nothing here is asserted.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

from ansible_collections.kvmops.console.plugins.plugin_utils._report import model, write
from ansible_collections.kvmops.console.tests.browser.chromium import Browser

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
HOSTS = int(os.environ.get("SCALE_HOSTS", "200"))
DOMAINS = int(os.environ.get("SCALE_DOMAINS", "50"))
ROUNDS = int(os.environ.get("SCALE_ROUNDS", "3"))
SIZES = (10, 30, 100, 300, 1000, 3000, 10000)
FORKS = 8
EMULATOR = "/usr/bin/qemu-system-x86_64"
SYSTEM_PYTHON = "/usr/bin/python3"
Json = dict[str, t.Any]

_DOMAIN = """<domain type='test'><name>guest-{number:05}</name><uuid>{uuid}</uuid><memory>1024</memory>
<os><type>hvm</type></os><devices><emulator>{emulator}</emulator>
<input type='tablet' bus='usb'/><graphics type='vnc' port='-1' autoport='yes' powerControl='yes'/></devices></domain>"""


def node(path: Path, host: int, domains: int) -> str:
    """Write the definition of a whole host for libvirt's test driver; returns its URI."""
    bodies = (
        _DOMAIN.format(number=number, uuid=f"4dea22b3-1d52-d8f3-{host:04x}-{number:012x}", emulator=EMULATOR)
        for number in range(domains)
    )
    path.write_text(f"<node>{''.join(bodies)}</node>", encoding="utf-8")
    return f"test://{path}"


_STAND_IN = """import json
from ansible.module_utils.basic import AnsibleModule
module = AnsibleModule({{name: {{"type": "raw"}} for name in ("uri", "domains", "exclude", "probe")}})
with open({path!r}, encoding="utf-8") as stream:
    module.exit_json(**json.load(stream))
"""
"""What stands in for the audit's module: it hands on a result of the same size, and does nothing."""


class Fleet:
    """Hosts below a folder, the collection as it is, and one in which the audit's module only hands a result on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.result = folder / "result.json"
        hosts = {
            f"hv-{number:03}": {"fleet_uri": node(folder / f"host-{number}.xml", number, DOMAINS)}
            for number in range(HOSTS)
        }
        everywhere = {
            "ansible_connection": "local",
            "ansible_python_interpreter": SYSTEM_PYTHON,
            "fleet_report_dir": str(folder / "report"),
        }
        inventory = {"all": {"hosts": hosts, "vars": everywhere}}
        (folder / "inventory.json").write_text(json.dumps(inventory), encoding="utf-8")
        self._trees = {"audit": self._tree("audit"), "same": self._tree("same")}
        stand_in = self._trees["same"] / "ansible_collections/kvmops/console/plugins/modules/domain_info.py"
        stand_in.write_text(_STAND_IN.format(path=str(self.result)), encoding="utf-8")

    def _tree(self, name: str) -> Path:
        tree = self.folder / name
        collection = tree / "ansible_collections/kvmops/console"
        parts = ("galaxy.yml", "meta", "plugins", "roles", "playbooks")
        for part in parts:
            source = ROOT / part
            target = collection / part
            target.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
        return tree

    def play(self, tree: str, playbook: str, inventory: str, wrapper: t.Sequence[str] = ()) -> tuple[float, str]:
        """Seconds of one ansible-playbook, and what it or its wrapper printed."""
        program = str(Path(sys.executable).with_name("ansible-playbook"))
        words = [*wrapper, program, "-i", inventory, "-f", str(FORKS), playbook]
        env = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(self._trees[tree]), "ANSIBLE_LOCALHOST_WARNING": "False"}
        begin = time.perf_counter()
        done = subprocess.run(words, cwd=self.folder, env=env, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - begin
        if done.returncode:
            raise RuntimeError(f"{' '.join(words)} failed:\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        return seconds, done.stdout

    def audit(self, tree: str, wrapper: t.Sequence[str] = ()) -> tuple[float, str]:
        """The audit of all hosts, report included."""
        return self.play(tree, "kvmops.console.audit", str(self.folder / "inventory.json"), wrapper)

    def task(self, uri: str, register: bool = False) -> float:
        """Seconds of a playbook with one task, the audit of one host."""
        playbook = self.folder / "task.yml"
        copied = {"ansible.builtin.copy": {"content": "{{ audited | to_json }}", "dest": str(self.result)}}
        task = {"kvmops.console.domain_info": {"uri": uri}, "register": "audited"}
        play = {"hosts": "hv-000", "gather_facts": False, "tasks": [task, copied] if register else [task]}
        playbook.write_text(json.dumps([play]), encoding="utf-8")
        return self.play("audit", str(playbook), str(self.folder / "inventory.json"))[0]


def told(values: t.Sequence[float], unit: str) -> str:
    """Median and range."""
    return f"{statistics.median(values):8.2f} {unit}  ({min(values):.2f} to {max(values):.2f})"


def whole_fleet(fleet: Fleet) -> Json:
    """The audit of all hosts against the same play with a module that does nothing."""
    fleet.task(f"test://{fleet.folder / 'host-0.xml'}", register=True)
    pairs = [(fleet.audit("audit")[0], fleet.audit("same")[0]) for _round in range(ROUNDS)]
    ratios = [one / two for one, two in pairs]
    peak = float(fleet.audit("audit", (SYSTEM_PYTHON, str(HERE / "peak.py")))[1])
    print(f"audit of {HOSTS} hosts with {DOMAINS} domains each, {FORKS} forks, {len(os.sched_getaffinity(0))} cores")
    print(f"  the audit                         {told([one for one, _two in pairs], 's')}")
    print(f"  with a module that does nothing   {told([two for _one, two in pairs], 's')}")
    print(f"  ratio                             {told(ratios, '')}  limit 1.3")
    print(f"  memory, modules included          {peak:8.0f} MiB  limit 600", flush=True)
    return {
        "seconds": statistics.median(one for one, _two in pairs),
        "ratio": statistics.median(ratios),
        "spread": [min(ratios), max(ratios)],
        "memory": peak,
    }


def report(fleet: Fleet) -> Json:
    """The report of the whole fleet: how long it takes to write and to open, and its size."""
    audited = json.loads(fleet.result.read_text(encoding="utf-8"))
    results = [model.HostResults(f"hv-{number:03}", audited, None, None) for number in range(HOSTS)]
    folder = fleet.folder / "timed"
    begin = time.perf_counter()
    built = model.build(results, model.Asked("before", None, None), title="Scale", generated_at="2026-01-01T00:00:00Z")
    planned = write.plan(built, str(folder), "report", dict.fromkeys(("html", "json", "csv", "prometheus")))
    write.apply(str(folder), planned.values())
    written = time.perf_counter() - begin
    page = folder / "report.html"
    opened = []
    browser = Browser(fleet.folder / "browser")
    try:
        for _round in range(ROUNDS):
            begin = time.perf_counter()
            browser.open(page)
            browser.run("document.body.getBoundingClientRect().height")
            opened.append(time.perf_counter() - begin)
    finally:
        browser.close()
    size = page.stat().st_size / 1e6
    print(f"report of {HOSTS * DOMAINS} domains")
    print(f"  written, in four formats          {written:8.2f} s  limit 10")
    print(f"  opened in Chromium                {told(opened, 's')}  limit 2")
    print(f"  the page                          {size:8.2f} MB  limit 10", flush=True)
    return {"written": written, "opened": statistics.median(opened), "size": size}


def by_size(fleet: Fleet) -> Json:
    """Milliseconds a domain by the number of domains of a host, what an empty host costs taken off."""
    uris = {size: node(fleet.folder / f"size-{size}.xml", 0, size) for size in (0, *SIZES)}
    rounds = [{size: fleet.task(uri) for size, uri in uris.items()} for _round in range(ROUNDS)]
    empty = statistics.median(one[0] for one in rounds)
    cost = {size: [(one[size] - one[0]) / size * 1000 for one in rounds] for size in SIZES}
    print(f"audit of one host, less the same task on a host without domains ({empty:.2f} s)")
    for size in SIZES:
        print(f"  {size:6} domains                    {told(cost[size], 'ms a domain')}", flush=True)
    return {"empty": empty, "cost": {size: statistics.median(values) for size, values in cost.items()}}


def main() -> None:
    """Print everything; with --docs write it into docs/scale.md, too."""
    with tempfile.TemporaryDirectory(prefix="kvmops-scale-") as name:
        fleet = Fleet(Path(name))
        found = {"fleet": whole_fleet(fleet), "report": report(fleet), "size": by_size(fleet)}
    if "--docs" in sys.argv[1:]:
        page = Path(os.environ.get("KVMOPS_REPOSITORY", ROOT)) / "docs/scale.md"
        page.write_text(with_figures(page.read_text(encoding="utf-8"), found), encoding="utf-8")


BEGIN, END = "<!-- begin: figures by tests/bench/scale.py -->", "<!-- end: figures -->"


def with_figures(page: str, found: Json) -> str:
    """The page with these figures between its two marks."""
    before, _mark, rest = page.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n\n{_figures(found)}\n{END}{after}"


def _figures(found: Json) -> str:
    fleet, page, size = found["fleet"], found["report"], found["size"]
    low, high = fleet["spread"]
    rows = [
        (
            "Whole play, of that with a module that does nothing",
            f"{fleet['ratio']:.2f} ({low:.2f} to {high:.2f})",
            "1.3",
        ),
        ("Memory of the controller, the modules' own included", f"{fleet['memory']:.0f} MiB", "600 MiB"),
        ("Report written, in four formats", f"{page['written']:.1f} s", "10 s"),
        ("Report opened in Chromium", f"{page['opened']:.2f} s", "2 s"),
        ("Size of the page", f"{page['size']:.1f} MB", "10 MB"),
    ]
    table = "\n".join(f"| {' | '.join(row)} |" for row in [("What", "Measured", "Limit"), ("---",) * 3, *rows])
    cost = size["cost"]
    axis, bars = ", ".join(map(str, cost)), ", ".join(f"{value:.2f}" for value in cost.values())
    top = max(2.0, *(1.25 * value for value in cost.values()))
    chart = (
        "```mermaid\nxychart-beta\n"
        '    title "Cost of a domain"\n'
        f'    x-axis "domains of a host" [{axis}]\n'
        f'    y-axis "milliseconds a domain" 0 --> {top:.1f}\n'
        f"    line [{bars}]\n```\n"
    )
    numbers = "\n".join(f"| {count} | {value:.2f} ms |" for count, value in cost.items())
    return (
        f"{HOSTS} hosts with {DOMAINS} domains each, {FORKS} forks, {fleet['seconds']:.0f} s on"
        f" {len(os.sched_getaffinity(0))} cores:\n\n{table}\n\n{chart}\n"
        f"| Domains of the host | Cost of each |\n| --- | --- |\n{numbers}\n"
    )


if __name__ == "__main__":
    main()
