"""The page's section on what the encoders see: the same images, a row an encoder, within its budget."""

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from embprobe.making import make
from embprobe.stages.extract import Extract
from embprobe.stages.probe import Probe
from embprobe.stages.report import Report
from embprobe.store import Artefact, Store
from tests.conftest import Zoo

ENCODERS = ("pixels:4", "random:vit-16x1-h2-p4", "random:vit-16x2-h2-p4")


def probes(zoo: Zoo, place: Store, *more: Artefact) -> tuple[Artefact, ...]:
    made = [make(Extract(images=zoo["images"], encoder=e, device="cpu"), place) for e in ENCODERS]
    return tuple(make(Probe(embeddings=e, k=3), place) for e in (*made, *more))


def section(made: Artefact) -> str:
    found = re.search(r"<h2>What the encoders see</h2>(.*?)</section>", (made.path / "report.html").read_text(), re.S)
    return found[1] if found else ""


def test_a_row_an_encoder_beneath_the_same_images_the_learned_ones_first(zoo: Zoo, place: Store) -> None:
    learned = make(Extract(images=zoo["images"], encoder=zoo["encoder"], device="cpu"), place)
    made = make(Report(artefacts=probes(zoo, place, learned)), place)
    words = section(made)
    figures = re.findall(r'<div class="beside">(.*?)</div>', words)
    rows = [re.findall(r"<span title=\"(.*?)\"", figure) for figure in figures]
    controls = ["pixels:4", "embeddings", "rand…x2-h2-p4"]  # one goes by its alias
    assert rows[0] == rows[1] == ["image", "encoder", *controls]
    assert rows[2] == ["image", "encoder", *controls[1:]]  # pixels have no attention, and nothing is said of it
    assert words.count("the very place") == 2 * 4 and "left out" not in words
    (sheet,) = (made.path / "figures").glob("seen-colours-*.png")
    assert np.asarray(Image.open(sheet)).shape == (5 * 106 - 2, 8 * 106 - 2, 3)
    assert len(words) < 400_000


def test_who_cannot_be_read_is_left_out_with_a_sentence(zoo: Zoo, place: Store) -> None:
    given = probes(zoo, place)
    damaged = given[0].inputs["embeddings"]
    for file in (damaged.path / "data.zarr" / "embeddings" / "c").rglob("*"):
        if file.is_file():
            file.write_bytes(b"damaged")
    words = section(make(Report(artefacts=given), place))
    assert "<li>pixels:4 is left out: " in words and "embeddings" in words
    rows = re.findall(r"<span title=\"(.*?)\"", re.findall(r'<div class="beside">(.*?)</div>', words)[0])
    assert rows == ["image", "embeddings", "rand…x2-h2-p4"]


def test_attention_that_takes_long_is_left_to_show(zoo: Zoo, place: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from embprobe.study import seeing

    monkeypatch.setattr(seeing, "WORK", 1.0)
    words = section(make(Report(artefacts=probes(zoo, place)), place))
    assert words.count("attention is left out, since it is large: embprobe show") == 2
    assert "Attention in the last block" not in words


def test_the_page_is_the_same_when_it_is_made_again(zoo: Zoo, place: Store, tmp_path: Path) -> None:
    given = probes(zoo, place)
    pages = [section(make(Report(artefacts=given), Store(tmp_path / name))) for name in "ab"]
    assert pages[0] and pages[0] == pages[1]


def test_a_label_that_would_be_cut_keeps_its_end() -> None:
    from embprobe.study.seeing import SEEN, _beside

    assert _beside("vit-128x6-h4-p8 (9b24a2)") == "vit-…(9b24a2)"
    assert _beside("mae") == "mae" and _beside("mae untrained") == "mae untrained"
    assert len(_beside("random:vit-64x2-h2-p16")) == SEEN
