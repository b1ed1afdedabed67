"""Several answers at once: each pass over the weights makes the next token of all that run.

Decoding waits for the memory, so that a batch of some tokens costs little more than one. Prompts
are read in the same passes, in the order in which they came, in chunks that leave the others their
tokens. A pass is aborted only where nobody wants anything of it any more.

Guessed tokens of an answer are computed with its next one where that pays (``guessing``).
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence

from pitool.engine.base import Prompt, Sampling, Timings, Token
from pitool.engine.generate import CHUNK_STEP, Answer, check_prompt, next_chunk, shared_prefix
from pitool.engine.llamacpp.batch import Batch
from pitool.engine.llamacpp.guessing import Guessing
from pitool.engine.llamacpp.library import CancelFlag, llama_cpp
from pitool.engine.llamacpp.running import Job, Llama, Part, Running
from pitool.engine.llamacpp.sampler import Sampler, is_greedy
from pitool.engine.llamacpp.sequences import Sequences, Slot
from pitool.engine.probabilities import probabilities
from pitool.engine.scheduling import Listener
from pitool.engine.speculation.policy import Speculation
from pitool.errors import PitoolError

ALONE_SECONDS = 1.0
BESIDE_SECONDS = 0.5
"""How long a pass reads of a prompt: alone, so that progress shows; beside answers, so that they
do not stand still."""
_ABORTED = 2


class Scheduler:
    """See ``scheduling.Scheduler``; ``sequences`` are the slots, ``flag`` aborts a pass.

    ``speculation`` None: no tokens are guessed.
    """

    def __init__(
        self,
        llama: Llama,
        sequences: Sequences,
        flag: CancelFlag,
        speculation: Speculation | None = None,
    ) -> None:
        self._llama, self._sequences, self._flag = llama, sequences, flag
        self._guessing = Guessing(llama, sequences, speculation) if speculation else None
        self._batch = Batch(llama.batch)
        self._waiting: deque[Job] = deque()
        self._running: list[Running] = []
        self._fillers: list[Slot] = []
        self._read_last = False
        self._lock = threading.Lock()
        self._computing: list[Job] = []
        self._rate = 0.0

    @property
    def busy(self) -> bool:
        """Whether an answer runs or waits."""
        return bool(self._running or self._waiting)

    def add(self, prompt: Prompt, sampling: Sampling, listener: Listener) -> Job:
        """Begin an answer as soon as there is a slot for it.

        BadInput and DoesNotFit for its prompt, UsageError for its sampling.
        """
        asked = time.perf_counter()
        ids = self._llama.encode(prompt)
        check_prompt(ids, self._llama.length)
        greedy = is_greedy(sampling)
        sampler = None if greedy else Sampler(sampling, ids, self._llama.vocabulary)
        expected = self._llama.encode(sampling.prediction) if sampling.prediction else ()
        job = Job(ids, sampling, listener, asked, sampler, expected)
        self._waiting.append(job)
        return job

    def cancel(self) -> None:
        """End all that runs and waits; from any thread."""
        for job in (*list(self._waiting), *(running.job for running in list(self._running))):
            job.dropped = True
        self.look()

    def look(self) -> None:
        """Abort the pass that is computed if all in it is cancelled; from any thread."""
        with self._lock:
            if self._computing and all(job.cancelled for job in self._computing):
                self._flag.set()

    def drop(self, job: Job) -> None:
        """Let go of an answer at once, whose listener has gone."""
        job.dropped = True
        self._leave_cancelled()

    def step(self) -> None:
        """Compute the next token of all that run, and a chunk of the prompts that came first."""
        self._leave_cancelled()
        while self._waiting and self._sequences.free and not self._being_read(self._waiting[0]):
            self._begin(self._waiting.popleft())
        if not (parts := self._fill()):
            return
        start = time.perf_counter()
        status = self._compute(parts)
        seconds = time.perf_counter() - start
        read = sum(len(part.ids) for part in parts if part.running.answer.reading)
        if read >= CHUNK_STEP:
            self._rate = read / seconds
        elif self._guessing is not None and not read and status == 0:
            self._guessing.took(self._batch.size, seconds)
        if status == 0:
            for part in parts:
                self._take(part)
        else:
            self._undo(parts, status)

    def _being_read(self, job: Job) -> bool:
        """Tell whether another answer is reading what a prompt begins with, to be copied soon.

        As when one prompt is asked several times, or two clients begin with one system prompt.
        """
        return self._sequences.copies and any(
            shared_prefix(other.job.ids, job.ids[:-1]) >= len(other.slot.tokens) + CHUNK_STEP
            for other in self._running
            if other.answer.reading
        )

    def _begin(self, job: Job) -> None:
        answer = Answer(job.ids, job.sampling, self._llama.length, job.asked)
        slot = self._sequences.take(job.ids)
        answer.begin(len(slot.tokens))
        turns = self._llama.turns(job.ids) if self._sequences.recurrent else ()
        stops = deque(turn for turn in turns if turn > len(slot.tokens))
        guesser = self._guessing.begin(job, slot) if self._guessing else None
        self._running.append(Running(job, answer, slot, stops, guesser))

    # -- one pass --------------------------------------------------------------------------

    def _fill(self) -> list[Part]:
        """Put into the batch what the next pass is to compute, in the order of the slots."""
        self._batch.clear()
        self._fillers.clear()
        parts = list[Part]()
        for running, ids, guessed in sorted(self._next(), key=lambda new: new[0].slot.sequence):
            if parts:
                self._fill_between(parts[-1].running.slot, running.slot, ids[0])
            parts.append(self._put(running, ids, guessed))
        return parts

    def _next(self) -> Iterator[tuple[Running, Sequence[int], Sequence[int]]]:
        """Yield the running answers that go on with the next pass, with their tokens and guesses.

        Of prompts beside answers that is both, where it is one pass over the weights; else, one
        after the other, so that neither waits for a pass that is not its own.
        """
        writing = [running for running in self._running if not running.answer.reading]
        chunks = list(self._chunks(len(writing)))
        if self._sequences.apart and chunks and writing:
            self._read_last = not self._read_last
            if self._read_last:
                writing = []
            else:
                chunks = []
        for running in writing:
            yield running, running.answer.part(1), self._guess(running)
        yield from ((running, ids, ()) for running, ids in chunks)

    def _fill_between(self, first: Slot, last: Slot, token: int) -> None:
        """Put a token that nobody wants into each slot between two, for one pass over the weights.

        It is dropped after the pass.
        """
        for slot in self._sequences.between(first, last):
            self._batch.add([token], len(slot.tokens), slot.sequence, rows=0)
            self._fillers.append(slot)

    def _put(self, running: Running, ids: Sequence[int], guessed: Sequence[int] = ()) -> Part:
        answer, slot = running.answer, running.slot
        last = answer.now.prefilled_tokens + len(ids) >= len(answer.ids)
        computed = (*ids, *guessed)
        rows = len(guessed) + last
        first = self._batch.add(computed, len(slot.tokens), slot.sequence, rows=rows)
        return Part(running, computed, first, guessed)

    def _guess(self, running: Running) -> Sequence[int]:
        """Return guesses at the next tokens of an answer; none while there are others beside it.

        llama.cpp computes different numbers of tokens of several sequences in several passes.
        """
        if self._guessing is None or len(self._running) > 1:
            return ()
        return self._guessing.guess(running)

    def _chunks(self, decoding: int) -> Iterator[tuple[Running, Sequence[int]]]:
        """Yield what is read of the prompts, in the order in which they came."""
        room = max(self._llama.micro_batch - decoding, 1)
        seconds = BESIDE_SECONDS if decoding else ALONE_SECONDS
        left = min(max(int(self._rate * seconds), CHUNK_STEP), room)
        for running in [each for each in self._running if each.answer.reading]:
            answer = running.answer
            done = answer.now.prefilled_tokens
            size = next_chunk(len(answer.ids) - done, self._rate, room, seconds)
            if running.stops:
                size = min(size, running.stops[0] - done)
            yield running, answer.part(size)
            room = left = left - size
            if left < CHUNK_STEP:
                return

    def _compute(self, parts: Sequence[Part]) -> int:
        """Run the batch and return llama.cpp's status."""
        # A recurrent state that a pass was aborted in is lost, and a token is soon there.
        abort = not self._sequences.recurrent or any(p.running.answer.reading for p in parts)
        with self._lock:
            self._flag.clear()
            self._computing = [part.running.job for part in parts] if abort else []
        self.look()  # one may have been cancelled since the batch was filled
        try:
            return int(llama_cpp.llama_decode(self._llama.context, self._batch.struct))
        finally:
            with self._lock:
                self._computing = []
            for slot in self._fillers:
                self._sequences.forget_pass(slot)

    def _undo(self, parts: Sequence[Part], status: int) -> None:
        """Take back what a pass left that was aborted or failed; a fault ends its answers."""
        for part in parts:
            self._sequences.rewind(part.running.slot, len(part.running.slot.tokens))
        if status == _ABORTED:
            return
        error = self._llama.failure(status)
        for part in parts:
            self._sequences.clear([part.running.slot])
            self._fail(part.running, error)

    def _take(self, part: Part) -> None:
        """Go on with an answer after its part was computed."""
        running, answer, slot = part.running, part.running.answer, part.running.slot
        slot.tokens.extend(part.ids)
        try:
            if answer.reading:
                self._tell(running, answer.read(len(part.ids)))
                self._keep_state(running)
            if not (answer.reading or answer.finished):
                for token in self._verify(part):
                    self._tell(running, token)
        except PitoolError as error:
            self._fail(running, error)

    def _keep_state(self, running: Running) -> None:
        """Copy the recurrent state where the prompt was read up to the beginning of a turn."""
        if running.stops and running.stops[0] == len(running.slot.tokens):
            running.stops.popleft()
            self._sequences.checkpoint(running.slot)

    def _verify(self, part: Part) -> list[Token]:
        """Choose tokens from the rows of a part, up to the first that was not guessed.

        What was computed for guesses that do not hold is taken back.
        """
        running, answer, guessed = part.running, part.running.answer, part.guessed
        chosen = list[Token]()
        running.doubt = False
        try:
            for at in range(len(guessed) + 1):
                if guessed and self._guessing and self._guessing.doubts(running, part.row + at):
                    running.doubt = True  # this token's pass is done again without guesses
                    break
                chosen.append(self._choose(running, part.row + at, guessed[at : at + 1]))
                if answer.finished or chosen[-1].id != next(iter(guessed[at:]), None):
                    break
        finally:
            if guessed:
                self._sequences.rewind(running.slot, answer.now.context_used)
        return chosen

    def _choose(self, running: Running, row: int, guess: Sequence[int] = ()) -> Token:
        """Choose a token by a row of logits; greedy takes the first of equal ones."""
        sampler, vocabulary = running.job.sampler, self._llama.vocabulary
        if sampler is None:
            token = int(self._llama.logits(row).argmax())
        else:
            token = sampler.draw(self._llama.context, row)
        count, odds = running.job.sampling.top_logprobs, None
        if count is not None:
            odds = probabilities(self._llama.logits(row), token, count, vocabulary.spelled)
        if running.guesser is not None:
            running.guesser.chosen(token)
        piece, ends = vocabulary.piece(token), vocabulary.ends(token)
        return running.answer.choose(token, piece, ends=ends, odds=odds, guess=guess)

    # -- the end of an answer --------------------------------------------------------------

    def _tell(self, running: Running, token: Token) -> None:
        if token.finish is not None:
            self._leave(running)
        running.job.listener.token(token)

    def _fail(self, running: Running, error: PitoolError) -> None:
        self._leave(running)
        running.job.listener.fail(error)

    def _leave(self, running: Running) -> None:
        self._running.remove(running)
        self._sequences.release(running.slot)
        running.job.close()

    def _leave_cancelled(self) -> None:
        """End what nobody wants any more."""
        for running in [each for each in self._running if each.job.cancelled]:
            self._tell(running, running.answer.cancel())
        for job in [each for each in self._waiting if each.cancelled]:
            self._waiting.remove(job)
            job.close()
            job.listener.token(Token("", None, Timings(len(job.ids)), "cancelled"))
