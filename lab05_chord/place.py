"""Where a node stands: its view of the ring, the arc that it serves, and its lease to do so.

One owner at a time
    A node serves an arc that ends at its id, as far as it is *in sync* there (see sync.py). It
    stops serving what a newer view gives to another node the moment it knows of that view.

    A node that hung (SIGSTOP) does not know that it was declared dead. So it serves only while it
    has a *lease*. The registry gives one with the reply to each heartbeat, for LEASE_TIMEOUT from
    the sending of the heartbeat. The registry declares a node dead after SILENCE_TIMEOUT, when the
    lease has run out.

    If the registry is away, the next two living successors give the lease. Each confirms that no
    registry answers it either, and that it knows no newer view. One of them would be the next
    owner, or would be asked by it. So each promises to agree to no newer view before the lease has
    run out. A node that is left alone serves on only if no process listens at the registry's
    address: a new registry first listens for a while (see membership.py).
"""

from collections.abc import Callable

from chord import View, between, key_id
from messages import LEASE_TIMEOUT, Ack, LeaseRequest, WrongRing


class Place:
    """The place of one node in the ring; no I/O.

    Args:
        now: returns the time in seconds, see messages.Host. address: "ip:port" for other nodes.
    """

    def __init__(self, now: Callable[[], float], address: str):
        self.now = now
        self.address = address
        self.id = -1
        self.joined_epoch = 0
        self.view = View()
        self.served_after: int | None = None  # it serves the arc (served_after, id]; None: nothing
        self.in_sync_epoch = 0  # the last epoch in which it was in sync with its successors
        self.joining = self.leaving = False
        self.registry_lost = False  # the last heartbeat was not answered
        self.lease_start = -LEASE_TIMEOUT
        self.granted: dict[int, float] = {}  # epoch -> end of the leases that it has given there

    # --- questions ---

    def is_in(self, view: View) -> bool:
        """Tell whether this node is in a view: its id may have gone to another address."""
        node = view.by_id.get(self.id)
        return node is not None and node.address == self.address

    def is_member(self, id: int | None = None) -> bool:
        """Tell whether this node is in the ring, also while it leaves, and has this id."""
        return not self.joining and id in (None, self.id) and self.is_in(self.view)

    @property
    def in_sync(self) -> bool:
        """Whether the node is in sync with its successors in its present view."""
        return self.in_sync_epoch >= self.view.epoch

    def owns(self, key: str) -> bool:
        """Tell whether a key is on the arc that this node serves."""
        k = key_id(key, self.view.m)
        return self.served_after is not None and between(k, self.served_after, self.id)

    def holds(self, key: str) -> bool:
        """Tell whether this node is the owner or a replica of a key in its view."""
        return between(key_id(key, self.view.m), self.view.held_after(self.id), self.id)

    def serves(self, key: str) -> bool:
        """Tell whether this node may answer for a key now."""
        has_lease = self.lease_left() > 0
        return self.owns(key) and has_lease and not self.leaving

    def lease_left(self) -> float:
        """Return the time in seconds for which this node may still serve."""
        return max(0.0, self.lease_start + LEASE_TIMEOUT - self.now())

    def later(self, one: int, other: int) -> int:
        """Return which of two ids is nearer to this node's, going clockwise to it."""
        return other if between(other, one, self.id) else one

    def check_ring(self, ring: int) -> None:
        """Raise WrongRing if a message is of another ring; before the node joins, none is."""
        if ring != self.view.ring and self.view.ring:
            raise WrongRing("a node of another ring")

    # --- transitions ---

    def start_joining(self) -> None:
        """Serve nothing until there is a new place."""
        self.joining, self.served_after = True, None

    def enter(self, id: int, view: View, lease_start: float) -> None:
        """Take a place in the ring."""
        self.id, self.view, self.joined_epoch = id, view, view.epoch
        self.served_after, self.in_sync_epoch = None, 0
        self.lease_start = lease_start

    def adopt(self, view: View) -> bool:
        """Adopt a view, if it is newer, and stop serving what is another node's there.

        The node stays in sync if its predecessor and its replicas are the same as before.
        """
        if view.epoch <= self.view.epoch or view.m != self.view.m or self.joining:
            return False
        old, self.view = self.view, view
        if not self.is_in(view):
            self.served_after = None
            return True
        if self.served_after is not None and view.predecessor(self.id).id != self.id:
            self.served_after = self.later(self.served_after, view.predecessor(self.id).id)
        if self.in_sync_epoch == old.epoch and view.neighbours(self.id) == old.neighbours(self.id):
            self.in_sync_epoch = view.epoch
        return True

    def serve_whole_arc(self) -> None:
        """Serve all that is this node's in its view: it is in sync there."""
        self.served_after = self.view.predecessor(self.id).id
        self.in_sync_epoch = self.view.epoch

    # --- leases ---

    def renew_lease(self, start: float) -> None:
        """Serve for LEASE_TIMEOUT from `start`, when the lease was asked for."""
        self.lease_start = max(self.lease_start, start)

    def grant_lease(self, request: LeaseRequest) -> Ack:
        """Let a predecessor serve, if no registry answers and this node knows no newer view."""
        granted = self.registry_lost and self.served_after is not None
        granted = granted and self.view.epoch <= request.epoch
        if granted:
            now = self.now()
            self.granted = {epoch: end for epoch, end in self.granted.items() if end > now}
            self.granted[request.epoch] = now + LEASE_TIMEOUT
        return Ack(granted, self.view if self.view.epoch > request.epoch else None)

    def is_bound(self, epoch: int | None = None) -> bool:
        """Tell whether a lease still runs that this node has given for a view before `epoch`.

        None: before its own view.
        """
        epoch, now = self.view.epoch if epoch is None else epoch, self.now()
        return any(given < epoch and now < end for given, end in self.granted.items())
