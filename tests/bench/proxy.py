# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The proxy's speed, as ratios against websockify, measured in turn in one run over loopback.

Run by `make bench`, or alone: `python -m ansible_collections.kvmops.console.tests.bench.proxy`. Nothing is asserted:
machines are noisy, and a person reads the ratios. Each is that of one round, in which both were measured one right
after the other; what is printed is their median and their range. PROXY_ROUNDS (default 7) says how many rounds.

What healing costs is a few percent at most, less than one round differs from the next, so it is settled in another way:
many short runs of one process, in turn, until the median's confidence interval lies on one side of the limit, or
PROXY_SECONDS (default 30) are over. `python -m … proxy healing` does that alone.

CPU is that of the proxy's processes alone, on a core of their own where there are two.
"""

from __future__ import annotations

import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Callable, NamedTuple

from ansible_collections.kvmops.console.plugins.module_utils import _rfb
from ansible_collections.kvmops.console.tests.bench.proxy_ends import (
    Ends,
    Proxy,
    Session,
    VncServer,
    open_session,
    pinned,
    start_ours,
    start_websockify,
    told,
)

ROUNDS = int(os.environ.get("PROXY_ROUNDS", "7"))
GIB = 1 << 30
MIB = 1 << 20
KIB = 1 << 10
MEGABIT = 1_000_000 // 8

Numbers = dict[str, float]


class Line(NamedTuple):
    """One number: how it is called and printed, and what its ratio may be; `most` is false where more is better."""

    key: str
    what: str
    unit: str
    limit: float
    most: bool = True


class Kind(NamedTuple):
    """A way through a proxy: whose, and to which target."""

    proxy: Proxy
    target: str


class Bench:
    """The servers, the proxies, and what is done with them."""

    def __init__(self, folder: Path) -> None:
        os.sched_setaffinity(0, pinned(0))
        self.ends = Ends(folder)
        self.servers = {name: VncServer(folder, affected=name == "affected") for name in ("fixed", "affected")}
        self.folder = folder
        self.certificate = certificate = self._certificate(folder)
        self.proxies: list[Proxy] = []
        try:
            self.ours = self._keep(start_ours(folder, certificate, self.servers))
            self.theirs = {
                way: self._keep(start_websockify(certificate, self.servers["fixed"], way)) for way in ("tcp", "unix")
            }
        except BaseException:
            self.close()
            raise

    def _keep(self, proxy: Proxy) -> Proxy:
        self.proxies.append(proxy)
        return proxy

    def _certificate(self, folder: Path) -> Path:
        key, certificate, both = folder / "key.pem", folder / "certificate.pem", folder / "both.pem"
        words = ["openssl", "req", "-x509", "-nodes", "-subj", "/CN=bench", "-days", "2"]
        words += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(words, check=True, stderr=subprocess.DEVNULL)
        both.write_text(key.read_text() + certificate.read_text())
        return both

    def close(self) -> None:
        for proxy in self.proxies:
            proxy.close()
        for server in self.servers.values():
            server.close()

    def open(self, kind: Kind) -> Session:
        return open_session(kind.proxy, kind.target, self.servers[kind.target.partition("-")[0]])

    # --- What is measured ---

    def bulk(self, kind: Kind, total: int = GIB) -> Numbers:
        """1 GiB as fast as it goes."""
        session = self.open(kind)
        begin = kind.proxy.cpu()
        run = self.ends.run([session], total=total)
        cpu = kind.proxy.cpu() - begin
        session.close()
        return {"cpu": cpu * GIB / total, "rate": total / run.seconds / 1e6}

    def tls(self, kind: Kind, total: int = GIB // 2) -> Numbers:
        """The same over TLS, half of it."""
        session = self.open(kind)
        begin, started = kind.proxy.cpu(), time.perf_counter()
        sending = self.ends.start([session], total=total)
        session.client.drop(total)
        seconds = time.perf_counter() - started
        cpu = kind.proxy.cpu() - begin
        told(sending)
        session.close()
        return {"cpu": cpu * GIB / total, "rate": total / seconds / 1e6}

    def chunks(self, kind: Kind, seconds: float = 2) -> Numbers:
        """Chunks of 8 KiB, 164 Mbit/s of them."""
        session = self.open(kind)
        begin = kind.proxy.cpu()
        run = self.ends.run([session], chunk=8 * KIB, rate=164 * MEGABIT, seconds=seconds)
        cpu = kind.proxy.cpu() - begin
        session.close()
        return {"cpu": cpu / (run.sent / (8 * KIB)) * 1e6}

    def many(self, kind: Kind, seconds: float = 3) -> Numbers:
        """Eight sessions of 64 Mbit/s in chunks of 8 KiB; in each, a pointer event every 2 ms."""
        sessions = [self.open(kind) for _number in range(8)]
        begin = kind.proxy.cpu()
        run = self.ends.run(sessions, chunk=8 * KIB, rate=64 * MEGABIT, ping=2000, seconds=seconds)
        cpu = kind.proxy.cpu() - begin
        for session in sessions:
            session.close()
        return {"cpu": cpu / run.seconds * 100, "median": run.median, "worst": run.worst}

    def pointer(self, kind: Kind, seconds: float = 2) -> Numbers:
        """A pointer event every millisecond and its answer; nothing else."""
        session = self.open(kind)
        begin = kind.proxy.cpu()
        run = self.ends.run([session], ping=1000, seconds=seconds)
        cpu = kind.proxy.cpu() - begin
        session.close()
        return {"median": run.median, "cpu": cpu / run.trips * 1e6}

    def opening(self, kind: Kind) -> Numbers:
        """Sessions one after the other: connect, upgrade, hear the server's greeting, go."""
        number = 300 if kind.proxy is self.ours else 60
        self.open(kind).close()
        time.sleep(0.3)
        begin = kind.proxy.cpu()
        seconds = self.ends.open(kind.proxy, kind.target, number)
        time.sleep(0.5)  # Until the last process of websockify's has ended and been waited for
        return {"rate": number / seconds, "cpu": (kind.proxy.cpu() - begin) / number * 1000}

    def entering(self, kind: Kind, number: int | None = None, rest: float = 0.5) -> Numbers:
        """Sessions one after the other, as far as noVNC goes before the first pixel. The ends are Python, and slow."""
        number = number or (60 if kind.proxy is self.ours else 20)
        begin = kind.proxy.cpu()
        for _one in range(number):
            self.open(kind).close()
        time.sleep(rest)  # As in `opening`; ours has no other processes, and ends its sessions at once
        return {"cpu": (kind.proxy.cpu() - begin) / number * 1000}

    def fresh(self) -> Proxy:
        """A process of ours that has not done anything yet: memory that was free already would look like none."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        return self._keep(start_ours(folder, self.certificate, self.servers))

    def memory(self, kind: Kind, number: int) -> Numbers:
        """What so many idle sessions add."""
        self.open(kind).close()
        begin = kind.proxy.memory()
        sessions = [self.open(kind) for _number in range(number)]
        grown = kind.proxy.memory() - begin
        for session in sessions:
            session.close()
        time.sleep(1)
        return {"memory": grown / number / KIB}

    def backlog(self, kind: Kind) -> Numbers:
        """A browser that reads 20 Mbit/s of a server that sends flat out: how far it is behind, and who remembers."""
        session = self.open(kind)
        before = grown = kind.proxy.memory()
        running = self.ends.start([session], total=400 * MIB, chunk=64 * KIB, read_rate=20 * MEGABIT, seconds=4)
        while running.poll() is None:
            time.sleep(0.25)
            grown = max(grown, kind.proxy.memory())
        run = told(running)
        session.close()
        return {"behind": run.behind / 1e6, "memory": (grown - before) / MIB}

    def huge(self, kind: Kind) -> Numbers:
        """One message of 15 MiB from the client: until it has arrived, or has been refused."""
        session = self.open(kind)
        arrived = threading.Event()

        def swallow() -> None:
            left = 15 * MIB
            while left > 0 and (data := session.server.recv(min(left, MIB))):
                left -= len(data)
            arrived.set()

        threading.Thread(target=swallow, daemon=True).start()
        begin = kind.proxy.cpu()
        session.client.say(_rfb.build(_rfb.CLIENT_MESSAGES, "client_cut_text", payload=bytes(15 * MIB - 8)))
        arrived.wait(120)
        cpu = kind.proxy.cpu() - begin
        session.close()
        return {"cpu": cpu}


# --- Rounds and lines ------------------------------------------------------------------------------------------------


def rounds(number: int, *measures: Callable[[], Numbers]) -> list[list[Numbers]]:
    """Each measure so often, in turn, the first one last every other time: who goes first may have it better."""
    taken: list[list[Numbers]] = [[] for _measure in measures]
    for one in range(number):
        order = list(enumerate(measures))
        for place, measure in order if one % 2 else reversed(order):
            taken[place].append(measure())
    return taken


def spread(values: list[float]) -> str:
    """Median and range."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def compare(title: str, ours: list[Numbers], theirs: list[Numbers], lines: list[Line]) -> None:
    """Print what was measured, and the ratios of each round."""
    for line in lines:
        one, two = [each[line.key] for each in ours], [each[line.key] for each in theirs]
        ratios = [mine / other for mine, other in zip(one, two) if other]
        good = statistics.median(ratios) <= line.limit if line.most else statistics.median(ratios) >= line.limit
        bound = f"{'at most' if line.most else 'at least'} {line.limit:g}" if 0 < line.limit < math.inf else ""
        print(
            f"{title + ', ' + line.what:<62} {statistics.median(one):9.3f} {statistics.median(two):9.3f} {line.unit:<8}"
            f" ratio {spread(ratios):<24} {bound}{'' if good else '  MISSED'}",
            flush=True,
        )


def tell(title: str, values: list[float], unit: str, limit: float) -> None:
    """Print a number of ours that has a limit of its own."""
    good = statistics.median(values) <= limit
    print(f"{title:<62} {spread(values)} {unit}, at most {limit:g}{'' if good else '  MISSED'}", flush=True)


def against(bench: Bench, way: str, measure: Callable[[Kind], Numbers], title: str, lines: list[Line]) -> None:
    """Ours against websockify."""
    tls = "-tls" if title.startswith("TLS") else ""
    theirs, ours = rounds(
        ROUNDS,
        lambda: measure(Kind(bench.theirs[way], f"fixed-{way}{tls}")),
        lambda: measure(Kind(bench.ours, f"fixed-{way}{tls}")),
    )
    compare(title, ours, theirs, lines)


# --- What healing costs -----------------------------------------------------------------------------------------------

SAME = 1.03
"""What healing may cost over passing through."""
SECONDS = float(os.environ.get("PROXY_SECONDS", "30"))
"""How long one measure is repeated, unless it is settled before."""
SHORT = 0.1
"""Seconds of one run at a given rate: many short ones are less at the mercy of the machine than a few long ones."""
LITTLE = 32 * MIB
"""Bytes of one run flat out."""
LEAST = 8
"""Ratios before anything counts as settled."""
LEVEL = 0.05
"""How likely the interval may be wrong."""


def interval(values: list[float]) -> tuple[float, float]:
    """The confidence interval of the median, by order alone: nothing is assumed of how the values lie."""
    ordered, number = sorted(values), len(values)
    outside, tail = 0, 1.0
    while 2 * tail / 2**number <= LEVEL:
        outside += 1
        tail += math.comb(number, outside)
    if not outside:
        return -math.inf, math.inf
    return ordered[outside - 1], ordered[number - outside]


class Costs(NamedTuple):
    """Ratios of healing to passing through, more being worse, and what is to be said of them."""

    title: str
    ratios: list[float]

    @property
    def settled(self) -> bool:
        low, high = interval(self.ratios)
        return len(self.ratios) >= LEAST and (high <= SAME or low > SAME)

    def tell(self) -> None:
        low, high = interval(self.ratios)
        verdict = "" if high <= SAME else "  MISSED" if low > SAME else "  not settled"
        first, _median, third = statistics.quantiles(self.ratios, n=4) if len(self.ratios) > 1 else self.ratios * 3
        print(
            f"{self.title:<62} {statistics.median(self.ratios):.3f}, {100 - 100 * LEVEL:.0f} % sure of {low:.3f} to "
            f"{high:.3f}, half of all within {first:.3f} to {third:.3f}, at most {SAME} "
            f"({len(self.ratios)} runs of each kind, twice){verdict}",
            flush=True,
        )


def settle(bench: Bench, target: str, measure: Callable[[Kind], Numbers], title: str, lines: list[Line]) -> None:
    """Measure passing, healing, healing, passing, so that what changes with time is in both; again and again."""
    passing, healing = Kind(bench.ours, f"fixed-{target}"), Kind(bench.ours, f"affected-{target}")
    costs = {line.key: Costs(f"{title}, {line.what}", []) for line in lines}
    measure(passing)
    measure(healing)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end and not all(cost.settled for cost in costs.values()):
        first, second, third, fourth = (measure(kind) for kind in (passing, healing, healing, passing))
        for line in lines:
            ratio = (second[line.key] + third[line.key]) / (first[line.key] + fourth[line.key])
            costs[line.key].ratios.append(ratio if line.most else 1 / ratio)
    for cost in costs.values():
        cost.tell()


def healing(bench: Bench) -> None:
    """Everything that is measured, where it is not about who is known to whom."""
    print(f"\nwhat healing costs over passing through: ratios of CPU and of time, {SECONDS:g} s for each at most")
    print("(CPU is the process's own; ratios of time are as good as the machine is quiet)")
    cpu = Line("cpu", "CPU", "", SAME)
    rate = Line("rate", "1/throughput", "", SAME, most=False)
    delay = Line("median", "p50", "", SAME)
    for way in ("tcp", "unix"):
        settle(bench, way, partial(bench.bulk, total=LITTLE), f"{LITTLE // MIB} MiB from {way}", [cpu, rate])
    settle(bench, "unix-tls", partial(bench.tls, total=LITTLE), f"TLS, {LITTLE // MIB} MiB from unix", [cpu, rate])
    for way in ("tcp", "unix"):
        settle(bench, way, partial(bench.chunks, seconds=SHORT), f"8 KiB chunks from {way}", [cpu])
    settle(bench, "tcp", partial(bench.many, seconds=SHORT), "8 sessions of 64 Mbit/s with pointer", [cpu, delay])
    settle(bench, "tcp", partial(bench.pointer, seconds=SHORT), "pointer round trip", [cpu, delay])
    entering = partial(bench.entering, number=12, rest=0.02)
    settle(bench, "unix", entering, "sessions to unix, as far as the desktop", [cpu])


CPU_BULK = Line("cpu", "CPU", "s/GiB", 0.6)
RATE = Line("rate", "throughput", "MB/s", 1.3, most=False)


def main() -> None:
    """Print everything."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (files[1], files[1]))
    affinity = os.sched_getaffinity(0)
    with tempfile.TemporaryDirectory(prefix="kvmops-bench-") as folder:
        bench = Bench(Path(folder))
        try:
            if "healing" not in sys.argv[1:]:
                print(
                    f"\nthe proxy against websockify: {ROUNDS} rounds; ours, websockify's, ratio and its range, limit"
                )
                speed(bench)
                cost(bench)
                behind(bench)
            healing(bench)
        finally:
            bench.close()
            os.sched_setaffinity(0, affinity)
            resource.setrlimit(resource.RLIMIT_NOFILE, files)


def speed(bench: Bench) -> None:
    """Bytes and messages."""
    for way in ("tcp", "unix"):
        against(bench, way, bench.bulk, f"1 GiB from {way}", [CPU_BULK, RATE])
    against(bench, "unix", bench.tls, "TLS, 512 MiB from unix", [CPU_BULK._replace(limit=0.8), RATE._replace(limit=1)])
    for way in ("tcp", "unix"):
        against(bench, way, bench.chunks, f"8 KiB chunks from {way}", [Line("cpu", "CPU of one", "us", 0.8)])
    against(
        bench,
        "tcp",
        bench.many,
        "8 sessions of 64 Mbit/s with pointer",
        [Line("cpu", "CPU", "% core", 0.8), Line("median", "pointer p50", "us", 1)],
    )
    against(
        bench,
        "tcp",
        bench.pointer,
        "pointer round trip",
        [Line("median", "p50", "us", 1), Line("cpu", "CPU", "us", 0.8)],
    )


def cost(bench: Bench) -> None:
    """Sessions."""
    lines = [Line("rate", "opened a second", "", 8, most=False), Line("cpu", "CPU of one", "ms", 0.15)]
    against(bench, "unix", bench.opening, "sessions to unix", lines)
    against(bench, "tcp", bench.opening, "sessions to tcp", lines)
    # Nobody can tell whether it is still the same server over TCP, so it is asked anew when no session is open, once a
    # client gets in; identity listener takes an administrator's word for it.
    entering = [Line("cpu", "CPU of one", "ms", math.inf)]
    against(bench, "unix", bench.entering, "sessions to unix, as far as the desktop", entering)
    against(bench, "tcp", bench.entering, "sessions to tcp, as far as the desktop, asked each time", entering)
    for name, tls, most in (("ws", "", 16), ("wss", "-tls", 32)):
        for title, target in (("memory of an idle session", "fixed-unix"), ("    healing", "affected-unix")):
            taken = [bench.memory(Kind(bench.fresh(), target + tls), 300)["memory"] for _round in range(2)]
            tell(f"{title}, {name}", taken, "KiB", most)
        theirs = [bench.memory(Kind(bench.theirs["unix"], "fixed-unix" + tls), 20)["memory"] for _round in range(2)]
        print(f"    websockify, {name:<47} {spread(theirs)} KiB")
    hold(bench, 2000)


def hold(bench: Bench, number: int) -> None:
    """So many idle sessions at once, and all of them alive."""
    kind = Kind(bench.ours, "fixed-unix")
    before = bench.ours.memory()
    sessions = [bench.open(kind) for _number in range(number)]
    grown = (bench.ours.memory() - before) / number / KIB
    begin = bench.ours.cpu()
    time.sleep(3)
    idle = (bench.ours.cpu() - begin) / 3 * 100
    alive = 0
    for session in sessions:
        session.client.say(_rfb.pointer_event(1, 2))
        alive += session.server.recv(6) == _rfb.pointer_event(1, 2)
    for session in sessions:
        session.close()
    print(f"{number} idle sessions: {alive} alive, {grown:.1f} KiB each, {idle:.1f} % of a core while nothing happens")


def behind(bench: Bench) -> None:
    """Slow clients, and clients that say too much."""
    for way in ("unix", "tcp"):
        ours, theirs = rounds(
            2,
            lambda way=way: bench.backlog(Kind(bench.ours, f"fixed-{way}")),  # type: ignore[misc]
            lambda way=way: bench.backlog(Kind(bench.theirs[way], f"fixed-{way}")),  # type: ignore[misc]
        )
        # A TCP server's own send buffer holds about 4 MB of it, which nobody but the server can change.
        limit = 1.5 if way == "unix" else 4 + 1.5
        tell(f"20 Mbit/s reader of a {way} server, behind by", [each["behind"] for each in ours], "MB", limit)
        tell("    memory grows by", [each["memory"] for each in ours], "MiB", 1)
        print(f"    websockify: behind by {spread([each['behind'] for each in theirs])} MB of 419,", end=" ")
        print(f"memory grows by {spread([each['memory'] for each in theirs])} MiB")
    ours = [bench.huge(Kind(bench.ours, "fixed-unix")) for _round in range(5)]
    tell("one message of 15 MiB, CPU", [each["cpu"] for each in ours], "s", 0.2)
    print(f"    websockify: {bench.huge(Kind(bench.theirs['unix'], 'fixed-unix'))['cpu']:.1f} s")


if __name__ == "__main__":
    main()
