"""From fused graphs to machine code: schedule, memory plan, loop IR, LLVM. Knows nothing of the source language."""
