"""The table of producers: which programs write classifier files, and how their files expect photos.

A row is certain if it was verified on real files or in the producer's source, and likely if the producer leaves the
preprocessing to its user: then the row lists the usual choices, and a trial has to confirm one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from trtpoets.adoption.contract import CAFFE, CIFAR10, IMAGENET, RAW, SIGNED, UNIT, Geometry, Pixels
from trtpoets.adoption.facts import is_integer
from trtpoets.adoption.foreign import ForeignModel
from trtpoets.adoption.producer_clues import (
    base_name,
    file_stem,
    has_names,
    has_tflite_metadata,
    is_azure,
    is_azure_onnx,
    is_azure_onnx_with_keys,
    is_azure_s1,
    is_coral,
    is_early_ultralytics,
    is_edge_impulse,
    is_fastai,
    is_gluon,
    is_hub_retrained,
    is_lobe,
    is_pytorch,
    is_retrained,
    is_slim,
    is_small,
    is_teachable_machine,
    is_tensorflow,
    is_ultralytics,
    keras_layers,
    onnx_names,
    writer_is,
)
from trtpoets.core.original import Channels, Format, Layout
from trtpoets.core.types import Resize

_STRETCH = Geometry(Resize.STRETCH)
_CROP = Geometry(Resize.CROP)
_CROP_224_OF_256 = Geometry(Resize.CROP, 0.875)

INCEPTION = Pixels((1 / 128,) * 3, (-1.0,) * 3, name="-1..1")
CENTRED_TO_1 = Pixels((1 / 128,) * 3, (-127 / 128,) * 3, name="-1..1")
"""(x - 127) / 128, of EfficientNet-Lite."""

AZURE_MEANS = Pixels((1.0,) * 3, (-124.0, -117.0, -104.0), Channels.BGR, "0..255 minus 124, 117, 104")
BGR_RAW = replace(RAW, channels=Channels.BGR)
BGR_SIGNED = replace(SIGNED, channels=Channels.BGR)


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
        lambda foreign: is_retrained(foreign) and base_name(foreign.input.name) == "input",
        (SIGNED,),
        _STRETCH,
        specific=3,
    ),
    Producer(
        "retrain.py of TensorFlow for Poets",
        "input Mul and output final_result of Inception v3",
        _RETRAIN_SOURCE,
        lambda foreign: is_retrained(foreign) and base_name(foreign.input.name) == "Mul",
        (INCEPTION,),
        _STRETCH,
        specific=3,
    ),
    Producer(
        "retrain.py of TensorFlow Hub",
        "input Placeholder and output final_result",
        "tensorflow/hub, examples/image_retraining/retrain.py",
        is_hub_retrained,
        (UNIT,),
        _STRETCH,
        specific=3,
    ),
    Producer(
        "make_image_classifier of TensorFlow Hub",
        "input keras_layer_input",
        "tensorflow/hub, tensorflow_hub/tools/make_image_classifier",
        lambda foreign: is_tensorflow(foreign) and base_name(foreign.input.name) == "keras_layer_input",
        (UNIT, SIGNED),
        _STRETCH,
        certain=False,
        specific=2,
    ),
    Producer(
        "Teachable Machine",
        "the names of its nested Sequential models",
        "googlecreativelab/teachablemachine-community, libraries/image",
        is_teachable_machine,
        (SIGNED,),
        _CROP,
        specific=4,
    ),
    Producer(
        "TF-Slim",
        "the scope Predictions of its networks",
        "tensorflow/models, research/slim/preprocessing/inception_preprocessing.py",
        is_slim,
        (SIGNED,),
        specific=2,
    ),
    Producer(
        "AutoML Vision Edge",
        "uint8 input image and output scores",
        "googlecodelabs/automl-vision-edge-in-mlkit",
        lambda foreign: (
            foreign.format is Format.TFLITE
            and foreign.input.dtype == "uint8"
            and has_names(foreign, ("image",), ("scores",))
        ),
        (RAW,),
        specific=3,
    ),
    Producer(
        "TFLite Model Maker or MediaPipe Model Maker",
        "TFLite metadata of an image, uint8 input",
        "tensorflow/tflite-support, tensorflow_lite_support/metadata/metadata_schema.fbs",
        lambda foreign: has_tflite_metadata(foreign) and foreign.input.dtype == "uint8",
        (RAW,),
        specific=2,
    ),
    Producer(
        "Coral",
        "uint8 input with scale 1/128 and zero point 128",
        "google-coral/pycoral, examples/classify_image.py",
        is_coral,
        (RAW,),
        specific=1,
    ),
    Producer(
        "Edge Impulse",
        "int8 input x",
        "edgeimpulse/inferencing-sdk-cpp, classifier/ei_run_classifier.h",
        lambda foreign: is_edge_impulse(foreign) and is_integer(foreign),
        (RAW,),
        _CROP,
        geometry_certain=False,
        specific=2,
    ),
    Producer(
        "Edge Impulse",
        "float input x",
        "edgeimpulse/inferencing-sdk-cpp, classifier/ei_run_classifier.h",
        lambda foreign: is_edge_impulse(foreign) and not is_integer(foreign),
        (UNIT, SIGNED, IMAGENET),
        _CROP,
        certain=False,
        specific=2,
    ),
    Producer(
        "MLPerf Tiny",
        "the file name and 32 pixels",
        "mlcommons/tiny, benchmark/training/image_classification",
        file_stem("pretrainedresnet", 32),
        (RAW, UNIT),
        certain=False,
        specific=1,
    ),
    Producer(
        "MLPerf Tiny",
        "the file name and 96 pixels",
        "mlcommons/tiny, benchmark/training/visual_wake_words",
        file_stem("vww_96", 96),
        (UNIT, RAW),
        certain=False,
        specific=1,
    ),
    Producer(
        "Azure Custom Vision",
        "output loss or cvexport.manifest, 227 pixels",
        "Azure-Samples/cognitive-services-android-customvision-sample",
        lambda foreign: is_azure(foreign) and foreign.height == 227,
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
        lambda foreign: is_azure(foreign) and foreign.height != 227 and not is_azure_s1(foreign),
        (BGR_RAW,),
        _STRETCH,
        geometry_certain=False,
        specific=3,
    ),
    Producer(
        "Azure Custom Vision (S1)",
        "cvexport.manifest and 300 pixels",
        f"{_AZURE_SOURCE}/tensorflow_lite/classification_s1/predict.py",
        is_azure_s1,
        (RAW,),
        _STRETCH,
        geometry_certain=False,
        specific=4,
    ),
    Producer(
        "Azure Custom Vision",
        "cvexport.manifest, no range in the metadata",
        f"{_AZURE_SOURCE}/onnx/classification/predict.py",
        is_azure_onnx,
        (UNIT,),
        _STRETCH,
        geometry_certain=False,
        specific=3,
    ),
    Producer(
        "Azure Custom Vision",
        "Image.BitmapPixelFormat in the metadata, input data",
        f"{_AZURE_SOURCE}/onnx/classification/predict.py",
        is_azure_onnx_with_keys,
        (),
        _STRETCH,
        geometry_certain=False,
        specific=3,
    ),
    Producer(
        "Lobe",
        "signature.json with inputs.Image",
        "lobe/lobe-python, src/lobe/image_utils.py",
        is_lobe,
        (UNIT,),
        _CROP,
        specific=4,
    ),
    Producer(
        "Ultralytics",
        "task classify in the metadata",
        "ultralytics/ultralytics, ultralytics/data/augment.py",
        is_ultralytics,
        (UNIT,),
        _CROP,
        specific=4,
    ),
    Producer(
        "Ultralytics",
        "task classify in the metadata, no date after March 2023",
        "ultralytics/ultralytics, pull request 1368",
        is_early_ultralytics,
        (UNIT, IMAGENET),
        _CROP,
        certain=False,
        specific=4,
    ),
    Producer(
        "jetson-inference",
        "input_0 and output_0",
        "dusty-nv/jetson-inference, c/imageNet.cpp",
        onnx_names(("input_0",), ("output_0",)),
        (IMAGENET,),
        _STRETCH,
        specific=2,
    ),
    Producer(
        "timm",
        "input0 and output0",
        "huggingface/pytorch-image-models, timm/utils/onnx.py",
        onnx_names(("input0",), ("output0",)),
        (IMAGENET, SIGNED),
        _CROP_224_OF_256,
        certain=False,
        specific=2,
    ),
    Producer(
        "Hugging Face",
        "pixel_values and logits",
        "huggingface/optimum, optimum/exporters/onnx",
        onnx_names(("pixel_values",), ("logits",)),
        (IMAGENET, SIGNED),
        certain=False,
        specific=2,
    ),
    Producer(
        "MXNet GluonCV",
        "input data, and an output named as its networks do",
        "onnx/models, vision/classification/imagenet_preprocess.py",
        is_gluon,
        (IMAGENET,),
        _CROP_224_OF_256,
        certain=False,
        specific=2,
    ),
    Producer(
        "Caffe2",
        "the writer that the file names, or input data_0",
        "onnx/models, vision/classification/inception_and_googlenet/googlenet",
        lambda foreign: writer_is("caffe2")(foreign) or onnx_names(("data_0",), ())(foreign),
        (CAFFE, RAW, IMAGENET),
        _CROP_224_OF_256,
        certain=False,
        specific=1,
    ),
    Producer(
        "EfficientNet-Lite",
        "input images of 4 axes, the last of channels, and output Softmax",
        "tensorflow/tpu, models/official/efficientnet/lite",
        lambda foreign: onnx_names(("images",), ("Softmax",))(foreign) and foreign.input.layout is Layout.NHWC,
        (CENTRED_TO_1,),
        _CROP_224_OF_256,
        certain=False,
        specific=2,
    ),
    Producer(
        "fastai",
        "maximum and average pooling before its head",
        "fastai/fastai, fastai/vision/learner.py",
        is_fastai,
        (IMAGENET, UNIT),
        certain=False,
        specific=1,
    ),
    Producer(
        "PyTorch",
        "the writer that the file names",
        "pytorch/vision, torchvision/transforms/_presets.py",
        lambda foreign: is_pytorch(foreign) and not is_small(foreign),
        (IMAGENET, UNIT, SIGNED),
        _CROP_224_OF_256,
        certain=False,
        specific=0,
    ),
    Producer(
        "PyTorch",
        "the writer that the file names, a small input",
        "pytorch/tutorials, beginner_source/blitz/cifar10_tutorial.py",
        lambda foreign: is_pytorch(foreign) and is_small(foreign),
        (CIFAR10, IMAGENET, UNIT, SIGNED),
        _STRETCH,
        certain=False,
        specific=0,
    ),
    Producer(
        "PaddlePaddle",
        "the writer that the file names",
        "PaddlePaddle/PaddleOCR, tools/infer/predict_cls.py",
        writer_is("paddle"),
        (IMAGENET, BGR_SIGNED),
        certain=False,
        specific=1,
    ),
    Producer(
        "MATLAB",
        "the writer that the file names",
        "documentation of exportONNXNetwork",
        writer_is("matlab"),
        (RAW, UNIT),
        certain=False,
        specific=1,
    ),
    Producer(
        "CNTK",
        "the writer that the file names",
        "microsoft/CNTK, Examples/Image",
        writer_is("cntk"),
        (RAW, UNIT),
        certain=False,
        specific=1,
    ),
    _keras_row("MobileNet", "mobilenet", SIGNED, keras_layers("conv_dw_1", "conv_pw_13"), (UNIT, RAW)),
    _keras_row("MobileNetV2", "mobilenet_v2", SIGNED, keras_layers("block_1_expand", "Conv_1"), (UNIT, RAW)),
    _keras_row("Inception v3", "inception_v3", SIGNED, keras_layers("mixed0", "mixed10"), (UNIT, RAW)),
    _keras_row("Inception-ResNet v2", "inception_resnet_v2", SIGNED, keras_layers("mixed_5b", "conv_7b"), (UNIT, RAW)),
    _keras_row("Xception", "xception", SIGNED, keras_layers("block14_sepconv2"), (UNIT, RAW)),
    _keras_row("NASNet", "nasnet", SIGNED, keras_layers("stem_conv1", "normal_"), (UNIT, RAW)),
    _keras_row("ResNet v2", "resnet_v2", SIGNED, keras_layers("conv2_block1_preact_bn"), (UNIT, RAW)),
    _keras_row("VGG", "vgg16", CAFFE, keras_layers("block1_conv1", "block5_pool"), (UNIT, RAW, SIGNED)),
    _keras_row(
        "ResNet",
        "resnet",
        CAFFE,
        keras_layers("conv2_block1_1_conv", "conv2_block1_out", without="conv2_block1_preact_bn"),
        (UNIT, RAW, SIGNED),
    ),
    _keras_row(
        "DenseNet", "densenet", IMAGENET, keras_layers("conv2_block1_concat", "pool2_conv"), (UNIT, RAW, SIGNED)
    ),
    _keras_row("EfficientNet", "efficientnet", RAW, keras_layers("rescaling", "stem_conv", "top_conv"), (UNIT,)),
    _keras_row("MobileNetV3", "mobilenet_v3", RAW, keras_layers("rescaling", "expanded_conv"), (UNIT, SIGNED)),
    _keras_row("ConvNeXt", "convnext", RAW, keras_layers("convnext"), (UNIT, IMAGENET)),
)
"""All rows. The order decides nothing."""
