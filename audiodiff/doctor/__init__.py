"""Doctor: does everything work here, and if not, what mends it."""
