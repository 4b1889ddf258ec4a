// Copyright: (c) 2026, The kvmops.console authors
// GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
// SPDX-License-Identifier: GPL-3.0-or-later

// As much of the shape of noVNC as the role needs to know it by.

export default class RFB {
    constructor() {
        this._sock = [];
        this._FBU = {rects: 0, x: 0, y: 0, encoding: null};
    }

    _framebufferUpdate() {
        return this._handleRect();
    }

    _handleRect() {
        return this._FBU.encoding === 7;
    }
}

RFB.messages = {
    keyEvent(sock, keysym, down) { sock.push(['key', keysym, down]); },
    pointerEvent(sock, x, y, mask) { sock.push([x, y, mask]); },
    clientEncodings(sock, encodings) { sock.push(['encodings'].concat(encodings)); },
    fbUpdateRequest(sock) { sock.push(['update']); },
};
