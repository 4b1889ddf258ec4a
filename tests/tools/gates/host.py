# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the project asks of this machine: the system, packages, interpreters, and a folder outside the repository."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[3]

TOOL_PACKAGES = ("git", "python3-venv")
LAB_PACKAGES = (
    "libvirt-daemon",
    "libvirt-daemon-driver-qemu",
    "libvirt-clients",
    "qemu-system-x86",
    "qemu-utils",
    "python3-libvirt",
    "python3-lxml",
    "python3-pil",
    "python3-requests",
    "openssh-server",
    "openssh-client",
    "iproute2",
    "procps",
    "systemd",
    "util-linux",
    "shellcheck",
)
BROWSER_PACKAGES = ("chromium", "gvncviewer", "xvfb", "xdotool")


POLKIT_PACKAGES = ("dbus", "polkitd")
OLD_POLKIT = ("bullseye", "focal", "jammy")
"""Distributions whose polkit reads no rules in JavaScript."""
SPICE_PACKAGES = ("qemu-system-modules-spice",)
SPICE_APART = ("trixie", "forky")
"""Distributions whose QEMU has SPICE in a package of its own, which nothing else asks for."""


def lab_packages(system: Path = Path("/etc/os-release")) -> tuple[str, ...]:
    """What the tests on real hypervisors need."""
    told = system.read_text(encoding="utf-8").splitlines()
    old = any(f"VERSION_CODENAME={name}" in told for name in OLD_POLKIT)
    apart = any(f"VERSION_CODENAME={name}" in told for name in SPICE_APART)
    return (*LAB_PACKAGES, *(() if old else POLKIT_PACKAGES), *(SPICE_PACKAGES if apart else ()))


def browser_packages() -> tuple[str, ...]:
    """What the tests in a browser need; npm comes with some packages of Node.js, which conflict with Debian's own."""
    return BROWSER_PACKAGES if shutil.which("npm") else (*BROWSER_PACKAGES, "npm")


CACHE_TAG = "CACHEDIR.TAG"

POLICY = Path("/usr/sbin/policy-rc.d")
PYTHON_PROBE = "import sys, os, venv, ensurepip; print(*sys.version_info[:2], os.path.realpath(sys._base_executable))"


class Missing(Exception):
    """This machine lacks something; `str()` of it says what, and what to do."""


def cache() -> Path:
    """Everything that is kept between runs lies here, never in the repository."""
    named = os.environ.get("KVMOPS_CACHE")
    if named:
        folder = Path(named)
    elif os.geteuid() == 0:
        folder = Path("/var/cache/kvmops-console")
    else:
        folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kvmops-console"
    if not folder.exists():
        # QEMU runs as another user and has to reach the binaries in it.
        folder.mkdir(mode=0o755, parents=True)
        (folder / CACHE_TAG).write_text("Signature: 8a477f597d28d172789f06886806bc55\n", encoding="utf-8")
    return folder


def remove_cache() -> None:
    """Remove the cache; raise Missing when the folder is not one that we made."""
    folder = cache()
    if folder.name != "kvmops-console" and not (folder / CACHE_TAG).exists():
        raise Missing(f"{folder} was not made by these tools: remove it yourself.")
    say(f"removing {folder}")
    shutil.rmtree(folder)


def say(text: str) -> None:
    """One line of progress."""
    print(text, flush=True)


def require(what: str, *, root: bool) -> None:
    """Raise Missing, naming everything that is missing at once, unless `what` can work on this machine."""
    lacks = []
    if sys.platform == "darwin":
        lacks.append("a Linux machine (this is macOS: use a virtual machine with Debian or Ubuntu)")
    elif not sys.platform.startswith("linux"):
        lacks.append(f"a Linux machine with Debian or Ubuntu (this is {sys.platform})")
    elif not shutil.which("apt-get"):
        lacks.append("Debian or Ubuntu (there is no apt-get here)")
    if root and os.geteuid() != 0:
        lacks.append(f"root, to run a libvirt of its own (as `sudo {what}`)")
    if lacks:
        raise Missing(f"{what} needs " + ", and ".join(lacks) + ".")


def _installed(packages: tuple[str, ...]) -> set[str]:
    done = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${binary:Package} ${db:Status-Status}\n", *packages],
        capture_output=True,
        text=True,
        check=False,
    )
    rows = (line.split() for line in done.stdout.splitlines())
    return {row[0].split(":")[0] for row in rows if row[1:] == ["installed"]}


@contextlib.contextmanager
def lock(name: str) -> Iterator[None]:
    """Hold a lock of that name among all runs that share the cache."""
    folder = cache() / "locks"
    folder.mkdir(exist_ok=True)
    with open(folder / name, "w", encoding="utf-8") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _no_service_starts() -> Iterator[None]:
    """Debian's own switch: while the file is there, installing a package starts no service."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)


def _services(package: str) -> list[str]:
    listed = subprocess.run(["dpkg", "-L", package], capture_output=True, text=True, check=False).stdout.splitlines()
    units = [Path(line) for line in listed if "/systemd/system/" in line]
    return [unit.name for unit in units if unit.suffix in (".service", ".socket") and "@" not in unit.name]


def _all_installed() -> set[str]:
    done = subprocess.run(
        ["dpkg-query", "--show", "--showformat", "${binary:Package}\n"], capture_output=True, text=True, check=True
    )
    return {line.split(":")[0] for line in done.stdout.split()}


def install(packages: tuple[str, ...]) -> None:
    """Install what is missing of the packages; services that came with them neither run now nor at the next boot."""
    missing = [name for name in packages if name not in _installed(packages)]
    if not missing:
        return
    if os.geteuid() != 0:
        raise Missing(f"Packages are missing: run `sudo apt-get install {' '.join(missing)}`.")
    say(f"installing {' '.join(missing)}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]
    log = cache() / "apt.log"
    with lock("apt"), open(log, "w", encoding="utf-8") as output:
        before = _all_installed()
        with _no_service_starts():
            for step in (["update"], ["install", "--no-install-recommends", *missing]):
                done = subprocess.run(
                    [*apt, *step], stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment, check=False
                )
                # An update that fails half may still have left lists that are good enough: the install tells.
                if done.returncode and step != ["update"]:
                    raise Missing(f"apt-get could not install {' '.join(missing)}: see {log}.")
        units = [unit for package in sorted(_all_installed() - before) for unit in _services(package)]
        if units and shutil.which("systemctl"):
            subprocess.run(["systemctl", "disable", *units], stdout=output, stderr=output, check=False)


def interpreters() -> dict[tuple[int, int], str]:
    """The Pythons that run here and can make environments: {(3, 12): path}; found by running them.

    KVMOPS_PYTHON_DIRS (folders, colon between them) narrows the search.
    """
    named = os.environ.get("KVMOPS_PYTHON_DIRS")
    if named:
        folders = [Path(part) for part in named.split(":")]
    else:
        pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
        uv = Path.home() / ".local/share/uv/python"
        folders = [Path("/usr/bin"), Path("/usr/local/bin"), *pyenv.glob("versions/3.*/bin"), *uv.glob("*/bin")]
        folders += [Path(part) for part in os.environ.get("PATH", "").split(":") if part]
    found: dict[tuple[int, int], str] = {}
    for minor in range(9, 20):
        for folder in dict.fromkeys(folders):
            candidate = folder / f"python3.{minor}"
            if (3, minor) in found or not os.access(candidate, os.X_OK):
                continue
            done = subprocess.run([candidate, "-c", PYTHON_PROBE], capture_output=True, text=True, check=False)
            words = done.stdout.split()
            if done.returncode == 0 and words[:2] == ["3", str(minor)]:
                found[3, minor] = words[2]
    if not found:
        raise Missing("No Python here can make virtual environments: run `sudo apt-get install python3-venv`.")
    return found
