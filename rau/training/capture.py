"""A training step as one CUDA graph: launched as a whole, without Python or waiting in between.

A graph repeats what was launched while it was captured, on the same addresses; so the inputs are
copied to where the graph reads them, and its output is where it was before.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor
from tqdm import tqdm

WARM_UP = 3  # Calls that run as they are: what is set up at a first use must not be captured.


class Captured:
    """`work(*inputs)` with inputs of one shape each, the first calls as they are, later as a graph.

    Every call is a true one: `work` may update weights.
    """

    def __init__(
        self, work: Callable[..., Tensor], generators: Sequence[Generator], device: torch.device
    ) -> None:
        """Take the work, the random generators that it draws from, and the GPU that it runs on."""
        self.work, self.generators, self.device = work, generators, device
        self.calls = 0
        self.graph: torch.cuda.CUDAGraph | None = None
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self.inputs: list[Tensor] = []
        self.output = torch.empty(0)

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The result; the next call overwrites it."""
        self.calls += 1
        with torch.cuda.device(self.device):
            if self.calls == WARM_UP + 1:
                self._capture(inputs)
            if self.graph is None:
                return self._as_it_is(inputs)
            for own, given in zip(self.inputs, inputs, strict=True):
                own.copy_(given)
            self.graph.replay()
        return self.output

    def _as_it_is(self, inputs: Sequence[Tensor]) -> Tensor:
        """On a stream of its own, as graphs want it."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            output = self.work(*inputs)
        torch.cuda.current_stream().wait_stream(self.stream)
        return output

    def _capture(self, inputs: Sequence[Tensor]) -> None:
        self.inputs = [given.clone() for given in inputs]
        graph = torch.cuda.CUDAGraph()
        for generator in self.generators:
            graph.register_generator_state(generator)
        try:
            with torch.cuda.graph(graph):
                self.output = self.work(*self.inputs)
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            tqdm.write(f"warning: the training step runs uncaptured, and slower: {reason}")
            return
        self.graph = graph
