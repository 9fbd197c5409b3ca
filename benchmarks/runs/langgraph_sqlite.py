"""LangGraph with its AsyncSqliteSaver, under the load: `python -m benchmarks.runs.langgraph_sqlite FILE ROUNDS`.

`durability="sync"`: a step's result is written before the next step begins, as everywhere in this suite.
"""

from __future__ import annotations

import asyncio
import sys
import time
from typing import Any, TypedDict

from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph

from .load import PAYLOAD, STEPS, began, gaps, loaded, report

times: list[float] = []


class State(TypedDict):
    """What goes from step to step."""

    name: str
    n: int
    result: str


async def step(state: State) -> dict[str, Any]:
    """Note the time."""
    if state["n"] == 0:
        began.setdefault(state["name"], time.perf_counter())
    if state["name"] == "sequence":
        times.append(time.perf_counter())
    return {"n": state["n"] + 1, "result": PAYLOAD}


async def main(file: str, rounds: int) -> None:
    """Measure."""
    async with AsyncSqliteSaver.from_conn_string(file) as saver:

        async def run(name: str, thread: str, count: int) -> object:
            def again(state: State) -> str:
                return "step" if state["n"] < count else END

            graph = StateGraph(State)
            graph.add_node("step", step)
            graph.add_edge(START, "step")
            graph.add_conditional_edges("step", again, ["step", END])
            compiled = graph.compile(checkpointer=saver)
            config = {"configurable": {"thread_id": thread}, "recursion_limit": count + 5}
            return await compiled.ainvoke({"name": name, "n": 0, "result": ""}, config, durability="sync")

        async def flow(name: str) -> object:
            return await run(name, name, STEPS)

        async def steps(count: int) -> list[float]:
            times.clear()
            await run("sequence", f"sequence-{time.perf_counter()}", count)
            return gaps(times)

        report(await loaded(flow, steps, rounds))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
