"""Latents of embeddings that are never stored: the same bits, whatever is killed, and a store that knows what is missing."""

import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embprobe.encoders import tokens
from embprobe.encoders.live import Live
from embprobe.errors import UserError
from embprobe.making import make, repaired
from embprobe.stages import STAGES, compress
from embprobe.stages.compress import Compress
from embprobe.stages.extract import Extract
from embprobe.stages.probe import Probe
from embprobe.store import Artefact, Store, rows
from embprobe.study.commands import Script
from embprobe.study.provenance import in_order
from embprobe.training import batches, covariance
from embprobe.training.checkpoints import Saver
from embprobe.views import Latents
from tests import tiny
from tests.conftest import Shell, Zoo
from tests.store.test_store import flip

CHUNK = 8 * 16 * 16 * 2  # eight images
COUNT = 6  # chunks


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six chunks, of which memory keeps two; everything is saved at once."""
    monkeypatch.setattr(tokens, "CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(rows, "CACHE_BYTES", 1)
    monkeypatch.setattr(batches, "SHUFFLE_BYTES", 2 * CHUNK)
    monkeypatch.setattr(covariance, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(Saver, "due", lambda self: True)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The chunks that are computed, one after another."""
    seen: list[int] = []
    real = Live.chunk

    def chunk(self: Live, index: int) -> np.ndarray:
        if index not in self._resident:
            seen.append(index)
        return real(self, index)

    monkeypatch.setattr(Live, "chunk", chunk)
    yield seen


def question(zoo: Zoo, **more: Any) -> Extract:
    return Extract(images=zoo["images"], encoder=tiny.ENCODER, device="cpu", forward=5, **more)


def stored(zoo: Zoo, place: Store, **more: Any) -> Artefact:
    """Latents of stored embeddings, in another store."""
    apart = Store(place.root.parent / "stored")
    return make(Compress(embeddings=make(question(zoo, **more), apart), **tiny.COMPRESS), apart)


def through(zoo: Zoo, place: Store, resident: float = 0.0, **more: Any) -> Compress:
    return Compress(embeddings=place.open(question(zoo, **more)), through=True, resident=resident, **tiny.COMPRESS)


def same(a: Artefact, b: Artefact) -> None:
    """All files are equal, the log and times apart."""
    assert (a.fingerprint, a.folder.sums) == (b.fingerprint, b.folder.sums)
    assert a.metrics == b.metrics


@pytest.mark.parametrize("storage", ["f16", "bf16", "int8"])
def test_latents_are_those_of_stored_embeddings_bit_for_bit(zoo: Zoo, place: Store, storage: str) -> None:
    stage = through(zoo, place, storage=storage)
    made = make(stage, place)
    same(made, stored(zoo, place, storage=storage))
    kept = sorted(path.name for path in stage.embeddings.path.iterdir() if path.name != ".lock")
    assert kept == ["spec.json"] and not stage.embeddings.complete
    assert len(Latents(made).images) == 48 and Latents(made).embeddings.encoder == tiny.ENCODER


def test_a_plateau_and_raw_embeddings_go_through_as_well(zoo: Zoo, place: Store) -> None:
    options = {"schedule": "plateau", "standardise": False, "kind": "linear"}
    made = make(replace(through(zoo, place), **options), place)
    apart = Store(place.root.parent / "stored")
    embeddings = make(question(zoo), apart)
    same(made, make(Compress(embeddings=embeddings, **options, **tiny.COMPRESS), apart))  # type: ignore[arg-type]


def test_what_fits_in_memory_is_computed_once(zoo: Zoo, place: Store, computed: list[int]) -> None:
    made = make(through(zoo, place, resident=1.0), place)
    assert sorted(computed) == list(range(COUNT))
    same(made, stored(zoo, place))


def test_what_does_not_fit_is_computed_again_and_no_more_is_held(
    zoo: Zoo, place: Store, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    real = Live.chunk

    def chunk(self: Live, index: int) -> np.ndarray:
        values = real(self, index)
        held.append(len(self._resident))
        return values

    monkeypatch.setattr(Live, "chunk", chunk)
    make(through(zoo, place, resident=4 * CHUNK / 1e9), place)
    assert max(held) == 2 and sorted(set(computed)) == list(range(COUNT)) and len(computed) > 2 * COUNT


def test_what_is_held_out_is_not_computed_for_the_figures_again(
    zoo: Zoo, place: Store, computed: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    before: list[int] = []
    real = Compress.fidelity

    def fidelity(self: Compress, *given: Any) -> Any:
        before.append(len(computed))
        return real(self, *given)

    monkeypatch.setattr(Compress, "fidelity", fidelity)
    made = make(through(zoo, place, resident=1.6 * CHUNK / 1e9), place)  # twelve rows, and no chunk beside them
    assert len(computed) == before[0] > 2 * COUNT
    same(made, stored(zoo, place))


def killed(stage: Compress, place: Store, after: int) -> bool:
    """Whether a process that dies when so many chunks were computed died, and did not come to its end before."""
    child = os.fork()
    if child == 0:
        real, count = Live.chunk, [0]

        def chunk(self: Live, index: int) -> np.ndarray:
            count[0] += 1
            if count[0] > after:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(self, index)

        Live.chunk = chunk  # type: ignore[method-assign]
        try:
            make(stage, Store(place.root))
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def test_killed_anywhere_and_continued_it_is_equal_to_whole(zoo: Zoo, place: Store) -> None:
    whole = stored(zoo, place)
    reached: set[str] = set()
    for after in (0, 1, 3, 5, 7, 9, 12, 16, 20, 24, 28, 32):
        part = Store(place.root.parent / f"killed{after}")
        stage = through(zoo, part)
        if not killed(stage, part, after):
            break
        out = part.open(stage)
        reached.add(
            "latents" if out.begun_array("latents") and len(out.array("latents").missing()) == 0
            else "training" if out.has("feature_covariance") else "covariance"
        )  # fmt: skip
        same(make(stage, part), whole)
    assert {"covariance", "training", "latents"} <= reached, reached


def test_the_covariance_goes_on_where_it_was_killed(zoo: Zoo, place: Store, computed: list[int]) -> None:
    stage = through(zoo, place)
    assert killed(stage, place, 4)
    make(stage, place)
    assert 0 not in computed[:2] and computed[0] == 4


def test_extract_afterwards_makes_them_and_their_statistics_agree(zoo: Zoo, place: Store) -> None:
    stage = through(zoo, place)
    latents = make(stage, place)
    made = make(question(zoo), place)
    assert made.complete and made == stage.embeddings and made.has("embeddings")
    np.testing.assert_allclose(latents.array("feature_mean").read(), made.array("mean").read(), atol=1e-6)
    variance = np.diag(latents.array("feature_covariance").read())
    np.testing.assert_allclose(variance, made.array("std").read().astype(float) ** 2, rtol=1e-4)
    assert make(Probe(embeddings=made, device="cpu"), place).complete
    assert make(stage, place) == latents


def test_stored_embeddings_are_read_even_if_through_is_asked(zoo: Zoo, place: Store, computed: list[int]) -> None:
    make(question(zoo), place)
    make(through(zoo, place), place)
    assert computed == []


def test_what_needs_stored_embeddings_says_so_in_one_line(zoo: Zoo, place: Store) -> None:
    make(through(zoo, place), place)
    embeddings = place.open(question(zoo))
    for stage in (Probe(embeddings=embeddings), Compress(embeddings=embeddings, **(tiny.COMPRESS | {"channels": 2}))):
        with pytest.raises(UserError, match="isn't finished; run its command again first, without --later"):
            make(stage, place)
    with pytest.raises(UserError, match="width 16"):
        make(replace(through(zoo, place), channels=17), place)
    assert embeddings.begun


def test_a_pretrained_encoder_goes_through(zoo: Zoo, place: Store) -> None:
    asked = make(Extract(images=zoo["images"], encoder=zoo["encoder"], device="cpu", later=True), place)
    latents = make(Compress(embeddings=place[asked.fingerprint], through=True, **tiny.COMPRESS), place)
    apart = Store(place.root.parent / "stored")
    made = make(Extract(images=zoo["images"], encoder=zoo["encoder"], device="cpu"), apart)
    same(latents, make(Compress(embeddings=made, **tiny.COMPRESS), apart))


def test_weights_that_changed_since_they_were_asked_for_are_not_taken(zoo: Zoo, place: Store, tmp_path: Path) -> None:
    weights = tmp_path / "own.safetensors"
    weights.write_bytes(b"first")
    asked = make(Extract(images=zoo["images"], encoder="mae", weights=weights, device="cpu", later=True), place)
    weights.write_bytes(b"second")
    with pytest.raises(UserError, match=r"has changed since extract .* was asked for"):
        make(Compress(embeddings=place[asked.fingerprint], through=True, **tiny.COMPRESS), place)
    assert asked.begun


def test_in_the_shell_the_question_is_put_and_answered_later(zoo: Zoo, shell: Shell, tmp_path: Path) -> None:
    store = ("--store", tmp_path / "shell")
    images = zoo["images"].path
    put = shell(
        "extract", "--images", images, "--encoder", tiny.ENCODER, "--device", "cpu", "--later", *store, "--name", "e"
    )
    assert put.code == 0 and Path(put.out.strip()).is_dir() and put.out.count("\n") == 1
    words = [f"--{k}={v}" for k, v in tiny.COMPRESS.items()]
    plain = shell("compress", "--embeddings", "e", *words, *store)
    assert plain.code == 2 and len(plain.lines) == 1 and "--through" in plain.err
    assert shell("compress", "--embeddings", put.out.strip(), "--through", *words, *store, "--name", "l").code == 0
    assert "only asked" in shell("ls", *store).out and shell("ls", "--json", *store).code == 0
    shown = shell("show", "e", *store)
    assert shown.code == 0 and "only asked for" in shown.out and shell("show", "e", "--json", *store).code == 0
    assert shell("show", "l", *store).code == 0
    assert "1 unfinished" in shell("verify", *store).out
    assert shell("gc", "--yes", *store).code == 0 and Path(put.out.strip()).is_dir(), (
        "what latents are made of is no litter"
    )
    refused = shell("rm", "e", "--yes", *store)
    assert refused.code == 2 and "made from what you chose" in refused.err
    again = shell(
        "extract", "--images", images, "--encoder", tiny.ENCODER, "--device", "cpu", "--later", "--json", *store
    )
    assert again.code == 0 and '"complete": false' in again.out
    assert shell("rm", "e", "--recursive", "--yes", *store).code == 0 and not Path(put.out.strip()).exists()


def test_what_nobody_was_made_from_is_litter(zoo: Zoo, place: Store, shell: Shell) -> None:
    asked = make(question(zoo, later=True), place)
    assert asked.begun and shell("gc", "--yes", "--store", place.root).code == 0 and not asked.path.exists()


RECIPE = """
steps:
  - extract: {images: %s, encoder: "%s", device: cpu, as: e}
  - compress: {embeddings: $e, through: true, channels: 3, steps: 12, batch: 8, device: cpu, as: l}
  %s
"""


def test_a_recipe_does_not_run_an_extract_that_only_goes_through(zoo: Zoo, shell: Shell, tmp_path: Path) -> None:
    path, store = tmp_path / "recipe.yaml", ("--store", tmp_path / "recipes")
    path.write_text(RECIPE % (zoo["images"].path, tiny.ENCODER, ""))
    planned = shell("plan", path, *store)
    assert planned.code == 0 and "not made" in planned.out and "will be made first" not in planned.out
    done = shell("run", path, *store)
    assert done.code == 0, done.err
    embeddings = [a for a in Store(tmp_path / "recipes").artefacts() if a.stage == "extract"]
    assert [a.complete for a in embeddings] == [False] and not embeddings[0].folder.sums
    assert "cached" in shell("plan", path, *store).out


def test_a_recipe_makes_embeddings_that_another_step_needs(zoo: Zoo, shell: Shell, tmp_path: Path) -> None:
    path, store = tmp_path / "recipe.yaml", ("--store", tmp_path / "recipes")
    path.write_text(RECIPE % (zoo["images"].path, tiny.ENCODER, "- probe: {embeddings: $e, device: cpu}"))
    done = shell("run", path, *store)
    assert done.code == 0, done.err
    assert all(a.complete for a in Store(tmp_path / "recipes").artefacts())


def test_a_page_can_tell_where_such_latents_come_from(zoo: Zoo, place: Store) -> None:
    latents = make(through(zoo, place), place)
    everything = in_order(list(latents.lineage()))
    assert [a.stage for a in everything] == ["ingest", "extract", "compress"]
    commands = [Script(everything, {}, STAGES).command(a) for a in everything]
    assert commands[1].endswith(" --later") and commands[2].endswith(" --through")
    assert not any(word in " ".join(commands) for word in ("--no-later", "--no-through", "--resident"))


def test_a_damaged_chunk_of_latents_is_made_again_through_the_encoder(
    zoo: Zoo, place: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compress, "CHUNK_BYTES", 10 * 4 * 4 * 3 * 4)  # ten images
    made = make(through(zoo, place), place)
    path = made.path / made.array("latents").file(2)
    whole = path.read_bytes()
    flip(path)
    mended = repaired(Store(place.root)[made.fingerprint], Compress)
    assert mended.remade == [made.array("latents").file(2)] and not mended.differ and not mended.kept
    assert path.read_bytes() == whole
