"""Faults that really happen, made on purpose: for the tests and for the chaos harness."""
