"""A model of sentence-transformers, from a folder or from the hub, as an encoder's folder."""

import shutil
from collections.abc import Iterable
from glob import escape
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from rau.encoders import sentence
from rau.encoders.export import LEAST_COSINE, PICKLED, samples
from rau.encoders.label import write_label
from rau.errors import UserError
from rau.files import new_folder, user_path
from rau.params import SENTENCE_TRANSFORMERS, EncoderParams

WEIGHTS = ".safetensors"
# Configurations, vocabularies, chat templates. Weights of other kinds are never read.
KEPT = (WEIGHTS, ".json", ".txt", ".model", ".tiktoken", ".jinja")
# The same model in other forms.
OTHER_FORMS = {"onnx", "openvino"}


def export(params: EncoderParams, folder: Path, root: Path) -> None:
    """Copy a model's own files into an encoder's folder, and hold it to what it must do.

    Args:
        params: `name` is `st:` and a folder (relative to `root`), or else a name of the hub.

    Raises:
        UserError: the extra is not installed; no such model; weights only as pickles; code that is
            not trusted; no image or text tower; features that differ between two loads.
    """
    name = params.name
    if params.pretrained is not None:
        raise UserError(f"encoder.pretrained must be null: {name} brings its own weights")
    sentence.library()
    model = name.removeprefix(SENTENCE_TRANSFORMERS)
    source = user_path(model, root, "encoder.name")
    commit = None
    if not source.is_dir():
        if not model or model.startswith((".", "/", "~")) or model.count("/") > 1:
            raise UserError(f"encoder.name={name}: {source} is not a folder")
        source, commit = _fetch(model, params)
    names = [path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file()]
    with new_folder(folder) as temporary:
        for kept in _kept(names, params):
            (temporary / kept).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / kept, temporary / kept)
        write_label(temporary, name, commit)
        _check(temporary, params)


def _kept(names: Iterable[str], params: EncoderParams) -> list[str]:
    """Those of a model's files that are copied.

    Raises:
        UserError: when some of its weights are only there as a pickle.
    """
    paths = [path for path in map(PurePosixPath, names) if not path.parts[0].startswith(".")]
    paths = [path for path in paths if not OTHER_FORMS & {*path.parts[:-1]}]
    safe = {path.parent for path in paths if path.suffix == WEIGHTS}
    pickled = [path for path in paths if path.suffix in PICKLED and path.parent not in safe]
    if pickled:
        raise UserError(
            f"encoder.name={params.name}: {pickled[0]} holds weights as a pickle, which is never "
            "read; save the model with safetensors"
        )
    if not safe:
        raise UserError(f"encoder.name={params.name} has no {WEIGHTS} file, so no weights")
    kept = (*KEPT, ".py") if params.trust_remote_code else KEPT
    return [str(path) for path in paths if path.suffix in kept]


def _fetch(model: str, params: EncoderParams) -> tuple[Path, str]:
    """Fetch a model of the hub into its cache; its folder and the commit."""
    from huggingface_hub import HfApi, snapshot_download

    repository = model if "/" in model else f"sentence-transformers/{model}"
    try:
        info = HfApi().model_info(repository)
        kept = _kept([file.rfilename for file in info.siblings or ()], params)
        patterns = [escape(name) for name in kept]
        folder = snapshot_download(repository, revision=info.sha, allow_patterns=patterns)
    except UserError:
        raise
    except Exception as error:
        # Hub, network and file errors share no class; each is one that the user can fix.
        reason = " ".join(str(error).split())
        raise UserError(f"encoder.name={params.name} cannot be fetched: {reason}") from error
    return Path(folder), str(info.sha)


def _check(folder: Path, params: EncoderParams) -> None:
    """Load the folder twice, and refuse features that are not decided by its files."""
    first, second = (_features(folder, params, seed) for seed in (0, 1))
    for kind, one in first.items():
        cosine = float(torch.cosine_similarity(one, second[kind]).min())
        if not cosine >= LEAST_COSINE:
            raise UserError(
                f"encoder.name={params.name} gives other features of {kind} each time it is loaded "
                f"(cosine {cosine:.4f}): some weights are not in its files and are drawn at random"
            )
    widths = {kind: features.shape[1] for kind, features in first.items()}
    if len({*widths.values()}) > 1:
        said = ", ".join(f"{kind} of dimension {width}" for kind, width in widths.items())
        raise UserError(
            f"encoder.name={params.name}: {said}, not in one space; bring them by features.source"
        )


def _features(folder: Path, params: EncoderParams, seed: int) -> dict[str, Tensor]:
    """Features of the samples by kind, (N, d) each; `seed` is that of weights drawn at random.

    Raises:
        UserError: code that is not trusted, no image or text tower, any failure of the model.
    """
    pictures, texts = samples()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        encoder = sentence.load(
            folder, torch.device("cpu"), trust_remote_code=params.trust_remote_code
        )
        for tower in ("image", "text"):
            if not encoder.model.supports(tower):
                raise UserError(
                    f"encoder.name={params.name} has no {tower} tower; choose an image-and-text "
                    "model, or bring features by features.source"
                )
        try:
            found = {"images": encoder.encode_images(pictures)}
            found["texts"] = encoder.encode_texts(texts)
            if encoder.encode_pairs is not None:
                found["pairs"] = encoder.encode_pairs(pictures, texts[:2])
        except Exception as error:
            # Whatever a model fails with, long texts included, it would fail with after hours.
            reason = " ".join(str(error).split())
            raise UserError(f"encoder.name={params.name} cannot encode: {reason}") from error
    return found
