#!/usr/bin/env python3
"""Write one small masked autoencoder in every form people bring, with the tools they come from.

    python3 -m venv venv && venv/bin/pip install -r requirements.txt
    venv/bin/python make_weights.py

The encoder is 32 wide, 3 blocks deep, of 4 heads, on 32 x 32 pictures in patches of 8 x 8; the decoder 16 wide, 2 deep, of 4
heads. README.md says what each file is. The features in expected.safetensors are computed in float64 by timm and held
against transformers here, before anything is written; the hashes printed at the end stand in README.md.
"""

import argparse
import collections
import functools
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import sys
import zipfile

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import PIL.Image
import torch
from safetensors.torch import save_file

try:
    import torchvision  # noqa: F401  timm and transformers import it
except RuntimeError:
    # PyPI's torchvision cannot load its compiled operators beside a CPU build of torch. None is used here, but its
    # import insists on these being declared.
    torchvision_operators = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        torchvision_operators.define(f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    import torchvision  # noqa: F401
import timm
import transformers
from timm.models.vision_transformer import Block, VisionTransformer

SEED = 2022
HERE = pathlib.Path(__file__).parent
WIDTH, DEPTH, HEADS, PATCH, IMAGE, CLASSES = 32, 3, 4, 8, 32, 10
DECODER_WIDTH, DECODER_DEPTH, DECODER_HEADS = 16, 2, 4
PATCHES = (IMAGE // PATCH) ** 2
MASK_RATIO = 0.75
MEAN, DEVIATION = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
random = np.random.Generator(np.random.PCG64(SEED))


# The model, under MAE's names.

def position_table(width):
    """[1, 1+PATCHES, width]: a zero class row, then sine and cosine of the column, then of the row."""
    omega = 10000.0 ** (-np.arange(width // 4, dtype=np.float64) / (width // 4))
    row, column = np.divmod(np.arange(PATCHES), IMAGE // PATCH)
    of_column, of_row = np.outer(column, omega), np.outer(row, omega)
    table = np.concatenate([np.sin(of_column), np.cos(of_column), np.sin(of_row), np.cos(of_row)], axis=1)
    return torch.from_numpy(np.concatenate([np.zeros((1, width)), table])[None].astype(np.float32))


def normal(*shape, scale=0.1, mean=0.0):
    return torch.from_numpy((mean + scale * random.standard_normal(shape)).astype(np.float32))


def linear(name, source, target):
    return {f"{name}.weight": normal(target, source, scale=source ** -0.5), f"{name}.bias": normal(target)}


def norm(name, width):
    return {f"{name}.weight": normal(width, mean=1.0), f"{name}.bias": normal(width)}


def block(name, width):
    return (norm(f"{name}.norm1", width) | linear(f"{name}.attn.qkv", width, 3 * width)
            | linear(f"{name}.attn.proj", width, width) | norm(f"{name}.norm2", width)
            | linear(f"{name}.mlp.fc1", width, 4 * width) | linear(f"{name}.mlp.fc2", 4 * width, width))


encoder = {
    "cls_token": normal(1, 1, WIDTH),
    "pos_embed": position_table(WIDTH),
    "patch_embed.proj.weight": normal(WIDTH, 3, PATCH, PATCH, scale=(3 * PATCH * PATCH) ** -0.5),
    "patch_embed.proj.bias": normal(WIDTH),
}
for index in range(DEPTH):
    encoder |= block(f"blocks.{index}", WIDTH)
encoder |= norm("norm", WIDTH)
decoder = linear("decoder_embed", WIDTH, DECODER_WIDTH)
decoder |= {"mask_token": normal(1, 1, DECODER_WIDTH), "decoder_pos_embed": position_table(DECODER_WIDTH)}
for index in range(DECODER_DEPTH):
    decoder |= block(f"decoder_blocks.{index}", DECODER_WIDTH)
decoder |= norm("decoder_norm", DECODER_WIDTH) | linear("decoder_pred", DECODER_WIDTH, PATCH * PATCH * 3)
mae = encoder | decoder
head = linear("head", WIDTH, CLASSES)
# A linear map from this model's width to a teacher's of 48, as DMAE trains it.
projection = linear("aligned_feature_projection_heads.0", WIDTH, 48)


# The same model in timm and in transformers.

def timm_model(**options):
    sizes = {"img_size": IMAGE, "patch_size": PATCH, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    return VisionTransformer(**sizes | options).eval()


TO_HUGGING_FACE = [
    (r"^cls_token$", "vit.embeddings.cls_token"),
    (r"^pos_embed$", "vit.embeddings.position_embeddings"),
    (r"^patch_embed\.proj\.", "vit.embeddings.patch_embeddings.projection."),
    (r"^blocks\.(\d+)\.", r"vit.layers.\1."),
    (r"^norm\.", "vit.layernorm."),
    (r"^decoder_blocks\.(\d+)\.", r"decoder.decoder_layers.\1."),
    (r"^(decoder_(?:embed|pos_embed|norm|pred)|mask_token)(?=\.|$)", r"decoder.\1"),
    (r"\.norm1\.", ".layernorm_before."), (r"\.norm2\.", ".layernorm_after."),
    (r"\.attn\.proj\.", ".attention.o_proj."), (r"^head\.", "classifier."),
]


def hugging_face_names(tensors):
    """The names that transformers' modules have today; qkv becomes its three thirds."""
    result = {}
    for name, tensor in tensors.items():
        for pattern, replacement in TO_HUGGING_FACE:
            name = re.sub(pattern, replacement, name)
        if ".attn.qkv." in name:
            for letter, part in zip("qkv", tensor.chunk(3)):
                result[name.replace(".attn.qkv.", f".attention.{letter}_proj.")] = part.clone()
        else:
            result[name] = tensor
    return result


def hugging_face_model(kind, tensors):
    sizes = dict(hidden_size=WIDTH, num_hidden_layers=DEPTH, num_attention_heads=HEADS, intermediate_size=4 * WIDTH,
                 image_size=IMAGE, patch_size=PATCH, layer_norm_eps=1e-6)
    if kind is transformers.ViTMAEForPreTraining:
        config = transformers.ViTMAEConfig(
            **sizes, decoder_hidden_size=DECODER_WIDTH, decoder_num_hidden_layers=DECODER_DEPTH,
            decoder_num_attention_heads=DECODER_HEADS, decoder_intermediate_size=4 * DECODER_WIDTH, mask_ratio=MASK_RATIO)
    else:
        config = transformers.ViTConfig(**sizes, num_labels=CLASSES)
    model = (kind(config, add_pooling_layer=False) if kind is transformers.ViTModel else kind(config)).eval()
    names = hugging_face_names(tensors)
    if kind is transformers.ViTModel:
        names = {name.removeprefix("vit."): tensor for name, tensor in names.items()}
    model.load_state_dict(names)
    return model


# What the model makes of two pictures.

def pictures():
    """Two pictures, waves and some noise, of 36 x 36 and 36 x 44 pixels; and their middle 32 x 32, normalised."""
    images = []
    for index, (height, width) in enumerate([(36, 36), (36, 44)]):
        y, x = np.mgrid[0:height, 0:width]
        waves = [np.sin(x / (3.0 + index) + channel) * np.cos(y / (4.0 - index) - channel) for channel in range(3)]
        pixels = 128 + 90 * np.stack(waves, axis=2) + random.integers(-8, 9, (height, width, 3))
        pixels = pixels.clip(0, 255).astype(np.uint8)
        PIL.Image.fromarray(pixels).save(HERE / "images" / f"{index}.png", optimize=True)
        top, left = (height - IMAGE) // 2, (width - IMAGE) // 2
        images.append((pixels[top:top + IMAGE, left:left + IMAGE] / 255.0 - MEAN) / DEVIATION)
    return torch.from_numpy(np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2), np.float32))


@torch.no_grad()
def features(tensors, images):
    """Every block's output, and after the final norm the class token, the mean of the patches and all tokens; float64."""
    model = timm_model(num_classes=0).double()
    model.load_state_dict({name: tensors[name].double() for name in encoder})
    outputs = {}
    for index, layer in enumerate(model.blocks):
        layer.register_forward_hook(lambda _, __, output, index=index: outputs.__setitem__(f"block.{index}", output))
    tokens = model.forward_features(images.double())
    return outputs | {"tokens": tokens, "class": tokens[:, 0], "mean": tokens[:, 1:].mean(dim=1)}


@torch.no_grad()
def check_against_transformers(expected, images):
    """timm in float64 and transformers in float64 see the same features, by three of its classes."""
    worst = 0.0
    model = hugging_face_model(transformers.ViTForImageClassification, encoder | head).double()
    seen = model(images.double(), output_hidden_states=True)
    for index in range(DEPTH):
        worst = max(worst, (seen.hidden_states[index + 1] - expected[f"block.{index}"]).abs().max().item())
    model = hugging_face_model(transformers.ViTModel, encoder).double()
    worst = max(worst, (model(images.double()).last_hidden_state - expected["tokens"]).abs().max().item())
    model = hugging_face_model(transformers.ViTMAEForPreTraining, mae).double()
    model.vit.config.mask_ratio = 0.0
    order = torch.arange(PATCHES, dtype=torch.float64).expand(len(images), -1)
    seen = model.vit(images.double(), noise=order).last_hidden_state
    worst = max(worst, (seen - expected["tokens"]).abs().max().item())
    print(f"transformers and timm in float64 differ by at most {worst:.1e}")
    if worst > 1e-12:
        sys.exit("they should not")


@torch.no_grad()
def reconstruction(images):
    """noise[B,L], and for the patches it leaves, at 75 %, transformers' prediction[B,L,p*p*3] and loss; float64."""
    noise = torch.from_numpy(random.random((len(images), PATCHES)).astype(np.float32))
    seen = hugging_face_model(transformers.ViTMAEForPreTraining, mae).double()(images.double(), noise=noise.double())
    return {"noise": noise, "prediction": seen.logits.float(), "loss": seen.loss.float()}


# Writing.

def cast(tensors, kind):
    return {name: tensor.to(kind) for name, tensor in tensors.items()}


def big_endian(archive):
    """An archive as a big-endian machine writes it: each storage's elements swapped, and the mark."""
    source = zipfile.ZipFile(io.BytesIO(archive))
    result = io.BytesIO()
    with zipfile.ZipFile(result, "w", zipfile.ZIP_STORED) as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith("/byteorder"):
                content = b"big"
            elif "/data/" in entry.filename:
                content = np.frombuffer(content, np.float32).byteswap().tobytes()
            target.writestr(zipfile.ZipInfo(entry.filename), content)
    return result.getvalue()


def saved(value, **options):
    stream = io.BytesIO()
    torch.save(value, stream, **options)
    return stream.getvalue()


def special_archive():
    """Tensors of every type and layout, and plain values between them; and what they hold, laid out plainly."""
    shared = normal(6, 4, scale=1)
    wide = normal(3, 5, 7, scale=1)
    layouts = collections.OrderedDict(
        whole=shared, rows=shared[2:5], column=shared[:, 1], transposed=shared.t(), step=shared[::2, ::3],
        permuted=wide.permute(2, 0, 1), repeated=shared[0].expand(3, 4), diagonal=shared.diagonal(),
        parameter=torch.nn.Parameter(wide[1]), frozen=torch.nn.Parameter(wide[2].t(), requires_grad=False),
        scalar=torch.tensor(2.5), empty=torch.zeros(0, 4), one=wide[:, :, :1])
    special = torch.tensor([0.0, -0.0, 1.0, -2.5, 1e-45, 3e38, float("inf"), -float("inf")])
    types = {
        "float64": torch.tensor([torch.pi, 1e300, -1e-320], dtype=torch.float64), "float32": special,
        "float16": special.half(), "bfloat16": special.bfloat16(), "int64": torch.tensor([0, -1, 2**40 + 1, -(2**63)]),
        "int32": torch.tensor([16777217, -7], dtype=torch.int32), "int16": torch.tensor([-32768, 32767], dtype=torch.int16),
        "int8": torch.tensor([-128, 127], dtype=torch.int8), "uint8": torch.tensor([[0, 255, 7]], dtype=torch.uint8),
        "bool": torch.tensor([True, False, True])}
    values = {"none": None, "true": True, "whole": -(2**70), "small": 7, "real": 0.1, "text": "caf\u00e9 \u4e2d", "bytes": b"\x00\xff",
              "list": [1, [2.5, "x"], ()], "tuple": (1, 2, 3, 4), "set": {3}, "args": argparse.Namespace(lr=1e-3, name="tiny")}
    contents = {"layouts": layouts, "types": types, "values": values, "list": [shared[1], {"deep": shared[:, 2:]}]}
    plain = {f"layouts.{name}": tensor for name, tensor in layouts.items()}
    plain |= {f"types.{name}": tensor for name, tensor in types.items()}
    plain |= {"list.0": shared[1], "list.1.deep": shared[:, 2:]}
    return contents, {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in plain.items()}


def training_checkpoint():
    """What MAE's program writes: model, optimiser, epoch, scaler and the pickled arguments, which keep torch.load from reading it."""
    # The state of a few parameters stands for all: the file stays small.
    parameters = [torch.nn.Parameter(mae[name].clone()) for name in ("cls_token", "mask_token", "norm.weight")]
    optimizer = torch.optim.AdamW(
        [{"params": parameters[2:], "weight_decay": 0.0}, {"params": parameters[:2], "weight_decay": 0.05}], lr=1e-3,
        betas=(0.9, 0.95))
    for parameter in parameters:
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    args = argparse.Namespace(
        batch_size=64, epochs=800, accum_iter=1, model="mae_vit_tiny_patch8", input_size=IMAGE, mask_ratio=MASK_RATIO,
        norm_pix_loss=False, weight_decay=0.05, lr=None, blr=1e-3, min_lr=0.0, warmup_epochs=40, data_path="/datasets/imagenet",
        output_dir=pathlib.PurePosixPath("./output_dir"), device="cuda", seed=0, resume="", distributed=False, dist_url="env://")
    scaler = torch.amp.GradScaler("cpu").state_dict()
    return {"model": collections.OrderedDict(mae), "optimizer": optimizer.state_dict(), "epoch": 399, "scaler": scaler, "args": args}


MMPRETRAIN = [
    (r"^patch_embed\.proj\.", "patch_embed.projection."), (r"^blocks\.", "layers."), (r"^norm\.", "ln1."),
    (r"^decoder_norm\.", "ln1."), (r"\.norm(\d)\.", r".ln\1."), (r"\.mlp\.fc1\.", ".ffn.layers.0.0."),
    (r"\.mlp\.fc2\.", ".ffn.layers.1."),
]


def mmpretrain_names(tensors):
    result = {}
    for name, tensor in tensors.items():
        room = "backbone" if name in encoder else "neck"
        for pattern, replacement in MMPRETRAIN:
            name = re.sub(pattern, replacement, name)
        result[f"{room}.{name}"] = tensor
    return result


def main():
    torch.manual_seed(SEED)
    for folder in ("images", "mae", "dmae", "timm", "huggingface", "mmpretrain", "archives"):
        shutil.rmtree(HERE / folder, ignore_errors=True)
        (HERE / folder).mkdir()
    images = pictures()

    expected = {"images": images}
    for kind, letter in [(torch.float32, "f32"), (torch.float16, "f16"), (torch.bfloat16, "bf16")]:
        seen = features(cast(mae, kind), images)
        if kind is torch.float32:
            check_against_transformers(seen, images)
        expected |= {f"{letter}.{name}": tensor.float().contiguous() for name, tensor in seen.items()}
    expected |= reconstruction(images)
    save_file(expected, HERE / "expected.safetensors")

    save_file(mae, HERE / "mae/mae.safetensors")
    torch.save({"model": cast(encoder, torch.float16)}, HERE / "mae/encoder.pth")
    torch.save(training_checkpoint(), HERE / "mae/checkpoint.pth")
    tuned = timm_model(depth=1, num_classes=CLASSES, global_pool="avg")
    tuned.load_state_dict({name: (mae | head | {f"fc_norm.{end}": encoder[f"norm.{end}"] for end in ("weight", "bias")})[name]
                           for name in tuned.state_dict()})
    torch.save({"model": tuned.bfloat16().state_dict()}, HERE / "mae/finetuned.pth")
    student = {f"module.student.{name}": tensor for name, tensor in cast(mae, torch.bfloat16).items()}
    student |= {f"module.{name}": tensor for name, tensor in cast(projection, torch.bfloat16).items()}
    torch.save({"state_dict": student, "epoch": 100}, HERE / "dmae/distilled.pth")

    flat = timm_model(num_classes=CLASSES)
    flat.load_state_dict({name: (mae | head)[name] for name in flat.state_dict()})
    save_file(flat.half().state_dict(), HERE / "timm/timm.safetensors")
    torch.save({"state_dict": mmpretrain_names(cast(mae, torch.float16)), "meta": {"epoch": 300, "mmpretrain_version": "1.2.0"}},
               HERE / "mmpretrain/mmpretrain.pth")

    folder = HERE / "huggingface"
    whole = hugging_face_model(transformers.ViTMAEForPreTraining, mae).half()
    whole.save_pretrained(folder / "vitmae")
    whole.save_pretrained(folder / "vitmae-sharded", save_original_format=False, max_shard_size="50KB")
    # As facebook/vit-mae-base was published: what transformers 4 called the decoder's blocks, in PyTorch's own file.
    published = {}
    for name, tensor in hugging_face_names(cast(mae, torch.bfloat16)).items():
        name = re.sub(r"\bvit\.layers\.", "vit.encoder.layer.", name)
        for letter, word in {"q": "query", "k": "key", "v": "value"}.items():
            name = name.replace(f"attention.{letter}_proj", f"attention.attention.{word}")
        for new, old in [("attention.o_proj", "attention.output.dense"), ("mlp.fc1", "intermediate.dense"), ("mlp.fc2", "output.dense")]:
            name = name.replace(new, old)
        published[name] = tensor
    (folder / "vitmae-published").mkdir()
    torch.save(collections.OrderedDict(published), folder / "vitmae-published/pytorch_model.bin")
    config = json.loads((folder / "vitmae/config.json").read_text()) | {"dtype": "bfloat16", "layer_norm_eps": 1e-12}
    (folder / "vitmae-published/config.json").write_text(json.dumps(config, indent=2) + "\n")
    hugging_face_model(transformers.ViTModel, encoder).bfloat16().save_pretrained(folder / "vit", save_original_format=False)
    hugging_face_model(transformers.ViTForImageClassification, encoder | head).half().save_pretrained(folder / "vit-classifier")
    check_published(folder)

    contents, plain = special_archive()
    torch.save(contents, HERE / "archives/layouts.pth")
    save_file(plain, HERE / "archives/layouts.safetensors")
    small = {"a": normal(3, 2, scale=1), "b": normal(5, scale=1)}
    (HERE / "archives/big_endian.pth").write_bytes(big_endian(saved(small)))
    (HERE / "archives/little_endian.pth").write_bytes(saved(small))
    (HERE / "archives/before_1_6.pth").write_bytes(saved(small, _use_new_zipfile_serialization=False))
    swapped = torch.load(HERE / "archives/big_endian.pth", weights_only=True)
    assert all(torch.equal(small[name], swapped[name]) for name in small)

    print(f"seed {SEED}; numpy {np.__version__}, torch {torch.__version__}, timm {timm.__version__}, transformers {transformers.__version__}")
    total = 0
    for path in sorted(HERE.rglob("*")):
        if path.is_file() and path.suffix in {".safetensors", ".pth", ".bin", ".json", ".png"}:
            total += path.stat().st_size
            print(f"    {hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(HERE)}")
    print(f"{total} bytes")


def check_published(folder):
    """transformers reads back every folder, with nothing missing and nothing left over."""
    for name, kind in [("vitmae", transformers.ViTMAEForPreTraining), ("vitmae-sharded", transformers.ViTMAEForPreTraining),
                       ("vitmae-published", transformers.ViTMAEForPreTraining), ("vit-classifier", transformers.ViTForImageClassification),
                       ("vit", functools.partial(transformers.ViTModel.from_pretrained, add_pooling_layer=False))]:
        load = getattr(kind, "from_pretrained", kind)
        model, information = load(folder / name, output_loading_info=True)
        if any(information.values()):
            sys.exit(f"{name}: {information}")
        want = hugging_face_names(encoder)["vit.layers.1.attention.q_proj.weight"]
        found = getattr(model, "vit", model).layers[1].attention.q_proj.weight
        assert torch.equal(want.to(found.dtype), found), name


if __name__ == "__main__":
    main()
