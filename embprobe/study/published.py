"""What the published comparison of I-JEPA with MAE found: AFHQ, 5 000 samples of 128 px, its Tables 1 and 2."""

from collections.abc import Mapping

ENCODERS = {"mae": "MAE", "ijepa": "I-JEPA"}
COLUMNS = ("IS", "ResNet", "TV", "recall", "precision", "FID")
CLASS_COLUMNS = ("IS", "precision", "recall", "FID")
FIRST = 50  # epochs, of Tables 1a and 2a

Values = Mapping[str, float]


def _row(columns: tuple[str, ...], *values: float) -> Values:
    return dict(zip(columns, values, strict=True))


UNCONDITIONAL: Mapping[tuple[str, bool], Values] = {  # encoder, whether it is the last
    ("mae", False): _row(COLUMNS, 7.85, 2.59, 0.05, 0.30, 0.50, 20.66),
    ("ijepa", False): _row(COLUMNS, 9.09, 2.87, 0.03, 0.15, 0.89, 13.57),
    ("mae", True): _row(COLUMNS, 9.28, 2.78, 0.06, 0.37, 0.74, 9.71),
    ("ijepa", True): _row(COLUMNS, 11.10, 2.89, 0.03, 0.16, 0.90, 12.13),
}
BY_CLASS: Mapping[tuple[str, str], Values] = {  # encoder, class; the last
    ("mae", "cat"): _row(CLASS_COLUMNS, 2.10, 0.27, 0.47, 50.3),
    ("mae", "dog"): _row(CLASS_COLUMNS, 2.84, 0.01, 0.01, 183.2),
    ("mae", "wild"): _row(CLASS_COLUMNS, 3.87, 0.00, 0.00, 203.0),
    ("ijepa", "cat"): _row(CLASS_COLUMNS, 2.45, 0.69, 0.29, 40.7),
    ("ijepa", "dog"): _row(CLASS_COLUMNS, 2.25, 0.42, 0.01, 142.8),
    ("ijepa", "wild"): _row(CLASS_COLUMNS, 3.91, 0.37, 0.27, 46.6),
}
