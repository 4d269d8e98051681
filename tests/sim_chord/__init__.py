"""Lab 5 in virtual time: whole rings, run by the very rules that Node.py and Registry.py run, with
nodes that join, leave, crash and hang, a registry that is killed, a bad network and clients.

    python -m tests.sim_chord 2000               seeds 0 to 1999 of every scenario
    python -m tests.sim_chord 1 --first 4711     seed 4711 again

The oracle is a plain dictionary: for every key there must be an order of all operations on it,
each within its own begin and end, in which a dictionary would have given the same answers. An
operation that got no answer may stand anywhere after its beginning, or nowhere.

processes.py has the world of one process, world.py a ring, scenarios.py what befalls it.
"""

from tests.support.harness import ROOT, load

chord, member, membership, messages, store, transfer = (
    load(ROOT / f"lab05_chord/{name}.py")
    for name in ("chord", "member", "membership", "messages", "store", "transfer")
)
