"""One module per suite, each with `run(seed) -> Suite`; `report` holds what they share.

Run one with `python3 tasks.py bench SUITE [--seed N]`.
"""
