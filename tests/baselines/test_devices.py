import pytest
import torch

from baselines.devices import beside_steps, send

CPU = torch.device("cpu")


def test_on_a_cpu_batches_are_made_as_they_are_asked_for():
    made = []

    def batches():
        for number in range(3):
            made.append(number)
            yield (torch.full((2,), float(number)),)

    for number, (batch,) in enumerate(beside_steps(batches(), CPU)):
        assert made == list(range(number + 1)) and batch.tolist() == [number, number]
    assert made == [0, 1, 2] and send(batch, CPU) is batch


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_what_is_made_beside_a_step_is_whole_before_the_next_one():
    device = torch.device("cuda")
    size = 4 << 20

    def batches():
        for number in range(40):
            batch = torch.zeros(size, device=device)
            torch.cuda._sleep(300_000)  # a step that did not wait would see the zeros
            yield (batch.add_(number), send(torch.tensor([number]), device))

    torch.cuda.reset_peak_memory_stats()
    before, seen = torch.cuda.memory_allocated(), []
    for batch, number in beside_steps(batches(), device):
        torch.cuda._sleep(3_000_000)  # the steps take longer than the batches, and are asked for at once
        seen.append(torch.stack([batch.min(), batch.max(), number[0].float()]))
        del batch, number
    assert torch.stack(seen).cpu().tolist() == [[n, n, n] for n in range(40)]
    assert torch.cuda.max_memory_allocated() - before < 6 * 4 * size
