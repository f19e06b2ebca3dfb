"""A trial (one cell of the result table), a job (one training and its trials), and their names."""

from collections.abc import Mapping
from typing import Any

from fssplat.experiment.protocols import Protocol
from fssplat.experiment.schema import (
    BackboneSpec,
    DatasetSpec,
    EvaluationSpec,
    MethodSpec,
    Spec,
    TrainingSpec,
    digest,
)

ENGINE_RESULT_VERSION = 1  # raised when the engine's numbers change


class Trial(Spec):
    """One cell of the result table, every setting resolved."""

    not_hashed = frozenset({"evaluation", "scoring_options"})
    dataset: DatasetSpec  # scored on
    train_on: DatasetSpec  # trained on; the same but for domain shift
    fold: int
    shot: int
    way: int = 1
    method: MethodSpec
    backbone: BackboneSpec
    training: TrainingSpec
    protocol: Protocol
    evaluation: EvaluationSpec
    method_version: int
    scoring_options: tuple[str, ...] = ()  # of the method: not part of what names the weights

    def training_key(self, fingerprints: Mapping[str, str]) -> str:
        """Digest of all that can change the weights: trials with one key share one training.

        `fingerprints` are those of data sets, public lists, backbone weights and
        `training.checkpoint`, by name. Without a fingerprint, the name itself is used.
        """
        return digest(*self._weights(fingerprints, self.trained_method))

    @property
    def trained_method(self) -> MethodSpec:
        """The method without the options that only scoring reads."""
        if not self.scoring_options:
            return self.method
        options = self.method.options.items()
        trained = {name: value for name, value in options if name not in self.scoring_options}
        return self.method.model_copy(update={"options": trained})

    def trial_id(self, fingerprints: Mapping[str, str]) -> str:
        """Digest of all that can change the result, and of nothing else."""
        return digest(
            *self._weights(fingerprints, self.method),
            self.dataset,
            self.shot,
            self.way,
            self.protocol,
            self.evaluation,
            fingerprints.get(self.dataset.name, ""),
            fingerprints.get(self.protocol.lists_of(self.dataset.name), ""),
        )

    def _weights(self, fingerprints: Mapping[str, str], method: MethodSpec) -> tuple[Any, ...]:
        rules = self.protocol
        data_rules: list[Any] = [
            rules.training_list,
            rules.novel,
            rules.training_draw,
            rules.min_area,
        ]
        data_rules += [rules.min_area_query, rules.coco_folds, rules.selection]
        data_rules += [rules.supports_repeat]
        given, backbone = self.training.checkpoint, self.backbone
        data_rules += [fingerprints.get(given, given)] if given else []
        return (
            self.train_on,
            fingerprints.get(self.train_on.name, ""),
            fingerprints.get(rules.lists_of(self.train_on.name), ""),
            self.fold,
            method,
            backbone.name,
            fingerprints.get(backbone.source, backbone.weights),
            self.training,
            data_rules,
            self.way if self.way > 1 else 1,
            self.method_version,
            ENGINE_RESULT_VERSION,
        )

    @property
    def title(self) -> str:
        shots = f"{self.shot}-shot" if self.way == 1 else f"{self.way}-way {self.shot}-shot"
        where = f"{self.dataset.name} fold {self.fold}"
        return f"{where} {shots} {self.method.label} {self.backbone.name}"


class Job(Spec):
    """One training and all trials that are scored with its weights; Ray schedules it as one."""

    key: str
    trials: tuple[Trial, ...]
    trial_ids: tuple[str, ...]

    @property
    def first(self) -> Trial:
        return self.trials[0]

    @property
    def trains(self) -> bool:
        """False for a method without training, and for weights that were given."""
        return self.first.training.steps != 0

    @property
    def title(self) -> str:
        shots = "+".join(dict.fromkeys(str(trial.shot) for trial in self.trials))
        one = self.first
        where = f"{one.train_on.name} fold {one.fold}"
        return f"{where} {shots}-shot {one.method.label} {one.backbone.name}"
