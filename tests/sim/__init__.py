"""Lab 6's servers in virtual time: `python -m tests.sim 100`; see cluster.py."""
