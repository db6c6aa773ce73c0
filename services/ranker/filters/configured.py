"""The rules behind a surface's configured filters."""

from __future__ import annotations

from collections.abc import Sequence

from services.common.domain_filters import Filter as FilterConfig
from services.common.durations import duration_ms
from services.ranker.filters import by_request, rules


def rules_of(config: FilterConfig) -> Sequence[rules.Filter]:
    """What one entry of ``filters`` asks: a rule, or one for each of its flags."""
    match config.kind:
        case "require":
            return [rules.Require(config.attribute)]
        case "exclude":
            return [rules.Exclude(flag) for flag in config.flags]
        case "positive":
            return [rules.Positive(config.attribute)]
        case "open_window":
            return [rules.OpenWindow(config.opens, config.closes)]
        case "live_or_starting":
            within_ms = duration_ms(config.within)
            return [rules.LiveOrStarting(config.live, config.starts, within_ms, config.heard)]
        case "heard_within":
            return [rules.HeardWithin(config.attribute, duration_ms(config.within))]
        case "language":
            keep_missing = config.missing == "keep"
            return [by_request.Language(config.attribute, config.feature, keep_missing)]
        case "region":
            return [by_request.Region(config.attribute, config.missing == "keep")]
        case "age":
            return [by_request.Age(config.attribute, config.context, config.feature)]
        case "price_cap":
            return [
                by_request.PriceCap(
                    attribute=config.attribute,
                    most=config.most,
                    context=config.context,
                    feature=config.feature,
                    keep_missing=config.missing == "keep",
                )
            ]
        case "prerequisites":
            return [by_request.Prerequisites(config.attribute, config.feature)]
        case "not_in_list":
            return [rules.NotInList(config.feature, config.attribute)]
        case "seen":
            return [rules.Seen(config.feature, config.attribute, config.times)]
