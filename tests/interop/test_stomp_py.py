"""stomp.py: ways of acknowledging, transactions, receipts, heart-beats, and what it is told of a mistake."""

import pytest

from tests.interop.clients import StompPy, stomp_py

VERSIONS = ("1.0", "1.1", "1.2")


def send_all(port: int, queue: str, *bodies: bytes) -> None:
    StompPy("1.2").send(port, queue, bodies, {})


@pytest.mark.parametrize("version", VERSIONS)
def test_ack_auto(port: int, version: str) -> None:
    queue = f"/queue/auto {version}"
    send_all(port, queue, b"1", b"2")
    with stomp_py(port, version) as (connection, listener):
        connection.subscribe(queue, id="1", ack="auto")
        assert [listener.message().body for _ in range(2)] == [b"1", b"2"]
    send_all(port, queue, b"3")
    with stomp_py(port, version) as (connection, listener):
        connection.subscribe(queue, id="1", ack="auto")
        message = listener.message()
        assert (message.body, "redelivered" in message.headers) == (b"3", False)


@pytest.mark.parametrize("version", VERSIONS)
def test_ack_client_settles_all_before(port: int, version: str) -> None:
    queue = f"/queue/client {version}"
    send_all(port, queue, b"1", b"2", b"3")
    with stomp_py(port, version) as (connection, listener):
        connection.subscribe(queue, id="1", ack="client")
        messages = [listener.message() for _ in range(3)]
        StompPy(version).acknowledge(connection, messages[1])
    with stomp_py(port, version) as (connection, listener):
        connection.subscribe(queue, id="1", ack="auto")
        message = listener.message()
        assert (message.body, message.headers["redelivered"]) == (b"3", "true")


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_ack_client_individual_and_nack(port: int, version: str) -> None:
    queue = f"/queue/individual {version}"
    send_all(port, queue, b"1", b"2", b"3")
    with stomp_py(port, version) as (connection, listener):
        connection.subscribe(queue, id="1", ack="client-individual")
        messages = [listener.message() for _ in range(3)]
        StompPy(version).acknowledge(connection, messages[1])
        headers = messages[0].headers
        if version == "1.1":
            connection.nack(headers["message-id"], headers["subscription"])
        else:
            connection.nack(headers["ack"])
        again = listener.message()
        assert (again.body, again.headers["redelivered"]) == (b"1", "true")
    with stomp_py(port, version) as (connection, listener):
        connection.subscribe(queue, id="1", ack="auto")
        assert [listener.message().body for _ in range(2)] == [b"1", b"3"]


@pytest.mark.parametrize("version", VERSIONS)
def test_transactions(port: int, version: str) -> None:
    queue = f"/queue/transactions {version}"
    with stomp_py(port, version) as (connection, listener):
        connection.subscribe(queue, id="1", ack="auto")
        aborted = connection.begin()
        connection.send(queue, b"aborted", transaction=aborted)
        committed = connection.begin()
        connection.send(queue, b"1", transaction=committed)
        connection.send(queue, b"before", receipt="r")
        connection.send(queue, b"2", transaction=committed)
        listener.receipt("r")
        connection.abort(aborted)
        connection.commit(committed)
        assert [listener.message().body for _ in range(3)] == [b"before", b"1", b"2"]


@pytest.mark.parametrize("version", VERSIONS[1:])
def test_heart_beats(port: int, version: str) -> None:
    """Both sides beat every second. Neither gives up the other while nothing else is said."""
    with stomp_py(port, version, heartbeats=(1000, 1000)) as (connection, listener):
        for _ in range(5):  # each a second after the other; either would give up after two at most
            listener.beat()
        assert connection.is_connected()
        connection.send("/queue/after beats", b"", receipt="r")
        listener.receipt("r")


def test_a_mistake_is_explained(port: int) -> None:
    with stomp_py(port) as (connection, listener):
        connection.ack("77", receipt="r")
        error = listener.errors.get(timeout=10)
        assert error.headers["receipt-id"] == "r"
        assert b"never made" in error.body
        listener.disconnected.get(timeout=10)


def test_a_topic_for_many_threads(port: int) -> None:
    """Twenty connections, each with its own threads, of one topic."""
    connections = [stomp_py(port) for _ in range(20)]
    opened = [connection.__enter__() for connection in connections]
    try:
        for connection, listener in opened:
            connection.subscribe("/topic/many", id="1", receipt="r")
            listener.receipt("r")
        for connection, _ in opened:
            connection.send("/topic/many", b"from one")
        for _, listener in opened:
            assert [listener.message().body for _ in opened] == [b"from one"] * 20
    finally:
        for context in connections:
            context.__exit__(None, None, None)
