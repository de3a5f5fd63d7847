"""Rows of tables: their label, and what machines get of them."""

from embprobe.metrics.estimate import Estimate, Spread
from embprobe.study import Row


def test_a_label_says_encoder_drawing_and_seed() -> None:
    assert (
        Row("mae", {}).label == "mae"
        and Row("mae", {}, how="guidance 3", seed="seed 1").label == "mae, guidance 3, seed 1"
    )


def test_floors_are_real_images_and_reconstructions() -> None:
    kinds = ("samples", "reconstructions", "real", "embeddings")
    assert [Row("a", {}, kind=kind).is_floor for kind in kinds] == [False, True, True, False]  # type: ignore[arg-type]


def test_machines_get_the_interval_and_whether_it_is_reliable_but_no_spread() -> None:
    estimate = Estimate(2.0, 1.0, 3.0, floor=Estimate(0.5), spread=Spread(1.0, 19.0), reliable=False)
    row = Row("mae", {"fd": estimate}, how="by class", count=9, reference="one", weak=True, unusable=("it lies off",))
    assert row.json() == {
        "label": "mae, by class", "encoder": "mae", "how": "by class", "seed": "", "kind": "samples", "count": 9,
        "control": False, "floor": False, "reference": "one", "weak": True, "probed": False,
        "epochs": None, "unusable": ["it lies off"], "values": {"fd": {"value": 2.0, "low": 1.0, "high": 3.0, "reliable": False}},
    }  # fmt: skip
