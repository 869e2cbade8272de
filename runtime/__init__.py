"""Running compiled programs: memory, threads, data, the training loop, checkpoints.

Knows nothing of the source language or the compiler: all it is given is an image, a manifest with machine code.
NumPy is the only package it needs to run one.
"""
