"""What the store needs of a stage."""

from typing import TYPE_CHECKING, Protocol

from embprobe.store.trust import Json

if TYPE_CHECKING:
    from embprobe.store.artefact import Artefact


class Question(Protocol):
    """What an artefact answers: its spec names it, its options and inputs ask the same again."""

    def spec(self) -> dict[str, Json]: ...
    def options(self) -> dict[str, Json]: ...
    def inputs(self) -> "dict[str, Artefact]": ...
