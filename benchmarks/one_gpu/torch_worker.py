"""PyTorch's side of the comparisons: commands come in and answers go out as lines of JSON.

    {"do": "build", ...}     builds a conformer with two CTC heads and its optimizer; `compile` uses torch.compile,
                             `precision` is bfloat16 unless it is named, and so are the threads
    {"do": "steps", "n": 3}  makes so many training steps, and answers with their seconds
    {"do": "ctc", ...}       runs CTC with its gradient on a batch, and answers with the seconds of a call

An answer holds `took`, the seconds of the command, and `error` if it failed.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import sys
import time

ANSWERS = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # libraries that print do not disturb the answers

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
torch.backends.cuda.matmul.allow_tf32 = True
torch.backends.cudnn.allow_tf32 = True


def wait() -> None:
    if DEVICE == "cuda":
        torch.cuda.synchronize()


class OwnConformer(nn.Module):
    """The layers of a conformer, used if torchaudio is missing; without masks, since no utterance is padded."""

    class Layer(nn.Module):
        def __init__(self, width, heads, ffn, kernel, dropout):
            super().__init__()
            self.heads, self.rate = heads, dropout

            def feed_forward():
                return nn.Sequential(
                    nn.LayerNorm(width),
                    nn.Linear(width, ffn),
                    nn.SiLU(),
                    nn.Dropout(dropout),
                    nn.Linear(ffn, width),
                    nn.Dropout(dropout),
                )

            self.first, self.second = feed_forward(), feed_forward()
            self.norm, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.gate_norm, self.gate = nn.LayerNorm(width), nn.Linear(width, 2 * width)
            self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
            self.conv_norm, self.conv_out, self.last = nn.LayerNorm(width), nn.Linear(width, width), nn.LayerNorm(width)

        def forward(self, x):
            x = x + 0.5 * self.first(x)
            q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
            y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.rate if self.training else 0.0)
            x = x + F.dropout(self.out(y.transpose(1, 2).flatten(2)), self.rate, self.training)
            y = self.depthwise(F.glu(self.gate(self.gate_norm(x))).transpose(1, 2)).transpose(1, 2)
            x = x + F.dropout(self.conv_out(F.silu(self.conv_norm(y))), self.rate, self.training)
            return self.last(x + 0.5 * self.second(x))

    def __init__(self, width, heads, ffn, layers, kernel, dropout):
        super().__init__()
        self.conformer_layers = nn.ModuleList(self.Layer(width, heads, ffn, kernel, dropout) for _ in range(layers))


def torchaudios_conformer() -> type:
    """Return torchaudio's class; from its file alone where the package does not load, since the file needs only PyTorch."""
    try:
        from torchaudio.models import Conformer
    except (ImportError, OSError):
        package = importlib.machinery.PathFinder.find_spec("torchaudio")
        if package is None:
            raise
        file = os.path.join(package.submodule_search_locations[0], "models", "conformer.py")
        spec = importlib.util.spec_from_file_location("torchaudios_conformer", file)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        Conformer = module.Conformer
    return Conformer


class Encoder(nn.Module):
    """An encoder like joint_st's audio branch: from log-mel frames to the logits of a head after some layers and of one
    after all."""

    def __init__(self, c):
        super().__init__()
        self.below, width = c["below"], c["width"]
        self.first, self.second = nn.Conv1d(c["mels"], width, 3, 2, 1), nn.Conv1d(width, width, 3, 2, 1)
        self.linear = nn.Linear(width, width)
        sizes = width, c["heads"], c["ffn"], c["layers"], c["kernel"]
        try:
            self.kind = "torchaudio.models.Conformer"
            self.layers = torchaudios_conformer()(*sizes, dropout=c["dropout"]).conformer_layers
        except Exception as error:
            self.kind = f"own ({type(error).__name__})"
            self.layers = OwnConformer(*sizes, dropout=c["dropout"]).conformer_layers
        self.heads = nn.ModuleList(nn.Linear(width, c["vocabulary"]) for _ in range(2))

    def forward(self, mel, padding):
        x = F.silu(self.second(F.silu(self.first(mel)))).transpose(1, 2)
        x = self.linear(x)
        own = self.kind.startswith("own")
        x = x if own else x.transpose(0, 1)  # torchaudio's layers take time first
        logits = []
        for n, layer in enumerate(self.layers, 1):
            x = layer(x) if own else layer(x, padding)
            if n in (self.below, len(self.layers)):
                head = self.heads[n != self.below]
                logits.append(head(x if own else x.transpose(0, 1)).float())
        return logits


class Training:
    """A training step with joint_st's losses on audio alone: two CTC losses, clipping, AdamW."""

    def __init__(self, c):
        torch.manual_seed(0)
        if "threads" in c:
            torch.set_num_threads(c["threads"])
        self.c = c
        self.model = Encoder(c).to(DEVICE)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), 1e-4, fused=DEVICE == "cuda")
        self.run = torch.compile(self.model) if c.get("compile") else self.model
        batch, samples = c["batch"], c["samples"]
        generator = torch.Generator().manual_seed(1)
        self.audio = torch.randint(-3000, 3000, (batch, samples), generator=generator, dtype=torch.int16).to(DEVICE)
        self.labels = torch.randint(1, c["vocabulary"], (batch, c["labels"]), generator=generator).to(DEVICE)
        self.frames = torch.full((batch,), samples // 640, dtype=torch.long, device=DEVICE)
        self.lengths = torch.full((batch,), c["labels"], dtype=torch.long, device=DEVICE)
        self.padding = torch.zeros(batch, samples // 640, dtype=torch.bool, device=DEVICE)
        self.window = torch.hann_window(400, device=DEVICE)
        points = torch.arange(257)[None] / 257 - torch.arange(c["mels"])[:, None] / c["mels"]
        self.bank = torch.clamp(1 - (points * c["mels"]).abs(), min=0).to(DEVICE)  # triangles: the work is what counts

    def step(self):
        c = self.c
        with torch.no_grad():
            x = F.pad(self.audio.float() / 32768, (200, 200))
            spectrum = torch.stft(x, 512, 160, 400, self.window, center=False, return_complex=True)
            mel = torch.log(self.bank @ (spectrum.abs() ** 2) + 1e-6)[..., : c["samples"] // 160]
            mel = F.pad(mel, (0, c["samples"] // 160 - mel.shape[-1]))
        with torch.autocast(DEVICE, torch.bfloat16, enabled=c.get("precision", "bfloat16") == "bfloat16"):
            logits = self.run(mel, self.padding)
        loss = 0.0
        for weight, of_head in zip((0.3, 0.7), logits):
            log_probs = of_head.float().log_softmax(-1).transpose(0, 1)
            loss = loss + weight * F.ctc_loss(log_probs, self.labels, self.frames, self.lengths, zero_infinity=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss

    def steps(self, n):
        wait()
        began = time.perf_counter()
        for _ in range(n):
            loss = self.step()
        wait()
        return time.perf_counter() - began, float(loss.detach())


def ctc(c):
    """Seconds of a call of CTC with its gradient, by PyTorch's own kernel and, on a GPU, by cuDNN's."""
    import numpy as np
    from common import ctc_batch

    logits, frames, labels, lengths = ctc_batch(c["batch"], c["frames"], c["vocabulary"], c["labels"])
    logits = torch.tensor(logits, device=DEVICE, requires_grad=True)
    flat = torch.tensor(np.concatenate([row[:n] for row, n in zip(labels, lengths)]), dtype=torch.int32)
    of_kind = {
        "native": (
            torch.tensor(labels, dtype=torch.long, device=DEVICE),
            *(torch.tensor(x, dtype=torch.long) for x in (frames, lengths)),
        ),
        # cuDNN takes labels in one row on the host, all utterances of full length.
        "cudnn": (
            flat,
            torch.full((c["batch"],), c["frames"], dtype=torch.int32),
            torch.tensor(lengths, dtype=torch.int32),
        ),
    }
    found = {}
    for kind, (targets, input_lengths, target_lengths) in of_kind.items():
        if kind == "cudnn" and DEVICE != "cuda":
            continue

        def call(targets=targets, input_lengths=input_lengths, target_lengths=target_lengths):
            log_probs = logits.log_softmax(-1).transpose(0, 1)
            loss = F.ctc_loss(log_probs, targets, input_lengths, target_lengths, reduction="sum", zero_infinity=False)
            logits.grad = None
            loss.backward()
            return loss

        try:
            for _ in range(3):
                loss = call()
            wait()
            taken = []
            for _ in range(c["rounds"]):
                wait()
                began = time.perf_counter()
                call()
                wait()
                taken.append(time.perf_counter() - began)
            found[kind] = {"seconds": sorted(taken)[len(taken) // 2], "loss": float(loss.detach())}
        except Exception as error:
            found[kind] = {"error": f"{type(error).__name__}: {error}"[:200]}
    return found


def main():
    training = None
    for line in sys.stdin:
        command = json.loads(line)
        began = time.perf_counter()
        try:
            if command["do"] == "build":
                training = Training(command)
                first, _ = training.steps(1)
                answer = {
                    "kind": training.model.kind,
                    "parameters": sum(p.numel() for p in training.model.parameters()),
                    "first_step_seconds": first,
                    "torch": torch.__version__,
                    "device": torch.cuda.get_device_name() if DEVICE == "cuda" else "cpu",
                }
            elif command["do"] == "steps":
                seconds, loss = training.steps(command["n"])
                answer = {"seconds": seconds, "loss": loss}
                if DEVICE == "cuda":
                    answer["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
            elif command["do"] == "ctc":
                answer = ctc(command)
            else:
                answer = {"error": f"{command['do']}?"}
        except Exception as error:
            answer = {"error": " ".join(f"{type(error).__name__}: {error}".split())[:400]}
        answer["took"] = time.perf_counter() - began
        print(json.dumps(answer), file=ANSWERS, flush=True)


if __name__ == "__main__":
    main()
