"""Lab 6's core in virtual time: play seeds and name those that fail.

python -m tests.sim_raft_core 100000            seeds 0 to 99999
python -m tests.sim_raft_core 1 --first 4711    seed 4711 again
"""

import sys

from tests.sim_raft_core.cluster import violation
from tests.support import seeds

if __name__ == "__main__":
    args = seeds.parser("sim_raft_core", __doc__.splitlines()[0]).parse_args()
    sys.exit(seeds.play(args, violation))
