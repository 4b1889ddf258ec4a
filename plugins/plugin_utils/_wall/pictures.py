# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The wall's pictures on the controller: checked, made small, remembered, let go of.

Private to this collection.

Below the wall's folder:

    pictures/HOST/NAME.png              the last picture, where the screenshot module's `fetch_to` puts it
    history/HOST/NAME/HEAD/TIME.png     pictures that differ from the one before
    history/HOST/NAME/HEAD/TIME.json    what is known of each
    thumbnails/SHA256-WIDTH.jpg         small ones of both; the same picture is there once
    machines/HOST/NAME.gif              the last pictures of a history, one after the other

`curate` decides, and `apply` carries out: in check mode nothing is.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import json
import os
import re
import shutil
import typing as t

from ansible_collections.kvmops.console.plugins.module_utils import _image
from ansible_collections.kvmops.console.plugins.module_utils._errors import ImageError
from ansible_collections.kvmops.console.plugins.module_utils._files import read_whole, write_whole
from ansible_collections.kvmops.console.plugins.module_utils._picture_names import file_stem, safe_name
from ansible_collections.kvmops.console.plugins.plugin_utils._report.model import Json
from ansible_collections.kvmops.console.plugins.plugin_utils._wall.model import (
    PRIVATE,
    SEEN,
    Key,
    key_of,
    moment,
    remembered,
)

with contextlib.suppress(ImportError):
    from PIL import Image

JPEG_QUALITY = 70
A_CURSOR = 0.0005
"""The share of a screen that a cursor takes at most: one cell of the 80 by 25 of the smallest text screen."""
ANIMATION_WIDTH = 640
ANIMATION_MILLISECONDS = 900
"""A picture. Slower than the three flashes a second that WCAG 2.3.1 allows."""


class Rules(t.NamedTuple):
    """`keep`: pictures a screen; `keep_for`: seconds; `max_bytes`: of all histories together; None for no limit.

    `width` is that of the small pictures; `animate` the number of pictures in an animation, 0 for none.
    """

    keep: int = 48
    keep_for: float | None = None
    max_bytes: int | None = None
    width: int = 360
    animate: int = 12


class Entry(t.NamedTuple):
    """A picture of a history. `path` is where it is or will be; `about` is as model.remembered gives it."""

    stamp: str
    path: str
    size: int
    about: Json

    @property
    def taken(self) -> float:
        """When, in seconds since 1970."""
        return moment(self.about["captured_at"]).timestamp()


class Exhibition(t.NamedTuple):
    """What the pages show, and what is to be done for it. Small pictures are known by the SHA-256 of the large."""

    inline: dict[str, str]
    histories: dict[Key, list[Entry]]
    thumbnails: dict[str, str]
    animations: dict[Key, str]
    writes: dict[str, bytes]
    removals: list[str]


def folder_of(root: str, key: Key) -> str:
    """Where the history of a screen is kept."""
    return os.path.join(root, "history", safe_name(key[0]), safe_name(key[1]), str(key[2]))


def curate(root: str, wall: Json, rules: Rules) -> Exhibition:
    """Look at the pictures of `wall`, whose screens lose `picture` when it is not theirs. Changes no file.

    Raises MissingLibrary without Pillow.
    """
    _image.require_pillow()
    work = _Work(root, wall, rules)
    for screen in wall["screens"]:
        work.take_in(screen)
    work.let_go()
    work.make_animations()
    work.sweep()
    return Exhibition(work.inline, work.histories, work.thumbnails, work.animations, work.writes, sorted(work.removals))


def apply(show: Exhibition) -> None:
    """Write what is new, then remove what is no longer wanted. Raises InputError, OSError."""
    for path, data in show.writes.items():
        os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
        write_whole(path, data, 0o644)
    for path in show.removals:
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


class _Work:
    """One run of `curate`."""

    def __init__(self, root: str, wall: Json, rules: Rules) -> None:
        self._root, self._rules = os.path.realpath(root), rules
        self._now = moment(wall["generated_at"]).timestamp()
        self.inline: dict[str, str] = {}
        self.thumbnails: dict[str, str] = {}
        self.animations: dict[Key, str] = {}
        self.writes: dict[str, bytes] = {}
        self.removals: set[str] = set()
        self.histories: dict[Key, list[Entry]] = {key_of(screen): [] for screen in wall["screens"]}
        self._others: list[Entry] = []
        self._private = {key_of(screen)[:2] for screen in wall["screens"] if screen["status"] == PRIVATE}
        self._find_histories()

    # --- The pictures of now

    def take_in(self, screen: Json) -> None:
        """Check a screen's picture, make it small, and put it into the history when it is news."""
        key = key_of(screen)
        if key[:2] in self._private:
            self._forget(screen)
            return
        data = self._own_picture(screen)
        small = self._small(data, screen["sha256"]) if data is not None else None
        if data is None or small is None:
            screen["picture"] = None
            return
        self.inline[screen["sha256"]] = "data:image/jpeg;base64," + base64.b64encode(small).decode()
        past = self.histories[key]
        if screen["status"] != SEEN or not screen["captured_at"] or self._rules.keep <= 0:
            return
        stamp = _stamp(screen["captured_at"])
        if past and (past[-1].stamp >= stamp or not _is_news(past[-1], screen, data)):
            return
        path = os.path.join(folder_of(self._root, key), f"{stamp}.png")
        about = remembered(screen)
        past.append(Entry(stamp, path, len(data), about))
        self.writes[path] = data
        self.writes[_sidecar(path)] = json.dumps(about).encode()

    def _own_picture(self, screen: Json) -> bytes | None:
        """The file that the screen names, if it lies in the wall's folder and is what the screen says it is.

        Its path may come from a host, which must not choose what is read here.
        """
        if not screen["picture"] or not screen["sha256"] or not screen["captured_at"]:
            return None
        path = os.path.realpath(os.path.join(self._root, screen["picture"]))
        if os.path.commonpath([path, os.path.join(self._root, "pictures")]) != os.path.join(self._root, "pictures"):
            return None
        data = read_whole(path)
        if data is None or hashlib.sha256(data).hexdigest() != screen["sha256"]:
            return None
        screen["picture"] = os.path.relpath(path, self._root)
        return data

    def _small(self, data: bytes, sha256: str) -> bytes | None:
        """The small picture, made only once; None when the large one is none that can be read."""
        path = self._thumbnail_path(sha256)
        small = self.writes.get(path) or read_whole(path)
        if not small:
            try:
                small = _jpeg(_image.thumbnail(_image.decode(data), self._rules.width))
            except ImageError:
                return None
            self.writes[path] = small
        self.thumbnails[sha256] = os.path.relpath(path, self._root)
        return small

    def _thumbnail_path(self, sha256: str) -> str:
        return os.path.join(self._root, "thumbnails", f"{sha256}-{self._rules.width}.jpg")

    def _forget(self, screen: Json) -> None:
        """Nobody is to see this screen: nor what it showed before."""
        host, name, _head = key_of(screen)
        screen.update(picture=None, sha256=None, text=None, captured_at=None)
        self.histories[key_of(screen)] = []
        self.removals.update(filter(os.path.lexists, [os.path.dirname(folder_of(self._root, (host, name, 0)))]))
        pictures = os.path.join(self._root, "pictures", safe_name(host))
        # Of every connection and head.
        own = re.compile(re.escape(screen["files"] or safe_name(name)) + r"(~[0-9a-f]{8})?(~\d+)?\.png")
        with contextlib.suppress(OSError):
            self.removals |= {os.path.join(pictures, file) for file in os.listdir(pictures) if own.fullmatch(file)}

    # --- The pictures of before

    def _find_histories(self) -> None:
        """Read what is in history/: of the wall's screens, and of machines that are gone but still remembered."""
        known = {folder_of(self._root, key): key for key in self.histories}
        for folder, _folders, names in os.walk(os.path.join(self._root, "history")):
            entries = [entry for entry in (_entry(folder, name) for name in sorted(names)) if entry]
            if folder in known:
                self.histories[known[folder]] = entries
            else:
                self._others += entries

    def let_go(self) -> None:
        """Apply the rules: so many a screen, so old, so much in all. What goes first is the oldest."""
        rules = self._rules
        everything = [*self.histories.values(), [*self._others]]
        gone = {entry.path for past in self.histories.values() for entry in past[: max(len(past) - rules.keep, 0)]}
        if rules.keep_for is not None:
            gone |= {e.path for past in everything for e in past if self._now - e.taken > rules.keep_for}
        left = sorted((e for past in everything for e in past if e.path not in gone), key=lambda e: e.stamp)
        if rules.max_bytes is not None:
            total = sum(entry.size for entry in left)
            for entry in left:
                if total <= rules.max_bytes:
                    break
                total -= entry.size
                gone.add(entry.path)
        for path in gone:
            for file in (path, _sidecar(path)):
                if self.writes.pop(file, None) is None and os.path.lexists(file):
                    self.removals.add(file)
        for key, past in self.histories.items():
            self.histories[key] = [entry for entry in past if entry.path not in gone and self._shown(entry)]

    def _shown(self, entry: Entry) -> bool:
        data = self.writes.get(entry.path)
        if data is None and not os.path.exists(self._thumbnail_path(entry.about["sha256"])):
            data = read_whole(entry.path)
        return self._small(data or b"", entry.about["sha256"]) is not None

    def make_animations(self) -> None:
        """An animation for each history of two pictures or more, made anew when there are new ones."""
        for (host, name, head), past in self.histories.items():
            if self._rules.animate < 2 or len(past) < 2:
                continue
            some = past[-self._rules.animate :]
            path = os.path.join(self._root, "machines", safe_name(host), f"{file_stem(name, head)}.gif")
            if some[-1].path in self.writes or not os.path.exists(path):
                pictures = [self.writes.get(entry.path) or read_whole(entry.path) for entry in some]
                self.writes[path] = _gif([data for data in pictures if data])
            self.animations[host, name, head] = os.path.relpath(path, self._root)

    def sweep(self) -> None:
        """Small pictures that nothing shows any more, and animations of histories that are gone."""
        wanted = {os.path.join(self._root, path) for path in (*self.thumbnails.values(), *self.animations.values())}
        for folder, _folders, names in _walks(self._root, "thumbnails", "machines"):
            files = {os.path.join(folder, name) for name in names if name.endswith((".jpg", ".gif"))}
            self.removals |= files - wanted
        for path in set(self.writes) - wanted:
            if path.endswith(".jpg"):
                del self.writes[path]


def _is_news(last: Entry, screen: Json, data: bytes) -> bool:
    """Whether a screen says something else, or looks otherwise by more than a cursor that blinks."""
    if last.about["sha256"] == screen["sha256"]:
        return False
    if last.about["text"] != screen["text"] or last.about["kind"] != screen["kind"]:
        return True
    before = read_whole(last.path)
    try:
        return before is None or _image.changed(_image.decode(before), _image.decode(data)) > A_CURSOR
    except ImageError:
        return True


def _walks(root: str, *names: str) -> t.Iterator[tuple[str, list[str], list[str]]]:
    for name in names:
        yield from os.walk(os.path.join(root, name))


def _sidecar(path: str) -> str:
    return f"{path[: -len('.png')]}.json"


def _stamp(captured_at: str) -> str:
    """A time as the name of a file, which sorts as the times do."""
    return moment(captured_at).strftime("%Y%m%dT%H%M%S.%fZ")


def _entry(folder: str, name: str) -> Entry | None:
    stem, extension = os.path.splitext(name)
    path = os.path.join(folder, name)
    if extension != ".png":
        return None
    try:
        about = remembered(json.loads(read_whole(_sidecar(path)) or b""))
        size = os.stat(path).st_size
    except (ValueError, AttributeError, OSError):
        return None
    if about["sha256"] is None or about["captured_at"] is None or _stamp(about["captured_at"]) != stem:
        return None
    return Entry(stem, path, size, about)


def _jpeg(picture: _image.Picture) -> bytes:
    out = io.BytesIO()
    image = Image.frombytes("RGB", (picture.width, picture.height), picture.rgb)
    image.save(out, "JPEG", quality=JPEG_QUALITY)
    return out.getvalue()


def _gif(pictures: list[bytes]) -> bytes:
    """The pictures one after the other, all on a canvas of the largest one's size."""
    frames = []
    for data in pictures:
        try:
            small = _image.thumbnail(_image.decode(data), ANIMATION_WIDTH)
        except ImageError:
            continue
        frames.append(Image.frombytes("RGB", (small.width, small.height), small.rgb))
    if not frames:
        return b""
    size = max(frame.width for frame in frames), max(frame.height for frame in frames)
    canvases = []
    for frame in frames:
        canvas = Image.new("RGB", size)
        canvas.paste(frame, ((size[0] - frame.width) // 2, (size[1] - frame.height) // 2))
        canvases.append(canvas)
    out = io.BytesIO()
    canvases[0].save(
        out, "GIF", save_all=True, append_images=canvases[1:], duration=ANIMATION_MILLISECONDS, loop=0, optimize=False
    )
    return out.getvalue()
