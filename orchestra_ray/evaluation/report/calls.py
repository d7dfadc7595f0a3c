"""The calls of each policy by tool and model, as bars in one order for all policies."""

import html
from collections.abc import Mapping, Sequence

from orchestra_ray.evaluation.report.cells import broken
from orchestra_ray.evaluation.report.runs import Setting
from orchestra_ray.evaluation.report.svg import element
from orchestra_ray.evaluation.significance import subject
from orchestra_ray.tracking.units import short

MOST = 12  # bars of a policy; the rarest are summed
OTHERS = "all others"


def shares(found: Sequence[Setting]) -> str:
    """Returns a section with a chart for every policy with known calls, or ""."""
    known = [setting for setting in found if any(one.calls for one in setting.rows.values())]
    if not known:
        return ""
    note = (
        "Calls of each tool and model, as a share of all calls of a policy on the held-out tasks."
        " The figure beside a policy is its mean calls a task; the order is the same for all."
    )
    heading = element("h2", "Calls by tool and model") + element("p", note)
    named = len(found) > 1
    return element("section", heading, class_="intro") + "".join(
        _setting(setting, named) for setting in known
    )


def _setting(setting: Setting, named: bool) -> str:
    own = subject(setting.rows)
    calls = {name: one.calls for name, one in setting.rows.items() if sum(one.calls.values()) > 0}
    order = in_one_order(calls, own)
    cards = [_card(name, of_policy, order, name == own) for name, of_policy in calls.items()]
    title = element("h3", html.escape(setting.label), class_="over") if named else ""
    return title + element("div", *cards, class_="grid")


def in_one_order(calls: Mapping[str, Mapping[str, float]], own: str) -> list[str]:
    """Returns the names of all tools and models, the most called first.

    They are ordered by the calls of the policy `own`, then by those of all policies.
    """

    def rank(identity: str) -> tuple[float, float, str]:
        by_all = sum(of_policy.get(identity, 0.0) for of_policy in calls.values())
        return -calls.get(own, {}).get(identity, 0.0), -by_all, identity

    return sorted({identity for of_policy in calls.values() for identity in of_policy}, key=rank)


def _card(name: str, calls: Mapping[str, float], order: Sequence[str], own: bool) -> str:
    total = sum(calls.values())
    amounts = {identity: calls.get(identity, 0.0) for identity in order}
    if len(order) > MOST:
        kept = order[: MOST - 1]
        rest = sum(amounts[identity] for identity in order[MOST - 1 :])
        amounts = {identity: amounts[identity] for identity in kept} | {OTHERS: rest}
    bars = [_bar(identity, amount / total) for identity, amount in amounts.items()]
    heading = element("h3", html.escape(name)) + element("span", f"{short(total)} a task")
    return element(
        "section",
        element("div", heading, class_="head"),
        element("dl", *bars, class_=f"bars {'blue' if own else 'grey'}"),
        class_="card",
    )


def _bar(identity: str, share: float) -> str:
    """Returns a name, a bar hidden from screen readers, and the share in percent."""
    bar = element("i", style=f"width:{100 * share:.1f}%") if share > 0.0 else ""
    return (
        element("dt", broken(identity))
        + element("dd", element("span", bar, class_="track", aria_hidden="true"))
        + element("dd", f"{100 * share:.1f}%", class_="none" if share == 0.0 else "")
    )
