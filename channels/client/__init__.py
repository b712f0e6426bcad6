"""The device wallet: keystore, chain reading, durable state and connection, kept light."""
