"""A sandbox for untrusted Python programs: bubblewrap, seccomp and resource limits."""
