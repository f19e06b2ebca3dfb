"""A slow training to be killed: python -m tests.fakes.processes.training FOLDER DELAY_S."""

import sys
import time
from pathlib import Path

import torch

from fssplat.engine.events import Event, StepDone
from fssplat.engine.settings import RunSettings
from fssplat.engine.training.loop import train
from tests.fakes.prototype_method import SquaresData, prototype_network, prototype_trial

SETTINGS = RunSettings(device=torch.device("cpu"), checkpoint_steps=4, fetch_steps=3)


def main(folder: Path, delay_s: float) -> None:
    torch.set_num_threads(1)

    def slow(event: Event) -> None:
        if isinstance(event, StepDone):
            print(event.step, flush=True)
            time.sleep(delay_s)

    train(prototype_network(), prototype_trial(), SquaresData(), folder, slow, settings=SETTINGS)


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]))
