"""The episode: the policy responds, its tool calls run, it reads their results, until it ends.

The context policy (`context`) decides what the policy reads before a turn. An episode ends in a
trajectory or a failure, always with a summary, and never later than its deadline.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from orchestra_ray.config.schema import ModelConfig, RolloutConfig
from orchestra_ray.core.bugs import bug
from orchestra_ray.core.faults import Failure, FailureKind, Fault, FaultKind
from orchestra_ray.core.money import Prices, Usage, nanousd
from orchestra_ray.core.policy_names import MODEL
from orchestra_ray.core.records import (
    OK,
    Caller,
    EpisodeSpec,
    EpisodeSummary,
    GroupSpec,
    LedgerEntry,
    Part,
    ToolOption,
    ToolRequest,
    Trajectory,
    Turn,
)
from orchestra_ray.core.seeds import derive_seed
from orchestra_ray.core.states import Stop
from orchestra_ray.data.catalogue import model_of
from orchestra_ray.data.catalogue.signatures import SUBMIT, SUBMIT_SCHEMA
from orchestra_ray.data.tasks.private import is_private
from orchestra_ray.workers.rollout.chat import Chat
from orchestra_ray.workers.rollout.context import Context, Observation, TurnRecord
from orchestra_ray.workers.rollout.parsing import AskedCall, ParsedTurn, Parser
from orchestra_ray.workers.rollout.policies import Completion, Policy, PolicyInput, ToolCaller
from orchestra_ray.workers.tools.validation import check_arguments, resolve

POLICY = "policy"
FAULTY = "faulty call"  # a call that was never sent to the pool


@dataclass(frozen=True, slots=True)
class EpisodeContext:
    """The objects shared by all episodes of a worker."""

    chat: Chat
    context: Context
    parse: Parser
    policies: Mapping[str, Policy]
    tools: ToolCaller
    model: ModelConfig
    limits: RolloutConfig
    price_sheet: str
    submit: bool = False


def policy_prices(model: ModelConfig) -> Prices:
    """Returns the prices of the policy's own tokens."""
    price_in = nanousd(model.input_usd_per_mtok)
    return Prices(price_in, price_in, nanousd(model.output_usd_per_mtok))


async def run_episode(
    episode_context: EpisodeContext, group: GroupSpec, spec: EpisodeSpec
) -> tuple[Trajectory | None, EpisodeSummary]:
    """Runs one episode. The trajectory is None if and only if the summary has a failure."""
    episode = _Episode(episode_context, group, spec)
    try:
        async with asyncio.timeout(episode_context.limits.episode_deadline_s):
            outcome = await episode.run()
    except TimeoutError:
        message = f"ran past {episode_context.limits.episode_deadline_s:g} s"
        outcome = Failure(FailureKind.DEADLINE, f"episode {spec.episode_id}", message)
    except Exception as error:  # a bug triggered by one output must not end the other episodes
        where = f"episode {spec.episode_id}"
        outcome = bug(FailureKind.INFRASTRUCTURE, where, error, is_private(group.task))
    return episode.close(outcome)


@dataclass(slots=True)
class _Episode:
    """The mutable record of one episode; `run` extends it and `close` freezes it."""

    episode_context: EpisodeContext
    group: GroupSpec
    spec: EpisodeSpec
    tokens: list[int] = field(default_factory=list)
    starts: list[int] = field(default_factory=list)  # of the sequences, as indices into `tokens`
    sampled: list[tuple[int, float, int]] = field(default_factory=list)  # index, logprob, version
    turns: list[Turn] = field(default_factory=list)
    ledger: list[LedgerEntry] = field(default_factory=list)
    turn_records: list[TurnRecord] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)  # replies without a fault, for `submit`
    found: list[str] = field(default_factory=list)  # replies of tools, for the models of recipes
    answer: str | None = None
    calls_made: int = 0
    generate_s: float = 0.0
    tools_s: float = 0.0

    async def run(self) -> Stop | Failure:
        limits = self.episode_context.limits
        for _ in range(self.group.max_turns or limits.max_turns):
            self._extend_context()
            if len(self.tokens) - self.starts[-1] > limits.max_prompt_tokens:
                return Stop.LENGTH
            completion = await self._respond()
            if isinstance(completion, Failure):
                return completion
            parsed = self.episode_context.parse(self.episode_context.chat, completion.token_ids)
            self._record(completion, parsed)
            if completion.finish == "length":
                return Stop.LENGTH
            if not parsed.calls:
                self.answer = parsed.answer
                return Stop.ANSWERED
            ended = await self._run_calls(parsed)
            if ended is not None:
                return ended
        return Stop.TURN_LIMIT

    def _extend_context(self) -> None:
        addition = self.episode_context.context.before_turn(self.group, self.turn_records)
        if addition.fresh:
            self.starts.append(len(self.tokens))
        elif self.tokens[-1] != self.episode_context.chat.end_id:
            # The response ended with another stop token than the template's.
            self.tokens.append(self.episode_context.chat.end_id)
        self.tokens.extend(addition.ids)

    async def _respond(self) -> Completion | Failure:
        started_s = time.monotonic()
        policy_input = PolicyInput(
            request_id=f"{self.spec.episode_id}/{len(self.turns)}",
            caller=self._caller(len(self.turns)),
            prompt_ids=self.tokens[self.starts[-1] :],
            group=self.group,
            seed=derive_seed(self.spec.seed, len(self.turns)),
            turns=self.turn_records,
            deadline_s=self.episode_context.limits.episode_deadline_s,
        )
        completion = await self.episode_context.policies[self.group.policy].respond(policy_input)
        self.generate_s += time.monotonic() - started_s
        return completion

    def _record(self, completion: Completion, parsed: ParsedTurn) -> None:
        start = len(self.tokens)
        if self.group.policy == MODEL:
            self._enter(self._own_entry(start - self.starts[-1], len(completion.token_ids)))
        elif completion.entry is not None:
            self.ledger.append(replace(completion.entry, identity=POLICY, kind=POLICY))
        self.tokens.extend(completion.token_ids)
        places = range(start, len(self.tokens))
        self.sampled.extend(zip(places, completion.logprobs, completion.versions, strict=True))
        self.turns.append(Turn(start, len(self.tokens), parsed.format_ok))

    def _own_entry(self, input_tokens: int, output_tokens: int) -> LedgerEntry:
        """Returns the ledger entry of the policy's own tokens, charged like any model's."""
        model, usage = self.episode_context.model, Usage(input_tokens, output_tokens=output_tokens)
        measured_s = self.generate_s - sum(e.service_s for e in self.ledger if e.kind == POLICY)
        per_token_s = model.seconds_per_token
        return LedgerEntry(
            call_id=f"{self.spec.episode_id}/{len(self.turns)}/policy",
            caller=self._caller(len(self.turns)),
            identity=POLICY,
            alias=POLICY,
            kind=POLICY,
            model=POLICY,
            price_sheet=self.episode_context.price_sheet,
            usage=usage,
            charged_nanousd=policy_prices(model).cost_nanousd(usage),
            service_s=measured_s if per_token_s is None else per_token_s * output_tokens,
        )

    def _enter(self, entry: LedgerEntry) -> None:
        self.ledger.append(entry)
        self.episode_context.tools.enter(entry)

    def _caller(self, turn: int) -> Caller:
        return Caller(self.group.step, self.group.group_id, self.spec.episode_id, turn)

    async def _run_calls(self, turn: ParsedTurn) -> Stop | Failure | None:
        """Runs the calls in order; their results are read before the next turn."""
        started_s = time.monotonic()
        observations: list[Observation] = []
        try:
            for call in turn.calls:
                result = await self._run_call(call)
                if not isinstance(result, Observation):
                    return result
                observations.append(result)
        finally:
            self.tools_s += time.monotonic() - started_s
        self.turn_records.append(TurnRecord(turn.calls, observations, turn.said))
        return None

    async def _run_call(self, call: AskedCall) -> Observation | Stop | Failure:
        """Returns an observation, or the end if the call ends the episode or the pool fails."""
        self.calls_made += 1
        try:
            if call.fault is not None:
                raise Fault(FaultKind.BAD_JSON, call.fault)
            if self.episode_context.submit and call.name == SUBMIT:
                self.answer = self._submitted(call.arguments)
                return Stop.ANSWERED
            option = resolve(self.group.toolset, call.name, call.arguments)
        except Fault as fault:
            self._enter(self._faulty_entry(fault))
            return Observation(f"error: {fault}", "", "fault")
        result = await self.episode_context.tools.call(self._request(call, option))
        if isinstance(result, Failure):
            return result
        self.ledger.append(result.entry)
        if result.error is not None:
            return Observation(result.text, option.alias, "fault")
        if option.terminal:
            self.answer = result.text
            return Stop.ANSWERED
        self.replies.append(result.text)
        if option.kind == "tool":
            self.found.append(result.text)
        code = call.arguments.get("code")
        return Observation(
            result.text, option.alias, option.kind, code if isinstance(code, str) else None
        )

    def _submitted(self, arguments: Mapping[str, Any]) -> str:
        check_arguments(SUBMIT_SCHEMA, arguments)
        reply, count = int(arguments["reply"]), len(self.replies)
        if not 1 <= reply <= count:
            raise Fault(FaultKind.BAD_INPUT, f"there is no reply {reply}; there are {count}")
        return self.replies[reply - 1]

    def _faulty_entry(self, fault: Fault) -> LedgerEntry:
        return LedgerEntry(
            call_id=self._call_id(),
            caller=self._caller(len(self.turns) - 1),
            identity=FAULTY,
            alias=FAULTY,
            kind="tool",
            price_sheet=self.episode_context.price_sheet,
            usage=Usage(),
            charged_nanousd=0,
            service_s=0.0,
            error=fault.kind.value,
        )

    def _call_id(self) -> str:
        return f"{self.spec.episode_id}/{len(self.turns) - 1}/{self.calls_made}"

    def _request(self, call: AskedCall, option: ToolOption) -> ToolRequest:
        return ToolRequest(
            call_id=self._call_id(),
            caller=self._caller(len(self.turns) - 1),
            option=option,
            arguments={} if model_of(option) else call.arguments,
            task=self.group.task,
            seed=self.spec.seed,
            attempt=self.calls_made - 1,
            found=tuple(self.found) if option.choices else (),
        )

    def close(self, outcome: Stop | Failure) -> tuple[Trajectory | None, EpisodeSummary]:
        failure = outcome if isinstance(outcome, Failure) else None
        stop = Stop.FAILED if isinstance(outcome, Failure) else outcome
        return (None if failure else self._trajectory(stop)), self._summary(stop, failure)

    def _length(self) -> int:
        """Returns the tokens up to the last sampled one; those after it cannot be trained."""
        return self.turns[-1].end if self.turns else 0

    def _trajectory(self, stop: Stop) -> Trajectory:
        tokens_T = np.array(self.tokens[: self._length()], dtype=np.int32)
        mask_T = np.zeros(tokens_T.size, dtype=bool)
        logprobs_T = np.zeros(tokens_T.size, dtype=np.float32)
        versions_T = np.full(tokens_T.size, -1, dtype=np.int32)
        for place, logprob, version in self.sampled:
            mask_T[place], logprobs_T[place], versions_T[place] = True, logprob, version
        return Trajectory(
            episode_id=self.spec.episode_id,
            tokens_T=tokens_T,
            mask_T=mask_T,
            logprobs_T=logprobs_T,
            versions_T=versions_T,
            turns=tuple(self.turns),
            ledger=tuple(self.ledger),
            answer=self.answer,
            stop=stop,
            starts=tuple(start for start in self.starts if start < tokens_T.size),
        )

    def _parts(self) -> tuple[Part, ...]:
        ends = [*self.starts[1:], self._length()]
        return tuple(
            Part(
                tokens=end - start,
                response_tokens=sum(t.end - t.start for t in turns),
                turns=len(turns),
                format_ok=any(t.format_ok for t in turns),
            )
            for start, end in zip(self.starts, ends, strict=True)
            if (turns := [t for t in self.turns if start <= t.start < end])
        )

    def _summary(self, stop: Stop, failure: Failure | None) -> EpisodeSummary:
        versions = [version for _, _, version in self.sampled]
        others = [entry for entry in self.ledger if entry.kind != POLICY]
        return EpisodeSummary(
            episode_id=self.spec.episode_id,
            group_id=self.group.group_id,
            stop=stop,
            failure=failure,
            answered=self.answer is not None,
            tokens=self._length(),
            response_tokens=len(self.sampled),
            turns=len(self.turns),
            turns_well_formed=sum(turn.format_ok for turn in self.turns),
            version_min=min(versions, default=-1),
            version_max=max(versions, default=-1),
            price_nanousd=sum(entry.price_nanousd for entry in self.ledger),
            latency_s=sum(entry.service_s for entry in self.ledger),
            generate_s=self.generate_s,
            tools_s=self.tools_s,
            calls=dict(Counter(entry.identity for entry in others)),
            models=dict(Counter(entry.model for entry in others if entry.model)),
            parts=self._parts(),
            outcomes=outcomes_of(self.ledger),
        )


def outcomes_of(entries: Iterable[LedgerEntry]) -> Mapping[str, int]:
    """Returns the number of calls that were sent, by class of fault or OK."""
    made = (entry for entry in entries if (entry.kind, entry.model) != (POLICY, POLICY))
    counts = Counter(entry.error or OK for entry in made)
    return {
        name: n for name, n in counts.items() if name == OK or not FaultKind(name).is_invalid_call
    }
