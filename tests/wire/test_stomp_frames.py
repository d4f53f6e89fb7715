"""STOMP's grammar, from raw bytes (docs/stomp.md, S-1 to S-10)."""

from __future__ import annotations

import dataclasses

import pytest

from tests.wire.stomp_streams import SMALL, VERSIONS, Seen, connected, error_in, error_of, hello, messages_in, raw
from tests.wire.streams import drip
from trio_broker.limits import Limits
from trio_broker.wire import stomp_frames as module
from trio_broker.wire import stomp_heads
from trio_broker.wire.stomp_commands import Connect, Fail, Reply
from trio_broker.wire.stomp_server import StompServerSession

SEND = b"SEND\ndestination:/queue/a\n"


def sent(data: bytes, version: str = "1.2", limits: Limits | None = None) -> list[tuple[bytes, dict[str, str]]]:
    """The messages to /queue/a that these bytes are, and nothing else."""
    commands = connected(version, limits).receive_data(data)
    messages = messages_in(commands)
    assert len(commands) == 1, commands
    assert list(messages) == ["/queue/a"]
    return [(body, dict(headers)) for body, headers in messages["/queue/a"]]


def refused(data: bytes, version: str = "1.2", limits: Limits | None = None) -> Seen:
    """The ERROR that these bytes alone lead to, whole or dripped; the session is deaf then and holds nothing."""
    session = connected(version, limits)
    commands = session.receive_data(data)
    dripped = connected(version, limits)
    assert [command for byte in drip(data) for command in dripped.receive_data(byte)] == commands
    seen = error_in(commands)
    assert session.held_bytes == dripped.held_bytes == 0
    assert session.receive_data(raw("SEND", "destination:/queue/a")) == []
    assert session.receive_eof() is None
    return seen


# -- frames ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_s1_a_frame_is_a_command_headers_a_blank_line_a_body_and_a_nul(version: str) -> None:
    assert sent(b"SEND\ndestination:/queue/a\ncolour:red\n\nhello\0", version) == [(b"hello", {"colour": "red"})]


@pytest.mark.parametrize("version", VERSIONS)
def test_s1_frames_follow_each_other_directly_or_after_line_ends(version: str) -> None:
    data = SEND + b"\na\0" + SEND + b"\nb\0\n\n" + SEND + b"\nc\0\r\n\n" + SEND + b"\nd\0\n"
    session = connected(version)
    commands = session.receive_data(b"\n\n" + data)
    assert [body for body, _ in messages_in(commands)["/queue/a"]] == [b"a", b"b", b"c", b"d"]
    assert len(commands) == 1
    assert session.receive_eof() is None


def test_s1_a_frame_without_its_blank_line_is_named_at_its_nul() -> None:
    seen = refused(b"SEND\ndestination:/queue/a\n\0")
    assert "NUL among the headers" in seen["message"]
    assert b"blank line" in seen.body


@pytest.mark.parametrize("line", ["colour", "", ":red"])
def test_s1_a_header_has_a_name_and_a_colon(line: str) -> None:
    data = raw("SEND", "destination:/queue/a", line or ":", "x:y")
    assert "header line" in refused(data)["message"]


def test_s1_a_value_may_be_empty_and_have_further_colons() -> None:
    data = raw("SEND", "destination:/queue/a", "empty:", "link:http://x:80/")
    assert sent(data) == [(b"", {"empty": "", "link": "http://x:80/"})]


def test_s1_headers_are_utf8() -> None:
    assert sent(raw("SEND", "destination:/queue/a", "größe:ünï")) == [(b"", {"größe": "ünï"})]
    assert "not UTF-8" in refused(SEND + b"x:\xff\n\n\0")["message"]


@pytest.mark.parametrize("data", [SEND + b"\nab\0", SEND + b"content-length:2\n\nab\0"])
def test_s1_an_unfinished_frame_is_waited_for(data: bytes) -> None:
    session = connected()
    for length in range(1, len(data)):
        assert session.receive_data(data[length - 1 : length]) == []
        assert session.held_bytes == length
        assert str(length) in (session.receive_eof() or "")
    (command,) = session.receive_data(data[-1:])
    assert messages_in([command]) == {"/queue/a": [(b"ab", {})]}
    assert session.held_bytes == 0


# -- line ends -------------------------------------------------------------------------------------------------------


def test_s2_lines_may_end_in_crlf_in_1_2() -> None:
    data = raw("SEND", "destination:/queue/a", "colour:red", body=b"x", end="\r\n")
    assert sent(data) == [(b"x", {"colour": "red"})]
    mixed = b"SEND\r\ndestination:/queue/a\ncolour:red\r\n\nx\0" + b"SEND\ndestination:/queue/a\n\r\ny\0"
    assert [body for body, _ in sent(mixed)] == [b"x", b"y"]


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_s2_lines_end_in_lf_alone_before_1_2(version: str) -> None:
    assert sent(b"SEND\ndestination:/queue/a\nx:y\r\n\nz\0", version) == [(b"z", {"x": "y\r"})]
    assert "carriage return" in refused(b"SEND\ndestination:/queue/a\n\r\nz\0", version)["message"]
    assert "SEND" in refused(raw("SEND\r", "destination:/queue/a"), version)["message"]


def test_s2_a_carriage_return_elsewhere_in_a_header_is_refused_in_1_2() -> None:
    assert "carriage return inside" in refused(SEND + b"x:a\rb\n\n\0")["message"]
    assert "carriage return inside" in refused(SEND + b"x:a\r\r\n\n\0")["message"]


def test_s2_the_frame_that_connects_may_have_either() -> None:
    for end in ("\n", "\r\n"):
        session = StompServerSession(Limits())
        connect, _ = session.receive_data(raw("CONNECT", "accept-version:1.1", "host:x", "login:me", end=end))
        assert isinstance(connect, Connect)
        assert (connect.version, connect.host, connect.login) == ("1.1", "x", "me")


# -- bodies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("body", [b"", b"\0", b"a\0b", bytes(range(256)), b"\n\n\0SEND\n\n\0"])
def test_s3_content_length_counts_nuls_in(body: bytes, version: str) -> None:
    frame = SEND + b"content-length:%d\n\n%b\0" % (len(body), body)
    assert sent(frame + b"\n" + frame, version) == [(body, {}), (body, {})]


def test_s3_without_content_length_the_first_nul_ends_the_body() -> None:
    session = connected()
    first, second = session.receive_data(SEND + b"\na\0b\0")  # what follows is the start of another frame
    assert messages_in([first]) == {"/queue/a": [(b"a", {})]}
    assert "NUL among the headers" in error_of(second)["message"]


@pytest.mark.parametrize("value", ["", "x", "-1", "+1", "1.0", "1 ", "\N{ARABIC-INDIC DIGIT ONE}", "1" * 19, "0x1"])
def test_s3_content_length_is_a_decimal_number(value: str) -> None:
    assert "content-length" in refused(raw("SEND", "destination:/queue/a", f"content-length:{value}"))["message"]


@pytest.mark.parametrize("length", [0, 1, 2])
def test_s3_a_body_longer_than_its_content_length_is_refused(length: int) -> None:
    data = SEND + b"content-length:%d\n\nabc\0" % length
    assert "longer than its content-length" in refused(data)["message"]
    session = connected()
    good = SEND + b"content-length:%d\n\n%b\0" % (length, b"x" * length)
    publish, failure = session.receive_data(good + good + data)  # the same head again: compared, not parsed
    assert len(messages_in([publish])["/queue/a"]) == 2
    assert "longer than its content-length" in error_of(failure)["message"]


BODILESS = ["SUBSCRIBE", "UNSUBSCRIBE", "ACK", "NACK", "BEGIN", "COMMIT", "ABORT", "DISCONNECT"]


@pytest.mark.parametrize("version", ["1.1", "1.2"])
@pytest.mark.parametrize("command", BODILESS)
def test_s4_only_send_may_have_a_body(command: str, version: str) -> None:
    lines = ("id:1", "destination:/queue/a", "transaction:t", "message-id:1", "subscription:1")
    assert f"body in {command}" in refused(raw(command, *lines, body=b"x"), version)["message"]
    assert f"body in {command}" in refused(raw(command, *lines, "content-length:1", body=b"x"), version)["message"]
    for frame in (raw(command, *lines), raw(command, *lines, "content-length:0")):
        commands = connected(version).receive_data(frame)
        assert "body" not in "".join(command.reason for command in commands if isinstance(command, Fail))


def test_s4_the_frame_that_connects_has_no_body() -> None:
    for data in (raw("CONNECT", "accept-version:1.2", body=b"x"), raw("STOMP", "content-length:1", body=b"x")):
        assert "body in" in error_in(StompServerSession(Limits()).receive_data(data))["message"]


def test_s4_other_bodies_are_ignored_in_1_0() -> None:
    session = connected("1.0")
    subscribe, reply = session.receive_data(raw("SUBSCRIBE", "destination:/queue/a", "receipt:r", body=b"ignored"))
    assert (type(subscribe).__name__, type(reply).__name__) == ("Subscribe", "Reply")


# -- escapes ---------------------------------------------------------------------------------------------------------

ESCAPED = r"a\nb\cc\\d"


def test_s5_escapes_in_1_1_and_1_2() -> None:
    data = raw("SEND", "destination:/queue/a", f"{ESCAPED}:{ESCAPED}")
    for version in ("1.1", "1.2"):
        assert sent(data, version) == [(b"", {"a\nb:c\\d": "a\nb:c\\d"})]
    assert sent(raw("SEND", "destination:/queue/a", r"x:a\rb\\n")) == [(b"", {"x": "a\rb\\n"})]


def test_s5_no_escapes_in_1_0() -> None:
    data = raw("SEND", "destination:/queue/a", r"x:a\nb\tc\r\\", "y:\\")
    assert sent(data, "1.0") == [(b"", {"x": r"a\nb\tc\r\\", "y": "\\"})]


@pytest.mark.parametrize(
    ("version", "escape"),
    [
        ("1.1", r"\r"),
        *((version, e) for version in ("1.1", "1.2") for e in (r"\t", r"\0", r"\C", "\\", r"\\\ ", r"\x41")),
    ],
)
def test_s5_another_escape_is_fatal(version: str, escape: str) -> None:
    for line in (f"x:{escape}", f"{escape}x:y", f"x:a{escape}"):
        seen = refused(raw("SEND", "destination:/queue/a", line, "receipt:r"), version)
        assert "unknown escape" in seen["message"]
        assert seen["receipt-id"] == "r"
        assert rb"\n" in seen.body


def test_s6_the_frame_that_connects_has_no_escapes() -> None:
    session = StompServerSession(Limits())
    connect, _ = session.receive_data(hello("1.2", "login:a\\tb", "passcode::=123:\\c"))
    assert isinstance(connect, Connect)
    assert (connect.login, connect.passcode) == ("a\\tb", ":=123:\\c")
    assert "123" not in repr(connect)
    data = raw("CONNECT", "accept-version:1.2", "login:a\\tb\rc", end="\r\n")
    connect, _ = StompServerSession(Limits()).receive_data(data)
    assert isinstance(connect, Connect)
    assert connect.login == "a\\tb\rc"


@pytest.mark.parametrize("receipt", [b"\xff", rb"\t"])
def test_s5_a_receipt_that_cannot_be_read_is_not_repeated(receipt: bytes) -> None:
    assert "receipt-id" not in refused(SEND + b"receipt:" + receipt + b"\n\n\0")


def test_s7_a_nul_is_no_part_of_a_header() -> None:
    assert "NUL" in refused(SEND + b"x:a\0b\n\n\0")["message"]


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_s8_headers_are_never_trimmed(version: str) -> None:
    data = raw("SEND", "destination:/queue/a", " x : y ")
    assert sent(data, version) == [(b"", {" x ": " y "})]
    (failure,) = connected(version).receive_data(raw("SEND", " destination:/queue/a"))
    assert "without destination" in error_of(failure)["message"]


def test_s8_headers_are_trimmed_in_1_0() -> None:
    data = raw("SEND", "destination: /queue/a", "content-length: 1", " x :\ty ", body=b"z")
    assert sent(data, "1.0") == [(b"z", {"x": "\ty"})]
    session = StompServerSession(Limits())
    connect, _ = session.receive_data(raw("CONNECT", "login: me", "passcode: it "))
    assert isinstance(connect, Connect)
    assert (connect.version, connect.login, connect.passcode) == ("1.0", "me", "it")


@pytest.mark.parametrize("version", VERSIONS)
def test_s9_the_first_of_a_repeated_header_wins(version: str) -> None:
    data = raw("SEND", "destination:/queue/a", "foo:World", "foo:Hello", "destination:/queue/b")
    assert sent(data, version) == [(b"", {"foo": "World"})]
    assert sent(SEND + b"content-length:3\ncontent-length:1\n\na\0b\0", version) == [(b"a\0b", {})]


# -- limits ----------------------------------------------------------------------------------------------------------


def test_s10_the_number_of_headers_is_limited() -> None:
    lines = [f"{number}:" for number in range(SMALL.headers_max - 1)]
    assert len(sent(raw("SEND", "destination:/queue/a", *lines), limits=SMALL)) == 1
    seen = refused(raw("SEND", "destination:/queue/a", *lines, "receipt:r"), limits=SMALL)
    assert "7 headers" in seen["message"]
    assert seen["receipt-id"] == "r"
    assert b"at most 6" in seen.body


def test_s10_the_bytes_of_headers_are_limited() -> None:
    room = SMALL.header_bytes_max - len(SEND) - len(b"x:\n\n")
    assert len(sent(SEND + b"x:" + b"y" * room + b"\n\n\0", limits=SMALL)) == 1
    for extra in (1, 2, 1000):
        seen = refused(SEND + b"x:" + b"y" * (room + extra) + b"\n\n\0", limits=SMALL)
        assert "too long" in seen["message"]
        assert b"160 bytes" in seen.body
    session = connected(limits=SMALL)
    assert session.receive_data(SEND + b"x:" + b"y" * (room + 1)) == []  # a blank line may still come in time
    assert "too long" in error_in(session.receive_data(b"y"))["message"]


@pytest.mark.parametrize("announced", [True, False])
def test_s10_the_size_of_a_body_is_limited(announced: bool) -> None:
    def frame(size: int) -> bytes:
        return SEND + (b"content-length:%d\n" % size if announced else b"") + b"\n" + b"x" * size + b"\0"

    assert sent(frame(64), limits=SMALL) == [(b"x" * 64, {})]
    assert len(sent(frame(64) * 3, limits=SMALL)) == 3
    session = connected(limits=SMALL)
    assert len(messages_in(command for byte in drip(frame(64)) for command in session.receive_data(byte))) == 1
    seen = refused(frame(65), limits=SMALL)
    assert seen["message"].startswith("a body")
    assert b"64" in seen.body
    good, failure = connected(limits=SMALL).receive_data(SEND + b"\n\0" + frame(65))
    assert error_of(failure).body == seen.body
    assert len(messages_in([good])["/queue/a"]) == 1


def test_s10_what_is_announced_is_refused_at_its_head() -> None:
    session = connected()
    data = SEND + b"receipt:r\ncontent-length:%d\n\n" % (Limits().frame_bytes_max + 1)
    assert session.receive_data(data[:-1]) == []
    seen = error_in(session.receive_data(data[-1:]))
    assert "16,777,216 bytes" in seen["message"]
    assert seen["receipt-id"] == "r"
    assert connected().receive_data(SEND + b"content-length:%d\n\n" % Limits().frame_bytes_max) == []


# -- what it costs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("announced", [True, False])
def test_a_dripped_frame_is_searched_once(announced: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = 0

    class Counting(bytearray):
        def find(self, *arguments: int) -> int:  # type: ignore[override]  # as it is called here
            nonlocal looked_at
            _, start, end = arguments
            looked_at += max(0, min(end, len(self)) - start)
            return super().find(*arguments)

    class CountingPattern:
        def search(self, buffer: bytes, start: int, end: int) -> object:
            nonlocal looked_at
            looked_at += end - start
            return pattern.search(buffer, start, end)

    pattern = module._HEAD_END
    monkeypatch.setattr(module, "_HEAD_END", CountingPattern())
    monkeypatch.setattr(module, "bytearray", Counting, raising=False)
    body = b"x" * 20_000
    head = SEND + b"x:" + b"y" * 10_000 + (b"\ncontent-length:20000" if announced else b"") + b"\n\n"
    session = connected()
    looked_at = 0
    commands = [command for byte in drip(head + body + b"\0") for command in session.receive_data(byte)]
    assert messages_in(commands)["/queue/a"][0][0] == body
    assert len(head) <= looked_at <= 5 * len(head + body)


def test_a_repeated_head_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []
    parse_head = stomp_heads.parse_head

    def counting(raw_head: bytes, *arguments: object) -> object:
        parsed.append(raw_head)
        return parse_head(raw_head, *arguments)  # type: ignore[arg-type]  # passed on as they came

    monkeypatch.setattr(module, "parse_head", counting)
    session = connected()
    other = raw("SEND", "destination:/queue/b", body=b"y")
    one = SEND + b"content-length:1\n\nx\0"
    del parsed[:]
    commands = session.receive_data((one + b"\n" + other) * 50)
    commands += session.receive_data(one[:-5])
    commands += session.receive_data(one[-5:] + one)
    assert len(parsed) == 2
    assert {channel: len(messages) for channel, messages in messages_in(commands).items()} == {
        "/queue/a": 52,
        "/queue/b": 50,
    }


@pytest.mark.parametrize("head", [SEND, SEND + b"content-length:2\n"])
def test_s44_a_frame_that_repeats_may_be_cut_anywhere(head: bytes) -> None:
    frame = head + b"\nxy\0"
    for place in range(len(frame)):
        session = connected()
        commands = session.receive_data(frame * 2 + frame[:place])
        commands += session.receive_data(frame[place:] + frame)
        assert messages_in(commands) == {"/queue/a": [(b"xy", {})] * 4}
        assert session.held_bytes == 0


def test_only_so_many_heads_are_remembered() -> None:
    session = connected()
    for number in range(1000):
        session.receive_data(raw("SEND", "destination:/queue/a", f"n:{number}"))
    kept = session._reader._heads
    assert 0 < len(kept) <= 64
    session.receive_data(raw("SEND", "destination:/queue/a", "long:" + "x" * 2000))
    assert max(map(len, kept)) < 1024


def test_a_version_holds_from_the_very_next_frame() -> None:
    session = StompServerSession(Limits())
    commands = session.receive_data(hello("1.1") + raw("SEND", "destination:/queue/a", r"x:\c"))
    assert messages_in(commands) == {"/queue/a": [(b"", {"x": ":"})]}
    assert [type(command) for command in commands[:2]] == [Connect, Reply]


def test_limits_of_headers_do_not_count_the_body() -> None:
    limits = dataclasses.replace(SMALL, frame_bytes_max=4096)
    body = b"\n\n" * 1000
    assert sent(SEND + b"content-length:2000\n\n" + body + b"\0", limits=limits) == [(body, {})]
