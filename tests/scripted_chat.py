"""An OpenAI-compatible chat server on the loopback that answers by a function of the prompt."""

import base64
import io
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

Answer = Callable[[str], str]
Look = Callable[[str, Image.Image], str]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


class Prompts(list[str]):
    """Every prompt that reached the server, and how many requests it held at once."""

    most_at_once = now = 0


def _picture(uri: str) -> Image.Image:
    """Of a data URI."""
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))).convert("RGB")


def _entry(model: str | dict[str, Any]) -> dict[str, Any]:
    """Of the list of models: by its name alone, or all that a server says."""
    return {"id": model, "object": "model"} if isinstance(model, str) else model


@contextmanager
def scripted_chat(
    answer: Answer | None = None,
    models: Sequence[str] | Sequence[dict[str, Any]] | None = ("scripted",),
    latency_s: float = 0.0,
    look: Look | None = None,
) -> Iterator[tuple[str, Prompts]]:
    """The base URL of the server, and what reached it. Without `models` it has no list of them. Where `look` is given,
    it answers about pictures."""
    prompts, lock = Prompts(), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            """Silent."""

        def do_GET(self) -> None:
            if models is None:
                self.send_error(404)
                return
            self._send({"object": "list", "data": [_entry(one) for one in models]})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            content = body["messages"][-1]["content"]
            parts = content if isinstance(content, list) else [{"type": "text", "text": content}]
            prompt = " ".join(part["text"] for part in parts if part["type"] == "text")
            with lock:
                prompts.append(prompt)
                prompts.now += 1
                prompts.most_at_once = max(prompts.most_at_once, prompts.now)
            time.sleep(latency_s)
            with lock:
                prompts.now -= 1
            pictures = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
            if look is not None and pictures:
                said = look(prompt, _picture(pictures[0]))
            else:
                assert answer is not None
                said = answer(prompt)
            message = {"role": "assistant", "content": said}
            self._send(
                {
                    "id": "1",
                    "object": "chat.completion",
                    "model": body["model"],
                    "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                    "usage": {"prompt_tokens": len(prompt.split()), "completion_tokens": 9},
                }
            )

        def _send(self, body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = _Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1", prompts
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
