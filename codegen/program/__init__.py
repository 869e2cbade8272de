"""The whole program: when kernels run and in how many parts, where tensors lie, the driver of a step, the object."""
