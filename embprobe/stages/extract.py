"""Extract: the patch tokens of every image by a frozen encoder, (N,*grid,D)."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from embprobe import console
from embprobe.chunks import pour
from embprobe.encoders import layers, names
from embprobe.encoders.box import in_box
from embprobe.errors import UserError
from embprobe.stage import Make, Stage, dashed, option
from embprobe.store import Array, Artefact, Json
from embprobe.views import Images, held_in, size_to_be

if TYPE_CHECKING:
    from torch import Tensor

    from embprobe.encoders.tokens import Embed

MOMENTS_BYTES = 4 << 20  # of moments in a file
GIVEN = ("mean", "std", "heads", "input_size", "use", "resolution")  # what the user may know better than timm


@dataclass(frozen=True, kw_only=True)
class Extract(Stage):
    """Embed every image with a frozen encoder: all patch tokens of a layer, after the final norm."""

    version = 3

    images: Artefact = option("an ingested data set, or a folder or zip to ingest first", made_by=("ingest",))
    encoder: Artefact | str = option(names.GRAMMAR, made_by=("pretrain",), words=names.OTHERWISE, path=True)
    weights: Path | None = option(
        "a local weights file for the encoder (.safetensors, or .pth with tensors only)", None
    )
    mean: tuple[float, ...] | None = option("of each channel in [0, 1], by which images are normalised", None)
    std: tuple[float, ...] | None = option(
        "the same, given with --mean; else both are timm's, the folder's, or for a file ImageNet's", None
    )
    heads: int | None = option("attention heads, which few weights files tell", None, least=1, most=1024)
    input_size: int | None = option("side in pixels that a timm encoder was made for", None, least=1, most=8192)
    layer: tuple[str, ...] | None = option(
        "whose tokens: a block from 1; several as 3,6,12, side by side (as many times the width); last4, the mean of the "
        "last 4; left out, the last",
        None,
    )
    resolution: int | None = option(
        "side in pixels at which images enter a ViT that was trained at another: its positions are resampled",
        None,
        least=1,
        most=8192,
    )
    use: Literal["target", "context"] | None = option(
        "of I-JEPA's two encoders: the average, which is used if left out, or the one that saw the contexts", None
    )
    storage: Literal["f16", "bf16", "int8"] = option("how numbers are stored; int8 with one scale a channel", "f16")
    seed: int = option("seed of a random encoder's weights and of int8 calibration", 0, least=0)
    precision: Literal["f32", "bf16"] = option("of the forward pass", "f32")
    forward: int = option("images per forward pass", 128, runtime=True, least=1, most=65_536)
    device: str = option("cpu, cuda, cuda:1, …", "auto", runtime=True)
    later: bool = option(
        "only ask: nothing is made, and `compress --through` computes what it needs", False, runtime=True
    )

    def resolved(self) -> dict[str, object]:
        """A file or a folder given as the encoder is its weights; what a name of timm's says of sizes is an option."""
        word = self.encoder
        if self.layer == ():
            raise UserError("--layer is empty; give a block, several with commas, last4, or leave it out")
        found: dict[str, object] = {
            "layer": layers.words_of(self.layer),
            "use": self.use if self.use != "target" else None,
        }
        if not isinstance(word, str) or word in names.BUILT_IN:
            return found
        found_in_box = in_box(word)
        path = found_in_box.file if found_in_box else Path(word).expanduser()
        if path.is_file() or path.is_dir():
            if self.weights is not None:
                raise UserError(f"--encoder {word} is a {'folder' if path.is_dir() else 'file'} of weights already; leave "
                                "--weights out")  # fmt: skip
            return found | own_encoder(path)
        return found

    def validate(self) -> None:
        layers.check_layers(self.layer)
        if isinstance(self.encoder, str):
            names.check_name(self.encoder)
            if self.weights is not None and names.is_control(self.encoder):
                sized = self.encoder.removeprefix("random:")
                advice = f"; for a trained one write --encoder {sized}" if names.SIZED.fullmatch(sized) else ""
                raise UserError(f"--weights has no meaning for encoder {self.encoder}; leave it out{advice}")
            if self.layer and not self.has_layers:
                raise UserError(f"--layer has no meaning for encoder {self.encoder}; leave it out")
            if self.weights is None and (names.is_own(self.encoder)):
                raise UserError(
                    f"encoder {self.encoder} needs its file; give --weights FILE, or random:{self.encoder} for an untrained one"
                )
        elif self.weights is not None:
            raise UserError("--weights has no meaning with a pretrain artefact, which holds its own; leave it out")
        self.validate_given()

    @property
    def has_layers(self) -> bool:
        """Whether the encoder is a ViT of ours, timm's or transformers'."""
        if not isinstance(self.encoder, str):
            return True
        return self.encoder != "pixels" and self.encoder.partition(":")[0] not in ("pixels", *names.families())

    def validate_given(self) -> None:
        """Raises UserError for what is given of an encoder that it can't be given of, or that can't be."""
        given = [name for name in GIVEN if getattr(self, name) is not None]
        word = self.encoder if isinstance(self.encoder, str) else None
        takes = ("use", "resolution") if word is None else names.takes(word)
        for name in given:
            if name not in takes:
                what = f"encoder {word}" if word else "a pretrain artefact"
                raise UserError(f"{dashed(name)} has no meaning with {what}; leave it out")
        if (self.mean is None) != (self.std is None):
            raise UserError(f"{dashed(given[0])} alone is half a normalisation; give --mean and --std, or neither")
        for name, values in (("--mean", self.mean or ()), ("--std", self.std or ())):
            shown = ",".join(f"{value:g}" for value in values)
            if values and len(values) != 3:
                raise UserError(f"{name} {shown} has {len(values)} numbers; give one for each of red, green and blue")
            if not all(0 <= value <= 1 for value in values) or (name == "--std" and 0 in values):
                raise UserError(f"{name} {shown} is not of pixels in [0, 1]; divide what is of 0 to 255 by 255")

    def prepare(self, make: Make, *, download: bool) -> Self:
        """With the weights of a hub checkpoint as the file they are, and a file's sizes in its name: they count so."""
        size = size_to_be(self.images)
        if size is not None and isinstance(self.encoder, str) and self.encoder.partition(":")[0] == "pixels":
            names.pixel_patch(self.encoder, size)
        if self.encoder == names.FILE and self.weights is not None:
            from embprobe.encoders.own import sized_name

            return replace(self, encoder=sized_name(self.weights, self.heads), heads=None)
        if self.weights is None and isinstance(self.encoder, str):
            return replace(self, weights=names.hub_file(self.encoder, download=download))
        return self

    def spec(self) -> dict[str, Json]:
        """The encoder by its full name, and by the version of the package that provides it; no seed where none is drawn.

        What may be given of encoders counts where it is given, and what a folder tells beside its weights.
        """
        spec = {key: value for key, value in super().spec().items() if key not in GIVEN or value is not None}
        spec["layer"] = layers.as_asked(self.layer)
        if isinstance(self.encoder, str):
            spec |= {"encoder": names.full_name(self.encoder), "family": names.family_version(self.encoder)}
            if self.encoder == names.FOLDER and self.weights is not None:
                spec |= names.told_beside(self.weights)
            if not names.draws(self.encoder) and self.storage != "int8":
                spec["seed"] = None
        elif self.storage != "int8":
            spec["seed"] = None
        return spec

    def is_put_off(self) -> bool:
        return self.later

    def work(self) -> float:
        """Images to embed."""
        return float(held_in(self.images))

    def run(self, out: Artefact) -> None:
        import torch

        from embprobe.device import device_of
        from embprobe.encoders.load import Given, load_encoder
        from embprobe.encoders.tokens import Embed, Storing

        images = Images(self.images)
        encoder = load_encoder(
            self.encoder,
            image_size=images.size,
            channels=images.channels,
            weights=self.weights,
            layer=self.layer,
            seed=self.seed,
            given=Given(**{name: getattr(self, name) for name in GIVEN}),
        )
        if any(own > given for own, given in zip(encoder.size, images.size, strict=True)):
            shown = "×".join(map(str, dict.fromkeys(images.size)))
            console.say(f"images of {shown} px are enlarged to the {max(encoder.size)} px that the encoder takes")
        embed = Embed(encoder, device_of(self.device), self.precision)
        array, moments = self.create(embed, images, out)
        storing = Storing(embed, array, images.train)

        def read(rows: range) -> "Tensor":
            return embed.loaded(images.array.read(rows.start, rows.stop))

        pour([array], read, storing, batch=self.forward, label="extracting", sums=moments,
             together=embed.kind == "cuda", room=storing.room)  # fmt: skip
        facts = write_statistics(array, moments, len(images.train), out)
        out.note(
            encoder=encoder.facts | {"size": list(encoder.size), "mean": encoder.mean, "std": encoder.std},
            count=len(images),
            grid=list(encoder.grid),
            width=encoder.width,
            storage=self.storage,
            upscaled=any(own > given for own, given in zip(encoder.size, images.size, strict=True)),
            parameters=sum(p.numel() for p in encoder.network.parameters()),
            **facts,
        )
        if embed.kind == "cuda":
            out.note(device=torch.cuda.get_device_name(embed.device))

    def create(self, embed: "Embed", images: Images, out: Artefact) -> tuple[Array, Array]:
        """The arrays `embeddings` (N,*grid,D) and `moments` (n_chunks,3,D): sums, squares, clipped."""
        from embprobe.encoders.tokens import DTYPES, encoding, layout

        shape, rows = layout(embed, images, self.storage)
        if out.begun_array("embeddings"):
            attrs = out.array("embeddings").attrs
        else:
            attrs = encoding(embed, images, self.storage, self.seed, self.forward)
        array = out.create("embeddings", shape, DTYPES[self.storage], chunk_rows=rows, attrs=attrs)
        together = max(1, MOMENTS_BYTES // (3 * 8 * shape[-1]))
        return array, out.create("moments", (array.n_chunks, 3, shape[-1]), "float64", chunk_rows=together)


def own_encoder(path: Path) -> dict[str, object]:
    """The options that a weights file, or a folder with a config.json, stands for."""
    if path.is_file():
        return {"encoder": names.FILE, "weights": path}
    return {"encoder": names.FOLDER, "weights": names.weights_in(path)}


def write_statistics(array: Array, moments: Array, train: int, out: Artefact) -> dict[str, Json]:
    """Writes `mean` and `std` (D,) f32 of the training tokens; the share of clipped numbers."""
    import math

    total = sum(moments.chunk(chunk).sum(0) for chunk in range(moments.n_chunks))
    tokens = math.prod(array.shape[1:-1])
    mean = total[0] / (train * tokens)
    std = (total[1] / (train * tokens) - mean**2).clip(min=0) ** 0.5
    for name, values in (("mean", mean), ("std", std)):
        out.create(name, values.shape, "float32").write(values)
    return {"clipped": float(total[2].sum() / (len(array) * tokens * array.shape[-1]))}
