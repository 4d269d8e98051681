"""A client of an attack: a thread that does one thing after the other until it is told to stop."""

import itertools
import random
import threading
import time


class Client(threading.Thread):
    """Calls `once` with ever new numbers; `history` is what it saw.

    Args:
        number: its own, which decides what it does. key_life: s until it uses other keys.
    """

    def __init__(self, number: int, key_life: float):
        super().__init__(daemon=True)
        self.number, self.key_life = number, key_life
        self.chance = random.Random(number)
        self.history: list = []
        self.begun = time.monotonic()
        self.stopping = threading.Event()
        self.start()

    def run(self) -> None:
        for count in itertools.count():
            if self.stopping.is_set():
                return
            generation = int((time.monotonic() - self.begun) / self.key_life)
            self.once(count, generation)

    def once(self, count: int, generation: int) -> None:
        """Do the next thing, with keys of a generation."""
        raise NotImplementedError

    def stop(self) -> None:
        self.stopping.set()
        self.join()
