"""Benchmarks: what things cost, each figure with its conditions."""
