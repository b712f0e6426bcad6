"""Tracing: what a transaction did, step by step, call by call, or word by word of state."""
