"""What attention takes: time, arithmetic and memory of variants and backends side by side, measured here."""

from attnframe.bench.benchmark import Benchmark
from attnframe.bench.figures import Measured, Row, Spread
from attnframe.bench.growth import Growth, growths
from attnframe.bench.lines import DTYPES, TIMED, Line

__all__ = ["DTYPES", "TIMED", "Benchmark", "Growth", "Line", "Measured", "Row", "Spread", "growths"]
