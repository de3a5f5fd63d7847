"""Images as `ingest` stores them: arrays, splits, labels."""

from functools import cached_property
from typing import TYPE_CHECKING

from embprobe.data.names import SPLITS
from embprobe.errors import UserError
from embprobe.store import Array, Artefact, Json
from embprobe.views.view import View

if TYPE_CHECKING:
    import numpy as np

HELD_OUT = "split that is held out: val, test, or auto, which is test where the data set has one, else val"


class Images(View):
    """What `ingest` writes: `array` u8 (N,H,W,C), labels, splits, keys, captions, planted factors."""

    made_by = "ingest"

    @cached_property
    def array(self) -> Array:
        return self.artefact.array("images")

    def __len__(self) -> int:
        return len(self.array)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.array.shape[1], self.array.shape[2]

    @property
    def channels(self) -> int:
        return self.array.shape[3]

    @cached_property
    def split(self) -> "np.ndarray":
        """0 train, 1 val, 2 test (N,) u8."""
        return self.artefact.array("split").read()

    def of_split(self, name: str) -> "np.ndarray":
        """Rows of `train`, `val` or `test`; none of anything else, such as `auto` where nothing is held out."""
        import numpy as np

        rows: np.ndarray = np.nonzero(self.split == SPLITS.index(name))[0] if name in SPLITS else np.zeros(0, np.int64)
        return rows

    @property
    def train(self) -> "np.ndarray":
        """Rows of the training split."""
        return self.of_split("train")

    @property
    def held_out_split(self) -> str:
        """The split that figures are taken on: val, or test where there is no val."""
        return "val" if (self.split == SPLITS.index("val")).any() else "test"

    @property
    def held_out(self) -> "np.ndarray":
        """Rows of the validation split, else of the test split; empty where neither is there."""
        return self.of_split(self.held_out_split)

    def measured_split(self, wanted: str) -> str:
        """The split that figures are taken on: `wanted`, or for `auto` test where there is one, else val, else `auto`.

        Raises UserError where the wanted one holds nothing.
        """
        if wanted == "auto":
            return next((split for split in ("test", "val") if self.count(split)), wanted)
        if not self.count(wanted):
            there = [f"{name} ({self.count(name)})" for name in SPLITS if self.count(name)]
            raise UserError(
                f"--held-out {wanted}: {self.artefact.stage} {self.short} has no {wanted} images, only {', '.join(there)}"
            )
        return wanted

    @cached_property
    def group(self) -> "np.ndarray | None":
        """For each image the least row among it and its exact and near copies (N,) i32; None where none were looked for."""
        return self.artefact.array("group").read() if self.artefact.has("group") else None

    @cached_property
    def labels(self) -> "np.ndarray | None":
        """Class ids (N,) i32, places in `classes`; None for an unlabelled set."""
        return self.artefact.array("label").read() if self.artefact.has("label") else None

    @cached_property
    def classes(self) -> list[str]:
        """Names of the classes, by id: in the order of what the source calls them; empty for an unlabelled set."""
        return list(self.artefact.read_json("classes.json", list)) if self.artefact.has("classes.json") else []

    @property
    def class_counts(self) -> dict[str, int]:
        """Images of each class, by its name; empty for an unlabelled set."""
        import numpy as np

        if self.labels is None:
            return {}
        return dict(zip(self.classes, np.bincount(self.labels, minlength=len(self.classes)).tolist(), strict=True))

    def shared_classes(self, other: "Images") -> list[str]:
        """Names of the classes that both sets have, in this one's order."""
        return [name for name in self.classes if name in set(other.classes)]

    def ids_of(self, names: list[str]) -> "np.ndarray":
        """For each image the place of its class among `names` (N,) i64, -1 where it has none of them."""
        import numpy as np

        if self.labels is None:
            return np.full(len(self), -1)
        places = {name: place for place, name in enumerate(names)}
        known: np.ndarray = np.array([places.get(name, -1) for name in self.classes], np.int64)[self.labels]
        return known

    @property
    def captions(self) -> list[str | None] | None:
        """A caption, or None, for each image; None where none has one."""
        return list(self.artefact.read_lines("caption.jsonl")) if self.is_captioned else None

    @property
    def is_captioned(self) -> bool:
        """Whether any image has a caption."""
        return self.artefact.has("caption.jsonl")

    def captioned(self, split: str) -> int:
        """How many images of a split have a caption."""
        captions = self.captions or []
        return sum(bool(captions[row]) for row in self.of_split(split)) if captions else 0

    @property
    def words(self) -> dict[str, list[str]]:
        """The words of each factor that captions name; empty where nothing tells them."""
        return dict(self.artefact.read_json("words.json", dict)) if self.artefact.has("words.json") else {}

    @property
    def keys(self) -> list[str]:
        """Names of the images inside the set."""
        return [str(key) for key in self.artefact.read_lines("key.jsonl")]

    @cached_property
    def factors(self) -> "tuple[np.ndarray, list[Json]] | None":
        """Values (N,F) of the factors that scenes were drawn from, and what each is; None for photographs."""
        if not self.artefact.has("factors"):
            return None
        return self.artefact.array("factors").read(), self.artefact.read_json("factors.json", list)

    @cached_property
    def scenes(self) -> "SceneMaps | None":
        """What planted scenes of several creatures show; None for other images."""
        return SceneMaps(self.artefact) if self.artefact.has("segmentation") else None

    def count(self, split: str) -> int:
        """How many images a split holds, from the manifest."""
        return int((self.artefact.metrics.get("splits") or {}).get(split, 0))

    def training_rows(self, limit: int | None, seed: int) -> "np.ndarray":
        """Rows of the training split, or a seeded subset, stratified by class; smaller subsets lie in larger ones."""
        import numpy as np

        from embprobe.data.split import stratified_order

        train = self.train
        if limit is None:
            return train
        keys, labels = self.keys, np.zeros(len(self), np.int32) if self.labels is None else self.labels
        order = stratified_order([keys[i] for i in train], [int(labels[i]) for i in train], seed, "train images")
        return np.sort(train[np.array(order[:limit])])


class SceneMaps:
    """Planted scenes of several creatures: `depth` f16 (N,H,W), `segmentation` u8 (N,H,W), and what is in them."""

    def __init__(self, artefact: Artefact) -> None:
        self.depth, self.segmentation = artefact.array("depth"), artefact.array("segmentation")
        self.count: np.ndarray = artefact.array("count").read()  # creatures (N,) u8
        self.objects: np.ndarray = artefact.array("objects").read()  # (N,most,7) f32, far first, NaN where none is
        self.columns: list[str] = artefact.read_json("objects.json", list)

    @property
    def nearest(self) -> "np.ndarray":
        """Depth of the nearest creature of each scene (N,) f32."""
        import numpy as np

        least: np.ndarray = np.nanmin(self.objects[..., self.columns.index("depth")], axis=1)
        return least


def split_of(images: Artefact, wanted: str) -> str:
    """The split of a data set that is meant, as soon as it is there. Raises UserError where it holds nothing."""
    return Images(images).measured_split(wanted) if images.stage == "ingest" and images.complete else wanted
