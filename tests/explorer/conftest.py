"""Networks for the tests of sockets."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import trio

from tests.explorer.socket_helpers import left_open
from trio_broker.explorer.network import Network
from trio_broker.explorer.sockets import VirtualSocket


@pytest.fixture
async def network() -> Network:
    """A network in memory, for all sockets of this run."""
    network = Network()
    network.install()
    return network


@pytest.fixture(params=["real", "virtual"])
async def either(request: pytest.FixtureRequest) -> AsyncIterator[None]:
    """What the virtual sockets do is what Trio's do over the loopback interface."""
    network = Network() if request.param == "virtual" else None
    if network is not None:
        network.install()
    yield
    with trio.socket.socket() as made:
        assert isinstance(made, VirtualSocket) == (network is not None)
    if network is not None:  # a real socket that was left open is a ResourceWarning
        assert left_open(network) == []
