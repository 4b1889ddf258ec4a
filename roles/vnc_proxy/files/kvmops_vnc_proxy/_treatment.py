# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is done to a session's stream: decided once, from what its server does and what the configuration wants.

Private to this collection.

An affected QEMU (6.0 to 7.2.6, 8.0, 8.1.0 and 8.1.1) takes XVP (-309) in a client's list for three other features, and
sends -257 to a client that never asked for it; and it obeys power messages from any client that listed DesktopSize
(-223), Hextile (5) or -257, whether power control is on or off (QEMU: ui/vnc.c, set_encodings and protocol_client_msg).
So its clients' -309 stays here, INIT comes from here, and power messages pass here or not at all. A fixed QEMU minds
its own gate: nothing is touched, unless the policy wants less than the server would do.
"""

from __future__ import annotations

from typing import NamedTuple

ALLOW, DENY, AS_CONFIGURED = "allow", "deny", "as_configured"
"""Power policies: power messages pass whatever the server's setting is; never; as its setting says."""

PASS, REFUSE = "pass", "refuse"
"""What is done about security types that encrypt, or that we don't know."""

RELAY, END = "relay", "end"
"""What is done about a message of an unknown type."""

NEGOTIATED, DROP = "negotiated", "drop"
"""What is done about power messages, besides PASS."""


class Behaviour(NamedTuple):
    """What a server does, as asking it has shown.

    `power_control`: it answers -309 with XVP INIT. `pointer_change`: it sends -257 unasked, which makes it affected.
    `qemu`: it can be taken for QEMU. `gated`: it turns power messages away that were not negotiated; None when it was
    not asked.
    """

    power_control: bool
    pointer_change: bool
    qemu: bool
    gated: bool | None


class Policy(NamedTuple):
    """What the configuration wants.

    `power`: ALLOW, DENY or AS_CONFIGURED. `view_only`: the client may look, and do nothing else. `opaque_security`:
    PASS or REFUSE. `unknown_message`: RELAY (from then on nothing is parsed any more; where something has to be
    enforced, the session ends all the same) or END. `most_cut_text`: bytes of a client's clipboard; more end the
    session.
    """

    power: str = AS_CONFIGURED
    view_only: bool = False
    opaque_security: str = PASS
    unknown_message: str = RELAY
    most_cut_text: int = 1 << 20

    @property
    def refuses_opaque(self) -> bool:
        """Whether security types are refused behind which nothing can be seen, and so nothing be enforced."""
        return self.opaque_security == REFUSE or self.power == DENY or self.view_only


class Treatment(NamedTuple):
    """What is done to one session's stream.

    `strip_xvp`: -309 leaves the client's SetEncodings. `offer`: XVP INIT enters the server's stream once the client has
    listed -309. `power`: what becomes of power messages: PASS; NEGOTIATED, they pass after an INIT of ours from a
    client that still lists -309 and whose list makes an affected server obey; DROP. `view_only`, `unknown_message` and
    `most_cut_text` are the policy's. `strip_extended_mouse`: -316 leaves SetEncodings too, since it makes PointerEvent
    longer once a server has said yes to it, which we would not see.
    """

    strip_xvp: bool
    offer: bool
    power: str
    view_only: bool
    unknown_message: str
    most_cut_text: int
    strip_extended_mouse: bool

    @property
    def must_parse(self) -> bool:
        """Whether losing the parse would lose something that is enforced."""
        return self.view_only or self.power == DROP


def decide(behaviour: Behaviour | None, policy: Policy) -> Treatment:
    """Return what is done to a session with this server; None is a server that could not be asked."""
    strip_xvp, offer, power = _about_power(behaviour, DENY if policy.view_only else policy.power)
    enforced = power == DROP  # As it is for every mere viewer
    return Treatment(
        strip_xvp=strip_xvp,
        offer=offer,
        power=power,
        view_only=policy.view_only,
        unknown_message=END if enforced else policy.unknown_message,
        most_cut_text=policy.most_cut_text,
        strip_extended_mouse=enforced or strip_xvp,
    )


_Power = tuple[bool, bool, str]
_UNTOUCHED: _Power = (False, False, PASS)
_HEALED: _Power = (True, True, NEGOTIATED)
_SILENCED: _Power = (True, False, DROP)
_UNHEARD: _Power = (False, False, DROP)


def _about_power(behaviour: Behaviour | None, power: str) -> _Power:
    """Return strip_xvp, offer and power: one line for each kind of server."""
    if behaviour is None:  # Might be affected, and might have power control off: no promise can be kept
        return _SILENCED
    if behaviour.pointer_change:  # Affected, power control on
        return _SILENCED if power == DENY else _HEALED
    if behaviour.gated is False:  # Affected, power control off
        return _HEALED if power == ALLOW else _SILENCED
    if behaviour.power_control or not behaviour.qemu:  # Fixed, power control on; or another kind of server
        return _SILENCED if power == DENY else _UNTOUCHED
    if behaviour.gated is None:  # Power control off, affected or not: nobody was offered anything
        return _UNHEARD
    return _UNHEARD if power == DENY else _UNTOUCHED  # Fixed, power control off
