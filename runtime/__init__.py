"""Running compiled programs: memory, threads, data, the training loop, checkpoints. Knows nothing of the compiler."""
