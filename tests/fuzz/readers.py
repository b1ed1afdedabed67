"""Every reader of a file that pitool opens: a folder that is whole, and the call that reads it.

To add a reader: one row in ``READERS``. ``victim`` is the file that is damaged, ``damage`` how.
"""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz import mutations
from tests.fuzz.mutations import Damage

SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 300,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Reader:
    """``make`` fills a folder with whole files; ``call`` reads them, and whatever follows of it."""

    victim: str
    damage: Damage
    make: Callable[[Path], object]
    call: Callable[[Path], object]


# -- checkpoints -------------------------------------------------------------------------------


def _checkpoint(folder: Path) -> None:
    from tests.tiny import write_checkpoint

    write_checkpoint(folder, **SIZES)
    (folder / "generation_config.json").write_text('{"eos_token_id": [2, 0], "do_sample": true}')


def _open_checkpoint(folder: Path) -> None:
    from pitool.catalog.tensor_types import QUANTISATIONS
    from pitool.checkpoint.source import Source, open_checkpoint
    from pitool.convert.gguf.model import find_model
    from pitool.planning.type_mixture import assign_types

    checkpoint = open_checkpoint(Source("tiny", None, folder))
    model = find_model(checkpoint.config.with_tensors(checkpoint.tensors))
    assign_types(model.shape, QUANTISATIONS["Q4_K_M"], importance=True)
    list(model.metadata())
    for wanted in model.wanted()[:100]:
        str(wanted)


def _read_tensors(folder: Path) -> None:
    from pitool.checkpoint.weights import read_index

    for tensor in read_index(folder).values():
        for _ in tensor.slabs(1 << 16):
            pass
        tensor.float32()


def _sharded(folder: Path) -> None:
    from tests.tiny import write_checkpoint

    write_checkpoint(folder, shards=2, **SIZES)


def _adapter(folder: Path) -> None:
    from safetensors.numpy import save_file

    _checkpoint(folder / "base")
    name = "base_model.model.model.layers.0.self_attn.q_proj"
    factors = {
        f"{name}.lora_A.weight": np.ones((2, 32), np.float32),
        f"{name}.lora_B.weight": np.ones((32, 2), np.float32),
    }
    save_file(factors, folder / "adapter_model.safetensors")
    settings = {
        "peft_type": "LORA", "r": 2, "lora_alpha": 4, "rank_pattern": {"q_proj": 2},
        "alpha_pattern": {"v_proj": 8}, "use_rslora": False, "fan_in_fan_out": False,
    }  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(settings))


def _merge(folder: Path) -> None:
    from pitool.checkpoint.lora import Adapter, merge
    from pitool.checkpoint.weights import read_index

    merged = merge(read_index(folder / "base"), Adapter(folder), tied=True)
    merged["model.layers.0.self_attn.q_proj.weight"].float32()


def _vocabulary(folder: Path) -> None:
    from pitool.convert.gguf.vocabulary import read_vocabulary

    read_vocabulary(folder, SIZES["vocab_size"])


def _cut_vocabulary(model: str) -> Callable[[Path], object]:
    """Return what cuts the vocabulary of a folder, or of a GGUF in it, to a few words."""

    def call(folder: Path) -> None:
        import tempfile

        from pitool.checkpoint.source import Source
        from pitool.convert.trim.source import trim
        from pitool.convert.trim.texts import Texts
        from tests.convert.helpers import always

        with tempfile.TemporaryDirectory() as scratch:
            text = Path(scratch) / "words.txt"
            text.write_text("The quick brown fox, 42.")
            source = Source("tiny", None, folder / model)
            trim(source, Texts((), (text,)), Path(scratch), always(_Speller()))

    return call


class _Speller:
    """Makes the same tokens of every text."""

    def tokenize(self, _prompt: object) -> list[int]:
        return [1, 2, 3]

    def logits(self, _ids: object) -> Any:
        raise NotImplementedError


def _pieces(folder: Path) -> None:
    from tests.convert.trim.helpers import write_sentencepiece
    from tests.tiny import write_checkpoint

    write_checkpoint(folder, **SIZES | {"vocab_size": 400})
    (folder / "tokenizer.json").unlink()
    write_sentencepiece(folder, "bpe")


def _larger(folder: Path) -> None:
    from tests.tiny import write_checkpoint

    write_checkpoint(folder, **SIZES | {"vocab_size": 512})


def _kept(folder: Path) -> None:
    (folder / "kept-tokens.json").write_text("[0, 1, 5, 9]")


def _read_kept(folder: Path) -> None:
    from pitool.convert.trim.kept import read_kept

    read_kept(folder)


def _token_gguf(folder: Path) -> None:
    import gguf

    writer = gguf.GGUFWriter(folder / "m.gguf", "llama")
    for key, size in (("block_count", 1), ("embedding_length", 32), ("feed_forward_length", 32),
                      ("context_length", 128), ("attention.head_count", 4)):  # fmt: skip
        writer.add_uint32(f"llama.{key}", size)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([f"t{i}" for i in range(300)])
    writer.add_token_scores([float(-i) for i in range(300)])
    writer.add_token_types([1] * 300)
    writer.add_eos_token_id(2)
    writer.add_tensor("token_embd.weight", np.ones((300, 32), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _old_settings(folder: Path) -> None:
    import tempfile

    from pitool.convert.legacy import link_checkpoint

    with tempfile.TemporaryDirectory() as target:
        link_checkpoint(folder, Path(target), weights=False)


# -- artifacts ---------------------------------------------------------------------------------


def _gguf(folder: Path) -> None:
    import gguf

    writer = gguf.GGUFWriter(folder / "m.gguf", "llama")
    writer.add_name("tiny")
    writer.add_block_count(2)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv([2, 1])
    writer.add_context_length(128)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_token_list([f"t{i}" for i in range(70)])
    writer.add_tensor("token_embd.weight", np.ones((70, 32), np.float16))
    writer.add_tensor("blk.0.attn_q.weight", np.ones((32, 32), np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _run_gguf(folder: Path) -> None:
    from pitool.catalog.boards import find_board
    from pitool.catalog.gguf import read_header
    from pitool.catalog.model_argument import find_runnable
    from pitool.checkpoint.source import Source
    from pitool.convert.gguf import stored
    from pitool.device.settings import planned_bytes, untuned
    from pitool.planning.formats import GGUF

    path = folder / "m.gguf"
    runnable = find_runnable(path)
    planned_bytes(runnable, untuned(runnable, None, _machine()))
    GGUF.speed_of(path, "pi5", find_board("pi5"))
    GGUF.streamed_bytes(path)
    stored.check(Source("m", None, path), None, requantise=True, sized=False)
    stored.kind_of(read_header(path))


@cache
def _machine() -> Any:
    from pitool.device.detect import detect

    return detect()


def _onnx(folder: Path) -> None:
    from tests.engine.onnx_graph import write_folder
    from tests.tiny import write_checkpoint

    write_checkpoint(folder / "base", **SIZES)
    write_folder(folder / "base", folder / "made")
    for path in (folder / "made").iterdir():
        shutil.move(path, folder)


def _read_onnx(folder: Path) -> None:
    from pitool.catalog import onnx
    from pitool.catalog.model_argument import find_runnable
    from pitool.device.settings import planned_bytes, untuned
    from pitool.planning.formats import find_format

    found = onnx.read_folder(folder)
    found.names.past_key % 0
    runnable = find_runnable(folder)
    planned_bytes(runnable, untuned(runnable, None, _machine()))
    find_format("onnx").streamed_bytes(folder)


def _read_board_tokenizer(folder: Path) -> None:
    from pitool.engine.base import Message
    from pitool.engine.tokenizer_folder import TokenizerFolder

    vocabulary = TokenizerFolder(folder)
    ids = vocabulary.encode("The quick brown fox, 42.\n")
    vocabulary.text(ids)
    vocabulary.encode([Message("user", "Hello")])


def _imatrix(folder: Path) -> None:
    from pitool.convert.gguf import importance
    from pitool.convert.gguf.importance import ImportanceMatrix

    means = {"blk.0.attn_q.weight": np.ones((1, 32), np.float32), "b": np.ones((4, 8), np.float32)}
    importance.write(folder / "importance.gguf", ImportanceMatrix(means, 512, "text.txt"))


def _old_imatrix(folder: Path) -> None:
    import struct

    name = b"blk.0.attn_q.weight"
    data = struct.pack("<ii", 1, len(name)) + name + struct.pack("<ii", 3, 16)
    data += np.ones(16, "<f4").tobytes() + struct.pack("<ii", 2, 4) + b"text"
    (folder / "matrix.dat").write_bytes(data)


def _read_matrix(name: str) -> Callable[[Path], object]:
    def call(folder: Path) -> None:
        from pitool.convert.gguf import importance

        importance.read(folder / name).weights("b")

    return call


# -- bundles and archives ----------------------------------------------------------------------


def _bundle(folder: Path) -> None:
    from pitool.catalog import manifest
    from pitool.catalog.manifest import Artifact, Certificate, Manifest, MemoryLine, Source, Speed

    (folder / "a.gguf").write_bytes(b"weights")
    entry = manifest.file_entry(folder / "a.gguf", folder)
    certificate = Certificate("ref", "text", 100, 0.1, 0.2, 0.9, 5.0, 4.9, 0.1, 0.2, 0.05)
    artifact = Artifact(
        "gguf", "Q4_0", (entry,), "llama", 1000, 128, 4.5, (MemoryLine("weights", 7),),
        (Speed("pi5", 100.0, 10.0),), certificate,
    )  # fmt: skip
    source = Source("tiny", "main", (entry,), (manifest.Adapter("lora", 1.0, (entry,)),))
    made = Manifest(
        "tiny", source, "1gb", "pi5", "2026-11-28T00:00:00Z", {"pitool": "0.1.0"}, (artifact,),
        "MIT", entry, (entry,),
    )  # fmt: skip
    manifest.write(folder, made)


def _read_bundle(folder: Path) -> None:
    from pitool.catalog import bundles, integrity, manifest

    bundle = bundles.open_bundle(folder)
    integrity.damaged_files(bundle)
    json.dumps(manifest.to_json(bundle.manifest), allow_nan=False).encode()
    bundles.choose(bundle)
    bundles.list_bundles(folder.parent)


def _pi(folder: Path) -> None:
    from tests.deploy.archives import make

    make(folder / "tiny.pi", runtime=False)


def _read_pi(folder: Path) -> None:
    from pitool.deploy import archive

    archive.check(folder / "tiny.pi")
    target = folder / "unpacked"
    shutil.rmtree(target, ignore_errors=True)
    archive.unpack(folder / "tiny.pi", target)
    archive.read_folder(target)


def _read_unpacked(folder: Path) -> None:
    from pitool.deploy import archive

    archive.read_folder(folder)


def _unpacked(folder: Path) -> None:
    from pitool.deploy import archive

    _pi(folder)
    archive.unpack(folder / "tiny.pi", folder / "u")
    for path in (folder / "u").iterdir():
        shutil.move(path, folder)


# -- what pitool keeps -------------------------------------------------------------------------


def _reference(folder: Path) -> None:
    from pitool.quality import compact

    logits = np.random.default_rng(0).normal(0, 1, (2, 16, 64)).astype(np.float32)
    compact.write(folder / "reference.npz", compact.make([list(range(16))] * 2, list(logits), 8))


def _compare_reference(folder: Path) -> None:
    from pitool.quality import compact

    found = compact.read(folder / "reference.npz")
    if found.top.max() < 64 and found.ids.max() < 64:
        compact.compare(found, [np.zeros((len(ids), 64), np.float32) for ids in found.ids])


def _prefill(folder: Path) -> None:
    from pitool.engine.onnx import kv_cache

    kv_cache.write(folder / "state", "model", [1, 2, 3], [np.ones((1, 2, 8, 4), np.float32)] * 2)


def _read_prefill(folder: Path) -> None:
    from pitool.engine.onnx import kv_cache

    kv_cache.read(folder / "state", "model", [np.zeros((1, 2, 8, 4), np.float32)] * 2)


def _compact(folder: Path) -> None:
    from pitool.engine.llamacpp import compact

    tokens = np.arange(3, dtype="<i4")
    cells = np.array([[place, 1, 0] for place in range(3)], "<i4").tobytes()
    row = np.array([1], "<i4").tobytes() + np.array([128], "<u8").tobytes()
    rows = (row + np.ones((3, 64), "<f2").tobytes()) * 4
    state = np.array([1, 3], "<u4").tobytes() + cells + np.array([0, 2], "<u4").tobytes() + rows
    head = np.array([0x67677371, 3, len(tokens)], "<u4").tobytes()
    (folder / "state").write_bytes(head + tokens.tobytes() + state)
    compact.compact(folder / "state")


def _read_compact(folder: Path) -> None:
    from pitool.engine.llamacpp import compact, streams
    from pitool.engine.prefills.prefixes import tokens_of_state

    tokens_of_state(folder / "state")
    with suppress(ValueError):
        _, state = compact.read_state(folder / "state")
        streams.spread(state, 3)


def _runnable() -> Any:
    from pitool.catalog.bundles import Runnable

    return Runnable("m", "gguf", "Q4_0", Path("m.gguf"), 7, 128)


def _tuned(folder: Path) -> None:
    from pitool.device import tuned
    from pitool.device.tuned import Tuned

    changes = {"decode_threads": 3, "batch": 512, "kv_type": "q8_0", "repack": False}
    tuned.keep(
        Tuned(changes, "2026-11-28", 1.1, 1.2), _runnable(), _machine(), folder / "tuned.json"
    )


def _read_tuned(folder: Path) -> None:
    from pitool.device import tuned
    from pitool.engine.base import Settings

    path = folder / "tuned.json"
    if found := tuned.find(_runnable(), _machine(), path):
        made = found.apply(Settings(128, 1, 1))
        assert 0 < made.decode_threads <= 256 and 0 < made.batch <= 1 << 16
    tuned.words(_runnable(), _machine(), path)
    tuned.keep(tuned.Tuned({}, "2026-11-28", 1.0, 1.0), _runnable(), _machine(), path)


def _residuals(folder: Path) -> None:
    from pitool.device import residuals

    made = residuals.Residual("pi5/4", "m", "decode", 10.0, 9.0, "2026-11-28")
    residuals.keep(made, folder / "residuals.json")


def _read_residuals(folder: Path) -> None:
    from pitool.device import residuals

    for factor in residuals.factors("pi5/4", path=folder / "residuals.json").values():
        assert 0 < factor < float("inf")


def _probe(folder: Path) -> None:
    from pitool.device import probe

    probe.keep(
        probe.Probe(probe.key(_machine()), 10.0, 5, 1 << 20, "2026-11-28"), folder / "p.json"
    )


def _read_probe(folder: Path) -> None:
    from pitool.device import probe

    if found := probe.find(_machine(), folder / "p.json"):
        assert 0 < found.read_gbs < float("inf")


def bench_row(**changes: Any) -> dict[str, Any]:
    """Return a row of bench, every field that is shown or compared with it."""
    row: dict[str, Any] = {
        "build_commit": "pitool 0.1.0", "build_number": 0, "cpu_info": "A76", "backends": "CPU",
        "model_filename": "/m/a.gguf", "model_type": "llama 1B Q4_0", "model_size": 1 << 29,
        "model_n_params": 10**9, "n_batch": 2048, "n_ubatch": 512, "n_threads": 4,
        "type_k": "f16", "type_v": "f16", "flash_attn": -1, "load_mode": "mmap", "repack": True,
        "n_prompt": 512, "n_gen": 0, "n_depth": 0, "test_time": "2026-11-28T00:00:00Z",
        "avg_ns": 10**9, "stddev_ns": 10**6, "avg_ts": 512.0, "stddev_ts": 1.0,
        "samples_ns": [10**9, 10**9], "samples_ts": [512.0, 511.0], "engine": "llamacpp",
        "board": "pi5", "kernel": None, "firmware": None, "bundle": None, "quantisation": "Q4_0",
        "artifact_sha256": None, "conditions": [{"problems": ["throttled"]}, {"problems": []}],
        "pitool_version": "0.1.0", "runtime_version": "llama.cpp 1", "plausibility": None,
    }  # fmt: skip
    return {**row, **changes}


def _results(folder: Path) -> None:
    rows = [bench_row(), bench_row(n_prompt=0, n_gen=128, samples_ts=[9.0, 9.1])]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "old.json").write_text(json.dumps(rows))


def _compare_results(folder: Path) -> None:
    from pitool.bench import comparison
    from pitool.bench.history import read_rows

    found = read_rows(str(folder / "rows.jsonl"))
    json.dumps(comparison.compare(found, read_rows(str(folder / "old.json"))).to_json())
    comparison.compare(found, found)


def _history(folder: Path) -> None:
    from pitool.bench.history import History

    head = {
        "test_time": "2026-11-28", "bundle": None, "quantisation": "Q4_0", "model_filename": "m",
    }  # fmt: skip
    start = {"load_seconds": 1.0, "ttft_seconds": {"16": 0.5}}
    points = [{"seconds": 1.0, "rate": 9.0}, {"seconds": 2.0, "rate": 8.0}]
    watts = {"idle_watts": 3.0, "decode_watts": 6.0, "tokens_per_second": 9.0}
    with closing(History(folder / "bench.sqlite")) as history:
        for i in range(3):
            history.add(bench_row(n_gen=i), f"run{i}")
        history.keep({**head, "kind": "cold", "cold": start, "warm": start}, "run1")
        history.keep({**head, "kind": "sustained", "points": points}, "run2")
        history.keep({**head, "kind": "energy", **watts, "joules_per_token": 0.6}, "run3")


def _read_history(folder: Path) -> None:
    from pitool.bench import modes, printers, rows
    from pitool.bench.history import History
    from pitool.bench.modes.base import artifact_of

    with closing(History(folder / "bench.sqlite")) as history:
        found, documents = history.rows(), history.documents()
    for make in printers.PRINTERS.values():
        printer = make(lambda _: None, ())
        for row in found:
            printer.add(row)
        printer.end()
    for row in found:
        rows.artifact_name(row)
    for document in documents:
        artifact_of(document).encode()
        modes.words(document)
        modes.chart(document)


def _conversations(folder: Path) -> None:
    from pitool.engine.base import Sampling, Timings
    from pitool.store.conversation import Answer, Conversation, Notice, Question
    from pitool.store.database import Database

    timings = Timings(3, 1, 2, 0.5, 0.5, 4, 1.0)
    with closing(Database(folder / "c.db")) as database:
        for name in ("a", "b"):
            talk = Conversation("Be brief.", title=name, sampling=Sampling(seed=1, stop=("x",)))
            talk.rows += [Question("What?"), Answer("m", "This.", timings, "stop")]
            talk.rows.append(Notice("it was stopped", "ask again"))
            database.save(talk, [], [])
    with sqlite3.connect(folder / "c.db") as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()


def _read_conversations(folder: Path) -> None:
    from pitool.store import export
    from pitool.store.database import Database

    with closing(Database(folder / "c.db")) as database:
        for summary in [*database.list(), *database.list("what")]:
            summary.name.encode()
            opened = database.open(summary.key)
            opened.messages()
            export.to_markdown(opened).encode()
            export.to_json(opened).encode()


def _lab_result(folder: Path) -> None:
    from dataclasses import asdict

    from pitool.lab.result import EngineFigures, TechniqueResult
    from pitool.quality.divergence import Divergence

    quality = Divergence(100, 0.1, 0.1, 0.2, 0.9, 5.0, 4.9, 0.1)
    running = EngineFigures(1.0, 1 << 20, 10.0, 5.0, 0.5)
    made = TechniqueResult("gptq", "GPTQ", "e", "s", 4.0, (), quality=quality, running=running)
    (folder / "r.json").write_text(json.dumps(asdict(made)))


def _read_lab_result(folder: Path) -> None:
    from pitool.catalog import reading, tables
    from pitool.lab.result import TechniqueResult

    tables.build(TechniqueResult, reading.read_json(folder / "r.json", "delete it"), "r.json")


# -- what is read of users and networks --------------------------------------------------------


def _boards(folder: Path) -> None:
    from pitool.catalog.tables import recipes_folder

    text = (recipes_folder() / "boards.toml").read_text()
    (folder / "boards.toml").write_text("[".join(re.split(r"(?m)^\[(?=\w+\])", text)[:2]))


def _read_boards(folder: Path) -> None:
    from pitool.catalog.boards import load_boards

    load_boards(folder / "boards.toml")


def _recipe(folder: Path) -> None:
    from pitool.catalog.tables import recipes_folder

    first = sorted((recipes_folder() / "models").glob("*.toml"))[0]
    shutil.copyfile(first, folder / "r.toml")


def _read_recipe(folder: Path) -> None:
    from pitool.catalog.recipes import load_recipes

    load_recipes(folder)


def _request(folder: Path) -> None:
    body = {
        "model": "m", "messages": [{"role": "user", "content": "Hi"}], "temperature": 0.5,
        "top_p": 0.9, "seed": 1, "max_tokens": 5, "stop": ["x"], "stream": True, "n": 1,
        "stream_options": {"include_usage": True}, "prompt": ["Hi", "Ho"], "input": "Hi",
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
        "tool_choice": "auto", "logit_bias": {"1": 2}, "options": {"num_predict": 3},
        "response_format": {"type": "json_schema", "json_schema": {"schema": {}}},
        "keep_alive": "5m", "format": {"type": "object"}, "query": "q", "documents": ["d"],
    }  # fmt: skip
    (folder / "body").write_text(json.dumps(body))


def _parse_request(folder: Path) -> None:
    from pitool.errors import PitoolError
    from pitool.serve.bodies import parse
    from pitool.serve.ollama import answering
    from pitool.serve.openai import chat, completions, responses

    body = (folder / "body").read_bytes()
    for read in (chat.parse, completions.parse, responses.parse,
                 answering.parse_chat, answering.parse_generate):  # fmt: skip
        try:
            read(parse(body))
        except PitoolError as error:
            error.statement.encode()


def _hub_answer(folder: Path) -> None:
    lfs = {"oid": "a" * 64, "size": 9, "pointerSize": 134}
    files = [{"type": "file", "path": f"{i}-Q4_0.gguf", "size": 9, "lfs": lfs} for i in range(3)]
    files += [{"type": "file", "path": "x/m-Q8_0-00001-of-00001.gguf", "size": 9}]
    card = {"license": "other", "license_name": "mine"}
    info = {"id": "a/b", "sha": "c" * 40, "cardData": card, "tags": ["license:mit"]}
    (folder / "answer.json").write_text(json.dumps([info, *files]))


def _read_hub_answer(folder: Path) -> None:
    from pitool.catalog import reading
    from pitool.pull import hub
    from pitool.pull.variants import find_variants

    try:
        answer = reading.parse_json((folder / "answer.json").read_bytes())
    except ValueError:
        return
    entries = answer if isinstance(answer, list) else [answer]
    found = [file for entry in entries if (file := hub._remote_file(entry))]
    for entry in entries:
        if isinstance(entry, dict):
            hub._licence(entry)
    find_variants(hub.Repository("a/b", "c" * 40, tuple(found)))


def _text(folder: Path) -> None:
    (folder / "t.txt").write_text("A Raspberry Pi has 4 cores. naïve 日本\n" * 20)


def _read_texts(folder: Path) -> None:
    from pitool.catalog.reading import read_text
    from pitool.chat.text import attach

    attach(folder / "t.txt").before("What?").encode()
    read_text(folder / "t.txt", 50).encode()


def _clusters(folder: Path) -> None:
    from pitool.cluster.members import FILE_NAME, Cluster, Member, keep

    members = (Member("pi@attic", via="ssh"), Member("192.168.1.11", 6000))
    keep(Cluster("boards", members, here=True), folder / FILE_NAME)


def _read_clusters(folder: Path) -> None:
    from pitool.cluster.members import FILE_NAME, clusters

    for cluster in clusters(folder / FILE_NAME).values():
        for member in cluster.members:
            str(member.title), str(member.address)


def _board_status(folder: Path) -> None:
    from pitool.cluster.status import Status, to_json

    told = Status("1", "0.3.36", "a board", "pi5", 4, ("neon",), 8, 4, 2, 9.5, 61.0, 0.5)
    (folder / "status.json").write_bytes(to_json(told))


def _read_board_status(folder: Path) -> None:
    from pitool.cluster.status import from_json
    from pitool.errors import BadInput

    try:
        told = from_json((folder / "status.json").read_bytes())
    except ValueError as error:
        raise BadInput("a board told nonsense", str(error)) from None
    str(told.words)


READERS: dict[str, Reader] = {
    "clusters": Reader("clusters.json", mutations.json_text, _clusters, _read_clusters),
    "status of a board": Reader(
        "status.json", mutations.json_text, _board_status, _read_board_status
    ),
    "config.json": Reader("config.json", mutations.json_text, _checkpoint, _open_checkpoint),
    "safetensors": Reader("model.safetensors", mutations.safetensors, _checkpoint, _read_tensors),
    "index": Reader("model.safetensors.index.json", mutations.json_text, _sharded, _read_tensors),
    "adapter settings": Reader("adapter_config.json", mutations.json_text, _adapter, _merge),
    "adapter weights": Reader("adapter_model.safetensors", mutations.safetensors, _adapter, _merge),
    "tokenizer.json": Reader("tokenizer.json", mutations.json_text, _checkpoint, _vocabulary),
    "tokenizer settings": Reader(
        "tokenizer_config.json", mutations.json_text, _checkpoint, _vocabulary
    ),
    "generation settings": Reader(
        "generation_config.json", mutations.json_text, _checkpoint, _vocabulary
    ),
    "tokenizer.json to cut": Reader(
        "tokenizer.json", mutations.json_text, _larger, _cut_vocabulary("")
    ),
    "tokenizer settings to cut": Reader(
        "tokenizer_config.json", mutations.json_text, _larger, _cut_vocabulary("")
    ),
    "settings to cut": Reader("config.json", mutations.json_text, _larger, _cut_vocabulary("")),
    "pieces to cut": Reader("tokenizer.model", mutations.binary, _pieces, _cut_vocabulary("")),
    "gguf to cut": Reader("m.gguf", mutations.binary, _token_gguf, _cut_vocabulary("m.gguf")),
    "kept tokens": Reader("kept-tokens.json", mutations.json_text, _kept, _read_kept),
    "old settings": Reader("config.json", mutations.json_text, _checkpoint, _old_settings),
    "gguf": Reader("m.gguf", mutations.binary, _gguf, _run_gguf),
    "onnx settings": Reader("genai_config.json", mutations.json_text, _onnx, _read_onnx),
    "onnx graph": Reader("model.onnx", mutations.binary, _onnx, _read_onnx),
    "board tokenizer": Reader("tokenizer.json", mutations.json_text, _onnx, _read_board_tokenizer),
    "board template": Reader(
        "tokenizer_config.json", mutations.json_text, _onnx, _read_board_tokenizer
    ),
    "importance": Reader(
        "importance.gguf", mutations.binary, _imatrix, _read_matrix("importance.gguf")
    ),
    "old importance": Reader(
        "matrix.dat", mutations.binary, _old_imatrix, _read_matrix("matrix.dat")
    ),
    "manifest": Reader("manifest.json", mutations.json_text, _bundle, _read_bundle),
    "archive": Reader("tiny.pi", mutations.archive, _pi, _read_pi),
    "unpacked archive": Reader("pi.json", mutations.json_text, _unpacked, _read_unpacked),
    "reference": Reader("reference.npz", mutations.arrays, _reference, _compare_reference),
    "prefill": Reader("state", mutations.arrays, _prefill, _read_prefill),
    "compact prefill": Reader("state", mutations.binary, _compact, _read_compact),
    "tuned": Reader("tuned.json", mutations.json_text, _tuned, _read_tuned),
    "residuals": Reader("residuals.json", mutations.json_text, _residuals, _read_residuals),
    "probe": Reader("p.json", mutations.json_text, _probe, _read_probe),
    "bench results": Reader("rows.jsonl", mutations.json_lines, _results, _compare_results),
    "bench history": Reader("bench.sqlite", mutations.database, _history, _read_history),
    "conversations": Reader("c.db", mutations.database, _conversations, _read_conversations),
    "lab result": Reader("r.json", mutations.json_text, _lab_result, _read_lab_result),
    "boards": Reader("boards.toml", mutations.text, _boards, _read_boards),
    "recipe": Reader("r.toml", mutations.text, _recipe, _read_recipe),
    "request": Reader("body", mutations.json_text, _request, _parse_request),
    "hub answer": Reader("answer.json", mutations.json_text, _hub_answer, _read_hub_answer),
    "text": Reader("t.txt", mutations.text, _text, _read_texts),
}


def _take_memory(_: Path) -> None:
    bytes(1 << 32)


def _take_time(_: Path) -> None:
    while True:
        pass


def _forget(_: Path) -> None:
    raise KeyError("x")


def _nothing(folder: Path) -> None:
    (folder / "x").write_bytes(b"")


# What a harness must find.
BROKEN: dict[str, Reader] = {
    name: Reader("x", mutations.binary, _nothing, call)
    for name, call in (("memory", _take_memory), ("time", _take_time), ("fault", _forget))
}
