"""How messages leave a STOMP server, and what of them others see (docs/stomp.md, S-7, S-20, S-29 to S-33)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest

from tests.wire.stomp_streams import VERSIONS, Seen, connected, frames_in, messages_in, raw
from trio_broker.message import Batch, Delivery, Message, plain_batch
from trio_broker.wire.framed_frames import FRAMED, encode, frame
from trio_broker.wire.stomp_commands import Publish, Subscribe
from trio_broker.wire.stomp_messages import STOMP, MessageEncoder, messages_within
from trio_broker.wire.stomp_versions import VERSIONS as KNOWN

MODES = ("auto", "client", "client-individual")


def encoder_of(version: str = "1.2", ack: str = "auto", number: str = "7", to: str = "/queue/a") -> MessageEncoder:
    """What a subscription's frames are made by."""
    (command,) = connected(version).receive_data(raw("SUBSCRIBE", f"id:{number}", f"destination:{to}", f"ack:{ack}"))
    assert isinstance(command, Subscribe)
    return command.encoder


def batch_of(*messages: tuple[bytes, Sequence[str]], version: str = "1.2") -> Batch:
    """A batch as a session makes it."""
    data = b"".join(raw("SEND", "destination:/queue/a", *lines, body=body) for body, lines in messages)
    (command,) = connected(version).receive_data(data)
    assert isinstance(command, Publish)
    return command.batch


def seen_by(encoder: MessageEncoder, *deliveries: Delivery, number: int = 1) -> list[Seen]:
    """The frames that these deliveries become."""
    return frames_in(encoder.encode(deliveries, number))


# -- MESSAGE, byte for byte ------------------------------------------------------------------------------------------

FRAMES = {
    ("1.0", "auto"): "message-id:5\n",
    ("1.0", "client"): "message-id:5\n",
    ("1.1", "auto"): "message-id:5\n",
    ("1.1", "client"): "message-id:5\n",
    ("1.1", "client-individual"): "message-id:5\n",
    ("1.2", "auto"): "message-id:5\n",
    ("1.2", "client"): "message-id:5\nack:5\n",
    ("1.2", "client-individual"): "message-id:5\nack:5\n",
}


@pytest.mark.parametrize(("version", "ack"), FRAMES)
def test_s29_s30_s31_a_message_frame(version: str, ack: str) -> None:
    batch = batch_of((b"hello", ["colour:red", "content-type:text/plain"]))
    assert encoder_of(version, ack).encode([Delivery(batch)], 5).decode() == (
        "MESSAGE\nsubscription:7\ndestination:/queue/a\ncolour:red\ncontent-type:text/plain\ncontent-length:5\n"
        f"{FRAMES[version, ack]}\nhello\0"
    )


def test_s29_a_subscription_without_an_identifier_has_none_in_its_messages() -> None:
    (command,) = connected("1.0").receive_data(raw("SUBSCRIBE", "destination:/queue/a"))
    assert isinstance(command, Subscribe)
    (seen,) = seen_by(command.encoder, Delivery(batch_of((b"x", []))))
    assert "subscription" not in seen
    assert (seen["destination"], seen["message-id"], seen.body) == ("/queue/a", "1", b"x")


def test_s29_the_destination_is_what_the_subscriber_wrote() -> None:
    data = raw("SEND", "destination:DLQ", body=b"x")
    (command,) = connected().receive_data(data)
    assert isinstance(command, Publish)
    for written in ("DLQ", "/queue/DLQ"):
        assert seen_by(encoder_of(to=written), Delivery(command.batch))[0]["destination"] == written


def test_s30_numbers_run_on_through_all_deliveries() -> None:
    batch = batch_of(*((b"%d" % number, [f"n:{number // 2}"]) for number in range(6)))
    many = Delivery(batch, range(6))
    for ack in MODES:
        seen = seen_by(
            encoder_of(ack=ack), many[:4], Delivery(plain_batch(Message("/queue/a", b"p"))), many[4:], number=98
        )
        assert [frame["message-id"] for frame in seen] == [str(number) for number in range(98, 105)]
        assert [frame.body for frame in seen] == [b"0", b"1", b"2", b"3", b"p", b"4", b"5"]
        assert [frame.get("n") for frame in seen] == ["0", "0", "1", "1", None, "2", "2"]
        assert all(("ack" in frame) == (ack != "auto") for frame in seen)
        assert all(frame["ack"] == frame["message-id"] for frame in seen if "ack" in frame)
    assert encoder_of().encode([], 1) == b""


@pytest.mark.parametrize("version", VERSIONS)
def test_s31_bodies_pass_byte_for_byte(version: str) -> None:
    bodies = [b"", b"\0", bytes(range(256)), b"\n\n\0MESSAGE\n", "ü".encode("utf-16")]
    batch = batch_of(*((body, [f"content-length:{len(body)}"]) for body in bodies), version=version)
    seen = seen_by(encoder_of(version), Delivery(batch))
    assert [frame.body for frame in seen] == bodies
    assert [frame["content-length"] for frame in seen] == [str(len(body)) for body in bodies]


def test_s32_what_was_sent_before_is_marked() -> None:
    delivery = Delivery(batch_of(*((b"%d" % number, []) for number in range(5))), range(5), [0, 1, 1, 0, 3])
    for ack in MODES:
        seen = seen_by(encoder_of(ack=ack), delivery)
        assert [frame.get("redelivered") for frame in seen] == [
            None,
            "true",
            "true",
            None,
            "true",
        ]
        assert [frame.body for frame in seen] == [b"0", b"1", b"2", b"3", b"4"]


def test_s33_a_subscriber_is_told_what_it_lost_before() -> None:
    batch = batch_of((b"1", ["x:y"]), (b"2", ["x:y"]))
    seen = seen_by(encoder_of(), Delivery(batch, dropped_before=12), Delivery(batch))
    assert [frame.get("dropped-before") for frame in seen] == [
        "12",
        None,
        None,
        None,
    ]
    assert [frame["x"] for frame in seen] == ["y"] * 4
    batch.share()
    seen = seen_by(encoder_of(), Delivery(batch), Delivery(batch, dropped_before=12))
    assert [("dropped-before" in frame) for frame in seen] == [False, False, True, False]


# -- headers between versions ----------------------------------------------------------------------------------------


def lines_seen(lines: Sequence[str], sender: str, receiver: str) -> list[str]:
    """What becomes of header lines on their way."""
    (seen,) = seen_by(encoder_of(receiver), Delivery(batch_of((b"", lines), version=sender)))
    return seen.lines[2:-2]


def test_s7_s20_headers_are_written_as_each_receivers_version_demands() -> None:
    lines = [r"a\nb:c", r"d:e\nf", r"g\ch:i", r"j:k\cl\\m", r"n:o\rp"]
    assert lines_seen(lines, "1.2", "1.2") == lines
    assert lines_seen(lines, "1.2", "1.1") == [*lines[:4], "n:o\rp"]
    assert lines_seen(lines, "1.2", "1.0") == ["j:k:l\\m", "n:o\rp"]  # 1.0 can write neither line feeds nor such names
    assert lines_seen([r"x:\n:\\"], "1.0", "1.2") == [r"x:\\n\c\\\\"]
    assert lines_seen([r"x:\n:\\"], "1.0", "1.0") == [r"x:\n:\\"]


def test_s7_s8_a_name_that_1_0_would_read_as_another_is_left_out() -> None:
    assert lines_seen([" message-id:9", "x: y"], "1.2", "1.0") == ["x: y"]
    assert lines_seen([" message-id:9", "x: y"], "1.2", "1.1") == [" message-id:9", "x: y"]


@pytest.mark.parametrize("version", VERSIONS)
def test_s7_headers_of_messages_published_in_process(version: str) -> None:
    headers = {
        "": "x",
        "nul\0": "x",
        "x": "\0",
        "lone": "\ud800",
        "\ud800": "",
        "fine": "ü:",
        "ack": "9",
        "destination": "z",
    }
    batch = plain_batch(Message("/queue/a", b"body", headers))
    (seen,) = seen_by(encoder_of(version), Delivery(batch))
    assert seen.lines[2:-2] == ["fine:ü:" if version == "1.0" else r"fine:ü\c"]
    assert seen["destination"] == "/queue/a"


def test_s20_the_same_headers_are_kept_and_read_once() -> None:
    batch = batch_of((b"1", ["x:y"]), (b"2", ["x:y"]))
    first, second = batch.parts
    assert first[0] is second[0]
    read, again = batch
    assert read.headers is again.headers
    assert len({id(first[0].lines(KNOWN[version])) for version in VERSIONS}) == 1


# -- other protocols -------------------------------------------------------------------------------------------------


def test_messages_of_every_protocol_reach_every_subscriber() -> None:
    stomp = batch_of((b"one", ["x:y"]))
    framed = Batch("/queue/a", [frame(b"two")], FRAMED)
    plain = plain_batch(Message("/queue/a", b"three", {"z": "w"}))
    deliveries = [Delivery(batch) for batch in (stomp, framed, plain)]
    assert [frame.body for frame in seen_by(encoder_of(), *deliveries)] == [b"one", b"two", b"three"]
    assert [frame.lines[2:-2] for frame in seen_by(encoder_of(), *deliveries)] == [["x:y"], [], ["z:w"]]
    assert encode(deliveries) == b"".join(map(frame, (b"one", b"two", b"three")))
    (message,) = stomp
    assert message == Message("/queue/a", b"one", {"x": "y"})
    with pytest.raises(TypeError):
        message.headers["x"] = "z"  # type: ignore[index]  # that is the point


def test_the_codec_measures_what_a_batch_was_said_to_hold() -> None:
    batch = batch_of((b"1", ["x:y"]), (b"22", ["x:y"]), (b"333", ["longer:header"]))
    assert batch.codec is STOMP
    assert batch.bytes == STOMP.measure(batch.parts) == batch[:1].bytes + batch[1:].bytes
    head = len("SEND\ndestination:/queue/a\nx:y\n\n")
    assert [batch[index : index + 1].bytes for index in range(3)] == [head + 1, head + 2, head + 13]


# -- encodings that are shared ---------------------------------------------------------------------------------------


def test_a_shared_batch_is_encoded_once_for_all_subscriptions_with_the_same_identifier() -> None:
    batch = batch_of((b"a", []), (b"b", []))
    batch.share()
    first = encoder_of().encode([Delivery(batch)], 1)
    assert encoder_of().encode([Delivery(batch)], 100) is first
    seen = frames_in(first)
    assert [frame.body for frame in seen] == [b"a", b"b"]
    other = batch_of((b"a", []))
    other.share()
    identifiers = [frame["message-id"] for frame in seen + seen_by(encoder_of(), Delivery(other))]
    assert len(set(identifiers)) == 3
    assert not any(identifier.isdigit() for identifier in identifiers)


def test_other_subscriptions_get_encodings_of_their_own_and_few_are_kept() -> None:
    batch = batch_of((b"a", []))
    batch.share()
    encoders = [
        encoder_of(),
        encoder_of("1.1"),
        encoder_of(number="8"),
        encoder_of(to="/topic/x"),
        encoder_of(ack="client"),
    ]
    seen = [seen_by(encoder, Delivery(batch), number=9)[0] for encoder in encoders]
    assert [(frame["subscription"], frame["destination"], "ack" in frame) for frame in seen] == [
        ("7", "/queue/a", False),
        ("7", "/queue/a", False),
        ("8", "/queue/a", False),
        ("7", "/topic/x", False),
        ("7", "/queue/a", True),
    ]
    assert seen[4]["ack"] == "9"
    assert batch.encodings is not None
    assert len(batch.encodings) == 1
    encode([Delivery(batch)])
    assert len(batch.encodings) == 2
    assert seen_by(encoders[0], Delivery(batch))[0].body == b"a"


def test_the_length_of_an_encoding_does_not_depend_on_what_was_shared_before() -> None:
    sizes = set()
    for _ in range(20):
        batch = batch_of((b"a", []))
        batch.share()
        sizes.add(len(encoder_of().encode([Delivery(batch)], 1)))
    assert len(sizes) == 1


# -- a write that was cut --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ack", MODES)
def test_messages_within_a_written_prefix(ack: str) -> None:
    messages = [
        (b"", ["x:y"]),
        (b"a\0\n\ncontent-length:3\n\n", ["content-length:22"]),
        (b"z" * 30, []),
        (b"z", ["k:v"]),
    ]
    batch = batch_of(*messages)
    encoder = encoder_of(ack=ack)
    encoded = encoder.encode([Delivery(batch)], 9)
    sizes = [len(encoder.encode([Delivery(batch[i : i + 1])], 9 + i)) for i in range(4)]
    ends = list(itertools.accumulate(sizes))
    assert ends[-1] == len(encoded)
    for size_bytes in range(len(encoded) + 3):
        assert messages_within(encoded, size_bytes) == sum(end <= size_bytes for end in ends)
    assert messages_within(b"", 10) == 0


def test_what_one_publishes_the_other_sees() -> None:
    commands = connected().receive_data(raw("SEND", "destination:/queue/a", r"x:\n", body=b"1"))
    (publish,) = commands
    assert isinstance(publish, Publish)
    (seen,) = seen_by(encoder_of("1.1", "client"), Delivery(publish.batch))
    assert (seen["x"], seen.body) == (r"\n", b"1")
    assert messages_in(commands) == {"/queue/a": [(b"1", {"x": "\n"})]}
