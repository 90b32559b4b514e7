"""The parts of `benchmarks.gpu_step`: one update in JAX and in PyTorch, from the same weights and clips."""
