"""Vector versions of the elementary functions."""
