"""The words in names of columns that say what their cells are, as patterns of plain names."""

from __future__ import annotations

import re

from migrator.transformer.profiles import normalise

_SIGNS = re.compile(r"[?!%#*()\[\]]+")


def plain_name(name: str) -> str:
    """The normalised name of a column without the signs that people add, as in ``Passed?``."""
    return normalise(_SIGNS.sub(" ", name))


def _pattern(words: str) -> re.Pattern[str]:
    """A pattern that finds any of the words, as whole words of a normalised name."""
    return re.compile(rf"(?:^|_)(?:{words})(?:_|\Z)")


IDS = re.compile(
    r"(?:\A|_)(?:id|ids|idx|index|uid|uuid|guid|row|line_number|epoch|fold|turn|seed|hash)\Z"
    r"|\Aunnamed_\d+\Z|\A\Z"
)
NEUTRAL = re.compile(
    r"(?:\A|_)(?:len|length|chars|words|count|num|n|time|times|seconds|secs|ms|s|latency|duration"
    r"|tokens?|cost|usd|price|timestamp|date|created|updated|at|temperature|top_p|top_k|k|max|min|size"
    r"|threshold|version|model|provider|rank|path|file|url|weight|alpha|year|name|type|category"
    r"|difficulty|split|tags?|dataset|domain|level|status|stage|event|trace|spans|assessments"
    r"|state|metadata|role|filter)\Z|\A(?:n|num|count|total|number)_"
)
EXPECTED = _pattern(
    r"ground_?truths?|gt|gold|golden|references?|refs?|criteria|rubrics?|expected|expectations?|targets?|ideal|truth|labels?"
    r"|asserts?|assertions?|y_true|correct_(?:answer|response|output|option|choice|letter|label)s?|true_(?:answer|label)"
    r"|answer_key|right_answer"
)
EXPECTED_FIRST = re.compile(r"\Aexpected_")
"""A name that says no more than what was expected, be it a score."""
PREDICTED = _pattern(r"(?:y_)?pred(?:icted|ictions?|s)?")
ACTUAL = re.compile(r"\Aactual(?:_(?:value|label|class|category|answer))?\Z")
"""What was right, beside what was predicted."""
MEASURED = _pattern(r"latency|duration|elapsed|tokens?|cost|ms|secs?|seconds")
"""Words of numbers that were measured, whatever of."""
OUTCOMES = _pattern(r"status|state|outcome|result")
"""Names under which a test says whether it passed, and other things theirs."""
COUNTED = re.compile(r"(?:\A|_)(?:tests|questions|cases|samples|rows|items|checks|calls)\Z")
"""Names of what a number counts."""
SCORES = _pattern(
    r"scores?|ratings?|grades?|relevan\w*|faithful\w*|\w*correctness|similarit\w*|grounded\w*"
    r"|hallucinat\w*|meets_\w+|match(?:es|ed)|toxic\w*|coheren\w*|fluen\w*|helpful\w*|concise\w*|quality|accura\w*|precision"
    r"|recall|f1|bleu|rouge\w*|meteor|bertscore|match|exact_match|pass|passed|is_\w+|has_\w+|verdict"
    r"|judge\w*|safety|bias|harm\w*|complete\w*|readab\w*|confidence|satisf\w*|thumbs?|em|mrr|ndcg"
    r"|hit|success|sufficien\w*|chunk_relevance|adheren\w*|tone|feedback|preference|preferred|winner"
    r"|assessment"
)
ANSWERS = _pattern(
    r"outputs?|responses?|resps?|predictions?|predicted|pred|y_pred|completions?|generated|generations?|reply"
    r"|results?|actual|llm_answer|model_answers?|bot_answer|summary"
)
ANSWER = _pattern(r"answers?")
QUESTIONS = _pattern(
    r"inputs?|questions?|prompts?|query|queries|instructions?|messages?|tasks?|problem|text|document"
    r"|article|requests?|contexts?|passages?|retrieved\w*|choices|options|conversation"
)
REASONS = _pattern(
    r"reasons?|reasoning|rationales?|justifications?|explanations?|critique|thoughts?"
)
COMMENTS = _pattern(r"comments?|remarks?|notes?")
GRADERS = _pattern(
    r"judges?|graders?|humans?|annotators?|reviewers?|evaluators?|raters?|score|rating|grade"
)
PEOPLE = re.compile(
    r"(?:^|_)(?:graders?|annotators?|reviewers?|evaluators?|raters?)(?:_name|_id)?\Z"
)
BARE_SCORE = re.compile(r"\A(?:\w*_)?(?:score|rating|grade|verdict|judge\w*)\Z")
SCORE_PREFIXES = frozenset(
    {"score", "scores", "feedback", "metric", "metrics", "eval", "evaluation"}
)
SCORE_OBJECTS = SCORE_PREFIXES | {"metrics_data", "assessments", "feedbacks", "evaluations"}
"""Names of columns whose cells are objects, or lists of objects, with several scores."""
SCORE_SUFFIXES = frozenset({"score", "value", "rating", "grade", "llm_judged"})
REASON_WORDS = frozenset(
    {"reason", "reasoning", "rationale", "justification", "explanation", "comment"}
)
EXPLAINING = REASON_WORDS | {"reasons", "explanations", "critique", "feedback", "comments", "notes"}
"""Last words of columns that explain the score whose name they begin with."""
VALUE_KEYS = ("score", "value", "rating", "grade")
REASON_KEYS = ("reason", "rationale", "justification", "explanation", "comment")
"""Keys of an object that is one score with its rationale."""


def is_name_of_answer(plain: str) -> bool:
    """Whether a plain name is that of what a model answered."""
    if EXPECTED.search(plain) or SCORES.search(plain):
        return False
    return ANSWERS.search(plain) is not None or ANSWER.search(plain) is not None
