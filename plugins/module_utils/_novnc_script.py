# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The JavaScript that noVNC gets: what it does with encoding -257, in ECMAScript 5 for every release and packaging.

Private to this collection.

It wraps methods of the class RFB from outside, so that it needs no line of a release to be where it was in another:

- `_handleRect` (1.1.0 and later) or the table `_encHandlers` (before) gets an answer to the encoding -257.
- `messages.pointerEvent`, through which every pointer event of every release goes, sends what the server then expects.

What a server expects (rfbproto, "QEMU Pointer Motion Change Pseudo-encoding"; QEMU 7.2.0 ui/vnc.c pointer_event()):
after a rectangle with x = 1 absolute positions, after x = 0 movements, as 0x7FFF plus the distance. An affected QEMU
does that to clients that never asked, so that a client which merely ignores the rectangle throws the guest's pointer
into a corner with every event.
"""

from __future__ import annotations

VERSION = 1
"""Of the patch. Count up when the script changes; earlier versions are then replaced."""

TOLERANT, FULL = "tolerant", "full"
MODES = (TOLERANT, FULL)

# `_qemuPointer` is what is known of a connection: undefined before encodings were sent, AWAITED from then until the
# first update, null (absolute), or the last position sent, with nulls where there is none yet (relative). It stands on
# the Websock, which pointerEvent() is given: one a connection since 1.0.0, one an RFB before.
#
# An affected server takes movements from when it gets the encodings, and says so before its first update. What is sent
# in between would throw the pointer into a corner; nobody sees a picture to point at by then, so nothing is sent.
_TOLERANT = r"""
    var CHANGE = -257, ZERO = 0x7FFF, AWAITED = false;
    var proto = RFB.prototype, messages = RFB.messages;
    var sendPointer = messages.pointerEvent;
    var returnsBytes = sendPointer.length === 3;    // 0.5: (x, y, mask), and the caller sends what it returns
    var sender = null, asking = false;

    // What is sent for a movement: 16 bits, with 0x7FFF for none.
    function wire(distance) {
        return ZERO + Math.max(-ZERO, Math.min(ZERO, Math.round(distance)));
    }

    function pointerChanged(rfb) {
        rfb._sock._qemuPointer = rfb._FBU.x === 0 ? rfb._sock._qemuPointer || {x: null, y: null} : null;
        onPointerChange(rfb);
    }

    function translated(sock, x, y) {
        var last = sock && sock._qemuPointer, place = [x, y];
        if (last) {
            place = [wire(last.x === null ? 0 : x - last.x), wire(last.y === null ? 0 : y - last.y)];
            last.x = x;
            last.y = y;
        }
        return place;
    }

    function mayPoint(sock) {
        return !(sock && (sock._qemuPointer === AWAITED || isHeld(sock)));
    }

    function wrap(name, wrapper) {
        var inner = proto[name];
        if (inner) { proto[name] = wrapper(inner); }
        return Boolean(inner);
    }

    ["_sendEncodings", "_negotiate_server_init"].some(function (name) {
        return wrap(name, function (inner) {
            return function () {
                if (this._sock._qemuPointer === undefined) { this._sock._qemuPointer = AWAITED; }
                asking = true;
                try { return inner.apply(this, arguments); } finally { asking = false; }
            };
        });
    });
    wrap("_framebufferUpdate", function (inner) {
        return function () {
            var done = inner.apply(this, arguments);
            if (done && this._sock._qemuPointer === AWAITED) { this._sock._qemuPointer = null; }
            return done;
        };
    });

    var isClass = wrap("_handleRect", function (inner) {
        return function () {
            if (this._FBU.encoding !== CHANGE) { return inner.apply(this, arguments); }
            pointerChanged(this);
            return true;
        };
    });
    if (!isClass) {
        wrap("_framebufferUpdate", function (inner) {
            return function () {
                var rfb = this;
                if (!rfb._encHandlers[CHANGE]) {
                    if (rfb._encNames) { rfb._encNames[CHANGE] = "QEMUPointerMotionChange"; }
                    if (rfb._encStats) { rfb._encStats[CHANGE] = [0, 0]; }
                    rfb._encHandlers[CHANGE] = function () {
                        pointerChanged(rfb);
                        rfb._FBU.bytes = 0;
                        rfb._FBU.rects--;
                        return true;
                    };
                }
                return inner.apply(this, arguments);
            };
        });
        // An RFB of 0.x may connect again, to a server that never tells.
        wrap("connect", function (inner) {
            return function () {
                if (this._sock) { this._sock._qemuPointer = undefined; }
                return inner.apply(this, arguments);
            };
        });
    }

    if (returnsBytes) {
        ["_handleMouseButton", "_handleMouseMove"].forEach(function (name) {
            wrap(name, function (inner) {
                return function () {
                    sender = this._sock;
                    try { return inner.apply(this, arguments); } finally { sender = null; }
                };
            });
        });
        messages.pointerEvent = function (x, y, mask) {
            if (!mayPoint(sender)) { return []; }
            var place = translated(sender, x, y);
            return sendPointer.call(messages, place[0], place[1], mask);
        };
    } else {
        messages.pointerEvent = function (sock, x, y) {
            if (!mayPoint(sock)) { return undefined; }
            var place = translated(sock, x, y), rest = Array.prototype.slice.call(arguments, 3);
            return sendPointer.apply(messages, [sock, place[0], place[1]].concat(rest));
        };
    }
"""

_QUIET = r"""
    function onPointerChange() {}
    function isHeld() { return false; }
"""

# The listeners stand on the window and come before noVNC's own, which see every event too and keep their state; what
# noVNC would send of it while the pointer is locked is dropped by isHeld().
_FULL = r"""
    var WHEEL_STEP = 50, WHEEL_LINE = 19, ESCAPE = 0xFF1B, ESCAPE_MS = 300;
    var leaving = false, wayOut = false, escapedAt = 0, pressed = 0, holder = null, shown = null;

    function canvasOf(rfb) {
        return rfb._canvas || rfb._target || (rfb._display && rfb._display._target);
    }

    function isLive(rfb) {
        var state = rfb._rfbConnectionState || rfb._rfb_connection_state || rfb._rfb_state;
        return (state === "connected" || state === "normal") && !(rfb._viewOnly || rfb._view_only);
    }

    function isRelative(rfb) {
        return Boolean(rfb._sock && rfb._sock._qemuPointer);
    }

    function isHeld(sock) {
        return holder !== null && holder._sock === sock;
    }

    function leave() {
        leaving = true;
        document.exitPointerLock();
    }

    // What a page can show: whether the guest takes movements, and whether the browser's pointer is held for it.
    function tell(rfb) {
        var target = rfb.dispatchEvent ? rfb : canvasOf(rfb);
        var detail = {relative: isRelative(rfb), locked: holder === rfb};
        target.dispatchEvent(new CustomEvent("pointertypechange", {detail: detail, bubbles: target !== rfb}));
    }

    function onPointerChange(rfb) {
        canvasOf(rfb)._qemuPointerOf = rfb;
        if (!isRelative(rfb) && holder === rfb) { leave(); }
        tell(rfb);
    }

    // buttons: 1 left, 2 right, 4 middle; RFB: 1 left, 2 middle, 4 right.
    function maskOf(event) {
        return (event.buttons & 1) | ((event.buttons & 4) >> 1) | ((event.buttons & 2) << 1);
    }

    function send(rfb, x, y, mask) {
        var sock = rfb._sock;
        if (returnsBytes) {
            sock.send(sendPointer.call(messages, wire(x), wire(y), mask));
            return;
        }
        sendPointer.call(messages, sock, wire(x), wire(y), mask);
        if (sock._sQlen) { sock.flush(); }
    }

    // While the browser holds its pointer, the image that the server gave it has no place on the screen: it is drawn
    // where the movements lead from where the lock began. A guest that draws its pointer itself has given no image.
    function showPointer(rfb) {
        var image = rfb._cursorImage, box = canvasOf(rfb).getBoundingClientRect(), from = rfb._qemuPointerFrom, node;
        if (!image || !image.w || !image.h || !from) { return; }
        node = document.createElement("canvas");
        node.className = "qemu_pointer";
        node.width = image.w;
        node.height = image.h;
        node.style.cssText = "position: fixed; z-index: 65535; pointer-events: none;";
        node.getContext("2d").putImageData(
            new ImageData(new Uint8ClampedArray(image.rgbaPixels), image.w, image.h), 0, 0);
        shown = {node: node, image: image, x: from.x, y: from.y, box: box};
        movePointer(0, 0);
        document.body.appendChild(node);
    }

    function movePointer(x, y) {
        if (!shown) { return; }
        shown.x = Math.max(shown.box.left, Math.min(shown.box.right, shown.x + x));
        shown.y = Math.max(shown.box.top, Math.min(shown.box.bottom, shown.y + y));
        shown.node.style.left = (shown.x - shown.image.hotx) + "px";
        shown.node.style.top = (shown.y - shown.image.hoty) + "px";
    }

    function hidePointer() {
        if (shown && shown.node.parentNode) { shown.node.parentNode.removeChild(shown.node); }
        shown = null;
    }

    // noVNC covers the page while a button is down, and takes the cover away when a release reaches that. The release
    // of a locked pointer reaches the canvas alone, and may do so before the page is told of the lock.
    function uncover() {
        var cover = document.getElementById("noVNC_mouse_capture_elem");
        if (pressed || !cover || cover.style.display === "none") { return; }
        cover.dispatchEvent(new MouseEvent("mouseup"));
    }

    function onButton(event) {
        var canvas = event.target, rfb = canvas && canvas._qemuPointerOf, promise;
        if (!event.isTrusted) { return; }
        pressed = event.buttons;
        if (holder) {
            if (!isLive(holder)) { leave(); return; }
            send(holder, 0, 0, maskOf(event));
            uncover();
            return;
        }
        if (event.type !== "mousedown" || !rfb || !isRelative(rfb) || !isLive(rfb)) { return; }
        if (rfb.dragViewport || !canvas.requestPointerLock) { return; }
        rfb._qemuPointerFrom = {x: event.clientX, y: event.clientY};
        promise = canvas.requestPointerLock();
        if (promise && promise["catch"]) { promise["catch"](function () {}); }
    }

    function onMove(event) {
        var rfb = holder, scale, rest, x, y;
        if (!rfb || !event.isTrusted) { return; }
        if (!isLive(rfb)) { leave(); return; }
        // Parts of a pixel count, where the screen is shown larger than it is.
        scale = (rfb._display && rfb._display._scale) || 1;
        rest = rfb._qemuPointerRest = rfb._qemuPointerRest || {x: 0, y: 0};
        rest.x += event.movementX / scale;
        rest.y += event.movementY / scale;
        x = Math.round(rest.x);
        y = Math.round(rest.y);
        movePointer(event.movementX, event.movementY);
        if (!x && !y) { return; }
        rest.x -= x;
        rest.y -= y;
        send(rfb, x, y, maskOf(event));
    }

    function onWheel(event) {
        var rfb = holder, unit = event.deltaMode ? WHEEL_LINE : 1, rest;
        if (!rfb) { return; }
        if (!isLive(rfb)) { leave(); return; }
        event.preventDefault();
        rest = rfb._qemuWheelRest = rfb._qemuWheelRest || {x: 0, y: 0};
        rest.x += event.deltaX * unit;
        rest.y += event.deltaY * unit;
        [["y", 1 << 3, 1 << 4], ["x", 1 << 5, 1 << 6]].forEach(function (axis) {
            if (Math.abs(rest[axis[0]]) < WHEEL_STEP) { return; }
            send(rfb, 0, 0, maskOf(event) | (rest[axis[0]] < 0 ? axis[1] : axis[2]));
            send(rfb, 0, 0, maskOf(event));
            rest[axis[0]] = 0;
        });
    }

    // Ctrl and Alt together, and no other key with them, give the pointer back, as in other viewers.
    function onKey(event) {
        var modifier = event.key === "Control" || event.key === "Alt";
        if (event.key === "Escape") { escapedAt = Date.now(); }
        if (event.type === "keydown") {
            wayOut = modifier && event.ctrlKey && event.altKey && !event.shiftKey && !event.metaKey;
        } else if (wayOut && modifier) {
            wayOut = false;
            if (holder) { leave(); }
        }
    }

    // The browser ends the lock on Esc, and may keep the key to itself then: the guest shall have it too.
    function passEscape(rfb) {
        setTimeout(function () {
            if (Date.now() - escapedAt < 2 * ESCAPE_MS || !document.hasFocus() || !isLive(rfb)) { return; }
            if (rfb.dispatchEvent) { rfb.sendKey(ESCAPE, "Escape"); } else { rfb.sendKey(ESCAPE); }
        }, ESCAPE_MS);
    }

    function onLock() {
        var before = holder, canvas = document.pointerLockElement;
        hidePointer();
        if (before) { uncover(); }
        holder = (canvas && canvas._qemuPointerOf) || null;
        if (holder) { uncover(); }
        if (before && before !== holder) {
            if (!leaving) { passEscape(before); }
            // Where the browser's pointer goes on is not where it was.
            if (isRelative(before)) { before._sock._qemuPointer = {x: null, y: null}; }
            tell(before);
        }
        leaving = false;
        if (holder) {
            showPointer(holder);
            tell(holder);
        }
    }

    window.addEventListener("mousedown", onButton, true);
    window.addEventListener("mouseup", onButton, true);
    window.addEventListener("mousemove", onMove, true);
    window.addEventListener("wheel", onWheel, {capture: true, passive: false});
    window.addEventListener("keydown", onKey, true);
    window.addEventListener("keyup", onKey, true);
    document.addEventListener("pointerlockchange", onLock);

    // -257 is asked for where noVNC makes its own list, and nowhere else: others may call clientEncodings() too.
    var sendEncodings = messages.clientEncodings;
    messages.clientEncodings = function () {
        var list = Array.prototype.slice.call(arguments), place = returnsBytes ? 0 : 1;
        if (asking) {
            list[place] = list[place].concat(
                [Array.isArray(list[place][0]) ? ["QEMUPointerMotionChange", CHANGE] : CHANGE]);
        }
        return sendEncodings.apply(messages, list);
    };
"""

TOLD = "kvmops.console novnc_patch"
"""What every patched file has in it, whatever was done to it afterwards."""


def script(mode: str) -> str:
    """A function to be called with the class RFB once that and its `messages` are complete."""
    # Strings survive the tools that take comments out, so that a bundle made of a patched file tells of it.
    told = f'\n    RFB.prototype._qemuPointerPatch = "{TOLD} {VERSION} {mode}";\n'
    body = _TOLERANT + (_FULL if mode == FULL else _QUIET)
    return f'function (RFB) {{\n    "use strict";{told}{body}}}'
