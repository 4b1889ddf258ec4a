# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The one tree of errors: what goes wrong below is raised as one of these and caught once, in the module's run.

Private to this collection.

Every message is one sentence that says what is wrong, where, and what to do about it.

    ConsoleError
     +-- InputError        the play asks for something that cannot be meant
     +-- MissingLibrary    a library that the host's distribution has is not installed
     +-- LibvirtFailure    libvirt refused, or could not be reached
          +-- AccessDenied      the user may not do that
     +-- EditConflict      a definition could not be changed without touching something else
     +-- ImageError        what was captured is no whole picture, or one too large to look at
     +-- LockTimeout       somebody else held what we need for too long
     +-- TookTooLong       something did not answer in its time, and was left behind
     +-- VncError          a VNC server could not be asked
          +-- VncUnreachable     no connection
          +-- VncRefused         the server or its authentication turned us away
          +-- VncProtocolError   what came is not RFB as we know it
     +-- IncusError        Incus could not do, or could not be asked, what we wanted
          +-- IncusUnreachable   no connection, or none that can be trusted
          +-- IncusRefused       the server turned us away, or failed
     +-- QmpError          a QEMU could not be asked over its monitor
          +-- QmpUnreachable     no connection, or nobody who greets on it
          +-- QmpRefused         QEMU refuses a command
          +-- QmpLost            the connection ended in the middle
"""

from __future__ import annotations


class ConsoleError(Exception):
    """Something that a person can act on; `str()` of it is the sentence to show."""


class InputError(ConsoleError):
    """The play asks for something that cannot be meant."""


class MissingLibrary(ConsoleError):
    """A library that the host's distribution has is not installed."""


class LibvirtFailure(ConsoleError):
    """libvirt refused, or could not be reached."""


class AccessDenied(LibvirtFailure):
    """The user that the task runs as may not do that."""


class EditConflict(ConsoleError):
    """A definition could not be changed without touching something else."""


class LockTimeout(ConsoleError):
    """Somebody else held what we need for too long."""


class TookTooLong(ConsoleError):
    """Something did not answer in its time, and was left behind."""


class ImageError(ConsoleError):
    """What was captured is no whole picture, or one too large to look at."""


class VncError(ConsoleError):
    """A VNC server could not be asked."""


class VncUnreachable(VncError):
    """No connection could be made."""


class VncRefused(VncError):
    """The server, or its authentication, turned us away."""


class VncProtocolError(VncError):
    """What came is not RFB as we know it."""


class IncusError(ConsoleError):
    """Incus could not do, or could not be asked, what we wanted."""


class IncusUnreachable(IncusError):
    """No connection could be made, or none that can be trusted."""


class IncusRefused(IncusError):
    """The server turned us away, or failed."""


class QmpError(ConsoleError):
    """A QEMU could not be asked over its monitor."""


class QmpUnreachable(QmpError):
    """There is no connection, or nobody who greets on it."""


class QmpRefused(QmpError):
    """QEMU refuses a command. `kind` is its class (QEMU: qapi/error.json), `reason` QEMU's own words."""

    def __init__(self, sentence: str, kind: str, reason: str) -> None:
        super().__init__(sentence)
        self.kind = kind
        self.reason = reason


class QmpLost(QmpError):
    """The connection ended in the middle."""
