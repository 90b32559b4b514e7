"""The parts of a model card that are the same for every model."""

INTENDED_USE = """\
## Intended use

The weights are for research on audio-visual representations and on the recognition of acted or annotated
emotions. They take clips of one face and of its voice. Emotions that a model tells from a face or a voice are
guesses about what a person shows, not facts about what a person feels. Scores hold for the data that they
were measured on, and say nothing about other cameras, languages, cultures and ages. Do not use the model to
decide about people. The terms of the data sets that it was trained on apply besides the licence of this
folder."""

_START = """\
## How to load

1. PyTorch alone, with `hicmae_torch.py` of this folder (with `safetensors` installed, it
   reads `model.safetensors`, otherwise `checkpoint.pth`):

   ```python
   import sys

   sys.path.insert(0, "FOLDER")
   from hicmae_torch import HiCMAE

   model = HiCMAE.from_pretrained("FOLDER")
   video, log_mel = model.preprocess(frames, waveform)  # uint8 [B, T, H, W, 3]; 16 kHz [B, samples]
   {use}
   ```

2. `transformers`:

   ```python
   from transformers import AutoModel

   model = AutoModel.from_pretrained("FOLDER", trust_remote_code=True)  # runs the Python files of the folder
   ```

3. Code that knows the published names of HiCMAE's parameters:

   ```python
   import torch

   state = torch.load("FOLDER/checkpoint.pth", weights_only=True)["model"]
   ```

4. JAX, with `hicmae_jax`:

   ```python
   import hicmae_jax as hj

   loaded = hj.load("FOLDER")
   ```

`preprocessor_config.json` says what clips the model takes. `sha256sum --check SHA256SUMS` finds damage."""

HOW_TO_LOAD = {
    False: _START.replace("{use}", "features = model.extract_features(video, log_mel)"),
    True: _START.replace("{use}", "scores = model.scores(video, log_mel)"),
}
"""Whether the model is fine-tuned → how to load it."""

ATTRIBUTION = """\
## Attribution

HiCMAE is the work of Licai Sun, Zheng Lian, Bin Liu and Jianhua Tao: "HiCMAE: Hierarchical Contrastive Masked
Autoencoder for Self-Supervised Audio-Visual Emotion Recognition", 2024,
[arXiv 2401.05698](https://arxiv.org/abs/2401.05698). """

TRAINED_HERE = "These weights were trained with hicmae_jax, another\nimplementation of it."
IMPORTED = """\
These weights were not trained with hicmae_jax, which has only
converted them. The LICENSE of this folder is that of its Python files. **Check the terms of the source of the
weights before you use or share them.**"""
