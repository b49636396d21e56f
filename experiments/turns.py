"""Processes that take turns, so that each is measured alone and all under the same conditions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any


class Failed(Exception):
    """A contestant did not get through; the message says why."""


class Worker:
    """A fresh process of an experiment's module, which computes when it is asked and rests while others compute."""

    def __init__(self, module: str):
        self.errors, self.gone = tempfile.TemporaryFile("w+"), ""
        self.turn = threading.Lock()
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, "--worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True,
            cwd=Path(__file__).resolve().parents[1],
        )  # fmt: skip

    def ask(self, task: str, *, limit: float = 60.0, **arguments: Any) -> Any:
        """What a task answers.

        Raises:
            Failed: It raised, or took longer than the limit in seconds and was ended.
        """
        with self.turn:
            return self._ask(task, limit, arguments)

    def _ask(self, task, limit, arguments):
        if self.process.poll() is not None:
            why = self.gone or f"the process ended ({self._last_words()})"
            raise Failed(f"not tried; before, {why}")
        timer = threading.Timer(limit, self.process.kill)
        timer.start()
        began = time.perf_counter()
        try:
            self.process.stdin.write(json.dumps([task, arguments]) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            timer.cancel()
        if not line:
            self.process.wait()
            late = time.perf_counter() - began >= limit
            self.gone = f"cut off after {limit:g} s" if late else f"the process ended ({self._last_words()})"
            raise Failed(self.gone)
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer["answer"]

    def _last_words(self) -> str:
        self.errors.seek(0)
        return (self.errors.read().strip().splitlines() or ["no message"])[-1][:300]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()


def serve(tasks: dict[str, Callable]) -> None:
    """A worker's side: answer until the other end is closed. What libraries print goes to the standard error."""
    reply = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        task, arguments = json.loads(line)
        try:
            answer = {"answer": tasks[task](**arguments)}
        except Exception as error:  # whatever it was, its place is in the table
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=reply, flush=True)


def timed(function: Callable, calls: int) -> float:
    """Seconds a call, over a block of calls."""
    began = time.perf_counter()
    for _ in range(calls):
        function()
    return (time.perf_counter() - began) / calls


def together(tasks: dict[Any, Callable[[], Any]]) -> tuple[dict, dict]:
    """Run what is not timed, such as compiling, two at a time; answers and what went wrong, by label."""
    answers, errors = {}, {}
    with ThreadPoolExecutor(2) as pool:
        running = {label: pool.submit(task) for label, task in tasks.items()}
        for label, future in running.items():
            try:
                answers[label] = future.result()
            except Failed as error:
                errors[label] = str(error)
    return answers, errors


def alternate(contestants: dict[Any, Callable[[], float]], rounds: int, budget: float) -> tuple[dict, dict]:
    """Blocks of all contestants in turn, in an order that moves on by one each round.

    Args:
        contestants: By label, a function that runs a block and returns seconds a call.
        rounds: Blocks of each.
        budget: Seconds after which a contestant takes part in no further round; it always has one block.

    Returns:
        Seconds a call of every block, and what went wrong, by label.
    """
    found: dict[Any, list[float]] = {label: [] for label in contestants}
    spent, errors = dict.fromkeys(contestants, 0.0), {}
    order = list(contestants)
    for k in range(rounds if order else 0):
        for label in order[k % len(order) :] + order[: k % len(order)]:
            if label in errors or spent[label] > budget:
                continue
            began = time.perf_counter()
            try:
                found[label].append(contestants[label]())
            except Failed as error:
                errors[label] = str(error)
            spent[label] += time.perf_counter() - began
    return found, errors
