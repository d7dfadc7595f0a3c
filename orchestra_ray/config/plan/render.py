"""A plan as text for a terminal."""

from orchestra_ray.config.plan.memory import GIB, LEARNER_RESERVE_BYTES
from orchestra_ray.config.plan.plan import MIB, Plan


def render(plan: Plan) -> str:
    """Returns the plan in sections, one fact per line."""
    head = f"{plan.name}: {plan.cpus:g} CPUs, {plan.gpus} GPUs, {plan.parameters:,} parameters"
    sections = [
        head,
        _section("Bundles", _bundle_lines(plan)),
        _section(f"Memory of a learner rank ({plan.learner_label})", _learner_lines(plan)),
        _section(f"Memory of a rollout worker ({plan.engine_label})", _engine_lines(plan)),
        _section("A step, at most", _step_lines(plan)),
        _section("Assumed", [f"- {line}" for line in plan.assumptions]),
    ]
    if plan.problems:
        sections.append(_section("Does not fit", [f"- {line}" for line in plan.problems]))
    return "\n\n".join(sections)


def _bundle_lines(plan: Plan) -> list[str]:
    lines = [f"{'role':<16}{'actors':>8}{'CPUs each':>11}{'GPUs each':>11}{'CPUs':>8}{'GPUs':>6}"]
    for one in plan.bundles:
        lines.append(
            f"{one.role:<16}{one.count:>8}{one.cpus:>11g}{one.gpus:>11}"
            f"{one.all_cpus:>8g}{one.all_gpus:>6}"
        )
    actors = sum(bundle.count for bundle in plan.bundles)
    lines.append(f"{'total':<16}{actors:>8}{'':>22}{plan.cpus:>8g}{plan.gpus:>6}")
    return lines


def _learner_lines(plan: Plan) -> list[str]:
    memory = plan.learner
    rows = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "optimizer states": memory.optimizer,
        "gathered weights": memory.gathered,
        "activations": memory.activations,
        "logits of a chunk": memory.logits,
        "gradients in fp32, in the step": memory.step,
        "peak": memory.peak,
        "host memory": memory.host,
    }
    shown = [_row(name, amount) for name, amount in rows.items() if amount]
    if any(bundle.gpus for bundle in plan.bundles if bundle.knob == "learner.ranks"):
        shown.append(_row("peak with the reserve", memory.peak + LEARNER_RESERVE_BYTES))
    return shown


def _engine_lines(plan: Plan) -> list[str]:
    engine = plan.engine
    trajectories = engine.kv_tokens / plan.context_tokens
    return [
        _row("weights, a device", engine.weights),
        _row("KV cache, a device", engine.kv_cache),
        f"{'KV cache, tokens':<32}{engine.kv_tokens:>14,}",
        f"{f'trajectories of {plan.context_tokens:,} tokens':<32}{trajectories:>14.1f}",
    ]


def _step_lines(plan: Plan) -> list[str]:
    step = plan.step
    return [
        f"{'episodes':<32}{step.episodes:>14,}",
        f"{'tokens':<32}{step.tokens:>14,}",
        _row("trajectories", step.trajectory_bytes),
        _row("weights published", step.weight_bytes),
        f"{'buckets of weights':<32}{step.buckets:>14,}",
        _row("object store", step.store_bytes),
    ]


def _row(name: str, amount: int) -> str:
    text = f"{amount / GIB:,.1f} GiB" if amount >= GIB else f"{amount / MIB:,.1f} MiB"
    return f"{name:<32}{text:>14}"


def _section(title: str, lines: list[str]) -> str:
    return "\n".join([title, *(f"  {line}" for line in lines)])
