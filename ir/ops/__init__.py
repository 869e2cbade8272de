"""The operations, each declared in one place."""
