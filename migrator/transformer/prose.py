"""What a logged text is: a question, a request, prose, a few terms, or code and data."""

from __future__ import annotations

import re
from enum import IntEnum
from functools import lru_cache

from migrator.transformer.values import as_number, words


class Prose(IntEnum):
    """Kinds of texts, by how surely a person or a language model wrote them for the other."""

    NOTHING = 0  # empty, a number, a path, an address, SQL, code or serialized data
    WORD = 1  # one word
    TERMS = 2  # a few words without grammar: search terms, a title, a name
    PROSE = 3  # sentences
    REQUEST = 4  # it asks for something


LEAST_PROSE_WORDS = 6  # so many words are taken for a sentence in any language
LEAST_PROSE_SIGNS = 10  # and so many characters of a script that writes no spaces
MOST_CHARS = 4_000  # of a long text, so much is looked at

_SQL = re.compile(
    r"(?is)^\s*(select\b.+\bfrom\b|with\s+\w+\s+as\s*\(|insert\s+into\b|update\s+\S+\s+set\b"
    r"|delete\s+from\b"
    r"|(create|drop|alter)\s+(table|view|index|database)\b|(match|merge)\s*\(|pragma\b)"
)
_SQL_MARKS = re.compile(r"[*;=()]|\b(SELECT|FROM|WHERE|JOIN)\b|\b\w+\.\w+\b|\s\w+,\s*\w+\s+from\b")
_ADDRESS = re.compile(  # "CI/CD" is none
    r"^(?![A-Z]{1,5}(/[A-Z]{1,5})+$)"
    r"(\w+://\S*|[A-Za-z]:\\\S*|[\w.~-]*/[\w./~-]*|\S+\.\w{1,5})$"
)
_DATA = re.compile(r"^\s*([\[{<(]|[\w.-]+\s*[=:]\s*\S+$|(def|class|import|from \w+ import)\b)")
_ASKS_AT_END = re.compile(r"([?？؟]|[\u0370-\u03ff][;\u037e])\s*[\"')\]]*$")
_ASKS_POLITELY = re.compile(r"(ください|下さい|お願いします|주세요|吗|呢)[。.!！]*$|^请")
LEAST_GIVEN_WORDS = 4  # so many words after a colon are the text that was spoken of
_BLANK = re.compile(r"\{[^{}\n]{0,40}\}|<[a-zA-Z_ ]{2,30}>|\[[A-Z][A-Z_ ]+\]|%s|\$\w+|###|___")
_ROLE = re.compile(
    r"(?i)\b(you are an?|you're an?|you will|your (task|job|role|goal)|act as|step[- ]by[- ]step"
    r"|du bist|sie sind ein|eres un|tu es un|vous êtes|você é|sei un|je bent een)\b"
    r"|你是|あなたは|ты —|вы —|당신은"
)
_ABSENT = re.compile(
    r"(?i)\b(the|this|that|each|every|any|given|following|provided|below|above|user'?s)\s+"
    r"((given|following|provided|user'?s?|input|original|whole|entire)\s+)?"
    r"(question|quer(y|ies)|text|context|user|input|sentence|review|passage|document|article"
    r"|conversation|dialogue|answer|response|message|image|code|statement|paragraph|email|content"
    r"|information|problem|task|request|ticket|transcript|instruction|prompt|example|options?"
    r"|report|paper|chapter|story|resume|data)s?\b"
    r"|\b(des nutzers|der nutzer|den text|folgende\w*|al usuario|del usuario|siguiente\w*"
    r"|l'utilisateur|suivante?s?|do usuário|seguinte|dell'utente|seguente)\b|以下|用户|ユーザー"
)
_OF_ABSENT = re.compile(  # what is asked to do so does not say with what
    r"(?i)(answer|respond|reply|classify|extract|rate|grade|score|evaluate|return|use|be|always"
    r"|never|do not|don't)\b"
)
_LATIN = re.compile(r"[A-Za-z]{3}")
_NO_SPACES = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\u0e00-\u0e7f]")

_QUESTION_WORDS = words(
    "what whats what's who whom whose when where why how which can could would should will do does "
    "did is are was were am has have may might "
    "was wer wie wo wann warum welche welcher welches kann können ist sind "
    "qué que quién cuál cuáles cuándo dónde cómo cuánto cuántos por puedes es son "
    "quoi qui quel quelle quels quelles quand où comment pourquoi combien est-ce "
    "peux-tu pouvez-vous "
    "o quem qual quais quando onde como quanto quantos cosa chi quale dove perché come"
)
_VERBS_OF_REQUESTS = words(
    "explain describe write give tell show list find summarize summarise compare translate create "
    "generate make help analyze analyse calculate compute suggest recommend provide draft plan "
    "build design define discuss outline identify classify extract rewrite answer solve convert "
    "evaluate review improve fix implement get fetch count return please i i'm i'd my we let's "
    "erkläre schreibe zeige nenne fasse explica escribe dame muestra resume explique écris donne "
    "montre résume escreva mostre liste spiega scrivi"
)
_FUNCTION_WORDS = words(
    "the a an of to in for on with and or is are was by from as at that this it be my your me you "
    "i "
    "der die das und ein eine zu im mit von für el la los las de del y un una en con para por le "
    "les "
    "des et du au dans pour o os as e do da em um uma il lo gli di che per"
)


@lru_cache(maxsize=10_000)
def kind_of_text(text: str) -> Prose:
    """Judge a text by its form."""
    text = text[:MOST_CHARS].strip()
    if not text or as_number(text) is not None or _is_code(text):
        return Prose.NOTHING
    parts = text.casefold().split()
    if len(_NO_SPACES.findall(text)) >= LEAST_PROSE_SIGNS / 2:
        is_long = len(text) >= LEAST_PROSE_SIGNS
        if _ASKS_AT_END.search(text) or _ASKS_POLITELY.search(text):
            return Prose.REQUEST
        if is_long:
            return Prose.PROSE
        return Prose.TERMS
    if len(parts) == 1:
        return Prose.WORD
    is_asking = _ASKS_AT_END.search(text) is not None
    begins_so = parts[0].strip(",.:!¿¡\"'") in (_QUESTION_WORDS | _VERBS_OF_REQUESTS)
    if is_asking or (begins_so and len(parts) >= 3):
        return Prose.REQUEST
    grammar = sum(part.strip(",.:!\"'") in _FUNCTION_WORDS for part in parts)
    if len(parts) >= LEAST_PROSE_WORDS and (grammar or not text.isascii()):
        return Prose.PROSE
    if len(parts) >= 3 and text[-1] in ".!。":
        is_sentence = len(parts) >= 4 and text[0].isupper()  # in any language
        return Prose.PROSE if grammar or is_sentence else Prose.TERMS
    return Prose.TERMS


def is_one_request(text: str) -> bool:
    """Whether a prompt asks for one thing, and does not wait for texts to be put in.

    A prompt that serves many questions has blanks, gives the model a role, or speaks of a text or a
    user that it does not hold.
    """
    text = text[:MOST_CHARS].strip()
    if asks(text):
        return _BLANK.search(text) is None
    kind = kind_of_text(text)
    is_foreign = kind is Prose.PROSE and not has_latin_word(text)
    if kind is not Prose.REQUEST and not is_foreign:
        return False
    if _BLANK.search(text) is not None or _ROLE.search(text) is not None:
        return False
    absent = _ABSENT.search(text) or _OF_ABSENT.match(text)
    return absent is None or _is_given(text[absent.end() :])


def _is_given(rest: str) -> bool:
    """Whether a text that a prompt speaks of follows, after a colon or on a new line."""
    _, mark, given = rest.partition(":")
    if not mark:
        _, mark, given = rest.partition("\n")
    return bool(mark) and len(given.split()) >= LEAST_GIVEN_WORDS


def asks(text: str) -> bool:
    """Whether a text ends in a question mark of any script."""
    return _ASKS_AT_END.search(text[-20:].rstrip()) is not None


def has_latin_word(text: str) -> bool:
    """Whether a text has a word of the Latin alphabet."""
    return _LATIN.search(text) is not None


def _is_code(text: str) -> bool:
    return _ADDRESS.match(text) is not None or _DATA.match(text) is not None or is_statement(text)


def is_statement(text: str) -> bool:
    """Whether a text is a statement in SQL or Cypher."""
    text = text[:MOST_CHARS]
    return _SQL.match(text) is not None and _SQL_MARKS.search(text) is not None
