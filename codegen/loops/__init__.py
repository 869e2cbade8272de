"""The loop language: what kernels are written in, one step above LLVM; its builder, text form and interpreter."""
