"""Engines that find the nearest vectors: exact, and LanceDB's approximate indexes."""
