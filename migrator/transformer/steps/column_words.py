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
    r"|state|metadata|role)\Z|\A(?:n|num|count|total|number)_"
)
EXPECTED = _pattern(
    r"ground_?truths?|gt|gold|golden|references?|expected|expectations?|targets?|ideal|truth|labels?"
    r"|y_true|correct_(?:answer|response|output|option|choice|letter|label)s?|true_(?:answer|label)"
    r"|answer_key|right_answer"
)
SCORES = _pattern(
    r"scores?|ratings?|grades?|relevan\w*|faithful\w*|\w*correctness|similarit\w*|grounded\w*"
    r"|hallucinat\w*|toxic\w*|coheren\w*|fluen\w*|helpful\w*|concise\w*|quality|accura\w*|precision"
    r"|recall|f1|bleu|rouge\w*|meteor|bertscore|match|exact_match|pass|passed|is_\w+|has_\w+|verdict"
    r"|judge\w*|safety|bias|harm\w*|complete\w*|readab\w*|confidence|satisf\w*|thumbs?|em|mrr|ndcg"
    r"|hit|success|sufficien\w*|chunk_relevance|adheren\w*|tone|feedback|preference|preferred|winner"
    r"|assessment"
)
ANSWERS = _pattern(
    r"outputs?|responses?|predictions?|predicted|pred|y_pred|completions?|generated|generations?|reply"
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
VALUE_KEYS = ("score", "value", "rating", "grade")
REASON_KEYS = ("reason", "rationale", "justification", "explanation", "comment")
"""Keys of an object that is one score with its rationale."""
