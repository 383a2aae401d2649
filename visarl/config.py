"""Every hyper-parameter that changes a learned function, with presets. It travels inside the bundle."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from visarl.contract import PLAIN_ROLE, ROLES
from visarl.errors import ConfigError, suggest

T = TypeVar("T")

ReadoutKind = Literal["keypoints", "mean", "global", "modality_mean", "attention", "spatial_softmax"]
SaliencyKind = Literal["picanet", "unet", "frozen"]
READOUTS: tuple[str, ...] = typing.get_args(ReadoutKind)
LEARNED_READOUTS = ("attention", "spatial_softmax")
"""Trained together with the policy; the others are fixed, or fitted once to the demonstrations."""
Head = Literal["step", "chunk"]
CHUNK = 8
"""Actions of a chunk, by default: 0.8 s."""
MODALITY_CHANNELS = {"rgb": 3, "saliency": 1, "depth": 1, "normals": 3}
ESTIMATED = ("depth", "normals")
"""Modalities that neither the camera gives nor the saliency model: of the simulator, or of an estimator."""
ATTENTIONS = ("global", "local", "none")


@dataclass(frozen=True)
class PreprocessConfig:
    """How a camera frame becomes the square picture that every model sees."""

    crop: tuple[float, float, float, float] = (0.125, 0.0, 0.75, 1.0)
    """Left, top, width, height of the crop, as shares of the frame; square in pixels at 640x480."""
    size: int = 224
    """Side of the crop after resizing [pixels]; models shrink it further."""

    def __post_init__(self) -> None:
        if len(self.crop) != 4:
            raise ConfigError(f"preprocess.crop: expected left, top, width, height, found {self.crop}")
        left, top, width, height = self.crop
        if min(left, top) < 0 or min(width, height) <= 0 or max(left + width, top + height) > 1:
            raise ConfigError(f"preprocess.crop: expected shares within the frame, 0 to 1, found {self.crop}")


@dataclass(frozen=True)
class SaliencyConfig:
    """The saliency model: which maps, from which features."""

    model: SaliencyKind = "picanet"
    """picanet as in the paper; unet, light and without a backbone; frozen, a small head on a backbone that does not
    learn."""
    roles: tuple[str, ...] = ("effector", "object")
    """One output map a role; `("plain",)` is the paper's case."""
    backbone: str = "mobilenetv3_small_100"
    """Any timm model with pyramid features (`features_only=True`)."""
    image_size: int = 128
    """Side of the input [pixels]."""
    width: int = 48
    """Channels of the decoder's features."""
    attention: tuple[str, ...] = ("global", "global", "local", "local", "none")
    """Context attended at each decoder level, from the backbone's stride 32 up to 2. The paper's last one is `local`
    too; without it the finest level is cheap enough for a CPU."""
    global_width: int = 64
    """Width of the global attention's LSTM in each direction (paper: 256)."""
    local_width: int = 32
    """Hidden channels of the local attention (paper: 128)."""
    sigma: float = 10.0 / 256.0
    """Standard deviation of a click's Gaussian, as a share of the picture's side (paper: 10 px at 256)."""

    def __post_init__(self) -> None:
        if not self.roles or len(set(self.roles)) != len(self.roles):
            raise ConfigError(f"saliency.roles: expected one or more different roles, found {self.roles}")
        if len(self.roles) > 1 and self.roles[0] != ROLES[0]:
            # The policy calibrates the camera on the first role's keypoints and aims at the others'.
            raise ConfigError(f"saliency.roles: several begin with {ROLES[0]!r}, found {self.roles}")
        for role in self.roles:
            if role not in (*ROLES, PLAIN_ROLE):
                raise ConfigError(f"saliency.roles: {suggest(role, (*ROLES, PLAIN_ROLE))}, found {role!r}")
        for kind in self.attention:
            if kind not in ATTENTIONS:
                raise ConfigError(f"saliency.attention: {suggest(kind, ATTENTIONS)}, found {kind!r}")
        if not 1 <= len(self.attention) <= 5:
            raise ConfigError(f"saliency.attention: expected 1 to 5 levels, found {len(self.attention)}")
        if self.image_size % 32:
            raise ConfigError(f"saliency.image_size {self.image_size} is no multiple of 32, the backbone's stride")


@dataclass(frozen=True)
class EncoderConfig:
    """MultiMAE. Sizes follow the paper's small model."""

    modalities: tuple[str, ...] = ("rgb", "saliency")
    """Seen in pretraining."""
    inputs: tuple[str, ...] = ("rgb", "saliency")
    """Seen in use: `("rgb",)` with saliency among the modalities is the paper's "pretraining only"."""
    image_size: int = 64
    patch_size: int = 8
    dim: int = 256
    depth: int = 4
    heads: int = 4
    mlp_ratio: float = 4.0
    decoder_dim: int = 256
    decoder_depth: int = 3
    decoder_heads: int = 4
    decode_share: float = 1.0
    """Share of the masked patches that a training step reconstructs. 1 is the paper's decoder, which also carries the
    visible patches along; below 1 it carries the chosen ones only, which look at all that the encoder saw by
    cross-attention (as in CrossMAE): several times cheaper."""
    mask_ratio: float = 0.75
    dirichlet_alpha: float = 1.0

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise ConfigError(
                f"encoder.image_size {self.image_size} is no multiple of encoder.patch_size {self.patch_size}"
            )
        for width, heads in ((self.dim, self.heads), (self.decoder_dim, self.decoder_heads)):
            if width % heads or width % 4:
                raise ConfigError(f"encoder: the width {width} must be a multiple of its {heads} heads and of 4")
        if not 0 < self.decode_share <= 1:
            raise ConfigError(f"encoder.decode_share: expected more than 0 and at most 1, found {self.decode_share}")
        if not 0 < self.mask_ratio < 1:
            raise ConfigError(f"encoder.mask_ratio: expected between 0 and 1, found {self.mask_ratio}")
        if len(set(self.modalities)) != len(self.modalities):
            raise ConfigError(f"encoder.modalities: expected each once, found {self.modalities}")
        for name in (*self.modalities, *self.inputs):
            if name not in MODALITY_CHANNELS:
                raise ConfigError(f"encoder: unknown modality {name!r}; {suggest(name, MODALITY_CHANNELS)}")
        if not self.inputs or not set(self.inputs) <= set(self.modalities):
            raise ConfigError(f"encoder.inputs {self.inputs} must be some of encoder.modalities {self.modalities}")

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.image_size // self.patch_size


@dataclass(frozen=True)
class ReadoutConfig:
    """What becomes of the encoder's tokens before the policy sees them."""

    kind: ReadoutKind = "keypoints"
    components: int = 2
    """Whitened principal components of the tokens' mean kept beside the keypoints. More of them tell the ten scenes
    of the demonstrations apart, and a policy learns those instead of the task. 0 leaves the keypoints alone, and the
    encoder need not run."""
    queries: int = 4
    """Of `attention`: how many learned queries look at the tokens."""
    width: int = 64
    """Of `attention`: length of the embedding."""
    points: int = 16
    """Of `spatial_softmax`: how many places in the picture it learns to follow."""

    def __post_init__(self) -> None:
        if self.components < 0:
            raise ConfigError(f"readout.components: expected 0 or more, found {self.components}")
        for name in ("queries", "width", "points"):
            if getattr(self, name) < 1:
                raise ConfigError(f"readout.{name}: expected at least 1, found {getattr(self, name)}")

    @property
    def reads_tokens(self) -> bool:
        """Whether it needs the encoder; keypoints alone come from the maps."""
        return self.kind != "keypoints" or self.components > 0

    @property
    def learned(self) -> bool:
        """Whether it is trained together with the policy."""
        return self.kind in LEARNED_READOUTS


@dataclass(frozen=True)
class PolicyConfig:
    """LSTM behaviour cloning as in the paper: input MLP, LSTM, two-layer head, H actions ahead."""

    hidden: int = 256
    horizon: int = 1
    """H. With ten demonstrations one is enough: each further action is one more to learn from the same data."""
    head: Head = "step"
    """step: H actions one after the other, each from the one before, squared error, the first is done (paper). chunk:
    H actions at once, absolute error (as OpenVLA-OFT), and in use the mean of what the last H chunks say of the present
    period (ACT's temporal ensemble)."""

    def __post_init__(self) -> None:
        if self.horizon < 1 or self.hidden < 1:
            raise ConfigError(
                f"policy: expected horizon and hidden of at least 1, found {self.horizon} and {self.hidden}"
            )


@dataclass(frozen=True)
class ModelConfig:
    """Everything that defines the function from a camera frame to an action."""

    arm: str = "jaco2"
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    saliency: SaliencyConfig = field(default_factory=SaliencyConfig)
    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    readout: ReadoutConfig = field(default_factory=ReadoutConfig)
    policy: PolicyConfig = field(default_factory=PolicyConfig)

    def __post_init__(self) -> None:
        if self.readout.kind == "keypoints" and "saliency" not in self.encoder.inputs:
            raise ConfigError(
                f"readout.kind 'keypoints' reads saliency maps, but encoder.inputs is {self.encoder.inputs}; "
                "add 'saliency' or choose the readout 'mean'"
            )

    @property
    def needs_saliency(self) -> bool:
        """Whether the saliency model has to run on the robot."""
        return "saliency" in self.encoder.inputs

    @property
    def needs_encoder(self) -> bool:
        """Whether the encoder has to run on the robot."""
        return self.readout.reads_tokens


_LIGHT: dict[str, Any] = {"decoder_dim": 128, "decoder_depth": 1, "decode_share": 0.25}
"""A decoder for a CPU: 1.8 times as fast as the full one. The encoder alone is kept; `visarl probe` tells what a light
decoder costs it."""

PRESETS: dict[str, ModelConfig] = {
    "64": ModelConfig(encoder=EncoderConfig(**_LIGHT)),
    "112": ModelConfig(encoder=EncoderConfig(image_size=112, **_LIGHT)),
    "224": ModelConfig(saliency=SaliencyConfig(image_size=224), encoder=EncoderConfig(image_size=224, patch_size=16)),
    "224p8": ModelConfig(
        saliency=SaliencyConfig(
            backbone="vgg16",
            image_size=224,
            width=128,
            attention=("global", "global", "local", "local", "local"),
            global_width=256,
            local_width=128,
        ),
        encoder=EncoderConfig(image_size=224, patch_size=8),
    ),
}
"""By side of the encoder's picture: 64 and 112 for a CPU, 224 for a GPU; 224p8 is the paper's on the real arm."""


def get_preset(name: str) -> ModelConfig:
    """The configuration of a preset, or of a JSON file (such as the `config` of a bundle.json).

    Raises:
        ConfigError: no such preset or file, or a configuration that is refused.
    """
    if not name.endswith(".json"):
        if name not in PRESETS:
            raise ConfigError(f"unknown preset {name!r}; {suggest(name, PRESETS)}")
        return PRESETS[name]
    try:
        values = json.loads(Path(name).read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(f"preset {name}: expected a preset's name or a JSON file ({error})") from error
    return from_dict(ModelConfig, values, name)


def to_dict(config: Any) -> dict[str, Any]:
    """A config as plain JSON values."""
    return dataclasses.asdict(config)


def from_dict(cls: type[T], values: dict[str, Any], where: str = "") -> T:
    """The inverse of `to_dict`, strict: an unknown key is an error with a suggestion.

    Raises:
        ConfigError: an unknown key, a value of the wrong type, or one that the config refuses.
    """
    where = where or cls.__name__
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: expected an object, found {values!r}")
    hints = typing.get_type_hints(cls)
    names = {f.name for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    arguments = {}
    for key, value in values.items():
        if key not in names:
            raise ConfigError(f"{where}: unknown key {key!r}; {suggest(key, names)}")
        arguments[key] = _convert(hints[key], value, f"{where}.{key}")
    return cls(**arguments)


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type, hint), value, where)
    if origin is tuple:
        item = typing.get_args(hint)[0]
        if not isinstance(value, (list, tuple)):
            raise ConfigError(f"{where}: expected a list, found {value!r}")
        return tuple(_convert(item, v, where) for v in value)
    if origin is Literal:
        if value not in typing.get_args(hint):
            raise ConfigError(f"{where}: {suggest(str(value), map(str, typing.get_args(hint)))}, found {value!r}")
        return value
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _convert(next(a for a in typing.get_args(hint) if a is not type(None)), value, where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{where}: expected {hint.__name__}, found {value!r}")
    return value
