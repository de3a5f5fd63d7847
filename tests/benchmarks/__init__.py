"""How long things take, as ratios: `python -m tests.benchmarks` remakes the table of README.md."""
