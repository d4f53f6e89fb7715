"""Two workers share a queue. One leaves early, and what it had not received goes to the other.

Prints::

    steady  0
    hasty   1
    hasty leaves
    steady  2
    steady  4
    steady  3
    steady  5
"""

import trio

import trio_broker

JOBS = 6


async def main() -> None:
    """Deal six jobs to two workers, one of which leaves after its first."""
    async with trio_broker.open_broker() as broker:
        async with broker.subscribe("/queue/jobs") as steady:
            async with broker.subscribe("/queue/jobs") as hasty:
                for number in range(JOBS):  # dealt in rotation: 0, 2 and 4 to steady, 1, 3 and 5 to hasty
                    await broker.publish("/queue/jobs", b"%d" % number)
                print("steady ", (await steady.receive()).body.decode())
                print("hasty  ", (await hasty.receive()).body.decode())
            print("hasty leaves")
            for _ in range(JOBS - 2):
                print("steady ", (await steady.receive()).body.decode())


if __name__ == "__main__":
    trio.run(main)
