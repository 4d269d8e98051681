"""Scripts for the time of an attack."""

import contextlib
from collections.abc import Callable, Iterator

from tests.harness import ROOT, Script


@contextlib.contextmanager
def spawning() -> Iterator[Callable[..., Script]]:
    """Yield a function that starts a script, by path; all of them end with the block."""
    with contextlib.ExitStack() as stack:

        def spawn(script: str, *args, **options) -> Script:
            started = Script(ROOT / script, *args, **options)
            stack.callback(started.stop)
            return started

        yield spawn
