"""Attention on kernels of our own, in Triton. Importing this room imports no triton: `backend` waits for a call."""
