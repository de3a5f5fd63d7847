"""A store attacked: nothing outside is touched, nothing is lost, and what is damaged is told."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from embprobe.making import make
from embprobe.stages.ingest import Ingest
from embprobe.store import Artefact, Store, digest
from tests import tiny
from tests.conftest import Shell, Zoo, finish, start
from tests.store.test_store import flip


@pytest.fixture
def images(place: Store, monkeypatch: pytest.MonkeyPatch) -> Artefact:
    monkeypatch.setattr("embprobe.stages.ingest.CHUNK_BYTES", 8 * 3 * 16 * 16)
    return make(Ingest(source="planted", count=20, size=16), place)


@pytest.fixture
def copy(zoo: Zoo, tmp_path: Path) -> Store:
    """A copy of the zoo, to be harmed."""
    return Store(Path(shutil.copytree(zoo.store.root, tmp_path / "copy", symlinks=True)))


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A folder that is nobody's business."""
    folder = tmp_path / "victim"
    folder.mkdir()
    (folder / "thesis.tex").write_text("four years")
    return folder


def intact(victim: Path) -> bool:
    return [p.name for p in victim.iterdir()] == ["thesis.tex"] and (victim / "thesis.tex").read_text() == "four years"


def forge(artefact: Artefact, **facts: object) -> None:
    """Makes the checksums those that the manifest tells, as whoever sends a store can."""
    manifest = json.loads((artefact.path / "manifest.json").read_text()) | facts
    manifest["checksums"] = digest((artefact.path / "checksums.xxh128").read_bytes())
    data = json.dumps(manifest).encode()
    (artefact.path / "manifest.json").write_bytes(data)
    (artefact.path / "manifest.xxh128").write_text(f"{digest(data)}  manifest.json\n")


# ---- 1, 2, 3, 16: outside


def test_checksums_that_name_files_outside_harm_none(images: Artefact, shell: Shell, victim: Path) -> None:
    with (images.path / "checksums.xxh128").open("a") as file:
        file.write(f"{'0' * 32}  {victim / 'thesis.tex'}\n{'0' * 32}  ../../../victim/thesis.tex\n")
    forge(images)
    assert shell("verify", "--store", images.root).code == 3
    shell("verify", "--repair", "--store", images.root)
    assert intact(victim)


def test_rm_removes_no_folder_that_is_no_artefact(images: Artefact, shell: Shell, victim: Path) -> None:
    (victim / "spec.json").write_text("{}")
    (images.root / "names").mkdir()
    (images.root / "names" / "mine").symlink_to(victim)
    for word in (victim, "mine"):
        done = shell("rm", "--yes", word, "--store", images.root)
        assert done.code == 2 and len(done.lines) == 1
    (victim / "spec.json").unlink()
    assert intact(victim)


def test_rm_sees_what_was_made_in_another_store(
    images: Artefact, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = tmp_path / "there"
    made = shell("extract", "--images", images.path, "--encoder", tiny.ENCODER, "--store", there, "--device", "cpu")
    assert made.code == 0
    done = shell("rm", "--yes", images.path, "--store", images.root)
    assert done.code == 2 and str(there) in done.err and images.complete
    Store(images.root).name("mine", images)
    (there / "names").mkdir()
    assert shell("rm", "--yes", "--recursive", images.path, "--store", there).code == 0
    assert not images.path.exists() and not Path(made.out.strip()).exists() and not Store(images.root).names()


def test_aliases_of_another_store_stay(images: Artefact, shell: Shell, tmp_path: Path) -> None:
    other = Store(Path(shutil.copytree(images.root, tmp_path / "other")))
    other.name("mine", other[images.short])
    assert shell("rm", "--yes", images.path, "--store", other.root).code == 0
    assert not images.path.exists() and other["mine"].complete


@pytest.mark.parametrize("name", [".lock", "log.jsonl", "checksums.xxh128", "spec.json", "data.zarr/images/c"])
def test_nothing_is_written_through_a_link(images: Artefact, shell: Shell, victim: Path, name: str) -> None:
    (images.path / "manifest.json").unlink()
    (images.path / "manifest.xxh128").unlink(missing_ok=True)
    path = images.path / name
    if path.is_dir():
        shutil.rmtree(path)
        path.symlink_to(victim)
    else:
        path.unlink(missing_ok=True)
        path.symlink_to(victim / "thesis.tex")
    done = shell("ingest", "--source", "planted", "--count", 20, "--size", 16, "--store", images.root)
    assert intact(victim) and done.code == 3 and "link" in done.lines[-1]


def test_a_repair_exports_nothing(copy: Store, shell: Shell, victim: Path) -> None:
    samples = copy["samples"]
    for name in ("spec.json", "manifest.json"):
        told = json.loads((samples.path / name).read_text())
        told["options"]["png"] = str(victim)
        (samples.path / name).write_text(json.dumps(told))
    forge(samples)
    flip(samples.path / samples.array("images").file(0), 99)
    shell("verify", "--repair", samples.path, "--store", copy.root)
    assert intact(victim)


@pytest.mark.parametrize("command", [["gc", "--yes"], ["rm", "--yes", "--recursive"], ["ingest"]])
@pytest.mark.parametrize("folder", ["names", "ingest"])
def test_folders_of_a_store_that_are_links_are_left_alone(
    images: Artefact, shell: Shell, victim: Path, command: list[str], folder: str
) -> None:
    other = Store(Path(shutil.copytree(images.root, victim / "store")))
    other.name("mine", other[images.short])
    for litter in (
        other.root / "names" / ".profile",
        other[images.short].path / ".tmp",
        other.root / f"ingest/.removed-{'0' * 32}",
    ):
        litter.mkdir()
        (litter / "x").write_text("x")
    (other.root / "names" / ".x.1").symlink_to("../ingest/gone")
    before = sorted(p for p in victim.rglob("*"))
    shutil.rmtree(images.root / folder, ignore_errors=True)
    (images.root / folder).symlink_to(other.root / folder)
    words = {"rm": [images.short], "ingest": ["--source", "planted", "--count", 21, "--size", 16, "--name", "mine"]}
    done = shell(*command, *words.get(command[0], []), "--store", images.root)
    assert sorted(p for p in victim.rglob("*")) == before
    assert "Traceback" not in done.err and done.code in (0, 2, 3)
    (victim / "store").rename(victim.parent / "away")
    assert intact(victim)


# ---- 4: a part that is not there is not a part that never was


def test_figures_are_never_left_out_for_a_file_that_is_gone(copy: Store, shell: Shell) -> None:
    words = [
        "evaluate",
        "--samples",
        "samples",
        "--reference",
        "images",
        "--k",
        2,
        "--device",
        "cpu",
        "--store",
        copy.root,
    ]
    classifier = shell(
        "classify", "--images", "images", "--steps", 4, "--batch", 8, "--device", "cpu", "--store", copy.root
    )
    words += ["--judges", classifier.out.strip()]
    first = shell(*words)
    assert first.code == 0
    made = Path(first.out.strip())
    shutil.rmtree(made)
    for folder in copy.root.glob("measure/*"):
        shutil.rmtree(folder)
    lost = next(copy.root.glob("features/*/data.zarr/samples_probabilities/c"))
    shutil.rmtree(lost)
    again = shell(*words)
    assert again.code == 3 and "verify --repair" in again.lines[-1] and not (made / "manifest.json").exists()
    assert shell("verify", "--repair", "--store", copy.root).code == 0
    assert shell(*words).code == 0


# ---- 5, 6, 15: repair and removal


def test_what_can_not_be_made_again_is_kept_and_told(copy: Store, shell: Shell) -> None:
    denoiser = copy["denoiser"]
    milestone = sorted((denoiser.path / "milestones").iterdir())[2]
    flip(milestone, 2000)
    kept = milestone.read_bytes()
    done = shell("verify", "--repair", denoiser.path, "--store", copy.root)
    assert done.code == 3 and milestone.name in done.err and milestone.read_bytes() == kept
    assert shell("verify", denoiser.path, "--store", copy.root).code == 3
    done = shell("verify", "--repair", "--anew", denoiser.path, "--store", copy.root)
    assert done.code == 0 and shell("verify", denoiser.path, "--store", copy.root).code == 0
    assert digest(milestone.read_bytes()) == denoiser.folder.sums[f"milestones/{milestone.name}"]


def test_a_repair_never_gives_other_weights_to_the_same_question(copy: Store, shell: Shell) -> None:
    denoiser = copy["denoiser"]
    whole = dict(denoiser.folder.sums)
    last = sorted((denoiser.path / "milestones").iterdir())[-1]
    for path in (denoiser.path / "weights.safetensors", last):
        flip(path, 2000)
    done = shell("verify", "--repair", denoiser.path, "--store", copy.root)
    assert done.code == 3 and "would be others" in done.err
    assert {n for n in whole if not denoiser.folder.same(n)} == {"weights.safetensors", f"milestones/{last.name}"}
    assert shell("verify", "--repair", "--anew", denoiser.path, "--store", copy.root).code == 0
    assert all(map(denoiser.folder.same, whole)) and not (denoiser.path / ".repair").exists()


def test_weights_are_made_again_from_the_last_milestone_though_another_is_lost(copy: Store, shell: Shell) -> None:
    denoiser = copy["denoiser"]
    first = sorted((denoiser.path / "milestones").iterdir())[0]
    for path in (denoiser.path / "weights.safetensors", first):
        flip(path, 2000)
    done = shell("verify", "--repair", denoiser.path, "--store", copy.root)
    assert done.code == 3 and first.name in done.lines[-3]
    assert denoiser.folder.same("weights.safetensors") and not denoiser.folder.same(f"milestones/{first.name}")


@pytest.mark.parametrize("name", ["/etc/x", "../x", "a/../x", "a//x", "./x", "", "a/", "a\x00b", "a\\b", "x" * 256])
def test_names_that_lead_outside_are_none(name: str) -> None:
    from embprobe.store import trust

    assert not trust.is_plain(name)
    assert trust.ledger(f"{'0' * 32}  {name}\n".encode())[0] == {}
    assert trust.is_plain("data.zarr/images/c/0/0") and trust.is_plain("figures/ä ö.png")


def test_the_description_of_a_group_is_made_again(images: Artefact, shell: Shell) -> None:
    import zarr

    group = images.path / "data.zarr" / "zarr.json"
    before = group.read_bytes()
    flip(group, 12)
    assert shell("verify", "--repair", "--store", images.root).code == 0
    assert group.read_bytes() == before and "images" in zarr.open_group(str(group.parent), mode="r")


def test_a_manifest_that_is_gone_is_damage(images: Artefact, shell: Shell) -> None:
    (images.path / "manifest.json").unlink()
    done = shell("verify", "--store", images.root)
    assert done.code == 3 and "manifest.json" in done.err
    assert shell("verify", "--repair", "--store", images.root).code == 0
    assert shell("verify", "--store", images.root).code == 0


def test_a_repair_that_fails_says_so_and_the_others_go_on(place: Store, shell: Shell, tmp_path: Path) -> None:
    folder = tiny.flat_folder(tmp_path / "gone", 6)
    lost, planted = (
        make(Ingest(source=str(folder), size=16), place),
        make(Ingest(source="planted", count=9, size=16), place),
    )
    for artefact in (lost, planted):
        flip(artefact.path / artefact.array("images").file(0), 50)
    shutil.rmtree(folder)
    for _ in range(2):
        done = shell("verify", "--repair", "--store", place.root)
        assert done.code == 3 and lost.short in done.err
        assert (lost.path / "manifest.json").exists() and len(lost.read_lines("key.jsonl")) == 6
    assert shell("verify", planted.path, "--store", place.root).code == 0


def test_rm_of_what_is_being_made_waits_for_nothing_and_says_so(images: Artefact, shell: Shell) -> None:
    import fcntl

    (images.path / "manifest.json").unlink()
    with (images.path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = shell("rm", "--yes", images.path, "--store", images.root)
    assert done.code == 75 and len(done.lines) == 1 and (images.path / "spec.json").exists()


def test_what_rm_has_begun_to_remove_is_no_artefact_any_more(
    images: Artefact, shell: Shell, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = Path.unlink, [3]

    def unlink(self: Path, missing_ok: bool = False) -> None:
        if images.root in self.parents and not left[0]:
            raise KeyboardInterrupt
        left[0] -= images.root in self.parents
        real(self, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", unlink)
        patch.setattr(signal, "signal", lambda *_: None)
        patch.setattr(os, "kill", lambda *_: sys.exit(9))
        patch.setattr(os, "unlink", lambda path, **_: unlink(Path(path)))
        shell("rm", "--yes", images.path, "--store", images.root)
    assert images.short not in shell("ls", "--store", images.root).out
    again = shell("ingest", "--source", "planted", "--count", 20, "--size", 16, "--store", images.root)
    assert again.code == 0 and shell("verify", "--store", images.root).code == 0


# ---- 8, 9, 10: torn and rotten files that describe


def torn(artefact: Artefact, tail: bytes) -> None:
    """As a kill leaves an artefact: unfinished, its last line cut off."""
    (artefact.path / "manifest.json").unlink()
    (artefact.path / "manifest.xxh128").unlink(missing_ok=True)
    with (artefact.path / "checksums.xxh128").open("ab") as file:
        file.write(tail)


@pytest.mark.parametrize(
    "tail", [b"0" * 32 + b"  milestones/step_00", b"0" * 32 + b"  data.zarr/im", b"\xff\xfe", b"0" * 20, b"\0" * 50]
)
def test_a_torn_line_stops_nothing(images: Artefact, shell: Shell, tail: bytes) -> None:
    torn(images, tail)
    words = ["ingest", "--source", "planted", "--count", 20, "--size", 16, "--store", images.root]
    assert shell(*words).code == 0
    assert shell("verify", "--store", images.root).code == 0


@pytest.mark.parametrize("name", ["checksums.xxh128", "log.jsonl", "spec.json", "manifest.json", "manifest.xxh128"])
@pytest.mark.parametrize("byte", [0xFF, None], ids=["above 0x7f", "flip"])
def test_whatever_describes_an_artefact_is_vouched_for(
    images: Artefact, shell: Shell, name: str, byte: int | None
) -> None:
    path = images.path / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] = data[len(data) // 2] ^ 1 if byte is None else byte
    path.write_bytes(data)
    done = shell("verify", "--store", images.root)
    assert done.code == 3 and "Traceback" not in done.err and (name in done.err or "manifest.json" in done.err)


def test_a_question_is_taken_from_where_it_is_vouched_for(copy: Store, shell: Shell) -> None:
    spec = copy["denoiser"].path / "spec.json"
    spec.write_text(spec.read_text().replace('"steps": 9', '"steps": 4'))
    assert Store(copy.root)["denoiser"].spec["steps"] == 9
    spec.unlink()
    assert Store(copy.root)["denoiser"].spec["steps"] == 9
    assert copy["denoiser"].short in shell("ls", "--store", copy.root).out
    assert shell("verify", "denoiser", "--store", copy.root).code == 3


# ---- 11, 12, 13: a store that travels


def test_one_damaged_artefact_stops_no_other(copy: Store, shell: Shell) -> None:
    flip(copy["embeddings"].path / "manifest.json", 90)
    shutil.rmtree(copy["flat_embeddings"].path)
    listed = shell("ls", "--store", copy.root)
    assert listed.code == 0 and copy["samples"].short in listed.out and "damaged" in listed.out
    assert shell("rm", "--yes", "oneclass", "--store", copy.root).code == 0
    assert shell("ls", "--json", "--store", copy.root).code == 0


def test_a_chain_goes_over_three_stores(images: Artefact, shell: Shell, tmp_path: Path) -> None:
    b, c = tmp_path / "b", tmp_path / "c"
    cpu = ["--device", "cpu"]
    e = shell("extract", "--images", images.path, "--encoder", tiny.ENCODER, "--store", b, *cpu).out.strip()
    small = ["--channels", 3, "--steps", 4, "--batch", 8, *cpu]
    latents = shell("compress", "--embeddings", e, "--store", c, *small).out.strip()
    done = shell("diffuse", "--latents", latents, "--width", 8, "--steps", 4, "--batch", 8, "--store", c, *cpu)
    assert done.code == 0, done.err
    done = shell("decode", "--latents", latents, "--width", 8, "--steps", 4, "--batch", 8, "--store", c, *cpu)
    assert done.code == 0, done.err
    moved = tmp_path / "away" / "c"
    moved.parent.mkdir()
    shutil.move(c, moved)
    assert shell("verify", "--store", moved).code == 0
    assert Store(moved)[Path(latents).name].inputs["embeddings"].complete


def ordinary(*words: object) -> "subprocess.CompletedProcess[str]":
    """A command line of somebody who can't write where it is forbidden, as root can."""
    drop = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent), "OMP_NUM_THREADS": "1"}
    run = [*drop, sys.executable, "-m", "embprobe", *map(str, words)]
    return subprocess.run(run, capture_output=True, text=True, env=environment, timeout=100, check=False)


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root needs setpriv to become ordinary")
def test_a_store_that_can_not_be_written_can_be_read(copy: Store, tmp_path: Path) -> None:
    latents, faces = copy["latents"].path, copy["images"].path
    for path in (copy.root, *copy.root.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o555 if path.is_dir() else 0o444)
    try:
        for words in (["ls"], ["show", "samples"], ["verify"], ["gc", "--dry-run"], ["plan", "demo"]):
            done = ordinary(*words, "--store", copy.root)
            assert done.returncode == 0, done.stderr
        small = ["--latents", latents, "--width", 8, "--steps", 3, "--batch", 8, "--device", "cpu"]
        done = ordinary("diffuse", *small, "--store", tmp_path / "own")
        assert done.returncode == 0, done.stderr
        for words in (["diffuse", *small], ["rm", "--yes", faces, "--recursive"]):
            done = ordinary(*words, "--store", copy.root)
            assert done.returncode == 2 and "cannot" in done.stderr.splitlines()[-1], done.stderr
    finally:
        for path in (copy.root, *copy.root.rglob("*")):
            if path.is_dir() and not path.is_symlink():
                path.chmod(0o755)


# ---- 17: stopping

BUSY = """
import signal, sys, time
from embprobe import signals
signals.install()
print("ready", flush=True)
import torch
torch.set_num_threads(1)
a = torch.randn(20000, 20000)
a @ a
"""
ON_A_PIPE = "from embprobe import signals; signals.install(); print('ready', flush=True); open({!r}).read()"


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGINT])
@pytest.mark.parametrize("where", ["computing", "opening"])
def test_any_signal_is_obeyed_within_five_seconds(tmp_path: Path, signum: signal.Signals, where: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    code = BUSY if where == "computing" else ON_A_PIPE.format(str(tmp_path / "pipe"))
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    time.sleep(2 if where == "computing" else 0.3)
    began = time.monotonic()
    process.send_signal(signum)
    _, told = process.communicate(timeout=30)
    assert time.monotonic() - began < 5
    assert process.returncode == (-signal.SIGINT if signum == signal.SIGINT else 75), told
    assert told.splitlines()[-1] == f"embprobe: stopped by {signum.name}; run the same command again to continue"


@pytest.mark.parametrize("signum", [signal.SIGHUP, signal.SIGTERM])
def test_a_stage_saves_before_it_stops(images: Artefact, signum: signal.Signals, tmp_path: Path) -> None:
    words = [
        "pretrain",
        "--images",
        images.path,
        "--objective",
        "mae",
        "--width",
        16,
        "--depth",
        1,
        "--heads",
        2,
        "--patch",
        4,
    ]
    words += ["--predictor-width", 8, "--predictor-depth", 1, "--batch", 8, "--device", "cpu", "--steps", 100000]
    process = start(*words, "--store", images.root)
    for _ in range(600):
        if any(images.root.glob("pretrain/*/milestones/*")):
            break
        time.sleep(0.1)
    process.send_signal(signum)
    done = finish(process)
    assert done.code == 75 and any(images.root.glob("pretrain/*/checkpoints/*")), done.err


# ---- 18, 21, 22, 23, 25: tidiness


def test_names_that_can_not_be_are_refused_before_the_work(place: Store, shell: Shell) -> None:
    for name in ("a/b", "-rf", " ", "a\nb", "\x1b[31m", "0" * 32, "x" * 300, "."):
        done = shell("ingest", "--source", "planted", "--count", 9, "--size", 16, "--name", name, "--store", place.root)
        assert done.code == 2 and len(done.lines) == 1 and not list(place.root.glob("ingest/*")), name


def test_a_foreign_holder_from_the_future_is_dead(images: Artefact, shell: Shell) -> None:
    torn(images, b"")
    lock = images.path / ".lock"
    lock.write_text(json.dumps({"host": f"not {socket.gethostname()}", "pid": 7, "token": "x"}))
    os.utime(lock, (time.time() + 1e6, time.time() + 1e6))
    words = ["ingest", "--source", "planted", "--count", 20, "--size", 16, "--no-wait", "--store", images.root]
    assert shell(*words).code == 0


def test_what_rots_before_the_end_is_not_committed(images: Artefact, shell: Shell) -> None:
    torn(images, b"")
    flip(images.path / images.array("images").file(1), 60)
    words = ["ingest", "--source", "planted", "--count", 20, "--size", 16, "--store", images.root]
    assert shell(*words).code == 0
    assert shell("verify", "--store", images.root).code == 0


def test_a_request_that_can_not_be_met_leaves_nothing(images: Artefact, shell: Shell) -> None:
    for encoder in ("pixels:5", "timm:no_such_model"):
        done = shell(
            "extract", "--images", images.path, "--encoder", encoder, "--device", "cpu", "--store", images.root
        )
        assert done.code == 2
    assert "unfinished" not in shell("ls", "--store", images.root).out
    assert len(list(images.root.glob("extract/*"))) == 0


def test_gc_says_what_goes_and_takes_nothing_else(images: Artefact, shell: Shell) -> None:
    for name in (".tmp", "checkpoints"):
        (images.path / name).mkdir()
        (images.path / name / "x").write_bytes(b"y" * 1000)
    before = {p for p in images.path.rglob("*") if not {".tmp", "checkpoints"} & set(p.parts)}
    dry = shell("gc", "--dry-run", "--store", images.root)
    assert dry.code == 0 and "2 pieces of litter, 2.0 KB" in dry.err and (images.path / ".tmp").exists()
    assert shell("gc", "--yes", "--store", images.root).code == 0
    assert set(images.path.rglob("*")) == before and shell("verify", "--store", images.root).code == 0
    assert "no litter" in shell("gc", "--yes", "--store", images.root).err


def test_gc_leaves_alone_what_is_being_made(images: Artefact, shell: Shell) -> None:
    import fcntl

    torn(images, b"")
    (images.path / ".tmp").mkdir()
    with (images.path / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        done = shell("gc", "--yes", "--store", images.root)
    assert done.code == 0 and "1 left, being worked on" in done.err and (images.path / ".tmp").exists()


# ---- 19, 24


@pytest.mark.parametrize("content", ["[]", '"x"', "{", "[" * 5000, "1" * 5000])
def test_nothing_but_a_holder_is_taken_for_one(images: Artefact, shell: Shell, content: str) -> None:
    torn(images, b"")
    (images.path / ".lock").write_text(content)
    words = ["ingest", "--source", "planted", "--count", 20, "--size", 16, "--store", images.root]
    assert shell(*words).code == 0


def test_a_strange_table_of_hashes_is_none(
    place: Store, shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache" / "embprobe").mkdir(parents=True)
    folder = tiny.flat_folder(tmp_path / "faces", 6)
    for content in ("[]", '{"a": 1}', "[" * 5000, "null"):
        (tmp_path / "cache" / "embprobe" / "hashes.json").write_text(content)
        assert shell("ingest", "--source", folder, "--size", 16, "--store", place.root).code == 0


def test_a_reference_may_be_of_any_length(images: Artefact, shell: Shell) -> None:
    for word in ("x" * 300, "x" * 5000, "a/" * 3000, "\0"):
        done = shell("show", word, "--store", images.root)
        assert done.code == 2 and len(done.lines) == 1


@pytest.mark.parametrize("key", ["spec", "options", "inputs", "metrics", "finished", "seconds", "bytes", "checksums"])
def test_a_manifest_without_a_field_is_damage(images: Artefact, shell: Shell, key: str) -> None:
    manifest = json.loads((images.path / "manifest.json").read_text())
    del manifest[key]
    data = json.dumps(manifest).encode()
    (images.path / "manifest.json").write_bytes(data)
    (images.path / "manifest.xxh128").write_text(f"{digest(data)}  manifest.json\n")
    assert shell("ls", "--store", images.root).code == 0
    assert shell("verify", "--store", images.root).code == 3
    assert shell("verify", "--repair", "--store", images.root).code == 0


def test_a_store_that_is_not_there_is_not_made(tmp_path: Path, shell: Shell) -> None:
    for words in (["ls"], ["verify"], ["show", "x"]):
        done = shell(*words, "--store", tmp_path / "typo")
        assert done.code == 2 and not (tmp_path / "typo").exists()


def test_names_of_files_are_flushed_before_the_manifest(place: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed: list[str] = []
    real: Callable[[int], None] = os.fsync

    def fsync(fd: int) -> None:
        flushed.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
        real(fd)

    monkeypatch.setattr(os, "fsync", fsync)
    made = make(Ingest(source="planted", count=9, size=16), place)
    for folder in (made.path, made.path.parent, place.root, made.path / "data.zarr/images/c/0/0/0"):
        assert str(folder) in flushed
