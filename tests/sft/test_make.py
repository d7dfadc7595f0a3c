import torch

from orchestra_ray.config.schema import TinyModelConfig
from orchestra_ray.sft.make import build_model, steady
from orchestra_ray.workers.rollout.chat import Chat

TOKENS = torch.arange(40).reshape(2, 20)


def test_steady_matrices_compute_the_same(chat: Chat) -> None:
    model = build_model(TinyModelConfig(), chat)
    with torch.no_grad():
        before = model(input_ids=TOKENS).logits
        steady(model)
        after = model(input_ids=TOKENS).logits
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3)


def test_a_step_of_one_size_moves_steady_matrices_less(chat: Chat) -> None:
    moved = []
    for prepare in (lambda model: None, steady):
        model = build_model(TinyModelConfig(), chat)
        prepare(model)
        with torch.no_grad():
            before = model(input_ids=TOKENS).logits
            for name, parameter in model.named_parameters():
                if "_proj" in name:
                    generator = torch.Generator().manual_seed(0)
                    parameter.add_(1e-3 * torch.randn(parameter.shape, generator=generator).sign())
            moved.append((model(input_ids=TOKENS).logits - before).abs().mean().item())
    free, held = moved
    assert held < free / 2
