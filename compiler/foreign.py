"""What other languages and libraries call things: words that newcomers bring along, and what each is here."""

from __future__ import annotations

# What other languages and libraries call things.
FOREIGN = {
    "None": "none", "Linear": "Dense", "Dropout": "dropout", "SiLU": "silu", "GELU": "gelu", "LeakyReLU": "leaky_relu",
    "mse": "mean_squared_error", "mse_loss": "mean_squared_error", "MSELoss": "mean_squared_error", "CrossEntropyLoss": "cross_entropy",
    "nll_loss": "negative_log_likelihood", "NLLLoss": "negative_log_likelihood", "BCEWithLogitsLoss": "binary_cross_entropy",
    "L1Loss": "mean_absolute_error", "l1_loss": "mean_absolute_error", "HuberLoss": "huber", "KLDivLoss": "kl_divergence",
    "logsigmoid": "log_sigmoid", "hardtanh": "hard_tanh", "hardswish": "hard_swish", "hardsigmoid": "hard_sigmoid",
    "relu_": "relu", "Dropout2d": "spatial_dropout", "BatchNorm1d": "BatchNorm", "BatchNorm2d": "BatchNorm", "atan2": "arctan2",
    "gather": "take_along_axis", "top_k": "topk", "variance": "var", "clamp": "clip", "cat": "concat", "concatenate": "concat", "amax": "max", "amin": "min", "permute": "transpose",
    "fabs": "abs", "ln": "log", "size": "shape", "kaiming_normal": "he_normal", "xavier_uniform": "glorot_uniform",
    "kaiming_uniform": "he_uniform", "xavier_normal": "glorot_normal", "unsqueeze": "expand_dims", "detach": "stop_gradient",
    "scaled_dot_product_attention": "attention", "dot_product_attention": "attention", "TransformerEncoderLayer": "TransformerBlock",
    "EncoderLayer": "TransformerBlock", "RotaryEmbedding": "rotary", "PositionEmbedding": "LearnedPositions",
    "LazyLinear": "Dense", "RNNCell": "RNN", "SimpleRNN": "RNN", "LSTMCell": "LSTM", "GRUCell": "GRU", "TransformerEncoder": "TransformerBlock",
    "MultiheadAttention": "MultiHeadAttention", "GroupQueryAttention": "MultiHeadAttention", "Attention": "attention",
    "SinePositionEncoding": "sinusoidal", "PositionalEncoding": "sinusoidal", "BatchNorm3d": "BatchNorm", "BatchNormalization": "BatchNorm",
    "LayerNormalization": "LayerNorm", "RMSNormalization": "RMSNorm", "GroupNormalization": "GroupNorm", "InstanceNorm1d": "InstanceNorm",
    "InstanceNorm2d": "InstanceNorm", "InstanceNorm3d": "InstanceNorm", "LocalResponseNorm": "local_response_norm", "normalize": "normalise",
    "UnitNormalization": "normalise", "Dropout1d": "spatial_dropout", "Dropout3d": "spatial_dropout", "SpatialDropout2D": "spatial_dropout",
    "AlphaDropout": "alpha_dropout", "GaussianDropout": "gaussian_dropout", "GaussianNoise": "gaussian_noise", "StochasticDepth": "drop_path",
    "Conv1d": "Conv", "Conv2d": "Conv", "Conv3d": "Conv", "Conv1D": "Conv", "Conv2D": "Conv", "Conv3D": "Conv",
    "ConvTranspose1d": "ConvTranspose", "ConvTranspose2d": "ConvTranspose", "Conv2DTranspose": "ConvTranspose", "DepthwiseConv2D": "DepthwiseConv",
    "MaxPool1d": "max_pool", "MaxPool2d": "max_pool", "MaxPooling2D": "max_pool", "AvgPool2d": "avg_pool", "AveragePooling2D": "avg_pool",
    "AdaptiveAvgPool2d": "adaptive_avg_pool", "GlobalAveragePooling2D": "global_avg_pool", "sliding_window_view": "windows", "unfold": "windows",
    "ConvTranspose3d": "ConvTranspose", "MaxPool3d": "max_pool", "MaxPooling1D": "max_pool", "AvgPool1d": "avg_pool", "AvgPool3d": "avg_pool",
    "AdaptiveMaxPool2d": "adaptive_max_pool", "AdaptiveAveragePooling2D": "adaptive_avg_pool", "AdaptiveMaxPooling2D": "adaptive_max_pool",
    "GlobalMaxPooling2D": "global_max_pool", "UpSampling2D": "resize_nearest", "Resizing": "resize_nearest", "ZeroPad2d": "pad", "ConstantPad2d": "pad",
    "ZeroPadding2D": "pad", "Concatenate": "concat", "Reshape": "reshape", "Permute": "transpose", "Unflatten": "reshape", "EinsumDense": "einsum", "CosineSimilarity": "cosine_similarity", "PairwiseDistance": "pairwise_distance",
    "RReLU": "rrelu", "LogSigmoid": "log_sigmoid", "Tanhshrink": "tanh_shrink", "Hardtanh": "hard_tanh", "Hardsigmoid": "hard_sigmoid", "Hardswish": "hard_swish",
    "Hardshrink": "hard_shrink", "Softshrink": "soft_shrink", "Softmax2d": "softmax", "LogSoftmax": "log_softmax", "lrelu": "leaky_relu", "swish_": "swish",
    "MeanSquaredError": "mean_squared_error", "MeanAbsoluteError": "mean_absolute_error", "mae": "mean_absolute_error", "mae_loss": "mean_absolute_error",
    "mape": "mean_absolute_percentage_error", "MeanAbsolutePercentageError": "mean_absolute_percentage_error", "msle": "mean_squared_logarithmic_error",
    "MeanSquaredLogarithmicError": "mean_squared_logarithmic_error", "huber_loss": "huber", "SmoothL1Loss": "smooth_l1", "smooth_l1_loss": "smooth_l1",
    "LogCosh": "log_cosh", "logcosh": "log_cosh", "PoissonNLLLoss": "poisson_nll", "poisson_nll_loss": "poisson_nll", "Poisson": "poisson_nll",
    "GaussianNLLLoss": "gaussian_nll", "gaussian_nll_loss": "gaussian_nll", "SparseCategoricalCrossentropy": "cross_entropy",
    "CategoricalCrossentropy": "cross_entropy", "sparse_categorical_crossentropy": "cross_entropy", "categorical_crossentropy": "cross_entropy",
    "softmax_cross_entropy": "cross_entropy", "sparse_softmax_cross_entropy_with_logits": "cross_entropy", "softmax_cross_entropy_with_logits": "cross_entropy",
    "nll": "negative_log_likelihood", "BCELoss": "binary_cross_entropy", "bce": "binary_cross_entropy", "bce_loss": "binary_cross_entropy",
    "BinaryCrossentropy": "binary_cross_entropy", "binary_crossentropy": "binary_cross_entropy", "binary_cross_entropy_with_logits": "binary_cross_entropy",
    "log_loss": "binary_cross_entropy", "logloss": "binary_cross_entropy", "focal_loss": "binary_focal", "BinaryFocalCrossentropy": "binary_focal",
    "CategoricalFocalCrossentropy": "categorical_focal", "kl_div": "kl_divergence", "kld": "kl_divergence", "KLDivergence": "kl_divergence",
    "hinge_loss": "hinge", "Hinge": "hinge", "SquaredHinge": "squared_hinge", "CategoricalHinge": "categorical_hinge", "SoftMarginLoss": "soft_margin", "soft_margin_loss": "soft_margin",
    "MultiMarginLoss": "multi_margin", "multi_margin_loss": "multi_margin", "MultiLabelSoftMarginLoss": "multilabel_soft_margin",
    "MultiLabelMarginLoss": "multilabel_margin", "MarginRankingLoss": "margin_ranking", "HingeEmbeddingLoss": "hinge_embedding",
    "CosineEmbeddingLoss": "cosine_embedding", "TripletMarginLoss": "triplet_margin", "L1": "l1", "L2": "l2",
    "CosineAnnealingLR": "cosine", "CosineDecay": "cosine", "cosine_decay": "cosine", "LinearLR": "linear", "PolynomialLR": "linear", "PolynomialDecay": "linear",
    "StepLR": "staircase", "PiecewiseConstantDecay": "staircase", "ExponentialLR": "exponential", "ExponentialDecay": "exponential", "exponential_decay": "exponential", "ConstantLR": "constant",
    "Constant": "constant_value", "RandomNormal": "normal", "RandomUniform": "uniform", "TruncatedNormal": "truncated_normal", "trunc_normal": "truncated_normal",
    "xavier": "glorot_uniform", "glorot": "glorot_uniform", "kaiming": "he_normal", "he": "he_normal", "HeNormal": "he_normal", "HeUniform": "he_uniform",
    "GlorotNormal": "glorot_normal", "GlorotUniform": "glorot_uniform", "LecunNormal": "lecun_normal", "LecunUniform": "lecun_uniform", "VarianceScaling": "variance_scaling",
    "fold": "overlap_add", "interpolate": "resize_bilinear", "Upsample": "resize_nearest",
}  # fmt: skip


# What other libraries have as functions, and how it is said here.
PHRASES = {
    "True": "true", "False": "false",     "linspace": "arange(n) / (n - 1)", "len": "shape(x)[0]", "range": "0..n", "enumerate": "0..n", "power": "x ** y", "pow": "x ** y", "matmul": "a @ b", "dot": "a @ b", "mm": "a @ b", "bmm": "a @ b",
    "Add": "x + y", "Multiply": "x * y", "Dot": "sum(x * y, axis = 1)", "SeparableConv2D": "Conv(DepthwiseConv(x, 3), n, 1)", "Cropping2D": "x[:, :, 1:-1, 1:-1]",
    "L1L2": "l1() + l2()", "RepeatVector": "x + zeros([batch, t, n])", "rmse": "sqrt(mean_squared_error(y, target))", "rmse_loss": "sqrt(mean_squared_error(y, target))", "Flatten": "reshape(x, [batch, _])", "flatten": "reshape(x, [batch, _])", "Parameter": "param W: [n, m] ~ he_normal",
    "param": "param W: [n, m] ~ he_normal", "randn": "random.normal(size = [n, m])", "rand": "random.uniform(size = [n, m])", "random": "random.uniform(size = [n, m])", "ones_like": "ones(shape(x))",
    "zeros_like": "zeros(shape(x))", "e": "exp(x)", "Sequential": "h = Dense(x, n, relu)", "Input": "input x: [batch, n]", "accuracy": "mean(argmax(logits) == label)",
}  # fmt: skip

# What Python has under the name of a reduction, of several arguments element by element.
OF_TWO = {"max": "maximum", "min": "minimum"}

# What other languages have as attributes and methods.
ATTRIBUTES = {"T": "transpose({0}, [1, 0])", "mT": "transpose({0}, [0, 2, 1])", "size": "shape({0})", "view": "reshape({0}, ...)", "dim": "ndim({0})",
    "reshape": "reshape({0}, ...)", "permute": "transpose({0}, [...])", "transpose": "transpose({0}, [...])", "unsqueeze": "expand_dims({0}, ...)", "flatten": "reshape({0}, [batch, _])",
    "float": "real({0})", "pow": "{0} ** ...", "matmul": "{0} @ ...", "mm": "{0} @ ...", "dot": "{0} @ ...", "add": "{0} + ...", "mul": "{0} * ...", "t": "transpose({0}, [1, 0])",
}  # fmt: skip

# What other libraries call the settings of training.
SETTINGS = {
    "lr": "optimizer Adam(lr = ...)", "learning_rate": "optimizer Adam(lr = ...)", "early_stopping": "stop_early patience = 5",
    "patience": "stop_early patience = 5", "batch_size": "batch 64", "momentum": "optimizer SGD(momentum = ...)",
    "weight_decay": "optimizer AdamW(decay = ...)", "validation_split": "validation 0.2", "schedule": "optimizer Adam(lr = cosine(...))",
    "scheduler": "optimizer Adam(lr = cosine(...))", "grad_clip": "clip_norm 1.0", "max_epochs": "epochs 10", "num_epochs": "epochs 10", "n_epochs": "epochs 10",
    "batchsize": "batch 64", "bs": "batch 64", "clip_grad": "clip_norm 1.0", "clip_grad_norm": "clip_norm 1.0", "clip_gradient": "clip_norm 1.0", "gradient_clip": "clip_norm 1.0", "clipvalue": "clip_value 1.0",
    "val_split": "validation 0.2", "nesterov": "optimizer SGD(nesterov = true)", "beta1": "optimizer Adam(b1 = ...)", "beta2": "optimizer Adam(b2 = ...)", "warmup": "optimizer Adam(lr = cosine(peak = ..., warmup = ...))",
}  # fmt: skip


# What other libraries call arguments.
ARGUMENTS = {
    "use_bias": "bias", "beta_1": "b1", "beta_2": "b2", "l2": "decay", "l2_regularization": "decay", "input": "x", "inputs": "x", "in": "x", "gamma": "rate", "step_size": "every", "initial_learning_rate": "peak", "max_lr": "peak", "lr_max": "peak", "learning_rate_max": "peak", "warmup_steps": "warmup", "y_pred": "y", "y_true": "target",
    "dim": "axis", "keepdim": "keepdims", "activation": "act", "out_features": "units", "p": "rate", "dims": "axes",
    "weight_decay": "decay", "learning_rate": "lr", "rate": "lr", "beta1": "b1", "beta2": "b2", "epsilon": "eps", "rho": "alpha",
    "weights": "weight", "ignore_label": "ignore_index", "smoothing": "label_smoothing", "indices_or_sections": "sections",
    "num_heads": "heads", "nhead": "heads", "num_kv_heads": "kv_heads", "attn_mask": "mask", "attention_mask": "mask", "dropout": "rate",
    "dropout_p": "rate", "dim_feedforward": "hidden", "num_embeddings": "vocabulary", "input_dim": "vocabulary", "embedding_dim": "units",
    "kernel_size": "kernel", "out_channels": "units", "filters": "units", "strides": "stride", "pool_size": "size", "count_include_pad": "count_padding",
}  # fmt: skip

# Settings of other libraries that stand elsewhere here, and where.
ELSEWHERE = {
    "loss": "The model says what to make small, in a line of its own: `loss mean(...)`.", "metrics": "The model says what to report, in a line of its own: `metric name = ...`.",
    "metric": "The model says what to report, in a line of its own: `metric name = ...`.", "seed": "It is given where the program is run: `--seed 3`, `compile(seed=3)`.",
    "shuffle": "The rows of each epoch are in an order drawn by the seed.", "device": "Programs run on the processor.", "verbose": "What is printed is chosen where the program is run: `--quiet`.",
    "callbacks": "Python has `fit(on_epoch=...)`.", "steps": "A number of steps is given where the program is run: `--max-steps 100`.", "max_steps": "It is given where the program is run: `--max-steps 100`.",
    "threads": "It is given where the program is run: `--threads 2`.", "dtype": "It is given where the program is compiled: `--dtype float64`.",
}  # fmt: skip

# What begins statements of other languages, and no more than stands for them here; then those without a counterpart, and what to write.
BEGINNINGS = {"def": "fn", "class": "layer", "function": "fn", "func": "fn", "while": "for", "let": None, "var": None, "const": None}
NO_STATEMENT = {
    "with": None, "assert": "`require n > 1, 'words'` asks something of sizes.", "pass": None, "del": None, "global": None,
    "print": "`metric name = ...` reports a number; `output name = ...` gives a value.", "try": None, "raise": None, "break": None, "continue": None, "async": None, "lambda": "A function is declared at the left edge: `fn f(x) = ...`.",
    "from": 'Other model texts are taken in whole: `import "other.tl"` at the left edge.', "weight": "A parameter is declared: `param W: [n, m] ~ he_normal`.", "weights": "A parameter is declared: `param W: [n, m] ~ he_normal`.",
    "parameter": "A parameter is declared: `param W: [n, m] ~ he_normal`.", "label": "What is to be predicted is declared: `target y: [batch]`.", "labels": "What is to be predicted is declared: `target y: [batch]`.",
    "minimize": "What to make small is declared: `loss mean(...)`.", "minimise": "What to make small is declared: `loss mean(...)`.",
}  # fmt: skip
