"""Whatever a peer of STOMP does wrong is answered with an ERROR that says what is allowed, and then a clean end."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from tests.server.house import House, Logs, open_house, open_tcp_house, until
from tests.server.stomp_house import CONNECT, Said, StompPeer, join, join_tcp, send, stomp, subscribe, subscriber
from trio_broker import Limits

LIMITS = Limits(
    frame_bytes_max=1000,
    header_bytes_max=500,
    headers_max=10,
    subscriptions_max=3,
    transactions_max=2,
    transaction_bytes_max=5000,
)


async def others_go_on(house: House) -> None:
    """A message still finds its way from a new peer to a new peer."""
    receiver, sender = await subscriber(house, "/topic/others"), await join(house)
    await sender.send(send("/topic/others", body=b"still here"))
    assert (await receiver.message()).body == b"still here"


async def refusal(house: House, logs: Logs, peer: StompPeer) -> Said:
    """What the peer is told, at once, with a clean end after it; nothing of it stays."""
    said = await peer.error()
    await wait_all_tasks_blocked()
    assert trio.current_time() == 0
    assert house.server.connections == 0
    assert house.broker.memory.cost == sum(
        channel.backlog_cost for channel in house.broker.statistics().channels.values()
    )
    assert logs.reasons("refused") == [said.body.decode()]
    await others_go_on(house)
    return said


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        pytest.param(
            send("/queue/a"), "'SEND' is not a command that may come here; allowed are CONNECT, STOMP", id="SEND"
        ),
        pytest.param(
            b"\n\n" + subscribe("s", "/queue/a"), "allowed are CONNECT, STOMP", id="SUBSCRIBE after line feeds"
        ),
        pytest.param(b"STOMPED\n\n\0", None, id="a longer command is not ours"),
        pytest.param(b"CONNECT\n\nbody\0", "a body in CONNECT; only SEND", id="a body"),
        pytest.param(b"CONNECT\nhost\n\n\0", "a header line 'host'; a name, a colon and a value", id="no colon"),
        pytest.param(b"CONNECT\nheart-beat:often\n\n\0", None, id="1.0 has no heart-beats"),
        pytest.param(
            stomp("CONNECT", "accept-version:1.2", "heart-beat:often"),
            "heart-beat is 'often'; two numbers of milliseconds are required",
            id="heart-beat",
        ),
    ],
)
async def test_before_a_connection_is_made(
    autojump_clock: MockClock, logs: Logs, sent: bytes, says: str | None
) -> None:
    async with open_house(LIMITS) as house:
        peer = StompPeer(house.connect().stream)
        await peer.send(b"\n" + sent if sent.startswith(b"SEND") else sent)
        if sent.startswith(b"CONNECT\nheart"):
            await peer.get("CONNECTED")
        elif says is None:
            assert await peer.receive() is None
            [reason] = logs.reasons("refused")
            assert reason.startswith("a channel name of")
        else:
            assert says in (await refusal(house, logs, peer)).body.decode()


async def test_no_common_version(autojump_clock: MockClock, logs: Logs) -> None:
    async with open_house() as house:
        peer = StompPeer(house.connect().stream)
        await peer.send(stomp("CONNECT", "accept-version:0.9,2.0", "host:x"))
        said = await peer.get("ERROR")
        assert said["version"] == "1.0,1.1,1.2"
        assert await peer.receive() is None
        assert logs.reasons("refused") == ["no common version: the client accepts '0.9,2.0'; allowed are 1.0, 1.1, 1.2"]
        await others_go_on(house)


WRONG = [
    pytest.param(
        stomp("PUBLISH"), "'PUBLISH' is not a command that may come here; allowed are SEND, SUBSC", id="command"
    ),
    pytest.param(stomp("send", "destination:/queue/a"), "'send' is not a command", id="command in small letters"),
    pytest.param(CONNECT, "'CONNECT' is not a command that may come here", id="CONNECT twice"),
    pytest.param(stomp("MESSAGE"), "'MESSAGE' is not a command", id="a server's command"),
    pytest.param(stomp("SEND", r"destination:a\t"), r"an unknown escape in 'a\\t'; STOMP 1.2 has", id="escape"),
    pytest.param(stomp("SEND", "destination:a\\"), "an unknown escape", id="escape at the end"),
    pytest.param(stomp("SEND", "destination:a\rb"), "a carriage return inside a header; write it as", id="return"),
    pytest.param(b"SEND\ndestination:/a\n\xff:x\n\n\0", "headers that are not UTF-8", id="not UTF-8"),
    pytest.param(
        stomp("SEND", "destination"), "a header line 'destination'; a name, a colon and a value", id="no colon"
    ),
    pytest.param(stomp("SEND", ":a"), "a header line ':a'; a name", id="no name"),
    pytest.param(b"SEND\ndestination:a\0\n\n", "a NUL among the headers; a blank line ends them", id="no blank line"),
    pytest.param(
        stomp("SEND", "destination:a", "content-length:4", body=b"hello"),
        "a body that is longer than its content-length (4); a NUL must end it",
        id="length too small",
    ),
    pytest.param(
        stomp("SEND", "destination:a", "content-length:-1"),
        "content-length is '-1'; a decimal number of bytes is required",
        id="length below 0",
    ),
    pytest.param(
        stomp("SEND", "destination:a", "content-length:0x10"), "content-length is '0x10'", id="length no number"
    ),
    pytest.param(stomp("SEND", "destination:a", "content-length:"), "content-length is ''", id="length empty"),
    pytest.param(stomp("SEND", "destination:a", "content-length:\u0663"), "content-length is", id="length not ASCII"),
    pytest.param(stomp("BEGIN", "transaction:t", body=b"x"), "a body in BEGIN; only SEND", id="body of BEGIN"),
    pytest.param(
        stomp("ACK", "id:1", "content-length:1", body=b"x"), "a body in ACK; only", id="announced body of ACK"
    ),
    pytest.param(
        stomp("SEND", *(f"h{number}:x" for number in range(11))), "11 headers in one frame; at most 10", id="headers"
    ),
    pytest.param(b"SEND\nlong:" + b"x" * 500, "headers that are too long; at most 500 bytes", id="header without end"),
    pytest.param(
        b"SEND\ndestination:a\ncontent-length:1001\n\n", "a body of 1,001 bytes; at most 1,000 are allowed", id="body"
    ),
    pytest.param(
        b"SEND\ndestination:a\n\n" + b"x" * 1001, "a body without an end; at most 1,000 bytes", id="body without end"
    ),
    pytest.param(stomp("SEND"), "SEND without destination; that header is required", id="SEND to nowhere"),
    pytest.param(stomp("SEND", "destination:"), "a destination of 0 bytes; 1 to 255 are allowed", id="empty name"),
    pytest.param(
        stomp("SEND", f"destination:/queue/{'x' * 249}"), "a destination of 256 bytes; 1 to 255", id="long name"
    ),
    pytest.param(
        stomp("SEND", "destination:a", "expiration:soon"),
        "expiration is 'soon'; a decimal number of milliseconds is required",
        id="expiration",
    ),
    pytest.param(stomp("SUBSCRIBE", "destination:/queue/a"), "SUBSCRIBE without id; that header", id="SUBSCRIBE no id"),
    pytest.param(stomp("SUBSCRIBE", "id:1"), "SUBSCRIBE without destination", id="SUBSCRIBE to nowhere"),
    pytest.param(
        subscribe("s", "/queue/a", "ack:later"),
        "ack is 'later'; allowed are auto, client, client-individual",
        id="mode",
    ),
    pytest.param(subscribe("s", "/queue/a", "prefetch-count:-1"), "prefetch-count is '-1'; a decimal", id="prefetch"),
    pytest.param(
        subscribe("s", "/queue/a") + subscribe("s", "/queue/b"),
        "subscription 's' exists already; identifiers must differ",
        id="SUBSCRIBE twice",
    ),
    pytest.param(
        b"".join(subscribe(str(number), "/queue/a") for number in range(4)),
        "too many subscriptions; 3 are allowed at once",
        id="subscriptions",
    ),
    pytest.param(
        subscribe("s", "/queue/temporary/of-another"),
        "only the connection that a temporary queue",
        id="another's queue",
    ),
    pytest.param(
        stomp("UNSUBSCRIBE", "id:none"), "subscription 'none' does not exist; SUBSCRIBE makes one", id="UNSUBSCRIBE"
    ),
    pytest.param(stomp("UNSUBSCRIBE", "destination:/queue/a"), "UNSUBSCRIBE without id", id="UNSUBSCRIBE no id"),
    pytest.param(
        stomp("BEGIN", "transaction:t") * 2,
        "transaction 't' is open already; identifiers must differ",
        id="BEGIN twice",
    ),
    pytest.param(stomp("BEGIN"), "BEGIN without transaction", id="BEGIN no name"),
    pytest.param(
        b"".join(stomp("BEGIN", f"transaction:{number}") for number in range(3)),
        "too many transactions; 2 may be open at once",
        id="transactions",
    ),
    pytest.param(
        stomp("BEGIN", "transaction:t") + send("/queue/a", "transaction:t", body=bytes(900)) * 6,
        "a transaction that is too large; all that are open may hold 5,000 bytes, 64 for each message",
        id="transaction too large",
    ),
    pytest.param(stomp("COMMIT", "transaction:t"), "transaction 't' is not open; BEGIN opens it", id="COMMIT"),
    pytest.param(stomp("ABORT", "transaction:t"), "transaction 't' is not open", id="ABORT"),
    pytest.param(send("a", "transaction:t"), "transaction 't' is not open", id="SEND in no transaction"),
    pytest.param(stomp("ACK", "id:1", "transaction:t"), "transaction 't' is not open", id="ACK in no transaction"),
    pytest.param(stomp("ACK"), "ACK without id; that header is required", id="ACK no id"),
    pytest.param(stomp("ACK", "id:1"), "1", id="ACK of what was never sent"),
    pytest.param(stomp("ACK", "id:0"), "0", id="ACK of nought"),
    pytest.param(stomp("NACK", "id:1"), "1", id="NACK of what was never sent"),
    pytest.param(stomp("ACK", "id:abc"), "id is 'abc'; allowed is the ack header of a message", id="ACK of no number"),
    pytest.param(
        stomp("NACK", "id:1", "requeue:maybe"), "requeue is 'maybe'; allowed are true and false", id="requeue"
    ),
]


@pytest.mark.parametrize(("sent", "says"), WRONG)
async def test_an_error_says_what_is_allowed(autojump_clock: MockClock, logs: Logs, sent: bytes, says: str) -> None:
    async with open_house(LIMITS) as house:
        peer = await join(house)
        await peer.send(sent)
        said = await refusal(house, logs, peer)
        assert says in said.body.decode()
        assert "receipt-id" not in said.headers
        assert ";" not in said["message"]


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(stomp("PUBLISH", "receipt:r 1"), id="command"),
        pytest.param(stomp("SEND", "receipt:r 1", r"destination:a\t"), id="escape"),
        pytest.param(b"SEND\nreceipt:r 1\nlong:" + b"x" * 500, id="header without end"),
        pytest.param(b"SEND\nreceipt:r 1\ndestination:a\0", id="no blank line"),
        pytest.param(stomp("SEND", "receipt:r 1", "destination:a", "content-length:1", body=b"ab"), id="length"),
        pytest.param(b"SEND\nreceipt:r 1\ndestination:a\n\n" + b"x" * 1001, id="body without end"),
        pytest.param(stomp("ACK", "receipt:r 1", "id:7"), id="ACK"),
        pytest.param(stomp("NACK", "receipt:r 1", "id:7"), id="NACK"),
        pytest.param(stomp("UNSUBSCRIBE", "receipt:r 1", "id:7"), id="UNSUBSCRIBE"),
        pytest.param(stomp("COMMIT", "receipt:r 1", "transaction:7"), id="COMMIT"),
        pytest.param(
            stomp("BEGIN", "transaction:t") + stomp("ACK", "id:7", "transaction:t")
            + stomp("COMMIT", "transaction:t", "receipt:r 1"),
            id="COMMIT of an ACK",
        ),
        pytest.param(subscribe("s", "/queue/temporary/x", "receipt:r 1"), id="SUBSCRIBE"),
    ],
)  # fmt: skip
async def test_an_error_names_the_receipt(autojump_clock: MockClock, logs: Logs, frame: bytes) -> None:
    async with open_house(LIMITS) as house:
        peer = await join(house)
        await peer.send(frame)
        assert (await refusal(house, logs, peer))["receipt-id"] == "r 1"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_what_only_some_versions_know(autojump_clock: MockClock, logs: Logs, version: str) -> None:
    wrong = {"1.0": stomp("NACK", "message-id:1"), "1.1": b"SEND\r\ndestination:/queue/a\r\n\r\n\0"}
    says = {"1.0": "'NACK' is not a command", "1.1": "lines end in a line feed alone"}
    async with open_house() as house:
        peer = await join(house, version)
        await peer.send(wrong[version])
        assert says[version] in (await refusal(house, logs, peer)).body.decode()


async def test_nothing_accepted_is_lost_and_nothing_after_is_looked_at(autojump_clock: MockClock, logs: Logs) -> None:
    async with open_house() as house:
        peer = await join(house)
        await peer.send(
            send("/queue/a", "receipt:1", body=b"whole"),
            stomp("BEGIN", "transaction:t"),
            send("/queue/a", "transaction:t", body=b"never committed"),
            stomp("WHAT"),
            send("/queue/a", body=b"after it"),
            stomp("COMMIT", "transaction:t"),
        )
        await peer.receipt("1")
        await refusal(house, logs, peer)
        assert house.backlog("/queue/a") == 1
        receiver = await subscriber(house, "/queue/a")
        assert (await receiver.message()).body == b"whole"


async def test_what_a_peer_had_goes_back_when_it_errs(autojump_clock: MockClock, logs: Logs) -> None:
    async with open_house() as house:
        peer = await subscriber(house, "/queue/a", "ack:client-individual")
        for body in (b"1", b"2", b"3"):
            await house.broker.publish("/queue/a", body)
        acks = [(await peer.message())["ack"] for _ in range(3)]
        await peer.send(stomp("ACK", f"id:{acks[1]}"), stomp("WHAT"))
        await refusal(house, logs, peer)
        receiver = await subscriber(house, "/queue/a")
        for body in (b"1", b"3"):
            message = await receiver.message()
            assert (message.body, message["redelivered"]) == (body, "true")


@pytest.mark.parametrize("mode", ["client", "client-individual"])
@pytest.mark.parametrize("again", ["ACK", "NACK"])
async def test_settling_twice(autojump_clock: MockClock, logs: Logs, mode: str, again: str) -> None:
    async with open_house() as house:
        peer = await subscriber(house, "/queue/a", f"ack:{mode}")
        await house.broker.publish("/queue/a", b"once")
        number = (await peer.message())["ack"]
        await peer.send(stomp("ACK", f"id:{number}"), stomp(again, f"id:{number}", "receipt:r"))
        said = await refusal(house, logs, peer)
        assert said["receipt-id"] == "r"
        assert "settled once" in said.body.decode()
        assert house.broker.statistics().delivered == 1 + 1  # and that of `others_go_on`


async def test_settling_twice_in_one_transaction(autojump_clock: MockClock, logs: Logs) -> None:
    async with open_house() as house:
        peer = await subscriber(house, "/queue/a", "ack:client-individual")
        await house.broker.publish("/queue/a", b"once")
        number = (await peer.message())["ack"]
        ack = stomp("ACK", f"id:{number}", "transaction:t")
        await peer.send(stomp("BEGIN", "transaction:t"), ack, ack, stomp("COMMIT", "transaction:t"))
        assert "once is allowed" in (await refusal(house, logs, peer)).body.decode()
        assert house.backlog("/queue/a") == 1


async def test_settling_what_another_connection_has(autojump_clock: MockClock, logs: Logs) -> None:
    """Numbers are each connection's own: another's was never made here, and stays with its owner."""
    async with open_house() as house:
        owner = await subscriber(house, "/queue/a", "ack:client")
        await house.broker.publish("/queue/a", b"1")
        number = (await owner.message())["ack"]
        thief = await join(house)
        await thief.send(stomp("ACK", f"id:{number}"))
        assert "never made" in (await thief.error()).body.decode()
        await owner.send(stomp("ACK", f"id:{number}", "receipt:r"))
        await owner.receipt("r")


async def test_settling_what_another_subscription_has(autojump_clock: MockClock, logs: Logs) -> None:
    async with open_house() as house:
        peer = await subscriber(house, "/queue/a", "ack:client", version="1.1")
        await peer.send(subscribe("t", "/queue/b", "ack:client"))
        await house.broker.publish("/queue/a", b"1")
        number = (await peer.message())["message-id"]
        await peer.send(stomp("ACK", f"message-id:{number}", "subscription:t"))
        assert "belongs to another subscription" in (await refusal(house, logs, peer)).body.decode()
        assert house.backlog("/queue/a") == 1


async def test_acknowledging_what_is_settled_by_itself(autojump_clock: MockClock, logs: Logs) -> None:
    async with open_house() as house:
        peer = await subscriber(house, "/queue/a", version="1.1")
        await house.broker.publish("/queue/a", b"1")
        number = (await peer.message())["message-id"]
        await peer.send(stomp("ACK", f"message-id:{number}", "subscription:s"))
        assert "is not to be settled" in (await refusal(house, logs, peer)).body.decode()


async def test_one_that_never_acknowledges(autojump_clock: MockClock) -> None:
    """It is given what its credit allows and no more, for as long as it likes; others get the rest."""
    async with open_house(Limits(prefetch_messages_max=5)) as house:
        peer = await subscriber(house, "/queue/a", "ack:client")
        for number in range(20):
            await house.broker.publish("/queue/a", b"%d" % number)
        assert [(await peer.message()).body for _ in range(5)] == [b"%d" % number for number in range(5)]
        await trio.sleep(10_000)
        await peer.is_silent()
        other = await subscriber(house, "/queue/a", "ack:auto")
        assert [(await other.message()).body for _ in range(15)] == [b"%d" % number for number in range(5, 20)]
        await other.is_silent()


async def test_names_of_queues_are_bounded(autojump_clock: MockClock, logs: Logs) -> None:
    async with open_house(Limits(channels_max=3)) as house:
        peer = await join(house)
        await peer.send(*(send(f"/queue/{number}", f"receipt:{number}") for number in range(5)))
        for number in range(3):
            await peer.receipt(str(number))
        said = await peer.error()
        assert said.body == b"the limit channels_max (3) is reached"
        assert said["receipt-id"] == "3"
        assert set(house.broker.statistics().channels) == {"/queue/0", "/queue/1", "/queue/2"}


async def test_open_transactions_do_not_grow_while_the_broker_is_full(autojump_clock: MockClock, logs: Logs) -> None:
    """They cannot be made to wait, since what would make room may be their own COMMIT."""
    async with open_house(Limits(memory_bytes_max=5000)) as house:
        peer = await join(house)
        await peer.send(stomp("BEGIN", "transaction:t"), send("/topic/x", "transaction:t", body=bytes(6000)))
        said = await peer.error()
        assert said.body == b"the limit memory_bytes_max (5,000) is reached"
        await wait_all_tasks_blocked()
        assert house.broker.memory.cost == 0


async def test_an_error_reaches_one_who_goes_on_sending_over_tcp(logs: Logs) -> None:
    """Whatever is unread when the server closes, there is no reset before the ERROR was read."""
    async with open_tcp_house() as house, trio.open_nursery() as nursery:
        peer = await join_tcp(house)

        async def flood() -> None:
            stream = peer.stream
            assert isinstance(stream, trio.SocketStream)
            await stream.send_all(stomp("WHAT", "receipt:r"))
            for _ in range(20):
                await stream.send_all(send("/queue/a", body=bytes(50_000)))
            await stream.send_eof()

        nursery.start_soon(flood)
        assert (await peer.error())["receipt-id"] == "r"
        await until(lambda: house.server.connections == 0)
        assert not house.broker.statistics().channels
