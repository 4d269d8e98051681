"""Lab 6's servers in virtual time: `python -m tests.sim_raft_servers 100`; see cluster.py."""
