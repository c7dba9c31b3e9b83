"""What the name under which a text was logged says of it: asked, answered, a draft, neither."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from migrator import encoding
from migrator.model import RunRecord
from migrator.transformer.chat_messages import ASKING, Message, messages_of
from migrator.transformer.found import Found
from migrator.transformer.input_parts import as_chat_if_one
from migrator.transformer.notes import noted_turn
from migrator.transformer.payloads import answer_of, are_texts_by_key
from migrator.transformer.profiles import normalise
from migrator.transformer.prose import Prose, is_statement, kind_of_text
from migrator.transformer.python_repr import parse_value
from migrator.transformer.values import is_error, words

NO_ANSWERS = words("error exception expected reference ground gold golden target truth")
"""Words of keys that hold no answer, whatever their last word."""

NOT_OF_THE_CALL = NO_ANSWERS | words("system commit status log template judge default max min")
"""Words of keys whose texts neither ask nor answer, though their last word says so."""

BY_MODEL = words(
    "assistant ai bot chatbot generated answer reply response result output translated summarized "
    "summarised corrected rewritten simplified paraphrased predicted"
)
PREDICTED_WORDS = words("predicted prediction label class")
"""Words of keys whose value is the class that a classifier found."""

USER_WORDS = words("user question query questions queries ask asked message request")
"""Words of keys that speak of what a user asked."""

SURE_ANSWER_WORDS = words(
    "answer response reply completion respuesta resposta reponse antwort risposta 回答 generated"
)
"""Words of keys whose text, two words or more, is an answer."""

SURE_QUESTION_WORDS = words("question pregunta pergunta frage domanda 问题 質問 user")
"""Words of keys whose text, two words or more, is a question of a user."""

PROMPT_WORDS = words("prompt prompts template instructions system persona")
"""Words of keys whose text is written by the author of an application, not by its user."""

ASKED_AT_LAST = words("input question query prompt request")
"""Last words of keys that say that a text was asked, be it that a model wrote it so."""

OF_TOOLS = words("tool tools")
GIVEN_TO_MODEL = OF_TOOLS | words(
    "context contexts doc docs document documents source sources chunk chunks passage passages "
    "evidence citation citations knowledge background history memory observation "
    "observations scratchpad intermediate search retrieved retrieval metadata schema info feedback "
    "comment disclaimer logs debug"
)
"""Words of keys whose texts stand beside a question that a model answers, and do not answer it."""

JUDGING = words(
    "critic critique judge evaluate evaluation evaluator evaluating eval grader grading feedback"
)
"""Words of names of steps, and of keys, whose text judges another's work."""

LOOKS_UP = words("retrieval retriever search vector embedding lookup sub sql standalone rewritten")
"""Words of keys whose question an application asked, for a step of its work."""

QUESTIONS = words("query question")
SUBJECTS = QUESTIONS | words("topic")
"""Last words of keys under which a few words are what an answer is about."""

DRAFTS = words("draft initial intermediate raw first partial preliminary unverified plan reasoning")
"""Words of keys whose text another one took the place of."""

SHORT_ANSWERS = words("answer response reply output completion translation")
"""Last words of keys under which even a few words are an answer, where an LLM is named."""

_STATISTIC = "(avg|average|mean|median|top|max|min|best|std)"
_OF_DOCUMENTS = "(similarity|relevance|distance|retrieval|rerank|chunk|doc|document|vector)"
_SCORE = rf"({_OF_DOCUMENTS}_)*{_OF_DOCUMENTS}(_scores?)?"
OF_LOOKED_UP = re.compile(rf"^({_STATISTIC}_{_SCORE}|{_SCORE}_{_STATISTIC})$")
"""Metrics over the documents that were looked up for one request."""

RETRIEVAL = re.compile(
    r"^(top_?k|k|retriev\w*|chunk\w*|context_\w*|embedding\w*|vector_?(store|db)\w*"
    r"|(num|n|total)_(chunks|docs|documents|sources|contexts)|similarity\w*|rag_\w*)$"
)
"""Names that stand beside a question whose answer is looked up first."""

OF_A_STUDY = words(
    "model training train classification regression metrics dataset data evaluation eval feature "
    "features run experiment test validation"
)
REPORTS = words("summary report result plan description explanation text")
"""Last words of keys that hold no answer beside one of ``OF_A_STUDY``: ``model_summary``."""

OUTCOMES = words("success ok valid passed status")
"""Keys of an object that tells how a job ended."""

REPORTS_OF_JOBS = words("summary report description explanation")


_ACTION = re.compile(r"[^\W_]{2,}(?:tion|sion|cion|zione|sis|ung)s?")
NO_PRODUCTS = words(
    "version session information configuration function condition location permission description "
    "question position duration iteration conversation application organization option action "
    "authentication documentation population distribution"
)
"""Nouns with the ending of an action that do not name what a model made of a text."""

CHECKS = words("validation evaluation verification")
"""Those that name a judgement on something, which often is another's work."""


NOT_MADE = words(
    "retrieved expected needed given provided uploaded selected requested used asked received "
    "recommended related combined detailed embed"
)
"""Words with the ending of a participle that do not say that a text was made of another."""


def retrieval_key(run: RunRecord) -> str | None:
    """A param or metric of a run that tells of a retrieval; None without one."""
    for key in (*run.params, *run.metrics):
        if is_of_retrieval(normalise(key)):
            return key
    return None


def is_of_retrieval(name: str) -> bool:
    """Whether a (normalised) key tells of documents that were looked up for a request."""
    return RETRIEVAL.match(name) is not None or OF_LOOKED_UP.match(name) is not None


def messages_at(found: Found) -> Sequence[Message]:
    """The messages of a chat that was logged as one value; empty when it is not a chat."""
    value = parse_value(found.value) if isinstance(found.value, str) else found.value
    if isinstance(value, str) or value is None:
        return ()
    return messages_of(value)


def is_chat_with_question(found: Found) -> bool:
    """Whether a value is a chat in which somebody asks."""
    return any(message.role in ASKING for message in messages_at(found))


def is_text_of_the_call(found: Found, least: Prose) -> bool:
    """Whether a value under an uncertain name is something asked or answered, and no less."""
    if found.key.startswith("mlflow."):
        return False
    if is_neither(found):
        return False
    parts = found.stem.split("_")
    if parts[-1] in REPORTS and not OF_A_STUDY.isdisjoint(parts[:-1]):
        return False
    if parts[-1] in ASKED_AT_LAST and not SURE_QUESTION_WORDS.isdisjoint(parts):
        least = min(least, Prose.TERMS)
    value = as_chat_if_one(found.value)
    if encoding.is_chat(value):
        return True
    if isinstance(value, Mapping) and answer_of(value) is not None:
        return True  # the body of an API's response
    if parts[-1] == "results":
        return are_texts_by_key(value)
    texts = list(value.values()) if isinstance(value, Mapping) else [value]
    return any(isinstance(text, str) and _reads_as(text, least) for text in texts)


def _reads_as(text: str, least: Prose) -> bool:
    """Whether a text is of a kind, or is a note with a question and its answer."""
    return kind_of_text(text) >= least or ("\n" in text and noted_turn(text) is not None)


def is_report(found: Found) -> bool:
    """Whether a value is a report, a summary or an outcome, which jobs of every kind write."""
    if isinstance(found.value, Mapping) and not OUTCOMES.isdisjoint(found.value):
        return True
    parts = found.stem.split("_")
    return parts[-1] in REPORTS_OF_JOBS or (parts[-1] == "result" and "final" not in parts)


def is_neither(found: Found) -> bool:
    """Whether a name says that what it holds was neither asked nor answered."""
    parts = found.stem.split("_")
    if parts[-1] in SHORT_ANSWERS:
        parts = [part for part in parts if part != "system"]  # it answered: system_response
    return not NOT_OF_THE_CALL.isdisjoint(parts)


def draft_rank(found: Found) -> int:
    """0 for a text whose name says that it is the last of several, 2 for one before it."""
    parts = found.stem.split("_")
    folders = found.key.rpartition("/")[0] if found.place == "artifact" else ""
    if "final" in parts or "final" in normalise(folders).split("_"):
        return 0
    is_before = parts[-1] in ASKED_AT_LAST or not DRAFTS.isdisjoint(parts)
    return 2 if is_before else 1


_NUMBERED = re.compile(
    r"(?P<before>.*?)(?:^|_)(?:v|version|step|iter|iteration|round|revision|draft|stage|phase)_?"
    r"(?P<number>\d+)(?=_|$)"
)


def number_of_step(found: Found) -> int | None:
    """The number of a text among the steps or versions of a work: ``step_2``, ``poem_v3``."""
    match = _NUMBERED.match(found.stem)
    return int(match["number"]) if match is not None else None


def is_by_model(found: Found) -> bool:
    """Whether an uncertain name says that the model wrote the text: ``bot_text``."""
    return not BY_MODEL.isdisjoint(found.stem.split("_"))


def is_product(name: str) -> bool:
    """Whether a name is that of an action on a text: ``extraction``, ``classified_ticket``."""
    parts = normalise(name).split("_")
    nouns = [part for part in parts if _ACTION.fullmatch(part)]
    is_made = any(NO_PRODUCTS.isdisjoint((noun, noun.removesuffix("s"))) for noun in nouns)
    return is_made or any(map(is_participle, parts))


def is_participle(word: str) -> bool:
    """Whether a word says that something was made of another: ``simplified``, ``extracted``."""
    return len(word) > 4 and word.endswith("ed") and word not in NOT_MADE


def is_of_step(name: str) -> bool:
    """Whether a name of a question says that a step was asked it: ``expanded_query``."""
    parts = normalise(name).split("_")
    return not LOOKS_UP.isdisjoint(parts) or any(map(is_participle, parts))


def is_for_next_step(found: Found) -> bool:
    """Whether a text that a model wrote is by its name what the next step is to work with.

    That is a question, or the answer that HyDE looks up documents by.
    """
    parts = found.stem.split("_")
    if "hypothetical" in parts:
        return True
    if len(parts) > 1 and (parts[-1] in BY_MODEL or is_participle(parts[-1])):
        parts.pop()  # query_rewritten
    is_code = isinstance(found.value, str) and is_statement(found.value)
    return not is_code and parts[-1].removesuffix("s") in QUESTIONS


def judges(name: str) -> bool:
    """Whether a name is that of a step, or a text, that judges the work of another."""
    return not JUDGING.isdisjoint(normalise(name).split("_"))


def is_given_to_model(found: Found) -> bool:
    """Whether a text is by its name what a model was given beside a question: ``tool_output``."""
    parts = set(found.stem.split("_"))
    is_of_model = bool(parts & (SURE_ANSWER_WORDS | SHORT_ANSWERS)) and not parts & OF_TOOLS
    return bool(parts & GIVEN_TO_MODEL) and not is_of_model


MOST_OF_ERROR = 4  # keys that an object has which only tells of an error


def is_check(name: str) -> bool:
    """Whether a name is that of a judgement."""
    return not CHECKS.isdisjoint(normalise(name).split("_"))


def is_no_answer(found: Found) -> bool:
    """Whether a file holds an error, or by its name what was expected."""
    value = found.value
    if isinstance(value, Mapping) and value.keys() & NO_ANSWERS and len(value) <= MOST_OF_ERROR:
        return any(is_error(value[key]) for key in value.keys() & NO_ANSWERS)
    return found.place == "artifact" and not NO_ANSWERS.isdisjoint(found.stem.split("_"))
