"""``python -m trio_broker``: the command line."""

from trio_broker.cli import main

if __name__ == "__main__":
    main()
