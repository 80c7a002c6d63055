"""A real llama.cpp server on the loopback, on a model written here: the wire is real, the words are noise.

No package ships a GGUF model with weights, so this writes one: two Llama layers with random weights and a vocabulary
of characters, half a megabyte. Set GUARDSET_LLAMA_URL (with /v1) to test a server of your own instead.
"""

import os
import queue
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

_SERVE = """
import sys, threading, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.port, params.n_ctx, params.n_parallel = sys.argv[1], 0, 4096, 4
params.cpuparams.n_threads = 1
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
sys.stdin.read()  # until the test closes it
"""
_WIDTH, _HIDDEN, _LAYERS, _HEADS = 64, 128, 2, 4


def write_model(path: Path) -> None:
    """A Llama that nobody trained, in GGUF."""
    import gguf

    rng = np.random.default_rng(0)
    special, some_bytes = ["<unk>", "<s>", "</s>"], [f"<0x{number:02X}>" for number in range(256)]
    characters = ["\u2581", *(chr(code) for code in range(33, 127))]
    tokens = [*special, *some_bytes, *characters]
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(4096)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_HIDDEN)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * len(tokens))
    kind = gguf.TokenType
    control, byte = [kind.UNKNOWN, kind.CONTROL, kind.CONTROL], [kind.BYTE] * 256
    writer.add_token_types([*control, *byte, *[kind.NORMAL] * len(characters)])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{% for message in messages %}{{ message['content'] }}\n{% endfor %}")

    def add(name: str, *shape: int, quiet: int = 0) -> None:
        values = rng.normal(0, 0.2, shape).astype(np.float32)
        values[:quiet] *= 0.01  # these rows never win: a lone byte is no text
        writer.add_tensor(name, values)

    add("token_embd.weight", len(tokens), _WIDTH)
    add("output.weight", len(tokens), _WIDTH, quiet=len(special) + 256)
    writer.add_tensor("output_norm.weight", np.ones(_WIDTH, np.float32))
    for layer in range(_LAYERS):
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{layer}.{norm}.weight", np.ones(_WIDTH, np.float32))
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"blk.{layer}.{part}.weight", _WIDTH, _WIDTH)
        for part in ("ffn_gate", "ffn_up"):
            add(f"blk.{layer}.{part}.weight", _HIDDEN, _WIDTH)
        add(f"blk.{layer}.ffn_down.weight", _WIDTH, _HIDDEN)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@contextmanager
def llama_server(folder: Path) -> Iterator[str]:
    """The base URL of a running server, or of the one that GUARDSET_LLAMA_URL names."""
    own = os.environ.get("GUARDSET_LLAMA_URL")
    if own:
        yield own
        return
    model = folder / "tiny.gguf"
    write_model(model)
    process = subprocess.Popen(
        [sys.executable, "-c", _SERVE, str(model)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    try:
        yield _address(process) + "/v1"
    finally:
        process.stdin.close()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _address(process: "subprocess.Popen[str]") -> str:
    """What the server prints once it listens; it may say other things before."""
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
        lines.put("")

    threading.Thread(target=read, daemon=True).start()
    while True:
        line = lines.get(timeout=60)
        if line.startswith("http://"):
            return line.strip()
        assert line, f"the server ended with {process.wait()}"
