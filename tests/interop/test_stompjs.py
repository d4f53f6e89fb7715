"""@stomp/stompjs over TCP: transactions, and a message that is given back. test_exchange.py has the rest."""

from tests.interop.clients import StompJs, StompPy


def test_transactions_and_nack(port: int, stompjs: StompJs) -> None:
    queue = "/queue/stompjs transactions"
    first, second = stompjs.transact(port, queue)
    assert first.body == second.body == b"committed"
    assert "redelivered" not in first.headers
    assert second.headers["redelivered"] == "true"
    StompPy("1.2").send(port, queue, [b"last"], {})
    assert stompjs.receive(port, queue, 1)[0].body == b"last"
