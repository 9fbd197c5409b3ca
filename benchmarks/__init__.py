"""One module or package per suite, each with `run(seed) -> Suite`; `report` holds what they share.

A suite that compares greenroom with others is a package, with one module per peer; what those need is the dependency
group `bench`, which is installed the first time. Run one with `python3 tasks.py bench SUITE [--seed N]`.
"""
