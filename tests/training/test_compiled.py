"""Networks and losses compile whole: no break in the graph, the GAN and I-JEPA included."""

from collections.abc import Iterator

import pytest
import torch

from tests.drawn import complete
from tests.training.tasks import TASKS, batches

TRACED = getattr(torch._dynamo.config, "trace_autograd_ops", None)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch._dynamo.reset()
    with torch._dynamo.config.patch({} if TRACED is None else {"trace_autograd_ops": True}):  # type: ignore[attr-defined]
        yield
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore:.*lru_cache.*")
@pytest.mark.parametrize("name", TASKS)
def test_losses_compile_whole_and_give_the_same(name: str) -> None:
    if name == "adversarial" and TRACED is None:
        pytest.skip("this PyTorch does not trace gradients inside a graph")
    torch.manual_seed(0)
    task, step = TASKS[name](), 2
    optimisers = task.optimisers()
    task.train()
    batch = complete(task, batches(name, 0))
    wanted = [loss.detach() for _, loss in task.losses(batch, step)]

    def losses(batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
        return [loss for _, loss in task.losses(batch, step)]

    found = torch.compile(losses, fullgraph=True, backend="aot_eager")(batch)
    for loss, value in zip(found, wanted, strict=True):
        loss.backward(retain_graph=True)
        torch.testing.assert_close(loss.detach(), value, rtol=1e-5, atol=1e-6)
    trained = [p for group in next(iter(optimisers.values())).param_groups for p in group["params"]]
    assert any(p.grad is not None and bool(p.grad.any()) for p in trained)
