"""Coroutines and processes in virtual time: the Host on which the rules of lab 5 run."""

import functools
import inspect

from tests.sim_chord import member, messages

SIZED = "keys", "records"  # fields of a message that may be long


class Future:
    """A result to come; `await` it."""

    def __init__(self):
        self.done, self.value, self.error, self.then = False, None, None, []

    def __await__(self):
        if not self.done:
            yield self
        if self.error:
            raise self.error
        return self.value

    def finish(self, value=None, error=None):
        if not self.done:
            self.done, self.value, self.error = True, value, error
            for action in self.then:
                action()


def start(coroutine) -> Future:
    """Run a coroutine until it awaits something, and on whenever that comes."""
    outer = Future()

    def advance():
        try:
            awaited = coroutine.send(None)
        except StopIteration as stop:
            outer.finish(stop.value)
        except messages.Unreachable as error:
            outer.finish(error=error)
        else:
            awaited.then.append(advance)

    advance()
    return outer


class Process:
    """A process of the simulated world, and the Host of what runs in it."""

    def __init__(self, world, address):
        self.world, self.address = world, address
        self.alive, self.paused, self.held = True, False, []
        self.serial, self.calls = 0, {}
        self.rules = None
        world.processes[address] = self
        world.net.attach(address, lambda source, message: self.run(self.receive, message))

    def run(self, action, *args):
        """Do something now, or when the process is no longer paused, or never if it is dead."""
        if self.paused:
            self.held.append((action, *args))
        elif self.alive:
            self.world.at_work = self
            action(*args)

    def resume(self):
        self.paused, held = False, self.held
        self.held = []
        for action, *args in held:
            self.run(action, *args)

    def kill(self):
        self.alive = False
        self.world.lost(self)
        self.world.net.detach(self.address)
        for other in self.world.processes.values():
            for number, (target, _) in list(other.calls.items()):
                if target == self.address:
                    self.world.sim.after(0.001, functools.partial(other.run, other.fail, number))

    def claim(self):
        """Return what decides which keys this process may serve, or None for no node's."""
        rules = self.rules
        is_node = self.alive and isinstance(rules, member.Member)
        if is_node and rules.place.is_member() and not rules.place.leaving:
            return rules.place.id, rules.place.served_after, rules.place.lease_start
        return None

    # what the rules ask for

    def now(self):
        return self.world.sim.now

    def draw(self, low, high):
        return self.world.sim.random.randint(low, high)

    def draw_identity(self):
        return 1 + self.world.sim.random.getrandbits(62)

    def sleep(self, seconds):
        future = Future()
        self.world.sim.after(seconds, lambda: self.run(future.finish))
        return future

    def call(self, address, method, request, timeout):
        self.serial += 1
        number, future = self.serial, Future()
        self.calls[number] = address, future
        target = self.world.processes.get(address)
        if target and target.alive:
            self.send(address, ("request", self.address, number, method, request))
        elif self.world.net.connects(self.address, address):  # else no refusal comes, either
            fail = functools.partial(self.fail, number, messages.Refused())
            self.world.sim.after(0.001, lambda: self.run(fail))
        self.world.sim.after(timeout, lambda: self.run(self.fail, number))
        return future

    def send(self, target, message):
        """Send a message, which takes the longer the more it carries."""
        amount = sum(len(getattr(message[-1], name, ())) for name in SIZED)
        delay = amount * self.world.delay_of_each
        self.world.net.send(self.address, target, message, delay)

    def fail(self, number, error=None):
        if number in self.calls:
            self.calls.pop(number)[1].finish(error=error or messages.Unreachable())

    async def gather(self, *awaitables):
        async def wait(awaitable):
            return await awaitable

        return [await future for future in [start(wait(a)) for a in awaitables]]

    def spawn(self, awaitable):
        self.world.spawned.append(awaitable)
        self.world.sim.after(0, lambda: self.run(start, awaitable))

    def joined(self, id, view):
        pass

    # the wire

    def receive(self, message):
        what, *rest = message
        if what == "reply":
            number, value = rest
            if number in self.calls:
                self.calls.pop(number)[1].finish(value)
        elif what == "refusal":
            self.fail(*rest)
        else:
            start(self.answer(*rest))

    async def answer(self, source, number, method, request):
        try:
            value = getattr(self.rules, method)(*(request if method == "operate" else (request,)))
            if inspect.isawaitable(value):
                value = await value
        except messages.WrongRing:
            return self.send(source, ("refusal", number))
        self.send(source, ("reply", number, value))
