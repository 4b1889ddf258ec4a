# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""ansible-test without its downloads, and the tarball: built, installed, read, imported."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from . import host, tree, venvs
from .gate import Failed, Job, Outcome, count, judge

# ansible-test downloads this script from its servers unless it lies in its cache, and hands it the pip, setuptools and
# wheel of some day to install; the pip that comes with Python does, and saves three downloads an environment.
GET_PIP = """\
import subprocess
import sys

# In a child, for ensurepip switches pip's configuration off in its own process.
sys.exit(subprocess.call([sys.executable, "-m", "ensurepip", "--default-pip"]))
"""
GET_PIP_VERSIONS = ("23_1_2", "24_2", "25_2")
"""The names that ansible-core 2.17, 2.18 and 2.19, 2.20 and up look for."""

RUN_TIME_PARTS = ("meta", "plugins", "roles", "playbooks")
"""What a collection may rely on once it is installed."""
INSTALLED_FILES = ("MANIFEST.json", "FILES.json")

FORBIDDEN = (".ci", ".github", "Makefile", "pyproject.toml", ".gitignore")
"""What must not be in the tarball."""
TESTS = ("config.yml", "sanity")
"""What of tests belongs into it: ansible-test reads these wherever it checks the collection."""


def _keep_pip_settings(python: Path) -> None:
    """This machine's settings for pip, as a pip.conf: ansible-test drops those of the environment, and HOME is ours."""
    listed = subprocess.run(
        [str(python), "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout.splitlines()
    settings = configparser.RawConfigParser()
    settings["global"] = {}
    for line in listed:
        name, equals, value = line.partition("=")
        section, _dot, option = name.strip().strip(":").rpartition(".")
        if equals and section.strip(":") in ("global", "env", "install", "user", "site"):
            settings["global"][option] = value.strip().strip("'").replace("\\n", "\n")
    folder = host.cache() / "home/.config/pip"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "pip.conf"
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as handle:
        settings.write(handle)


def _prepare(job: Job, core: venvs.Core) -> tuple[Path, Path]:
    tools = job.venv(venvs.core(core))
    env = job.environment(tools)
    _keep_pip_settings(tools / "python")
    folder = Path(env["HOME"]) / ".ansible/test/cache"
    folder.mkdir(parents=True, exist_ok=True)
    for version in GET_PIP_VERSIONS:
        (folder / f"get_pip_{version}.py").write_text(GET_PIP, encoding="utf-8")
    return tools, job.tree()


def _leave_out_what_is_not_published(root: Path) -> None:
    for path in (root / "tests").iterdir():
        if path.name not in TESTS:
            shutil.rmtree(path)


def sanity(core: venvs.Core, *, every_python: bool) -> Callable[[Job], Outcome]:
    """All sanity tests: over all files and on every Python found; or over those that are published, on the core's own
    Python alone.
    """

    def run(job: Job) -> Outcome:
        tools, root = _prepare(job, core)
        if not every_python:
            _leave_out_what_is_not_published(root)
        words = [str(tools / "ansible-test"), "sanity", "--local", "--color", "no"]
        pythons = [Path(path).parent for path in host.interpreters().values()]
        if not every_python:
            words += ["--python", ".".join(map(str, core.python))]
        with host.lock("ansible-test-home"):
            job.check(words, cwd=root, env=job.environment(tools, *pythons), seconds=1200)
        return Outcome(passed=1)

    return run


def _leave_out_what_needs_libvirt(root: Path) -> None:
    """The Pythons of ansible-test have no libvirt bindings; the system's has, and the gate "units" runs these tests."""
    for path in (root / "tests/unit").rglob("test_*.py"):
        if 'importorskip("libvirt"' in path.read_text(encoding="utf-8"):
            path.unlink()


def _pythons(core: venvs.Core, every_python: bool) -> list[tuple[int, int]]:
    """The core's own Python; and those of managed hosts found here on which no other gate runs these tests."""
    if not every_python:
        return [core.python]
    others = {venvs.system_python(), venvs.cores()[0].python} - {core.python}
    return [version for version in sorted(host.interpreters()) if version not in others]


def _streams(job: Job, root: Path, version: tuple[int, int]) -> int:
    """The long streams of the proxy, which runs on such hosts too; ansible-test has roles on controllers' Pythons only.

    How Python keeps buffers changes from one version to the next, and these tests see it.
    """
    name = ".".join(map(str, version))
    words = [str(job.venv(venvs.target(version)) / "python"), "-B", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    words += [f"--junit-xml=tests/output/junit/python{name}-streams.xml"]
    words += ["tests/unit/roles/vnc_proxy/test_session_streams.py"]
    return job.run(words, cwd=root, env=job.environment(PYTHONPATH=str(job.folder)))


def units(core: venvs.Core, *, every_python: bool) -> Callable[[Job], Outcome]:
    """The unit tests as ansible-test runs them: with the core's own Python, or with all that are left to it."""

    def run(job: Job) -> Outcome:
        tools, root = _prepare(job, core)
        _leave_out_what_needs_libvirt(root)
        worst = 0
        for version in _pythons(core, every_python):
            target = [job.venv(venvs.target(version))] if version != core.python else []
            words = [str(tools / "ansible-test"), "units", "--local", "--color", "no"]
            words += ["--python", ".".join(map(str, version))]
            worst = max(worst, job.run(words, cwd=root, env=job.environment(tools, *target)))
            if version < venvs.oldest_python(core):
                worst = max(worst, _streams(job, root, version))
        return judge(worst, count(sorted((root / "tests/output/junit").glob("*.xml"))))

    return run


def _build(job: Job, tools: Path) -> Path:
    output = job.folder / "tarball"
    words = [str(tools / "ansible-galaxy"), "collection", "build", "--output-path", str(output)]
    job.check(words, cwd=job.tree(), env=job.environment(tools))
    tarballs = list(output.glob(f"{tree.NAMESPACE}-{tree.NAME}-*.tar.gz"))
    if len(tarballs) != 1:
        raise Failed(f"ansible-galaxy made {len(tarballs)} tarballs instead of one.")
    return tarballs[0]


def _plugins(root: Path) -> dict[str, list[str]]:
    """ansible-doc's types, each with the names of what the collection has of it."""
    modules = sorted(path.stem for path in (root / "plugins/modules").glob("*.py") if path.stem != "__init__")
    roles = sorted(path.parents[1].name for path in (root / "roles").glob("*/meta/argument_specs.yml"))
    return {"module": modules, "role": roles}


def build(job: Job) -> Outcome:
    """Build the tarball, install it into an empty place with no server, and use it from there.

    Everything that a collection may not rely on is removed first; then every module's and role's documentation has to
    load, and every playbook has to parse.
    """
    tools = job.venv(venvs.core(venvs.cores()[1]))
    tarball = _build(job, tools)
    empty = job.folder / "installed"
    env = job.environment(tools, ANSIBLE_COLLECTIONS_PATH=str(empty))
    install = [str(tools / "ansible-galaxy"), "collection", "install", "--offline", "-p", str(empty), str(tarball)]
    job.check(install, cwd=job.folder, env=env)
    root = empty / "ansible_collections" / tree.NAMESPACE / tree.NAME
    unwanted = [name for name in FORBIDDEN if (root / name).exists()]
    unwanted += [f"tests/{path.name}" for path in sorted((root / "tests").glob("*")) if path.name not in TESTS]
    if unwanted:
        raise Failed(f"The tarball contains {', '.join(unwanted)}: add them to build_ignore in galaxy.yml.")
    for path in root.iterdir():
        if path.name in (*RUN_TIME_PARTS, *INSTALLED_FILES):
            continue
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    dotted = f"{tree.NAMESPACE}.{tree.NAME}."
    plugins = _plugins(root)
    if not plugins["module"]:
        raise Failed("The installed collection has no module.")
    for kind, names in plugins.items():
        if names:
            full = [dotted + name for name in names]
            job.check([str(tools / "ansible-doc"), "--json", "--type", kind, *full], cwd=job.folder, env=env)
    for playbook in sorted((root / "playbooks").glob("*.yml")):
        words = [str(tools / "ansible-playbook"), "--syntax-check", "-i", "localhost,", dotted + playbook.stem]
        job.check(words, cwd=job.folder, env=env)
    return Outcome(passed=1)


def galaxy_import(job: Job) -> Outcome:
    """What Galaxy does with an upload: it may not find an error.

    But for its ansible-lint, whose findings are none to it: the gate "ansible-lint" runs the same one over these files
    and more, with more rules, and may not find anything.
    """
    tools = job.venv(venvs.galaxy())
    tarball = _build(job, tools)
    settings = job.folder / "galaxy-importer.cfg"
    settings.write_text(
        "[galaxy-importer]\nCHECK_REQUIRED_TAGS=True\nREQUIRE_V1_OR_GREATER=True\nRUN_ANSIBLE_LINT=False\n"
        "RUN_ANSIBLE_TEST=False\n",
        encoding="utf-8",
    )
    env = job.environment(tools, GALAXY_IMPORTER_CONFIG=str(settings))
    job.check([str(tools / "python"), "-m", "galaxy_importer.main", str(tarball)], cwd=job.folder, env=env)
    # It ends well after some of its errors.
    errors = [line for line in job.log.read_text(encoding="utf-8").splitlines() if line.startswith("ERROR")]
    if errors:
        raise Failed(f"galaxy-importer reports {len(errors)} error(s).")
    return Outcome(passed=1)
