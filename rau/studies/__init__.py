"""Studies: many runs on one set of features, compared pair by pair."""
