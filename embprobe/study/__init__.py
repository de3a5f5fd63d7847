"""A study: what evaluations and probes say of encoders, as rows, differences, curves and sentences."""

from embprobe.study.reading import Study
from embprobe.study.rows import Row
from embprobe.study.table import Table

__all__ = ["Row", "Study", "Table"]
