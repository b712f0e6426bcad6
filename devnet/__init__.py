"""The local development chain, the demo and the benchmarks."""
