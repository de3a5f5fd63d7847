"""Wrong inputs: each is one line that says what is wrong and what to do, and exit code 2."""

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Shell, Zoo, finish, start
from tests.tiny import class_folder, flat_folder, picture

Words = list[object]
Wrong = Callable[[Zoo, Path], Words]
CASES: dict[str, tuple[Wrong, str]] = {}


def case(name: str, told: str) -> Callable[[Wrong], Wrong]:
    """A wrong command line, and what its message must hold."""

    def keep(wrong: Wrong) -> Wrong:
        assert name not in CASES
        CASES[name] = (wrong, told)
        return wrong

    return keep


def plain(name: str, told: str, *words: object) -> None:
    """A wrong command line that needs no files."""
    case(name, told)(lambda zoo, folder: list(words))


# ---- the command line
plain("unknown command", "exract", "exract")
plain("unknown option", "--sizee", "ingest", "--source", "planted", "--sizee", 4)
plain("option without its value", "--source", "ingest", "--source")
plain("required option left out", "ingest needs --source", "ingest")
plain(
    "word for a whole number",
    "--steps is 'abc'; it must be a whole number",
    "pretrain",
    "--images",
    "images",
    "--objective",
    "mae",
    "--steps",
    "abc",
)
plain("fraction for a whole number", "--size is '1.5'", "ingest", "--source", "planted", "--size", 1.5)
plain("not a number", "--val-share is 'nan'", "ingest", "--source", "planted", "--val-share", "nan")
plain("not among the choices", "must be one of ijepa, mae", "pretrain", "--images", "images", "--objective", "mea")
plain("size out of range", "it must be at least 8", "ingest", "--source", "planted", "--size", 2)
plain("share out of range", "below 1", "ingest", "--source", "planted", "--val-share", 1)
plain("negative steps", "it must be at least 0", "pretrain", "--images", "images", "--objective", "mae", "--steps", -1)
plain("rate of 0", "it must be above 0", "pretrain", "--images", "images", "--objective", "mae", "--rate", 0)
plain("option of another source", "does not apply to planted scenes", "ingest", "--source", "planted", "--limit", 4)
plain(
    "name with a slash",
    "can't be a name",
    "extract",
    "--images",
    "images",
    "--encoder",
    "random:vit-16x1-h2-p4",
    "--name",
    "a/b",
)

# ---- references
plain("unknown alias", "nothing called 'imagse'", "show", "imagse")
plain(
    "unknown artefact for an option", "nothing called 'nowhere'", "extract", "--images", "nowhere", "--encoder", "mae"
)
plain(
    "artefact of the wrong kind",
    "was made by compress, but extract needs what ingest makes",
    "extract",
    "--images",
    "latents",
    "--encoder",
    "pixels",
)
plain("several artefacts fit", "name one", "extract", "--encoder", "pixels")
plain("removing what is needed", "remove those first", "rm", "images", "--yes")
plain("verifying what is not there", "nothing called 'gone'", "verify", "gone")


@case("ambiguous prefix", "give more digits")
def _(zoo: Zoo, folder: Path) -> Words:
    for tail in ("a", "b"):
        made = folder / "other" / "toy" / ("fedcba" + tail.ljust(26, "0"))
        made.mkdir(parents=True)
        (made / "spec.json").write_text('{"spec": {}, "options": {}, "inputs": {}}')
    return ["show", "fedcba", "--store", folder / "other"]


@case("a file in the place of the store", "give another with --store")
def _(zoo: Zoo, folder: Path) -> Words:
    (folder / "file").write_text("")
    return ["ls", "--store", folder / "file"]


# ---- sources
plain("missing folder", "nowhere", "ingest", "--source", "nowhere/faces")
plain("missing zip", "nowhere.zip", "ingest", "--source", "nowhere.zip")


@case("empty folder", "no image")
def _(zoo: Zoo, folder: Path) -> Words:
    (folder / "empty").mkdir()
    return ["ingest", "--source", folder / "empty"]


@case("truncated image", "--skip-bad")
def _(zoo: Zoo, folder: Path) -> Words:
    from PIL import Image

    flat_folder(folder / "faces", 3)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)).save(folder / "faces" / "bad.jpg")
    data = (folder / "faces" / "bad.jpg").read_bytes()
    (folder / "faces" / "bad.jpg").write_bytes(data[: len(data) // 2])
    return ["ingest", "--source", folder / "faces", "--store", folder / "s"]


@case("text that calls itself an image", "cannot read")
def _(zoo: Zoo, folder: Path) -> Words:
    flat_folder(folder / "faces", 3)
    (folder / "faces" / "bad.png").write_text("hello")
    return ["ingest", "--source", folder / "faces", "--store", folder / "s"]


@case("decompression bomb", "cannot read bomb.png")
def _(zoo: Zoo, folder: Path) -> Words:
    from PIL import Image

    (folder / "faces").mkdir()
    Image.new("1", (30_000, 30_000)).save(folder / "faces" / "bomb.png")
    return ["ingest", "--source", folder / "faces", "--store", folder / "s"]


def zipped(folder: Path, *names: str) -> Path:
    image = picture(folder / "one.png", 0).read_bytes()
    with zipfile.ZipFile(folder / "packed.zip", "w") as file:
        for name in names:
            file.writestr(name, image)
    return folder / "packed.zip"


@case("zip with absolute paths", "/etc/a.png")
def _(zoo: Zoo, folder: Path) -> Words:
    return ["ingest", "--source", zipped(folder, "ok.png", "/etc/a.png")]


@case("zip that climbs out", "../a.png")
def _(zoo: Zoo, folder: Path) -> Words:
    return ["ingest", "--source", zipped(folder, "ok.png", "../a.png")]


@case("not a zip", "packed.zip")
def _(zoo: Zoo, folder: Path) -> Words:
    (folder / "packed.zip").write_text("hello")
    return ["ingest", "--source", folder / "packed.zip"]


@case("not a tar", "shard.tar")
def _(zoo: Zoo, folder: Path) -> Words:
    (folder / "shard.tar").write_text("hello")
    return ["ingest", "--source", folder / "shard.tar"]


@case("bad regular expression", "--label-regex")
def _(zoo: Zoo, folder: Path) -> Words:
    return ["ingest", "--source", flat_folder(folder / "faces", 3), "--label-regex", "(cat"]


@case("regular expression without a group", "--label-regex")
def _(zoo: Zoo, folder: Path) -> Words:
    return ["ingest", "--source", flat_folder(folder / "faces", 3), "--label-regex", "cat"]


@case("manifest without a path column", "path")
def _(zoo: Zoo, folder: Path) -> Words:
    (folder / "set.csv").write_text("file,label\na.png,cat\n")
    return ["ingest", "--source", folder / "set.csv"]


@case("partly labelled manifest", "label")
def _(zoo: Zoo, folder: Path) -> Words:
    flat_folder(folder, 3)
    (folder / "set.csv").write_text("path,label\n000.png,cat\n001.png,\n")
    return ["ingest", "--source", folder / "set.csv"]


@case("manifest that names a file that is not there", "gone.png")
def _(zoo: Zoo, folder: Path) -> Words:
    (folder / "set.jsonl").write_text('{"path": "gone.png"}\n')
    return ["ingest", "--source", folder / "set.jsonl"]


@case("manifest with a torn line", "set.jsonl")
def _(zoo: Zoo, folder: Path) -> Words:
    (folder / "set.jsonl").write_text('{"path": \n')
    return ["ingest", "--source", folder / "set.jsonl"]


# ---- encoders and weights
EXTRACT = ("extract", "--images", "images", "--encoder")
plain("unknown encoder", 'did you mean "ijepa"', *EXTRACT, "ijepaa")
plain("unknown timm model", "timm has no model", *EXTRACT, "timm:vit_tiny_nope")
plain("pixels that do not divide the image", "can't cut images of 16 px", *EXTRACT, "pixels:5")
plain("random network that is none", "timm", *EXTRACT, "random:vit-16")
plain("heads that do not divide the width", "heads", *EXTRACT, "random:vit-16x1-h3-p4")
plain(
    "heads of a pretrained network",
    "heads",
    "pretrain",
    "--images",
    "images",
    "--objective",
    "mae",
    "--width",
    16,
    "--heads",
    3,
    "--patch",
    4,
)
plain(
    "patch that does not divide the size",
    "does not divide the image size 16",
    "pretrain",
    "--images",
    "images",
    "--objective",
    "mae",
    "--patch",
    5,
)
plain("patch of a random network", "divide", *EXTRACT, "random:vit-16x1-h2-p5")
plain("layer out of range", "layers 1 to 1", *EXTRACT, "random:vit-16x1-h2-p4", "--layer", 9)
plain("layer 0", "--layer is '0'; it must be a block from 1", *EXTRACT, "random:vit-16x1-h2-p4", "--layer", 0)
plain("layer 9", "layers 1 to 1", *EXTRACT, "random:vit-16x1-h2-p4", "--layer", 9)
plain("missing weights file", "there is no file", *EXTRACT, "timm:vit_tiny_patch16_224", "--weights", "nowhere.pth")
plain(
    "device that is not there",
    "--device cuda:77 isn't there",
    *EXTRACT,
    "random:vit-16x1-h2-p4",
    "--seed",
    5,
    "--device",
    "cuda:77",
)
plain(
    "device of no kind", "--device gpu isn't there", *EXTRACT, "random:vit-16x1-h2-p4", "--seed", 5, "--device", "gpu"
)


class Code:
    """What a malicious file would run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return (os.system, ("touch OWNED",))


@case("pickle with code in it", "more than tensors")
def _(zoo: Zoo, folder: Path) -> Words:
    (folder / "evil.pth").write_bytes(pickle.dumps({"model": Code()}))
    return [*EXTRACT, "timm:vit_tiny_patch16_224", "--weights", folder / "evil.pth"]


@case("weights of another network", "does not fit this network")
def _(zoo: Zoo, folder: Path) -> Words:
    return [*EXTRACT, "timm:vit_tiny_patch16_224", "--weights", zoo["encoder"].path / "weights.safetensors"]


@case("weights that are no weights", "no weights file that can be read")
def _(zoo: Zoo, folder: Path) -> Words:
    (folder / "w.safetensors").write_text("hello")
    return [*EXTRACT, "timm:vit_tiny_patch16_224", "--weights", folder / "w.safetensors"]


@case("weights for a pretrain artefact", "leave it out")
def _(zoo: Zoo, folder: Path) -> Words:
    (folder / "w.safetensors").write_text("hello")
    return [*EXTRACT, "encoder", "--weights", folder / "w.safetensors"]


# ---- the later stages
plain("more channels than there are", "width", "compress", "--embeddings", "embeddings", "--channels", 99)
plain("labels without classes", "--conditional needs labels", "diffuse", "--latents", "flat_latents", "--conditional")
plain("more images than there are", "--train-images", "diffuse", "--latents", "latents", "--train-images", 9999)
plain("dropout of 1", "below 1", "diffuse", "--latents", "latents", "--dropout", 1)
plain("perceptual loss without its weights", "vgg", "decode", "--latents", "latents", "--perceptual", "lpips-vgg")
plain(
    "classifier loss without a classifier",
    "--classifier",
    "decode",
    "--latents",
    "latents",
    "--perceptual",
    "classifier",
)
plain("unlabelled data to classify", "has no classes", "classify", "--images", "flat")
plain("one class to classify", "one class", "classify", "--images", "oneclass")
plain(
    "decoder of other latents",
    "give a --decoder made from",
    "sample",
    "--denoiser",
    "denoiser",
    "--decoder",
    "flat_decoder",
)
plain("unknown class", "did you mean", "sample", "--denoiser", "denoiser", "--decoder", "decoder", "--labels", "betle")
plain(
    "milestone that was not saved",
    "was not saved; there are",
    "sample",
    "--denoiser",
    "denoiser",
    "--decoder",
    "decoder",
    "--milestone",
    77,
)
plain(
    "sampler of another objective",
    "cannot use a denoiser",
    "sample",
    "--denoiser",
    "denoiser",
    "--decoder",
    "decoder",
    "--sampler",
    "ddim",
)
plain(
    "guidance without classes",
    "knows no classes",
    "sample",
    "--denoiser",
    "flat_denoiser",
    "--decoder",
    "flat_decoder",
    "--guidance",
    2,
)
plain(
    "interval the wrong way round",
    "--guidance-interval",
    "sample",
    "--denoiser",
    "denoiser",
    "--decoder",
    "decoder",
    "--guidance-interval",
    "0.9,0.1",
)
plain("neighbours fewer than one", "it must be at least 1", "probe", "--embeddings", "embeddings", "--k", 0)
plain(
    "judge that is nothing", "nobody", "evaluate", "--samples", "samples", "--reference", "images", "--judges", "nobody"
)
plain("judging what has no classes", "--judges", "evaluate", "--samples", "flat", "--reference", "flat")
plain("report on nothing", "report needs", "report")
plain("report without figures", "evaluate or probe", "report", "images")

# ---- recipes
plain("unknown recipe", "there is no recipe", "run", "demmo")


def recipe(text: str) -> Wrong:
    def write(zoo: Zoo, folder: Path) -> Words:
        (folder / "r.yaml").write_text(text)
        return ["run", folder / "r.yaml"]

    return write


case("text that is no YAML", "is not YAML")(recipe("steps: [a: {"))
case("recipe without steps", "`steps`")(recipe("about: nothing"))
case("recipe with an empty list of steps", "has no steps")(recipe("steps: []"))
case("unknown stage in a recipe", 'did you mean "ingest"')(recipe("steps: [{injest: {source: planted}}]"))
case("unknown name in a recipe", "$images")(recipe("steps: [{extract: {images: $images, encoder: pixels}}]"))
case("unknown option in a recipe", "no option")(recipe("steps: [{ingest: {source: planted, sizes: 3}}]"))
case("wrong type in a recipe", "whole number")(recipe("steps: [{ingest: {source: planted, size: [8]}}]"))


@case("unknown key to set", 'did you mean "count"')
def _(zoo: Zoo, folder: Path) -> Words:
    return [
        *recipe("set: {count: 4}\nsteps: [{ingest: {source: planted, count: $count}}]")(zoo, folder),
        "--set",
        "cuont=3",
    ]


@case("set without a value", "key=value")
def _(zoo: Zoo, folder: Path) -> Words:
    return [
        *recipe("set: {count: 4}\nsteps: [{ingest: {source: planted, count: $count}}]")(zoo, folder),
        "--set",
        "count",
    ]


# ---- the tests


@pytest.mark.parametrize("name", CASES)
def test_one_line_says_what_is_wrong(
    name: str, zoo: Zoo, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMBPROBE_STORE", str(zoo.store.root))
    before = {a.path for a in zoo.store.artefacts() if a.complete}
    wrong, told = CASES[name]
    done = shell(*wrong(zoo, tmp_path))
    assert done.code == 2, done.err
    errors = [line for line in done.lines if line.startswith("embprobe: ")]
    assert len(errors) == 1 and done.lines[-1] == errors[0], done.err
    assert told in errors[0], errors[0]
    assert "Traceback" not in done.err and not done.out
    assert {a.path for a in zoo.store.artefacts() if a.complete} == before
    assert not (tmp_path / "OWNED").exists()


def test_there_are_at_least_forty() -> None:
    assert len(CASES) >= 40


@pytest.mark.parametrize(
    "words", [("ingest", "--source", "nowhere"), ("ingest", "--sizee", "3"), ("show", "nothing"), ("run", "nowhere")]
)
def test_the_same_in_a_process_of_its_own(words: tuple[str, ...], tmp_path: Path) -> None:
    done = finish(start(*words, cwd=tmp_path))
    assert done.code == 2 and done.out == ""
    assert len(done.lines) == 1 and done.lines[0].startswith("embprobe: ")


def test_a_class_folder_is_not_wrong(shell: Shell, tmp_path: Path) -> None:
    folder = class_folder(tmp_path / "my faces ☕", ["chat", "chîen"], 4)
    done = shell("ingest", "--source", folder, "--size", 16, "--store", tmp_path / "s", "--name", "mes images")
    assert done.code == 0, done.err
    assert done.out.strip() == str((tmp_path / "s" / "names" / "mes images").resolve())
