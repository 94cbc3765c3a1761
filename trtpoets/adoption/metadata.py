"""Reads how a network expects its photos from metadata: inside the file, and in files that exporters write beside it.

All of it is foreign content: what is missing, damaged or not plausible is a fact that is not found.
"""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from typing import Any

from trtpoets.adoption.contract import RAW, SIGNED, UNIT, Geometry, Pixels, Triple, pixels_from_mean_and_std
from trtpoets.adoption.facts import Fact, is_integer, nearly_same_values, raw_feed
from trtpoets.adoption.foreign import ForeignModel
from trtpoets.adoption.neighbours import json_beside, number_of, triple_of
from trtpoets.adoption.paddle import paddle_facts
from trtpoets.core.original import Channels, Evidence, Format, Source
from trtpoets.core.types import LARGEST_SIDE, Resize

_LARGEST_MEAN = 300.0

_BITMAP_FORMATS = {"Bgr8": Channels.BGR, "Bgra8": Channels.BGR, "Rgb8": Channels.RGB, "Rgba8": Channels.RGB}
_NOMINAL_RANGES = {"NominalRange_0_255": RAW, "Normalized_0_1": UNIT, "Normalized_1_1": SIGNED}


def metadata_facts(foreign: ForeignModel) -> tuple[Fact, ...]:
    """Return what the metadata of a file and the files beside it state about pixels, geometry and input size."""
    return (
        *_of_preprocessor_config(foreign),
        *_of_timm_config(foreign),
        *_of_image_keys(foreign),
        *_of_ultralytics(foreign),
        *_of_normalization_options(foreign),
        *_of_custom_vision_properties(foreign),
        *paddle_facts(foreign),
    )


def literal_dict(text: str | None) -> dict[Any, Any]:
    """Return a Python dict literal, such as Ultralytics writes; empty if the text is something else."""
    if text is None or len(text) > 1 << 20:
        return {}
    try:
        value = ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        return {}
    return value if isinstance(value, dict) else {}


def ultralytics_metadata(foreign: ForeignModel) -> dict[str, str]:
    """Return the key-value pairs that Ultralytics writes: in ONNX metadata, or in a file inside a TFLite file."""
    if "names" in foreign.clues.metadata and "task" in foreign.clues.metadata:
        return dict(foreign.clues.metadata)
    for text in foreign.clues.files.values():
        values = literal_dict(text) or _of_yaml(text)
        if "names" in values and "task" in values:
            return {str(key): str(value) for key, value in values.items()}
    return {}


_YAML_LINE = re.compile(r"([A-Za-z_]+):(?: (.*))?")
_YAML_ITEM = re.compile(r"(?:  )?- (.*)|  (\d{1,8}): (.*)")


def _of_yaml(text: str) -> dict[str, Any]:
    """Return the keys of the metadata.yaml that Ultralytics writes: texts, lists and maps of numbers, no others."""
    values: dict[str, Any] = {}
    key = ""
    for line in text[:1_000_000].splitlines():
        start, item = _YAML_LINE.fullmatch(line), _YAML_ITEM.fullmatch(line)
        if start:
            key = start.group(1)
            values[key] = _unquoted(start.group(2) or "")
        elif item and item.group(2) is None:
            earlier = values.get(key)
            values[key] = [*(earlier if isinstance(earlier, list) else []), _unquoted(item.group(1))]
        elif item and key:
            known = values[key] if isinstance(values[key], dict) else {}
            known[int(item.group(2))] = _unquoted(item.group(3))
            values[key] = known
    return values


def _unquoted(text: str) -> str:
    text = text.strip()
    quoted = len(text) > 1 and text[0] == text[-1] and text[0] in "'\""
    return text[1:-1].replace("''", "'") if quoted else text


def size_of(value: Any) -> tuple[int, int] | None:
    """Return (height, width) from a side, a list of two, or an object with height and width."""
    if isinstance(value, dict):
        value = [value.get("height"), value.get("width")]
    sides = value if isinstance(value, (list, tuple)) else [value, value]
    numbers = [number_of(side) for side in sides]
    if len(numbers) != 2 or any(number is None or not 1 <= number <= LARGEST_SIDE for number in numbers):
        return None
    height, width = (int(number) for number in numbers if number is not None)
    return height, width


def normalised(mean: Any, std: Any, scale: float, channels: Channels = Channels.RGB, name: str = "") -> Pixels | None:
    """Return `(x * scale - mean) / std` from foreign numbers, None if they are not plausible."""
    means, stds = triple_of(mean), triple_of(std)
    if means is None or stds is None or not 0 < scale <= 1:
        return None
    if any(abs(value) > _LARGEST_MEAN for value in means) or any(not 1e-4 <= value <= 1e4 for value in stds):
        return None
    pixels = pixels_from_mean_and_std(means, stds, scale, channels, name)
    if not name and means == (0.0, 0.0, 0.0):
        plain = (values for values in (RAW, UNIT) if replace(values, channels=channels).same_as(pixels))
        name = next((values.name for values in plain), "")
    if not name:
        name = f"mean {_text(means)}, std {_text(stds)}" + ("" if scale == 1 else f" of x * {scale:.4g}")
    return replace(pixels, name=name)


def crop_of(kept: float | None, resized: float | None) -> Geometry | None:
    """Return the crop of `kept` pixels from photos whose shorter side has `resized`, None if it is not plausible."""
    if not kept or not resized or not 0.1 <= kept / resized <= 1:
        return None
    return Geometry(Resize.CROP, kept / resized)


def _of_preprocessor_config(foreign: ForeignModel) -> list[Fact]:
    """Hugging Face's preprocessor_config.json: size, do_center_crop, rescale_factor, image_mean and others."""
    config = json_beside(foreign, "preprocessor_config.json")
    if not config:
        return []
    source = "preprocessor_config.json of Hugging Face"
    pixels, geometry = _huggingface_pixels(config), _huggingface_geometry(config)
    size = _huggingface_size(config)
    facts = []
    if pixels is not None:
        facts.append(Fact(_metadata("pixels", f"{source} states {pixels.text}"), pixels, size=size))
    if geometry is not None:
        facts.append(Fact(_metadata("resize", f"{source} states {geometry.text}"), geometry=geometry, size=size))
    else:
        facts += _of_stretch_before_crop(config, source)
    return facts


def _huggingface_kind(config: dict[str, object]) -> str:
    """Return the class that wrote the settings. Its name decides what keys mean, and what absent ones mean."""
    return str(config.get("image_processor_type") or config.get("feature_extractor_type") or "")


def _huggingface_pixels(config: dict[str, object]) -> Pixels | None:
    kind = _huggingface_kind(config)
    flipped = config.get("do_flip_channel_order", "MobileViT" in kind) is True
    channels = Channels.BGR if flipped else Channels.RGB
    factor: float | None = 1.0
    if config.get("do_rescale", True) is not False:
        factor = number_of(config.get("rescale_factor", 1 / 255))
    if factor is None:
        return None
    shift = 1.0 if config.get("rescale_offset") is True or config.get("offset") is True else 0.0
    means: Triple | None = (0.0, 0.0, 0.0)
    stds: Triple | None = (1.0, 1.0, 1.0)
    # MobileViT's never normalises, but lists the mean and std that it inherits.
    if config.get("do_normalize", "image_mean" in config and "MobileViT" not in kind) is True:
        means, stds = triple_of(config.get("image_mean")), triple_of(config.get("image_std"))
    if means is None or stds is None:
        return None
    shifted = [mean + shift for mean in means]
    # EfficientNet's divides by the standard deviation a second time for classifiers (image_processing_efficientnet.py).
    if config.get("include_top") is True and "EfficientNet" in kind:
        stds = (stds[0] ** 2, stds[1] ** 2, stds[2] ** 2)
    if flipped:
        shifted, stds = shifted[::-1], stds[::-1]
    return normalised(shifted, list(stds), factor, channels)


def _huggingface_geometry(config: dict[str, object]) -> Geometry | None:
    """Return how photos are resized; None if it is not stated, or not as any Geometry does."""
    if config.get("do_resize", True) is not True:
        return None
    kind, share = _huggingface_kind(config), number_of(config.get("crop_pct"))
    size, shorter = config.get("size"), _shorter_side(config)
    if share and (shorter is not None or "PoolFormer" in kind):  # ConvNeXt: a crop below 384 pixels, then stretch
        is_stretched = shorter is not None and shorter >= 384 and "PoolFormer" not in kind
        return Geometry(Resize.STRETCH) if is_stretched else crop_of(share, 1.0)
    if config.get("do_center_crop", "Levit" in kind or "Perceiver" in kind) is True:
        return _huggingface_crop(config)
    return Geometry(Resize.STRETCH) if shorter is None and size_of(size) is not None else None


def _huggingface_crop(config: dict[str, object]) -> Geometry | None:
    kind, size, kept = _huggingface_kind(config), config.get("size"), size_of(config.get("crop_size"))
    shorter = _shorter_side(config) or number_of(size)
    if "Levit" in kind:  # the shorter side is resized to 256/224 of `size`
        kept = kept or size_of(shorter)
        return crop_of(min(kept), shorter * 256 / 224) if kept and shorter else None
    if "Perceiver" in kind:  # cropped before it is resized
        final = size_of(size)
        return crop_of(min(final), min(kept)) if kept and final else None
    stretched = _stretched_before_crop(config)
    if kept is not None and stretched is not None:
        return Geometry(Resize.STRETCH) if stretched == kept else None
    return crop_of(min(kept), shorter) if kept else None


def _shorter_side(config: dict[str, object]) -> float | None:
    size = config.get("size")
    return number_of(size.get("shortest_edge")) if isinstance(size, dict) else None


def _huggingface_size(config: dict[str, object]) -> tuple[int, int] | None:
    if config.get("do_center_crop") is True and "Perceiver" not in _huggingface_kind(config):
        return size_of(config.get("crop_size"))
    shorter = _shorter_side(config)  # with crop_pct: the side after the crop
    return size_of(shorter if shorter is not None and number_of(config.get("crop_pct")) else config.get("size"))


def _stretched_before_crop(config: dict[str, object]) -> tuple[int, int] | None:
    """Return the size to which whole photos are stretched before a centre crop, None if they keep their shape."""
    size = config.get("size")
    if isinstance(size, dict):
        return None if "shortest_edge" in size else size_of(size)
    is_square = any(word in _huggingface_kind(config) for word in ("DeiT", "Beit"))
    return size_of(size) if is_square else None


def _of_stretch_before_crop(config: dict[str, object], source: str) -> list[Fact]:
    """DeiT's photos are stretched, then cropped. No Geometry does that; for square photos a crop is the same."""
    kept, stretched = size_of(config.get("crop_size")), _stretched_before_crop(config)
    if config.get("do_resize", True) is not True or config.get("do_center_crop") is not True:
        return []
    geometry = None if kept is None or stretched is None else crop_of(min(kept), min(stretched))
    if geometry is None or stretched is None or kept is None:
        return []
    text = (
        f"{source} states that photos are stretched to {stretched[0]} x {stretched[1]} pixels and then cropped to "
        f"{kept[0]} x {kept[1]}, which is {geometry.text} for square photos, and nearly so for others"
    )
    return [Fact(_metadata("resize", text), geometry=geometry, certain=False, size=kept)]


def _of_timm_config(foreign: ForeignModel) -> list[Fact]:
    """The pretrained_cfg in timm's config.json: mean, std, crop_pct, crop_mode, input_size."""
    config = json_beside(foreign, "config.json")
    settings = config.get("pretrained_cfg")
    if not isinstance(settings, dict):
        return []
    source = "pretrained_cfg in config.json of timm"
    size, test_size = _timm_size(settings.get("input_size")), _timm_size(settings.get("test_input_size"))
    share = number_of(settings.get("crop_pct"))
    if test_size is not None and test_size != size and test_size == (foreign.height, foreign.width):
        size, share = test_size, number_of(settings.get("test_crop_pct")) or share
    facts = []
    pixels = normalised(settings.get("mean"), settings.get("std"), 1 / 255)
    if pixels is not None:
        facts.append(Fact(_metadata("pixels", f"{source} states {pixels.text}"), pixels, size=size))
    mode = settings.get("crop_mode", "center")
    geometry = {"squash": Geometry(Resize.STRETCH), "border": Geometry(Resize.LETTERBOX)}.get(str(mode))
    if geometry is None and mode == "center":
        geometry = crop_of(share, 1.0)
    if geometry is not None:
        facts.append(Fact(_metadata("resize", f"{source} states {geometry.text}"), geometry=geometry, size=size))
    return facts


def _timm_size(shape: Any) -> tuple[int, int] | None:
    return size_of(shape[1:]) if isinstance(shape, list) and len(shape) == 3 else None


def _of_image_keys(foreign: ForeignModel) -> list[Fact]:
    """The ONNX metadata of an image input, which Windows ML defines and Azure Custom Vision writes."""
    metadata = foreign.clues.metadata
    if foreign.format is not Format.ONNX or "Image.BitmapPixelFormat" not in metadata:
        return []
    bitmap, nominal = metadata["Image.BitmapPixelFormat"], metadata.get("Image.NominalPixelRange", "Normalized_0_1")
    values = _NOMINAL_RANGES.get(nominal)
    channels = Channels.GRAY if bitmap == "Gray8" else _BITMAP_FORMATS.get(bitmap)
    if values is None or channels is None or channels.number != foreign.channels:
        return []
    pixels = Pixels(values.scale, values.offset, channels, values.name)
    text = f"the ONNX metadata states {bitmap} and {nominal}"
    return [Fact(_metadata("pixels", text), pixels)]


def _of_ultralytics(foreign: ForeignModel) -> list[Fact]:
    """The image size in Ultralytics' metadata. Pixels and geometry are in its row of `producers`."""
    metadata = ultralytics_metadata(foreign)
    size = size_of(literal_list(metadata.get("imgsz")))
    if size is None:
        return []
    return [Fact(_metadata("size", f"the metadata of Ultralytics states {size[0]} x {size[1]} pixels"), size=size)]


def literal_list(text: str | None) -> list[Any]:
    """Return the numbers of a text such as "[224, 224]"; empty if it is something else."""
    return [part.strip() for part in text.strip("[]() ").split(",")] if text and len(text) < 100 else []


def _of_normalization_options(foreign: ForeignModel) -> list[Fact]:
    """NormalizationOptions of TFLite's metadata: (x - mean) / std.

    For integer inputs some exporters state what the float network took (127.5 and 127.5), others that photos are fed
    unchanged (0 and 1). Both mean the same integers.
    """
    metadata = foreign.clues.metadata
    mean, std = metadata.get("input.mean"), metadata.get("input.std")
    if mean is None or std is None:
        return []
    channels = Channels.GRAY if foreign.channels == 1 else Channels.RGB
    pixels = normalised(mean, std, 1.0, channels)
    if pixels is None:
        return []
    known = metadata.get("input.color_space") in ("RGB", "GRAYSCALE")
    text = f"NormalizationOptions of the TFLite metadata state mean {mean} and std {std}"
    if is_integer(foreign):
        raw = raw_feed(foreign.input, channels)
        unchanged = pixels.same_as(Pixels(RAW.scale, RAW.offset, channels)) or nearly_same_values(pixels, raw)
        if unchanged:
            pixels, text = raw, f"{text}: photos are stored unchanged"
    return [Fact(_metadata("pixels", text), pixels, channels_known=known)]


def _of_custom_vision_properties(foreign: ForeignModel) -> list[Fact]:
    """Azure's metadata_properties.json: the size, and how photos are cropped.

    Its pixel format and range (Rgb8, Normalized_0_1) are wrong for the TensorFlow and TFLite exports, and not used. Its
    crop is only likely: the producer's own examples stretch.
    """
    properties = json_beside(foreign, "metadata_properties.json")
    prefix = "CustomVision.Preprocess."
    size = size_of([properties.get(f"{prefix}TargetHeight"), properties.get(f"{prefix}TargetWidth")])
    if size is None:
        return []
    method = properties.get(f"{prefix}CropMethod")
    geometries = {"NoCrop": Geometry(Resize.STRETCH), "FullImageShorterSide": Geometry(Resize.CROP)}
    geometry = geometries.get(str(method))
    text = f"metadata_properties.json of Azure Custom Vision states {size[0]} x {size[1]} pixels"
    if geometry is not None:
        text += f" and {method}"
    return [Fact(_metadata("resize" if geometry else "size", text), geometry=geometry, certain=False, size=size)]


def _metadata(about: str, text: str) -> Evidence:
    return Evidence(about, Source.METADATA, text)


def _text(values: Triple) -> str:
    return ", ".join(f"{value:.4g}" for value in (values[:1] if len(set(values)) == 1 else values))
