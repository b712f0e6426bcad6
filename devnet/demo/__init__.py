"""The demo: one city block, from real sensor readings to an audited settlement."""
