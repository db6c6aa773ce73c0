"""Whether a switchback's p-value is the one that drawing its arms anew gives.

The regression's p-value rests on blocks of slices that are alike and independent; how the arms were
drawn is known for sure. See Bojinov, Simchi-Levi & Zhao 2023, "Design and Analysis of Switchback
Experiments", section 4.2, on exact inference.
"""

from __future__ import annotations

from offline.analysis.model import Finding
from offline.analysis.wording import p_value as as_text
from offline.analysis.wording import readable

CHECK = "randomisation"


def check_randomisation(
    metric: str, variant: str, drawn_p: float | None, p_value: float | None, alpha: float
) -> Finding:
    """The finding of ``drawn_p``, by arms drawn anew, beside the estimator's ``p_value``; each None
    where there is none. A notice where one of the two alone is at most ``alpha``."""
    subject = f"{metric}, {variant}"
    if drawn_p is None or p_value is None:
        return Finding(CHECK, "not_checked", "Too few slices to draw their arms anew.", subject)
    seen = (
        f"Slices whose arms are drawn anew differ as much in {readable(metric)} with"
        f" p = {as_text(drawn_p)}; the estimator says p = {as_text(p_value)}"
    )
    if (drawn_p <= alpha) != (p_value <= alpha):
        text = f"{seen}. Only one of them shows a difference: take it for none."
        return Finding(CHECK, "notice", text, subject, drawn_p)
    return Finding(CHECK, "ok", f"{seen}.", subject, drawn_p)
