"""What the router's suite is made of. Every figure is taken in a process of its own, with a time that it may take.

`bursts` are calls within a second through one client after another (`clients`, `litellm_peer`), `cost` is processor
time and calls a second, `gateways` is what a gateway adds. `providers` are both providers in a process of their own,
`bare` is one that answers without thinking, `peers` sets up what greenroom is compared with, `plots` draws a burst.

The optimum of a burst: providers are token buckets of rate r that hold b and are full at first. While one is down it
loses r a second, but for the b that it holds when it is back. So N calls on P providers, of which the i-th is down for
D_i seconds, take at least

    (N - P b + sum(max(0, r D_i - b))) / (P r) + latency
"""
