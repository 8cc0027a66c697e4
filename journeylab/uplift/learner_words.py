"""What learners are called where people read of them."""

_WORDS = {
    "selected": "selected by the rule",
    "forecast": "forecast chosen on others",
    "random": "by chance",
    "s": "one model for all arms (S)",
    "t": "a model per arm (T)",
    "x": "imputed differences (X)",
    "r": "residuals (R)",
    "dr": "doubly robust scores (DR)",
    "pooled": "linear, arms pooled",
    "forest": "honest causal forest",
    "average": "average of learners",
    "response": "who buys anyway",
    "flat": "the same for all (flat)",
}


def learner_words(learner: str) -> str:
    """What a learner is called on a page; its own name if it has no other."""
    return _WORDS.get(learner, learner)
