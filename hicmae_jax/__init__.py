"""HiCMAE in JAX: the science, the machine and the run."""
