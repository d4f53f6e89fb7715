"""The program of `seed_uvloop`: the seed's broker, with its own options, on uvloop."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # started as a script: the packages are above us

import uvloop

from tests.peers.seed_broker import parse_arguments, serve


def main() -> None:
    """Serve until Ctrl-C."""
    options = parse_arguments()
    try:
        uvloop.run(serve(options.host, options.port, quiet=options.quiet))
    except KeyboardInterrupt:
        print("Bye!")


if __name__ == "__main__":
    main()
