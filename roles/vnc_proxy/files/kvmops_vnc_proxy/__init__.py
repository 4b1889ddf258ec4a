# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A VNC proxy that heals: it knows RFB, and keeps what a server does wrong away from the viewers.

The parts that know the protocol (`_treatment`, `_handshake`, `_client_stream`, `_offer`) do no I/O; the rest of the
package moves bytes, finds targets and answers for the service.
"""

__version__ = "1.0.0"
