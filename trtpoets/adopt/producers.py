"""Recognises the program that wrote a classifier file, and states how its files expect their photos.

A row is certain if it was verified on real files or in the producer's source, and likely if the producer leaves the
preprocessing to its user: then the row lists the usual choices, and a trial has to confirm one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from trtpoets.adopt.contract import CAFFE, IMAGENET, RAW, SIGNED, UNIT, Geometry, Pixels
from trtpoets.adopt.facts import Fact, for_channels, is_integer, nearly_same, raw_feed
from trtpoets.adopt.foreign import ForeignModel
from trtpoets.adopt.metadata import ultralytics_metadata
from trtpoets.adopt.neighbours import json_beside
from trtpoets.core.original import Channels, Evidence, Format, Source
from trtpoets.core.types import Resize

_STRETCH = Geometry(Resize.STRETCH)
_CROP = Geometry(Resize.CROP)
_CROP_224_OF_256 = Geometry(Resize.CROP, 0.875)

INCEPTION = Pixels((1 / 128,) * 3, (-1.0,) * 3, name="-1..1")
AZURE_MEANS = Pixels((1.0,) * 3, (-124.0, -117.0, -104.0), Channels.BGR, "0..255 minus 124, 117, 104")
BGR_RAW = replace(RAW, channels=Channels.BGR)
BGR_SIGNED = replace(SIGNED, channels=Channels.BGR)

_TENSORFLOW = (Format.KERAS, Format.SAVED_MODEL, Format.GRAPH_DEF, Format.TFLITE)


@dataclass(frozen=True)
class Producer:
    """A row: a program, how its files are recognised (`clue` in words), and what they take.

    `pixels` has one member if it is `certain`, else the usual choices, the most likely first; empty if the producer
    leaves them open. For an integer input, RAW are the photos unchanged. Of several rows that match, the most
    `specific` counts. `source` is a repository and a file in it.
    """

    name: str
    clue: str
    source: str
    recognises: Callable[[ForeignModel], bool]
    pixels: tuple[Pixels, ...] = ()
    geometry: Geometry | None = None
    certain: bool = True
    geometry_certain: bool = True
    specific: int = 1
    note: str = ""


def producers_of(foreign: ForeignModel) -> tuple[Producer, ...]:
    """Return the rows that match a file, only the most specific ones."""
    matching = [producer for producer in PRODUCERS if producer.recognises(foreign)]
    most = max((producer.specific for producer in matching), default=0)
    return tuple(producer for producer in matching if producer.specific == most)


def producer_name(foreign: ForeignModel) -> str:
    """Return the name of the program that wrote a file, "" if it is unknown or not certain."""
    rows = [producer for producer in producers_of(foreign) if producer.specific > 0]
    return rows[0].name if len(rows) == 1 else foreign.clues.writer


def producer_facts(foreign: ForeignModel) -> tuple[Fact, ...]:
    """Return what the matching rows state. Rows that contradict each other are likely, not certain."""
    rows = producers_of(foreign)
    kinds = [_pixels_for(foreign, pixels) for producer in rows for pixels in producer.pixels]
    agree = all(nearly_same(pixels, kinds[0]) for pixels in kinds)
    facts = []
    for producer in rows:
        start = f"{producer.name} wrote the file ({producer.clue})"
        if not producer.certain:
            start = f"{producer.name} may have written the file ({producer.clue})"
        for pixels in producer.pixels:
            fitting = _pixels_for(foreign, pixels)
            text = f"{start}; its files take {fitting.text}{producer.note} ({producer.source})"
            facts.append(Fact(_evidence("pixels", text), fitting, certain=producer.certain and agree))
        if producer.geometry is not None:
            text = f"{start}; its photos are resized by {producer.geometry.text} ({producer.source})"
            certain = producer.certain and producer.geometry_certain and len(rows) == 1
            facts.append(Fact(_evidence("resize", text), geometry=producer.geometry, certain=certain))
    return tuple(facts)


def _pixels_for(foreign: ForeignModel, pixels: Pixels) -> Pixels:
    if is_integer(foreign) and pixels in (RAW, BGR_RAW):
        return raw_feed(foreign.input, pixels.channels)
    return for_channels(pixels, foreign.channels)


def _evidence(about: str, text: str) -> Evidence:
    return Evidence(about, Source.PRODUCER, text)


# How files are recognised


def _base(name: str) -> str:
    """Return a tensor's name without ":0" and without the prefix of a TFLite signature."""
    return name.rsplit(":", 1)[0].removeprefix("serving_default_")


def _is(foreign: ForeignModel, inputs: Sequence[str], outputs: Sequence[str]) -> bool:
    return _base(foreign.input.name) in inputs and (not outputs or _base(foreign.output.name) in outputs)


def _has(foreign: ForeignModel, *parts: str) -> bool:
    """Whether each part is the beginning of a node's name, or follows a "/" in one."""
    return all(any(node.startswith(part) or f"/{part}" in node for node in foreign.clues.nodes) for part in parts)


def _is_tensorflow(foreign: ForeignModel) -> bool:
    return foreign.format in _TENSORFLOW


def _is_retrained(foreign: ForeignModel) -> bool:
    return _is_tensorflow(foreign) and _base(foreign.output.name) == "final_result"


def _is_hub_retrained(foreign: ForeignModel) -> bool:
    return _is_retrained(foreign) and _base(foreign.input.name).startswith("Placeholder")


def _is_teachable_machine(foreign: ForeignModel) -> bool:
    if not _is_tensorflow(foreign) or (foreign.height, foreign.width) != (224, 224):
        return False
    return _has(foreign, "dense_Dense") or (
        _base(foreign.input.name) == "sequential_1_input"
        and ("sequential_3" in foreign.output.name or _has(foreign, "sequential_3"))
    )


def _is_slim(foreign: ForeignModel) -> bool:
    names = (*foreign.clues.nodes, foreign.output.name)
    networks = ("MobilenetV1/", "MobilenetV2/", "MobilenetV3/", "InceptionV", "InceptionResnetV2/")
    return (
        _is_tensorflow(foreign)
        and _base(foreign.output.name) != "final_result"
        and any(name.startswith(networks) and "/Predictions/" in name for name in names)
    )


def _manifest(foreign: ForeignModel) -> dict[str, object]:
    manifest = json_beside(foreign, "cvexport.manifest")
    return manifest if manifest.get("DomainType") == "Classification" else {}


def _is_azure(foreign: ForeignModel) -> bool:
    names = ("loss", "model_output", "model_outputs", "outputs")
    by_names = _is(foreign, ("Placeholder", "data"), names[:2])
    return _is_tensorflow(foreign) and (by_names or bool(_manifest(foreign)))


def _is_azure_s1(foreign: ForeignModel) -> bool:
    if not _is_azure(foreign):
        return False
    target = json_beside(foreign, "metadata_properties.json").get("CustomVision.Preprocess.TargetHeight")
    return foreign.height == 300 or str(target) == "300"


def _is_azure_onnx(foreign: ForeignModel) -> bool:
    keys = foreign.clues.metadata
    return foreign.format is Format.ONNX and bool(_manifest(foreign)) and "Image.BitmapPixelFormat" not in keys


def _is_azure_onnx_with_keys(foreign: ForeignModel) -> bool:
    outputs = ("loss", "classLabel", "model_output", "model_outputs")
    named = bool(_manifest(foreign)) or _is(foreign, ("data",), outputs)
    return foreign.format is Format.ONNX and "Image.BitmapPixelFormat" in foreign.clues.metadata and named


def _is_lobe(foreign: ForeignModel) -> bool:
    signature = json_beside(foreign, "signature.json")
    inputs, outputs = signature.get("inputs"), signature.get("outputs")
    return (
        isinstance(inputs, dict)
        and "Image" in inputs
        and isinstance(outputs, dict)
        and bool({"Confidences", "Labels"} & set(outputs))
    )


def _ultralytics_date(foreign: ForeignModel) -> str | None:
    """Return the date of an Ultralytics classifier, "" if it has none; None for other files."""
    metadata = ultralytics_metadata(foreign)
    return metadata.get("date", "")[:10] if metadata.get("task") == "classify" else None


def _is_ultralytics(foreign: ForeignModel) -> bool:
    return (_ultralytics_date(foreign) or "") >= "2023-04"


def _is_early_ultralytics(foreign: ForeignModel) -> bool:
    date = _ultralytics_date(foreign)
    return date is not None and date < "2023-04"


def _is_edge_impulse(foreign: ForeignModel) -> bool:
    return foreign.format is Format.TFLITE and _base(foreign.input.name) in ("x_input", "x")


def _is_coral(foreign: ForeignModel) -> bool:
    input_ = foreign.input
    return (
        foreign.format is Format.TFLITE
        and (input_.dtype, foreign.output.dtype, input_.zero_point) == ("uint8", "uint8", 128)
        and abs(input_.scale * 128 - 1) < 0.01
    )


def _has_tflite_metadata(foreign: ForeignModel) -> bool:
    return foreign.format is Format.TFLITE and foreign.clues.metadata.get("input.content") == "image"


def _is_pytorch(foreign: ForeignModel) -> bool:
    return foreign.format is Format.ONNX and foreign.clues.writer.lower().startswith("pytorch")


def _writer(word: str) -> Callable[[ForeignModel], bool]:
    return lambda foreign: word in foreign.clues.writer.lower()


def _names(inputs: Sequence[str], outputs: Sequence[str]) -> Callable[[ForeignModel], bool]:
    return lambda foreign: foreign.format is Format.ONNX and _is(foreign, inputs, outputs)


def _keras(*layers: str, without: str = "") -> Callable[[ForeignModel], bool]:
    """Recognise a network of keras.applications by the names of layers."""
    return lambda foreign: (
        _is_tensorflow(foreign) and _has(foreign, *layers) and not (without and _has(foreign, without))
    )


def _stem(stem: str, side: int) -> Callable[[ForeignModel], bool]:
    return lambda foreign: foreign.path.stem.lower().startswith(stem) and foreign.height == side


def _is_fastai(foreign: ForeignModel) -> bool:
    return _is_pytorch(foreign) and all(
        any(word in node for node in foreign.clues.nodes) for word in ("GlobalMaxPool", "GlobalAveragePool")
    )


_KERAS_SOURCE = "keras-team/keras, keras/src/applications"
_AZURE_SOURCE = "Azure-Samples/customvision-export-samples, samples/python"
_RETRAIN_SOURCE = "googlecodelabs/tensorflow-for-poets-2, scripts/retrain.py"


def _keras_row(
    network: str, module: str, own: Pixels, recognises: Callable[[ForeignModel], bool], others: tuple[Pixels, ...]
) -> Producer:
    return Producer(
        f"Keras ({network})",
        "the names of its layers",
        f"{_KERAS_SOURCE}/{module}.py",
        recognises,
        (own, *others),
        certain=False,
        note=", or what its author chose",
    )


PRODUCERS = (
    Producer(
        "retrain.py of TensorFlow for Poets",
        "output final_result of a MobileNet",
        _RETRAIN_SOURCE,
        lambda foreign: _is_retrained(foreign) and _base(foreign.input.name) == "input",
        (SIGNED,),
        _STRETCH,
        specific=3,
    ),
    Producer(
        "retrain.py of TensorFlow for Poets",
        "input Mul and output final_result of Inception v3",
        _RETRAIN_SOURCE,
        lambda foreign: _is_retrained(foreign) and _base(foreign.input.name) == "Mul",
        (INCEPTION,),
        _STRETCH,
        specific=3,
    ),
    Producer(
        "retrain.py of TensorFlow Hub",
        "input Placeholder and output final_result",
        "tensorflow/hub, examples/image_retraining/retrain.py",
        _is_hub_retrained,
        (UNIT,),
        _STRETCH,
        specific=3,
    ),
    Producer(
        "make_image_classifier of TensorFlow Hub",
        "input keras_layer_input",
        "tensorflow/hub, tensorflow_hub/tools/make_image_classifier",
        lambda foreign: _is_tensorflow(foreign) and _base(foreign.input.name) == "keras_layer_input",
        (UNIT, SIGNED),
        _STRETCH,
        certain=False,
        specific=2,
    ),
    Producer(
        "Teachable Machine",
        "the names of its nested Sequential models",
        "googlecreativelab/teachablemachine-community, libraries/image",
        _is_teachable_machine,
        (SIGNED,),
        _CROP,
        specific=4,
    ),
    Producer(
        "TF-Slim",
        "the scope Predictions of its networks",
        "tensorflow/models, research/slim/preprocessing/inception_preprocessing.py",
        _is_slim,
        (SIGNED,),
        specific=2,
    ),
    Producer(
        "AutoML Vision Edge",
        "uint8 input image and output scores",
        "googlecodelabs/automl-vision-edge-in-mlkit",
        lambda foreign: (
            foreign.format is Format.TFLITE and foreign.input.dtype == "uint8" and _is(foreign, ("image",), ("scores",))
        ),
        (RAW,),
        specific=3,
    ),
    Producer(
        "TFLite Model Maker or MediaPipe Model Maker",
        "TFLite metadata of an image, uint8 input",
        "tensorflow/tflite-support, tensorflow_lite_support/metadata/metadata_schema.fbs",
        lambda foreign: _has_tflite_metadata(foreign) and foreign.input.dtype == "uint8",
        (RAW,),
        specific=2,
    ),
    Producer(
        "Coral",
        "uint8 input with scale 1/128 and zero point 128",
        "google-coral/pycoral, examples/classify_image.py",
        _is_coral,
        (RAW,),
        specific=1,
    ),
    Producer(
        "Edge Impulse",
        "int8 input x",
        "edgeimpulse/inferencing-sdk-cpp, classifier/ei_run_classifier.h",
        lambda foreign: _is_edge_impulse(foreign) and is_integer(foreign),
        (RAW,),
        _CROP,
        geometry_certain=False,
        specific=2,
    ),
    Producer(
        "Edge Impulse",
        "float input x",
        "edgeimpulse/inferencing-sdk-cpp, classifier/ei_run_classifier.h",
        lambda foreign: _is_edge_impulse(foreign) and not is_integer(foreign),
        (UNIT, SIGNED, IMAGENET),
        _CROP,
        certain=False,
        specific=2,
    ),
    Producer(
        "MLPerf Tiny",
        "the file name and 32 pixels",
        "mlcommons/tiny, benchmark/training/image_classification",
        _stem("pretrainedresnet", 32),
        (RAW, UNIT),
        certain=False,
        specific=1,
    ),
    Producer(
        "MLPerf Tiny",
        "the file name and 96 pixels",
        "mlcommons/tiny, benchmark/training/visual_wake_words",
        _stem("vww_96", 96),
        (UNIT, RAW),
        certain=False,
        specific=1,
    ),
    Producer(
        "Azure Custom Vision",
        "output loss or cvexport.manifest, 227 pixels",
        "Azure-Samples/cognitive-services-android-customvision-sample",
        lambda foreign: _is_azure(foreign) and foreign.height == 227,
        (AZURE_MEANS,),
        Geometry(Resize.CROP, 227 / 256),
        geometry_certain=False,
        specific=3,
        note="; those of the domain Landmarks take 0..255, BGR",
    ),
    Producer(
        "Azure Custom Vision",
        "output loss or cvexport.manifest",
        f"{_AZURE_SOURCE}/tensorflow_lite/classification/predict.py",
        lambda foreign: _is_azure(foreign) and foreign.height != 227 and not _is_azure_s1(foreign),
        (BGR_RAW,),
        _STRETCH,
        geometry_certain=False,
        specific=3,
    ),
    Producer(
        "Azure Custom Vision (S1)",
        "cvexport.manifest and 300 pixels",
        f"{_AZURE_SOURCE}/tensorflow_lite/classification_s1/predict.py",
        _is_azure_s1,
        (RAW,),
        _STRETCH,
        geometry_certain=False,
        specific=4,
    ),
    Producer(
        "Azure Custom Vision",
        "cvexport.manifest, no range in the metadata",
        f"{_AZURE_SOURCE}/onnx/classification/predict.py",
        _is_azure_onnx,
        (UNIT,),
        _STRETCH,
        geometry_certain=False,
        specific=3,
    ),
    Producer(
        "Azure Custom Vision",
        "Image.BitmapPixelFormat in the metadata, input data",
        f"{_AZURE_SOURCE}/onnx/classification/predict.py",
        _is_azure_onnx_with_keys,
        (),
        _STRETCH,
        geometry_certain=False,
        specific=3,
    ),
    Producer(
        "Lobe",
        "signature.json with inputs.Image",
        "lobe/lobe-python, src/lobe/image_utils.py",
        _is_lobe,
        (UNIT,),
        _CROP,
        specific=4,
    ),
    Producer(
        "Ultralytics",
        "task classify in the metadata",
        "ultralytics/ultralytics, ultralytics/data/augment.py",
        _is_ultralytics,
        (UNIT,),
        _CROP,
        specific=4,
    ),
    Producer(
        "Ultralytics",
        "task classify in the metadata, no date after March 2023",
        "ultralytics/ultralytics, pull request 1368",
        _is_early_ultralytics,
        (UNIT, IMAGENET),
        _CROP,
        certain=False,
        specific=4,
    ),
    Producer(
        "jetson-inference",
        "input_0 and output_0",
        "dusty-nv/jetson-inference, c/imageNet.cpp",
        _names(("input_0",), ("output_0",)),
        (IMAGENET,),
        _STRETCH,
        specific=2,
    ),
    Producer(
        "timm",
        "input0 and output0",
        "huggingface/pytorch-image-models, timm/utils/onnx.py",
        _names(("input0",), ("output0",)),
        (IMAGENET, SIGNED),
        _CROP_224_OF_256,
        certain=False,
        specific=2,
    ),
    Producer(
        "Hugging Face",
        "pixel_values and logits",
        "huggingface/optimum, optimum/exporters/onnx",
        _names(("pixel_values",), ("logits",)),
        (IMAGENET, SIGNED),
        certain=False,
        specific=2,
    ),
    Producer(
        "fastai",
        "maximum and average pooling before its head",
        "fastai/fastai, fastai/vision/learner.py",
        _is_fastai,
        (IMAGENET, UNIT),
        certain=False,
        specific=1,
    ),
    Producer(
        "PyTorch",
        "the writer that the file names",
        "pytorch/vision, torchvision/transforms/_presets.py",
        _is_pytorch,
        (IMAGENET, UNIT, SIGNED),
        _CROP_224_OF_256,
        certain=False,
        specific=0,
    ),
    Producer(
        "PaddlePaddle",
        "the writer that the file names",
        "PaddlePaddle/PaddleOCR, tools/infer/predict_cls.py",
        _writer("paddle"),
        (IMAGENET, BGR_SIGNED),
        certain=False,
        specific=1,
    ),
    Producer(
        "MATLAB",
        "the writer that the file names",
        "documentation of exportONNXNetwork",
        _writer("matlab"),
        (RAW, UNIT),
        certain=False,
        specific=1,
    ),
    Producer(
        "CNTK",
        "the writer that the file names",
        "microsoft/CNTK, Examples/Image",
        _writer("cntk"),
        (RAW, UNIT),
        certain=False,
        specific=1,
    ),
    _keras_row("MobileNet", "mobilenet", SIGNED, _keras("conv_dw_1", "conv_pw_13"), (UNIT, RAW)),
    _keras_row("MobileNetV2", "mobilenet_v2", SIGNED, _keras("block_1_expand", "Conv_1"), (UNIT, RAW)),
    _keras_row("Inception v3", "inception_v3", SIGNED, _keras("mixed0", "mixed10"), (UNIT, RAW)),
    _keras_row("Inception-ResNet v2", "inception_resnet_v2", SIGNED, _keras("mixed_5b", "conv_7b"), (UNIT, RAW)),
    _keras_row("Xception", "xception", SIGNED, _keras("block14_sepconv2"), (UNIT, RAW)),
    _keras_row("NASNet", "nasnet", SIGNED, _keras("stem_conv1", "normal_"), (UNIT, RAW)),
    _keras_row("ResNet v2", "resnet_v2", SIGNED, _keras("conv2_block1_preact_bn"), (UNIT, RAW)),
    _keras_row("VGG", "vgg16", CAFFE, _keras("block1_conv1", "block5_pool"), (UNIT, RAW, SIGNED)),
    _keras_row(
        "ResNet",
        "resnet",
        CAFFE,
        _keras("conv2_block1_1_conv", "conv2_block1_out", without="conv2_block1_preact_bn"),
        (UNIT, RAW, SIGNED),
    ),
    _keras_row("DenseNet", "densenet", IMAGENET, _keras("conv2_block1_concat", "pool2_conv"), (UNIT, RAW, SIGNED)),
    _keras_row("EfficientNet", "efficientnet", RAW, _keras("rescaling", "stem_conv", "top_conv"), (UNIT,)),
    _keras_row("MobileNetV3", "mobilenet_v3", RAW, _keras("rescaling", "expanded_conv"), (UNIT, SIGNED)),
    _keras_row("ConvNeXt", "convnext", RAW, _keras("convnext"), (UNIT, IMAGENET)),
)
"""All rows. The order decides nothing."""
