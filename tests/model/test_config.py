"""Impossible configurations are refused with the field, its value and what would do."""

import pytest

from hicmae_jax.model import config, sizes


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"image_size": 100}, "image_size 100 is not a positive multiple of the patch 16"),
        ({"frames": 15}, "frames 15 is not a positive multiple of the tubelet 2"),
        ({"audio_frames": 250}, "audio_frames 250 is not"),
        ({"encoder_heads": 7}, "encoder_dim 512 is not a positive multiple of encoder_heads 7"),
        ({"decoder_heads": 5}, "decoder_dim 384 is not a positive multiple of decoder_heads 5"),
        ({"decoder_heads": 0}, "decoder_heads 0"),
        ({"skip_layers": (4, 7, 11)}, r"skip_layers \(4, 7, 11\) must lie in 1 … 10"),
        ({"skip_layers": (0, 7, 10)}, "must lie in 1 … 10"),
        ({"skip_layers": (7, 4, 10)}, "must be different and ascending"),
        ({"skip_layers": (4, 4, 10)}, "must be different and ascending"),
        ({"skip_layers": (2, 4, 7, 10)}, "need a decoder_depth of 5 or more, not 4"),
        ({"encoder_depth": 0, "skip_layers": ()}, "encoder_depth 0"),
        ({"fusion_flow": "both"}, "choose one of default, raw-input, video-first, audio-first"),
        ({"skip_order": "random"}, "deepest-first, shallowest-first"),
    ],
)
def test_models(choices, message):
    with pytest.raises(ValueError, match=message):
        sizes.model_config("B", **choices)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"dtype": "float16"}, "float32, bfloat16"),
        ({"attention": "flash"}, "xla, pallas, cudnn"),
        ({"remat_decoder": "some"}, "remat_decoder = 'some'"),
    ],
)
def test_execution(choices, message):
    with pytest.raises(ValueError, match=message):
        config.ExecutionConfig(**choices)


def test_without_skips_any_number_of_layers_may_be_tapped():
    model = sizes.model_config("B", skip_layers=(2, 4, 7, 10), skip_connections=False)
    assert model.decoder_skips == ()


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"video_kind": "time"}, "tube, random"),
        ({"audio_kind": "tube"}, "random, time, frequency"),
        ({"video_decode_kind": "cell"}, "random, running_cell"),
        ({"video_ratio": 0.999}, None),
        ({"video_ratio": 1.0}, "leaves no visible token"),
        ({"video_ratio": 0.005}, "leaves no masked token"),
        ({"audio_ratio": 1.0}, "leaves no visible token"),
        ({"audio_ratio": 0.0}, "leaves no masked token"),
    ],
)
def test_masks(choices, message):
    def sizes_of_b():
        return config.MaskConfig(**choices).sizes(sizes.model_config("B"))

    if message is None:
        assert sizes_of_b()[0] == (8, 792)
    else:
        with pytest.raises(ValueError, match=message):
            sizes_of_b()


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"outputs": 0}, "outputs 0"),
        ({"drop_path": 1.0}, "drop_path 1.0"),
        ({"modality": "text"}, "audio-visual, video, audio"),
    ],
)
def test_finetuning(choices, message):
    with pytest.raises(ValueError, match=message):
        config.FinetuneConfig(**{"outputs": 6} | choices)
