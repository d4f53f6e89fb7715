"""What the peers' protocols put on the wire; each module is one `benchmarks.harness.wire.Wire`."""
