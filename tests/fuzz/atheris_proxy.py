# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The proxy's protocol under atheris, which looks for new ways through the code by itself.

    python tests/fuzz/atheris_proxy.py CORPUS_FOLDER -max_total_time=600 -max_len=2048

An empty folder is filled with conversations to begin with. Everything after it is libFuzzer's. The first byte of an
input chooses what is fuzzed, the next ones how; see the functions below.
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["ansible_collections"]):
    from ansible_collections.kvmops.console.plugins.module_utils import _rfb
    from ansible_collections.kvmops.console.tests.fuzz import proxy_properties as properties

PIXEL_SIZES = (0, 8, 16, 32)


def fuzz_client(how: bytes, data: bytes) -> None:
    """How: which treatment; whether INIT was offered; two places to cut at."""
    treatment = properties.TREATMENTS[how[0] % len(properties.TREATMENTS)]
    properties.check_client(treatment, data, how[2:], offered=bool(how[1] & 1))


def fuzz_handshake(how: bytes, data: bytes) -> None:
    """How: which policy; places to cut at. The data are turns: one byte with whose it is and its length, then it."""
    turns = []
    while data:
        size = data[0] & 0x7F
        turns.append((bool(data[0] & 0x80), data[1 : 1 + size]))
        data = data[1 + size :]
    properties.check_handshake(properties.POLICIES[how[0] % len(properties.POLICIES)], turns, how[1:])


def fuzz_offer(how: bytes, data: bytes) -> None:
    """How: how large pixels are; where the client asks; two places to cut at."""
    properties.check_offer(data, how[1], how[2:], PIXEL_SIZES[how[0] % len(PIXEL_SIZES)])


TARGETS = (fuzz_client, fuzz_handshake, fuzz_offer)
HOW = 4


def fuzz(data: bytes) -> None:
    """One input."""
    if len(data) > HOW:
        TARGETS[data[0] % len(TARGETS)](data[1 : 1 + HOW], data[1 + HOW :])


def seeds() -> list[bytes]:
    """Conversations to begin with."""
    say = _rfb.build
    client = [
        _rfb.set_encodings(0, -223, -309, -316, -257) + _rfb.xvp(4) + _rfb.pointer_event(1, 2, 0x80),
        _rfb.update_request(0, 0, 9, 9) + _rfb.key_event(97, down=True) + _rfb.extended_cut_text(b"abcd"),
        say(_rfb.CLIENT_MESSAGES, "client_cut_text", payload=b"text")
        + say(_rfb.CLIENT_MESSAGES, "fence", flags=1, payload=b"abc")
        + say(_rfb.CLIENT_MESSAGES, "set_desktop_size", width=1, height=1, items=[(1, 0, 0, 1, 1, 0)]),
        say(_rfb.CLIENT_MESSAGES, "qemu_key_event", down=1, keysym=97, keycode=30)
        + say(_rfb.CLIENT_MESSAGES, "qemu_audio", operation=2, payload=bytes(6))
        + say(_rfb.CLIENT_MESSAGES, "set_pixel_format", payload=_rfb.TRUE_COLOUR),
    ]
    init = struct.pack("!HH16sI", 8, 8, _rfb.TRUE_COLOUR, 4) + b"QEMU"
    v33, v38 = _rfb.format_version((3, 3)), _rfb.format_version((3, 8))
    handshakes = [
        [(1, v38), (0, v38), (1, b"\2\1\2"), (0, b"\1"), (1, bytes(4)), (0, b"\1"), (1, init)],
        [(1, v38), (0, v38), (1, b"\1\2"), (0, b"\2"), (1, bytes(16)), (0, bytes(16)), (1, b"\0\0\0\1\0\0\0\2no")],
        [(1, v33), (0, v33), (1, b"\0\0\0\1"), (0, b"\1"), (1, init + b"\2")],
    ]
    raw = b"\0\0\0\1" + struct.pack("!HHHHi", 0, 0, 1, 1, 0) + bytes(4)
    size = b"\0\0\xff\xff" + struct.pack("!HHHHi", 0, 0, 1, 1, -308) + b"\1" + bytes(19)
    server = [raw + b"\2" + raw, size + struct.pack("!HHHHi", 0, 0, 0, 0, -224) + b"\3\0\0\0\0\0\0\2hi\2"]
    treatments = range(len(properties.TREATMENTS))
    return [
        *(bytes((0, number, 1, 3, 9)) + words for number in treatments for words in client),
        *(
            bytes((1, 0, 1, 5, 7)) + b"".join(bytes((who << 7 | len(words),)) + words for who, words in turns)
            for turns in handshakes
        ),
        *(bytes((2, 3, asked, 5, 7)) + words for asked in (0, 5, 30) for words in server),
    ]


def main(arguments: list[str]) -> None:
    """Fill an empty corpus, then run until libFuzzer has enough."""
    if len(arguments) > 1 and Path(arguments[1]).is_dir() and not any(Path(arguments[1]).iterdir()):
        for number, seed in enumerate(seeds()):
            (Path(arguments[1]) / f"seed-{number}").write_bytes(seed)
    atheris.Setup(arguments, fuzz)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
