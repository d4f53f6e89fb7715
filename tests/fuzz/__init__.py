"""A coverage-guided fuzzer for the parsers; `scripts/fuzz` runs it."""
