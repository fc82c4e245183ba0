"""The kernels on a GPU: whether they are right there, and how fast. Run it with benchmarks/gpu_suite.sh."""
