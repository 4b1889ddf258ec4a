# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs gates, shows progress while they run, and ends with one table."""

from __future__ import annotations

import collections
import shutil
import tempfile
import threading
import time
import traceback
from pathlib import Path
from typing import NamedTuple, Optional

from . import host
from .gate import LIVE, STATIC, Failed, Gate, Job, Outcome

HEARTBEAT = 30
SHOWN_LINES = 150
NEWLINE = "\n"


class Row(NamedTuple):
    """A gate's line in the table."""

    gate: str
    outcome: Outcome
    seconds: float
    trouble: str


class Runner:
    """Two lanes of gates; every gate runs, whatever became of those before it."""

    def __init__(self, gates: list[Gate], folder: Path) -> None:
        self.gates = gates
        self.folder = folder
        self.rows: list[Row] = []
        self._left = gates.copy()
        self._jobs: dict[str, tuple[Job, float]] = {}
        self._stopped = threading.Event()
        self._screen = threading.Lock()
        self._choice = threading.Lock()

    def run(self) -> list[Row]:
        """Run all gates and return their rows, in the order of the gates."""
        lanes = [threading.Thread(target=self._lane, args=(lane,)) for lane in (STATIC, LIVE)]
        for lane in lanes:
            lane.start()
        try:
            beat = time.monotonic()
            while any(lane.is_alive() for lane in lanes):
                for lane in lanes:
                    lane.join(0.5)
                if time.monotonic() - beat >= HEARTBEAT:
                    beat = time.monotonic()
                    self._heartbeat()
        except KeyboardInterrupt:
            self._stopped.set()
            for job, _started in list(self._jobs.values()):
                job.stop()
            for lane in lanes:
                lane.join()
            raise
        order = {gate.name: place for place, gate in enumerate(self.gates)}
        return sorted(self.rows, key=lambda row: order[row.gate])

    def _say(self, text: str) -> None:
        with self._screen:
            host.say(text)

    def _heartbeat(self) -> None:
        for name, (job, started) in sorted(self._jobs.items()):
            lines = job.log.read_text(encoding="utf-8", errors="replace").splitlines()
            last = lines[-1].strip()[:90] if lines else ""
            self._say(f"  ... {name} runs for {time.monotonic() - started:.0f} s: {last}")

    def _next(self, lane: str) -> Optional[Gate]:
        """The lane's next gate; without one of its own left, the live lane helps from the static lane's end.

        Live gates stay in their lane: two of them would be in each other's way.
        """
        with self._choice:
            own = [gate for gate in self._left if gate.lane == lane]
            others = [gate for gate in self._left if gate.lane == STATIC]
            if self._stopped.is_set() or not (own or others):
                return None
            gate = own[0] if own else others[-1]
            self._left.remove(gate)
            return gate

    def _lane(self, lane: str) -> None:
        while gate := self._next(lane):
            self.rows.append(self._one(gate))

    def _one(self, gate: Gate) -> Row:
        self._say(f"start   {gate.name}")
        job = Job(gate.name, self.folder / gate.name)
        started = time.monotonic()
        self._jobs[gate.name] = (job, started)
        trouble = ""
        try:
            outcome = gate.run(job)
        except (Failed, host.Missing) as error:
            outcome, trouble = Outcome(failed=1), str(error)
        except Exception:
            outcome, trouble = Outcome(failed=1), "the gate itself broke"
            job.write(traceback.format_exc())
        seconds = time.monotonic() - started
        del self._jobs[gate.name]
        if outcome.failed:
            self._show(gate, job, trouble)
        self._say(f"{'FAILED ' if outcome.failed else 'passed '} {gate.name}, {seconds:.0f} s")
        shutil.rmtree(job.folder, ignore_errors=True)
        return Row(gate.name, outcome, seconds, trouble)

    def _show(self, gate: Gate, job: Job, trouble: str) -> None:
        lines = job.log.read_text(encoding="utf-8", errors="replace").splitlines()
        kept = host.cache() / "logs"
        kept.mkdir(exist_ok=True)
        shutil.copy(job.log, kept / f"{gate.name}.log")
        text = [f"----- {gate.name}: the end of its log (all of it: {kept / gate.name}.log)", *lines[-SHOWN_LINES:]]
        self._say("\n".join([*text, f"----- {gate.name}: {trouble or 'tests failed'}"]))


def table(rows: list[Row]) -> str:
    """The summary: a line a gate, the skips with their reasons, and the sum."""
    width = max(len("gate"), *(len(row.gate) for row in rows))
    lines = ["", f"{'gate':<{width}}  result  seconds  passed  failed  skipped"]
    for row in rows:
        counts = row.outcome
        result = "FAILED" if counts.failed else "passed"
        numbers = f"{row.seconds:7.0f}  {counts.passed:6}  {counts.failed:6}  {counts.skipped:7}"
        lines.append(f"{row.gate:<{width}}  {result}  {numbers}  {row.trouble.partition(NEWLINE)[0]}".rstrip())
    skips = [row for row in rows if row.outcome.reasons]
    if skips:
        lines += ["", "Skipped:"]
    for row in skips:
        for reason, times in sorted(collections.Counter(row.outcome.reasons).items()):
            lines.append(f"  {row.gate}: {times} x {reason}")
    passed = sum(row.outcome.passed for row in rows)
    failed = sum(row.outcome.failed for row in rows)
    skipped = sum(row.outcome.skipped for row in rows)
    return "\n".join([*lines, "", f"{passed} passed, {failed} failed, {skipped} skipped"])


def run(gates: list[Gate]) -> bool:
    """Run the gates in a scratch folder that is removed, print the table, and tell whether all is well."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kvmops-gates-") as scratch:
        folder = Path(scratch)
        # Other users read from it: the lab's QEMU, for one.
        folder.chmod(0o755)
        rows = Runner(gates, folder).run()
    host.say(f"\n{len(rows)} gates in {time.monotonic() - started:.0f} s")
    host.say(table(rows))
    return not any(row.outcome.failed for row in rows)
