"""Messages that are to be settled, copied and pickled: the connection does not go with them."""

from __future__ import annotations

import copy
import dataclasses
import pickle

import pytest
from trio.testing import MockClock

from tests.client.network import Network
from tests.client.stomp_consumer import heard
from tests.client.stomp_house import open_stomp_house, take_all
from trio_broker.client import connect
from trio_broker.message import Message


def use(message: Message) -> None:
    """What a program may do with a message before it settles it."""
    for again in (copy.copy(message), copy.deepcopy(message), pickle.loads(pickle.dumps(message))):
        assert again == message
    pickle.loads(pickle.dumps(message)).ack()
    assert dataclasses.asdict(message)["headers"] == {"type": "t"}


@pytest.mark.parametrize("ack", ["client", "client-individual"])
@pytest.mark.parametrize("where", ["in process", "STOMP"])
async def test_a_copy_settles_the_message_and_what_was_pickled_does_not(
    autojump_clock: MockClock, network: Network, where: str, ack: str
) -> None:
    async with open_stomp_house(network) as house, connect() as client:
        for body in (b"1", b"2"):
            await client.publish("/queue/x", body, headers={"type": "t"}, confirm=True)
        place = client if where == "STOMP" else house.broker
        async with place.subscribe("/queue/x", ack=ack) as jobs:
            first, second = await jobs.receive(), await jobs.receive()
            use(first)
            use(second)
            copy.deepcopy(first).ack()
        await heard(client)
        assert await take_all(house, "/queue/x") == [(b"2", True)]
