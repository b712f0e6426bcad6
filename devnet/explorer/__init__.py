"""A read-only page of what is on a devnet's chain, made on the server, for a browser."""
