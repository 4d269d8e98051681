"""Faults planted in lab 5's keys: writes, replicas that are in sync, records."""

from tests.mutants import Mutant

STORE = "lab05_chord/store.py"
REPLICATION = "lab05_chord/replication.py"
SYNC = "lab05_chord/sync.py"

MUTANTS = [
    # --- writes (replication.py) ---
    Mutant(
        "a write that a replica has not taken is acknowledged",
        REPLICATION,
        "        if not all(kept) or view is not",
        "        if view is not",
    ),
    Mutant(
        "a write is acknowledged across a change of view",
        REPLICATION,
        " or view is not self.place.view or not self.place.serves(key):",
        " or not self.place.serves(key):",
    ),
    Mutant(
        "a write is acknowledged after the lease ran out, or while leaving",
        REPLICATION,
        " or view is not self.place.view or not self.place.serves(key):",
        " or view is not self.place.view:",
    ),
    Mutant(
        "a write that failed is forgotten",
        REPLICATION,
        "                self.uncertain.add(key)\n",
        "                pass\n",
    ),
    Mutant(
        "False is said about an uncertain key",
        REPLICATION,
        "        if key in self.uncertain and not await self._rewrite(key):\n",
        "        if False:\n",
    ),
    Mutant(
        "two writes of a key at the same time",
        REPLICATION,
        "        if key in self.writing:\n            return None\n",
        "",
    ),
    Mutant(
        "a repeated request is done again",
        REPLICATION,
        "        if request in done:\n            return True\n",
        "",
    ),
    Mutant(
        "a late message of a request that has ended is carried out",
        REPLICATION,
        "        if is_over(done, request):\n            return None\n",
        "",
    ),
    Mutant(
        "request ids are not kept with a record",
        REPLICATION,
        "            done = remember(done, request)\n",
        "            pass\n",
    ),
    Mutant(
        "uncertain keys are kept after a new joining",
        SYNC,
        "        self.replication.uncertain.clear()\n",
        "",
    ),
    Mutant(
        "a replica takes copies of another epoch",
        REPLICATION,
        " or copies.epoch != self.place.view.epoch:",
        ":",
    ),
    Mutant(
        "an owner takes copies of what it serves",
        REPLICATION,
        "            if not self.place.owns(record.key):\n                self.store.put(record)\n",
        "            self.store.put(record)\n",
    ),
    Mutant(
        "records that were handed over are dropped at a sweep",
        SYNC,
        "                store.drop(set(keys) - self.replication.handed_over)\n",
        "                store.drop(keys)\n",
    ),
    Mutant(
        "records that a node no longer holds are kept",
        SYNC,
        "                store.drop(set(keys) - self",
        "                set(set(keys) - self",
    ),
    # --- in sync (sync.py) ---
    Mutant(
        "a record on which nodes disagree keeps its version",
        SYNC,
        "        await self._decide(view, newest, known)\n",
        "",
    ),
    Mutant(
        "an older record of this node is no disagreement",
        SYNC,
        "known if key in known[0] else known[1:]",
        "known[1:]",
    ),
    Mutant(
        "what others have of a served arc counts",
        SYNC,
        (
            "            if upto != self.place.id:\n"
            "                versions = versions_on(versions, after, upto, view.m)\n"
        ),
        "",
    ),
    Mutant(
        "newer records of replicas are not taken",
        SYNC,
        "                if record.version > version_of(newest, record.key):\n",
        "                if False:\n",
    ),
    Mutant(
        "records are kept before the replicas have them",
        SYNC,
        "        records = newest | self._served(view)\n",
        (
            "        records = newest | self._served(view)\n"
            "        for record in newest.values():\n"
            "            self.store.put(record)\n"
        ),
    ),
    Mutant(
        "a node serves before its replicas have all",
        SYNC,
        "        if not all(await self.host.gather(*pushes)) or self._is_over(view):\n",
        "        await self.host.gather(*pushes)\n        if self._is_over(view):\n",
    ),
    Mutant(
        "a node serves by a view that has passed meanwhile",
        SYNC,
        "        return view is not self.place.view or self.place.leaving\n",
        "        return self.place.leaving\n",
    ),
    Mutant(
        "a node lists its records for an older view",
        SYNC,
        "is_member(request.to) and request.view.epoch == place.view.epoch\n",
        "is_member(request.to)\n",
    ),
    # --- records (store.py) ---
    Mutant(
        "an older record replaces a newer one",
        STORE,
        "        if record.version > version_of(self.records, key):\n",
        "        if True:\n",
    ),
    Mutant(
        "a node that comes back brings its records as they were",
        STORE,
        "map(demoted, self.records.values())\n",
        "self.records.values()\n",
    ),
    Mutant(
        "a node that was away for long brings its records",
        STORE,
        "        kept = () if absence > TOMBSTONE_TIMEOUT else map(",
        "        kept = map(",
    ),
    Mutant(
        "a tombstone is dropped at the first sweep",
        STORE,
        "            self.drop(record.key for record in tombstones & self._old_tombstones)\n",
        "            self.drop(record.key for record in tombstones)\n",
    ),
    Mutant(
        "tombstones are never dropped",
        STORE,
        "            self.drop(record.key for record in tombstones & self._old_tombstones)\n",
        "",
    ),
    Mutant(
        "a store that has dropped records does not say so",
        STORE,
        "            self.generation += bool(self.records.pop(key, None))\n",
        "            self.records.pop(key, None)\n",
    ),
    Mutant(
        "request ids are kept after their end",
        STORE,
        " or old.counter >= new.oldest]",
        " or True]",
    ),
]
