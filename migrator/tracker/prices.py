"""What a call costs: a table of prices by model, which a user can replace."""

from __future__ import annotations

import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

from migrator.errors import OptionError
from migrator.tracker.usage import Usage

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib

# The usual prices, as shares of a model's input price, where its own are not known: most models in
# LiteLLM's table have these (1.109.1).
CACHE_READ_SHARE, CACHE_WRITE_SHARE, CACHE_WRITE_1H_SHARE = 0.1, 1.25, 2.0
# Keys of a price: ours, for a million tokens, and LiteLLM's, for one token.
INPUT, OUTPUT = "input", "output"
LITELLM_KEYS = {
    INPUT: "input_cost_per_token",
    OUTPUT: "output_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
    "reasoning": "output_cost_per_reasoning_token",
}
MILLION = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens of one model, by kind, and who sells it."""

    provider: str
    input_usd: float
    output_usd: float
    cache_read_usd: float
    cache_write_usd: float
    cache_write_1h_usd: float
    reasoning_usd: float

    def cost(self, usage: Usage) -> Cost:
        """Price the tokens of a call."""
        plain_input = usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens
        of_input = (
            plain_input * self.input_usd
            + usage.cache_read_tokens * self.cache_read_usd
            + (usage.cache_write_tokens - usage.cache_write_1h_tokens) * self.cache_write_usd
            + usage.cache_write_1h_tokens * self.cache_write_1h_usd
        )
        of_output = (
            usage.output_tokens - usage.reasoning_tokens
        ) * self.output_usd + usage.reasoning_tokens * self.reasoning_usd
        return Cost(of_input / MILLION, of_output / MILLION)


@dataclass(frozen=True, slots=True)
class Cost:
    """US dollars of one or more calls."""

    input_usd: float
    output_usd: float

    @property
    def total_usd(self) -> float:
        """Input and output together."""
        return self.input_usd + self.output_usd


# What may follow a model's name and leave it the same model: a date, a release, an alias, Bedrock's
# version. Not "-mini", "-pro", "-audio-preview", nor the "-5" of a next model.
_VERSION = re.compile(
    r"(?:[-@]\d{8}|-\d{4}-\d\d-\d\d|-\d{3,4}|-latest|@latest|-preview(?:-\d\d-\d\d|-\d\d-\d{4})?)?"
    r"(?:-v\d+)?(?::.*)?$"
)
# "us.anthropic.claude-3-haiku-20240307-v1:0", "models/gemini-1.5-pro", "openai/gpt-4o"
_VENDOR = re.compile(r"^(?:.*/)?(?:(?:[a-z]{2,6}\.)?(?:anthropic|mistral|deepseek)\.)?")


class PriceTable:
    """Prices by model. A name stands for its dated versions, too, but for no other model."""

    def __init__(self, prices: Mapping[str, Price], source: str) -> None:
        self.source = source  # where the prices are from, and of when, as far as that is known
        self._prices = dict(prices)
        self._by_length = sorted(prices, key=len, reverse=True)
        self._found: dict[str, Price | None] = {}

    def price(self, model: str) -> Price | None:
        """Look up the price of ``model``; None for one that the table doesn't know."""
        if model not in self._found:
            if len(self._found) > 10_000:  # names that are made up on the fly
                self._found.clear()
            self._found[model] = self._search(model.strip().lower())
        return self._found[model]

    def _search(self, model: str) -> Price | None:
        if model in self._prices:
            return self._prices[model]
        name = _VENDOR.sub("", model, count=1)
        for known in self._by_length:
            if name.startswith(known) and _VERSION.match(name, len(known)):
                return self._prices[known]
        return None

    def cost(self, model: str, usage: Usage) -> Cost | None:
        """Price a call of ``model``; None where there is no price."""
        price = self.price(model)
        return None if price is None else price.cost(usage)


def load_prices(path: str | None = None) -> PriceTable:
    """Load the table in the file ``path``, or the built-in one.

    A TOML file has a table for each provider and in it, by model, ``{ input = ..., output = ... }``
    in US dollars for a million tokens, and ``cache_read``, ``cache_write``, ``cache_write_1h`` and
    ``reasoning`` where they are known; a ``date`` above says of when they are. A file ``*.json`` is
    LiteLLM's ``model_prices_and_context_window.json``. Raises ``OptionError`` for anything else.
    """
    if path is None:
        return _built_in()
    text = _text(path)
    return _of_litellm(text, path) if path.lower().endswith(".json") else _of_toml(text, path)


@lru_cache(maxsize=1)
def _built_in() -> PriceTable:
    text = resources.files(__package__).joinpath("prices.toml").read_text(encoding="utf-8")
    return _of_toml(text, "the built-in table")


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"The price table {path} can't be read: {error}.") from error


def _of_toml(text: str, where: str) -> PriceTable:
    try:
        content: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise OptionError(f"The price table {where} is not TOML: {error}.") from error
    date = content.pop("date", None)
    prices: dict[str, Price] = {}
    for provider, models in content.items():
        if not isinstance(models, dict):
            raise OptionError(f"{provider!r} in {where} is not a table of a provider's models.")
        for model, price in models.items():
            prices[model.lower()] = _price(provider, price, f"{provider}.{model} in {where}")
    return PriceTable(prices, where if date is None else f"{where} of {date}")


def _of_litellm(text: str, where: str) -> PriceTable:
    """Read LiteLLM's table: by model, dollars for one token; other units are left out."""
    try:
        content = json.loads(text)
    except ValueError as error:
        raise OptionError(f"The price table {where} is not JSON: {error}.") from error
    if not isinstance(content, dict):
        raise OptionError(f"The price table {where} holds no models.")
    prices: dict[str, Price] = {}
    for model, entry in content.items():
        if model == "sample_spec" or not isinstance(entry, dict):
            continue
        if entry.get(LITELLM_KEYS[INPUT]) is None:  # priced by image, second or page
            continue
        rates = {
            key: _for_a_million(entry[its])
            for key, its in LITELLM_KEYS.items()
            if entry.get(its) is not None
        }
        rates.setdefault(OUTPUT, 0.0)  # embeddings have none
        provider = _seller(str(entry.get("litellm_provider") or "unknown"))
        prices[model.lower()] = _price(provider, rates, f"{model!r} in {where}")
    if not prices:
        raise OptionError(
            f"The price table {where} holds no prices.",
            todo="Give LiteLLM's model_prices_and_context_window.json, or a TOML file.",
        )
    return PriceTable(prices, where)


def _seller(litellm_provider: str) -> str:
    """Take off the family of models: LiteLLM has ``vertex_ai-language-models`` and the like."""
    return "vertex_ai" if litellm_provider.startswith("vertex_ai-") else litellm_provider


def _for_a_million(dollars: Any) -> Any:
    """Convert a price for one token; what is not a number is refused later."""
    if isinstance(dollars, bool):
        return dollars
    try:
        return float(dollars) * MILLION
    except (TypeError, ValueError):
        return dollars


def _price(provider: str, rates: Any, where: str) -> Price:
    """Read one price; rates of kinds that it leaves out get the usual share of its input's."""
    if not isinstance(rates, dict):
        raise _unusable(rates, where)
    unknown = sorted(rates.keys() - LITELLM_KEYS.keys())
    if unknown:
        raise OptionError(
            f"{where} has the unknown key {unknown[0]!r}.",
            todo=f"Known are {', '.join(LITELLM_KEYS)}.",
        )
    try:
        dollars = {key: _dollars(value) for key, value in rates.items()}
        given, got = dollars[INPUT], dollars[OUTPUT]
    except (KeyError, TypeError, ValueError) as error:
        raise _unusable(rates, where) from error
    return Price(
        provider,
        given,
        got,
        cache_read_usd=dollars.get("cache_read", given * CACHE_READ_SHARE),
        cache_write_usd=dollars.get("cache_write", given * CACHE_WRITE_SHARE),
        cache_write_1h_usd=dollars.get("cache_write_1h", given * CACHE_WRITE_1H_SHARE),
        reasoning_usd=dollars.get("reasoning", got),
    )


def _unusable(rates: Any, where: str) -> OptionError:
    return OptionError(
        f"{where} is {rates!r}.",
        todo="Give { input = ..., output = ... }, dollars for a million tokens.",
    )


def _dollars(value: Any) -> float:
    """Read a price. Raises ``ValueError`` for one that is negative, infinite or not a number."""
    dollars = float(value)
    if isinstance(value, bool) or not math.isfinite(dollars) or dollars < 0:
        raise ValueError(f"{value!r} is not a price")
    return dollars
