"""Memory does not grow with the number of images: what is computed leaves as it comes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAKE = """
import ctypes, sys
import numpy as np
import embprobe
from embprobe import console
from embprobe.encoders import tokens
from embprobe.stages import features
from embprobe.store import rows

rows.CACHE_BYTES = tokens.CHUNK_BYTES = 1 << 20
features.CHUNK_ROWS = 512
stage, folder = sys.argv[1:]
resident = []
real = console.Bar.advance
trim = ctypes.CDLL("libc.so.6").malloc_trim  # what the allocator keeps for itself is not held

def advance(self, count=1, **metrics):
    trim(0)
    resident.append(int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20)
    real(self, count, **metrics)

np.save(folder + "/images.npy", np.zeros((12_000, 16, 16, 3), np.uint8))
store = embprobe.Store(folder + "/store")
images = embprobe.make(embprobe.Ingest(source=folder + "/images.npy", val_share=0.01), store)
console.Bar.advance = advance
judge = "random:vit-512x1-h2-p16"
if stage == "features":
    embprobe.make(embprobe.Featurize(images=images, judge=judge, size=(16, 16), device="cpu"), store)
else:
    embprobe.make(embprobe.Extract(images=images, encoder=judge, device="cpu"), store)
print(max(resident[-20:]) - max(resident[15:25]))
"""


@pytest.mark.parametrize("stage", ["features", "extract"])
def test_the_last_of_many_images_find_as_much_memory_as_the_first(stage: str, tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    words = [sys.executable, "-c", MAKE, stage, str(tmp_path)]  # 12 000 rows of 2 KB (f16: 1 KB): 24 MB of them
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert float(done.stdout) < 8, done.stdout
