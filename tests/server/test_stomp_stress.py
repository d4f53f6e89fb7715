"""A tenth of what `python -m tests.server.stomp_stress 100000` does."""

from tests.server.stomp_stress import stress


async def test_no_message_is_lost_by_consumers_that_are_killed() -> None:
    tally = await stress(10_000)
    assert tally.deaths > 50
    assert tally.doubles > 50
