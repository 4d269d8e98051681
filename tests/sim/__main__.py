"""Lab 6's servers in virtual time.

python -m tests.sim 1000             seeds 0 to 999; each failure names the command to repeat it
python -m tests.sim 1 --first 4711   seed 4711 again
"""

import sys

from tests.sim.faults import violation
from tests.support import seeds

if __name__ == "__main__":
    args = seeds.parser("sim", __doc__.splitlines()[0]).parse_args()
    sys.exit(seeds.play(args, violation))
