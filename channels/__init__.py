"""The payment-channel core: vouchers, wire messages and transitions, without I/O."""
