#!/bin/sh
# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Starts the gates with a Python that runs. The system's comes first: version managers leave commands on PATH that only
# fail when they are called.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
for python in /usr/bin/python3 python3 python3.13 python3.12 python3.11 python3.10 python3.9; do
    if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' >/dev/null 2>&1; then
        PYTHONPATH=$here exec "$python" -B -m gates "$@"
    fi
done
echo "No Python 3.9 or newer runs here: install python3 (Debian, Ubuntu: apt-get install python3)." >&2
exit 2
