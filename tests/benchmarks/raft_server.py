"""The server of lab 6 with another limit of the log: raft_server.py ID SNAPSHOT_AFTER [options]

With SNAPSHOT_AFTER 0 there are no snapshots, and a save ends without having written anything.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent.parent / "lab06_raft"))
import replica  # noqa: E402
import storage  # noqa: E402

node_id, snapshot_after, *options = sys.argv[1:]
# Before raft.py takes its default from it.
replica.DEFAULT_LIMITS = replica.Limits(snapshot_after=int(snapshot_after) or 10**9)
if snapshot_after == "0":
    storage.Disk.save = lambda disk, unsaved: None

import server  # noqa: E402

sys.exit(server.main([node_id, *options]))
