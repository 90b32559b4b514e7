"""HiCMAE in JAX: `import hicmae_jax as hj`.

`__all__` lists the public functions and classes. Each is loaded when it is first used, so that importing the
package loads neither JAX nor NumPy. docs/model.md has examples.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hicmae_jax.model.config import FinetuneConfig as FinetuneConfig
    from hicmae_jax.model.finetune import HiCMAEFinetune as HiCMAEFinetune
    from hicmae_jax.model.hicmae import HiCMAE as HiCMAE
    from hicmae_jax.model.sizes import model_config as model_config
    from hicmae_jax.notebook import embed as embed
    from hicmae_jax.notebook import init as init
    from hicmae_jax.notebook import preprocess as preprocess
    from hicmae_jax.notebook import pretrain as pretrain
    from hicmae_jax.notebook import pretrain_loss as pretrain_loss
    from hicmae_jax.notebook import pretrain_settings as pretrain_settings
    from hicmae_jax.notebook import read as read
    from hicmae_jax.notebook import sizes as sizes
    from hicmae_jax.weights.load import load as load
    from hicmae_jax.weights.load import save as save

_WHERE = {
    "sizes": "notebook",
    "model_config": "model.sizes",
    "HiCMAE": "model.hicmae",
    "HiCMAEFinetune": "model.finetune",
    "FinetuneConfig": "model.config",
    "init": "notebook",
    "load": "weights.load",
    "save": "weights.load",
    "read": "notebook",
    "preprocess": "notebook",
    "pretrain_loss": "notebook",
    "embed": "notebook",
    "pretrain_settings": "notebook",
    "pretrain": "notebook",
}

__all__ = list(_WHERE)


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
