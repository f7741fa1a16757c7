"""Damaged and odd inputs: every stage takes them, or says in one line what is wrong."""
