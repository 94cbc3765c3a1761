"""Fine-tunes the last layers of a backbone with the head, on photos that are distorted anew in each pass.

The best step is that with the lowest cross-entropy on the validation photos, in the last third of the training; step 0
is the frozen network. After each evaluation the state is written to a checkpoint. The batch and the distortions of a
step depend on its number only, so that a training that was killed goes on as if it had not been.
"""

from __future__ import annotations

import logging
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from trtpoets.core.images import photo_to_array, usable_cores
from trtpoets.core.optional import tensorflow_gpus
from trtpoets.core.progress import Progress, silent
from trtpoets.core.threads import map_ahead
from trtpoets.train.distortions import Variant
from trtpoets.train.finetune_layers import layers_of
from trtpoets.train.finetune_loop import FineTuningLoop
from trtpoets.train.finetune_schedule import evaluated_steps, first_choosable, layer_rates, number_of_steps, rate_at
from trtpoets.train.head import Head
from trtpoets.train.tensorboard_events import curve_writer, new_log_folder

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from trtpoets.core.fine_tuning import FineTuneConfig
    from trtpoets.core.types import Photo, Preprocess
    from trtpoets.train.finetune_checkpoint import Checkpoint
    from trtpoets.train.networks import Network
    from trtpoets.train.tensorboard_events import CurveFunction

_log = logging.getLogger(__name__)

_EVALUATED = 32
"""Photos in a batch of an evaluation."""


@dataclass(frozen=True, eq=False)
class LabelledPhotos:
    """Photos to train on, photos to select the step with, and the index of each photo's label, int32 (N,)."""

    train: Sequence[Photo]
    train_labels: np.ndarray
    validation: Sequence[Photo]
    validation_labels: np.ndarray


@dataclass(frozen=True, eq=False)
class Course:
    """The course of a fine-tuning, one entry for each evaluated step; step 0 is the frozen network.

    `first` is the first entry that may be shipped. `right`, bool (E, n), and `nats`, float32 (E, n), are the answers to
    each validation photo and its cross-entropy. Training values are those of the distorted batches since the last
    entry; the first repeats the second.
    """

    steps: tuple[int, ...]
    train_accuracy: tuple[float, ...]
    train_cross_entropy: tuple[float, ...]
    right: np.ndarray
    nats: np.ndarray
    first: int
    seconds: float
    photos_per_s: float

    @property
    def best(self) -> int:
        """The entry in the last third with the lowest cross-entropy on the validation photos; 0 if there is none."""
        return best_entry(self.nats, self.first)


def fine_tuned_head(
    network: Network,
    head: Head,
    photos: LabelledPhotos,
    unfrozen: int,
    config: FineTuneConfig,
    checkpoint: Checkpoint,
    *,
    class_weights: np.ndarray,
    logs: Path | None = None,
    progress: Progress = silent,
    task: str = "fine-tuning",
) -> tuple[Head, Course]:
    """Train the last `unfrozen` layers of `network` in place, starting with `head`; return the head of the best step.

    Afterwards the network has the weights of the best step. A training that diverges ends there. The state is kept in
    `checkpoint`; a training that was completed there is not repeated. Curves for TensorBoard are written to a folder of
    `logs`, which a resumed training continues.

    Raises BadPhoto, with the name, if a photo disappeared, PhotoChanged, StorageFailed.
    """
    loop = fine_tuning_loop(network, unfrozen, head, config, class_weights, mixed_precision=tensorflow_gpus() > 0)
    training = _Training(loop, network, photos, config, checkpoint, progress, task)
    training.resume()
    training.run(logs, f"unfreeze-{unfrozen}")
    loop.assign(training.best)
    return Head(*training.best[-2:]), training.course()


class _Training:
    """The state of a training: variables, optimizer, and what was measured."""

    def __init__(
        self,
        loop: FineTuningLoop,
        network: Network,
        photos: LabelledPhotos,
        config: FineTuneConfig,
        checkpoint: Checkpoint,
        progress: Progress,
        task: str,
    ) -> None:
        self._loop, self._photos, self._config = loop, photos, config
        self._preprocess = network.backbone.preprocess
        self._checkpoint, self._progress, self._task = checkpoint, progress, task
        self._batch = min(config.batch_size, len(photos.train))
        self._total = number_of_steps(len(photos.train), self._batch, config.epochs, config.least_steps)
        self._steps: list[int] = []
        self._train: list[tuple[float, float]] = []
        self._right: list[np.ndarray] = []
        self._nats: list[np.ndarray] = []
        self._seconds = 0.0
        self._log_folder = ""
        self.best: list[np.ndarray] = loop.values()

    def resume(self) -> None:
        """Read the checkpoint, if there is one of this training."""
        state = self._checkpoint.read()
        if state is None:
            return
        count = len(self.best)
        self._loop.assign([state[f"value_{place}"] for place in range(count)])
        self._loop.assign_moments([state[f"moment_{place}"] for place in range(2 * count)])
        self.best = [state[f"best_{place}"] for place in range(count)]
        self._steps = state["steps"].tolist()
        self._train = [(accuracy, nats) for accuracy, nats in state["train"].tolist()]
        self._right, self._nats = list(state["right"]), list(state["nats"])
        self._seconds = float(state["seconds"])
        self._log_folder = str(state.get("log_folder", ""))
        _log.info("%s continues after step %d of %d, where it ended", self._task, self._steps[-1], self._total)

    def run(self, logs: Path | None, name: str) -> None:
        """Train until the last step, or until the training diverges.

        The curves are written to the folder of `logs` that the interrupted training used, or to a new one for `name`.
        """
        evaluated = set(evaluated_steps(self._total))
        start = time.perf_counter() - self._seconds
        if not self._steps:
            self._evaluate(0, 0, 0.0, 0)
        first = self._steps[-1]
        if first >= self._total or self._diverged():
            return
        self._progress(self._task, first, self._total)
        right, nats, seen = 0, 0.0, 0
        write: CurveFunction | None = None
        batches = distorted_batches(
            self._photos.train,
            self._photos.train_labels,
            self._config,
            self._preprocess,
            self._batch,
            range(first, self._total),
        )
        with ExitStack() as stack:
            stack.enter_context(closing(batches))
            for step, (pixels, labels) in enumerate(batches, first):
                rate = self._config.learning_rate * rate_at(step, self._total)
                own_right, own_nats = self._loop.train(pixels, labels, rate, step + 1)
                right, nats, seen = right + own_right, nats + own_nats, seen + len(labels)
                self._progress(self._task, step + 1, self._total)
                if step + 1 in evaluated:
                    self._evaluate(step + 1, right, nats, seen)
                    right, nats, seen = 0, 0.0, 0
                    self._seconds = time.perf_counter() - start
                    # The folder is made for the first point, and the point is written before the state is saved. So a
                    # process that is killed leaves no empty folder and loses no point.
                    write = write or stack.enter_context(curve_writer(self._folder_in(logs, name)))
                    write(step + 1, self._values(), {})
                    self._save()
                    if self._diverged():
                        return

    def _folder_in(self, logs: Path | None, name: str) -> Path | None:
        """Return the folder of `logs` for the curves; None without `logs`."""
        if logs is None:
            return None
        if not self._log_folder or not (logs / self._log_folder).is_dir():
            self._log_folder = new_log_folder(logs, name).name
        return logs / self._log_folder

    def course(self) -> Course:
        """Return what was measured."""
        train = [*self._train[1:2], *self._train[1:]] or [(0.0, 0.0)]
        return Course(
            steps=tuple(self._steps),
            train_accuracy=tuple(accuracy for accuracy, _ in train),
            train_cross_entropy=tuple(nats for _, nats in train),
            right=np.stack(self._right),
            nats=np.stack(self._nats),
            first=first_choosable(self._steps, self._total),
            seconds=self._seconds,
            photos_per_s=self._steps[-1] * self._batch / self._seconds if self._seconds else 0.0,
        )

    def _diverged(self) -> bool:
        return not bool(np.isfinite(self._nats[-1]).all())

    def _values(self) -> dict[str, tuple[float, float]]:
        return {"train": self._train[-1], "validation": (float(self._right[-1].mean()), float(self._nats[-1].mean()))}

    def _evaluate(self, step: int, right: int, nats: float, seen: int) -> None:
        """Measure the validation photos after `step`; the other numbers are sums over `seen` training photos."""
        labels = self._photos.validation_labels
        logits = self._validation_logits().astype(np.float64)
        highest = logits.max(axis=1)
        sums = highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))
        losses = sums - logits[np.arange(len(labels)), labels]
        self._steps.append(step)
        self._train.append((right / max(seen, 1), nats / max(seen, 1)))
        self._right.append(logits.argmax(axis=1) == labels)
        self._nats.append(losses.astype(np.float32))
        first = first_choosable(self._steps, self._total)
        if best_entry(np.stack(self._nats), first) == len(self._nats) - 1 > 0:
            self.best = self._loop.values()

    def _validation_logits(self) -> np.ndarray:
        photos = self._photos.validation
        parts = [photos[start : start + _EVALUATED] for start in range(0, len(photos), _EVALUATED)]

        def decoded(part: Sequence[Photo]) -> np.ndarray:
            return np.stack([photo_to_array(photo, self._preprocess) for photo in part])

        with closing(map_ahead(decoded, parts, usable_cores(), 2)) as batches:
            return np.concatenate([self._loop.logits(pixels) for pixels in batches])

    def _save(self) -> None:
        arrays = {f"value_{place}": value for place, value in enumerate(self._loop.values())}
        arrays |= {f"moment_{place}": value for place, value in enumerate(self._loop.moments())}
        arrays |= {f"best_{place}": value for place, value in enumerate(self.best)}
        arrays |= {"steps": np.array(self._steps), "train": np.array(self._train), "seconds": np.array(self._seconds)}
        arrays |= {"log_folder": np.array(self._log_folder)}
        self._checkpoint.write(arrays | {"right": np.stack(self._right), "nats": np.stack(self._nats)})


def fine_tuning_loop(
    network: Network,
    unfrozen: int,
    head: Head,
    config: FineTuneConfig,
    class_weights: np.ndarray,
    *,
    mixed_precision: bool,
    device: str | None = None,
) -> FineTuningLoop:
    """Return the loop that trains the last `unfrozen` layers of `network` and `head`, with the rates of `config`.

    The other arguments are those of `FineTuningLoop`.
    """
    every = layers_of(network)
    return FineTuningLoop(
        network,
        every[len(every) - unfrozen :],
        head,
        layer_rates=layer_rates(len(every), unfrozen, config.lowest_share),
        label_smoothing=config.label_smoothing,
        class_weights=class_weights,
        mixed_precision=mixed_precision,
        device=device,
    )


def distorted_batches(
    photos: Sequence[Photo],
    labels: np.ndarray,
    config: FineTuneConfig,
    preprocess: Preprocess,
    batch: int,
    steps: range,
) -> Generator[tuple[np.ndarray, np.ndarray], None, None]:
    """Yield distorted `photos`, uint8 (batch, H, W, 3), and their `labels`, int32 (batch,), for each of `steps`.

    Threads decode the next batches meanwhile. Raises BadPhoto, PhotoChanged.
    """
    count = len(photos)

    def drawn(place: int) -> tuple[int, int]:
        """Return the photo at a place of the training's order, and the pass, in which each photo occurs once."""
        epoch, position = divmod(place, count)
        return int(_order(config.seed, epoch, count)[position]), epoch

    def decoded(step: int) -> tuple[np.ndarray, np.ndarray]:
        chosen = [drawn(place) for place in range(step * batch, (step + 1) * batch)]
        pixels = [
            Variant(config.distortions, config.seed, epoch).pixels(photos[row], preprocess) for row, epoch in chosen
        ]
        return np.stack(pixels), labels[[row for row, _ in chosen]].astype(np.int32)

    return map_ahead(decoded, steps, usable_cores(), 2 * usable_cores())


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> np.ndarray:
    """Return the order of the photos in a pass: int64 (count,)."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def best_entry(nats: np.ndarray, first: int) -> int:
    """Return the entry from `first` on with the lowest mean of `nats`, float32 (E, n); 0 if none is finite.

    Step 0 takes no part: the frozen network is the other side of the comparison, and label smoothing raises the
    cross-entropy of all later steps.
    """
    means = nats[first:].astype(np.float64).mean(axis=1)
    means = np.where(np.isfinite(means), means, np.inf)
    return int(np.argmin(means)) + first if np.isfinite(means).any() else 0
