"""The program that shows that the public types hold also has to do what it says."""

import trio

from tests.tooling import typed_user_program


async def test_the_typed_user_program_works() -> None:
    with trio.fail_after(5):
        assert await typed_user_program.main() == (b"hello", b"work")
