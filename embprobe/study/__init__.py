"""A study: what evaluations and probes say of encoders, as rows, differences, curves and sentences."""

from embprobe.metrics.estimate import Estimate
from embprobe.metrics.table import METRICS, Metric
from embprobe.study.rows import Row
from embprobe.study.reading import Study
from embprobe.study.table import Table

__all__ = ["METRICS", "Metric", "Estimate", "Row", "Study", "Table"]
