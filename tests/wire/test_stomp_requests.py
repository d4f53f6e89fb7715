"""The server's half of STOMP, from raw bytes: what a client asks for (docs/stomp.md, S-22 to S-41)."""

from __future__ import annotations

import pytest

from tests.wire.stomp_streams import (
    ABORT,
    BEGIN,
    COMMIT,
    SMALL,
    VERSIONS,
    connected,
    error_in,
    error_of,
    kinds,
    messages_in,
    raw,
    receipts_in,
    send,
    subscribe,
)
from trio_broker.limits import MESSAGE_COST
from trio_broker.message import AckMode
from trio_broker.wire.stomp_commands import (
    Ack,
    Commit,
    Disconnect,
    Fail,
    Nack,
    Publish,
    Reply,
    Subscribe,
    Unsubscribe,
)
from trio_broker.wire.stomp_messages import STOMP, channel_of, with_reply_to

# -- subscriptions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_s22_subscribe(version: str) -> None:
    (command,) = connected(version).receive_data(subscribe("7", to="/topic/x"))
    assert isinstance(command, Subscribe)
    assert (command.id, command.channel, command.ack) == ("7", "/topic/x", AckMode.AUTO)
    assert command.prefetch_messages is None
    assert command.receipt_id is None


@pytest.mark.parametrize("version", VERSIONS)
def test_s22_identifiers_differ(version: str) -> None:
    session = connected(version)
    assert kinds(session.receive_data(subscribe("a") + subscribe("b"))) == ["Subscribe", "Subscribe"]
    seen = error_in(session.receive_data(subscribe("a", "receipt:r", to="/queue/other")))
    assert seen["message"] == "subscription 'a' exists already"
    assert seen["receipt-id"] == "r"


def test_s22_without_an_identifier_in_1_0_the_destination_is_one() -> None:
    session = connected("1.0")
    plain = raw("SUBSCRIBE", "destination:/queue/a")
    first, second = session.receive_data(plain + subscribe("/queue/a"))
    assert isinstance(first, Subscribe)
    assert isinstance(second, Subscribe)
    assert (first.id, second.id) == ("\n/queue/a", "/queue/a")
    assert error_in(session.receive_data(plain))["message"] == "subscription '/queue/a' exists already"


def test_s22_the_number_of_subscriptions_is_limited() -> None:
    session = connected(limits=SMALL)
    assert len(session.receive_data(subscribe("0") + subscribe("1"))) == 2
    assert kinds(session.receive_data(raw("UNSUBSCRIBE", "id:0") + subscribe("2"))) == ["Unsubscribe", "Subscribe"]
    seen = error_in(session.receive_data(subscribe("3")))
    assert seen.body == b"too many subscriptions; 2 are allowed at once"


@pytest.mark.parametrize(
    ("version", "modes"),
    [("1.0", ["auto", "client"]), *((v, ["auto", "client", "client-individual"]) for v in ("1.1", "1.2"))],
)
def test_s23_modes_of_acknowledgement(version: str, modes: list[str]) -> None:
    for mode in modes:
        (command,) = connected(version).receive_data(subscribe("0", f"ack:{mode}"))
        assert isinstance(command, Subscribe)
        assert command.ack.value == mode
    for mode in {"client-individual", "AUTO", "", "x"} - set(modes):
        seen = error_in(connected(version).receive_data(subscribe("0", f"ack:{mode}")))
        assert seen.body.decode() == f"ack is {mode!r}; allowed are {', '.join(modes)}"


def test_s24_unsubscribe() -> None:
    session = connected()
    session.receive_data(subscribe("a"))
    assert session.receive_data(raw("UNSUBSCRIBE", "id:a")) == [Unsubscribe("a")]
    assert kinds(session.receive_data(subscribe("a"))) == ["Subscribe"]
    seen = error_in(session.receive_data(raw("UNSUBSCRIBE", "id:b", "receipt:r")))
    assert seen["message"] == "subscription 'b' does not exist"
    assert seen["receipt-id"] == "r"


def test_s24_unsubscribe_by_destination_in_1_0() -> None:
    by_destination = raw("UNSUBSCRIBE", "destination:/queue/a")
    session = connected("1.0")
    session.receive_data(subscribe("x") + raw("SUBSCRIBE", "destination:/queue/a"))
    assert session.receive_data(by_destination + raw("UNSUBSCRIBE", "id:x", "destination:/queue/a")) == [
        Unsubscribe("\n/queue/a"),
        Unsubscribe("x"),
    ]
    two = subscribe("y") + subscribe("z") + subscribe("w", to="b")
    assert kinds(session.receive_data(two + by_destination * 2))[3:] == ["Unsubscribe"] * 2
    assert [session.receive_data(subscribe(name))[0] for name in ("y", "z")]
    assert session.receive_data(by_destination * 2) == [Unsubscribe("y"), Unsubscribe("z")]
    assert error_in(session.receive_data(by_destination))["message"] == "subscription '/queue/a' does not exist"


# -- transactions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_s25_s26_what_is_bound_to_a_transaction_happens_at_its_commit(version: str) -> None:
    session = connected(version)
    ack = raw("ACK", "id:5", "message-id:5", "subscription:s", "transaction:t", "receipt:a")
    data = BEGIN + send(b"1", "transaction:t") + ack + send(b"2", "transaction:t") + send(b"3", "transaction:t", to="b")
    commands = session.receive_data(data)
    assert kinds(commands) == ["Reply"]
    assert receipts_in(commands) == ["a"]
    assert session.held_bytes > 3 * MESSAGE_COST
    assert session.unfinished_bytes == 0
    (commit, reply) = session.receive_data(raw("COMMIT", "transaction:t", "receipt:c"))
    assert isinstance(commit, Commit)
    assert commit.receipt_id == "c"
    assert kinds(list(commit.commands)) == ["Publish", "Publish", "Ack"]
    assert messages_in([commit]) == {"/queue/a": [(b"1", {}), (b"2", {})], "/queue/b": [(b"3", {})]}
    assert commit.commands[-1] == Ack("s" if version == "1.1" else None, 5, "a")
    assert isinstance(reply, Reply)
    assert session.held_bytes == 0


def test_s25_a_send_of_a_transaction_gets_its_receipt_when_it_is_bound() -> None:
    commands = connected().receive_data(BEGIN + send(b"1", "transaction:t", "receipt:r"))
    assert kinds(commands) == ["Reply"]
    assert receipts_in(commands) == ["r"]


def test_s26_an_empty_transaction_commits() -> None:
    assert connected().receive_data(BEGIN + COMMIT) == [Commit(())]


def test_s25_identifiers_differ_while_they_are_open() -> None:
    session = connected()
    assert kinds(session.receive_data(BEGIN + COMMIT + BEGIN + ABORT + BEGIN)) == ["Commit"]
    assert error_in(session.receive_data(BEGIN))["message"] == "transaction 't' is open already"


@pytest.mark.parametrize(
    "data",
    [
        COMMIT,
        ABORT,
        send(b"", "transaction:t"),
        raw("ACK", "id:1", "transaction:t"),
        raw("NACK", "id:1", "transaction:t"),
    ],
)
def test_s27_only_what_was_begun_can_be_used(data: bytes) -> None:
    session = connected()
    for opening in (b"", BEGIN + ABORT, BEGIN + COMMIT):
        commands = connected().receive_data(opening + data)
        assert error_of(commands[-1])["message"] == "transaction 't' is not open"
    assert session.receive_data(BEGIN + data) == ([Commit(())] if data is COMMIT else [])


def test_s27_nothing_of_an_aborted_transaction_happens() -> None:
    session = connected()
    data = BEGIN + send(b"1", "transaction:t") + raw("ACK", "id:5", "transaction:t") + ABORT
    assert session.receive_data(data) == []
    assert session.held_bytes == 0
    (publish,) = session.receive_data(send(b"2"))
    assert messages_in([publish]) == {"/queue/a": [(b"2", {})]}


@pytest.mark.parametrize("end", [raw("DISCONNECT"), raw("NONSENSE")])
def test_s28_transactions_end_with_the_conversation(end: bytes) -> None:
    session = connected()
    (last,) = session.receive_data(BEGIN + send(b"1", "transaction:t") + end)
    assert isinstance(last, Disconnect | Fail)
    assert session.held_bytes == 0
    assert session.receive_data(COMMIT) == []


def test_s25_transactions_are_independent_and_limited() -> None:
    session = connected(limits=SMALL)
    other = raw("BEGIN", "transaction:u")
    data = BEGIN + other + send(b"1", "transaction:t") + send(b"2", "transaction:u") + ABORT
    assert session.receive_data(data) == []
    assert messages_in(session.receive_data(raw("COMMIT", "transaction:u"))) == {"/queue/a": [(b"2", {})]}
    session.receive_data(BEGIN + other)
    seen = error_in(session.receive_data(raw("BEGIN", "transaction:v", "receipt:r")))
    assert seen.body == b"too many transactions; 2 may be open at once"
    assert seen["receipt-id"] == "r"


@pytest.mark.parametrize(
    "part", [send(b"x" * 64, "transaction:t"), send(b"", "transaction:t"), raw("ACK", "id:1", "transaction:t")]
)
def test_s25_what_open_transactions_hold_is_limited(part: bytes) -> None:
    limits = SMALL
    session = connected(limits=limits)
    session.receive_data(BEGIN + raw("BEGIN", "transaction:u"))
    other = part.replace(b"transaction:t", b"transaction:u")
    for number in range(limits.transaction_bytes_max):
        commands = session.receive_data(other if number % 2 else part)
        if commands:
            break
        assert number < session.held_bytes <= limits.transaction_bytes_max
    else:
        pytest.fail("nothing was refused")
    assert number * MESSAGE_COST <= limits.transaction_bytes_max < (number + 3) * (len(part) + MESSAGE_COST)
    seen = error_in(commands)
    assert seen["message"] == "a transaction that is too large"
    assert b"1,024 bytes" in seen.body
    assert session.held_bytes == 0


# -- settling --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "lines", "subscription"),
    [
        ("1.0", ("message-id:12",), None),
        ("1.0", ("message-id:12", "subscription:s"), None),
        ("1.1", ("message-id:12", "subscription:s", "id:99"), "s"),
        ("1.2", ("id:12", "message-id:99"), None),
        ("1.2", ("id:12", "subscription:s"), None),
    ],
)
def test_s34_ack_and_nack_by_version(version: str, lines: tuple[str, ...], subscription: str | None) -> None:
    session = connected(version)
    assert session.receive_data(raw("ACK", *lines)) == [Ack(subscription, 12)]
    assert session.receive_data(raw("ACK", *lines, "receipt:r"))[0] == Ack(subscription, 12, "r")
    if version != "1.0":
        extra = ("x:y", "destination:/queue/a", "content-length:0")
        assert session.receive_data(raw("NACK", *lines, *extra)) == [Nack(subscription, 12)]


@pytest.mark.parametrize("number", ["", "x", "-1", "0x1", "1.0", "0000002-1", "1" * 19])
def test_s34_what_is_no_number_was_never_issued(number: str) -> None:
    for version, lines in (("1.2", (f"id:{number}",)), ("1.1", ("subscription:s", f"message-id:{number}"))):
        seen = error_in(connected(version).receive_data(raw("ACK", *lines, "receipt:r")))
        assert repr(number) in seen["message"]
        assert seen["receipt-id"] == "r"


def test_s41_a_nack_says_whether_somebody_else_is_to_have_it() -> None:
    for line, requeue in (("requeue:true", True), ("requeue:false", False)):
        assert connected().receive_data(raw("NACK", "id:3", line)) == [Nack(None, 3, requeue)]
    seen = error_in(connected().receive_data(raw("NACK", "id:3", "requeue:no")))
    assert seen.body == b"requeue is 'no'; allowed are true and false"


# -- order -----------------------------------------------------------------------------------------------------------


def test_s35_messages_of_one_read_are_gathered_by_channel() -> None:
    data = b"".join(send(b"%d" % number, f"n:{number % 3}", to="/queue/ab"[: 8 + number % 2]) for number in range(9))
    commands = connected().receive_data(data)
    assert kinds(commands) == ["Publish", "Publish"]
    assert [body for body, _ in messages_in(commands)["/queue/a"]] == [b"0", b"2", b"4", b"6", b"8"]
    assert [headers["n"] for _, headers in messages_in(commands)["/queue/ab"]] == ["1", "0", "2", "1"]


def test_s35_each_read_has_batches_of_its_own() -> None:
    session = connected()
    assert [kinds(session.receive_data(send(b"1"))) for _ in range(2)] == [["Publish"]] * 2


def test_s35_a_message_that_was_held_leads_its_read() -> None:
    session = connected()
    assert session.receive_data(send(b"first")[:-1]) == []
    (command,) = session.receive_data(b"\0" + send(b"second"))
    assert [body for body, _ in messages_in([command])["/queue/a"]] == [b"first", b"second"]


@pytest.mark.parametrize(
    ("between", "kind"),
    [
        (subscribe("9"), "Subscribe"),
        (raw("UNSUBSCRIBE", "id:8"), "Unsubscribe"),
        (raw("ACK", "id:1"), "Ack"),
        (raw("NACK", "id:1"), "Nack"),
        (raw("COMMIT", "transaction:t"), "Commit"),
    ],
)
def test_s35_what_has_a_place_among_messages_keeps_it(between: bytes, kind: str) -> None:
    session = connected()
    session.receive_data(subscribe("8") + BEGIN)
    commands = session.receive_data(send(b"1") + send(b"2", to="b") + between + send(b"3") + send(b"4", to="b"))
    assert kinds(commands) == ["Publish", "Publish", kind, "Publish", "Publish"]
    assert messages_in(commands[:2]) == {"/queue/a": [(b"1", {})], "/queue/b": [(b"2", {})]}
    assert messages_in(commands[3:]) == {"/queue/a": [(b"3", {})], "/queue/b": [(b"4", {})]}


def test_s35_what_has_none_does_not_cut_batches() -> None:
    bound = BEGIN + send(b"x", "transaction:t") + raw("ACK", "id:1", "transaction:t") + ABORT
    (command,) = connected().receive_data(send(b"1") + bound + send(b"2"))
    assert messages_in([command]) == {"/queue/a": [(b"1", {}), (b"2", {})]}


# -- conventions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("destination", "channel"),
    [
        ("/queue/a", "/queue/a"),
        ("/topic/a", "/topic/a"),
        ("/queue", "/queue"),
        ("DLQ", "/queue/DLQ"),
        ("a.b.c", "/queue/a.b.c"),
        ("/null", "/queue//null"),
        ("queue/a", "/queue/queue/a"),
        ("ü", "/queue/ü"),
    ],
)
def test_s36_a_destination_without_a_prefix_is_a_queue(destination: str, channel: str) -> None:
    assert channel_of(destination) == channel
    publish, command = connected().receive_data(send(to=destination) + subscribe(to=destination))
    assert messages_in([publish]) == {channel: [(b"", {})]}
    assert isinstance(command, Subscribe)
    assert command.channel == channel


@pytest.mark.parametrize(
    ("lines", "prefetch"),
    [
        ((), None),
        (("prefetch-count:10",), 10),
        (("activemq.prefetchSize:7",), 7),
        (("activemq.prefetchSize:7", "prefetch-count:8"), 8),
        (("prefetch-count:0",), None),
    ],
)
def test_s37_a_subscriber_may_bound_what_it_is_sent(lines: tuple[str, ...], prefetch: int | None) -> None:
    (command,) = connected().receive_data(subscribe("0", *lines))
    assert isinstance(command, Subscribe)
    assert command.prefetch_messages == prefetch


def test_s37_s39_numbers_of_conventions_are_numbers() -> None:
    for data in (
        subscribe("0", "prefetch-count:x"),
        subscribe("0", "activemq.prefetchSize:-1"),
        send(b"", "expiration:1s"),
    ):
        assert b"a decimal number of m" in error_in(connected().receive_data(data)).body


def test_s38_a_temporary_queue_is_asked_for() -> None:
    data = send(b"1", "reply-to:/temp-queue/x", "n:1") + send(b"2", "reply-to:/temp-queue/x", "n:2")
    first, second = connected().receive_data(data + send(b"3", "reply-to:/queue/x"))
    assert isinstance(first, Publish)
    assert isinstance(second, Publish)
    assert (first.reply_to, second.reply_to) == ("/temp-queue/x", None)
    renamed = with_reply_to(first.batch, "/queue/opaque")
    assert [(m.body, m.headers) for m in renamed] == [
        (b"%d" % n, {"reply-to": "/queue/opaque", "n": str(n)}) for n in (1, 2)
    ]
    assert (renamed.channel, renamed.codec) == ("/queue/a", STOMP)
    assert [m.headers["reply-to"] for m in first.batch] == ["/temp-queue/x"] * 2
    (same,) = connected().receive_data(send(b"1", "reply-to:/temp-queue/x", "expiration:9") * 2)
    assert isinstance(same, Publish)
    renamed = with_reply_to(same.batch, "/queue/opaque")
    assert renamed.parts[0][0] is renamed.parts[1][0]
    assert renamed.parts[0][0].expiration_ms == 9
    assert renamed.parts[0][0].reply_to is None
    assert renamed.bytes == same.batch.bytes
    assert [m.headers for m in second.batch] == [{"reply-to": "/queue/x"}]


def test_s39_messages_with_different_lifetimes_travel_apart_and_in_order() -> None:
    data = b"".join(send(b"%d" % n, *lines) for n, lines in enumerate([(), ("expiration:50",), ("expiration:50",), ()]))
    commands = connected().receive_data(data)
    assert [(c.expiration_ms, [m.body for m in c.batch]) for c in commands if isinstance(c, Publish)] == [
        (None, [b"0"]),
        (50, [b"1", b"2"]),
        (None, [b"3"]),
    ]
    assert messages_in(commands)["/queue/a"][1] == (b"1", {"expiration": "50"})
