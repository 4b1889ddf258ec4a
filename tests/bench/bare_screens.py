# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What domain_screenshot is measured against: libvirt-python in a pool of threads, and nothing else.

bare_screens.py FOLDER THREADS    writes a picture of every running domain, as QEMU makes it, to FOLDER
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import libvirt


def main() -> None:
    """Print the seconds that the loop took."""
    folder, threads = Path(sys.argv[1]), int(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    connection = libvirt.open("qemu:///system")

    def shoot(domain: libvirt.virDomain) -> None:
        chunks: list[bytes] = []
        stream = connection.newStream(0)
        domain.screenshot(stream, 0, 0)
        stream.recvAll(lambda _stream, data, _opaque: chunks.append(data), None)
        stream.finish()
        (folder / f"{domain.name()}.png").write_bytes(b"".join(chunks))

    begin = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(shoot, connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE)))
    print(time.perf_counter() - begin)


if __name__ == "__main__":
    main()
