"""How many threads the next piece of a call runs on: as many as its cost speaks for, while they prove to be faster.

A program's estimate of a step says with how many threads it begins. Where other programs use the processors too,
threads wait at every meeting for one that was stopped, and a step takes longer than one thread would. So calls that go
on for long are run in pieces, whose times are watched: when a piece takes longer than those before it, and now and then
without a cause, a short one is tried on fewer threads, and where fewer are in use, on more. The faster count is kept.
Trials that change nothing come more and more rarely. Results are the same bytes whatever is chosen.
"""

from __future__ import annotations

from collections.abc import Sequence

START = 60e-6  # seconds until the threads of a call have begun, and have told that they ended
PROMISE = 1.05  # how much faster more threads must be by the estimate
MARGIN = 1.1  # how much faster another count must prove to be in a trial
ALARM = 1.25  # how much slower a piece may be than those before it
ENDLESS = 1e12  # batches of a call that goes on and on
PIECE, TRIAL, LEAST = 0.04, 0.005, 0.002  # seconds: of a piece, of a trial, and of what says anything
PATIENCE = {"fewer": 32.0, "more": 8.0}  # trials as long as the last one that pass until the next, at first
MOST_PATIENCE, LONGEST = 256.0, 2.0  # the same at last, and the seconds that are enough, if it was a short one
HASTE = 4.0  # the same after an alarm


def count(seconds: Sequence[float], batches: float) -> int:
    """The number of threads for a call of so many batches; `seconds` of a batch by 1, 2, ... threads.

    Each further thread must be worth its while: the estimate is not exact.
    """
    best, least = 1, seconds[0] * batches
    for threads, each in enumerate(seconds[1:], 2):
        taken = START + each * batches
        if taken * PROMISE < least:
            best, least = threads, taken
    return best


class Pace:
    """What is known of one entry's times. Ask `piece`, run it, and tell `record` how long it took, by turns."""

    def __init__(self, seconds: Sequence[float]) -> None:
        self.seconds = tuple(seconds)
        self.most = count(seconds, ENDLESS)
        self.threads = self.most  # in use, but for trials
        self._each = {threads + 1: each for threads, each in enumerate(seconds)}  # of a batch, as far as is known
        self._trial: int | None = None
        self._before = 0.0  # what a batch took in the piece before the trial
        self._fewer = True  # whether the next trial is of fewer threads
        self._patience = dict(PATIENCE)
        self._since, self._last = 0.0, 0.0  # seconds from the last trial on, and of that
        self._due = PATIENCE["fewer"] * TRIAL
        self._batches, self._taken = 0.0, 0.0  # run, and not yet judged

    def piece(self, batches: float) -> tuple[int, float]:
        """On how many threads to go on, and with how many of the batches that are left: whole ones, or all."""
        if self.most == 1:
            return 1, batches
        wanted = self._trial or self.threads
        threads = min(wanted, count(self.seconds, batches)) if wanted > 1 else 1
        fitting = max(1, int((TRIAL if self._trial else PIECE) / max(self._each[threads], 1e-9)))
        return threads, fitting if batches > (1.0 if self._trial else 1.5) * fitting else batches

    def record(self, threads: int, batches: float, seconds: float) -> None:
        """So many batches took so many seconds."""
        if threads != (self._trial or self.threads) or self.most == 1:
            return  # a short call: what it took says nothing of long ones
        self._batches += batches
        self._taken += seconds
        if self._taken < LEAST or self._batches <= 0:
            return
        each, taken = self._taken / self._batches, self._taken
        self._batches = self._taken = 0.0
        if self._trial is None:
            self._judge(each, taken)
        else:
            self._decide(self._trial, each, taken)

    def _judge(self, each: float, taken: float) -> None:
        """Whether it is time for a trial, after a piece that was none."""
        self._since += taken
        known = self._each[self.threads]
        alarm = each > ALARM * known
        self._each[self.threads] = each if alarm else known + (each - known) / 4
        if alarm:
            self._fewer = True
            self._due = min(self._due, HASTE * self._last)
        if self._since >= self._due:
            self._trial = self._neighbour()
            self._before = each

    def _neighbour(self) -> int:
        """The count to try: half as many, or twice as many up to the most."""
        rungs = [self.most]
        while rungs[-1] > 1:
            rungs.append(rungs[-1] // 2)
        at = rungs.index(self.threads)
        return rungs[at + 1] if self.threads > 1 and self._fewer else rungs[at - 1]

    def _decide(self, tried: int, each: float, taken: float) -> None:
        """After a trial: which count goes on, and when the next trial is due."""
        way = "fewer" if tried < self.threads else "more"
        self._each[tried], self._trial = each, None
        if each * MARGIN < self._before:
            self.threads = tried
        self._patience[way] = min(2 * self._patience[way], MOST_PATIENCE)
        self._fewer = self.threads == self.most or (way == "more" and self.threads > 1)
        patience = self._patience["fewer" if self._fewer else "more"]
        self._since, self._last = 0.0, taken
        self._due = min(patience * taken, max(LONGEST, PATIENCE["fewer"] * taken))
