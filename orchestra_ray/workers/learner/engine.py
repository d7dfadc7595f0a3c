"""One rank of the learner: a causal language model under DeepSpeed ZeRO.

Invariant: every rank makes the same calls in the same order, with equally many micro-batches. The
update is then the same under ZeRO 1, 2 and 3 and for any split into micro-batches.
"""

import math
import resource
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from typing import Any, cast

import deepspeed
import torch
import torch.distributed as dist
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from orchestra_ray.config.enums import ZeroStage
from orchestra_ray.config.schema import Config
from orchestra_ray.weights.tensors import policy_tensors
from orchestra_ray.workers.learner import checkpoint, zero
from orchestra_ray.workers.learner.batch import Microbatch, Minibatch, collate
from orchestra_ray.workers.learner.logprobs import Entropy, TokenLogprobs
from orchestra_ray.workers.learner.loss import policy_loss
from orchestra_ray.workers.learner.packing import is_padded

_TAG = "state"  # DeepSpeed's name for the one checkpoint in a folder
_NOT_A_TOKEN_SUM = {"loss", "tokens", "trained_tokens", "malformed_turns", "malformed_tokens"}


class LearnerEngine:
    """Joins the process group, loads the policy from `model_path` and shards it over ranks."""

    def __init__(
        self,
        config: Config,
        model_path: str | Path,
        rank: int,
        world_size: int,
        master_addr: str,
        master_port: int,
    ):
        self.rank = rank
        self._world_size = world_size
        self._cfg = config.learner
        self._temperature = config.rollout.temperature
        self._packed = not is_padded(config.model.attention)
        self._device = torch.device("cuda" if self._cfg.gpus_per_rank else "cpu")
        zero.join(
            rank, world_size, master_addr, master_port, self._device, self._cfg.step_deadline_s
        )
        self._model = _load(config, model_path)
        self._engine = self._make_engine(config, self._model)
        self._reference = self._make_reference(config, model_path)
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def train_step(self, minibatches: Sequence[Minibatch]) -> dict[str, float]:
        """Runs one optimizer step per minibatch; returns the metrics over all ranks.

        The old policy is the policy before the first step. `loss` and `grad_norm` (before clipping)
        are means over the steps; `lr` is that of the next step; the stats of `policy_loss` are
        means over trained tokens; `dropped/...` counts sampled but untrained tokens and turns, by
        reason; `forward_s`, `backward_s`, `step_s`, `train_s` and `peak_rss_bytes` are maxima over
        the ranks. Raises FloatingPointError if the gradient is not finite.
        """
        started = perf_counter()
        self._seconds.clear()
        batches = [
            [
                collate(m, packed=self._packed, device=self._device, loss=self._cfg.loss)
                for m in minibatch.microbatches
            ]
            for minibatch in minibatches
        ]
        normalisers = self._normalisers(batches)
        on_policy = len(minibatches) == 1
        old = [None if on_policy else [self._old_logp(b) for b in m] for m in batches]
        sums: defaultdict[str, float] = defaultdict(float)
        grad_norms = []
        for batch, old_logps, normaliser in zip(batches, old, normalisers, strict=True):
            for stats in self._update(batch, old_logps, normaliser):
                for name, value in stats.items():
                    sums[name] += value.item()
            for microbatch in batch:
                for name, count in microbatch.dropped.items():
                    sums[name] += count
            grad_norms.append(self._grad_norm())
        sums["trained_tokens"] += sum(minibatch.tokens for minibatch in minibatches)
        totals = self._over_ranks(sums, dist.ReduceOp.SUM)
        worst = self._over_ranks(self._resources(perf_counter() - started), dist.ReduceOp.MAX)
        own = {
            "loss": totals["loss"] / len(minibatches),
            "grad_norm": sum(grad_norms) / len(grad_norms),
            "lr": self._engine.get_lr()[0],
            "trained_response_tokens": totals["tokens"],
            "dropped/malformed_turns": totals["malformed_turns"],
            "dropped/malformed_tokens": totals["malformed_tokens"],
            "trained_tokens": totals["trained_tokens"],
            "train_tokens_per_s": totals["trained_tokens"] / worst["train_s"],
            "optimizer_steps": float(len(minibatches)),
            "microbatches": float(sum(len(m.microbatches) for m in minibatches)),
        }
        return own | _token_means(totals) | worst

    def state_dict(self) -> Iterator[tuple[str, Tensor]]:
        """Yields names as in the Hugging Face checkpoint and tensors copied to the CPU.

        A collective: every rank must exhaust the iterator. It is empty on ranks other than 0.
        """
        for name, parameter in policy_tensors(self._model):
            copy = None
            with deepspeed.zero.GatheredParameters([parameter], enabled=self._shards_parameters):
                if self.rank == 0:
                    copy = parameter.detach().to("cpu", copy=True)
            if copy is not None:
                yield name, copy

    def save_hf(self, path: str | Path, tokenizer_path: str | Path) -> None:
        """Writes a folder loadable by transformers and vLLM. It appears atomically."""
        path = Path(path)
        tensors = dict(self.state_dict())
        if self.rank == 0:
            checkpoint.begin(path)
            self._model.save_pretrained(checkpoint.partial_of(path), state_dict=tensors)
            checkpoint.copy_tokenizer(Path(tokenizer_path), checkpoint.partial_of(path))
            checkpoint.commit(path)
        dist.barrier()

    def save_optimizer(self, path: str | Path) -> None:
        """Writes DeepSpeed's sharded checkpoint (weights, optimizer states) to a shared disk."""
        path = Path(path)
        if self.rank == 0:
            checkpoint.begin(path)
        dist.barrier()
        self._engine.save_checkpoint(str(checkpoint.partial_of(path)), tag=_TAG)
        dist.barrier()
        if self.rank == 0:
            checkpoint.commit(path)
        dist.barrier()

    def load_optimizer(self, path: str | Path) -> None:
        """Restores the state of `save_optimizer`, given as many ranks and the same ZeRO stage.

        Raises FileNotFoundError if there is no such checkpoint.
        """
        loaded, _ = self._engine.load_checkpoint(str(path), tag=_TAG)
        if loaded is None:
            raise FileNotFoundError(f"{path}: no checkpoint of the optimizer")

    @property
    def _shards_parameters(self) -> bool:
        return self._cfg.zero_stage is ZeroStage.THREE

    def _make_engine(self, config: Config, model: PreTrainedModel) -> deepspeed.DeepSpeedEngine:
        if self._cfg.gradient_checkpointing:
            model.gradient_checkpointing_enable(
                gradient_checkpointing_kwargs={"use_reentrant": False}
            )
        module = TokenLogprobs(model.train())
        settings = zero.training_settings(
            config, model.num_parameters(), model.config.get_text_config().hidden_size
        )
        optimizer = zero.make_optimizer(module, config)
        engine, *_ = deepspeed.initialize(
            model=module,
            optimizer=optimizer,
            config=settings,
            lr_scheduler=cast(Any, zero.make_schedule(optimizer, config)),
        )
        return engine

    def _make_reference(self, config: Config, model_path: str | Path) -> nn.Module | None:
        """Returns the frozen initial policy, or None if the loss has no KL term."""
        if self._cfg.loss.kl_coef <= 0:
            return None
        module = TokenLogprobs(_load(config, model_path).eval()).requires_grad_(False)
        if not self._shards_parameters:
            return module.to(self._device)
        engine, *_ = deepspeed.initialize(model=module, config=zero.frozen_settings(config))
        return engine

    def _update(
        self, batches: list[Microbatch], old_logps: list[Tensor] | None, normaliser: float
    ) -> list[dict[str, Tensor]]:
        """Runs one optimizer step; returns the sums of `policy_loss` by micro-batch."""
        stats = []
        for i, batch in enumerate(batches):
            self._engine.set_gradient_accumulation_boundary(i == len(batches) - 1)
            with self._phase("forward"):
                logp, entropy = self._logp_and_entropy(batch)
                loss, sums = policy_loss(
                    logp,
                    logp.detach() if old_logps is None else old_logps[i],
                    batch.advantages_B_T,
                    batch.mask_B_T,
                    self._cfg.loss,
                    behaviour_logp=batch.behaviour_logp_B_T,
                    ref_logp=self._reference_logp(batch),
                    entropy=entropy,
                    weights=batch.weights_B_T,
                    normaliser=normaliser,
                )
            with self._phase("backward"):
                # DeepSpeed averages over ranks, but the losses of the ranks are summands.
                self._engine.backward(loss * self._world_size)
            stats.append(sums)
        with self._phase("step"):
            self._engine.step()
        return stats

    def _normalisers(self, batches: Sequence[Sequence[Microbatch]]) -> list[float]:
        """Returns the normaliser of each optimizer step, summed over all ranks."""
        shares = {str(i): sum(batch.share for batch in step) for i, step in enumerate(batches)}
        return list(self._over_ranks(shares, dist.ReduceOp.SUM).values())

    def _logp_and_entropy(self, batch: Microbatch) -> tuple[Tensor, Tensor | None]:
        loss = self._cfg.loss
        if loss.entropy_coef == 0 and not loss.measure_entropy:
            return self._logp(self._engine, batch), None
        entropy = Entropy.TRAINED if loss.entropy_coef > 0 else Entropy.MEASURED
        both = self._call(self._engine, batch, entropy)
        return batch.rows(both[0]), batch.rows(both[1])

    def _logp(self, module: nn.Module, batch: Microbatch) -> Tensor:
        return batch.rows(self._call(module, batch, Entropy.LEFT_OUT))

    def _call(self, module: nn.Module, batch: Microbatch, entropy: Entropy) -> Tensor:
        return module(
            batch.input_ids,
            batch.attention_mask,
            batch.position_ids,
            batch.labels,
            self._temperature,
            entropy,
        )

    @torch.no_grad()
    def _old_logp(self, batch: Microbatch) -> Tensor:
        with self._phase("forward"):
            return self._logp(self._engine, batch)

    @torch.no_grad()
    def _reference_logp(self, batch: Microbatch) -> Tensor | None:
        return None if self._reference is None else self._logp(self._reference, batch)

    def _grad_norm(self) -> float:
        norm = self._engine.get_global_grad_norm()
        if norm is None or not math.isfinite(norm):
            raise FloatingPointError(f"the gradient norm is {norm}: the update is lost")
        return float(norm)

    def _over_ranks(
        self, values: Mapping[str, float], op: dist.ReduceOp.RedOpType
    ) -> dict[str, float]:
        """Reduces `values` over ranks; all ranks must have the same keys in the same order."""
        vector = torch.tensor(list(values.values()), dtype=torch.float64, device=self._device)
        dist.all_reduce(vector, op)
        return dict(zip(values, vector.tolist(), strict=True))

    def _resources(self, train_s: float) -> dict[str, float]:
        peak_rss_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        phases = {f"{phase}_s": seconds for phase, seconds in self._seconds.items()}
        return phases | {"train_s": train_s, "peak_rss_bytes": 1024.0 * peak_rss_kib}

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        started = perf_counter()
        yield
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        self._seconds[name] += perf_counter() - started


def _load(config: Config, model_path: str | Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(
        model_path,
        dtype=zero.dtype_of(config.model),
        attn_implementation=config.model.attention,
        local_files_only=True,
    )


def _token_means(totals: Mapping[str, float]) -> dict[str, float]:
    tokens = max(totals["tokens"], 1.0)
    return {name: total / tokens for name, total in totals.items() if name not in _NOT_A_TOKEN_SUM}
