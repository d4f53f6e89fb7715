"""Each client sends to each: bodies byte by byte, headers, order, and an empty queue afterwards."""

import pytest

from tests.interop.conftest import CLIENTS, ClientsByName

BODIES = [
    b"",
    b"hello",
    "привет, 世界".encode(),
    bytes(range(256)),
    b"\0" * 10,
    b"MESSAGE\ncontent-length:0\n\n\0",
    bytes(range(256)) * 8000,
]
HEADERS = {"type": "greeting", "correlation-id": "a:b\\d\n", "ключ": "значение"}  # stompjs cannot read "\\c" back
HEADERS_10 = {"type": "greeting", "correlation-id": "7"}  # 1.0 has no escapes


@pytest.mark.parametrize("receiver", CLIENTS)
@pytest.mark.parametrize("sender", CLIENTS)
def test_one_sends_to_another(port: int, clients: ClientsByName, sender: str, receiver: str) -> None:
    queue = f"/queue/from {sender} to {receiver}"
    headers = HEADERS_10 if "1.0" in sender + receiver else HEADERS
    source, target = clients[sender], clients[receiver]
    source.send(port, queue, BODIES, headers)
    got = target.receive(port, queue, len(BODIES))
    assert [message.body for message in got] == BODIES
    if source.has_headers and target.has_headers:
        for message in got:
            assert headers.items() <= message.headers.items()
            assert message.headers["destination"] == queue
            assert "redelivered" not in message.headers
    source.send(port, queue, [b"last"], {})
    assert [message.body for message in target.receive(port, queue, 1)] == [b"last"]  # all before it was settled


@pytest.mark.parametrize("receiver", CLIENTS)
def test_a_large_body(port: int, clients: ClientsByName, receiver: str) -> None:
    queue = f"/queue/large for {receiver}"
    body = bytes(range(256)) * 40_000
    clients["stomp.py 1.2"].send(port, queue, [body], {})
    assert clients[receiver].receive(port, queue, 1)[0].body == body
