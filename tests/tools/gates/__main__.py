# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""make's targets: sees to what they need, then runs them."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys

from . import catalogue, checks, host, runner, tree, venvs
from .gate import bare_environment


def _packages(*, lab: bool, browser: bool = False) -> None:
    browser = browser and tree.has("tests/browser")
    host.install(
        (*host.TOOL_PACKAGES, *(host.lab_packages() if lab else ()), *(host.browser_packages() if browser else ()))
    )


def setup() -> int:
    """Everything that demo and test need."""
    host.require("make setup", root=True)
    _packages(lab=True, browser=True)
    host.say(catalogue.interpreter_summary())
    oldest, newest = venvs.cores()
    environments = [venvs.live(), venvs.lint(), venvs.galaxy(), venvs.core(oldest), venvs.core(newest)]
    environments += [venvs.target(version) for version in host.interpreters()]
    for environment in environments:
        venvs.make(environment)
    return 0


def test(words: list[str]) -> int:
    """The gates that the words name."""
    only = [word for part in words for word in part.split(",") if word]
    what = f"make test ONLY={','.join(only)}" if only else "make test"
    host.require(what, root=not only)
    _packages(lab=False)
    gates = catalogue.chosen(only)
    host.require(what, root=catalogue.needs_root(gates))
    if catalogue.needs_lab(gates):
        _packages(lab=True, browser=catalogue.needs_browser(gates))
    host.say(catalogue.interpreter_summary())
    return 0 if runner.run(gates) else 1


def _live(what: str, script: str, *words: str, browser: bool = False) -> int:
    """Run a program of the repository, a file or a package, with Ansible, libvirt's bindings and the collection."""
    host.require(what, root=True)
    _packages(lab=True, browser=browser)
    tools = venvs.make(venvs.live()) / "bin"
    base = tree.kept()
    root = base / "ansible_collections" / tree.NAMESPACE / tree.NAME
    if not (root / script).exists():
        raise host.Missing(f"{script} is not in this checkout.")
    env = bare_environment(base, tools)
    env.update(PYTHONPATH=str(base), KVMOPS_REPOSITORY=str(host.REPOSITORY))
    command = [str(tools / "python"), str(root / script), *words]
    return subprocess.run(command, cwd=root, env=env, stdin=subprocess.DEVNULL, check=False).returncode


def fuzz(words: list[str]) -> int:
    """Look for new ways through the proxy's protocol, from where the last time ended."""
    host.require("make fuzz", root=False)
    _packages(lab=False)
    tools = venvs.make(venvs.fuzz()) / "bin"
    base = tree.kept()
    corpus = host.cache() / "fuzz-corpus"
    corpus.mkdir(exist_ok=True)
    script = base / "ansible_collections" / tree.NAMESPACE / tree.NAME / "tests/fuzz/atheris_proxy.py"
    env = bare_environment(base, tools)
    env.update(PYTHONPATH=str(base))
    # What it finds is written into its folder, which is not to be the repository.
    command = [str(tools / "python"), str(script), str(corpus), f"-artifact_prefix={corpus.parent}/fuzz-", *words]
    return subprocess.run(command, cwd=base, env=env, stdin=subprocess.DEVNULL, check=False).returncode


def docs() -> int:
    """Rewrite the generated parts."""
    readme = host.REPOSITORY / "README.md"
    readme.write_text(checks.with_contents(host.REPOSITORY), encoding="utf-8")
    # It reads YAML, which the Python that runs this may not.
    command = [str(venvs.make(venvs.lint()) / "bin/python"), "-B", str(host.REPOSITORY / "tests/tools/surveys.py")]
    return subprocess.run(command, check=False).returncode


def clean() -> int:
    """Remove the cache."""
    host.remove_cache()
    return 0


def main() -> int:
    """One target of the Makefile; returns its exit status."""
    parser = argparse.ArgumentParser(prog="gates", description=__doc__)
    parser.add_argument("target", choices=["setup", "demo", "test", "bench", "fuzz", "docs", "lab-down", "clean"])
    parser.add_argument("words", nargs="*")
    given = parser.parse_args()
    targets = {
        "setup": setup,
        "demo": lambda: _live("make demo", "tests/tools/demo.py", *given.words),
        "test": lambda: test(given.words),
        "bench": lambda: _live("make bench", "tests/bench/run.py", *given.words, browser=True),
        "fuzz": lambda: fuzz([f"-{word}" for word in given.words]),
        "lab-down": lambda: _live("make lab-down", "tests/lab/kvmlab", "down", "--all"),
        "docs": docs,
        "clean": clean,
    }
    try:
        return targets[given.target]()
    except host.Missing as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    os.umask(0o022)
    # Whoever ends us means all that we started, too: gates run in sessions of their own.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
