"""What width, images and steps buy: said where trainings show it, and not where they don't."""

import math
from collections.abc import Callable, Mapping
from itertools import product

import pytest

from embprobe.making import make
from embprobe.page.figures import Figures
from embprobe.store import Artefact, Json, Store
from embprobe.study import Study, judging
from embprobe.study.headline import headline
from embprobe.study.scaling import surfaces_json, what_scales
from tests.fake_study import Compress, Decode, Diffuse, Evaluate, Extract, Ingest, Sample

FLOOR, REAL = 5.0, 1.5  # FD of reconstructions, and of real images as the fake study has it
WIDTHS, IMAGES, MILESTONES = (32, 64, 128), (10, 20, 40), (10, 30)
FD = Callable[[int, int, int], float]


def falling(width: int, images: int, steps: int) -> float:
    """FD above its floor by the law width^−0.3 images^−0.5 steps^−0.8."""
    return FLOOR + 3000 * width**-0.3 * images**-0.5 * steps**-0.8


def scaled(
    store: Store,
    fd: Mapping[str, FD],
    widths: tuple[int, ...] = WIDTHS,
    images: tuple[int, ...] = IMAGES,
    milestones: tuple[int, ...] = MILESTONES,
    reconstructions: bool = True,
    noise: float = 0.1,
) -> tuple[Artefact, ...]:
    """Evaluations of two seeds at every width and number of images, after milestones and 100 steps.

    One seed lies as far above the law as the other below, as much steeper and bent, so that their mean follows it exactly.
    """
    data, found = make(Ingest(), store), []
    for encoder, law in fd.items():
        latents = make(Compress(embeddings=make(Extract(images=data, encoder=encoder), store)), store)
        decoder = make(Decode(latents=latents, images=data), store)
        if reconstructions:
            found.append(make(Evaluate(samples=decoder, reference=data, fd=FLOOR), store))
        for width, count, seed in product(widths, images, (0, 1)):
            trained = Diffuse(latents=latents, width=width, train_images=count, seed=seed)
            denoiser, off = make(trained, store), noise if seed else -noise
            for milestone in (*milestones, None):
                samples = make(Sample(denoiser=denoiser, decoder=decoder, milestone=milestone), store)
                step = milestone or 100
                value = (
                    FLOOR
                    + (law(width, count, step) - FLOOR) * math.exp(2 * off if step == 30 else off) * (step / 30) ** off
                )
                found.append(make(Evaluate(samples=samples, reference=data, fd=value), store))
    return tuple(found)


def told(artefacts: tuple[Artefact, ...]) -> list[Json]:
    study = Study(artefacts)
    return surfaces_json(study, judging.compared(study)[0])


@pytest.fixture(scope="module")
def falls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artefact, ...]:
    return scaled(Store(tmp_path_factory.mktemp("falls") / "store"), {"ijepa": falling})


def test_planted_exponents_are_found_above_the_floor_of_reconstructions(falls: tuple[Artefact, ...]) -> None:
    (found,) = told(falls)
    assert found["encoder"] == "ijepa, by class" and found["trainings"] == 18 and len(found["points"]) == 54
    assert {point["floor"] for point in found["points"]} == {FLOOR}
    exponents = {e["axis"]: e for e in found["exponents"]}
    for axis, true in (("diffuse.width", 0.3), ("diffuse.train_images", 0.5), ("steps", 0.8)):
        e = exponents[axis]
        assert e["value"] == pytest.approx(true) and 0 < e["low"] < true < e["high"] and e["corrected"] < 0.05
    words = "ijepa, by class: with twice the training images FD's excess is 29 % ["
    assert [w for w in found["said"] if w.startswith(words)] and found["bends"]["sizes"] > 0.05


def test_the_page_shows_surface_chart_and_law(falls: tuple[Artefact, ...], place: Store) -> None:
    study = Study(falls)
    out = place.open(Ingest())
    with out.locked():
        page = what_scales(study, judging.compared(study)[0], Figures(out))
    assert page.count("<svg") > 1 and "width 128, 40 images" in page
    for words in ("10 steps", "100 steps", "floor 5.000", "p corrected", "mean over 2 seeds", "with twice the steps"):
        assert words in page, words
    assert page.count("<tr>") == 1 + 3 + 1 + 9  # an exponent an axis, a row a width and number of images


def test_nothing_is_claimed_where_nothing_scales(place: Store) -> None:
    (found,) = told(scaled(place, {"ijepa": lambda *_: 25.0}, milestones=()))
    assert all(e["low"] < 0 < e["high"] for e in found["exponents"]) and len(found["exponents"]) == 2
    assert all("can't be told" in words and "FD's excess is" not in words for words in found["said"])


def test_along_a_curve_nothing_is_claimed(place: Store) -> None:
    def late(width: int, images: int, steps: int) -> float:
        return FLOOR + {10: 50, 30: 90, 100: 10}[steps] / width

    (found,) = told(scaled(place, {"ijepa": late}, images=(40,)))
    assert found["bends"]["steps"] < 1e-3 and not any("twice the steps" in words for words in found["said"])
    assert any("FD follows no power of steps" in words for words in found["said"])


def test_two_sizes_make_no_law(place: Store) -> None:
    (found,) = told(scaled(place, {"ijepa": falling}, widths=(32, 128), images=(40,), milestones=(), noise=0.02))
    assert [e["axis"] for e in found["exponents"]] == ["diffuse.width"]
    assert found["said"][0].endswith("From 2 sizes: whether by a power can't be told.")
    assert told(scaled(place, {"ijepa": falling}, widths=(32,), images=(40,))) == []  # no section without an axis


def test_without_reconstructions_the_floor_is_real_images_and_at_the_floor_there_is_no_law(place: Store) -> None:
    some = {"widths": (32, 64), "images": (40,), "milestones": ()}
    (found,) = told(scaled(place, {"ijepa": falling}, reconstructions=False, **some))  # type: ignore[arg-type]
    assert {point["floor"] for point in found["points"]} == {REAL}
    (found,) = told(scaled(place, {"mae": lambda *_: -1.0}, **some))  # type: ignore[arg-type]
    assert found["exponents"] == [] and found["said"] == [
        "mae, by class: no law, since 4 points are not above the floor."
    ]


def test_below_its_reconstructions_a_surface_is_measured_from_real_images(place: Store) -> None:
    def deep(width: int, images: int, steps: int) -> float:
        return REAL + 24 * width**-0.5

    (found,) = told(scaled(place, {"ijepa": deep}, images=(40,), milestones=(), noise=0.01))
    assert {point["floor"] for point in found["points"]} == {REAL}
    (width,) = found["exponents"]
    assert width["low"] < 0.5 < width["high"] and width["value"] == pytest.approx(0.5, abs=0.02)
    assert any("4 points are below its decoder's reconstructions" in words for words in found["said"])


def test_encoders_are_compared_at_one_width_and_number_of_images(place: Store) -> None:
    def better(*sizes: int) -> float:
        return falling(*sizes) - 2

    some = {"widths": (32, 128), "images": (10, 40), "milestones": ()}
    study = Study(scaled(place, {"ijepa": falling, "mae": better}, **some))  # type: ignore[arg-type]
    (judge,), reading = judging.compared(study)
    assert len(judge.groups) == 4
    assert all({row.how for rows in group.values() for row in rows} == {how} for how, group in judge.groups.items())
    assert all({len(rows) for rows in group.values()} == {2} for group in judge.groups.values())
    first = headline([judge], reading)
    assert first is not None and first.how == "by class, diffusion train images 10, diffusion width 32"
    assert [e["encoder"] for e in surfaces_json(study, [judge])] == ["ijepa, by class", "mae, by class"]
