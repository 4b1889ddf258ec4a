# Copyright: (c) 2026, The kvmops.console authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Plans of power cycles: order, dependencies, batches."""

from __future__ import annotations

import itertools
import typing as t

import pytest

from ansible_collections.kvmops.console.plugins.module_utils._errors import InputError
from ansible_collections.kvmops.console.plugins.plugin_utils._rolling import (
    PRIORITY,
    Machine,
    Rule,
    batches,
    machine,
    still_to_pass,
    waiting,
)


def one(label: str, **more: t.Any) -> Machine:
    host, _slash, name = label.rpartition("/")
    return Machine(host or "hv", name, f"uuid of {name}", **more)


def labels(planned: list[list[Machine]]) -> list[list[str]]:
    return [[each.name for each in batch] for batch in planned]


def test_nothing_to_do() -> None:
    assert batches([], 3) == []


@pytest.mark.parametrize(
    ("size", "planned"), [(1, [["a"], ["b"], ["c"]]), (2, [["a", "b"], ["c"]]), (9, [["a", "b", "c"]])]
)
def test_so_many_at_a_time(size: int, planned: list[list[str]]) -> None:
    assert labels(batches([one("c"), one("a"), one("b")], size)) == planned


def test_a_batch_has_one_priority() -> None:
    machines = [one("late", priority=90), one("usual"), one("first", priority=1), one("too", priority=1)]
    assert labels(batches(machines, 9)) == [["first", "too"], ["usual"], ["late"]]


def test_what_waits_comes_later_whatever_its_priority() -> None:
    machines = [
        one("web", priority=1, after=("db-*",)),
        one("db-1"),
        one("db-2", priority=60),
        one("other", priority=2),
    ]
    assert labels(batches(machines, 9)) == [["other"], ["db-1"], ["db-2"], ["web"]]


def test_before_is_after_from_the_other_side() -> None:
    assert labels(batches([one("z", before=("a*",)), one("a1"), one("a2")], 9)) == [["z"], ["a1", "a2"]]


def test_a_pattern_with_a_host_means_that_host() -> None:
    machines = [one("hv-1/web", after=("hv-2/db",)), one("hv-1/db"), one("hv-2/db")]
    planned = [[each.label for each in batch] for batch in batches(machines, 9)]
    assert planned == [["hv-1/db", "hv-2/db"], ["hv-1/web"]]


def test_the_same_name_on_two_hosts_is_two_domains() -> None:
    assert len(batches([one("hv-1/db"), one("hv-2/db")], 9)[0]) == 2


def test_nobody_waits_for_itself_nor_for_what_is_not_there() -> None:
    assert labels(batches([one("db-1", after=("db-*", "gone"))], 1)) == [["db-1"]]


def test_a_circle_is_named() -> None:
    machines = [
        one("a", after=("b",)),
        one("b", after=("c",)),
        one("c", after=("a",)),
        one("d", after=("c",)),
        one("e"),
    ]
    with pytest.raises(
        InputError, match=r"^These domains wait for each other: hv/a -> hv/b -> hv/c -> hv/a\. Take one"
    ):
        batches(machines, 1)


def test_a_circle_is_found_from_outside_of_it() -> None:
    machines = [one("a", after=("b",)), one("b", after=("c",)), one("c", after=("b",))]
    with pytest.raises(InputError, match=r": hv/b -> hv/c -> hv/b\."):
        batches(machines, 1)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_every_plan_keeps_every_rule(size: int) -> None:
    names = "abcd"
    edges = list(itertools.combinations(names, 2))
    for chosen in itertools.chain.from_iterable(itertools.combinations(edges, number) for number in range(4)):
        machines = [one(name, after=tuple(first for first, second in chosen if second == name)) for name in names[::-1]]
        planned = batches(machines, size)
        place = {each.name: number for number, batch in enumerate(planned) for each in batch}
        assert sorted(place) == list(names)
        assert all(place[first] < place[second] for first, second in chosen)
        assert max(map(len, planned)) <= size


RECORD = {"name": "db-1", "uuid": "u", "order": {"priority": 10, "after": ["dns"], "before": ["web*"]}}


def test_the_metadata_speaks_where_the_play_does_not() -> None:
    assert machine("hv", RECORD, [], []) == Machine("hv", "db-1", "u", 10, ("dns",), ("web*",))
    assert machine("hv", {"name": "x", "uuid": "u"}, [], []) == Machine("hv", "x", "u", PRIORITY)


def test_the_play_has_the_last_word_on_priority_and_adds_to_the_rest() -> None:
    rules = [Rule(["db*"], 20), Rule(["hv/db-1"], 30, after=["ldap"]), Rule(["web"], 1), Rule(["db-1"], before=["x"])]
    assert machine("hv", RECORD, rules, []) == Machine("hv", "db-1", "u", 30, ("dns", "ldap"), ("web*", "x"))
    assert machine("hv", RECORD, [Rule(["db-1"], 0)], []).priority == 0


def test_gates_go_with_those_they_mean() -> None:
    gates: list[dict[str, t.Any]] = [
        {"domains": ["web*"], "check": "agent"},
        {"domains": ["x", "db-?"], "check": "tcp", "host": "db", "port": 5432, "text": None},
    ]
    assert machine("hv", RECORD, [], gates).gates == ({"check": "tcp", "host": "db", "port": 5432},)


def test_who_waits() -> None:
    domains = [
        {"name": "edited", "uuid": "1", "restart_pending": True},
        {"name": "outdated", "uuid": "2", "restart_pending": False, "outdated_process": True},
        {"name": "forecast", "uuid": "3", "restart_pending": False},
        {"name": "well", "uuid": "4", "restart_pending": False, "outdated_process": False},
        {"name": "gated", "uuid": "5"},
        {"name": "theirs", "uuid": "7", "outdated_process": True, "managed_by": {"rewrites": "start"}},
        {"name": "shared", "uuid": "8", "outdated_process": True, "managed_by": {"rewrites": "change"}},
        {"name": "nobody's", "uuid": "9", "outdated_process": True, "managed_by": None},
        {"name": "broken", "uuid": "6", "error": "It cannot be read."},
    ]
    changes = {"domains": [{"uuid": "3", "restart_pending": True}, {"uuid": "4", "restart_pending": False}]}
    found = waiting("hv", {"domains": domains}, changes, ["hv/gated", "other/well"])
    assert [record["name"] for record in found] == ["edited", "outdated", "forecast", "gated", "shared", "nobody's"]
    assert waiting("hv", {"failed": True, "msg": "unreachable"}, {}, []) == []


def test_who_has_a_gate_to_pass_still() -> None:
    audits: dict[str, t.Any] = {
        "hv": {"domains": [{"name": "there"}, {"name": "else"}]},
        "silent": {"failed": True, "msg": "unreachable"},
        "empty": {"domains": []},
    }
    again = ["hv/there", "hv/gone", "silent/db", "empty/gone", "elsewhere/db"]
    assert still_to_pass(again, audits) == ["elsewhere/db", "hv/there", "silent/db"]
    assert still_to_pass([], audits) == []
