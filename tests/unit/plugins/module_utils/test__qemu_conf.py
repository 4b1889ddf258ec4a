# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is read of qemu.conf: where it is, and what counts as set."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _qemu_conf
from ansible_collections.kvmops.console.plugins.module_utils._qemu_conf import VncDefaults, parse, read


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", VncDefaults()),
        ("vnc_tls = 1", VncDefaults(tls=True)),
        ("vnc_tls=1\nvnc_sasl=1\n", VncDefaults(tls=True, sasl=True)),
        ("  vnc_tls\t= 0\n", VncDefaults()),
        ("#vnc_tls = 1\n# vnc_sasl = 1", VncDefaults()),
        ('vnc_password = "XYZ12345"', VncDefaults(password=True)),
        ('vnc_password = ""', VncDefaults()),
        ('vnc_listen = "0.0.0.0"\nvnc_tls_x509_verify = 1', VncDefaults(listen="0.0.0.0")),
        ('vnc_listen = ""', VncDefaults()),
        ('spice_tls = 1\nspice_password = "x"', VncDefaults()),
        ("vnc_tls = 1\nvnc_tls = 0", VncDefaults()),
        ("vnc_tls = yes", VncDefaults()),
    ],
)
def test_parse(text: str, expected: VncDefaults) -> None:
    assert parse(text) == expected


def test_the_password_is_not_kept() -> None:
    assert "s3cret" not in repr(parse('vnc_password = "s3cret"'))


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of a session's qemu.conf."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    path = tmp_path / "libvirt/qemu.conf"
    path.parent.mkdir()
    return path


def test_a_session_has_its_own(session: Path) -> None:
    session.write_bytes(b'# \xff\nvnc_listen = "10.0.0.1"\n')
    assert read("qemu:///session") == VncDefaults(listen="10.0.0.1")
    assert read("qemu+unix:///session") == VncDefaults(listen="10.0.0.1")


def test_a_session_without_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    path = tmp_path / ".config/libvirt/qemu.conf"
    path.parent.mkdir(parents=True)
    path.write_text("vnc_sasl = 1\n", encoding="utf-8")
    assert read("qemu:///session") == VncDefaults(sasl=True)


def test_without_a_file_libvirts_own_defaults_hold(session: Path) -> None:
    assert not session.exists()
    assert read("qemu:///session") == VncDefaults()


def test_the_systems_file_is_for_all_others(session: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session.write_text("vnc_tls = 1\n", encoding="utf-8")
    opened = []

    def refuse(path: str, **_options: str) -> None:
        opened.append(path)
        raise PermissionError

    monkeypatch.setattr(_qemu_conf, "open", refuse, raising=False)
    assert read("qemu:///system") == VncDefaults(seen=False), "nobody takes libvirt's defaults for what it says"
    assert opened == ["/etc/libvirt/qemu.conf"]


def test_another_machines_file_is_not_this_ones(session: Path) -> None:
    session.write_text("vnc_tls = 1\n", encoding="utf-8")
    assert read("qemu+ssh://elsewhere/session") == VncDefaults(seen=False)
