"""The loop language to LLVM IR, and that to machine code."""
