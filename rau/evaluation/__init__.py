"""Every method under every protocol: statistics, diagnostics, comparison, submissions."""
