"""A training in its own process, to be killed: python -m tests.engine.killed FOLDER DELAY."""

import sys
import time
from pathlib import Path

import torch

from fssplat.engine.events import Event, StepDone
from fssplat.engine.settings import RunSettings
from fssplat.engine.training.loop import train
from tests.engine.tiny import TinyData, tiny_network, tiny_trial

SETTINGS = RunSettings(device=torch.device("cpu"), checkpoint_steps=4, fetch_steps=3)


def main(folder: Path, delay: float) -> None:
    torch.set_num_threads(1)

    def slow(event: Event) -> None:
        if isinstance(event, StepDone):
            print(event.step, flush=True)
            time.sleep(delay)

    train(tiny_network(), tiny_trial(), TinyData(), folder, slow, settings=SETTINGS)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
