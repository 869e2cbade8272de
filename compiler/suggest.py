"""Near names: which known name a misspelt one was meant to be."""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence


def distance(left: str, right: str, limit: int) -> int:
    """Damerau-Levenshtein distance (optimal string alignment), or limit + 1 where it is larger."""
    if abs(len(left) - len(right)) > limit:
        return limit + 1
    before: list[int] = []
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, start=1):
        before, previous, row = row, before, [i]
        for j, b in enumerate(right, start=1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, previous[j - 2] + 1)
            row.append(cost)
        if min(row) > limit:
            return limit + 1
    return row[-1]

# What other languages and libraries call things.
FOREIGN = {
    "True": "true", "False": "false", "Linear": "Dense", "Dropout": "dropout", "SiLU": "silu", "GELU": "gelu", "LeakyReLU": "leaky_relu",
    "mse": "mean_squared_error", "mse_loss": "mean_squared_error", "MSELoss": "mean_squared_error", "CrossEntropyLoss": "cross_entropy",
    "nll_loss": "negative_log_likelihood", "NLLLoss": "negative_log_likelihood", "BCEWithLogitsLoss": "binary_cross_entropy",
    "L1Loss": "mean_absolute_error", "l1_loss": "mean_absolute_error", "HuberLoss": "huber", "KLDivLoss": "kl_divergence",
    "logsigmoid": "log_sigmoid", "hardtanh": "hard_tanh", "hardswish": "hard_swish", "hardsigmoid": "hard_sigmoid",
    "relu_": "relu", "Dropout2d": "spatial_dropout", "BatchNorm1d": "BatchNorm", "BatchNorm2d": "BatchNorm", "atan2": "arctan2",
    "gather": "take_along_axis", "top_k": "topk", "variance": "var", "clamp": "clip", "cat": "concat", "concatenate": "concat", "amax": "max", "amin": "min", "power": "**", "matmul": "@", "dot": "@", "permute": "transpose",
    "fabs": "abs", "ln": "log", "size": "shape", "kaiming_normal": "he_normal", "xavier_uniform": "glorot_uniform",
    "kaiming_uniform": "he_uniform", "xavier_normal": "glorot_normal", "unsqueeze": "expand_dims", "detach": "stop_gradient",
    "scaled_dot_product_attention": "attention", "dot_product_attention": "attention", "TransformerEncoderLayer": "TransformerBlock",
    "EncoderLayer": "TransformerBlock", "RotaryEmbedding": "rotary", "PositionEmbedding": "LearnedPositions",
    "Conv1d": "Conv", "Conv2d": "Conv", "Conv3d": "Conv", "Conv1D": "Conv", "Conv2D": "Conv", "Conv3D": "Conv",
    "ConvTranspose1d": "ConvTranspose", "ConvTranspose2d": "ConvTranspose", "Conv2DTranspose": "ConvTranspose", "DepthwiseConv2D": "DepthwiseConv",
    "MaxPool1d": "max_pool", "MaxPool2d": "max_pool", "MaxPooling2D": "max_pool", "AvgPool2d": "avg_pool", "AveragePooling2D": "avg_pool",
    "AdaptiveAvgPool2d": "adaptive_avg_pool", "GlobalAveragePooling2D": "global_avg_pool", "sliding_window_view": "windows", "unfold": "windows",
    "fold": "overlap_add", "interpolate": "resize_bilinear", "Upsample": "resize_nearest",
}  # fmt: skip


# What other libraries have as functions, and how it is said here.
PHRASES = {"linspace": "arange(n) / (n - 1)", "len": "shape(x)[0]", "range": "0..n"}

# What Python has under the name of a reduction, of several arguments element by element.
OF_TWO = {"max": "maximum", "min": "minimum"}

# What other languages have as attributes and methods.
ATTRIBUTES = {"T": "transpose({0}, [1, 0])", "mT": "transpose({0}, [0, 2, 1])", "size": "shape({0})", "view": "reshape({0}, ...)", "dim": "ndim({0})"}

# What other libraries call the settings of training.
SETTINGS = {
    "lr": "optimizer Adam(lr = ...)", "learning_rate": "optimizer Adam(lr = ...)", "early_stopping": "stop_early patience = 5",
    "patience": "stop_early patience = 5", "batch_size": "batch 64", "momentum": "optimizer SGD(momentum = ...)",
    "weight_decay": "optimizer AdamW(decay = ...)", "validation_split": "validation 0.2", "schedule": "optimizer Adam(lr = cosine(...))",
    "scheduler": "optimizer Adam(lr = cosine(...))", "grad_clip": "clip_norm 1.0", "max_epochs": "epochs 10",
}  # fmt: skip


# What other libraries call arguments.
ARGUMENTS = {
    "dim": "axis", "keepdim": "keepdims", "activation": "act", "out_features": "units", "p": "rate", "dims": "axes",
    "weight_decay": "decay", "learning_rate": "lr", "rate": "lr", "beta1": "b1", "beta2": "b2", "epsilon": "eps", "rho": "alpha",
    "weights": "weight", "ignore_label": "ignore_index", "smoothing": "label_smoothing", "indices_or_sections": "sections",
    "num_heads": "heads", "nhead": "heads", "num_kv_heads": "kv_heads", "attn_mask": "mask", "attention_mask": "mask", "dropout": "rate",
    "dropout_p": "rate", "dim_feedforward": "hidden", "num_embeddings": "vocabulary", "input_dim": "vocabulary", "embedding_dim": "units",
    "kernel_size": "kernel", "out_channels": "units", "filters": "units", "strides": "stride", "pool_size": "size", "count_include_pad": "count_padding",
}  # fmt: skip


def meant_argument(word: str, known: Sequence[str]) -> str | None:
    """What an unknown argument was meant to be: another library's word for one that there is, or a near name."""
    other = ARGUMENTS.get(word)
    return other if other in known else nearest(word, known)


def meant(word: str, known: Iterable[str]) -> str | None:
    """What an unknown name was meant to be: another library's word for a thing, or a near name."""
    return FOREIGN.get(word) or nearest(word, known)


def hint_for(name: str, known: Sequence[str]) -> str | None:
    """What to try in the place of an unknown name."""
    if name in PHRASES:
        return f"Write `{PHRASES[name]}`."
    near = (meant_attribute(name, known) if "." in name else None) or meant(name, known)
    return f"Did you mean `{near}`?" if near else None


def meant_attribute(name: str, known: Container[str]) -> str | None:
    """What `x.T`, `x.sum` or `np.tanh` was meant to be, where there are no attributes."""
    owner, _, last = name.rpartition(".")
    if owner in known:
        return ATTRIBUTES[last].format(owner) if last in ATTRIBUTES else f"{last}({owner})" if last in known else None
    return last if last in known else FOREIGN.get(last)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name closest to `word`, if it is close enough to be what was meant.

    One edit in three characters is allowed; a difference in case alone always counts as near. Of equally near names one of the same
    letters is meant (`tahn` is `tanh`, and not `tan`), then one that begins alike, then the first.
    """
    limit = max(1, min(3, len(word) // 3))
    best: tuple[tuple[int, bool, bool, int], str] | None = None
    letters = sorted(word.lower())
    for order, name in enumerate(known):
        if name == word:
            continue
        if name.lower() == word.lower():
            cost = 0
        elif len(word) < 2 or len(word) > 60:
            continue
        else:
            cost = distance(word.lower(), name.lower(), limit)
            if cost > limit or cost >= len(word):
                continue
        rank = (cost, sorted(name.lower()) != letters, name[:1].isupper() != word[:1].isupper(), order)
        if best is None or rank < best[0]:
            best = (rank, name)
    return best[1] if best else None
