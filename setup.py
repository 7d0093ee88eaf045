"""The loops in C, which the package can do without: where no compiler is found, torch does their work more slowly."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from setuptools import Extension, setup

KERNELS = Path("lightning_tailindex", "kernels")

# Series are shared out among torch's own threads, so OpenMP is compiled for but not linked to. No comparison is asked
# to trap and no error number to be set, which nobody looks at. A product and a sum may be rounded together.
ARGUMENTS = ["-O3", "-fno-math-errno", "-fno-trapping-math", "-Wno-psabi"]

LOOPS = Extension(
    "lightning_tailindex.kernels._compiled",
    sources=sorted(map(str, KERNELS.glob("*.c"))),
    depends=sorted(map(str, KERNELS.glob("*.h"))),
    extra_compile_args=[*ARGUMENTS, *(["-fopenmp"] if sys.platform == "linux" else [])],
    optional=True,
)

with TemporaryDirectory() as folder:  # in a folder that stays, the next wheel would find files that are no more
    setup(ext_modules=[LOOPS], options={"build": {"build_base": folder}})
