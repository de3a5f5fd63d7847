"""--tensorboard: what TensorBoard reads is what the log says, live, continued, and of trainings made before."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embprobe import signals
from embprobe.errors import Interrupted
from embprobe.making import make
from embprobe.stages.compress import Compress
from embprobe.stages.decode import Decode
from embprobe.store import Artefact, Store
from tests.conftest import Zoo

events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")


def scalars(folder: Path, made: Artefact, name: str) -> list[tuple[int, float]]:
    shown = events.EventAccumulator(str(folder / f"{made.stage}-{made.short}"))
    shown.Reload()
    return [(event.step, event.value) for event in shown.Scalars(name)]


def logged(made: Artefact, name: str) -> list[tuple[int, float]]:
    return [(row["step"], row[name]) for row in made.log.rows() if name in row]


def compress(zoo: Zoo, **more: object) -> Compress:
    return Compress(embeddings=zoo["embeddings"], channels=2, steps=100, batch=8, device="cpu", **more)


def same(found: list[tuple[int, float]], expected: list[tuple[int, float]]) -> None:
    assert [step for step, _ in found] == [step for step, _ in expected] and len(found) >= 5
    np.testing.assert_allclose([v for _, v in found], [v for _, v in expected], rtol=1e-6)


def test_scalars_are_those_of_the_log(zoo: Zoo, place: Store, tmp_path: Path) -> None:
    made = make(compress(zoo, tensorboard=tmp_path), place)
    same(scalars(tmp_path, made, "loss"), logged(made, "loss"))


def test_it_is_no_part_of_the_question_and_a_training_made_before_is_shown_too(
    zoo: Zoo, place: Store, tmp_path: Path
) -> None:
    made = make(compress(zoo), place)
    again = make(compress(zoo, tensorboard=tmp_path), place)
    assert again == made
    same(scalars(tmp_path, made, "loss"), logged(made, "loss"))
    make(compress(zoo, tensorboard=tmp_path), place)
    same(scalars(tmp_path, made, "loss"), logged(made, "loss"))


def test_one_that_was_stopped_and_continued_shows_every_step_once(
    zoo: Zoo, place: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_after(monkeypatch, 55)(lambda: make(compress(zoo, tensorboard=tmp_path), place))
    made = make(compress(zoo, tensorboard=tmp_path), place)
    same(scalars(tmp_path, made, "loss"), logged(made, "loss"))


def stop_after(monkeypatch: pytest.MonkeyPatch, times: int) -> Callable[[Callable[[], object]], None]:
    def stopped(work: Callable[[], object]) -> None:
        asked = [0]

        def requested() -> bool:
            asked[0] += 1
            return asked[0] > times

        def check() -> None:
            if requested():
                raise Interrupted("stop")

        with monkeypatch.context() as patch:
            patch.setattr(signals, "requested", requested)
            patch.setattr(signals, "check", check)
            with pytest.raises(Interrupted):
                work()

    return stopped


def test_snapshots_of_a_decoder_are_a_grid_a_step(zoo: Zoo, place: Store, tmp_path: Path) -> None:
    options = {"latents": zoo["latents"], "steps": 3, "batch": 4, "width": 8, "perceptual": "none"}
    made = make(Decode(**options, device="cpu", tensorboard=tmp_path), place)
    shown = events.EventAccumulator(str(tmp_path / f"decode-{made.short}"), size_guidance={"images": 0})
    shown.Reload()
    steps = [event.step for event in shown.Images("reconstructions")]
    assert steps == made.array("snapshots").attrs["steps"]
