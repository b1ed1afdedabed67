"""The tests of pitool. Whatever imports one of them leaves the cores to others.

Threads that wait must not spin where other work wants the cores: it is the difference between
seconds and minutes. Tests run side by side, one process on each core, and their matrices are small,
so that OpenBLAS's other threads would only wait for each other.
"""

import os

# Before numpy is imported, which reads it once.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
