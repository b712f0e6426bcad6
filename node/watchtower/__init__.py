"""The watchtower: answers one-sided closes for wallets that sleep, from their vouchers alone."""
