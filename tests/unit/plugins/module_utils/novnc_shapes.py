# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Code of the shapes that noVNC has had, written for tests: enough of each to be recognised, and to run in Node.js.

The real releases are in tests/browser/novnc.
"""

from __future__ import annotations

MESSAGES = """{
    keyEvent(sock, keysym, down) { sock.push(['key', keysym, down]); },
    pointerEvent(sock, x, y, mask) { sock.push([x, y, mask]); },
    clientEncodings(sock, encodings) { sock.push(['encodings'].concat(encodings)); },
    fbUpdateRequest(sock) { sock.push(['update']); },
}"""

_CLASS = """
class RFB {
    constructor() {
        this._sock = [];
        this._FBU = {rects: 0, x: 0, y: 0, encoding: null};
    }

    _sendEncodings() { RFB.messages.clientEncodings(this._sock, [7, -309]); }

    _framebufferUpdate(rects) {
        for (const [x, encoding] of rects) {
            Object.assign(this._FBU, {x: x, encoding: encoding});
            if (!this._handleRect()) { return false; }
        }
        return true;
    }

    _handleRect() {
        switch (this._FBU.encoding) {
            case 7:
                return true;
            default:
                throw new Error('Unsupported encoding (encoding: ' + this._FBU.encoding + ')');
        }
    }
}

// Class Methods
RFB.messages = MESSAGES;
"""

CLASS = _CLASS.replace("_framebufferUpdate(rects) {", "_framebufferUpdate() {\n        const rects = this.rects;")
CLASS = CLASS.replace("MESSAGES", MESSAGES)
"""1.1.0 and later, without export."""

MODULE = CLASS.replace("class RFB {", "import Log from './log.js';\n\nexport default class RFB {")

COMMONJS = CLASS.replace(
    "class RFB {",
    'Object.defineProperty(exports, "__esModule", {value: true});\nexports["default"] = RFB;\nclass RFB {',
)

BUNDLE = f"(() => {{\nclass Websock {{}}\n{CLASS}\nwindow.run = RFB;\n}})();\n"

MINIFIED = (
    "(()=>{var t=/[{]'/,e=class{constructor(){this._FBU={}}_framebufferUpdate(){return this._handleRect()}"
    '_handleRect(){if(7!==this._FBU.encoding)throw Error("Unsupported encoding");return!0}};'
    "e.messages={keyEvent(t){},pointerEvent(t,e,i,s){t.push([e,i,s])},clientEncodings(t,e){},fbUpdateRequest(t){}},"
    "e.cursors={none:{}};window.run=e})();\n" + "var padding='" + "x" * 400 + "';"
)

TABLE = """
export default function RFB() {
    this._sock = [];
    this._FBU = {rects: 0, bytes: 0, x: 0, y: 0, encoding: null};
    this._encHandlers = {7: () => { this._FBU.rects--; return true; }};
    this._encStats = {7: [0, 0]};
}

RFB.prototype = {
    _framebufferUpdate: function () {
        this._FBU.rects = this.rects.length;
        for (const [x, encoding] of this.rects) {
            Object.assign(this._FBU, {x: x, encoding: encoding});
            if (!this._encHandlers[encoding]) { throw new Error('Unsupported encoding (encoding: ' + encoding + ')'); }
            if (!this._encHandlers[encoding]()) { return false; }
            this._encStats[encoding][0]++;
        }
        return this._FBU.rects === 0;
    },
};

RFB.messages = MESSAGES;
""".replace("MESSAGES", MESSAGES)
"""1.0.0."""

SCRIPT = """/*jslint white: false */
var RFB;

(function () {
    "use strict";
    RFB = function () {
        this._sock = {sent: [], send: function (bytes) { this.sent.push(bytes); }};
        this._FBU = {rects: 0, bytes: 0, x: 0, y: 0, encoding: null};
        this._encHandlers = {7: function () { this._FBU.rects--; return true; }.bind(this)};
        this._encNames = {7: 'ZRLE'};
        this._encStats = {7: [0, 0]};
    };

    RFB.prototype = {
        connect: function () {},

        _handleMouseMove: function (x, y) {
            this._sock.send(RFB.messages.pointerEvent(x, y, 0));
        },

        _framebufferUpdate: function () {
            this._FBU.rects = this.rects.length;
            for (var i = 0; i < this.rects.length; i++) {
                this._FBU.x = this.rects[i][0];
                this._FBU.encoding = this.rects[i][1];
                if (!this._encNames[this._FBU.encoding]) {
                    throw new Error("Disconnected: unsupported encoding " + this._FBU.encoding);
                }
                if (!this._encHandlers[this._FBU.encoding]()) { return false; }
                this._encStats[this._FBU.encoding][0]++;
            }
            return this._FBU.rects === 0;
        }
    };

    // Class Methods
    RFB.messages = {
        keyEvent: function (keysym, down) { return [4, down, keysym]; },
        pointerEvent: function (x, y, mask) { return [x, y, mask]; },
        clientEncodings: function (encodings, local_cursor, true_color) { return [2]; },
        fbUpdateRequests: function (cleanDirty, fb_width, fb_height) { return [3]; }
    };
})();
"""
"""0.5."""

EVERY = {
    "module": MODULE,
    "commonjs": COMMONJS,
    "bundle": BUNDLE,
    "minified": MINIFIED,
    "table": TABLE,
    "script": SCRIPT,
}
KINDS = {**{name: name for name in EVERY}, "table": "module"}
