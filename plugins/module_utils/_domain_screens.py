# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The screens of a libvirt domain: which there are, and the two ways to capture one.

Private to this collection.

A screendump holds QEMU's main loop up while the picture is written, a PNG for ten times as long as a PPM; libvirt lets
nobody choose between them. Reading the framebuffer over RFB, from a socket that libvirt hands out, is quicker than
either, and taints nothing. It shows the primary console only.
"""

from __future__ import annotations

import socket
import typing as t

from ansible_collections.kvmops.console.plugins.module_utils import _domain_xml, _image, _libvirt, _vnc
from ansible_collections.kvmops.console.plugins.module_utils._errors import ConsoleError, InputError
from ansible_collections.kvmops.console.plugins.module_utils._image import Rectangle
from ansible_collections.kvmops.console.plugins.module_utils._libvirt import Connection, Listed
from ansible_collections.kvmops.console.plugins.module_utils._screens import Screen, Shot

if t.TYPE_CHECKING:
    from lxml.etree import _Element

AUTO = "auto"
SCREENDUMP = "screendump"
VNC = "vnc"
CAPTURES = (AUTO, SCREENDUMP, VNC)


class Privacy(t.NamedTuple):
    """What the owner lets others see: nothing at all, or everything but some rectangles, by head."""

    capture: bool
    masks: dict[int, list[Rectangle]]


def privacy(root: _Element) -> Privacy:
    """From the domain's metadata; a mask that cannot be understood hides everything, since somebody wants it hidden."""
    ours = root.find(f"metadata/{{{_domain_xml.NAMESPACE}}}console")
    if ours is None:
        return Privacy(True, {})
    masks: dict[int, list[Rectangle]] = {}
    capture = True
    for element in ours:
        if element.tag == f"{{{_domain_xml.NAMESPACE}}}screens":
            capture = capture and element.get("capture") != "no"
        if element.tag == f"{{{_domain_xml.NAMESPACE}}}mask":
            try:
                rectangle = Rectangle(*(int(element.get(name, "")) for name in Rectangle._fields))
                masks.setdefault(int(element.get("head", "0")), []).append(rectangle)
            except ValueError:
                capture = False
    return Privacy(capture, masks)


def heads(root: _Element) -> int:
    """How many screens the domain has: the heads of its video devices, in order (libvirt: virDomainScreenshot)."""
    models = root.findall("devices/video/model")
    return sum(int(model.get("heads", "1")) for model in models if model.get("type") != "none")


def choose_heads(root: _Element, wanted: str) -> list[int]:
    """`wanted` is a number or "all". Raises InputError where there is no such head."""
    number = heads(root)
    if number == 0:
        raise InputError("it has no video device, so there is no screen.")
    if wanted == "all":
        return list(range(number))
    if not (wanted.isascii() and wanted.isdigit()):
        raise InputError(f"head is a number or all, not {wanted!r}.")
    if int(wanted) >= number:
        raise InputError(f"it has no head {wanted}: its heads are 0 to {number - 1}.")
    return [int(wanted)]


class Camera:
    """Captures the screens of one running domain."""

    def __init__(
        self, connection: Connection, domain: Listed, live: _Element, capture: str, wake: str, timeout: float
    ) -> None:
        self._connection = connection
        self._domain = domain
        self._capture = capture
        self._wake = wake
        self._timeout = timeout
        elements = _domain_xml.graphics_elements(live)
        self._vnc = next((index for index, one in enumerate(elements) if one.get("type") == "vnc"), None)
        self._late = any(model.get("type") == "qxl" for model in live.findall("devices/video/model"))

    def screen(self, head: int, masks: t.Sequence[Rectangle]) -> Screen:
        """One of its screens."""
        return Screen(f"{self._domain.uuid}-{head}", self._domain.name, head, lambda: self.take(head), masks)

    def take(self, head: int) -> Shot:
        """Capture one screen, by the way that was asked for. Raises ConsoleError."""
        if self._capture == VNC and (head or self._vnc is None):
            raise InputError("over VNC only head 0 of a domain with VNC graphics can be read: use capture screendump.")
        if self._capture != SCREENDUMP and head == 0 and self._vnc is not None and self._connection.is_local:
            try:
                return self._read(self._vnc)
            except ConsoleError:
                if self._capture == VNC:
                    raise
        self._wake_up()
        return self._dump(head)

    def _read(self, index: int) -> Shot:
        descriptor = _libvirt.graphics_socket(self._domain, index, self._timeout)
        framebuffer = _vnc.read_screen(socket.socket(fileno=descriptor), timeout=self._timeout, wake=self._wake)
        return Shot(_image.from_bgrx(*framebuffer), VNC)

    def _wake_up(self) -> None:
        if self._wake == "pointer":
            raise InputError("the pointer can only be moved over VNC: use wake key, or capture vnc.")
        if self._wake == "key":
            _libvirt.press_shift(self._domain)

    def _dump(self, head: int) -> Shot:
        """By libvirt.

        QEMU before 5.2 does not wait for QXL, and gives the frame before the current one, so it is asked twice; those
        that make PNGs (7.1 on) wait (ui/console.c, qmp_screendump(); seen on 7.2.22 with the kernel's driver).
        """
        data = _libvirt.screenshot(self._connection, self._domain, head)
        if self._late and not data.startswith(_image.PNG_SIGNATURE):
            data = _libvirt.screenshot(self._connection, self._domain, head)
        png = data if data.startswith(_image.PNG_SIGNATURE) else None
        return Shot(_image.decode(data), SCREENDUMP, png)
