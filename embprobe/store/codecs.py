"""Chunks as bytes and back, coded as zarr.json declares."""

from typing import TYPE_CHECKING, Any

from embprobe.errors import DamagedError, UserError
from embprobe.store.trust import Json

if TYPE_CHECKING:
    import numpy as np
    from numcodecs.abc import Codec

# What compresses arrays of each kind; measured in README. Numbers of networks are noise in their low bits and stay bare.
COMPRESSORS: dict[str, tuple[Json, ...]] = {
    "bare": (),
    "images": (
        {
            "name": "blosc",
            "configuration": {"cname": "lz4", "clevel": 5, "shuffle": "bitshuffle", "typesize": 1, "blocksize": 0},
        },
    ),
}


class Coder:
    """Encodes and decodes chunks of one array by the codecs of its zarr.json. Raises UserError for a codec unknown here."""

    def __init__(self, codecs: list[Json]) -> None:
        first, *rest = codecs
        if first["name"] != "bytes" or first.get("configuration", {}).get("endian", "little") != "little":
            raise UserError(f"chunks coded by {first['name']} first can't be read; only little-endian bytes can")
        try:
            self.compressors = [_codec(declared["name"], declared.get("configuration", {})) for declared in rest]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise DamagedError(f"{rest[0]['name']} without what it needs") from None
        if len(rest) > 1:
            raise UserError("chunks compressed twice can't be read; embprobe reads those of one blosc or zstd")

    def encode(self, values: "np.ndarray") -> "bytes | memoryview":
        """The bytes of a contiguous chunk."""
        import numpy as np

        data: Any = values  # Any: numcodecs takes and gives whatever has a buffer
        for compressor in self.compressors:
            data = compressor.encode(data)
        return data.reshape(-1).view(np.uint8).data if isinstance(data, np.ndarray) else data

    def decode(self, data: bytes, dtype: "np.dtype[Any]", items: int) -> "np.ndarray":
        """Flat values of a chunk. Raises DamagedError where the bytes do not hold `items` of them."""
        import numpy as np

        decoded: Any = data  # Any: as above
        room = np.empty(items * dtype.itemsize, np.uint8) if self.compressors else None  # the header may claim more
        try:
            for compressor in reversed(self.compressors):
                decoded = compressor.decode(decoded, out=room)
            values = np.frombuffer(decoded, dtype)
        except (RuntimeError, ValueError, TypeError) as error:
            raise DamagedError(f"a chunk can't be decoded ({error})") from None
        if len(values) != items:
            raise DamagedError(f"a chunk holds {len(values)} values, not {items}")
        return values


def _codec(name: str, configuration: dict[str, Json]) -> "Codec":
    """A codec of Zarr v3 by numcodecs, whose names and arguments differ."""
    from numcodecs import blosc, zstd

    if name == "blosc":
        blosc.use_threads = False  # with threads the order of blocks, and so the bytes, would vary
        shuffle = {"noshuffle": blosc.NOSHUFFLE, "shuffle": blosc.SHUFFLE, "bitshuffle": blosc.BITSHUFFLE}
        return blosc.Blosc(
            configuration["cname"],
            configuration["clevel"],
            shuffle[configuration["shuffle"]],
            configuration["blocksize"],
        )
    if name == "zstd":
        return zstd.Zstd(configuration.get("level", 0), configuration.get("checksum", False))
    raise UserError(f"chunks coded by {name!r} can't be read; embprobe reads bytes, blosc and zstd")
