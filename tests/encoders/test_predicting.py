"""Predictors of released files, against the networks of their papers in plain PyTorch."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from embprobe.encoders.predicting import Predicting, load_predicting
from embprobe.errors import UserError
from embprobe.making import make
from embprobe.nn.masking import asked_of
from embprobe.pixels import IMAGENET
from embprobe.stages.extract import Extract
from embprobe.stages.ingest import Ingest
from embprobe.stages.pretrain import Pretrain
from embprobe.store import Artefact, Store
from embprobe.views import Embeddings, Images
from tests.encoders import official

GRID = (official.SIDE // official.PATCH,) * 2
HIDDEN = [5, 6, 9, 10]  # the middle of a grid of 4×4
SHOWN = [place for place in range(16) if place not in HIDDEN]


def file_of(folder: Path, content: official.Files) -> Path:
    torch.save(content, folder / "released.pth.tar")
    return folder / "released.pth.tar"


def embedded(place: Store, weights: Path, **options: object) -> Embeddings:
    images = make(Ingest(source="planted", count=24, size=official.SIDE, val_share=0.5), place)
    return Embeddings(make(Extract(images=images, encoder=str(weights), heads=2, device="cpu", **options), place))


def standardised(images: Artefact) -> Tensor:
    mean, std = (torch.tensor(values)[:, None, None] for values in IMAGENET)
    pixels = torch.from_numpy(Images(images).array.read(0, 8)).permute(0, 3, 1, 2) / 255
    return (pixels - mean) / std


def middle(predicting: Predicting, x: Tensor) -> tuple[Tensor, Tensor]:
    """What is said of the middle, and where anything was asked for."""
    said, times = predicting(x, asked_of("1,1,2,2", GRID, range(len(x)), 0))
    return said[:, HIDDEN], times


@pytest.mark.parametrize("use", [None, "target"])
def test_ijepas_tokens_and_predictions_are_those_of_its_paper(place: Store, tmp_path: Path, use: str | None) -> None:
    target, context = official.encoder_of("ijepa", 0), official.encoder_of("ijepa", 1)
    embeddings = embedded(place, file_of(tmp_path, official.ijepa_file(target, context)))
    predictor = official.drawn(lambda: official.Predictor(official.WIDTH), 7)
    x, predicting = standardised(embeddings.images.artefact), load_predicting(embeddings, use, None)  # type: ignore[arg-type]
    with torch.no_grad():
        seen = (target if use else context).seen(x, SHOWN)
        wanted, true = predictor(seen, SHOWN, HIDDEN), F.layer_norm(target(x), (official.WIDTH,))
    said, times = middle(predicting, x)
    torch.testing.assert_close(predicting.encoder.network(x), target(x).detach(), rtol=0, atol=1e-5)
    torch.testing.assert_close(predicting.truth(x), true, rtol=0, atol=1e-5)
    torch.testing.assert_close(said, wanted, rtol=0, atol=1e-5)
    assert (times[:, HIDDEN] == 1).all() and (times[:, SHOWN] == 0).all()


def test_maes_tokens_and_reconstructions_are_those_of_its_paper(place: Store, tmp_path: Path) -> None:
    encoder = official.encoder_of("mae")
    embeddings = embedded(place, file_of(tmp_path, official.mae_file(encoder)))
    decoder = official.drawn(lambda: official.Decoder(official.WIDTH, official.PATCH, 17), 8)
    x, predicting = standardised(embeddings.images.artefact), load_predicting(embeddings, None, 2)
    with torch.no_grad():
        wanted = decoder(encoder.seen(x, SHOWN), SHOWN)[:, HIDDEN]
    said, _ = middle(predicting, x)
    torch.testing.assert_close(predicting.encoder.network(x), encoder(x).detach(), rtol=0, atol=1e-5)
    torch.testing.assert_close(said, wanted, rtol=0, atol=1e-5)
    pixels = x.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 4, 5, 1).reshape(8, 16, -1)  # rows, columns, channels
    mean, std = pixels.mean(-1, keepdim=True), (pixels.var(-1, keepdim=True) + 1e-6).sqrt()
    torch.testing.assert_close(predicting.truth(x), (pixels - mean) / std, rtol=0, atol=1e-5)


def test_the_context_encoder_can_be_embedded_with(place: Store, tmp_path: Path) -> None:
    target, context = official.encoder_of("ijepa", 0), official.encoder_of("ijepa", 1)
    file = file_of(tmp_path, official.ijepa_file(target, context))
    usual, other = embedded(place, file), embedded(place, file, use="context")
    x = standardised(usual.images.artefact)
    for embeddings, network in ((usual, target), (other, context)):
        stored = torch.from_numpy(embeddings.array.floats(slice(0, 8))).flatten(1, 2)
        torch.testing.assert_close(stored, network(x).detach(), rtol=0, atol=5e-3)  # f16
    assert usual.artefact != other.artefact
    with pytest.raises(UserError, match="without --layer and --use"):
        load_predicting(other, None, None)


def test_what_has_no_predictor_is_told(place: Store, tmp_path: Path) -> None:
    alone = {"model": official.prefixed(official.encoder_of("ijepa"), "")}
    with pytest.raises(UserError, match="an encoder alone, without what predicts"):
        load_predicting(embedded(place, file_of(tmp_path, alone)), None, None)
    images = make(Ingest(source="planted", count=24, size=16, val_share=0.5), place)
    for encoder, said in (("pixels:4", "no plain ViT"), ("random:vit-16x1-h2-p4", "learned no prediction")):
        with pytest.raises(UserError, match=said):
            load_predicting(Embeddings(make(Extract(images=images, encoder=encoder), place)), None, None)


def test_what_an_earlier_version_made_is_not_taken_for_an_encoder_that_was_given(place: Store) -> None:
    images = make(Ingest(source="planted", count=24, size=16, val_share=0.5), place)
    sizes = {"objective": "mae", "width": 16, "depth": 1, "heads": 2, "steps": 0}
    source = make(Pretrain(images=images, **sizes), place)
    embeddings = Embeddings(make(Extract(images=images, encoder=source), place))
    with pytest.raises(UserError, match="has no meaning for MAE"):
        load_predicting(embeddings, "target", None)
    with pytest.MonkeyPatch.context() as patch:
        told = {k: v for k, v in source.read_json("encoder.json").items() if k != "predictor"}
        patch.setattr(Artefact, "read_json", lambda self, name, kind=object: told)
        with pytest.raises(UserError, match="made by an earlier embprobe"):
            load_predicting(embeddings, None, None)


def test_the_target_is_what_is_embedded_with_if_nothing_is_said(place: Store, tmp_path: Path) -> None:
    file = file_of(tmp_path, official.ijepa_file(official.encoder_of("ijepa", 0), official.encoder_of("ijepa", 1)))
    assert embedded(place, file, use="target").artefact == embedded(place, file).artefact


def test_a_predictor_of_another_shape_is_told(place: Store, tmp_path: Path) -> None:
    target = official.encoder_of("ijepa")
    file = official.ijepa_file(target, target)
    file["predictor"] = official.prefixed(official.drawn(lambda: official.Predictor(48), 7), "module.")
    embeddings = embedded(place, file_of(tmp_path, file))
    with pytest.raises(UserError, match="predictor takes tokens of 48"):
        load_predicting(embeddings, None, None)
    with pytest.raises(UserError, match="not of this network"):
        load_predicting(embedded(place, file_of(tmp_path, official.ijepa_file(target, target))), None, 3)


@pytest.mark.parametrize("objective", ["ijepa", "mae"])
def test_another_resolution_is_as_if_every_network_had_been_given_resampled_positions(
    place: Store, tmp_path: Path, objective: str
) -> None:
    encoder, context = official.encoder_of(objective, 0), official.encoder_of(objective, 1)
    content = official.mae_file(encoder) if objective == "mae" else official.ijepa_file(encoder, context)
    (tmp_path / "other").mkdir()
    given = embedded(place, file_of(tmp_path, content), resolution=2 * official.SIDE)
    wanted = embedded(place, file_of(tmp_path / "other", resampled(content)))
    assert given.grid == wanted.grid == (8, 8)
    images = torch.from_numpy(given.images.array.read(0, 8))
    asked = asked_of("2,2,4,4", (8, 8), range(8), 0)
    said = []
    for embeddings in (given, wanted):
        predicting = load_predicting(embeddings, None, 2)
        x = predicting.standardised(images)
        said.append((predicting.encoder.network(x), *predicting(x, asked)))
    assert said[0][1].abs().sum() > 0
    torch.testing.assert_close(said[0], said[1], rtol=0, atol=1e-6)


def resampled(content: official.Files) -> official.Files:
    """A released file with twice as many positions along each axis."""

    def larger(name: str, values: Tensor) -> Tensor:
        if not name.endswith("pos_embed"):
            return values
        prefix, placed = values[:, : values.shape[1] - 16], values[:, values.shape[1] - 16 :]
        grid = placed.unflatten(1, (4, 4)).permute(0, 3, 1, 2)
        grid = F.interpolate(grid, (8, 8), mode="bicubic", antialias=True)
        return torch.cat([prefix, grid.flatten(2).mT], 1)

    return {
        part: {k: larger(k, v) if isinstance(v, Tensor) else v for k, v in held.items()}
        if isinstance(held, dict)
        else held
        for part, held in content.items()
    }
