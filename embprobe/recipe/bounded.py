"""YAML that can't grow without bound: a few kilobytes of anchors can stand for billions of values."""

from typing import Any

import yaml

from embprobe.errors import UserError

MOST_TEXT = 200_000  # characters of a recipe
MOST_NODES = 100_000  # of its YAML, counted again wherever an anchor repeats them
MOST_DEPTH = 50
MOST_DIGITS = 300  # of a number or a date
# What PyYAML is known to raise for text that is no YAML, or for a tag that does not fit its word.
DAMAGE = (yaml.YAMLError, ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError)


def load_yaml(text: str) -> Any:  # Any: what YAML holds
    """What YAML says. Raises UserError for what grows without sense, and one of DAMAGE for what is no YAML."""
    if len(text) > MOST_TEXT:
        raise UserError(f"it has more than {MOST_TEXT:,} characters")
    loader = Bounded(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


class Bounded(yaml.SafeLoader):
    """YAML without anchors that stand for more than anybody writes: billions of nodes, or themselves."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = self.nodes = 0
        self.measured: dict[int, tuple[int, int]] = {}  # nodes and height below each node

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:  # type: ignore[override]
        """A node and all below it, counted; an anchor's again each time that it is used."""
        before, repeats = self.nodes, self.check_event(yaml.AliasEvent)
        self.depth += 1
        self._check(0)
        node = super().compose_node(parent, index)
        assert node is not None
        if repeats and id(node) not in self.measured:
            raise self.refusal("an anchor that holds itself")
        if repeats:
            nodes, height = self.measured[id(node)]
            self.nodes += nodes
            self._check(height)
        else:
            self._scalar(node)
            below = node.value if not isinstance(node, yaml.ScalarNode) else ()
            parts = [part for entry in below for part in (entry if isinstance(entry, tuple) else (entry,))]
            height = 1 + max((self.measured[id(part)][1] for part in parts), default=0)
            self.measured[id(node)] = self.nodes - before, height
        self.depth -= 1
        return node

    def _scalar(self, node: yaml.Node) -> None:
        self.nodes += 1
        if isinstance(node, yaml.ScalarNode):
            self.nodes += len(node.value) // 100
            if node.tag != "tag:yaml.org,2002:str" and len(node.value) > MOST_DIGITS:
                raise self.refusal(f"a number of more than {MOST_DIGITS} digits")

    def _check(self, height: int) -> None:
        if self.depth + height > MOST_DEPTH:
            raise self.refusal(f"more than {MOST_DEPTH} levels inside each other")
        if self.nodes > MOST_NODES:
            raise self.refusal(f"more than {MOST_NODES:,} values")

    def refusal(self, what: str) -> UserError:
        """What is wrong, with the line."""
        return UserError(f"line {self.get_mark().line + 1} makes {what}")
