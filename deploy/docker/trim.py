"""Takes out of an environment what no verb of the service loads; the image's build runs it.

``python trim.py ENVIRONMENT`` prints how many megabytes each kind was. What goes: tests of packages; the parts of Arrow
that speak to Flight servers and to clouds; headers and sources of what is compiled already.
"""

import shutil
import sys
from pathlib import Path

TESTS = ("numpy", "pandas", "pyarrow", "scipy", "river", "narwhals")
PARTS = {
    "tests": [f"{package}/**/tests" for package in TESTS],
    "Arrow's Flight and clouds": [
        "pyarrow/*arrow_flight*",
        "pyarrow/_flight*",
        "pyarrow/*arrow_s3*",
        "pyarrow/_s3fs*",
        "pyarrow/*arrow_gcs*",
        "pyarrow/_gcsfs*",
        "pyarrow/*arrow_azure*",
        "pyarrow/_azurefs*",
    ],
    "headers and sources": [
        "pyarrow/include",
        "pyarrow/src",
        "pyarrow/**/*.pyx",
        "pyarrow/**/*.pxd",
        "pyarrow/**/*.pxi",
        "numpy/**/include",
        "scipy/**/*.pxd",
        "river/**/*.pyx",
        "river/**/*.cpp",
    ],
}


def size_of(path: Path) -> int:
    """Bytes of a file, or of all in a folder."""
    if path.is_symlink():
        return 0
    return sum(map(size_of, path.iterdir())) if path.is_dir() else path.stat().st_size


def main(environment: Path) -> None:
    """Take them out."""
    [packages] = environment.glob("lib/python3.*/site-packages")
    for name, patterns in PARTS.items():
        found = sorted({path for pattern in patterns for path in packages.glob(pattern)})
        total = 0
        for path in found:
            if path.is_symlink() or path.exists():
                total += size_of(path)
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        print(f"{total / 1e6:6.1f} MB  {name}")
        if not total:
            sys.exit(f"nothing of {name} was found: the packages lie elsewhere now")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
