#!/usr/bin/env python3
"""Writes a safetensors checkpoint again in the forms that PyTorch's own torch.save gives it.

    tools/make-torch-checkpoints.py SRC OUT [--dtype f32|f16|bf16] [--only bin,pth,..] [--shards N]
    tools/make-torch-checkpoints.py --fixtures tests/data/torch

SRC is a folder with one model.safetensors and the small files beside it (`rwkvq make-checkpoint`
writes one). Under OUT each form gets a folder of its own, and in it a folder or file of the name of
SRC, so that what is made from them may be compared byte by byte:

    OUT/safetensors/NAME/model.safetensors
    OUT/safetensors-shards/NAME/model-00001-of-0000N.safetensors, .., model.safetensors.index.json
    OUT/bin/NAME/pytorch_model.bin
    OUT/bin-shards/NAME/pytorch_model-00001-of-0000N.bin, .., pytorch_model.bin.index.json
    OUT/pth/NAME.pth                           BlinkDL's names

Needs torch. The weights are mapped, so memory stays small.
"""

import argparse
import collections
import json
import math
import mmap
import shutil
import struct
from pathlib import Path

import torch

DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
BESIDE = ["config.json", "generation_config.json", "tokenizer_config.json",
          "rwkv_vocab_v20230424.txt"]


def read_safetensors(path):
    """Tensors by name, in the order of the file, over a map of it; each is a storage of its own,
    so that torch.save, which writes whole storages, writes no more than it."""
    with path.open("rb") as file:
        data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    (n,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + n])
    header.pop("__metadata__", None)
    tensors = collections.OrderedDict()
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        dtype, shape = DTYPES[entry["dtype"]], entry["shape"]
        start = 8 + n + entry["data_offsets"][0]
        flat = torch.frombuffer(data, dtype=dtype, count=math.prod(shape), offset=start)
        tensors[name] = flat.reshape(shape)
    return tensors


def write_safetensors(tensors, path):
    types = {dtype: name for name, dtype in DTYPES.items()}
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numel() * tensor.element_size()
        header[name] = {"dtype": types[tensor.dtype], "shape": list(tensor.shape),
                        "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for tensor in tensors.values():
            file.write(tensor.contiguous().view(torch.uint8).numpy().tobytes())


def blinkdl_name(name):
    """The name that a tensor has in BlinkDL's own files."""
    name = name.removeprefix("rwkv.").replace("embeddings.", "emb.").replace(".pre_ln.", ".ln0.")
    return name.replace(".attention.", ".att.").replace(".feed_forward.", ".ffn.")


def write_shards(tensors, folder, n, stem, extension, write):
    names = list(tensors)
    step = math.ceil(len(names) / n)
    places = {}
    for i in range(n):
        shard = f"{stem}-{i + 1:05}-of-{n:05}{extension}"
        part = names[i * step : (i + 1) * step]
        write(collections.OrderedDict((name, tensors[name]) for name in part), folder / shard)
        places.update(dict.fromkeys(part, shard))
    index = {"metadata": {"total_size": 0}, "weight_map": places}
    (folder / f"{stem}{extension}.index.json").write_text(json.dumps(index, indent=2) + "\n")


def save(tensors, path):
    torch.save(tensors, path)


def save_pth(tensors, path):
    save(collections.OrderedDict((blinkdl_name(n), t) for n, t in tensors.items()), path)


def make(src, out, dtype, only, shards):
    tensors = read_safetensors(src / "model.safetensors")
    if dtype:
        tensors = collections.OrderedDict((n, t.to(DTYPES[dtype])) for n, t in tensors.items())
    forms = {
        "safetensors": lambda at: write_safetensors(tensors, at / "model.safetensors"),
        "safetensors-shards": lambda at: write_shards(
            tensors, at, shards, "model", ".safetensors", write_safetensors),
        "bin": lambda at: save(tensors, at / "pytorch_model.bin"),
        "bin-shards": lambda at: write_shards(
            tensors, at, shards, "pytorch_model", ".bin", save),
        "pth": lambda at: save_pth(tensors, at / f"{src.name}.pth"),
    }
    for form in only or forms:
        folder = out / form if form == "pth" else out / form / src.name
        folder.mkdir(parents=True, exist_ok=True)
        forms[form](folder)
        for name in BESIDE:
            if (src / name).exists():
                shutil.copy(src / name, folder / name)
        print(folder)


def values(n, dtype, start=0):
    """Weights that every type holds exactly; the tests compute them too."""
    return ((torch.arange(start, start + n) * 37 % 101 - 50) / 8).to(dtype)


def make_fixtures(folder):
    """Small files with every kind of view; tests/torch_checkpoint.rs knows what is in them."""
    folder.mkdir(parents=True, exist_ok=True)
    table = values(60, torch.bfloat16).reshape(10, 6)
    block = values(24, torch.float32, 100).reshape(2, 3, 4)
    views = collections.OrderedDict(
        table=table,
        rows=table[2:5],
        columns=table[:, 1:4],
        transposed=table.t(),
        every_other=table[::2, ::3],
        permuted=block.permute(2, 0, 1),
        parameter=torch.nn.Parameter(values(8, torch.float16, 7).reshape(2, 4)),
        scalar=torch.tensor(2.5),
    )
    torch.save(views, folder / "views.bin")
    linear = torch.nn.Linear(3, 2)
    with torch.no_grad():
        linear.weight.copy_(values(6, torch.float32).reshape(2, 3))
        linear.bias.copy_(values(2, torch.float32, 6))
    # A module's state dict has attributes of its own.
    torch.save(linear.state_dict(), folder / "module.bin")
    wrapped = {"epoch": 3, "loss": 0.5, "name": "x", "state_dict": {
        "weight": linear.weight, "bias": linear.bias}}
    torch.save(wrapped, folder / "wrapped.pth", pickle_protocol=5)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("src", type=Path, nargs="?")
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--dtype", type=str.upper, choices=list(DTYPES))
    parser.add_argument("--only", type=lambda text: text.split(","))
    parser.add_argument("--shards", type=int, default=3)
    parser.add_argument("--fixtures", type=Path)
    args = parser.parse_args()
    if args.fixtures:
        make_fixtures(args.fixtures)
    elif args.src and args.out:
        make(args.src, args.out, args.dtype, args.only, args.shards)
    else:
        parser.error("give SRC and OUT, or --fixtures")


if __name__ == "__main__":
    main()
