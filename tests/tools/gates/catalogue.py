# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""All gates, in the order in which they run: the quick ones first."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from . import ansible_test, checks, host, tree, venvs
from .gate import LIVE, STATIC, Failed, Gate, Job, Outcome, count, judge

COLLECTION = "kvmops.console"
HOSTLESS = ("tests/integration/awx", "tests/integration/groups", "tests/integration/qmp")
"""Integration tests that need a controller or a QEMU, and none of the lab's hosts."""


def _tool(*command: str, environment: Callable[[], venvs.Environment] = venvs.lint) -> Callable[[Job], Outcome]:
    """A gate that is one command in the collection's folder."""

    def run(job: Job) -> Outcome:
        tools = job.venv(environment())
        words = [str(tools / command[0]), *command[1:]]
        job.check(words, cwd=job.tree(), env=job.environment(tools))
        return Outcome(passed=1)

    return run


def _python(check: Callable[[Path], list[str]]) -> Callable[[Job], Outcome]:
    """A gate of our own: a function that lists what is wrong in a checkout."""

    def run(job: Job) -> Outcome:
        findings = check(job.tree())
        for line in findings:
            job.write(line)
        if findings:
            raise Failed(f"{len(findings)} finding(s).")
        return Outcome(passed=1)

    return run


def _changelog(job: Job) -> Outcome:
    """The fragments are well formed, and a release can be made of them (in the copy)."""
    tools = job.venv(venvs.lint())
    root = job.tree()
    changelog = str(tools / "antsibull-changelog")
    job.check([changelog, "lint"], cwd=root, env=job.environment(tools))
    if any((root / "changelogs/fragments").glob("*.y*ml")):
        job.check([changelog, "release", "-v", "--date", "2026-01-01"], cwd=root, env=job.environment(tools))
    return Outcome(passed=1)


def _mypy(job: Job) -> Outcome:
    tools = job.venv(venvs.lint())
    root = job.tree()
    dotted = "ansible_collections." + COLLECTION
    packages = [part for part in ("plugins", "tests", "roles") if any((root / part).rglob("*.py"))]
    words = [str(tools / "mypy"), "--config-file", str(root / "pyproject.toml")]
    words += ["--cache-dir", str(host.cache() / "mypy")]
    for part in packages:
        words += ["--package", f"{dotted}.{part}"]
    # From the folder above ansible_collections, so that paths are the same in every run and the cache holds.
    job.check(words, cwd=job.folder, env=job.environment(tools, MYPYPATH="."))
    return Outcome(passed=1)


def pytest(*folders: str, without: tuple[str, ...] = (), seconds: int = 900) -> Callable[[Job], Outcome]:
    """A gate that is folders of tests, run by the system's Python with its libvirt bindings."""

    def run(job: Job) -> Outcome:
        tools = job.venv(venvs.live())
        root = job.tree()
        absent = [folder for folder in (*folders, *without) if not (root / folder).is_dir()]
        if absent:
            raise Failed(f"{', '.join(absent)} is not there.")
        report = job.folder / "report.xml"
        words = [str(tools / "python"), "-m", "pytest", "-p", "no:cacheprovider", f"--junit-xml={report}", *folders]
        words += [f"--ignore={folder}" for folder in without]
        status = job.run(words, cwd=root, env=job.environment(tools, PYTHONPATH=str(job.folder)), seconds=seconds)
        return judge(status, count([report]) if report.exists() else Outcome())

    return run


def _molecule(job: Job) -> Outcome:
    """All scenarios, on hypervisors of the lab."""
    tools = job.venv(venvs.live())
    # In the copy, as everything here: molecule empties folders that it takes for its own.
    env = job.environment(tools)
    job.check([str(tools / "molecule"), "test", "--all"], cwd=job.tree(), env=env, seconds=1200)
    return Outcome(passed=1)


def all_gates() -> list[Gate]:
    """The gates of this checkout."""
    cores = dict.fromkeys(venvs.cores())
    newest = venvs.cores()[1]

    def by_ansible_test(group: str, run: Callable[..., Callable[[Job], Outcome]]) -> list[Gate]:
        # The newest ansible-core sees every Python; what a Python does not have shows there, and once is enough.
        return [
            Gate(f"{group}-{core.version}", (group, "ansible-test"), STATIC, run(core, every_python=core == newest))
            for core in cores
        ]

    gates = [
        Gate("ruff", ("lint",), STATIC, _tool("ruff", "check", "--no-cache", ".")),
        Gate("ruff-format", ("lint",), STATIC, _tool("ruff", "format", "--no-cache", "--check", "--diff", ".")),
        Gate("yamllint", ("lint",), STATIC, _tool("yamllint", "--strict", ".")),
        Gate("headers", ("lint",), STATIC, _python(checks.headers)),
        Gate("reuse", ("lint",), STATIC, _tool("reuse", "--root", ".", "lint", "--lines")),
        Gate("contents", ("lint",), STATIC, _python(checks.contents)),
        Gate("action-group", ("lint",), STATIC, _python(checks.action_group)),
        Gate("mypy", ("lint",), STATIC, _mypy),
        Gate("changelog", ("lint",), STATIC, _changelog),
        Gate(
            "docs",
            ("lint",),
            STATIC,
            _tool("antsibull-docs", "lint-collection-docs", "--plugin-docs", "--validate-collection-refs", "all", "."),
        ),
        Gate(
            "ansible-lint", ("lint",), STATIC, _tool("ansible-lint", "--offline", "--profile", "production", "--strict")
        ),
        Gate("units", ("units", "pytest"), STATIC, pytest("tests/unit")),
        Gate("fuzz", ("units", "pytest"), STATIC, pytest("tests/fuzz")),
        Gate("hostless", ("integration", "pytest"), STATIC, pytest(*HOSTLESS)),
        Gate("lab", ("integration", "pytest"), LIVE, pytest("tests/lab", seconds=1800)),
        Gate(
            "integration",
            ("integration", "pytest"),
            LIVE,
            pytest("tests/integration", without=HOSTLESS, seconds=2400),
        ),
    ]
    if tree.has("extensions/molecule"):
        gates.append(Gate("molecule", ("integration",), LIVE, _molecule))
    gates += [
        *by_ansible_test("units", ansible_test.units),
        *by_ansible_test("sanity", ansible_test.sanity),
        Gate("build", ("build",), STATIC, ansible_test.build),
        Gate("galaxy-importer", ("build",), STATIC, ansible_test.galaxy_import),
    ]
    if tree.has("tests/browser"):
        # It has machines of its own and none of the lab's hosts. Last, when the lab has built what both run.
        gates.append(Gate("browser", ("browser", "pytest"), STATIC, pytest("tests/browser", seconds=1800)))
    return gates


def chosen(only: list[str]) -> list[Gate]:
    """The gates that the words name, each a gate or a group; all of them for no word."""
    gates = all_gates()
    known = {gate.name for gate in gates}.union(*(gate.groups for gate in gates))
    wrong = sorted(set(only) - known)
    if wrong:
        raise host.Missing(f"There is no gate {', '.join(wrong)}: choose from {', '.join(sorted(known))}.")
    return [gate for gate in gates if not only or {gate.name, *gate.groups}.intersection(only)]


def needs_lab(gates: list[Gate]) -> bool:
    """Whether one of them needs the lab's packages: libvirt, its bindings, QEMU."""
    return any({"integration", "pytest"}.intersection(gate.groups) for gate in gates)


def needs_browser(gates: list[Gate]) -> bool:
    """Whether one of them starts a browser; of the tests on real hypervisors, some do."""
    return any({"integration", "browser"}.intersection(gate.groups) for gate in gates)


def needs_root(gates: list[Gate]) -> bool:
    """Whether one of them starts hypervisors."""
    return any({"integration", "browser"}.intersection(gate.groups) for gate in gates)


def interpreter_summary() -> str:
    """One line that says what the gates run on."""
    pythons = ", ".join(f"3.{minor}" for _major, minor in sorted(host.interpreters()))
    oldest, newest = venvs.cores()
    return (
        f"Pythons found: {pythons} (this is {sys.version.split()[0]}); "
        f"ansible-core {oldest.version} on 3.{oldest.python[1]}, {newest.version} on 3.{newest.python[1]}"
    )
