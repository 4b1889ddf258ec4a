# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is counted, and how Prometheus gets it.

Private to this collection.

Counting is adding to plain numbers; only a scrape makes samples of them, with the bytes of the sessions that are open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, Callable, NamedTuple

from ansible_collections.kvmops.console.plugins.module_utils._errors import MissingLibrary

PREFIX = "kvmops_vnc_proxy_"


class Traffic(NamedTuple):
    """Bytes of sessions: to clients and to servers."""

    to_client: int
    to_server: int


class Metrics:
    """The numbers. `open_sessions()` gives how many there are, and their bytes up to now."""

    __slots__ = (
        "_open_sessions",
        "_registry",
        "audit_lines_lost",
        "behaviours",
        "bytes_to_client",
        "bytes_to_server",
        "dropped",
        "ended",
        "offers",
        "opaque",
        "opened",
        "power",
        "refused",
    )

    def __init__(self, open_sessions: Callable[[], tuple[int, Traffic]]) -> None:
        self._open_sessions = open_sessions
        self._registry: Any = None
        self.opened = 0
        self.ended: Counter[str] = Counter()
        """By reason."""
        self.refused: Counter[str] = Counter()
        """By cause."""
        self.power: Counter[str] = Counter()
        """Power messages by outcome: passed or dropped."""
        self.dropped: Counter[str] = Counter()
        """Messages of mere viewers, by name."""
        self.offers: Counter[str] = Counter()
        """By outcome: made or lost."""
        self.behaviours: Counter[str] = Counter()
        """What asking showed, by verdict."""
        self.opaque = 0
        self.bytes_to_client = 0
        """Of sessions that have ended."""
        self.bytes_to_server = 0
        self.audit_lines_lost: Callable[[], int] = int

    def scrape(self) -> bytes:
        """Return all in Prometheus' text format. Raises MissingLibrary."""
        if self._registry is None:
            self._registry = self._make_registry()
        library = _library()
        text: bytes = library.generate_latest(self._registry)
        return text

    def collect(self) -> Iterable[Any]:
        """Make the samples: what prometheus_client calls."""
        library = _library().core
        count, traffic = self._open_sessions()
        yield library.GaugeMetricFamily(PREFIX + "sessions_open", "Sessions that are open.", value=count)
        for name, help_, value in (
            ("sessions_opened", "Sessions that were opened.", self.opened),
            ("opaque_sessions", "Sessions that were not parsed (any more).", self.opaque),
            ("audit_lines_lost", "Lines of the audit log that could not be written.", self.audit_lines_lost()),
        ):
            yield library.CounterMetricFamily(PREFIX + name, help_, value=value)
        for name, help_, label, counter in (
            ("sessions_ended", "Sessions that have ended.", "reason", self.ended),
            ("refused", "Requests and connections that were turned away.", "cause", self.refused),
            ("power_messages", "Power messages of clients.", "outcome", self.power),
            ("messages_dropped", "Messages of clients that may only view.", "message", self.dropped),
            ("offers", "Power control that was offered in an affected server's place.", "outcome", self.offers),
            ("servers_asked", "Servers that were asked how they behave.", "verdict", self.behaviours),
            (
                "bytes",
                "Bytes of RFB.",
                "direction",
                {
                    "to_client": self.bytes_to_client + traffic.to_client,
                    "to_server": self.bytes_to_server + traffic.to_server,
                },
            ),
        ):
            family = library.CounterMetricFamily(PREFIX + name, help_, labels=[label])
            for key, value in sorted(counter.items()):
                family.add_metric([key], value)
            yield family

    def _make_registry(self) -> Any:
        library = _library()
        registry = library.CollectorRegistry()
        library.ProcessCollector(registry=registry)
        registry.register(self)
        return registry


def require() -> None:
    """Raise MissingLibrary unless metrics can be served."""
    _library()


def _library() -> Any:
    try:
        import prometheus_client
        import prometheus_client.core
    except ImportError as error:
        raise MissingLibrary(
            "Metrics need the Python library prometheus_client: install the package python3-prometheus-client "
            "(Debian, Ubuntu) or python3-prometheus_client (Fedora, RHEL with EPEL, SUSE), or leave out metrics."
        ) from error
    return prometheus_client
