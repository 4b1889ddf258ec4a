# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the actions share that work on the controller alone, with what the hosts' tasks registered."""

from __future__ import annotations

import typing as t
from abc import abstractmethod

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError

Json = dict[str, t.Any]


class OnController(ActionBase):  # type: ignore[misc, unused-ignore]
    """Checks the arguments, acts, and tells what went wrong in one sentence; never connects to a host."""

    ARGUMENT_SPEC: t.ClassVar[Json]
    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_async = False

    def run(self, tmp: str | None = None, task_vars: Json | None = None) -> Json:
        """The task's result. Raises AnsibleActionFail."""
        result: Json = super().run(tmp, task_vars)
        _validated, options = self.validate_argument_spec(argument_spec=self.ARGUMENT_SPEC)
        try:
            result.update(self.act(options, task_vars or {}))
        except ConsoleError as error:
            raise AnsibleActionFail(str(error)) from None
        return result

    @abstractmethod
    def act(self, options: Json, variables: Json) -> Json:
        """The result of the task with these options, for a host with these variables. Raises ConsoleError."""


class OncePerPlay(OnController):
    """One result for all hosts, whether or not the task says run_once."""

    BYPASS_HOST_LOOP = True


def not_written(what: str, folder: str, error: OSError) -> ConsoleError:
    """The sentence for `what` ("The report") that cannot be written to `folder`."""
    return ConsoleError(
        f"{what} cannot be written to {folder}: {error.strerror or error} ({error.filename or folder});"
        " choose another dest, or make that one writable on the controller."
    )
