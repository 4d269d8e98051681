"""Lab 6's core in virtual time: `python -m tests.sim_raft_core 1000`; see cluster.py."""
