"""Tapeless: a compiler for training."""
