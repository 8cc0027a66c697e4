"""The columns of a churn frame that are no covariates."""

OUTCOME = ("duration", "event", "cause", "entry")
CUTS = ("landmark", "followed_until")
IDS = ("customer_id", "household_id", "group_id", "staff_id", "store_id")
# What says who, when and how it ended; every other column is something known on the landmark day.
RESERVED = (*CUTS, *IDS, *OUTCOME)
