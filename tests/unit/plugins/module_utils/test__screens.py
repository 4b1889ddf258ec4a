# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The store: sharing, whole files, history, waiting."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import threading
from pathlib import Path

import pytest

from ansible_collections.kvmops.console.plugins.module_utils import _image, _screen_reading, _screens
from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError, ImageError
from ansible_collections.kvmops.console.plugins.module_utils._image import Flat, Picture, Rectangle
from ansible_collections.kvmops.console.plugins.module_utils._screen_reading import GLANCE, READ, RECOGNIZED, Reading
from ansible_collections.kvmops.console.plugins.module_utils._screens import (
    History,
    Options,
    Screen,
    Shot,
    Wait,
    WaitFailed,
    shoot,
)

pytest.importorskip("PIL", reason="pictures need Pillow")


def plain(colour: int) -> Picture:
    return Picture(4, 2, bytes((colour, 0, 0)) * 8)


class Camera:
    """Takes the pictures that it was given, one after the other, and the last one for ever."""

    def __init__(self, *pictures: Picture) -> None:
        self.pictures = list(pictures)
        self.taken = 0

    def take(self) -> Shot:
        self.taken += 1
        return Shot(self.pictures.pop(0) if len(self.pictures) > 1 else self.pictures[0], "vnc", None, 4.0)

    def screen(self, name: str = "guest", head: int = 0, masks: tuple[Rectangle, ...] = ()) -> Screen:
        return Screen(f"key-{head}", name, head, self.take, masks)


@pytest.fixture
def options(tmp_path: Path) -> Options:
    return Options(str(tmp_path / "store"))


def test_a_picture_is_a_file_that_its_record_tells_of(options: Options) -> None:
    record = shoot(Camera(plain(7)).screen(), options)
    data = Path(record["path"]).read_bytes()
    assert record["path"] == f"{options.folder}/key-0/latest.png"
    assert record["sha256"] == hashlib.sha256(data).hexdigest()
    assert _image.decode(data) == plain(7)
    assert (record["width"], record["height"], record["head"]) == (4, 2, 0)
    assert (record["cached"], record["capture"], record["blocked_ms"]) == (False, "vnc", 4.0)
    assert (record["changed_since_last"], record["text"], record["thumbnail_path"]) == (None, None, None)
    assert "content" not in record
    assert os.stat(options.folder).st_mode & 0o777 == 0o700


def test_a_png_of_the_source_is_kept_as_it_is(options: Options) -> None:
    png = _image.encode_png(plain(7))
    screen = Screen("key", "guest", 0, lambda: Shot(plain(7), "screendump", png))
    assert Path(shoot(screen, options)["path"]).read_bytes() == png


def test_max_age_decides_who_shares(options: Options) -> None:
    camera = Camera(plain(1), plain(2))
    first = shoot(camera.screen(), options)
    shared = shoot(camera.screen(), options._replace(max_age=600))
    assert (shared["cached"], shared["sha256"], camera.taken) == (True, first["sha256"], 1)
    fresh = shoot(camera.screen(), options)
    assert (fresh["cached"], fresh["changed_since_last"], camera.taken) == (False, True, 2)
    assert shoot(camera.screen(), options)["changed_since_last"] is False


def test_who_comes_while_a_picture_is_taken_shares_it(options: Options) -> None:
    taking, go_on = threading.Event(), threading.Event()
    calls = []

    def take() -> Shot:
        calls.append(1)
        taking.set()
        assert go_on.wait(20)
        return Shot(plain(1), "vnc")

    screen = Screen("key", "guest", 0, take)
    records = []
    threads = [threading.Thread(target=lambda: records.append(shoot(screen, options))) for _turn in range(5)]
    threads[0].start()
    assert taking.wait(20)
    for thread in threads[1:]:
        thread.start()
    go_on.set()
    for thread in threads:
        thread.join(30)
    assert sorted(record["cached"] for record in records)[0] is False
    assert sum(calls) < 5


def test_a_screen_that_is_counted_in_two_ways_is_shared(options: Options) -> None:
    camera = Camera(plain(1))
    shoot(camera.screen(head=0), options)
    other = camera.screen(head=0)._replace(head=2)
    record = shoot(other, options._replace(max_age=600))
    assert (record["head"], record["cached"]) == (2, True)


@pytest.mark.parametrize("damage", ["png", "json", "format", "reading"])
def test_a_damaged_picture_is_not_shared(options: Options, damage: str) -> None:
    camera = Camera(plain(1))
    shoot(camera.screen(), options)
    folder = Path(options.folder, "key-0")
    if damage == "png":
        (folder / "latest.png").write_bytes(b"")
    elif damage == "json":
        (folder / "latest.json").write_text("{")
    else:
        record = json.loads((folder / "latest.json").read_text())
        (folder / "latest.json").write_text(json.dumps({**record, damage: 0}))
    assert shoot(camera.screen(), options._replace(max_age=600))["cached"] is False
    assert camera.taken == 2


def test_a_capture_that_fails_leaves_the_last_picture(options: Options) -> None:
    first = shoot(Camera(plain(1)).screen(), options)

    def fail() -> Shot:
        raise ImageError("The picture is cut off.")

    with pytest.raises(ConsoleError, match=r"^The picture is cut off\.$"):
        shoot(Screen("key-0", "guest", 0, fail), options)
    assert hashlib.sha256(Path(first["path"]).read_bytes()).hexdigest() == first["sha256"]


def test_masks_are_in_the_file_and_in_nothing_else(options: Options) -> None:
    png = _image.encode_png(plain(9))
    mask = Rectangle(0, 0, 4, 1)
    record = shoot(Screen("key", "guest", 0, lambda: Shot(plain(9), "screendump", png), (mask,)), options)
    shown = _image.decode(Path(record["path"]).read_bytes())
    assert shown == _image.mask(plain(9), [mask])
    assert shown.rgb[:12] != plain(9).rgb[:12]


def test_dest_has_names_for_people(options: Options, tmp_path: Path) -> None:
    dest = str(tmp_path / "dest")
    first = shoot(Camera(plain(1)).screen("web-1"), options._replace(dest=dest, thumbnail=2))
    second = shoot(Camera(plain(2)).screen("../../etc/cron.d/x", head=1), options._replace(dest=dest))
    assert (first["path"], first["thumbnail_path"]) == (f"{dest}/web-1.png", f"{dest}/web-1~thumbnail.png")
    assert _image.check_png(Path(first["thumbnail_path"]).read_bytes())[0] == 2
    assert os.path.dirname(second["path"]) == dest
    assert second["path"].endswith("~1.png")
    assert len(os.listdir(dest)) == 3


def test_the_history_keeps_what_changed_and_so_many(options: Options) -> None:
    camera = Camera(plain(1), plain(1), plain(2), plain(3), plain(4))
    options = options._replace(history=History(keep=2))
    for _turn in range(5):
        shoot(camera.screen(), options)
    past = sorted(Path(options.folder, "key-0", "history").iterdir())
    assert [_image.decode(path.read_bytes()) for path in past] == [plain(3), plain(4)]


def test_the_history_keeps_all_where_that_is_asked(options: Options) -> None:
    camera = Camera(plain(1))
    for _turn in range(3):
        shoot(camera.screen(), options._replace(history=History(keep=9, drop_identical=False)))
    assert len(os.listdir(Path(options.folder, "key-0", "history"))) == 3


def test_the_history_lets_go_of_what_is_too_old(options: Options) -> None:
    camera = Camera(plain(1), plain(2))
    options = options._replace(history=History(keep=9, keep_for=60))
    shoot(camera.screen(), options)
    (old,) = Path(options.folder, "key-0", "history").iterdir()
    os.utime(old, (1, 1))
    shoot(camera.screen(), options)
    assert not old.exists()
    assert len(os.listdir(old.parent)) == 1


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_screens, "PAUSE", 0.0)


def test_waiting_for_a_change(options: Options, at_once: None) -> None:
    camera = Camera(plain(1), plain(1), plain(1), plain(2))
    record = shoot(camera.screen(), options._replace(wait=Wait(30, changed=True)))
    assert camera.taken == 4
    assert _image.decode(Path(record["path"]).read_bytes()) == plain(2)


def test_waiting_for_a_picture(options: Options, at_once: None) -> None:
    camera = Camera(plain(1), plain(250))
    shoot(camera.screen(), options._replace(wait=Wait(30, image=plain(250))))
    assert camera.taken == 2


def test_a_wait_in_vain_has_the_last_picture(options: Options, at_once: None) -> None:
    with pytest.raises(WaitFailed) as caught:
        shoot(Camera(plain(1)).screen(), options._replace(wait=Wait(0, changed=True)))
    assert str(caught.value) == "The screen of guest did not change within 0 s."
    assert Path(caught.value.record["path"]).exists()


def test_an_enclosed_picture_is_the_file(options: Options) -> None:
    record = shoot(Camera(plain(1)).screen(), options._replace(enclose=True))
    assert base64.b64decode(record["content"]) == Path(record["path"]).read_bytes()


# --- What it says -----------------------------------------------------------------------------------------------------


class Reader:
    """Stands in for the reading of screens: notes how thoroughly it was asked for, and says what it was given."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.depths: list[int] = []
        self.text: str | None = "hello"
        self.recognized: str | None = None
        self.glance = GLANCE
        monkeypatch.setattr(_screen_reading, "read", self.read)
        monkeypatch.setattr(_screen_reading, "recognize", self.recognize)

    def read(self, picture: Picture, depth: int, few: object = None) -> Reading:
        self.depths.append(depth)
        if depth == GLANCE:
            return Reading(self.glance, None, None, None, "unknown", "a glance")
        return Reading(depth, self.text, 1.0, "glyphs", "text", "read")

    def recognize(self, picture: Picture, before: Reading, seconds: float) -> Reading:
        self.depths.append(RECOGNIZED)
        return Reading(RECOGNIZED, self.recognized, 0.5, "ocr", "graphics", "recognized")


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Reader:
    return Reader(monkeypatch)


def test_the_kind_is_told_by_a_glance_and_the_text_only_to_who_asks(options: Options, reader: Reader) -> None:
    camera = Camera(plain(1))
    record = shoot(camera.screen(), options)
    assert record["screen"] == {"kind": "unknown", "reason": "a glance"}
    assert (record["text"], record["text_confidence"], record["text_source"]) == (None, None, None)
    record = shoot(camera.screen(), options._replace(max_age=600, text=True))
    assert record["screen"] == {"kind": "text", "reason": "read"}
    assert (record["text"], record["text_confidence"], record["text_source"]) == ("hello", 1.0, "glyphs")
    assert shoot(camera.screen(), options._replace(max_age=600))["screen"]["kind"] == "text"
    assert shoot(camera.screen(), options._replace(max_age=600))["text"] is None
    assert shoot(camera.screen(), options._replace(max_age=600, text=True))["text"] == "hello"
    assert (reader.depths, camera.taken) == ([GLANCE, READ], 1)


def test_a_screen_that_shows_the_same_is_neither_encoded_nor_read_again(
    options: Options, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = Camera(plain(1), plain(1), plain(1), plain(2))
    encoded: list[Picture] = []
    real = _image.encode_png

    def encode(picture: Picture, few: Flat | None) -> bytes:
        encoded.append(picture)
        return real(picture, few)

    monkeypatch.setattr(_image, "encode_png", encode)
    records = [shoot(camera.screen(), options._replace(text=True)) for _turn in range(4)]
    assert [record["changed_since_last"] for record in records] == [None, False, False, True]
    assert [record["cached"] for record in records] == [False] * 4
    assert len({record["captured_at"] for record in records}) == 4
    assert [record["text"] for record in records] == ["hello"] * 4
    assert (encoded, reader.depths) == ([plain(1), plain(2)], [READ, READ])
    assert _image.decode(Path(records[-1]["path"]).read_bytes()) == plain(2)


def test_a_glance_at_what_shows_the_same_is_deepened(options: Options, reader: Reader) -> None:
    camera = Camera(plain(1))
    shoot(camera.screen(), options)
    assert shoot(camera.screen(), options._replace(text=True))["text"] == "hello"
    assert reader.depths == [GLANCE, READ]


def test_what_no_font_reads_is_recognized_once_and_for_those_who_ask(options: Options, reader: Reader) -> None:
    reader.text, reader.recognized = None, "File  Edit"
    ask = options._replace(max_age=600, text=True, ocr=True)
    camera = Camera(plain(1))
    record = shoot(camera.screen(), ask)
    assert (record["text"], record["text_confidence"], record["text_source"]) == ("File  Edit", 0.5, "ocr")
    assert record["screen"]["reason"] == "recognized"
    assert shoot(camera.screen(), ask)["text"] == "File  Edit"
    assert shoot(camera.screen(), ask._replace(max_age=0))["text"] == "File  Edit", "it shows the same"
    assert reader.depths == [READ, RECOGNIZED]
    record = shoot(camera.screen(), ask._replace(ocr=False))
    assert (record["text"], record["text_confidence"], record["text_source"]) == (None, None, None)


def test_exact_text_is_not_recognized(options: Options, reader: Reader) -> None:
    assert shoot(Camera(plain(1)).screen(), options._replace(text=True, ocr=True))["text_source"] == "glyphs"
    assert reader.depths == [READ]


def test_a_picture_taken_while_text_is_recognized_keeps_its_own(
    options: Options, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader.text, reader.recognized = None, "of the first"
    camera = Camera(plain(1), plain(2))
    recognize = reader.recognize

    def meanwhile(picture: Picture, before: Reading, seconds: float) -> Reading:
        assert 0 < seconds < options.timeout
        assert shoot(camera.screen(), options)["cached"] is False, "nobody waits for it"
        return recognize(picture, before, seconds)

    monkeypatch.setattr(_screen_reading, "recognize", meanwhile)
    assert shoot(camera.screen(), options._replace(text=True, ocr=True))["text"] == "of the first"
    kept = json.loads(Path(options.folder, "key-0", "latest.json").read_text())
    assert (kept["pixels"], kept["reading"]["text"]) == (_image.digest(plain(2)), None)


def test_waiting_for_a_text_that_is_recognized(options: Options, reader: Reader, at_once: None) -> None:
    reader.text, reader.recognized = None, "Welcome"
    wait = Wait(0, text="Welcome")
    with pytest.raises(WaitFailed):
        shoot(Camera(plain(1)).screen(), options._replace(wait=wait))
    assert shoot(Camera(plain(1)).screen(), options._replace(wait=wait, ocr=True))["text"] == "Welcome"
