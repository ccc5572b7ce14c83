"""The autograd graph of a forward, read from the parameters upwards."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from typing import Any

Node = Any  # torch's graph nodes have no common Python class

FARTHEST = 8  # nodes between a parameter and the node of a call that uses it


class Graph:
    """All that the gradient of an output passes.

    Attributes:
        users: For each node the nodes that hand their gradient to it, one for each edge.
    """

    def __init__(self, root: Node | None) -> None:
        self.users: dict[Node, list[Node]] = defaultdict(list)
        if root is None:
            return
        self.users[root] = []
        todo = [root]
        while todo:
            node = todo.pop()
            for below, _ in node.next_functions:
                if below is None:
                    continue
                if below not in self.users:
                    todo.append(below)
                self.users[below].append(node)

    def leaves(self, names: dict[int, str]) -> dict[str, Node]:
        """The nodes of the tensors with these ids, by name."""
        found = {}
        for node in self.users:
            name = names.get(id(getattr(node, "variable", None)))
            if name is not None:
                found[name] = node
        return found

    def is_covered(self, leaf: Node, uses: Collection[Node]) -> bool:
        """Whether gradients reach a leaf from these nodes alone, and from each by one way.

        A second way is a use that was not seen, even one that meets the first at a view or a
        transpose of the parameter, as where a model differentiates inside its forward.
        """
        ways, todo = 0, [(leaf, 0)]
        while todo:
            node, far = todo.pop()
            for user in self.users[node]:
                if user in uses:
                    ways += 1
                elif far == FARTHEST:
                    return False
                else:
                    todo.append((user, far + 1))
            if not self.users[node] or ways > len(uses):
                return False  # the output itself, or more ways than uses
        return ways == len(uses)
