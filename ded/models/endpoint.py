"""Requests to a server that speaks the OpenAI API: retries, and refusals that say what to mend; the key is in no file, log or message."""

from __future__ import annotations

import logging
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from ded.errors import EngineError, ModelError
from ded.models.spec import parse

if TYPE_CHECKING:
    from ded.options import Engine

TRIES, WAIT, LONGEST = (
    6,
    2.0,
    300.0,
)  # of a request; seconds before the second try, doubled for each; the most of a Retry-After
OPTIONAL = (
    "seed",
    "logprobs",
    "top_logprobs",
    "return_token_ids",
)  # fields left out where the server refuses them
log = logging.getLogger("ded")


class NoAnswer(EngineError):
    """What may go better at the next try, `after` seconds from now at the earliest."""

    after = 0.0


@contextmanager
def connect(
    model: str, engine: Engine, ended: threading.Event, counts: Counter
) -> Iterator[Callable[[str, dict, Callable[[dict], Any]], Any]]:
    """post(path, body, read) -> read(JSON of the reply), for any thread; tried again after what may pass, until `ended` is set.

    EngineError after what will not pass, or after TRIES; ModelError where no base_url is set, or no key.
    """
    import httpx
    from tenacity import (
        Retrying,
        retry_if_exception_type,
        sleep_using_event,
        stop_after_attempt,
        stop_when_event_set,
        wait_exponential_jitter,
    )

    timeout = httpx.Timeout(engine.timeout, connect=min(engine.timeout, 30))
    client = httpx.Client(headers=headers(model, engine), timeout=timeout, limits=httpx.Limits())
    other: dict[str, str] = {}  # what a field is called here; "": it is left out
    pause = wait_exponential_jitter(initial=WAIT, max=60, jitter=WAIT)
    again = Retrying(
        stop=stop_after_attempt(TRIES) | stop_when_event_set(ended),
        sleep=sleep_using_event(ended),
        retry=retry_if_exception_type(NoAnswer),
        wait=lambda state: max(pause(state), state.outcome.exception().after),
        reraise=True,
        before_sleep=lambda state: counts.update(["requests tried again"]),
    )

    def once(path: str, body: dict, read: Callable[[dict], Any]) -> Any:
        sent = {other.get(k, k): v for k, v in body.items() if other.get(k, k)} | {
            "model": parse(model)[1]
        }
        try:
            reply = client.post(f"{engine.base_url}/{path}", json=sent)
        except httpx.HTTPError as error:
            why = f"{engine.base_url} does not answer ({type(error).__name__}, tried {TRIES} times); see its log, or raise engine.timeout"
            raise NoAnswer(why) from None
        status = reply.status_code
        if status in (400, 403, 422):
            optional = [k for k in OPTIONAL if k in sent]
            change = dict.fromkeys(
                [k for k in optional if k in reply.text] or (optional if status != 403 else []), ""
            )
            if "max_completion_tokens" in reply.text and "max_tokens" in sent:
                change = {"max_tokens": "max_completion_tokens"}
            if change:
                found = once(
                    path, {change.get(k, k): v for k, v in body.items() if change.get(k, k)}, read
                )
                if (
                    change.keys() - other.keys()
                ):  # only now: the refusal may have been of something else
                    log.warning(
                        "%s: %s refuses %s, so it is not sent",
                        model,
                        engine.base_url,
                        ", ".join(change),
                    )
                other.update(change)
                return found
        with suppress(ValueError, LookupError, TypeError, AttributeError):
            if status == 200:
                return read(reply.json())
        if status in (200, 408, 409, 429) or status >= 500:  # 200: half a reply
            failure = NoAnswer(f"{refusal(reply, engine)} (tried {TRIES} times)")
            with suppress(ValueError):
                failure.after = min(LONGEST, float(reply.headers.get("retry-after", 0)))
            raise failure
        known = []
        with suppress(httpx.HTTPError):
            known = served(client.get(f"{engine.base_url}/models")) if status == 404 else []
        raise EngineError(
            refusal(reply, engine) + (f"; it serves {', '.join(known[:20])}" if known else "")
        )

    yield lambda *request: again(once, *request)
    client.close()  # after an interrupt it stays open: what is under way may still come in


def check(model: str, engine: Engine) -> None:
    """ModelError, with the mend, where there is no base_url or key, no server answers, it refuses the key, or lists other models."""
    import httpx

    name, sent = parse(model)[1], headers(model, engine)
    try:
        reply = httpx.get(
            f"{engine.base_url}/models", headers=sent, timeout=min(engine.timeout, 30)
        )
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        why = f"nothing answers at {engine.base_url} ({type(error).__name__}); start the server, or correct engine.base_url"
        raise ModelError(f"model {model!r}: {why}") from None
    if reply.status_code in (401, 403):
        raise ModelError(f"model {model!r}: {refusal(reply, engine)}")
    names = served(reply)
    if not names:  # some servers list nothing: an empty question, which they turn down, tells whether the path is theirs
        with suppress(httpx.HTTPError):
            body = {"model": name, "messages": [], "max_tokens": 1}
            reply = httpx.post(
                f"{engine.base_url}/chat/completions",
                json=body,
                headers=sent,
                timeout=min(engine.timeout, 30),
            )
        if reply.is_redirect or reply.status_code in (401, 403, 404, 405, 502, 503, 504):
            raise ModelError(f"model {model!r}: {refusal(reply, engine)}")
    elif not any(
        s in (name, name.partition(":")[0], f"{name}:latest") or s.endswith(f"/{name}")
        for s in names
    ):  # gateways know <model>:<variant>
        raise ModelError(
            f"model {model!r}: {engine.base_url} serves no model of this name; it serves {', '.join(names[:20])}"
        )


def headers(model: str, engine: Engine) -> dict[str, str]:
    if not engine.base_url:
        raise ModelError(
            f"model {model!r}: no endpoint is named; set engine.base_url, such as 'http://localhost:8000/v1' for vllm serve"
        )
    key = os.environ.get(engine.api_key_env, "").strip()
    if engine.api_key_env and not re.fullmatch(r"[!-~]+", key):
        raise ModelError(
            f"model {model!r}: the environment variable {engine.api_key_env} (engine.api_key_env) holds no key; export it there"
        )
    return {"Authorization": f"Bearer {key}"} if key else {}


def served(reply) -> list[str]:
    with suppress(ValueError, LookupError, TypeError):
        return sorted(m["id"] for m in reply.json()["data"])
    return []


def refusal(reply, engine: Engine) -> str:
    """What a reply says, without the key that it may quote, and the mend."""
    status, variable = reply.status_code, engine.api_key_env
    key = os.environ.get(variable, "").strip()
    text = " ".join((reply.text.replace(key, "***") if key else reply.text).split())[:300]
    mends = {
        400: "lower max_tokens if prompt and answer do not fit its context, or set the parameter that it names to what it takes",
        401: f"correct the key in ${variable}"
        if variable
        else "name the environment variable that holds its key in engine.api_key_env",
        404: "correct the model's name, or engine.base_url (most end in /v1)",
        429: "lower engine.concurrency, or wait",
        402: "top up the account",
        301: "name in engine.base_url where it redirects to (https?)",
    }
    mend = mends.get(
        301 if reply.is_redirect else {403: 401, 422: 400, 405: 404}.get(status, status),
        "see its log",
    )
    return f"{engine.base_url} answers HTTP {status}: {text!r}; {mend}"
