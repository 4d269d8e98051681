"""Lab 5, a registry that starts again: it learns the ring from the nodes, and from other rings."""

import asyncio
import random

from tests.lab05.example import EXAMPLE
from tests.lab05.parts import (
    FakeHost,
    admit,
    advance,
    ask,
    chord,
    ids,
    membership,
    messages,
    node_in,
    view_of,
)


def test_a_restarted_registry_takes_the_newest_view_that_it_is_offered(book):
    newest = view_of(EXAMPLE, epoch=9)
    assert book.restore(view_of(EXAMPLE[:5], epoch=8)).success
    assert book.restore(newest).success
    assert book.restore(view_of(EXAMPLE[:4], epoch=7)).success
    for id in EXAMPLE:
        ask(book, id)
    advance(book, 1.5)
    assert book.view.members == newest.members and book.view.epoch >= membership.LIFE
    assert not book.restore(chord.View(10**8, 6)).success  # of a ring of another size


def test_a_restarted_registry_changes_nothing_until_all_nodes_have_told_what_they_know(book):
    book.restore(view_of(EXAMPLE, epoch=9))
    for id in EXAMPLE[:5]:
        ask(book, id)
    behind = messages.Heartbeat(25, "host:25", epoch=10)  # it knows a newer view: not yet told
    assert book.populate_finger_table(behind).epoch == -1  # an epoch of -1 gives no lease
    advance(book, 1.5)
    assert not book.deregister(messages.Departure(24)).success
    assert not book.open
    book.restore(view_of(EXAMPLE[1:], epoch=10))
    ask(book, 25)
    book.tick()
    assert book.open and ids(book.view.members) == EXAMPLE[1:]
    assert not book.all_in_sync()  # no node is admitted until all know the new life's epoch
    for id in EXAMPLE[1:]:
        ask(book, id)
    assert book.all_in_sync()


def test_registries_that_follow_the_same_one_use_different_epochs():
    lives = []
    for port in (7, 8):
        host = FakeHost()
        host.draw_identity = lambda life=port: random.Random(life).getrandbits(62)
        book = host.book = membership.Membership(host, 5)
        book.restore(view_of(EXAMPLE, epoch=9, ring=3))
        for id in EXAMPLE:
            ask(book, id)
        advance(book, 1.5)
        assert book.view.ring == 3
        lives.append({book.view.epoch, admit(book, port).view.epoch})
    assert len(lives[0] | lives[1]) == 4


def test_a_registry_that_learns_of_an_older_ring_goes_on_as_that_ring(book):
    newcomer = admit(book, 7)
    advance(book, 1.5)
    assert book.restore(view_of([2, 16], epoch=9, ring=3)).success
    assert (book.view.ring, ids(book.view.members)) == (3, [2, 16, 24])
    node = node_in(newcomer.view, 24)
    node.place.address = "host:7"
    question = messages.Heartbeat(24, "host:7", newcomer.view.epoch, 0, newcomer.view.ring)
    node.host.answers = {
        "populate_finger_table": lambda address: book.populate_finger_table(question)
    }
    asyncio.run(node.heartbeat())
    assert node.place.view == book.view


def test_a_registry_sends_its_view_to_a_node_of_another_ring_in_the_same_epoch(book):
    admit(book, 1)
    question = messages.Heartbeat(24, "host:1", book.view.epoch, 0, book.view.ring + 1)
    assert book.populate_finger_table(question).view == book.view


def test_a_restarted_registry_waits_no_longer_for_a_node_than_for_any_other(book):
    book.restore(view_of(EXAMPLE, epoch=9))
    dropped = []
    for _ in range(7):
        for id in EXAMPLE[:5]:
            ask(book, id)
        dropped += advance(book, 0.5)
    assert book.open and dropped == [25]
