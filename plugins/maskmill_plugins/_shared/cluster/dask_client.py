"""What the `dask` engine does with Dask's client: reaching a scheduler, asking it, and silencing its loggers."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from maskmill.errors import PluginError, Problem

#: Seconds that a scheduler, or a worker that holds an answer, may take.
ANSWER = 10.0


def open_client(target: Any, seconds: float = ANSWER) -> Any:
    """A client of a scheduler.

    Raises:
        PluginError: it does not answer.
    """
    import distributed

    try:
        return distributed.Client(target, timeout=seconds, set_as_default=False)
    except Exception as error:
        hint = "start one with: dask scheduler; the address stands in its first lines"
        raise PluginError(Problem(f"no Dask scheduler answers at {target}: {_describe(error)}", hint=hint)) from error


def ask_workers(client: Any, tasks: Iterable[Any]) -> Mapping[str, Any] | None:
    """What the scheduler knows about each worker, by address; None if there is no answer yet.

    Args:
        client: of the scheduler.
        tasks: some that it has; it forgets them with the connection, also if the client finds it again at once.

    Raises:
        ConnectionError: the connection was lost.
    """
    if client.status != "running" or any(task.status == "cancelled" for task in tasks):
        raise ConnectionError(f"the client is {client.status}")
    answers: list[Any] = []
    thread = threading.Thread(target=_ask, args=(client, answers), daemon=True)
    thread.start()
    thread.join(ANSWER)
    if answers and isinstance(answers[0], Exception):
        raise ConnectionError(str(answers[0])) from answers[0]
    return answers[0] if answers else None


def _ask(client: Any, answers: list[Any]) -> None:
    try:
        answers.append(client.scheduler_info(n_workers=-1)["workers"])
    except Exception as error:
        answers.append(error)


def leave(client: Any) -> None:
    """Close a client whose scheduler may not answer, without waiting for it."""
    threading.Thread(target=_close, args=(client,), daemon=True).start()


def _close(client: Any) -> None:
    with contextlib.suppress(Exception):
        client.close(timeout=ANSWER)


def fetch(future: Any) -> Any:
    """The result of a task that has ended, or the exception; called in the client's threads, since it may take long."""
    try:
        return future.result(timeout=ANSWER)
    except Exception as error:
        return error


def be_quiet() -> dict[str, int]:
    """Have Dask's own loggers say nothing, since the run says what happens to workers; returns how they were."""
    names = ["distributed", *(name for name in logging.root.manager.loggerDict if name.startswith("distributed."))]
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL + 10)
    logging.getLogger("asyncio").addFilter(_is_no_noise)
    return before


def be_loud(levels: dict[str, int]) -> None:
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.getLogger("asyncio").removeFilter(_is_no_noise)


def _is_no_noise(record: logging.LogRecord) -> bool:
    """Not what Dask's client leaves behind when a result is not waited for any more."""
    return not (record.exc_info and record.exc_info[0] is not None and record.exc_info[0].__name__ == "AllExit")


def require_maskmill(error: Exception, where: str) -> None:
    """Explain a worker that cannot import our functions."""
    if isinstance(error, ImportError):
        hint = 'install the same maskmill there, and what the pipeline needs: pip install "maskmill[dask]"'
        raise PluginError(Problem(f"the Dask worker {where} cannot run maskmill: {error}", hint=hint)) from error


def _describe(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
