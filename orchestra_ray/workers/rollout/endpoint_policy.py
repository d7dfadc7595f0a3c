"""A policy behind an endpoint, for evaluation only, with the same context and functions.

The model is an entry of the catalogue, called through the tool pool, so that its calls obey limits
and deadlines, are charged at its prices and are replayed by a cassette. Its reply arrives as a
`PolicyTurn`, is rendered in the chat format of the trained model and read by the same parser. A
request rejected by the endpoint and an unreadable reply count as an empty turn of the policy: the
episode ends without an answer. Transport errors and denied access are a `Failure`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestra_ray.core.faults import Failure, FailureKind, FaultKind
from orchestra_ray.core.policy_names import ORCHESTRATOR
from orchestra_ray.core.records import LedgerEntry, ToolOption, ToolRequest
from orchestra_ray.data.catalogue import Catalogue
from orchestra_ray.data.catalogue.signatures import signatures
from orchestra_ray.data.catalogue.toolset import plain_option
from orchestra_ray.workers.rollout.chat import Chat
from orchestra_ray.workers.rollout.context import Context
from orchestra_ray.workers.rollout.parsing import write_hermes
from orchestra_ray.workers.rollout.policies import Completion, PolicyInput, ToolCaller
from orchestra_ray.workers.tools.endpoint.completion import PolicyTurn

POLICY_FAULTS = (FaultKind.REJECTED, FaultKind.BAD_REPLY)


@dataclass(frozen=True, slots=True)
class EndpointPolicy:
    chat: Chat
    context: Context
    option: ToolOption
    tools: ToolCaller
    submit: bool

    async def respond(self, policy_input: PolicyInput) -> Completion | Failure:
        request = ToolRequest(
            call_id=f"{policy_input.request_id}/policy",
            caller=policy_input.caller,
            option=self.option,
            arguments={},
            task=policy_input.group.task,
            seed=policy_input.seed,
            attempt=len(policy_input.turns),
            messages=tuple(self.context.messages(policy_input.group, policy_input.turns)),
            functions=tuple(signatures(policy_input.group.toolset, self.submit)),
        )
        result = await self.tools.call(request)
        if isinstance(result, Failure):
            return result
        if result.error in POLICY_FAULTS:
            return self._completion([self.chat.end_id], "length", result.entry)
        if result.error is not None:
            spent = result.error == FaultKind.BUDGET.value
            kind = FailureKind.BUDGET if spent else FailureKind.ENGINE
            return Failure(kind, self.option.identity, result.text)
        turn = PolicyTurn.load(result.text)
        ids = write_hermes(self.chat, turn.said, turn.calls, turn.thought)
        return self._completion(ids, "stop", result.entry)

    def _completion(self, ids: Sequence[int], finish: str, entry: LedgerEntry) -> Completion:
        return Completion(ids, [0.0] * len(ids), [0] * len(ids), finish, entry)


def endpoint_policies(
    catalogue: Catalogue, chat: Chat, context: Context, tools: ToolCaller, submit: bool
) -> Mapping[str, EndpointPolicy]:
    """Returns a policy for each endpoint model of the catalogue, at the catalogue's prices."""
    return {
        ORCHESTRATOR + name: EndpointPolicy(
            chat, context, plain_option(entry, catalogue.price_sheet), tools, submit
        )
        for name, entry in catalogue.models.items()
        if entry.backend == "endpoint"
    }
