"""Requests to a server that speaks the OpenAI API: retries, and refusals that say what to mend; the
key is in no file, log or message.

Plain HTTP instead of the `openai` client, which takes half a reply, and one that the server says it
broke off, for an answer; gives up at once where Retry-After is over two minutes; waits in a sleep
that no interrupt ends; and sends the environment's OPENAI_API_KEY to whatever server is named.
"""

from __future__ import annotations

import logging
import os
import random
import re
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from ded.errors import EngineError, ModelError
from ded.models.spec import MENDS, parse
from ded.options import Engine

if TYPE_CHECKING:
    import httpx

TRIES = 6  # of a request
WAIT = 2.0  # seconds before the second try, doubled for each further one
LONGEST_RETRY_AFTER = 300.0  # seconds, the most that a server may ask for
# fields left out where the server refuses them
OPTIONAL = ("seed", "logprobs", "top_logprobs", "return_token_ids")
log = logging.getLogger("ded")
Answer = TypeVar("Answer")


class NoAnswer(EngineError):
    """What may go better at the next try, `after` seconds from now at the earliest."""

    after = 0.0


class Endpoint:
    """A model at the server that `engine.base_url` names, for any number of threads.

    Set `ended`, and no request is tried again. `counts` counts what a log may tell. ModelError
    where no base_url is set, or no key.
    """

    def __init__(self, model: str, engine: Engine) -> None:
        import httpx

        if not engine.base_url:
            mend = "set engine.base_url, such as 'http://localhost:8000/v1' for vllm serve"
            raise ModelError(f"model {model!r}: no endpoint is named; {mend}")
        if engine.thinking_budget:
            lack = "an endpoint closes no think block: engine.thinking_budget must be 0"
            raise ModelError(f"model {model!r}: {lack}, or the model's weights be sampled here")
        variable = engine.api_key_env
        key = os.environ.get(variable, "").strip()
        if variable and not re.fullmatch(r"[!-~]+", key):
            where = f"the environment variable {variable} (engine.api_key_env)"
            raise ModelError(f"model {model!r}: {where} holds no key; export it there")
        self.model, self.engine = model, engine
        self.ended, self.counts = threading.Event(), Counter[str]()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        timeout = httpx.Timeout(engine.timeout, connect=min(engine.timeout, 30))
        self.client = httpx.Client(
            base_url=engine.base_url, headers=headers, timeout=timeout, limits=httpx.Limits()
        )
        self._key = key
        self._names: dict[str, str] = {}  # what a field is called here; "": it is left out

    def close(self) -> None:
        """Ends the connections; not after an interrupt: what is under way may still come in."""
        self.client.close()

    def post(self, path: str, body: dict[str, Any], read: Callable[[Any], Answer]) -> Answer:
        """read(JSON of the reply to `body`); tried again after what may pass.

        What `read` raises of ValueError, LookupError, TypeError and AttributeError is a reply that
        is not whole. EngineError after what will not pass, or after TRIES.
        """
        tries = 1
        while True:
            try:
                return self._once(path, body, read)
            except NoAnswer as failure:
                pause = WAIT * 2 ** (tries - 1) + random.uniform(0, WAIT)
                if tries == TRIES or self.ended.wait(max(pause, failure.after)):
                    raise
            tries += 1
            self.counts["requests tried again"] += 1

    def _once(self, path: str, body: dict[str, Any], read: Callable[[Any], Answer]) -> Answer:
        names = self._names
        while True:
            sent = {names.get(name, name): value for name, value in body.items()}
            sent.pop("", None)
            reply = self._send(path, sent)
            refused = _refused(reply, sent)
            if not refused:
                break
            names = names | refused
        answer = self._read(reply, read)
        # only now: the refusal may have been of something else
        for name in names.keys() - self._names.keys():
            mend = f"{names[name]} is sent" if names[name] else "it is not sent"
            log.warning("%s: %s refuses %s, so %s", self.model, self.engine.base_url, name, mend)
        self._names = self._names | names
        return answer

    def _send(self, path: str, body: dict[str, Any]) -> httpx.Response:
        import httpx

        try:
            return self.client.post(path, json=body | {"model": parse(self.model).name})
        except httpx.HTTPError as error:
            how = f"({type(error).__name__}, tried {TRIES} times)"
            mend = "see its log, or raise engine.timeout"
            raise NoAnswer(f"{self.engine.base_url} does not answer {how}; {mend}") from None

    def _read(self, reply: httpx.Response, read: Callable[[Any], Answer]) -> Answer:
        import httpx

        status = reply.status_code
        if status == 200:
            with suppress(ValueError, LookupError, TypeError, AttributeError):
                return read(reply.json())
        message = self.refusal(reply)
        if status in (200, 408, 409, 429) or status >= 500:  # 200: half a reply
            failure = NoAnswer(f"{message} (tried {TRIES} times)")
            with suppress(ValueError):  # it may be a date
                seconds = float(reply.headers.get("retry-after", 0))
                failure.after = min(LONGEST_RETRY_AFTER, seconds)
            raise failure
        if status == 404:
            with suppress(httpx.HTTPError):
                if listed := served(self.client.get("models")):
                    message += f"; it serves {', '.join(listed[:20])}"
        raise EngineError(message)

    def refusal(self, reply: httpx.Response) -> str:
        """What a reply says, without the key that it may quote, and the mend."""
        status, variable = reply.status_code, self.engine.api_key_env
        text = reply.text.replace(self._key, "***") if self._key else reply.text
        mend = MENDS["endpoint"].get(status, "see its log").format(variable)
        if status in (401, 403) and not variable:
            mend = "name the environment variable that holds its key in engine.api_key_env"
        text = " ".join(text.split())[:300]
        return f"{self.engine.base_url} answers HTTP {status}: {text!r}; {mend}"


def check(model: str, engine: Engine) -> None:
    """ModelError, with the mend, where there is no base_url or key, no server answers, it refuses
    the key, or lists other models."""
    import httpx

    try:
        server = Endpoint(model, engine)
        server.client.timeout = httpx.Timeout(min(engine.timeout, 30))
        reply = server.client.get("models")
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        silent = f"nothing answers at {engine.base_url} ({type(error).__name__})"
        mend = "start the server, or correct engine.base_url"
        raise ModelError(f"model {model!r}: {silent}; {mend}") from None
    with closing(server):
        if reply.status_code in (401, 403):
            raise ModelError(f"model {model!r}: {server.refusal(reply)}")
        name, listed = parse(model).name, served(reply)
        if listed and not any(_is_called(entry, name) for entry in listed):
            serves = f"serves no model of this name; it serves {', '.join(listed[:20])}"
            raise ModelError(f"model {model!r}: {engine.base_url} {serves}")
        if listed:
            return
        # Some servers list nothing: an empty question, which they turn down, tells whether the
        # path is theirs.
        with suppress(httpx.HTTPError):
            body = {"model": name, "messages": [], "max_tokens": 1}
            reply = server.client.post("chat/completions", json=body)
        if reply.is_redirect or reply.status_code in (401, 403, 404, 405, 502, 503, 504):
            raise ModelError(f"model {model!r}: {server.refusal(reply)}")


def served(reply: httpx.Response) -> list[str]:
    """The models that a server lists, [] where the reply is no list of them."""
    with suppress(ValueError, LookupError, TypeError):
        return sorted(entry["id"] for entry in reply.json()["data"])
    return []


def _refused(reply: httpx.Response, sent: dict[str, Any]) -> dict[str, str]:
    """{field: what it is called here, or "" where it is to be left out} that a refusal is about."""
    if reply.status_code not in (400, 403, 422):
        return {}
    if "max_completion_tokens" in reply.text and "max_tokens" in sent:
        return {"max_tokens": "max_completion_tokens"}
    optional = [name for name in OPTIONAL if name in sent]
    named = [name for name in optional if name in reply.text]
    if not named and reply.status_code != 403:  # it names nothing: all that is optional goes
        named = optional
    return dict.fromkeys(named, "")


def _is_called(listed: str, name: str) -> bool:
    """Whether a server's own name of a model is that of a spec; gateways know <model>:<variant>."""
    names = (name, name.partition(":")[0], f"{name}:latest")
    return listed in names or listed.endswith(f"/{name}")
