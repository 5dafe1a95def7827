"""Holds ONNX models that dmae wrote to the ONNX checker, to onnxruntime and to PyTorch, and records what they are in models.json.

    DMAE_RECORD=FOLDER swift test ... --filter ONNXModelTests/testModelsAreTheRecordedOnes     writes the models
    python Fixtures/onnx/record_models.py FOLDER                                             records them

Nothing is recorded unless every model passes. README.md says what is compared.
"""

import json
import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
import xxhash
from safetensors.torch import load_file

HERE = Path(__file__).resolve().parent
WEIGHTS = HERE.parent / "weights"
HEADS = 4
TOLERANCE = 1e-4


def state(path):
    """Tensors of a file of weights, in float64."""
    path = WEIGHTS / path
    tensors = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)["model"]
    return {name: value.double() for name, value in tensors.items()}


def probe(tensors):
    """A linear probe's names on a classifier's tensors: BatchNorm's statistics are what the third block's norm holds."""
    new = {
        "head.weight": "head.1.weight", "head.bias": "head.1.bias",
        "blocks.2.norm1.bias": "head.0.running_mean", "blocks.2.norm1.weight": "head.0.running_var",
    }
    return {new.get(n, n): value for n, value in tensors.items() if n in new or not n.startswith("blocks.2.")}


def rounded(tensors, dtype):
    return {name: value.to(dtype).double() for name, value in tensors.items()}


def expected(tensors, images):
    """What an encoder gives in float64: tokens, pooled feature and, where there is a head, logits."""
    def norm(name, x):
        return F.layer_norm(x, x.shape[-1:], tensors[name + ".weight"], tensors[name + ".bias"], 1e-6)

    def linear(name, x):
        return F.linear(x, tensors[name + ".weight"], tensors[name + ".bias"])

    x = F.conv2d(images.double(), tensors["patch_embed.proj.weight"], tensors["patch_embed.proj.bias"], stride=8)
    x = torch.cat([tensors["cls_token"].expand(len(images), 1, -1), x.flatten(2).transpose(1, 2)], 1) + tensors["pos_embed"]
    for block in range(len({name.split(".")[1] for name in tensors if name.startswith("blocks.")})):
        name = f"blocks.{block}"
        qkv = linear(f"{name}.attn.qkv", norm(f"{name}.norm1", x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        values = F.scaled_dot_product_attention(*qkv).transpose(1, 2).flatten(2)
        x = x + linear(f"{name}.attn.proj", values)
        x = x + linear(f"{name}.mlp.fc2", F.gelu(linear(f"{name}.mlp.fc1", norm(f"{name}.norm2", x))))
    if "norm.weight" in tensors:
        x = norm("norm", x)
        outputs = [x, x[:, 0]]
    else:
        outputs = [x, norm("fc_norm", x[:, 1:].mean(1))]
    if "head.1.weight" in tensors:
        feature = F.batch_norm(outputs[1], tensors["head.0.running_mean"], tensors["head.0.running_var"], eps=1e-6)
        outputs.append(linear("head.1", feature))
    elif "head.weight" in tensors:
        outputs.append(linear("head", outputs[1]))
    return [output.numpy() for output in outputs]


def dimensions(value):
    return [d.dim_param or str(d.dim_value) for d in value.type.tensor_type.shape.dim]


def record(path, reference, images):
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    assert len(names) == len(reference), (path.name, names)
    difference = 0.0
    # The batch is free: both pictures at once, then each alone.
    for part in (slice(0, 2), slice(0, 1), slice(1, 2)):
        found = session.run(names, {"pixel_values": images[part].numpy()})
        for name, value, wanted in zip(names, found, reference):
            assert value.shape == wanted[part].shape and value.dtype == np.float32, (path.name, name, value.shape)
            difference = max(difference, float(np.abs(value - wanted[part]).max()))
    assert difference < TOLERANCE, (path.name, difference)
    model = onnx.load(str(path), load_external_data=False)
    content = path.read_bytes()
    data = path.with_name(path.name + ".data")
    result = {
        "bytes": len(content),
        "xxh64": xxhash.xxh64_hexdigest(content),
        "checker": "passed",
        "largest_difference": float(f"{difference:.1e}"),
        "operations": dict(sorted(Counter(node.op_type for node in model.graph.node).items())),
        "inputs": {value.name: dimensions(value) for value in model.graph.input},
        "outputs": {value.name: dimensions(value) for value in model.graph.output},
        "initializers": [{"name": t.name, "type": t.data_type, "shape": list(t.dims)} for t in model.graph.initializer],
    }
    if data.exists():
        result |= {"data_bytes": data.stat().st_size, "data_xxh64": xxhash.xxh64_hexdigest(data.read_bytes())}
    print(f"{path.name}: {sum(result['operations'].values())} operations, off by {difference:.1e}")
    return result


def main():
    folder = Path(sys.argv[1])
    features = load_file(WEIGHTS / "expected.safetensors")
    images = features["images"]
    mae, classifier, tuned = state("mae/mae.safetensors"), state("timm/timm.safetensors"), state("mae/finetuned.pth")
    tensors = {
        "mae-f32": mae,
        "mae-f16": rounded(mae, torch.float16),
        "mae-bf16": rounded(mae, torch.bfloat16),
        "mae-external": mae,
        "classifier": classifier,
        "finetuned": tuned,
        "probe": probe(classifier),
    }
    # The record of timm and transformers, in float64 and rounded once.
    own = expected(mae, images)
    for name, value in zip(("f32.tokens", "f32.class"), own):
        assert np.abs(value - features[name].numpy()).max() < 1e-6, name
    models = {name: record(folder / f"{name}.onnx", expected(values, images), images) for name, values in sorted(tensors.items())}
    result = {
        "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__, "torch": torch.__version__,
        "models": models,
    }
    # One line per tensor, shape, operation.
    text = json.dumps(result, indent=1, sort_keys=True)
    text = re.sub(r"\[\s+((?:[^\[\]{}\n]+\n?\s*)+?)\s*\]", lambda found: "[" + " ".join(found[1].split()) + "]", text)
    text = re.sub(r"\{\s+(\"name\"[^{}]+?)\s+\}", lambda found: "{" + " ".join(found[1].split()) + "}", text)
    (HERE / "models.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
