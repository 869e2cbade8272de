"""The settings of a train section, read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tapeless.compiler.elaborate.elaborator import Common, Elaborator
from tapeless.compiler.elaborate.emission import Emitter
from tapeless.compiler.elaborate.frames import Frame
from tapeless.compiler.elaborate.modules import Module, fitting
from tapeless.compiler.elaborate.parameter_patterns import matching
from tapeless.compiler.elaborate.values import Binding, Fault, Poisoned, describe
from tapeless.compiler.language import ast
from tapeless.compiler.language.byte_sizes import bytes_of
from tapeless.compiler.language.parser import NAMES
from tapeless.compiler.messages.near_names import nearest
from tapeless.compiler.messages.newcomers_words import ELSEWHERE, SETTINGS
from tapeless.ir.graph import Span

DENORMALS = ("flush", "keep")


@dataclass
class TrainPlan:
    """What a train section says, read."""

    epochs: int = 10
    batch: int = 64
    validation: float = 0.0
    memory: int | None = None  # bytes
    patience: int | None = None
    monitor: str | None = None
    rising: bool = False
    clip_norm: ast.Expression | None = None
    clip_value: ast.Expression | None = None
    gradient_noise: ast.Expression | None = None
    optimizer: ast.Setting | None = None
    denormals: str = "flush"
    exceptions: list[ast.Setting] = field(default_factory=list)
    frozen: list[ast.Text] = field(default_factory=list)
    broken: bool = False  # a fault has been found in it


def train_frame(module: Module, definition: ast.Definition, emitter: Emitter, arguments: Mapping[str, Any]) -> Frame:
    """The frame of a model's train section, which knows the model's arguments."""
    frame = Frame("train", definition.name, module, emitter, path="")
    for name, value in arguments.items():
        frame.names[name] = Binding(value, name, None)
    return frame


class SettingsReader:
    """Reads one train section into a plan; faults are reported. Settings are the same in training and evaluation, and
    are read as in evaluation. `watched` names the losses and metrics that training can stop by.
    """

    def __init__(
        self,
        common: Common,
        module: Module,
        definition: ast.Definition,
        section: ast.Train | None,
        arguments: Mapping[str, Any],
        watched: Sequence[str],
    ) -> None:
        self.common, self.definition, self.section, self.watched = common, definition, section, watched
        emitter = Emitter(definition.name, common.storage.init.real)
        self.elaborator = Elaborator(common, emitter, training=False)
        self.frame = train_frame(module, definition, emitter, arguments)
        self.span = section.head if section else definition.head
        self.plan = TrainPlan()

    def read(self) -> TrainPlan:
        """Read every setting; faults are reported."""
        seen: dict[str, Span] = {}
        for setting in self.section.settings if self.section else ():
            try:
                if isinstance(setting, ast.Broken):
                    self.plan.broken = True
                    continue
                if setting.name in seen and setting.name not in ("except", "freeze"):
                    raise self.fault("E0302", f"`{setting.name}` is set twice", setting.span)
                seen[setting.name] = setting.span
                reader = _READERS.get(setting.name)
                if reader is None:
                    near = nearest(setting.name, NAMES)
                    listed = f"Did you mean `{near}`?" if near else f"The settings are {', '.join(NAMES)}."
                    rules = [
                        name
                        for name in fitting(self.frame.module.names, "rule")
                        if name.lower() == setting.name.lower()
                    ]
                    written = f"optimizer {rules[0]}(...)" if rules else SETTINGS.get(setting.name)
                    hint = f"Write `{written}`." if written else ELSEWHERE.get(setting.name, listed)
                    raise self.fault("E0308", f"there is no setting `{setting.name}`", setting.span, hint)
                reader(self, setting)
            except Fault as fault:
                self.common.reporter.report(fault.diagnostic)
                self.plan.broken = True
            except Poisoned:
                self.plan.broken = True
        return self.plan

    def fault(self, code: str, message: str, span: Span, hint: str | None = None) -> Fault:
        """A fault in the train section."""
        return self.frame.fault(code, message, span, hint=hint)

    def only(self, setting: ast.Setting) -> ast.Expression:
        """The one value of a setting."""
        if len(setting.values) != 1 or setting.named or setting.words:
            raise self.fault(
                "E0601",
                f"`{setting.name}` takes one value",
                setting.span,
                "Each setting has a line of its own." if len(setting.values) > 1 or setting.named else None,
            )
        return setting.values[0]

    def constant(self, setting: ast.Setting, syntax: ast.Expression) -> int | float:
        """A number known when compiling."""
        value = self.elaborator.evaluate(self.frame, syntax)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self.fault("E0601", f"`{setting.name}` needs a number, not {describe(value)}", syntax.span)
        return value

    def whole(self, setting: ast.Setting, syntax: ast.Expression, least: int) -> int:
        """A whole number, not too small."""
        value = self.constant(setting, syntax)
        if not math.isfinite(value) or value != int(value) or value < least:
            raise self.fault(
                "E0601", f"`{setting.name}` needs a whole number of at least {least}, not {value:g}", syntax.span
            )
        return int(value)

    def positive(self, setting: ast.Setting, syntax: ast.Expression) -> None:
        """A bound for clipping."""
        value = self.constant(setting, syntax)
        if value <= 0:
            raise self.fault("E0601", f"`{setting.name}` needs a number above 0, not {value:g}", syntax.span)

    def read_epochs(self, setting: ast.Setting) -> None:
        self.plan.epochs = self.whole(setting, self.only(setting), 0)

    def read_batch(self, setting: ast.Setting) -> None:
        self.plan.batch = self.whole(setting, self.only(setting), 1)

    def read_validation(self, setting: ast.Setting) -> None:
        syntax = self.only(setting)
        value = self.constant(setting, syntax)
        if not 0 <= value < 1:
            raise self.fault(
                "E0601",
                f"`validation` is the share of the examples that is held out, from 0 up to 1, not {value:g}",
                syntax.span,
            )
        self.plan.validation = float(value)

    def read_clip_norm(self, setting: ast.Setting) -> None:
        self.plan.clip_norm = self.only(setting)
        self.positive(setting, self.plan.clip_norm)

    def read_clip_value(self, setting: ast.Setting) -> None:
        self.plan.clip_value = self.only(setting)
        self.positive(setting, self.plan.clip_value)

    def read_gradient_noise(self, setting: ast.Setting) -> None:
        self.plan.gradient_noise = self.only(setting)
        self.positive(setting, self.plan.gradient_noise)

    def read_optimizer(self, setting: ast.Setting) -> None:
        self.only(setting)
        self.plan.optimizer = setting

    def read_except(self, setting: ast.Setting) -> None:
        if not setting.named or setting.values or setting.words:
            raise self.fault(
                "E0601",
                "`except` sets hyper-parameters for some parameters",
                setting.span,
                "Write `except '*.b': decay = 0`.",
            )
        for pattern in setting.patterns:
            matching(self.frame, self.common.storage.slots, pattern)
        self.plan.exceptions.append(setting)

    def read_freeze(self, setting: ast.Setting) -> None:
        for value in setting.values:
            if not isinstance(value, ast.Text):
                raise self.fault(
                    "E0601", "`freeze` takes patterns of parameter names", value.span, "Write `freeze 'encoder.*'`."
                )
            matching(self.frame, self.common.storage.slots, value)
            self.plan.frozen.append(value)

    def read_denormals(self, setting: ast.Setting) -> None:
        """`denormals keep`."""
        value = self.only(setting)
        if not isinstance(value, ast.Name) or value.name not in DENORMALS:
            raise self.fault(
                "E0601",
                "`denormals` is `flush` or `keep`",
                value.span,
                "Training takes numbers below the smallest normal one for zeros unless it says `denormals keep`.",
            )
        self.plan.denormals = value.name

    def read_memory(self, setting: ast.Setting) -> None:
        """`memory 2G`, or a number of bytes."""
        syntax = self.only(setting)
        if not isinstance(syntax, ast.Text):
            self.plan.memory = self.whole(setting, syntax, 1)
        elif (size := bytes_of(syntax.value)) is not None:
            self.plan.memory = size
        else:
            raise self.fault(
                "E0601", "`memory` needs a number of bytes above 0", syntax.span, "Write `memory 512M`, or `memory 2G`."
            )

    def read_stop_early(self, setting: ast.Setting) -> None:
        """`stop_early patience = 5 on accuracy rising`."""
        if setting.values:
            raise self.fault(
                "E0601",
                "`stop_early` takes its patience by name",
                setting.values[0].span,
                "Write `stop_early patience = 5`.",
            )
        self.plan.patience = 5
        for argument in setting.named:
            if argument.name != "patience":
                raise self.fault(
                    "E0304", f"`stop_early` has no argument `{argument.name}`", argument.span, "It takes `patience`."
                )
            self.plan.patience = self.whole(setting, argument.value, 1)
        self.plan.monitor = "loss"
        watched = self.watched
        words = list(setting.words)
        if words:
            name = words.pop(0)
            body = self.definition.body
            written = [line.name for line in body if isinstance(line, ast.Loss | ast.Metric)]
            if name.name not in watched and name.name in written:
                self.plan.broken = True  # it is there, but a fault has been found on the way to it
            elif name.name not in watched:
                near = nearest(name.name, watched)
                raise self.fault(
                    "E0603",
                    f"there is no loss or metric `{name.name}` to watch",
                    name.span,
                    f"Did you mean `{near}`?"
                    if near
                    else (f"There {'are' if watched[1:] else 'is'} {', '.join(f'`{one}`' for one in watched)}."),
                )
            self.plan.monitor = name.name
        if words:
            word = words.pop(0)
            if word.name not in ("rising", "falling"):
                raise self.fault("E0601", f"`{word.name}` is neither `rising` nor `falling`", word.span)
            self.plan.rising = word.name == "rising"
        if words:
            raise self.fault("E0601", f"`{words[0].name}` has no meaning here", words[0].span)

    def freeze(self, patterns: Sequence[str]) -> None:
        """Leave alone what patterns from outside the text name; faults are reported at the head."""
        for pattern in patterns:
            try:
                text = ast.Text(self.span, pattern)
                matching(self.frame, self.common.storage.slots, text)
                self.plan.frozen.append(text)
            except Fault as fault:
                self.common.reporter.report(fault.diagnostic)


_READERS: dict[str, Callable[[SettingsReader, ast.Setting], None]] = {
    "epochs": SettingsReader.read_epochs,
    "batch": SettingsReader.read_batch,
    "validation": SettingsReader.read_validation,
    "clip_norm": SettingsReader.read_clip_norm,
    "clip_value": SettingsReader.read_clip_value,
    "gradient_noise": SettingsReader.read_gradient_noise,
    "optimizer": SettingsReader.read_optimizer,
    "except": SettingsReader.read_except,
    "freeze": SettingsReader.read_freeze,
    "memory": SettingsReader.read_memory,
    "stop_early": SettingsReader.read_stop_early,
    "denormals": SettingsReader.read_denormals,
}
