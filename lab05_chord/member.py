"""A node of the ring: how it joins, tells the registry that it lives, moves with the view, leaves.

A Member is composed of

    place         where it stands: view, served arc, lease        place.py
    store         its records                                     store.py
    transfer      records on their way, handoff                   transfer.py
    replication   writes: the owner and its replicas              replication.py
    sync          agreement after a change of view                sync.py
    lookup        the walk to the owner of a key                  lookup.py

and does itself what concerns them all. Each of its RPCs is a method of the same name.
"""

from dataclasses import replace

import messages
from chord import REPLICAS, View
from lookup import Lookup
from place import Place
from replication import Replication
from store import Store, batches
from sync import Sync
from transfer import RETRY_INTERVAL, Handoff, Transfer

LEASE_CALL_TIMEOUT = 0.5  # s: the next heartbeat must not be late because of it
REGISTER_TIMEOUT = 15.0  # s: a newcomer waits for those before it, and for a death to be noticed
RECONNECT_INTERVAL = 0.2  # s between two heartbeats to a registry that is away
SOONEST_HEARTBEAT = 0.05  # s between two heartbeats out of turn
PREPARATIONS = 3  # times that a newcomer begins to copy, as the ring changes, before it is admitted


class Member:
    """One node of the ring.

    Args:
        host: the world, see messages.Host. ipaddr, port: where others reach this node.
        registry: the registry's address.
    """

    def __init__(self, host: messages.Host, ipaddr: str, port: int, registry: str):
        self.host, self.registry = host, registry
        self.ipaddr, self.port = ipaddr, port
        self.asked = -messages.LEASE_TIMEOUT  # the last heartbeat
        self.place = place = Place(host.now, f"{ipaddr}:{port}")
        self.identity = host.draw_identity()  # of this process
        self.store = store = Store(self.identity, host.now())
        self.transfer = transfer = Transfer(host, self.adopt_if_same_ring)
        self.handoff = Handoff(host, place, store, transfer)
        self.replication = Replication(host, place, store, self.adopt_if_same_ring, self._repair)
        self.sync = Sync(
            host, place, store, transfer, self.replication, self.heartbeat, self.heartbeat_soon
        )
        self.lookup = Lookup(
            host, place, self.replication.execute, self.heartbeat_soon, self.identity
        )
        self.operate = self.lookup.operate

    # --- joining ---

    async def join(self) -> messages.Registered:
        """Get an id in the ring: the one that this node had before, if it is free.

        It copies what it will hold before it asks to be admitted: so it serves soon afterwards.
        """
        place = self.place
        wish = place.id if place.id >= 0 else None
        request = messages.Registration(self.ipaddr, self.port, wish, prepare=True)
        place.start_joining()
        self.sync.start_joining()
        try:
            for _ in range(PREPARATIONS):
                reply = await self._register(request)
                if reply.id < 0:
                    return reply
                request = replace(request, wish=reply.id)
                if await self.sync.copy(reply):
                    break
            sent = self.host.now()
            reply = await self._register(replace(request, prepare=False))
        finally:
            place.joining = False
        if reply.id < 0:
            return reply
        self.sync.rejoin(reply.m, absence=sent - place.lease_start)
        place.enter(reply.id, reply.view, sent)
        self.host.joined(place.id, place.view)
        self.host.spawn(self.sync.run())
        return reply

    async def _register(self, request: messages.Registration) -> messages.Registered:
        return await self.host.call(self.registry, "register", request, REGISTER_TIMEOUT)

    # --- the registry ---

    async def run(self) -> None:
        """Send heartbeats as long as the node lives."""
        while True:
            await self.heartbeat()
            lost = self.place.registry_lost
            await self.host.sleep(RECONNECT_INTERVAL if lost else messages.HEARTBEAT_INTERVAL)

    def heartbeat_soon(self) -> None:
        """Send a heartbeat now: there are signs that the ring has changed."""
        if self.host.now() - self.asked >= SOONEST_HEARTBEAT:
            self.host.spawn(self.heartbeat())

    async def heartbeat(self) -> None:
        """Tell the registry that this node lives, and get a view and a lease."""
        if self.place.joining or self.place.id < 0:
            return  # join() is under way, or still to come
        self.asked = sent = self.host.now()
        try:
            await self._ask_registry(sent)
        except messages.Unreachable as error:
            self.place.registry_lost = True
            grants = await self.ask_successors()
            if grants:
                self.place.renew_lease(sent)
            elif grants == 0 and isinstance(error, messages.Refused):
                # It is alone, and a new registry admits no node before it has listened.
                self.place.renew_lease(sent - messages.LEASE_TIMEOUT + messages.LISTEN_TIMEOUT)

    async def _ask_registry(self, sent: float) -> None:
        place, view = self.place, self.place.view
        request = messages.Heartbeat(
            place.id, place.address, view.epoch, place.in_sync_epoch, view.ring
        )
        reply = await self.host.call(
            self.registry, "populate_finger_table", request, messages.CALL_TIMEOUT
        )
        if reply.epoch < place.view.epoch:  # it was started again: it gives no lease yet
            self.adopt(reply.view)
            await self.host.call(self.registry, "restore", place.view, messages.CALL_TIMEOUT)
            raise messages.Unreachable
        # A registry without memory may have reached the same epoch in a ring of its own.
        other = reply.epoch == view.epoch and reply.view and reply.view.ring != view.ring
        if reply.known and not other:
            place.registry_lost = False
            place.renew_lease(sent)
            self.adopt(reply.view)
            if reply.all_in_sync and reply.epoch == place.view.epoch == place.in_sync_epoch:
                await self.sync.sweep()
        elif view.epoch == place.view.epoch and not (place.joining or place.leaving):
            await self.join()  # the registry has dropped this node

    async def ask_successors(self) -> int | None:
        """Ask the next two living successors for a lease, as the registry is away.

        Return how many there are, if all of them give it; None if one does not.
        """
        place, grants = self.place, 0
        request = messages.LeaseRequest(place.view.epoch, place.view.ring)
        for node in place.view.next_nodes(place.id, len(place.view.members)):
            try:
                reply = await self.host.call(
                    node.address, "grant_lease", request, LEASE_CALL_TIMEOUT
                )
            except messages.Refused:
                continue  # a dead node owns nothing
            except messages.Unreachable:
                return None
            if not reply.accepted:
                self.adopt_if_same_ring(reply.view)
                return None
            grants += 1
            if grants == REPLICAS:
                break
        return grants

    # --- leaving ---

    async def leave(self) -> bool:
        """Hand the records over, then leave the ring.

        No time limit decides about data: until all is handed over, this node is a source of it.

        Return False if there is no other node that could have them.
        """
        await self.handoff.prepare()
        self.place.leaving = True
        while self.place.is_in(self.place.view):
            view = self.place.view
            count = await self.handoff.hand_over(view)
            # The leases that it has given must have run out: no other node knows of them.
            bound = self.place.is_bound(view.epoch + 1) and not self.place.registry_lost
            if count is not None and not bound and await self.deregister(view):
                return count > 0
            await self.host.sleep(RETRY_INTERVAL)
            self.heartbeat_soon()
        return True  # dropped, so other nodes own what it had

    async def deregister(self, view: View) -> bool:
        """Leave the ring if it is still in this view; return False if it is not, or may not be."""
        id = self.place.id
        departure = messages.Departure(id, self.place.address, view.epoch)
        try:
            reply = await self.host.call(
                self.registry, "deregister", departure, messages.CALL_TIMEOUT
            )
        except messages.Refused:
            self.place.registry_lost = True
            return True  # the next registry misses this node
        except messages.Unreachable:
            return False
        if reply.view and not self.place.is_in(reply.view):
            neighbours = dict.fromkeys([view.predecessor(id), *view.next_nodes(id)])
            await self.host.gather(
                *(messages.try_call(self.host, node, "install", reply.view) for node in neighbours)
            )
            return True
        self.adopt(reply.view)
        return False

    # --- views ---

    def adopt_if_same_ring(self, view: View | None) -> None:
        """Adopt a newer view of the same ring that came with an answer."""
        if view is not None and view.ring == self.place.view.ring:
            self.adopt(view)

    def adopt(self, view: View | None) -> None:
        """Adopt a newer view and do what it asks.

        A view from the registry may be of another ring: a registry that was restarted may have
        admitted nodes before it learned of their ring.
        """
        place = self.place
        if view is None or not place.adopt(view):
            return
        self.replication.handed_over.clear()
        self.lookup.owners.clear()
        if not place.is_in(view):
            self.heartbeat_soon()
        elif not place.in_sync:
            self.host.spawn(self.sync.run())
            # The predecessor may have new successors too; it tells its own predecessor.
            self.host.spawn(
                messages.try_call(self.host, view.predecessor(place.id), "install", view)
            )

    def _repair(self) -> None:
        """Look for what has changed in the ring: a write has failed."""
        self.heartbeat_soon()
        self.host.spawn(self.sync.run())

    # --- what other nodes ask; each raises WrongRing if it comes from another ring ---

    def install(self, view: View) -> messages.Ack:
        """Adopt a newer view that another node knows; the answer is a sign of life."""
        self.place.check_ring(view.ring)
        self.adopt(view)
        return messages.Ack(True)

    def grant_lease(self, request: messages.LeaseRequest) -> messages.Ack:
        """Let a predecessor serve, see place.py."""
        self.place.check_ring(request.ring)
        return self.place.grant_lease(request)

    def digest(self, request: messages.DigestRequest) -> messages.Digest:
        """List the versions on an arc, in the caller's view if it is the newest."""
        self.install(request.view)
        return self.sync.digest(request)

    def fetch(self, request: messages.FetchRequest) -> messages.Copies:
        """Return the first of the records asked for, as many as go into one message."""
        self.place.check_ring(request.ring)
        records = self.store.records
        found = (records[key] for key in request.keys if key in records)
        return messages.Copies(self.place.id, self.place.view.epoch, next(batches(found), ()))

    def replicate(self, copies: messages.Copies) -> messages.Ack:
        """Keep copies of records, see replication.py."""
        self.place.check_ring(copies.ring)
        return self.replication.replicate(copies)

    async def route(self, operation: messages.Operation) -> messages.Outcome:
        """Carry an operation out, or name the next node, see lookup.py."""
        self.place.check_ring(operation.ring)
        return await self.lookup.route(operation)
