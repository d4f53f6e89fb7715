from __future__ import annotations

import inspect
import threading

import pytest
import trio
import trio.testing

from trio_broker.explorer import explore
from trio_broker.explorer.network import Network, NetworkListener
from trio_broker.explorer.places import is_machinery, place_of_task
from trio_broker.explorer.result import NotExplorable


async def serve(listener: NetworkListener) -> None:
    await listener.accept()


async def test_the_place_of_a_task_is_a_line_of_the_program() -> None:
    """Not one of the explorer's own network, nor of Trio, if the program has a line at all."""
    listener = Network().listen()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve, listener, name="serve")
        nursery.start_soon(listener.accept, name="accept")
        nursery.start_soon(trio.sleep, 1, name="sleep")
        await trio.testing.wait_all_tasks_blocked()
        places = {task.name: place_of_task(task) for task in nursery.child_tasks}
        nursery.cancel_scope.cancel()
    line = inspect.getsourcelines(serve)[1] + 1
    assert places["serve"] == f"tests.explorer.test_places:{line} in serve"
    assert places["accept"].startswith("trio_broker.explorer.listeners:")  # the outermost
    assert places["accept"].endswith(" in NetworkListener.accept")
    assert places["sleep"].startswith("trio._timeouts:")
    assert places["sleep"].endswith(" in sleep")


def test_a_deadlock_in_the_explorers_network_names_the_line_of_the_program() -> None:
    async def scenario() -> None:
        await serve(Network().listen())

    with pytest.raises(NotExplorable) as caught:
        explore(scenario)
    line = inspect.getsourcelines(serve)[1] + 1
    assert f"at tests.explorer.test_places:{line} in serve" in str(caught.value.__cause__)


def test_what_is_machinery() -> None:
    assert is_machinery(vars(trio))
    assert is_machinery(vars(threading))
    assert is_machinery({"__name__": "trio_broker.explorer.network"})
    assert not is_machinery({"__name__": "trio_broker.core.broker"})
    assert not is_machinery({"__name__": "trio_websocket"})
    assert not is_machinery({"__name__": "__main__"})
    assert not is_machinery({})
