"""Pre-training as published: `--config=pretrain:B`.

The argument is `<size>[,runlocal]`: a size of `python -m launch.sizes`, and `runlocal` to try the recipe on a
laptop. Any setting below can be changed on the command line, `--config.loss.negatives=global`, or in a
file like this one that starts from `get_config`. `none` unsets a whole number.
"""

from ml_collections import ConfigDict, config_dict


def get_config(argument: str = "B") -> ConfigDict:
    """The recipe (paper section 4.1, and its published code where the two differ).

    Args:
        argument: `<size>[,runlocal]`.

    Raises:
        ValueError: anything else after the size.
    """
    size, *options = argument.split(",")
    if set(options) - {"runlocal"}:
        raise ValueError(f"{argument!r} is not <size>[,runlocal]")

    config = ConfigDict()
    config.size = size
    # Of parameters, order of clips, augmentation and masks: the same seed is the same run.
    config.seed = 0

    # Clips in a global batch, over all hosts; published: 40 on each of 4 GPUs. Rates depend on it by
    # optimizer.rate_rule; docs/large_batch.md says what else does.
    config.batch = 160
    # Updates as passes over the data, or as steps: give one pair and leave the other none.
    config.epochs = config_dict.FieldReference(100)
    config.warmup_epochs = config_dict.FieldReference(5)
    config.steps = config_dict.placeholder(int)
    config.warmup_steps = config_dict.placeholder(int)
    # Clips seen while the rate rises, instead of those two: the same at any batch.
    config.warmup_examples = config_dict.placeholder(int)
    # Micro-batches to an update, for a batch that does not fit; published: one. The update is the same; with
    # loss.negatives = "global" clips go through the encoders twice for it.
    config.accumulate = 1
    # Devices that share one copy of parameters and optimiser state; the others hold copies of their own.
    config.fsdp = 1

    config.model = model()
    config.execution = ConfigDict(
        {
            # bfloat16 on accelerators, float32 on CPUs.
            "dtype": "auto",
            # "pallas", this project's kernel that keeps scores out of memory, on TPUs; "xla" elsewhere.
            "attention": "auto",
            # One encoder layer is compiled instead of ten. Scanning without recomputing would keep every
            # layer's attention for the backward pass, so the two go together.
            "scan_encoders": True,
            "remat_encoder": "full",
            "remat_fusion": "none",
            "remat_decoder": "none",
        }
    )
    config.masks = ConfigDict(
        {
            # Paper section 3.1.1. Kinds and ratios are among what section 4.5 ablates.
            "video_kind": "tube",
            "video_ratio": 0.9,
            "audio_kind": "random",
            "audio_ratio": 0.8,
            # Below 1 the decoders see only a part of the masked tokens; published: all of them.
            "video_decode_fraction": 1.0,
            "audio_decode_fraction": 1.0,
        }
    )
    config.loss = ConfigDict(
        {
            # Equation 11; 0 switches contrast off.
            "contrastive_weight": 0.0025,
            # Equation 9.
            "temperature": 0.07,
            # What the published run optimised: each of its GPUs took negatives from its own 40 clips.
            # "global" takes the whole batch, which is another objective.
            "negatives": "group:40",
            "frame_difference": True,
        }
    )
    config.preprocess = ConfigDict(
        {
            # The published code's augmentation. It also applies the gain in evaluation: here by choice.
            "multi_scale_crop": True,
            "gain": True,
            "roll": False,
            "evaluation_gain": False,
        }
    )
    config.optimizer = ConfigDict(
        {
            # AdamW (paper section 4.1), or "lamb", whose layers move in proportion to their own size.
            "kind": "adamw",
            # Peak and final rate at batch 256; published: "linear" in the batch. "sqrt" goes by its square
            # root, "fixed" takes them as they are.
            "base_rate": 3e-4,
            "base_minimum": 1e-5,
            "rate_rule": "linear",
            # After warm-up half a cosine, or "wsd": stable until the last decay_share of the steps. Then
            # --branch_from makes shorter runs of a long one's checkpoints.
            "schedule": "cosine",
            "decay_share": 0.2,
            # Largest norm of the whole gradient; published: none, for any.
            "clip": config_dict.placeholder(float),
            "betas": (0.9, 0.95),
            "epsilon": 1e-8,
            "weight_decay": 0.05,
        }
    )
    config.data = ConfigDict(
        {
            # Directories that `python -m launch.prepare` made: --config.data.sets=data/dev, again for more.
            "sets": (),
            # Share of each set in the batches; empty for one in proportion to its clips.
            "weights": (),
            # 16 frames at stride 4 of 25 a second span the 2.56 s of the log-mel features.
            "stride": 4,
            # Shards to shuffle clips over, for storage that dislikes reads from everywhere; 0 for all.
            "shuffle_window": 0,
            # Clips read at a time in each process; none for one a core.
            "threads": config_dict.placeholder(int),
            # Processes that read beside this one, for hosts whose cores one interpreter cannot keep busy.
            "workers": 0,
            # Batches read ahead in each process.
            "prefetch": 2,
        }
    )
    config.checkpoint = ConfigDict(
        {
            # Steps from one to the next: what an unannounced stop can cost.
            "every": 1000,
            # How many of the latest stay.
            "keep": 3,
            # Besides, every so many steps one stays for good; none for no such.
            "milestone": config_dict.placeholder(int),
        }
    )
    config.log = ConfigDict(
        {
            # Steps from one line of metrics to the next.
            "every": 50,
            "tensorboard": False,
            # Weights & Biases project; empty for none.
            "wandb": "",
            # First step of a profile, past compilation, and its length; none for no profile.
            "profile_step": config_dict.placeholder(int),
            "profile_steps": 3,
        }
    )
    config.evaluation = ConfigDict(
        {
            # Prepared sets to score retrieval and reconstruction on; empty for no evaluation.
            "sets": (),
            "clips": 64,
            # Steps from one evaluation to the next; none for one at the end.
            "every": config_dict.placeholder(int),
            "batch": 32,
        }
    )
    config.faults = ConfigDict(
        {
            # Updates in a row whose loss or gradient is not finite, all of them skipped, before the run ends.
            "skips": 10,
            # Noted with its clips: a loss above the median of the last hundred by so many of their mean
            # distances to it.
            "spike": 10.0,
            # Noted with what it waits for: a step that takes so many times the median.
            "slow": 10.0,
            # Without any progress, after which the run ends with the stacks of its threads.
            "minutes": 30.0,
        }
    )
    if "runlocal" in options:
        run_locally(config)
    return config


def model() -> ConfigDict:
    """Geometry and wiring; what is none is as the size says."""
    return ConfigDict(
        {
            # 16 frames of 160 × 160 and 2.56 s of 128 mel bins, cut as in paper section 3.1.1.
            "image_size": 160,
            "frames": 16,
            "tubelet": 2,
            "patch": 16,
            "audio_frames": 256,
            "audio_bins": 128,
            # With another depth the taps move along, unless skip_layers are given too.
            "encoder_dim": config_dict.placeholder(int),
            "encoder_heads": config_dict.placeholder(int),
            "encoder_depth": config_dict.placeholder(int),
            "decoder_dim": config_dict.placeholder(int),
            "decoder_heads": config_dict.placeholder(int),
            "skip_layers": config_dict.placeholder(tuple),
            "decoder_depth": 4,
            "fusion_depth": 2,
            # What section 4.5 ablates: raw-input, video-first, audio-first; no skips.
            "fusion_flow": "default",
            "skip_connections": True,
            # As in the published code; "shallowest-first" is the pairing in the text of section 4.1.
            "skip_order": "deepest-first",
        }
    )


def run_locally(config: ConfigDict) -> None:
    """Shrink batch, length and intervals to what a laptop does in minutes, and nothing else."""
    config.batch = 8
    config.loss.negatives = "group:4"
    config.epochs = config.warmup_epochs = None
    config.steps = 20
    config.warmup_steps = 4
    config.checkpoint.every = 10
    config.log.every = 1
    config.evaluation.clips = 8
    config.evaluation.batch = 8
