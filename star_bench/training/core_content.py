"""The core content of a prompt: which of its words the attention map starts from, as spans of characters.

STAR (arXiv:2606.17979) starts from "core content" and its abstract does not say what that is; these rules are chosen
here. What the suite's judge looks for is known for GenEval and OCR prompts and stands in their metadata; of any other
prompt the core are its nouns and adjectives.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from star_bench.errors import UsageError
from star_bench.evaluators.base import Prompt
from star_bench.evaluators.geneval.prompts import NUMBERS, plural


@dataclass(frozen=True)
class Word:
    """One concept of a prompt, which may be of several words ("traffic light"): prompt.text[start:end] == text."""

    text: str
    start: int
    end: int


def core_words(prompt: Prompt) -> list[Word]:
    """The core words of a prompt in their order, none overlapping another.

    Metadata with "include" make it GenEval's: numbers, colours, classes and relations. With "target" it is OCR's: the
    words in the quotes. Any other is free: nouns and adjectives (`free_words`); none where the text holds no word. Raises
    UsageError where the text does not say what the metadata ask for.
    """
    if "include" in prompt.metadata:
        return _geneval_words(prompt)
    if "target" in prompt.metadata:
        return _quoted_words(prompt)
    return free_words(prompt.text)


def _geneval_words(prompt: Prompt) -> list[Word]:
    words, end = [], 0
    for phrase in _phrases(prompt.metadata):
        pattern = r"\s+".join(f"({re.escape(part)})" for part in phrase)
        # Phrases are sought one behind the other, so that "dog" after "hot dog" is not the one in "hot dog".
        found = re.compile(rf"(?<!\w){pattern}(?!\w)").search(prompt.text, end)
        if found is None:
            raise UsageError(
                f"prompt {prompt.id} does not say {' '.join(phrase)!r} where its metadata ask for it: {prompt.text!r}",
                "write it in GenEval's grammar",
            )
        words += [Word(found[i], *found.span(i)) for i in range(1, len(phrase) + 1)]
        end = found.end()
    return words


def _phrases(metadata: dict[str, Any]) -> list[list[str]]:
    """Concepts that stand side by side, phrase by phrase in the order of `geneval.prompts.prompt_text`: a colour stands
    before its class, so that it is the colour of that object. Articles are left out."""
    include = metadata["include"]
    named = [[clause["color"], clause["class"]] if "color" in clause else [clause["class"]] for clause in include]
    match metadata["tag"]:
        case "counting":
            count = include[0]["count"]
            return [[NUMBERS[count] if count < len(NUMBERS) else str(count), *named[0][:-1], plural(named[0][-1])]]
        case "position":
            return [named[1], [include[1]["position"][0]], named[0]]
    return named


def _quoted_words(prompt: Prompt) -> list[Word]:
    """Each word of the target as one concept, so that a long word does not count more than a short one."""
    target = prompt.metadata["target"]
    start = prompt.text.find(f'"{target}"') + 1
    if start == 0:
        raise UsageError(
            f"prompt {prompt.id} does not hold its target {target!r} in straight double quotes: {prompt.text!r}",
            "write the target there as it is in the metadata",
        )
    return [Word(m[0], start + m.start(), start + m.end()) for m in re.finditer(r"\S+", target)]


def free_words(text: str) -> list[Word]:
    """Nouns and adjectives of any text: its words that stand neither in FUNCTION_WORDS nor in PLAIN_WORDS.

    Lists and not a tagger of parts of speech, since prompts are rarely sentences (chosen here). Words that hold a
    letter count; "close-up" is one word, and of "dog's" it is "dog". Where nothing is left, all that are no function
    words; where still nothing is, all words, numbers too. [] for a text without any.
    """
    words = list(_split(text))
    spoken = [word for word in words if any(c.isalpha() for c in word.text)]
    content = [word for word in spoken if not _consists_of(word, FUNCTION_WORDS)]
    return [word for word in content if not _consists_of(word, FUNCTION_WORDS | PLAIN_WORDS)] or content or words


def _split(text: str) -> Iterator[Word]:
    """Runs of letters and digits, with inner hyphens; without what follows an apostrophe, as in "dog's", "they're"."""
    for found in re.finditer(r"(?<![^\W_])(?<![^\W_]['’])[^\W_]+(?:-[^\W_]+)*", text):
        yield Word(found[0], *found.span())


def _consists_of(word: Word, known: frozenset[str]) -> bool:
    lower = word.text.lower()
    return lower in known or all(part in known for part in lower.split("-"))


FUNCTION_WORDS = frozenset(
    """
    a an the this that these those some any no none each every either neither both all another other others such own
    same few many much more most less least several enough
    i me my mine myself we us our ours you your yours he him his himself she her hers herself it its itself they them
    their theirs themselves someone something anyone anything everyone everything nobody nothing
    who whom whose which what when where why how
    of in on at by for with without from to into onto upon out off up down over under above below between among amongst
    across through throughout along around about against behind before after beside besides beyond near inside outside
    within toward towards underneath beneath next via per like as than during until till since despite except
    and or nor but so yet if then because while though although whereas whether unless
    is are was were be been being am isn aren wasn weren has have had having do does did done doing don doesn didn can
    could will would shall should may might must cannot couldn wouldn shouldn
    not only just also too very quite rather almost really even still again ever never always often already now here
    there once perhaps maybe etc
    """.split()
)
"""English words that hold sentences together (chosen here). Words of place are among them: in a free prompt nothing
judges a relation."""

PLAIN_WORDS = frozenset(
    """
    add added adds capture captured captures capturing come comes coming contain containing contains create created
    creates creating depict depicted depicting depicts display displayed displaying displays draw drawn feature featured
    features featuring generate generated get gets getting give gives giving go goes going hold holding holds include
    includes including keep keeps let lets look looking looks made make makes making put puts say saying says see seen
    set sets show showing shown shows sit sits sitting stand standing stands surround surrounded surrounding take taken
    takes taking turn turned turning turns use used uses using want wants wear wearing wears
    absolutely beautifully completely deeply elegantly entirely extremely finely fully highly hyper incredibly insanely
    intricately mostly partially partly perfectly slightly softly super together totally ultra vividly away back forward
    art artstation artwork award background best camera cgi cinematic close close-up closeup composition concept contest
    depth detail detailed details deviantart digital dof drawing dslr engine exposure f filter focus fps hd hdr high
    highres absurdres hq hyperdetailed hyperrealistic illustration image imax iso k 2k 4k 8k 16k 3d 2d kodak kodachrome
    lens lighting masterpiece medium mm octane painting photo photograph photographic photography photoreal photorealism
    photorealistic photos picture pinterest pixiv portrait pov professional quality raw realism realistic render
    rendered rendering resolution sharp shot style styled stylized sketch trending uhd ultradetailed ultrarealistic
    unreal vfx view volumetric wallpaper winner winning
    """.split()
)
"""Words of free prompts that name no thing and no look of a thing (chosen here): verbs that say only that something is
there, adverbs of degree, and words about the picture as a whole, such as its medium and its finish."""
