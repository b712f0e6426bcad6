"""Chaos: a hub and wallets under load, killed and troubled at random, and compared in the end."""
