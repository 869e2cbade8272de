"""How native code is called, and what the types of its numbers are, stated once for all that use it."""
