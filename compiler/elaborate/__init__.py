"""Elaboration: from the syntax tree to typed graphs."""
