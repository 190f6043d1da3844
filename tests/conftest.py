"""What holds for all tests: one thread, examples that do not change from run to run."""

import os

# small solves are many times slower when several threads fight for the cores; before NumPy is imported
os.environ.setdefault("OMP_NUM_THREADS", "1")

from hypothesis import settings

settings.register_profile("certlip", deadline=None, derandomize=True)
settings.register_profile("nightly", deadline=None, derandomize=False, max_examples=2000, print_blob=True)
settings.load_profile("certlip")
