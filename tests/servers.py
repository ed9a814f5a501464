"""Servers for tests: a toy language model behind the OpenAI chat API, which misbehaves on
demand, and vLLM's own."""

import json
import math
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

EOS, VOCABULARY = 0, 50
WORDS = ["<eos>", "<think>", "</think>", *(f"w{i}" for i in range(3, VOCABULARY))]


def encode(text):
    return [3 + ord(c) % (VOCABULARY - 3) for c in text]


class Toy(ThreadingHTTPServer):
    """A model whose next token is a pure function of the tokens so far and the seed, so that
    continued rows can be foretold.

    tokens: whether it gives token ids; delay: seconds before each answer; writes: a function
    from a request's body to (text, number of tokens, finish_reason), in place of that model (see
    `by_model`). What a test may set: `script`, what to do with the next requests instead of
    answering ("drop", "stall", "half", "empty", or (status, headers, body)); `refused`, {field:
    the message of a 400}; `listing` (status, headers, body), in place of its models; `message`
    and `finish`, in place of every reply's own. What it sees: `asked` (bodies of all requests),
    `given` (their headers), `times`, `paid` (bodies of those answered), `most` (requests under
    way at once).
    """

    daemon_threads = True
    request_queue_size = 100

    def __init__(self, tokens=True, delay=0.0, writes=None):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.refused, self.tokens, self.delay, self.message, self.finish = (
            deque(),
            {},
            tokens,
            delay,
            None,
            None,
        )
        self.listing, self.writes = None, writes
        self.asked, self.paid, self.given, self.times, self.running, self.most = (
            [],
            [],
            [],
            [],
            0,
            0,
        )
        self.lock = threading.Lock()
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request, address):  # a client that went away is no news
        pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def reply(self, body, status=200, headers=(), cut=None):
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **dict(headers)}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data[:cut])

    def do_GET(self):
        status, headers, body = self.server.listing or (
            200,
            {},
            {"data": [{"id": "toy"}, {"id": "models/other"}]},
        )
        self.reply(body, status, headers)

    def do_POST(self):
        toy = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with toy.lock:
            toy.asked.append(body)
            toy.given.append(dict(self.headers))
            toy.times.append(time.monotonic())
            toy.running += 1
            toy.most = max(toy.most, toy.running)
            act = toy.script.popleft() if toy.script else None
        try:
            time.sleep(toy.delay)
            self.answer(body, act)
        finally:
            with toy.lock:
                toy.running -= 1

    def answer(self, body, act):
        toy = self.server
        if isinstance(act, tuple):
            return self.reply(act[2], act[0], act[1])
        if act == "drop":
            self.close_connection = True
            return self.connection.shutdown(socket.SHUT_RDWR)
        if act == "stall":
            time.sleep(2)
        if act == "half":
            self.close_connection = True
            return self.reply('{"choices": [{"index": 0, "mess')
        if act == "empty":
            return self.reply({"choices": [], "usage": {}})
        for field, message in toy.refused.items():
            if field in body:
                return self.reply({"error": {"message": message}}, 400)
        if body["model"] != "toy":
            return self.reply({"error": {"message": "The model does not exist."}}, 404)
        with toy.lock:
            toy.paid.append(body)
        self.reply(completion(body, toy))


def stream(prompt, seed, n):
    """Up to n tokens after a prompt: (token, log-probabilities of the whole vocabulary), ending
    with EOS."""
    so_far = list(prompt)
    for _ in range(n):
        rng = random.Random(repr(so_far))
        weights = [rng.random() ** 4 for _ in range(VOCABULARY)]
        logs = [math.log(w / sum(weights)) for w in weights]
        rng = random.Random(repr((so_far, seed)))
        token = EOS if rng.random() < 0.07 else rng.randrange(3, VOCABULARY)
        so_far.append(token)
        yield token, logs
        if token == EOS:
            return


def by_model(spec):
    """What `Toy` writes: what this model samples, one request at a time."""
    from ded import generation
    from ded.problems import Problem

    one_at_a_time = threading.Lock()

    def write(body):
        asked = [Problem("q", "q", 1, body["messages"][0]["content"], "")]
        with one_at_a_time:
            row = generation.sample(
                spec, asked, **{k: body[k] for k in ("max_tokens", "temperature", "top_p", "seed")}
            ).iloc[0]
        return row.text, int(row.n_tokens), row.finish_reason

    return write


def completion(body, toy):
    if toy.writes:
        text, n, finish = toy.writes(body)
        return {
            "choices": [{"message": {"content": text}, "finish_reason": finish}],
            "usage": {"completion_tokens": n},
        }
    chat = "messages" in body
    prompt = encode(body["messages"][0]["content"]) if chat else body["prompt"]
    seed = body.get("seed") if body.get("temperature") else 0
    drawn = list(stream(prompt, seed, body.get("max_tokens", body.get("max_completion_tokens"))))
    ids = [token for token, _ in drawn]
    text = "".join(f" {WORDS[i]}" for i in ids if i != EOS)
    choice = {"index": 0, "finish_reason": toy.finish or ("stop" if ids[-1] == EOS else "length")}
    if toy.tokens and body.get("return_token_ids"):
        choice["token_ids"] = ids
    top = body.get("top_logprobs") if chat else body.get("logprobs")
    best = (
        [sorted(enumerate(logs), key=lambda pair: -pair[1])[:top] for _, logs in drawn]
        if top
        else []
    )
    if chat:
        choice["message"] = toy.message or {"role": "assistant", "content": text}
        if top:
            choice["logprobs"] = {
                "content": [
                    {"top_logprobs": [{"token": WORDS[i], "logprob": p} for i, p in b]}
                    for b in best
                ]
            }
    else:
        choice["text"] = text
        if top:
            choice["logprobs"] = {"top_logprobs": [{WORDS[i]: p for i, p in b} for b in best]}
    given = {"prompt_token_ids": prompt} if toy.tokens and body.get("return_token_ids") else {}
    return {"choices": [choice], "usage": {"completion_tokens": len(ids)}, **given}


@contextmanager
def toy(**options):
    server = Toy(**options)
    threading.Thread(
        target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
    ).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def vllm_server(model_dir, name, log, wait=600):
    """vLLM's own server on a CPU, in a process group of its own; yields its base_url. `log`: a
    file."""
    import httpx

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = os.environ | {
        "OMP_NUM_THREADS": "1",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    }
    command = [
        sys.executable,
        "-m",
        "vllm.entrypoints.openai.api_server",
        "--model",
        str(model_dir),
        "--served-model-name",
        name,
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        "--dtype",
        "float32",
        "--max-model-len",
        "512",
        "--enforce-eager",
        "--generation-config",
        "vllm",
    ]
    with open(log, "w") as out:
        process = subprocess.Popen(command, env=env, stdout=out, stderr=out, start_new_session=True)
    try:
        end = time.monotonic() + wait
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/v1/models", timeout=5).status_code == 200:
                    break
            except httpx.HTTPError:
                pass
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("vLLM's server did not start:\n" + Path(log).read_text()[-3000:])
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
