# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the action plugins of the screenshot modules share: pictures come home in the module's one result, as files.

Private to this collection.

The module puts each picture into its result; here it becomes a file, and leaves the result, so that no register, log or
AWX event carries it. Nothing that the host says becomes part of a path as it is.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import copy
import hashlib
import os
import threading
import time
import typing as t
import uuid

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.path import makedirs_safe

from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError
from ansible_collections.kvmops.console.plugins.module_utils._files import read_whole, write_whole
from ansible_collections.kvmops.console.plugins.module_utils._picture_names import file_stem, safe_name
from ansible_collections.kvmops.console.plugins.module_utils._run import _progress

PAUSE = 10.0
"""Seconds between two words of progress."""

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class FetchPictures(ActionBase):  # type: ignore[misc, unused-ignore]
    """Runs MODULE, and brings the pictures of its RECORDS home when `fetch_to` is set."""

    MODULE = ""
    RECORDS = ""
    SOURCE = ""
    """Part of the files' names: other modules may bring pictures of machines that are called the same."""
    TRANSFERS_FILES = False

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        """The module's result, with files in place of the pictures."""
        variables = task_vars or {}
        result: dict[str, t.Any] = super().run(tmp, variables)
        host = str(variables.get("inventory_hostname", "host"))
        progress = f"/tmp/.kvmops-console-{uuid.uuid4().hex}"  # a new file of the host's, under a name nobody guesses
        self._task.environment = [*_listed(self._task.environment), {_progress.VARIABLE: progress}]
        doing = f"{host}: {_doing(self._task.args)}"
        with still_at_work(self._display.display, doing, lambda: self._far(progress)):
            result.update(self._execute_module(module_name=self.MODULE, task_vars=variables))
        folder = self._task.args.get("fetch_to")
        if folder:
            home = os.path.join(self._loader.path_dwim(str(folder)), safe_name(host))
            try:
                result["changed"] = self._bring_home(result.get(self.RECORDS) or [], home)
            except ConsoleError as e:
                raise AnsibleActionFail(str(e)) from e
        return result

    def _far(self, progress: str) -> str | None:
        """How far the module has come, as far as that can be seen: by a connection of its own beside the module's."""
        beside = copy.copy(self)
        beside._connection = copy.copy(self._connection)
        try:
            return _progress.told(str(beside._low_level_execute_command(f"cat {progress}").get("stdout")))
        except Exception:  # pylint: disable=broad-exception-caught
            # Whatever is the matter with that connection, the module's will tell.
            return None

    def called(self, record: dict[str, t.Any]) -> str:
        """What the pictures of a machine are called: by its name, unless there can be two of that name."""
        return str(record["name"])

    def source(self) -> str:
        """Where the machines are, as part of the files' names."""
        return self.SOURCE

    def _bring_home(self, records: list[dict[str, t.Any]], home: str) -> bool:
        """Whether any file is new or another than before. In check mode nothing is written."""
        changed = False
        for record in records:
            for screen in record.get("screens", []):
                content = screen.pop("content", None)
                if content is None:
                    continue
                path = os.path.join(home, f"{self._stem(record, int(screen['head']))}.png")
                new = self._keep(path, _picture(content, screen, str(record["name"])))
                record["changed"] = record.get("changed", False) or new
                screen["fetched_to"] = path
                changed = changed or new
        return changed

    def _stem(self, record: dict[str, t.Any], head: int) -> str:
        return file_stem(self.called(record), head, self.source())

    def _keep(self, path: str, data: bytes) -> bool:
        if read_whole(path) == data:
            return False
        if not self._task.check_mode:
            makedirs_safe(os.path.dirname(path), 0o755)
            write_whole(path, data, 0o644)
        return True


def _listed(environment: t.Any) -> list[t.Any]:
    return environment if isinstance(environment, list) else [environment]


@contextlib.contextmanager
def still_at_work(
    say: t.Callable[[str], None], doing: str, how_far: t.Callable[[], str | None] = lambda: None
) -> t.Iterator[None]:
    """Say every PAUSE seconds what goes on, how far it is, and since when: a module itself is silent until its end."""
    done = threading.Event()

    def speak() -> None:
        began = time.monotonic()
        while not done.wait(PAUSE):
            far = how_far()
            say(f"{doing}, {f'{far} done, ' if far else ''}{time.monotonic() - began:.0f} s so far")

    thread = threading.Thread(target=speak, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(PAUSE)


def _doing(args: t.Mapping[str, t.Any]) -> str:
    """What takes long, as far as the task tells."""
    wait = args.get("wait_for")
    if not isinstance(wait, t.Mapping):
        return "taking pictures"
    wanted = {
        "text": "show a text that matches {!r}",
        "still": "stay the same for {} s",
        "changed": "change",
        "image": "look like {}",
    }
    asked = [sentence.format(wait[key]) for key, sentence in wanted.items() if wait.get(key) is not None]
    return f"waiting for the screens to {' and '.join(asked)}" if asked else "taking pictures"


def _picture(content: str, screen: dict[str, t.Any], name: str) -> bytes:
    """The picture in `content`, when it is what the record tells of."""
    try:
        data = base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError) as e:
        raise ConsoleError(f"The picture of {name} did not arrive whole: {e}.") from e
    if not data.startswith(_SIGNATURE) or hashlib.sha256(data).hexdigest() != screen.get("sha256"):
        raise ConsoleError(f"The picture of {name} did not arrive whole: take it again.")
    return data
