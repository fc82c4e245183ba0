"""Attention on kernels of our own, in Triton. Importing this room does not import triton: `backend` waits for a call."""
