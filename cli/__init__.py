"""The farthing command, a thin skin over the library."""
