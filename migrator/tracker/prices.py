"""What a call costs: a table of prices by model, which a user can replace."""

from __future__ import annotations

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

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover
    import tomli as tomllib


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars for a million tokens of one model, and who sells it."""

    provider: str
    input_usd: float
    output_usd: float


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

    def __init__(self, prices: Mapping[str, Price]) -> None:
        self._prices = dict(prices)
        self._by_length = sorted(prices, key=len, reverse=True)
        self._found: dict[str, Price | None] = {}

    def price(self, model: str) -> Price | None:
        """Look up the price of ``model``; None for one that the table doesn't know."""
        if model not in self._found:
            if len(self._found) > 10_000:  # names that are made up on the fly
                self._found.clear()
            name = _VENDOR.sub("", model.strip().lower(), count=1)
            self._found[model] = next(
                (
                    self._prices[known]
                    for known in self._by_length
                    if name.startswith(known) and _VERSION.match(name, len(known))
                ),
                None,
            )
        return self._found[model]

    def cost(self, model: str, input_tokens: int, output_tokens: int) -> Cost | None:
        """Price a call of ``model``; None where there is no price."""
        price = self.price(model)
        if price is None:
            return None
        return Cost(
            input_tokens * price.input_usd / 1_000_000,
            output_tokens * price.output_usd / 1_000_000,
        )


def load_prices(path: str | None = None) -> PriceTable:
    """Load the table in the TOML file ``path``, or the built-in one.

    The file has a table for each provider and in it, by model, ``{ input = ..., output = ... }``
    in US dollars for a million tokens. Raises ``OptionError`` where it doesn't.
    """
    return _built_in() if path is None else _table(_text(path), path)


@lru_cache(maxsize=1)
def _built_in() -> PriceTable:
    text = resources.files(__package__).joinpath("prices.toml").read_text(encoding="utf-8")
    return _table(text, "prices.toml")


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise OptionError(f"The price table {path} can't be read: {error}.") from error


def _table(text: str, where: str) -> PriceTable:
    try:
        content: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise OptionError(f"The price table {where} is not TOML: {error}.") from error
    prices: dict[str, Price] = {}
    for provider, models in content.items():
        if not isinstance(models, dict):
            raise OptionError(f"{provider!r} in {where} is not a table of a provider's models.")
        for model, price in models.items():
            try:
                found = Price(provider, _dollars(price["input"]), _dollars(price["output"]))
            except (KeyError, TypeError, ValueError) as error:
                raise OptionError(
                    f"{provider}.{model} in {where} is {price!r}.",
                    todo="Give { input = ..., output = ... }, dollars for a million tokens.",
                ) from error
            prices[model.lower()] = found
    return PriceTable(prices)


def _dollars(value: Any) -> float:
    """Read a price. Raises ``ValueError`` for one that is negative, infinite or not a number."""
    dollars = float(value)
    if isinstance(value, bool) or not math.isfinite(dollars) or dollars < 0:
        raise ValueError(f"{value!r} is not a price")
    return dollars
