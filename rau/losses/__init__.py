"""Losses on tensors: InfoNCE, the terms of RAU, MUR."""
