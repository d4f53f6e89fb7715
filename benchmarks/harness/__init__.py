"""What the benchmarks share: placing and stopping brokers, loading them, and comparing what they did.

- `placement`: which CPU belongs to the broker and which to the load.
- `children`: a broker as a child process, started, watched and stopped by its process id.
- `brokers`: the command line of each broker that can be measured.
- `wire`: what a protocol puts on the wire, encoded before the clock starts.
- `load`: the loops that pump those bytes and count what comes back.
- `rounds`: calibrated samples of a broker under a load, taken in turns.
- `report`: tables, and results as JSON.
"""
