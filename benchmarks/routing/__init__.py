"""What the router's suite is made of: the providers in a process of their own, bursts through several clients, cost.

The optimum of a burst: providers are token buckets of rate r that hold b and are full at first. While one is down it
loses r a second, but for the b that it holds when it is back. So N calls on P providers, of which the i-th is down for
D_i seconds, take at least

    (N - P b + sum(max(0, r D_i - b))) / (P r) + latency
"""
