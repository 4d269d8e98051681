"""A simulated run as one HTML file: the live page of its lab, with what it would have been told.

python -m tests.sim_picture 6 7                          lab 6, seed 7 of tests/sim_raft_servers
python -m tests.sim_picture 6 elections                  lab 6, what lab06/explore_raft.py finds
python -m tests.sim_picture 6 log                        lab 6, what lab06/explore_log.py finds
python -m tests.sim_picture 5 7 --only "two crashes"     lab 5, seed 7 of that scenario

The file needs no server and nothing from elsewhere. A run that fails is drawn up to its failure.
"""

import argparse
import contextlib
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from tests.lab06 import explore_log, explore_raft, explored
from tests.lab06.reduction import Reduction
from tests.sim_chord.scenarios import SCENARIOS, play
from tests.sim_raft_core.properties import Violation
from tests.sim_raft_servers import faults
from tests.support.harness import ROOT, load

watch = load(ROOT / "lab06_raft/watch.py")
watching = load(ROOT / "lab06_raft/watching.py")

EXPLORED = ("elections", "log")  # by lab06/explore_raft.py, by lab06/explore_log.py
RAFT_INTERVAL = 0.1  # s of virtual time between two events
CHORD_INTERVAL = 0.25


class RaftRecorder:
    """Watches each server of a simulated cluster, as watch.py does."""

    def __init__(self, cluster):
        self.cluster, self.events = cluster, []
        self._timeline = watch.Timeline(cluster.addresses, 0.0)
        self._watchers: dict = {}  # by process
        self._look()

    def _look(self) -> None:
        cluster, now = self.cluster, self.cluster.world.now
        for member in cluster.addresses:
            process = cluster.processes.get(member)
            if process is None:
                self._timeline.gone(member)
            elif process.is_started and not process.loop.is_paused:
                if process not in self._watchers:
                    watcher = self._watchers[process] = watching.Watcher(process.node)
                    process.node.watchers += (watcher,)
                report = self._watchers[process].report()
                states = [watch.fields(state) for state in report.states]
                traffic = [watch.fields(message) for message in report.traffic]
                self._timeline.report(member, states, traffic, now)
        self.events.append(self._timeline.event(now))
        cluster.world.after(RAFT_INTERVAL, self._look)


def record_raft(seed: int) -> tuple[list[dict], str]:
    """Play a seed; return the events for the page, and how the run ended."""
    recorders = []

    def record(cluster):
        clock = SimpleNamespace(time=lambda: cluster.world.now)
        patches.enter_context(mock.patch.object(watching, "time", clock))
        recorders.append(RaftRecorder(cluster))

    with contextlib.ExitStack() as patches:
        try:
            faults.run(seed, record)
            end = "no property was violated"
        except Violation as error:
            end = str(error)
    return recorders[0].events, end


class ChordRecorder:
    """Looks at each node of a simulated ring; what it sees is what the page shows of a ring."""

    def __init__(self, world):
        self.world, self.events = world, []
        self._happened: list[dict] = []
        self._seen: dict[str, str] = {}  # by address: what the node did at the last look
        self._look()

    def _look(self) -> None:
        world, rules = self.world, self.world.registry.rules
        nodes = [node for process in world.started_nodes if (node := self._node(process))]
        for node in nodes:
            self._note(node["address"], f"node {node['id']}", node["state"])
        for address in self._seen.keys() - {node["address"] for node in nodes}:
            self._note(address, f"the node at {address}", "no longer in the ring")
            del self._seen[address]
        registry = "up" if world.registry.alive and not world.registry.paused else "gone"
        self.events.append(
            {
                "run": str(world.seed),
                "registry": {"address": world.registry.address, "state": registry},
                "epoch": rules.view.epoch,
                "m": world.m,
                "nodes": nodes,
                "events": self._happened[-100:],
                "now": world.sim.now,
            }
        )
        world.sim.after(CHORD_INTERVAL, self._look)

    def _note(self, address: str, name: str, state: str) -> None:
        if self._seen.get(address) == state:
            return
        self._seen[address] = state
        kind = {"in sync": "good", "gone": "bad", "silent": "bad"}.get(state, "")
        number, now = len(self._happened) + 1, self.world.sim.now
        text = f"{name}: {state}"
        self._happened.append({"number": number, "time": now, "text": text, "kind": kind})

    def _node(self, process) -> dict | None:
        """Return what the page shows of a node; None if it has no place in the ring."""
        place, records = process.rules.place, process.rules.store.records
        view = self.world.registry.rules.view
        is_member = any(node.address == process.address for node in view.members)
        if place.id < 0 or not (is_member or process.alive):
            return None
        state = "in sync" if place.in_sync else "syncing"
        if not is_member and not place.leaving:
            state = "joining"
        for name, holds in (
            ("leaving", place.leaving),
            ("silent", process.paused),
            ("gone", not process.alive),
        ):
            state = name if holds else state
        held = [key for key, record in records.items() if record.text is not None]
        fingers = place.view.fingers(place.id) if place.id in place.view.by_id else ()
        return {
            "id": place.id,
            "address": process.address,
            "state": state,
            "silent": 0.0,
            "epoch": place.view.epoch,
            "own": sum(place.owns(key) for key in held),
            "held": len(held),
            "lease": round(max(0.0, place.lease_left()), 1),
            "fingers": [finger.id for finger in fingers],
        }


def record_chord(scenario: str, seed: int) -> tuple[list[dict], str]:
    """Play a seed of a scenario; return the pictures for the page, and how the run ended."""
    recorders = []
    mixture, options = SCENARIOS[scenario]
    try:
        play(seed, mixture, **options, look=lambda world: recorders.append(ChordRecorder(world)))
        end = "no property was violated"
    except Exception as error:
        end = str(error) or repr(error)
    return recorders[0].events, end


def record_explored(name: str, server_class=explore_log.raft.Raft) -> tuple[list[dict], str]:
    """Explore all orders of events; return the events of one that violates a property, and which.

    There are no events if none does.
    """
    if name == "log":
        exploration = explore_log.Exploration(server_class, last_term=2, commands=1)
        steps, end = exploration.counterexample()
        first = [exploration.servers[state].core for state in exploration.first]
    else:
        table = explore_raft.TransitionTable(server_class, last_term=3)
        steps, end = explore_raft.counterexample(table, Reduction(table))
        first = [table.servers[state] for state in table.first]
    events = explored.events(steps, first) if steps else []
    return events, end or "no order of events violates a property"


def page(html: Path, title: str, events: list[dict]) -> str:
    """Return a lab's page with a recorded run in it."""
    data = json.dumps({"title": title, "events": events}).replace("<", "\\u003c")
    before, script, after = html.read_text().partition("<script>")
    return f'{before}<script type="application/json" id="recorded">{data}</script>\n{script}{after}'


def seed(text: str) -> int | str:
    return text if text in EXPLORED else int(text)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="sim_picture", description=__doc__.splitlines()[0])
    parser.add_argument("lab", type=int, choices=(5, 6))
    parser.add_argument("seed", type=seed, help=f"a number; lab 6: also {' or '.join(EXPLORED)}")
    parser.add_argument("--only", metavar="WORD", default="", help="lab 5: scenario with that name")
    parser.add_argument("--out", metavar="FILE", type=Path, help="default: sim-LAB-SEED.html")
    args = parser.parse_args(argv)
    if args.lab == 5 and args.seed in EXPLORED:
        parser.error(f"lab 5 has no {args.seed!r}")
    html = ROOT / ("lab05_chord" if args.lab == 5 else "lab06_raft") / "watch.html"
    if args.lab == 5:
        scenario = next((name for name in SCENARIOS if args.only in name), None)
        if scenario is None:
            parser.error(f"no scenario has {args.only!r} in its name")
        name = f"{scenario}, seed {args.seed}"
        events, end = record_chord(scenario, args.seed)
    elif args.seed in EXPLORED:
        name = f"every order of events, {args.seed}"
        events, end = record_explored(args.seed)
    else:
        name = f"seed {args.seed}"
        events, end = record_raft(args.seed)
    if not events:
        print(f"nothing to draw: {name}: {end}")
        return 0
    out = args.out or Path(f"sim-{args.lab}-{args.seed}.html")
    out.write_text(page(html, f"Simulated, {name}: {end}", events))
    print(f"{out}: {name}: {end}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
