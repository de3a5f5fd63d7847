"""Predict: what an encoder's own predictor foresees of hidden patches, as energies, and in pixels."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from embprobe.chunks import fill
from embprobe.errors import UserError
from embprobe.stage import Stage, option
from embprobe.store import Array, Artefact, Json
from embprobe.views import HELD_OUT, Decoder, Embeddings, seeded_subset, split_of

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from embprobe.encoders.predicting import Predicting
    from embprobe.evaluation.truths import Truths

CHUNK_BYTES = 8 << 20


@dataclass(frozen=True, kw_only=True)
class Predict(Stage):
    """Hide patches of held-out images, and compare what the encoder's predictor says of them with the truth.

    The predictor is I-JEPA's, or MAE's decoder, as `pretrain` and the released files keep it. Energies are the distances
    ‖P(Enc(x)) − Enc(y)‖ of predicted from true patches, raw and whitened, beside those of the mean predictor, which says
    the training images' mean at each place. With a decoder, predictions become pixels.
    """

    version = 2

    embeddings: Artefact = option("an extract artefact of the encoder's last layer", made_by=("extract",))
    decoder: Artefact | None = option(
        "a decode artefact of the same embeddings, which shows predictions in pixels", None, made_by=("decode",)
    )
    masking: str = option(
        "each (a grid of 4×4 blocks, every one from all the rest), quadrants, blocks (I-JEPA's four targets), or the "
        "patches TOP,LEFT,HEIGHT,WIDTH",
        "each",
    )
    use: Literal["context", "target"] | None = option("the encoder of I-JEPA that sees contexts; else the context's own",
                                                      None)  # fmt: skip
    predictor_heads: int | None = option(
        "attention heads of a released predictor; else the encoder's for I-JEPA, 16 for MAE", None, least=1, most=1024
    )
    count: int = option("held-out images at most, a seeded choice", 512, least=4, most=1_000_000)
    train_limit: int = option("training images that the mean and the whitening are taken from", 2048, least=20)
    held_out: Literal["auto", "val", "test"] = option(HELD_OUT, "auto")
    seed: int = option("seed of the choices, of drawn masks and of swapped pairs", 0, least=0)
    forward: int = option("images per forward pass", 64, runtime=True, least=1, most=65_536)
    device: str = option("cpu, cuda, cuda:1, …", "auto", runtime=True)

    def resolved(self) -> dict[str, object]:
        if not self.embeddings.complete:
            return {}
        return {"held_out": split_of(Embeddings(self.embeddings).images.artefact, self.held_out)}

    def validate(self) -> None:
        if self.decoder is not None and Decoder(self.decoder).latents.embeddings.artefact != self.embeddings:
            raise UserError(
                f"decoder {self.decoder.short} was made from other embeddings than {self.embeddings.short}; give one of its own"
            )

    def check(self) -> None:
        from embprobe.nn.masking import check_masking

        embeddings = Embeddings(self.embeddings)
        check_masking(self.masking, embeddings.grid)
        images = embeddings.images
        train, held = images.count("train"), images.count(self.held_out)
        if train < 20 or held < 4:
            raise UserError(
                f"{train} training and {held} held-out images are too few to tell predictions from chance; ingest at least "
                "20 and 4 (--val-share holds some out)"
            )

    def work(self) -> float:
        """Images to predict parts of."""
        return float(self.count)

    def run(self, out: Artefact) -> None:
        from embprobe.device import device_of
        from embprobe.encoders.predicting import load_predicting
        from embprobe.evaluation.foreseen import prediction_figures
        from embprobe.evaluation.truths import Truths

        embeddings, device = Embeddings(self.embeddings), device_of(self.device)
        images = embeddings.images
        rows = seeded_subset(images.of_split(self.held_out), self.count, self.seed)
        out.create("rows", (len(rows),), "int64").write(rows)
        predicting = load_predicting(embeddings, self.use, self.predictor_heads).to(device)
        truths = Truths.of(
            predicting, images, seeded_subset(images.train, self.train_limit, self.seed), self.forward, out
        )
        self.fill(predicting, truths, rows, out, device)
        found = prediction_figures(out, truths, images, rows, self.seed)
        out.write_json("prediction.json", {"protocol": self.protocol(predicting, len(rows)), **found})
        told = {name: found[name]["value"] for name in ("r2", "auc", "gain_db") if name in found}
        out.note(**told, count=len(rows), target=predicting.target, flat=found["flat"], collapsed=found["collapsed"])

    def fill(self, predicting: "Predicting", truths: "Truths", rows: "np.ndarray", out: Artefact, device: str) -> None:
        """Writes what was predicted and what is true of every patch, f16 (n,*grid,P), how often it was asked for, u8, and
        where pixels can be had the pictures, u8 (n,H,W,C)."""
        import torch

        from embprobe.evaluation.imagining import NAMES, pictures_of
        from embprobe.nn.masking import asked_of

        images, grid = Embeddings(self.embeddings).images, predicting.encoder.grid
        shape, wide = (len(rows), *grid), predicting.predictor.config.out
        each = max(1, min(64, CHUNK_BYTES // (2 * wide * math.prod(grid))))
        arrays: list[Array] = [
            out.create("predicted", (*shape, wide), "float16", chunk_rows=each),
            out.create("true", (*shape, wide), "float16", chunk_rows=each),
            out.create("asked", shape, "uint8", chunk_rows=each),
        ]
        pictures = pictures_of(predicting, truths, Decoder(self.decoder) if self.decoder else None, device)
        if pictures is not None:
            sides = (len(rows), *pictures.size, images.channels)
            arrays += [out.create(n, sides, "uint8", chunk_rows=each, kind="images") for n in NAMES]

        def read(part: range) -> "Tensor":
            return torch.from_numpy(images.array.take(rows[part.start : part.stop]))

        def predicted(part: range, given: "Tensor") -> "list[np.ndarray]":
            x = predicting.standardised(given.to(device))
            asked = asked_of(self.masking, grid, rows[part.start : part.stop].tolist(), self.seed)
            said, times = predicting(x, asked)
            true = predicting.truth(x)
            values = [said, true, times]
            made = [t.reshape(len(x), *grid, *t.shape[2:]).cpu() for t in values]
            shown = [] if pictures is None else pictures(x, said, times > 0, truths)
            return [made[0].half().numpy(), made[1].half().numpy(), made[2].byte().numpy(), *shown]

        fill(arrays, read, predicted, batch=self.forward, label="predicting")

    def protocol(self, predicting: "Predicting", count: int) -> dict[str, Json]:
        """How the figures were taken."""
        return {
            "masking": self.masking,
            "split": self.held_out,
            "count": count,
            "of": "layer-normalised embeddings"
            if predicting.target == "embeddings"
            else "normalised pixels of patches",
            "mean predictor": "the training images' mean at each place",
            "intervals": "95 %: delete-group jackknife over held-out images (20 groups)",
        }
