"""Writes a checkpoint of transformers as OpenVINO IR in f32: `openvino_write.py encoder|gpt2 FOLDER FILE`."""

import sys

import openvino
import torch
from transformers import AutoModel, AutoModelForCausalLM

kind, folder, file = sys.argv[1:]


class Encoder(torch.nn.Module):
    """Token ids and mask to hidden states."""

    def __init__(self) -> None:
        super().__init__()
        self.model = AutoModel.from_pretrained(folder, attn_implementation="sdpa", dtype=torch.float32)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """As `BertModel`; a mask with four axes is used as it is."""
        mask = (1.0 - attention_mask[:, None, None, :].float()) * torch.finfo(torch.float32).min
        return self.model(input_ids=input_ids, attention_mask=mask).last_hidden_state


class Prompt(torch.nn.Module):
    """Token ids to the logits after the last one."""

    def __init__(self) -> None:
        super().__init__()
        self.model = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="sdpa", dtype=torch.float32)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Without caches; the mask is spelled out, since its usual making does not convert."""
        count = input_ids.shape[1]
        mask = torch.full((count, count), torch.finfo(torch.float32).min).triu(1)[None, None]
        positions = torch.arange(count)[None]
        return self.model(
            input_ids=input_ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=1
        ).logits


ids = torch.arange(2 * 128).reshape(2, 128) % 29 + 3
with torch.no_grad():
    if kind == "encoder":
        converted = openvino.convert_model(Encoder().eval(), example_input=(ids, torch.ones_like(ids)))
    else:
        converted = openvino.convert_model(Prompt().eval(), example_input=(ids[:1],))
openvino.save_model(converted, file, compress_to_fp16=False)
