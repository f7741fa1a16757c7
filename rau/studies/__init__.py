"""Studies: many runs on one set of features, compared in pairs over seeds."""
