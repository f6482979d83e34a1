"""What every model of transformers has in common that the user names by folder or hub name."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError
from safetensors import SafetensorError
from transformers.utils import logging

from legato.errors import ModelError, first_sentence
from legato.models.pull import NETWORK_ERRORS

HUB_SECONDS = 10.0
"""How long the hub may take to answer."""
LOADING_ERRORS = (
    *(SafetensorError, OSError, ImportError),
    *(LookupError, AttributeError, RuntimeError, TypeError, ValueError),
)
"""What transformers raises for a model that is missing, damaged, of another kind, or that needs
more packages."""


def source_of(name: str) -> dict[str, Any]:
    """Return what `from_pretrained` needs to find a model: a folder never asks the hub.

    Where the hub does not answer, only what was downloaded before is looked for: transformers would
    try each file again and again, for minutes.
    """
    path = Path(name).expanduser()
    return {
        "pretrained_model_name_or_path": str(path) if path.is_dir() else name,
        "local_files_only": path.is_dir() or not _hub_answers(name),
    }


def _hub_answers(name: str) -> bool:
    try:
        HfApi().model_info(name, timeout=HUB_SECONDS)
    except (HfHubHTTPError, HFValidationError):  # it says no, or will: the loading tells why
        return True
    except NETWORK_ERRORS:
        return False
    return True


def failure(what: str, error: Exception, *, fix: str) -> ModelError:
    """Return one of `LOADING_ERRORS` in one line."""
    return ModelError(what, why=first_sentence(error), fix=fix)


@contextmanager
def quietly() -> Iterator[None]:
    """Within the block, transformers draws no bars and advises nothing."""
    drew, level = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if drew:
            logging.enable_progress_bar()
