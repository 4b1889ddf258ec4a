# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""noVNC as a package of dpkg, rpm and pacman, installed by each of them on a host of the lab."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.kvmops.console.tests.browser.novnc import sources
from ansible_collections.kvmops.console.tests.integration.booted import Booted

DEBIAN = "usr/share/novnc"


class Packages:
    """One package manager. What Debian has of a release is what its package of that release has in it.

    No host has more than one of them. Here each has a `place` of its own, so that all can be on one host.
    """

    place = "/"
    epoch = ""
    """How versions begin."""

    def __init__(self, booted: Booted, folder: Path) -> None:
        self._booted = booted
        self._folder = folder / type(self).__name__
        self._folder.mkdir()

    def install(self, version: str) -> None:
        """Install that version, whichever was there before."""
        raise NotImplementedError

    def remove(self) -> None:
        """Remove the package."""
        raise NotImplementedError

    def changed(self) -> set[str]:
        """The package's files that the package manager says have changed since, by their names below `place`."""
        raise NotImplementedError

    def _tree(self, version: str) -> Path:
        tree = self._folder / version
        shutil.copytree(sources.from_debian(version) / "package" / DEBIAN, f"{tree}{self.place}", symlinks=True)
        return tree

    def _names(self, pattern: str, *command: str) -> set[str]:
        """What of `place` the command has in its lines, which all have to be alike."""
        done = self._booted.run(*command, env={"LC_ALL": "C"})
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        found = [re.fullmatch(pattern % re.escape(self.place), line) for line in lines]
        assert all(found), lines
        return {match[1] for match in found if match and match[1]}


class Dpkg(Packages):
    """Debian's."""

    place = f"/{DEBIAN}"
    epoch = "1:"

    def install(self, version: str) -> None:
        """See Packages."""
        package = self._folder / f"{version}.deb"
        if not package.exists():
            tree = self._tree(version)
            sums = "".join(f"{_digest(path, 'md5')}  {path.relative_to(tree)}\n" for path in _files(tree))
            (tree / "DEBIAN").mkdir()
            (tree / "DEBIAN/md5sums").write_text(sums, encoding="utf-8")
            control = {"Package": "novnc", "Version": f"1:{version}-1", "Architecture": "all"}
            control.update({"Maintainer": "The lab <lab@localhost>", "Description": "noVNC of Debian"})
            lines = [f"{name}: {value}\n" for name, value in control.items()]
            (tree / "DEBIAN/control").write_text("".join(lines), encoding="utf-8")
            self._booted.tell("dpkg-deb", "-Znone", "--build", os.fspath(tree), os.fspath(package))
        self._booted.tell("dpkg", "--install", os.fspath(package))

    def remove(self) -> None:
        """See Packages."""
        self._booted.tell("dpkg", "--purge", "novnc")

    def changed(self) -> set[str]:
        """See Packages."""
        return self._names(r"..5.* %s/(\S+)", "dpkg", "--verify", "novnc")


_SPEC = """\
Name: novnc
Version: {version}
Release: 1
Summary: noVNC of Debian
License: MPL-2.0
BuildArch: noarch
AutoReqProv: no
%description
noVNC of Debian.
%install
cp -a {tree}/. %{{buildroot}}
%files
{place}
"""


class Rpm(Packages):
    """Fedora's, SUSE's and others'."""

    place = "/opt/novnc"

    def __init__(self, booted: Booted, folder: Path) -> None:
        super().__init__(booted, folder)
        # Debian's rpm has its database in somebody's home, where all others have it in /var.
        macros = Path(f"{booted.root}/etc/rpm/macros")
        macros.parent.mkdir(exist_ok=True)
        macros.write_text("%_dbpath /var/lib/rpm\n", encoding="utf-8")
        booted.tell("rpm", "--initdb")

    def install(self, version: str) -> None:
        """See Packages."""
        package = self._folder / f"noarch/novnc-{version}-1.noarch.rpm"
        if not package.exists():
            spec = self._folder / f"{version}.spec"
            text = _SPEC.format(version=version, tree=self._tree(version), place=self.place)
            spec.write_text(text, encoding="utf-8")
            settings = {"_topdir": self._folder, "_rpmdir": self._folder, "_binary_payload": "w1.gzdio"}
            settings["__os_install_post"] = "%{nil}"
            words = [word for name, value in settings.items() for word in ("--define", f"{name} {value}")]
            self._booted.tell("rpmbuild", "--quiet", "-bb", *words, os.fspath(spec))
        # Debian's rpm wants to be told that one knows that this is Debian.
        words = ["--force-debian", "--nodeps", "--replacepkgs", "--oldpackage", "--upgrade"]
        self._booted.tell("rpm", *words, os.fspath(package))

    def remove(self) -> None:
        """See Packages."""
        self._booted.tell("rpm", "--force-debian", "--erase", "novnc")

    def changed(self) -> set[str]:
        """See Packages."""
        return self._names(r"..5......    %s/(\S+)", "rpm", "--verify", "--nodeps", "--nomtime", "novnc")


class Pacman(Packages):
    """Arch's."""

    place = "/usr/share/webapps/novnc"

    def __init__(self, booted: Booted, folder: Path) -> None:
        super().__init__(booted, folder)
        settings = "[options]\nArchitecture = auto\nSigLevel = Never\nLocalFileSigLevel = Never\n"
        Path(f"{booted.root}/etc/pacman.conf").write_text(settings, encoding="utf-8")

    def install(self, version: str) -> None:
        """See Packages."""
        package = self._folder / f"novnc-{version}-1-any.pkg.tar"
        if not package.exists():
            tree = self._tree(version)
            with tarfile.open(package, "w") as archive:
                told = {"pkgname": "novnc", "pkgbase": "novnc", "pkgver": f"{version}-1", "arch": "any"}
                told.update({"pkgdesc": "noVNC of Debian", "builddate": "0", "packager": "the lab", "size": "0"})
                lines = [f"{name} = {value}\n" for name, value in told.items()]
                (tree / ".PKGINFO").write_text("".join(lines), encoding="utf-8")
                # mtree(5), gzipped
                lines = ["#mtree\n", *_mtree(tree)]
                (tree / ".MTREE").write_bytes(gzip.compress("".join(lines).encode(), 1))
                for name in (".PKGINFO", ".MTREE", "usr"):
                    archive.add(tree / name, name)
        self._booted.tell("pacman", "--upgrade", "--noconfirm", "--noprogressbar", os.fspath(package))

    def remove(self) -> None:
        """See Packages."""
        self._booted.tell("pacman", "--remove", "--noconfirm", "--noprogressbar", "novnc")

    def changed(self) -> set[str]:
        """See Packages."""
        # What is put back has a new time.
        line = r"warning: novnc: %s/(\S+) \((?:MD5|SHA256) checksum mismatch\)"
        other = r"|.*\((?:Modification time|Size) mismatch\)|novnc: \d+ total files, \d+ altered files?"
        return self._names(line + other, "pacman", "--query", "--check", "--check", "novnc")


def _mtree(tree: Path) -> Iterator[str]:
    """Pacman takes from it what belongs to a package."""
    for path in [tree / "usr", *sorted((tree / "usr").rglob("*"))]:
        status = path.lstat()
        if path.is_symlink():
            told = f"type=link link={os.readlink(path)}"
        elif path.is_dir():
            told = "type=dir"
        else:
            told = f"type=file size={status.st_size} md5digest={_digest(path, 'md5')} sha256digest="
            told += _digest(path, "sha256")
        common = f"uid=0 gid=0 mode={status.st_mode & 0o7777:o} time={int(status.st_mtime)}.0"
        yield f"./{path.relative_to(tree)} {common} {told}\n"


def _files(tree: Path) -> Iterator[Path]:
    return (path for path in sorted(tree.rglob("*")) if path.is_file() and not path.is_symlink())


def _digest(path: Path, kind: str) -> str:
    return hashlib.new(kind, path.read_bytes()).hexdigest()


def managers(booted: Booted, folder: Path) -> list[Packages]:
    """dpkg, and those others that this machine's distribution has packages of."""
    others = sources.package_managers()
    packages = [os.fspath(path) for paths in others.values() for path in paths]
    if packages:
        # Libraries lie where they are found without triggers.
        booted.tell("dpkg", "--install", "--no-triggers", "--force-unsafe-io", *packages)
    kinds = {"rpm": Rpm, "pacman-package-manager": Pacman}
    return [Dpkg(booted, folder), *(kinds[name](booted, folder) for name in others)]
