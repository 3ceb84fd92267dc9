"""The rings that tests belong to.

* `check`: units and reference values. `make check` runs these files, and nothing else.
* no mark: what a user relies on. `make test` runs these and those of `check`.
* `ci`: fuzzing, 500 images by Ray, a browser, Octave, several machines, runs killed at random, exports and compiled
  networks of many sizes, memory measured in processes, the pages' commands. `make test-all` runs everything, and
  `.ci/run` does.

A file named in CHECK belongs to `check`, except for its tests marked `slow`; what is marked `ci`, to `ci`.
"""

CHECK = frozenset(
    f"test_{name}.py"
    for name in (
        "config", "copies", "lists", "losses", "metadata", "metrics", "models", "pairs", "report",
        "habits", "scheduler", "sheets",
    )
)  # fmt: skip
"""They start no program and open no connection, which is watched, and need no extra."""
