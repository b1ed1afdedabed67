"""Several answers at once: each is what it would be alone, and none harms another."""

from __future__ import annotations

import re
import threading
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from pitool.engine import worker
from pitool.engine.base import Message, Prompt, Sampling, Settings, Token
from pitool.engine.llamacpp import LlamaCpp
from pitool.engine.llamacpp.sequences import LEAST_COPIED
from pitool.engine.prefills.files import Place
from pitool.engine.prefills.prefixes import Prefixes
from pitool.engine.scheduling import Heard
from pitool.engine.worker import WorkerEngine
from pitool.errors import DoesNotFit, UsageError
from tests.convert.helpers import write_float
from tests.engine.test_llamacpp import ids

pytestmark = pytest.mark.engine

# Flash attention sums in half precision, so that the order of the cells shows in the logits.
ONE = Settings(512, decode_threads=1, prefill_threads=1, kv_type="f32", flash_attention="off")
FOUR = replace(ONE, context=4 * 512, sequences=4)
GREEDY = Sampling(temperature=0, max_tokens=40)
PROMPTS = ["The quick brown fox", "It's", "a b c d e f g h " * 12, "日本語"]


class Asked(threading.Thread):
    """Asks one question in a thread of its own, and keeps what comes."""

    def __init__(self, engine: WorkerEngine, prompt: Prompt, sampling: Sampling) -> None:
        super().__init__()
        self._engine, self._prompt, self._sampling = engine, prompt, sampling
        self.tokens: list[Token] = []
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.tokens.extend(self._engine.stream(self._prompt, self._sampling))
        except BaseException as error:
            self.error = error

    @property
    def ids(self) -> list[int]:
        self.join()
        assert self.error is None
        return ids(self.tokens)


@pytest.fixture
def four(tiny_gguf: Path) -> Iterator[WorkerEngine]:
    with worker.start("gguf", tiny_gguf, FOUR) as engine:
        yield engine


@pytest.fixture
def engine(tiny_gguf: Path) -> Iterator[LlamaCpp]:
    loaded = LlamaCpp(tiny_gguf, FOUR)
    yield loaded
    loaded.close()


def alone(file: Path, prompts: Sequence[Prompt], sampling: Sampling) -> list[list[int]]:
    """Return the answers of an engine that has one sequence and forgets between them."""
    found = []
    with worker.start("gguf", file, ONE) as engine:
        for prompt in prompts:
            engine.clear()
            found.append(ids(list(engine.stream(prompt, sampling))))
    return found


@pytest.mark.thorough
@pytest.mark.parametrize("sampling", [GREEDY, Sampling(seed=7, max_tokens=40, repeat_penalty=1.3)])
def test_four_answers_are_what_each_is_alone(
    four: WorkerEngine, tiny_gguf: Path, sampling: Sampling
) -> None:
    asked = [Asked(four, prompt, sampling) for prompt in PROMPTS]
    assert [each.ids for each in asked] == alone(tiny_gguf, PROMPTS, sampling)


def test_four_conversations_with_the_sample_model(tmp_path: Path) -> None:
    sample = Path(__file__).parents[2] / "recipes" / "sample" / "checkpoint"
    file = write_float(sample, tmp_path / "sample.gguf", "F32")
    questions = (
        "What is a Raspberry Pi?",
        "How hot may it get?",
        "Hello",
        "What does Q4_K_M mean?",
    )
    prompts = [[Message("user", question)] for question in questions]
    with worker.start("gguf", file, FOUR) as engine:
        asked = [Asked(engine, prompt, GREEDY) for prompt in prompts]
        found = [each.ids for each in asked]
    assert found == alone(file, prompts, GREEDY)
    assert min(map(len, found)) > 5


def test_more_than_there_are_sequences_wait_their_turn(four: WorkerEngine, tiny_gguf: Path) -> None:
    prompts = [f"number {i}" for i in range(9)]
    asked = [Asked(four, prompt, GREEDY) for prompt in prompts]
    assert [each.ids for each in asked] == alone(tiny_gguf, prompts, GREEDY)
    assert four.info.sequence_context == 512


def test_a_prompt_that_is_too_long_fails_by_itself(four: WorkerEngine, tiny_gguf: Path) -> None:
    good = Asked(four, PROMPTS[0], GREEDY)
    long = Asked(four, [5] * 512, GREEDY)
    other = Asked(four, PROMPTS[1], GREEDY)
    assert [good.ids, other.ids] == alone(tiny_gguf, PROMPTS[:2], GREEDY)
    long.join()
    assert isinstance(long.error, DoesNotFit)
    assert "512 tokens, and the context has 512" in long.error.sentence


def test_an_answer_may_fill_its_part_of_the_context_and_no_more(engine: LlamaCpp) -> None:
    heard = [Heard() for _ in range(4)]
    for number, each in enumerate(heard):
        engine.scheduler.add([7 + number] * 400, replace(GREEDY, max_tokens=None), each)
    while engine.scheduler.busy:
        engine.scheduler.step()
    last = [list(each.take())[-1] for each in heard]
    assert all(t.finish in ("context", "stop") for t in last)
    assert any(t.finish == "context" and t.timings.context_used == 511 for t in last)


def test_prompts_are_read_while_answers_go_on(engine: LlamaCpp) -> None:
    """Between two tokens of a running answer comes a part of a long prompt, not all of it."""
    talks, reads = Heard(), Heard()
    engine.scheduler.add("talk", replace(GREEDY, max_tokens=400), talks)
    while not any(t.id is not None for t in talks.take()):
        engine.scheduler.step()
    engine.scheduler.add([9] * 300, replace(GREEDY, max_tokens=1), reads)
    steps = []
    while not reads.done:
        engine.scheduler.step()
        said, read = list(talks.take()), [t.timings.prefilled_tokens for t in reads.take()]
        steps.append((len(said), read[-1] if read else 0))
    assert steps[0] == (0, 64)  # who came last is read first
    assert [said for said, _ in steps[1:]] == [1, 0] * (len(steps) // 2)
    assert len(steps) > 2


def test_who_came_first_is_read_first(engine: LlamaCpp) -> None:
    heard = [Heard() for _ in range(6)]
    for number, each in enumerate(heard):
        engine.scheduler.add([20 + number] * 100, replace(GREEDY, max_tokens=3), each)
    first_token: list[int] = []
    while engine.scheduler.busy:
        engine.scheduler.step()
        for number, each in enumerate(heard):
            if number not in first_token and any(t.id is not None for t in each.take()):
                first_token.append(number)
    assert first_token == sorted(first_token)


def test_leaving_one_answer_leaves_the_others_alone(four: WorkerEngine, tiny_gguf: Path) -> None:
    leaving = four.stream("left in the middle", replace(GREEDY, max_tokens=None))
    next(t for t in leaving if t.text)
    asked = [Asked(four, prompt, GREEDY) for prompt in PROMPTS]
    leaving.close()  # type: ignore[attr-defined]
    assert [each.ids for each in asked] == alone(tiny_gguf, PROMPTS, GREEDY)


def test_a_pass_is_aborted_only_where_all_in_it_are_cancelled(
    engine: LlamaCpp, tiny_gguf: Path
) -> None:
    """What ``look`` does during a pass, done just before it: the flag is the same."""
    kept, left = Heard(), Heard()
    engine.scheduler.add(PROMPTS[0], GREEDY, kept)
    engine.scheduler.add([5] * 400, GREEDY, left)
    engine.scheduler.step()
    jobs = [running.job for running in engine.scheduler._running]
    left.cancelled = True
    engine.scheduler._computing = jobs
    engine.scheduler.look()
    assert not engine._cancel.is_set()
    kept.cancelled = True
    engine.scheduler.look()
    assert engine._cancel.is_set()
    kept.cancelled = False
    while engine.scheduler.busy:
        engine.scheduler.step()
    assert list(left.take())[-1].finish == "cancelled"
    assert ids(list(kept.take())) == alone(tiny_gguf, PROMPTS[:1], GREEDY)[0]


@pytest.mark.thorough
def test_slots_apart_go_into_one_pass_and_those_between_keep_what_they_have(
    engine: LlamaCpp, tiny_gguf: Path
) -> None:
    said = [[(7 * i + start) % 490 + 5 for i in range(50)] for start in range(4)]
    said = [[*text, *reused(engine, text)[1]] for text in said]
    for low, high in ((0, 2), (0, 3), (1, 3)):
        for slot in (low, high):
            said[slot].append(9)
        expected = alone(tiny_gguf, [said[low], said[high]], GREEDY)
        heard = [Heard(), Heard()]
        for slot, each in zip((low, high), heard, strict=True):
            engine.scheduler.add(said[slot], GREEDY, each)
        between = set()
        while engine.scheduler.busy:
            engine.scheduler.step()
            between.add(tuple(slot.sequence for slot in engine.scheduler._fillers))
        assert tuple(range(low + 1, high)) in between
        found = [list(each.take()) for each in heard]
        assert [ids(tokens) for tokens in found] == expected
        assert [t[-1].timings.reused_tokens for t in found] == [
            len(said[s]) - 2 for s in (low, high)
        ]
        for slot, answer in zip((low, high), expected, strict=True):
            said[slot] += answer


def test_what_another_slot_has_read_is_copied_where_that_is_worth_it(engine: LlamaCpp) -> None:
    heard = [Heard(), Heard()]
    engine.scheduler.add(LONG[0], replace(GREEDY, max_tokens=None), heard[0])
    while not any(token.id is not None for token in heard[0].take()):
        engine.scheduler.step()
    engine.scheduler.add([*LONG[0][:50], 400], GREEDY, heard[1])  # while the first one runs
    while not heard[1].done:
        engine.scheduler.step()
    assert list(heard[1].take())[-1].timings.reused_tokens == 50
    heard[0].cancelled = True
    engine.scheduler.step()
    assert reused(engine, [*LONG[0][: LEAST_COPIED - 1], 410])[0] == 0
    assert reused(engine, [*LONG[0][:LEAST_COPIED], 420])[0] == LEAST_COPIED


def test_cancelling_the_engine_ends_all(four: WorkerEngine) -> None:
    endless = replace(GREEDY, max_tokens=None)
    asked = [Asked(four, f"{i} " * 20, endless) for i in range(6)]
    while not any(t.text for t in asked[0].tokens):
        pass
    four.cancel()
    for each in asked:
        each.join()
        assert each.tokens[-1].finish in ("cancelled", "context", "stop")
    assert list(four.stream("after", GREEDY))[-1].finish


def test_each_answer_has_its_own_grammar_and_probabilities(engine: LlamaCpp) -> None:
    wanted = [replace(GREEDY, max_tokens=6, grammar=f'root ::= "{c}" [0-9]+') for c in "ab"]
    wanted += [replace(GREEDY, max_tokens=4, top_logprobs=3)]
    heard = [Heard() for _ in wanted]
    for sampling, each in zip(wanted, heard, strict=True):
        engine.scheduler.add(PROMPTS[0], sampling, each)
    while engine.scheduler.busy:
        engine.scheduler.step()
    tokens = [list(each.take()) for each in heard]
    for letter, answer in zip("ab", tokens, strict=False):
        assert re.fullmatch(f"{letter}[0-9]*", "".join(t.text for t in answer))
    chosen = [t for t in tokens[2] if t.id is not None]
    for t in chosen:
        assert t.top[0].id == t.id  # greedy takes the likeliest
        assert t.logprob == t.top[0].logprob
        assert sum(np.exp(each.logprob) for each in t.top) <= 1
    engine.clear()
    row = engine.logits(engine.tokenize(PROMPTS[0]))[-1].astype(np.float64)
    assert chosen[0].logprob == pytest.approx(row.max() - np.log(np.exp(row).sum()), abs=1e-4)


def test_a_grammar_that_cannot_be_read_fails_before_anything_is_computed(engine: LlamaCpp) -> None:
    running = Heard()
    engine.scheduler.add(PROMPTS[0], GREEDY, running)
    with pytest.raises(UsageError):
        engine.scheduler.add(PROMPTS[1], replace(GREEDY, grammar="root ::= ("), Heard())
    while engine.scheduler.busy:
        engine.scheduler.step()
    assert list(running.take())[-1].finish


# -- prefixes ------------------------------------------------------------------------------

SYSTEM = list(range(10, 130))


def reused(
    engine: LlamaCpp, prompt: list[int], sampling: Sampling = GREEDY
) -> tuple[int, list[int]]:
    tokens = list(engine.stream(prompt, sampling))
    return tokens[-1].timings.reused_tokens, ids(tokens)


def test_conversations_that_alternate_keep_their_prefixes(engine: LlamaCpp) -> None:
    texts = [[200 + i] * 30 for i in range(4)]
    for turn in range(3):
        for i, text in enumerate(texts):
            found, answer = reused(engine, text)
            assert turn == 0 or found >= len(text) - len(answer) - 5
            texts[i] = [*text, *answer, 3, 4, 5, 6]


def test_a_system_prompt_is_shared_by_conversations(engine: LlamaCpp, tiny_gguf: Path) -> None:
    first, second = [*SYSTEM, 300, 301], [*SYSTEM, 400, 401, 402]
    reused(engine, first)
    found, answer = reused(engine, second)
    assert found == len(SYSTEM)
    assert [answer] == alone(tiny_gguf, [second], GREEDY)
    # The first conversation is still there as a whole.
    assert reused(engine, first)[0] == len(first) - 1


def test_a_prefix_is_shared_with_an_answer_that_runs(engine: LlamaCpp, tiny_gguf: Path) -> None:
    running = Heard()
    engine.scheduler.add([*SYSTEM, 300], replace(GREEDY, max_tokens=60), running)
    while not any(t.id is not None for t in running.take()):
        engine.scheduler.step()
    second = [*SYSTEM, 400, 401]
    found, answer = reused(engine, second)
    assert found == len(SYSTEM)
    assert [answer] == alone(tiny_gguf, [second], GREEDY)


@pytest.mark.thorough
def test_a_prompt_that_is_asked_several_times_at_once_is_read_once(
    engine: LlamaCpp, tiny_gguf: Path
) -> None:
    prompt = [(7 * i) % 490 + 5 for i in range(400)]
    seeds = [Sampling(seed=seed, max_tokens=8) for seed in range(3)]
    heard = [Heard() for _ in seeds]
    for sampling, each in zip(seeds, heard, strict=True):
        engine.scheduler.add(prompt, sampling, each)
    other = Heard()
    engine.scheduler.add([9] * 100, GREEDY, other)
    while engine.scheduler.busy:
        engine.scheduler.step()
    answers = [list(each.take()) for each in heard]
    assert [a[-1].timings.reused_tokens for a in answers] == [0, 399, 399]
    assert [ids(a) for a in answers] == [alone(tiny_gguf, [prompt], s)[0] for s in seeds]
    assert [ids(list(other.take()))] == alone(tiny_gguf, [[9] * 100], GREEDY)


def test_the_conversation_that_was_used_longest_ago_makes_room(engine: LlamaCpp) -> None:
    for i in range(4):
        reused(engine, [200 + i] * 50)
    reused(engine, [200] * 50)  # used again
    reused(engine, [300] * 50)  # takes the place of 201
    assert reused(engine, [200] * 50)[0] == 49
    assert reused(engine, [202] * 50)[0] == 49
    assert reused(engine, [201] * 50)[0] == 0


# -- on disk -------------------------------------------------------------------------------


def opened(file: Path, folder: Path, sequences: int = 1) -> WorkerEngine:
    settings = replace(ONE, context=512 * sequences, sequences=sequences)
    return worker.start("gguf", file, settings, prefixes=[Place(str(folder), "m" * 32)])


def told(engine: WorkerEngine, prompt: list[int]) -> tuple[int, list[int]]:
    tokens = list(engine.stream(prompt, GREEDY))
    return tokens[-1].timings.reused_tokens, ids(tokens)


LONG = [[(7 * i + start) % 490 + 5 for i in range(300)] for start in range(3)]


@pytest.mark.thorough
def test_conversations_come_back_after_they_made_room_and_after_a_restart(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    expected = alone(tiny_gguf, LONG, GREEDY)
    with opened(tiny_gguf, tmp_path) as engine:
        for number in range(3):
            assert told(engine, LONG[number]) == (0, expected[number])
        assert told(engine, LONG[0]) == (len(LONG[0]) - 1, expected[0])
        engine.keep_prefixes()
    for sequences in (2, 4, 1, 3):
        with opened(tiny_gguf, tmp_path, sequences) as engine:
            for number in range(3):
                assert told(engine, LONG[number]) == (len(LONG[number]) - 1, expected[number])
            engine.keep_prefixes()
    assert len(list(tmp_path.iterdir())) == 3


def test_a_conversation_that_went_on_replaces_what_is_saved_of_it(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    with opened(tiny_gguf, tmp_path) as engine:
        engine.keep_prefixes()
        _, answer = told(engine, LONG[0])
        engine.keep_prefixes()
        engine.keep_prefixes()
        (first,) = tmp_path.iterdir()
        longer = [*LONG[0], *answer, 3, 4, 5]
        assert told(engine, longer)[0] == len(LONG[0]) + len(answer) - 1
        engine.keep_prefixes()
        (second,) = tmp_path.iterdir()
        assert first != second


def test_short_conversations_and_damaged_files_cost_no_more_than_reading(
    tiny_gguf: Path, tmp_path: Path
) -> None:
    with opened(tiny_gguf, tmp_path) as engine:
        told(engine, [5] * 100)
        engine.keep_prefixes()
        assert list(tmp_path.iterdir()) == []
        told(engine, LONG[0])
        engine.keep_prefixes()
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with opened(tiny_gguf, tmp_path) as engine:
        assert told(engine, LONG[0])[0] == 0
    assert list(tmp_path.iterdir()) == []


def test_the_store_keeps_its_limit(tmp_path: Path) -> None:
    prefixes = Prefixes([Place(str(tmp_path), "m" * 32)], limit=5000)
    for start in range(4):
        tokens = [start] * 300
        head = array("I", [0x67677371, 3, len(tokens)]).tobytes() + array("i", tokens).tobytes()
        prefixes.keep(tokens, partial(Path.write_bytes, data=head.ljust(2000, b"\0")))
    assert len(list(tmp_path.iterdir())) == 2
    found = prefixes.best([3] * 300 + [9], 512, rigid=None)
    assert found is not None
    assert found.shared == 300
    assert prefixes.best([3] * 280 + [9] * 30, 512, rigid=0) is None
    assert prefixes.best([3] * 280 + [9] * 30, 512, rigid=299) is None
    assert prefixes.best([3] * 280 + [9] * 30, 512, rigid=300) is not None
    assert prefixes.best([3] * 300 + [9], 299, rigid=None) is None
    assert Prefixes([Place(str(tmp_path), "n" * 32)]).best([3] * 300, 512, rigid=None) is None
