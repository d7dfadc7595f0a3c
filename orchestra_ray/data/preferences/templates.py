"""Templates of users' instructions: sentences by aspect, strength and register.

Every sentence expresses one aspect and its strength, and nothing else; `{it}` is the target. Two
intents are two sentences, in either order. No sentence occurs twice, so an instruction has one
meaning. Short instructions have at most `SHORT_WORDS` words, so that the tiny policy can read them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import permutations, product

from orchestra_ray.data.preferences.intents import Aspect, Intent, Intents, Strength

SHORT_WORDS = 12


class Register(StrEnum):
    SHORT = "short"  # at most `SHORT_WORDS` words in all
    LONG = "long"  # a full sentence for each intent


@dataclass(frozen=True, slots=True)
class Template:
    """`name` is aspect.strength.register.number."""

    name: str
    text: str

    def render(self, intent: Intent) -> str:
        return self.text.format(it=intent.target.words if intent.target else "")


@dataclass(frozen=True, slots=True)
class Phrasing:
    instruction: str
    templates: tuple[str, ...]  # names


Bank = Mapping[tuple[Aspect, Strength, Register], Sequence[Template]]


def phrasings(intents: Intents, bank: Bank) -> Iterator[Phrasing]:
    """Yields every instruction that the templates of a bank give for the intents.

    These are all registers, orders of the intents, and templates of each.
    """
    for register in Register:
        for order in permutations(intents):
            sentences = [bank[intent.aspect, intent.strength, register] for intent in order]
            for templates in product(*sentences):
                pairs = zip(templates, order, strict=True)
                text = " ".join(template.render(intent) for template, intent in pairs)
                if register is Register.LONG or len(text.split()) <= SHORT_WORDS:
                    yield Phrasing(text, tuple(template.name for template in templates))


def all_templates() -> Bank:
    return {
        (aspect, strength, register): [
            Template(f"{aspect.value}.{strength.word}.{register.value}.{n}", text)
            for n, text in enumerate(texts[register], 1)
        ]
        for (aspect, strength), texts in _SENTENCES.items()
        for register in Register
    }


def _texts(short: str, long: str) -> Mapping[Register, Sequence[str]]:
    return {Register.SHORT: short.split(" / "), Register.LONG: long.strip().split("\n")}


_SENTENCES: Mapping[tuple[Aspect, Strength], Mapping[Register, Sequence[str]]] = {
    (Aspect.OUTCOME, Strength.SLIGHT): _texts(
        "A rough answer will do. / Near enough is enough. / It need not be perfect."
        " / A good guess is fine. / Small mistakes hardly matter. / Do not fuss over correctness.",
        """
I only need a rough idea, so a mistake would not bother me much.
This is for fun, and little hangs on whether the answer is right.
A fair guess is all that I am after here.
I will check the result myself later, so it need not be quite right.
Getting it exactly right matters to me only a little.
An answer that is roughly right serves me well enough.
""",
    ),
    (Aspect.OUTCOME, Strength.CLEAR): _texts(
        "Try to be right. / Please get it right. / I want a right answer."
        " / Take care to be right. / The answer should be right. / Avoid mistakes.",
        """
I would like the answer to be right, as anyone would.
Please take the usual care that the answer is right.
A wrong answer would be of no use, so do try to get it right.
I am going to use the answer, and it should be right.
Make a reasonable effort to give me a right answer.
Correctness is what I expect of a good answer.
""",
    ),
    (Aspect.OUTCOME, Strength.STRONG): _texts(
        "Be right above all. / Only a right answer helps. / It must be right."
        " / Correctness comes first. / No mistakes whatsoever. / Never give a wrong answer.",
        """
A great deal hangs on this, so the answer must be right whatever happens.
I cannot afford a single mistake here.
Nothing matters more to me than that the answer is right.
Check as much as you have to, for a wrong answer would be a disaster.
Correctness comes before everything else in my work.
I publish what you tell me, so be certain that it is right.
""",
    ),
    (Aspect.COST, Strength.SLIGHT): _texts(
        "Save a little. / Mind the cost somewhat. / Cheaper is slightly nicer."
        " / Do not be wasteful. / Keep an eye on cost. / Small savings are welcome.",
        """
There is money enough, but I do not like to see it wasted.
If two ways are equally good, take the cheaper one.
I mind the cost a little, though not much.
A small saving here and there would be welcome.
Money is a minor concern of mine in this.
I would be slightly happier with a smaller bill.
""",
    ),
    (Aspect.COST, Strength.CLEAR): _texts(
        "Keep the cost down. / Try to spend less. / Please be economical."
        " / Cheap ways are better. / Watch the budget. / Prefer what is cheap.",
        """
My budget is limited, so please keep the cost down.
I would like this done for a moderate amount of money.
Please prefer ways that cost less.
I pay for this myself and would like to be economical.
Expensive calls should have a good reason.
The cost counts for me, so spend with care.
""",
    ),
    (Aspect.COST, Strength.STRONG): _texts(
        "Spend as little as possible. / Every cent counts. / It must be cheap."
        " / Lowest cost above all. / I have hardly any money. / Avoid all spending you can.",
        """
I am a student with next to no money, so spend as little as you possibly can.
Every cent counts, and the bill must be as small as it can be.
Nothing is as important to me as keeping this cheap.
Our budget is all but used up, so avoid every expense that can be avoided.
Take the cheapest way there is, always.
I pay for thousands of these, so the lowest cost is what I need.
""",
    ),
    (Aspect.LATENCY, Strength.SLIGHT): _texts(
        "No great hurry. / Do not dawdle. / Sooner is slightly nicer."
        " / Mind the time somewhat. / A bit faster is nice. / Keep an eye on time.",
        """
There is time, but I would rather not wait without need.
I mind the waiting a little, though not much.
If two ways are equally good, take the faster one.
A somewhat quicker answer would be welcome.
Time is a minor concern of mine in this.
I would be slightly happier to have it sooner.
""",
    ),
    (Aspect.LATENCY, Strength.CLEAR): _texts(
        "Please be quick about it. / Try to be fast. / I would rather not wait."
        " / Faster ways are better. / Watch the clock. / Prefer what is fast.",
        """
I have some time, but please keep the wait short.
I would like to have the answer fairly soon.
Please prefer ways that take less time.
Others wait for this answer, so do not take too long.
Slow calls should have a good reason.
The time it takes counts for me, so be reasonably quick.
""",
    ),
    (Aspect.LATENCY, Strength.STRONG): _texts(
        "Be as fast as possible. / Every second counts. / I need it now."
        " / Speed above all. / I cannot wait. / Answer at once.",
        """
I am in the middle of a call and need the answer this very moment.
Every second counts, so be as fast as you possibly can.
Nothing is as important to me as having this quickly.
My train leaves in a minute, so do not keep me waiting at all.
Take the fastest way there is, always.
Somebody is standing beside me for the answer, and I need it at once.
""",
    ),
    (Aspect.LIKE, Strength.SLIGHT): _texts(
        "Perhaps try {it}. / Maybe use {it}. / Nice to have {it}."
        " / Consider {it}. / I slightly favour {it}. / Possibly ask {it}.",
        """
If it makes no difference, I would sooner see {it} used.
I have a slight liking for {it}.
You might consider {it} where that suits.
It would be a small pleasure to see {it} put to use.
All else being equal, lean towards {it}.
I would not mind if {it} had a part in this.
""",
    ),
    (Aspect.LIKE, Strength.CLEAR): _texts(
        "Prefer {it}. / Please use {it}. / I like {it}."
        " / Favour {it}. / Better use {it}. / Turn to {it}.",
        """
I would like you to use {it} for this.
I have had good experience with {it}, so please prefer that.
Please turn to {it} rather than to others.
Where you have a choice, choose {it}.
My team works with {it}, and I would like to stay with that.
Using {it} is what I prefer.
""",
    ),
    (Aspect.LIKE, Strength.STRONG): _texts(
        "Always use {it}. / Insist on {it}. / I want {it}."
        " / Definitely use {it}. / It must be {it}. / Rely on {it}.",
        """
I insist that you use {it}.
It has to be {it}, for that is what I trust above all.
Use {it} whenever there is any way to do so.
Nothing but {it} will satisfy me.
We are bound by contract to use {it}, so always do.
By all means work with {it}, at every opportunity.
""",
    ),
    (Aspect.AVOID, Strength.SLIGHT): _texts(
        "Perhaps skip {it}. / Maybe spare {it}. / Rather not {it}."
        " / I slightly dislike {it}. / Possibly pass over {it}. / Less of {it}.",
        """
If it makes no difference, I would sooner do without {it}.
I have a slight dislike of {it}.
You might look for something other than {it} where that suits.
It would be a small relief to see others used instead of {it}.
All else being equal, lean away from {it}.
I would not mind if {it} had no part in this.
""",
    ),
    (Aspect.AVOID, Strength.CLEAR): _texts(
        "Avoid {it}. / Please skip {it}. / I dislike {it}."
        " / Leave {it} out. / Better without {it}. / Pass over {it}.",
        """
I would like you to use others instead of {it}.
I have had bad experience with {it}, so please avoid that.
Please turn to anything rather than to {it}.
Where you have a choice, choose something other than {it}.
My team has moved away from {it}, and I would like to do so too.
Doing without {it} is what I prefer.
""",
    ),
    (Aspect.AVOID, Strength.STRONG): _texts(
        "Never use {it}. / Refuse {it}. / Anything but {it}."
        " / Stay off {it}. / Ban {it}. / Under no circumstances {it}.",
        """
I insist that you never use {it}.
Anything but {it}, for that is what I trust least of all.
Use others than {it} whenever there is any way to do so.
On no account do I want {it} to have a part in this.
We are forbidden by contract to use {it}, so always use something else.
Keep away from {it}, at every opportunity.
""",
    ),
    (Aspect.LOCAL, Strength.SLIGHT): _texts(
        "Perhaps take {it}. / Local is slightly nicer. / Maybe stay on premises."
        " / Rather not send data out. / Somewhat private, please. / A bit of privacy helps.",
        """
The data is not secret, though I would sooner have {it} used.
If it makes no difference, send nothing to outside services.
All else being equal, lean towards {it} and away from outside services.
I have a slight concern about sending my question elsewhere.
Keeping the data in the house is a minor wish of mine.
I would be slightly happier with {it} than with outside services.
""",
    ),
    (Aspect.LOCAL, Strength.CLEAR): _texts(
        "Better take {it}. / Keep the data here. / Avoid outside services."
        " / Please stay local. / My data is private. / Better work on premises.",
        """
My data is private, so please prefer {it}.
I would like the data to stay in the house, with {it} doing the work.
Please turn to {it} rather than to outside services.
We have machines of our own, and I would like {it} to be used.
Where you have a choice, do not send my question elsewhere.
Services outside should see this only for a good reason.
""",
    ),
    (Aspect.LOCAL, Strength.STRONG): _texts(
        "Nothing may leave this place. / Strictly confidential data. / Only local, always."
        " / Never call outside services. / Keep all of it here. / Send nothing out.",
        """
I work for a company whose data is strictly confidential, so nothing may go to outside services.
Use only {it}, for not a word of this may leave the house.
We have many machines of our own and are forbidden to call any outside service.
These are patients' records, so never send them anywhere else.
It has to be {it}, since our lawyers allow no outside service at all.
Whatever happens, keep everything within these walls.
""",
    ),
}
