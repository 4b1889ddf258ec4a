# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""domain_screenshot whole, on libvirt's test driver, which gives a real picture."""

from __future__ import annotations

import json
import os
import typing as t
from pathlib import Path

import pytest

libvirt = pytest.importorskip("libvirt", reason="needs libvirt's Python bindings, which only the system's Python has")
pytest.importorskip("PIL", reason="pictures need Pillow")

from ansible_collections.kvmops.console.plugins.module_utils import _image, _libvirt, _processes, _screen_ocr
from ansible_collections.kvmops.console.plugins.module_utils._run import _screen_options
from ansible_collections.kvmops.console.plugins.module_utils._run import domain_screenshot as domain_screenshot_run
from ansible_collections.kvmops.console.plugins.module_utils._screen_text import ScreenText
from ansible_collections.kvmops.console.plugins.modules import domain_screenshot
from ansible_collections.kvmops.console.tests.unit.plugins.module_utils.testdriver import (
    URI,
    Host,
    Result,
    call,
    domain,
    vnc,
)

VIDEO = "<video><model type='vga'/></video>"


Shoot = t.Callable[..., Result]


@pytest.fixture
def host() -> t.Iterator[Host]:
    host = Host()
    yield host
    host.close()


@pytest.fixture
def shoot(host: Host, tmp_path: Path) -> Shoot:
    return lambda **params: call(domain_screenshot.main, uri=URI, store=str(tmp_path / "store"), **params)


def test_one_record_a_domain(host: Host, shoot: Shoot) -> None:
    host.define(domain("web-1", VIDEO)).create()
    host.define(domain("web-2", VIDEO, number=2))
    result = shoot()
    on, off = result["domains"]
    assert (on["name"], on["state"], on["changed"]) == ("web-1", "running", False)
    (screen,) = on["screens"]
    data = Path(screen["path"]).read_bytes()
    assert _image.check_png(data) == (screen["width"], screen["height"])
    assert screen["capture"] == "screendump"
    assert (off["skipped"], off["screens"]) == ("it is off", [])
    assert result["summary"] == {"domains": 2, "screens": 1, "skipped": 1, "errors": 0}
    assert (result["changed"], result["unmatched"]) == (False, [])


def test_vnc_that_cannot_be_opened_falls_back_and_can_be_insisted_on(host: Host, shoot: Shoot) -> None:
    host.define(domain("web-1", VIDEO, vnc("yes"))).create()
    assert shoot()["domains"][0]["screens"][0]["capture"] == "screendump"
    refused = shoot(capture="vnc")
    assert refused["failed"] is True
    assert refused["domains"][0]["error"].startswith("Opening the graphics of web-1 failed: ")


def test_a_ppm_of_an_old_libvirt_becomes_a_png(host: Host, shoot: Shoot, monkeypatch: pytest.MonkeyPatch) -> None:
    host.define(domain("web-1", VIDEO)).create()
    monkeypatch.setattr(_libvirt, "screenshot", lambda *_given: b"P6\n2 1\n255\n" + bytes(range(6)))
    (screen,) = shoot()["domains"][0]["screens"]
    assert _image.decode(Path(screen["path"]).read_bytes()) == _image.Picture(2, 1, bytes(range(6)))


@pytest.mark.parametrize("data", [b"", b"P6\n2 1\n255\n\0", b"\x89PNG\r\n\x1a\n", b"P6\n30000 30000\n255\n"])
def test_what_is_no_picture_fails_its_domain_alone(
    host: Host, shoot: Shoot, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    for number, name in enumerate(("bad", "good"), start=1):
        host.define(domain(name, VIDEO, number=number)).create()
    real = _libvirt.screenshot
    monkeypatch.setattr(_libvirt, "screenshot", lambda *given: data if given[1].name == "bad" else real(*given))
    result = shoot()
    bad, good = result["domains"]
    assert bad["error"].startswith("bad: ")
    assert bad["screens"] == []
    assert len(good["screens"]) == 1
    assert result["msg"].startswith("1 of 2 domains failed: bad (")


def test_qxl_of_an_old_qemu_is_asked_twice(host: Host, shoot: Shoot, monkeypatch: pytest.MonkeyPatch) -> None:
    host.define(domain("web-1", "<video><model type='qxl'/></video>")).create()
    pictures = [b"P6\n1 1\n255\nold", b"P6\n1 1\n255\nnew"]
    monkeypatch.setattr(_libvirt, "screenshot", lambda *_given: pictures.pop(0))
    (screen,) = shoot()["domains"][0]["screens"]
    assert _image.decode(Path(screen["path"]).read_bytes()).rgb == b"new"
    pictures += [_image.encode_png(_image.Picture(1, 1, rgb)) for rgb in (b"png", b"nnn")]
    (screen,) = shoot()["domains"][0]["screens"]
    assert _image.decode(Path(screen["path"]).read_bytes()).rgb == b"png"
    assert len(pictures) == 1, "a QEMU that makes PNGs is asked once"


def test_all_heads(host: Host, shoot: Shoot) -> None:
    host.define(domain("web-1", "<video><model type='virtio' heads='2'/></video>")).create()
    screens = shoot(head="all")["domains"][0]["screens"]
    assert [screen["head"] for screen in screens] == [0, 1]
    assert screens[0]["path"] != screens[1]["path"]


def test_the_pointer_is_only_moved_over_vnc(host: Host, shoot: Shoot) -> None:
    host.define(domain("web-1", VIDEO)).create()
    assert shoot(wake="pointer")["domains"][0]["error"].startswith("web-1: the pointer can only be moved over VNC")


def test_an_owner_of_the_host_who_forbids_pictures(
    host: Host, shoot: Shoot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    host.define(domain("web-1", VIDEO)).create()
    file = tmp_path / "screens.json"
    monkeypatch.setattr(_screen_options, "PRIVACY_FILE", str(file))
    for text, allowed in (
        ('{"capture": true}', True),
        ("{}", True),
        ('{"capture": false}', False),
        ("nonsense", False),
    ):
        file.write_text(text)
        assert ("skipped" not in shoot()["domains"][0]) is allowed, text


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        ({"timeout": 0}, "timeout is more than 0, not 0."),
        ({"concurrency": -1}, "concurrency is more than 0, not -1."),
        ({"thumbnail": 0}, "thumbnail is more than 0, not 0."),
        ({"max_age": -5}, "max_age is a number of seconds, not -5: use 0 for a new picture."),
        ({"wait_for": {"text": "("}}, "wait_for.text is no regular expression: missing ), unterminated subpattern"),
    ],
)
def test_options_that_cannot_be_meant(shoot: Shoot, params: Result, sentence: str) -> None:
    assert shoot(**params)["msg"].startswith(sentence)


def test_a_picture_to_take_home_is_enclosed_and_no_other(host: Host, shoot: Shoot) -> None:
    host.define(domain("web-1", VIDEO)).create()
    assert "content" in shoot(fetch_to="pictures")["domains"][0]["screens"][0]
    assert "content" not in json.dumps(shoot()["domains"])


def test_text_recognition_implies_text_and_needs_no_tesseract(
    host: Host, shoot: Shoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.define(domain("web-1", VIDEO)).create()
    monkeypatch.setattr(_screen_ocr, "is_installed", lambda: False)
    monkeypatch.setattr(_screen_ocr, "ocr", lambda picture, seconds: None)
    result = shoot(ocr=True)
    assert result["domains"][0]["screens"][0]["text"] is None
    (warning,) = result["warnings"]
    assert "this host has no Tesseract: install tesseract-ocr (Debian" in warning
    monkeypatch.setattr(_screen_ocr, "is_installed", lambda: True)
    monkeypatch.setattr(_screen_ocr, "ocr", lambda picture, seconds: ScreenText(["Log in"], 2, 1))
    result = shoot(ocr=True)
    (screen,) = result["domains"][0]["screens"]
    assert (screen["text"], screen["text_confidence"], screen["text_source"]) == ("Log in", 0.5, "ocr")
    assert result["warnings"] == []


def test_many_domains_are_dealt_out_to_processes(host: Host, shoot: Shoot, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(6):
        host.define(domain(f"web-{number}", VIDEO, number=number + 1)).create()
    host.define(domain("off", VIDEO, number=9))
    monkeypatch.setattr(domain_screenshot_run, "A_PROCESS", 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2})
    used: set[int] = set()

    def watched(items: t.Any, processes: int, *how: t.Any) -> t.Any:
        used.add(processes)
        return _processes.deal_out(items, processes, *how)

    monkeypatch.setattr(domain_screenshot_run, "deal_out", watched)
    result = shoot()
    assert used == {3}
    assert [record["name"] for record in result["domains"]] == ["off", *(f"web-{number}" for number in range(6))]
    assert [len(record["screens"]) for record in result["domains"]] == [0, 1, 1, 1, 1, 1, 1]
    assert all(Path(record["screens"][0]["path"]).exists() for record in result["domains"][1:])
    assert {record["screens"][0]["cached"] for record in result["domains"][1:]} == {False}
    assert shoot(head="3")["summary"]["errors"] == 6
