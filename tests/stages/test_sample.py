"""Sample: the same noise and labels whatever the batch, and inputs that belong together."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from embprobe.errors import UserError
from embprobe.making import make
from embprobe.stage import Stage
from embprobe.stages import sample as module
from embprobe.stages.decode import Decode
from embprobe.stages.diffuse import Diffuse
from embprobe.stages.sample import Sample
from embprobe.store import Artefact, Store
from embprobe.views import Decoder, Denoiser, Samples
from tests.stages.conftest import outputs

Killed = Callable[[Stage, Store, int], Artefact]
TINY = {"count": 20, "steps": 4, "device": "cpu"}


@pytest.fixture
def decoder(store: Store, latents: Artefact) -> Artefact:
    options = {"width": 8, "steps": 2, "batch": 4, "perceptual": "none", "device": "cpu"}
    return make(Decode(latents=latents, **options), store)  # type: ignore[arg-type]


def denoiser_of(store: Store, latents: Artefact, **options: object) -> Artefact:
    tiny = {"network": "dit", "depth": 1, "width": 16, "steps": 9, "batch": 8, "device": "cpu"}
    return make(Diffuse(latents=latents, **tiny | options), store)  # type: ignore[arg-type]


@pytest.fixture
def denoiser(store: Store, latents: Artefact) -> Artefact:
    return denoiser_of(store, latents, conditional=True)


@pytest.mark.parametrize(
    ("objective", "sampler"), [("flow", "euler"), ("flow", "dpm++"), ("v", "ddim"), ("epsilon", "dpm++")]
)
def test_every_objective_samples_unconditionally(
    store: Store, latents: Artefact, decoder: Artefact, objective: str, sampler: str
) -> None:
    denoiser = denoiser_of(store, latents, objective=objective)
    out = make(Sample(denoiser=denoiser, decoder=decoder, sampler=sampler, **TINY), store)  # type: ignore[arg-type]
    assert out.array("images").shape == (20, 16, 16, 3) and out.array("latents").shape == (20, 4, 4, 4)
    assert np.isfinite(out.array("latents").read()).all() and not out.has("label")


def test_the_batch_changes_neither_labels_nor_more_than_rounding(
    store: Store, denoiser: Artefact, decoder: Artefact, tmp_path: Path
) -> None:
    options = TINY | {"labels": "empirical", "guidance": 2.0}
    parts = [
        make(Sample(denoiser=denoiser, decoder=decoder, forward=b, **options), Store(tmp_path / f"s{b}"))  # type: ignore[arg-type]
        for b in (20, 7)
    ]
    assert parts[0].fingerprint == parts[1].fingerprint
    np.testing.assert_array_equal(*(p.array("label").read() for p in parts))
    np.testing.assert_allclose(*(p.array("latents").read() for p in parts), rtol=0, atol=1e-4)


def test_stochastic_ddim_does_not_depend_on_the_batch_either(
    store: Store, latents: Artefact, decoder: Artefact, tmp_path: Path
) -> None:
    denoiser = denoiser_of(store, latents, objective="epsilon")
    drawn = [
        make(Sample(denoiser=denoiser, decoder=decoder, eta=eta, forward=b, **TINY), Store(tmp_path / f"{b}{eta}"))  # type: ignore[arg-type]
        .array("latents")
        .read()
        for b, eta in ((20, 1.0), (7, 1.0), (20, 0.0))
    ]
    np.testing.assert_allclose(drawn[0], drawn[1], rtol=0, atol=1e-4)
    assert np.abs(drawn[0] - drawn[2]).max() > 0.1


def test_killed_and_continued_equals_whole(
    store: Store, denoiser: Artefact, decoder: Artefact, killed: Killed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CHUNK_ROWS", 8)
    stage = Sample(denoiser=denoiser, decoder=decoder, **TINY)  # type: ignore[arg-type]
    whole = make(stage, Store(tmp_path / "other"))
    assert outputs(killed(stage, store, 1)) == outputs(whole)


def test_asked_again_costs_nothing(
    store: Store, denoiser: Artefact, decoder: Artefact, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = make(Sample(denoiser=denoiser, decoder=decoder, **TINY), store)  # type: ignore[arg-type]
    monkeypatch.setattr(Sample, "run", lambda *_: pytest.fail("it ran again"))
    spelled = TINY | {"sampler": "euler", "labels": "balanced", "forward": 3}
    assert make(Sample(denoiser=denoiser, decoder=decoder, **spelled), store) == first  # type: ignore[arg-type]


def test_labels_are_balanced_or_of_one_class_by_name(store: Store, denoiser: Artefact, decoder: Artefact) -> None:
    balanced = make(Sample(denoiser=denoiser, decoder=decoder, **TINY), store)  # type: ignore[arg-type]
    assert np.bincount(balanced.array("label").read()).tolist() == [7, 7, 6]
    one = make(Sample(denoiser=denoiser, decoder=decoder, labels="dog", **TINY), store)  # type: ignore[arg-type]
    assert set(one.array("label").read().tolist()) == {1}


def test_pngs_are_the_images(store: Store, denoiser: Artefact, decoder: Artefact, tmp_path: Path) -> None:
    from PIL import Image

    out = make(Sample(denoiser=denoiser, decoder=decoder, png=tmp_path / "png", **TINY), store)  # type: ignore[arg-type]
    np.testing.assert_array_equal(
        np.asarray(Image.open(tmp_path / "png" / "000007.png")), out.array("images").read()[7]
    )


def test_a_milestone_is_sampled_and_an_unknown_one_lists_those_there_are(
    store: Store, denoiser: Artefact, decoder: Artefact
) -> None:
    early = make(Sample(denoiser=denoiser, decoder=decoder, milestone=1, **TINY), store)  # type: ignore[arg-type]
    last = make(Sample(denoiser=denoiser, decoder=decoder, **TINY), store)  # type: ignore[arg-type]
    assert not np.array_equal(early.array("latents").read(), last.array("latents").read())
    with pytest.raises(UserError, match="--milestone 77 was not saved; there are 1, "):
        make(Sample(denoiser=denoiser, decoder=decoder, milestone=77, **TINY), store)  # type: ignore[arg-type]


def test_an_epoch_that_was_kept_is_its_step_and_another_one_lists_those_there_are(
    store: Store, latents: Artefact, decoder: Artefact
) -> None:
    denoiser = denoiser_of(store, latents, steps=36, keep_epochs=(2, 6))  # an epoch is 4.5 steps

    def drawn(**when: float) -> Sample:
        return Sample(denoiser=denoiser, decoder=decoder, **TINY | when)  # type: ignore[arg-type]

    at = {e: store.open(drawn(epoch=e)).fingerprint for e in (2, 6, 8)}
    assert at[2] == store.open(drawn(milestone=9)).fingerprint != at[6]
    assert at[8] == store.open(drawn()).fingerprint and "epoch" not in drawn(epoch=6).spec()
    assert make(drawn(epoch=6), store).metrics["milestone"] == 27
    with pytest.raises(UserError, match=r"--epoch 4 was not kept; there are 0\.2222, .*, 2, .*, 6, .*8 \(diffuse"):
        make(drawn(epoch=4), store)
    with pytest.raises(UserError, match="--epoch and --milestone both say when"):
        drawn(epoch=2, milestone=9)


def test_each_network_gets_latents_in_the_units_that_it_learned(store: Store, latents: Artefact) -> None:
    options = {"width": 8, "steps": 2, "batch": 4, "perceptual": "none", "device": "cpu"}
    parts = [
        (
            denoiser_of(store, latents, posterior=posterior),
            make(Decode(latents=latents, posterior=posterior, **options), store),  # type: ignore[arg-type]
        )
        for posterior in ("mean", "sample")
    ]
    stds = [
        make(Sample(denoiser=denoiser, decoder=decoder, sampler="gaussian", **TINY), store)  # type: ignore[arg-type]
        .array("latents")
        .read()
        .std((0, 1, 2))
        for denoiser, decoder in parts
    ]
    scales = [Denoiser(denoiser).scale.std for denoiser, _ in parts]
    np.testing.assert_allclose(stds[1] / stds[0], scales[1] / scales[0], rtol=1e-4)
    assert [Decoder(decoder).scale.std.tolist() for _, decoder in parts] == [s.tolist() for s in scales]


def test_a_decoder_of_other_latents_is_refused_and_both_are_named(
    store: Store, decoder: Artefact, unlabelled_latents: Artefact, latents: Artefact
) -> None:
    denoiser = denoiser_of(store, unlabelled_latents)
    message = f"{unlabelled_latents.short}, decoder {decoder.short} on {latents.short}; give a --decoder"
    with pytest.raises(UserError, match=message):
        make(Sample(denoiser=denoiser, decoder=decoder, **TINY), store)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sampler": "ddim"}, "cannot use a denoiser"),
        ({"labels": "dgo"}, 'did you mean "dog"'),
        ({"eta": 0.5}, "--eta has no meaning"),
        ({"guidance_interval": (0.9, 0.1)}, "--guidance-interval"),
    ],
)
def test_unfitting_options_are_the_users_mistake(
    store: Store, denoiser: Artefact, decoder: Artefact, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        make(Sample(denoiser=denoiser, decoder=decoder, **TINY | options), store)  # type: ignore[arg-type]


def test_guidance_needs_classes_and_a_null_class(store: Store, latents: Artefact, decoder: Artefact) -> None:
    for options, message in (({}, "knows no classes"), ({"conditional": True, "label_dropout": 0.0}, "no null class")):
        with pytest.raises(UserError, match=message):
            make(Sample(denoiser=denoiser_of(store, latents, **options), decoder=decoder, guidance=2.0, **TINY), store)  # type: ignore[arg-type]


# ---- prompts


@pytest.fixture
def reader(store: Store, captioned_latents: Artefact) -> Artefact:
    return denoiser_of(store, captioned_latents, text="bytes", rate=0.03, warmup=0)


@pytest.fixture
def its_decoder(store: Store, captioned_latents: Artefact) -> Artefact:
    options = {"width": 8, "steps": 2, "batch": 4, "perceptual": "none", "device": "cpu"}
    return make(Decode(latents=captioned_latents, **options), store)  # type: ignore[arg-type]


def test_prompts_are_taken_in_turn_and_kept(
    store: Store, reader: Artefact, its_decoder: Artefact, tmp_path: Path
) -> None:
    (tmp_path / "prompts.txt").write_text("a cat\n\na dog, dark\n")
    (tmp_path / "prompts.jsonl").write_text('"a cat"\n{"prompt": "a dog, dark"}\nnull\n')
    given = {"denoiser": reader, "decoder": its_decoder, "guidance": 2.0, **TINY}
    lines, json_lines = (
        make(Sample(prompts=tmp_path / f"prompts.{kind}", **given), store)
        for kind in ("txt", "jsonl")  # type: ignore[arg-type]
    )
    assert Samples(lines).prompts == ["a cat", "a dog, dark"] * 10
    assert Samples(json_lines).prompts == (["a cat", "a dog, dark", None] * 7)[:20]
    both = [a.array("latents").read() for a in (lines, json_lines)]
    np.testing.assert_allclose(both[0][:2], both[1][:2], rtol=0, atol=1e-5)  # one noise, one prompt
    assert np.abs(both[0][2] - both[1][2]).max() > 1e-4  # one noise, two prompts
    one = make(Sample(prompt="a cat", **given), store)  # type: ignore[arg-type]
    assert set(Samples(one).prompts or []) == {"a cat"} and not one.has("label")


def test_the_empty_prompt_is_the_null_caption_and_without_one_training_captions_are_drawn(
    store: Store, reader: Artefact, its_decoder: Artefact
) -> None:
    empty = make(Sample(denoiser=reader, decoder=its_decoder, prompt="", **TINY), store)  # type: ignore[arg-type]
    assert Samples(empty).prompts == [None] * 20
    free = [
        Samples(make(Sample(denoiser=reader, decoder=its_decoder, **TINY | {"count": n}), store)).prompts or []  # type: ignore[arg-type]
        for n in (20, 70)
    ]
    images = Denoiser(reader).latents.images
    assert free[0] == free[1][:20] and {*free[1]} <= {(images.captions or [])[row] for row in images.train}
    assert len({*free[1]}) > 4


def test_the_batch_does_not_change_what_prompts_give(
    store: Store, reader: Artefact, its_decoder: Artefact, tmp_path: Path
) -> None:
    drawn = [
        make(Sample(denoiser=reader, decoder=its_decoder, forward=b, guidance=2.0, **TINY), Store(tmp_path / f"{b}"))  # type: ignore[arg-type]
        for b in (20, 7)
    ]
    assert Samples(drawn[0]).prompts == Samples(drawn[1]).prompts
    np.testing.assert_allclose(*(a.array("latents").read() for a in drawn), rtol=0, atol=1e-4)


def test_prompts_killed_and_continued_equal_whole(
    store: Store,
    reader: Artefact,
    its_decoder: Artefact,
    killed: Killed,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CHUNK_ROWS", 8)
    stage = Sample(denoiser=reader, decoder=its_decoder, prompt="a dog", **TINY)  # type: ignore[arg-type]
    assert outputs(killed(stage, store, 1)) == outputs(make(stage, Store(tmp_path / "other")))


def test_prompts_and_labels_go_with_what_was_learned(
    store: Store, reader: Artefact, its_decoder: Artefact, denoiser: Artefact, decoder: Artefact, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="knows captions, not classes; give --prompt for --labels"):
        make(Sample(denoiser=reader, decoder=its_decoder, labels="cat", **TINY), store)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="reads no text; leave --prompt and --prompts out"):
        make(Sample(denoiser=denoiser, decoder=decoder, prompt="a cat", **TINY), store)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="--prompt and --prompts both say what to draw"):
        Sample(denoiser=reader, decoder=its_decoder, prompt="a cat", prompts=tmp_path / "p.txt")
    (tmp_path / "p.txt").write_text("\n")
    with pytest.raises(UserError, match="holds no prompt; write one a line"):
        make(Sample(denoiser=reader, decoder=its_decoder, prompts=tmp_path / "p.txt", **TINY), store)  # type: ignore[arg-type]
