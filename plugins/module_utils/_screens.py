# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Pictures of screens on the host: one capture shared by all who ask, kept whole, with a history.

Private to this collection.

Every screen has a folder of its own in the store (mode 0700: a console may show secrets):

    lock          held while a picture is taken; callers who come meanwhile wait, and share it
    ocr           held while its text is recognized, which takes seconds: pictures can be taken meanwhile
    latest.png    the last picture
    latest.json   what is known of it
    history/      earlier ones, named by their time
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import threading
import time
import typing as t
from datetime import datetime, timezone

from ansible_collections.kvmops.console.plugins.module_utils import _image, _screen_reading
from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError
from ansible_collections.kvmops.console.plugins.module_utils._files import (
    locked,
    private_folder,
    read_whole,
    write_whole,
)
from ansible_collections.kvmops.console.plugins.module_utils._image import Picture, Rectangle
from ansible_collections.kvmops.console.plugins.module_utils._picture_names import file_stem
from ansible_collections.kvmops.console.plugins.module_utils._screen_reading import (
    GLANCE,
    OCR,
    READ,
    RECOGNIZED,
    Reading,
)

Record = dict[str, t.Any]

FORMAT = 2
"""Of latest.json; another one is as good as none."""


class Shot(t.NamedTuple):
    """What one capture gave. `png` is the source's own file, where it gave one; `blocked_ms` is None where unknown."""

    picture: Picture
    capture: str
    png: bytes | None = None
    blocked_ms: float | None = None


class Screen(t.NamedTuple):
    """One screen of one machine. `key` names its folder; `take` captures it, and may take its time."""

    key: str
    name: str
    head: int
    take: t.Callable[[], Shot]
    masks: t.Sequence[Rectangle] = ()


class History(t.NamedTuple):
    """`keep`: how many pictures (0: none). `keep_for`: seconds, None for ever. `drop_identical`: keep changes only."""

    keep: int = 0
    keep_for: float | None = None
    drop_identical: bool = True


class Wait(t.NamedTuple):
    """What to wait for; the first that is set counts. `timeout` in seconds."""

    timeout: float
    text: str | None = None
    still: float | None = None
    changed: bool = False
    image: Picture | None = None
    similarity: float = 0.98


class Options(t.NamedTuple):
    """`folder` is the store, `dest` where people look for the pictures (None: in the store). Ages are in seconds.

    `ocr`: recognize the text of screens whose characters no font has. `enclose` puts each picture into its record
    (base64), for an action plugin to take home.
    """

    folder: str
    dest: str | None = None
    max_age: float = 0.0
    thumbnail: int | None = None
    text: bool = False
    ocr: bool = False
    history: History = History()
    wait: Wait | None = None
    timeout: float = 30.0
    enclose: bool = False


class WaitFailed(ConsoleError):
    """The screen did not show in time what was waited for; `record` is of the last picture."""

    def __init__(self, sentence: str, record: Record) -> None:
        super().__init__(sentence)
        self.record = record


def shoot(screen: Screen, options: Options) -> Record:
    """The record of a picture of `screen`: a new one, or one that is young enough. Raises ConsoleError."""
    if options.wait is None:
        return _publish(screen, options, _look(screen, options, options.max_age))
    return _wait(screen, options, options.wait)


# --- One picture ------------------------------------------------------------------------------------------------------


class _Look:
    """A record, and the picture it tells of; `cached` says that it was somebody else's."""

    def __init__(self, record: Record, png: bytes, cached: bool, picture: Picture | None = None) -> None:
        self.record = record
        self.png = png
        self.cached = cached
        self._picture = picture

    @property
    def picture(self) -> Picture:
        """Few who share a picture want to see its pixels."""
        if self._picture is None:
            self._picture = _image.decode(self.png)
        return self._picture

    @property
    def reading(self) -> Reading:
        """What is known of what it says."""
        return Reading(**self.record["reading"])


def _look(screen: Screen, options: Options, max_age: float) -> _Look:
    """Take a picture, or share one that is at most `max_age` old or was taken while we waited for our turn."""
    arrived, deadline = time.time(), time.monotonic() + options.timeout
    folder = private_folder(os.path.join(private_folder(options.folder, "folder"), screen.key), "folder")
    depth = READ if options.text else GLANCE
    with locked(os.path.join(folder, "lock"), options.timeout):
        known = _known(folder)
        if known is None or known.record["epoch"] < arrived - max_age:
            look = _take(screen, folder, known, depth, options.history)
        elif known.reading.depth < depth:
            look = known
            _note(look, _screen_reading.read(look.picture, depth))
            _write_record(folder, look.record)
        else:
            look = known
    if options.text and options.ocr and look.reading.text is None and look.reading.depth < RECOGNIZED:
        _recognize(folder, look, deadline)
    return look


def _known(folder: str) -> _Look | None:
    """The last picture, where its record tells of just that file."""
    png = read_whole(os.path.join(folder, "latest.png"))
    data = read_whole(os.path.join(folder, "latest.json"))
    try:
        record = json.loads(data or b"null")
        if png is None or record["format"] != FORMAT or record["sha256"] != hashlib.sha256(png).hexdigest():
            return None
        Reading(**record["reading"])
        return _Look(record, png, True)
    except (ValueError, KeyError, TypeError):
        return None


_LOOKING = threading.Lock()
"""Who looks at pixels is alone in that: at once, threads only hold each other up, and those who hear from QEMU."""


def _take(screen: Screen, folder: str, before: _Look | None, depth: int, history: History) -> _Look:
    shot = screen.take()
    now = time.time()
    with _LOOKING:
        look = _look_at(screen, shot, before, depth, now)
    if look.png is not (before and before.png):
        write_whole(os.path.join(folder, "latest.png"), look.png)
    _write_record(folder, look.record)
    _remember(folder, look.record, look.png, history)
    return look


def _look_at(screen: Screen, shot: Shot, before: _Look | None, depth: int, now: float) -> _Look:
    picture = _image.mask(shot.picture, screen.masks) if screen.masks else shot.picture
    few = _image.flat(picture)
    digest = _image.digest(picture, few)
    changed = None if before is None else before.record["pixels"] != digest
    record: Record = {
        "format": FORMAT,
        "pixels": digest,
        "width": picture.width,
        "height": picture.height,
        "epoch": now,
        "captured_at": _iso(now),
        "since": now if before is None or changed else before.record["since"],
        "capture": shot.capture,
        "blocked_ms": shot.blocked_ms,
        "changed_since_last": changed,
    }
    if before is not None and not changed:
        # The same pixels are the same file, and say the same.
        look = _Look({**before.record, **record}, before.png, False, picture)
        if look.reading.depth < depth:
            _note(look, _screen_reading.read(picture, depth, few))
        return look
    png = shot.png if shot.png is not None and not screen.masks else _image.encode_png(picture, few)
    look = _Look({**record, "sha256": hashlib.sha256(png).hexdigest()}, png, False, picture)
    _note(look, _screen_reading.read(picture, depth, few))
    return look


def _recognize(folder: str, look: _Look, deadline: float) -> None:
    """Add what text recognition sees. Somebody else may have done that meanwhile, or have taken another picture."""
    with locked(os.path.join(folder, "ocr"), max(0.0, deadline - time.monotonic())):
        known = _known(folder)
        if known is not None and _are_alike(known, look) and known.reading.depth >= RECOGNIZED:
            _note(look, known.reading)
            return
        _note(look, _screen_reading.recognize(look.picture, look.reading, deadline - time.monotonic() - _AFTERWARDS))
        with locked(os.path.join(folder, "lock"), max(0.0, deadline - time.monotonic())):
            known = _known(folder)
            if known is not None and _are_alike(known, look):
                _note(known, look.reading)
                _write_record(folder, known.record)


_AFTERWARDS = 1.0
"""Seconds that are left of a caller's time when text recognition is ended."""


def _are_alike(one: _Look, other: _Look) -> bool:
    return bool(one.record["pixels"] == other.record["pixels"])


def _note(look: _Look, reading: Reading) -> None:
    look.record["reading"] = reading._asdict()


def _write_record(folder: str, record: Record) -> None:
    write_whole(os.path.join(folder, "latest.json"), json.dumps(record).encode())


def _iso(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _remember(folder: str, record: Record, png: bytes, history: History) -> None:
    """Keep the picture in the history, and let go of what is too old or too many."""
    if history.keep <= 0 or (history.drop_identical and record["changed_since_last"] is False):
        return
    past = private_folder(os.path.join(folder, "history"), "folder")
    stamp = datetime.fromtimestamp(record["epoch"], timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
    write_whole(os.path.join(past, f"{stamp}.png"), png)
    names = sorted(name for name in os.listdir(past) if name.endswith(".png") and not name.startswith("."))
    oldest = record["epoch"] - history.keep_for if history.keep_for is not None else 0.0
    for name in names:
        path = os.path.join(past, name)
        if len(names) - names.index(name) > history.keep or os.stat(path).st_mtime < oldest:
            os.unlink(path)


def _publish(screen: Screen, options: Options, look: _Look) -> Record:
    """The record for the result, with the picture where people look for it."""
    folder = os.path.join(options.folder, screen.key)
    path = os.path.join(folder, "latest.png")
    stem = file_stem(screen.name, screen.head)
    if options.dest is not None:
        os.makedirs(options.dest, mode=0o700, exist_ok=True)
        path = os.path.join(options.dest, f"{stem}.png")
        if read_whole(path) != look.png:
            write_whole(path, look.png)
    small = None
    if options.thumbnail:
        small = os.path.join(options.dest or folder, f"{stem}~thumbnail.png" if options.dest else "thumbnail.png")
        write_whole(small, _image.encode_png(_image.thumbnail(look.picture, options.thumbnail)))
    shown = (
        "sha256",
        "width",
        "height",
        "captured_at",
        "capture",
        "blocked_ms",
        "changed_since_last",
    )
    reading, said = look.reading, _said(look, options)
    enclosed = {"content": base64.b64encode(look.png).decode()} if options.enclose else {}
    return {
        "head": screen.head,
        **{key: look.record[key] for key in shown},
        **enclosed,
        "path": path,
        "thumbnail_path": small,
        "cached": look.cached,
        "unchanged_for": round(look.record["epoch"] - look.record["since"], 3),
        "screen": {"kind": reading.kind, "reason": reading.reason},
        "text": said.text if said else None,
        "text_confidence": said.confidence if said else None,
        "text_source": said.source if said else None,
    }


def _said(look: _Look, options: Options) -> Reading | None:
    """What the screen says to this caller, who may not have asked for what was recognized for somebody else."""
    reading = look.reading
    return None if not options.text or (reading.source == OCR and not options.ocr) else reading


# --- Waiting ----------------------------------------------------------------------------------------------------------

PAUSE = 0.5
"""Seconds between two looks at a screen that is waited for: screens have no event to wait on that all sources offer."""


def _wait(screen: Screen, options: Options, wait: Wait) -> Record:
    """Look again and again until the screen shows what is wanted. Raises WaitFailed with the last picture."""
    deadline = time.monotonic() + wait.timeout
    options = options._replace(text=options.text or wait.text is not None)
    first = look = _look(screen, options, options.max_age)
    while not _shows(look, first, wait, options):
        if time.monotonic() >= deadline:
            sentence = f"The screen of {screen.name} did not {_wanted(wait)} within {wait.timeout:g} s."
            raise WaitFailed(sentence, _publish(screen, options, look))
        time.sleep(min(PAUSE, max(0.0, deadline - time.monotonic())))
        look = _look(screen, options, 0.0)
    return _publish(screen, options, look)


def _shows(look: _Look, first: _Look, wait: Wait, options: Options) -> bool:
    if wait.text is not None:
        said = _said(look, options)
        return re.search(wait.text, (said and said.text) or "", re.MULTILINE) is not None
    if wait.still is not None:
        return bool(look.record["epoch"] - look.record["since"] >= wait.still)
    if wait.changed:
        return bool(look.record["pixels"] != first.record["pixels"])
    if wait.image is not None:
        return _image.similar(look.picture, wait.image) >= wait.similarity
    return True


def _wanted(wait: Wait) -> str:
    if wait.text is not None:
        return f"show a text that matches {wait.text!r}"
    if wait.still is not None:
        return f"stay the same for {wait.still:g} s"
    return "change" if wait.changed else "look like the picture"
