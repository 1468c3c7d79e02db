"""The in-process sampler: a plain decode loop for CPU, tests and the quickstart.

Why own code: a tiny model spends its time in dispatch, not in arithmetic, so what counts is few
operations a token: prompts are prefilled once and shared by their group, projections are fused,
the cache is static, finished rows leave the batch, and one uniform number a token decides it.

Shapes: B prompts, G samples, R = rows still running (at most B * G), P tokens of the longest
prompt, C completion tokens, H heads, K key-value heads, E head size, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - PyTorch's own convention

from m2r_train.core.packing import Row, pack_rows
from m2r_train.model.attention import attend
from m2r_train.model.policy import Policy, Request
from m2r_train.rollout.base import Completion, SamplingParams
from m2r_train.rollout.weights import stream

_COMPACT_BELOW = 0.85  # drop finished rows once this share or less is still running


@dataclass(frozen=True, slots=True)
class _Layer:
    norm_in: Tensor
    qkv_weight: Tensor
    qkv_bias: Tensor
    out: Tensor
    norm_mlp: Tensor
    gate_up: Tensor
    down: Tensor


class InProcessSampler:
    """Implements ``RolloutEngine[Request]`` with a copy of a ``Policy``'s parameters.

    A copy, all of it: else an optimiser step would change some of the weights before
    ``update_weights`` takes over the others. ``compact_below`` bounds the share of running rows at
    which finished ones leave the batch; no result depends on it. ``look`` is called before each
    token of a completion; what it raises ends the drawing.
    """

    def __init__(
        self,
        policy: Policy,
        compact_below: float = _COMPACT_BELOW,
        look: Callable[[], None] = lambda: None,
    ) -> None:
        self._source = policy.module
        self._policy = policy.copy()
        self._compact_below = compact_below
        self._look = look
        text = policy.module.config.text_config
        self._heads: int = text.num_attention_heads
        self._kv_heads: int = text.num_key_value_heads
        self._head_dim: int = text.hidden_size // text.num_attention_heads
        self._eps: float = text.rms_norm_eps
        self._layers: list[_Layer] = []
        self._stop = torch.tensor(policy.stop_tokens, device=policy.device)
        self.update_weights()

    @torch.no_grad()
    def update_weights(self) -> None:
        """Copy the policy's current parameters and fuse the projections."""
        own = dict(self._policy.module.named_parameters())
        for name, current in stream(self._source):
            own[name].copy_(current)
        model = self._policy.module.model.language_model
        self._layers = []
        for layer in model.layers:
            a, mlp = layer.self_attn, layer.mlp
            qkv = (a.q_proj, a.k_proj, a.v_proj)
            self._layers.append(
                _Layer(
                    norm_in=layer.input_layernorm.weight,
                    qkv_weight=torch.cat([m.weight for m in qkv]),
                    qkv_bias=torch.cat([m.bias for m in qkv]),
                    out=a.o_proj.weight,
                    norm_mlp=layer.post_attention_layernorm.weight,
                    gate_up=torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight]),
                    down=mlp.down_proj.weight,
                )
            )
        self._norm = model.norm.weight
        self._embedding = model.embed_tokens.weight
        self._head = self._policy.module.lm_head.weight

    @torch.inference_mode()
    def generate(
        self, requests: Sequence[Request], seeds: Sequence[int], params: SamplingParams
    ) -> list[list[Completion]]:
        """See ``RolloutEngine.generate``."""
        if not requests:
            return []
        # Each tensor is told its device: torch's context for that would slow all of torch's calls.
        device = self._policy.device
        prompts = [r.prompt for r in requests]
        samples = params.samples if params.temperature > 0 else 1
        cache, valid, state, next_position = self._prefill(requests, samples, params.max_tokens)
        uniforms = _uniforms(seeds, samples, params.max_tokens).to(device)
        rows = torch.arange(len(prompts) * samples, device=device)
        tokens = torch.zeros((len(rows), params.max_tokens), dtype=torch.long, device=device)
        logps = torch.zeros((len(rows), params.max_tokens), device=device)
        lengths = torch.zeros(len(rows), dtype=torch.long, device=device)
        stopped = torch.zeros(len(rows), dtype=torch.bool, device=device)
        width = valid.shape[1] - params.max_tokens
        done = torch.zeros(len(rows), dtype=torch.bool, device=device)
        for t in range(params.max_tokens):
            self._look()
            logits = F.linear(state, self._head).float()
            chosen, logp = _draw(logits, uniforms[rows, t], params.temperature)
            live = ~done
            alive_rows = rows[live]
            tokens[alive_rows, t] = chosen[live]
            logps[alive_rows, t] = logp[live]
            lengths[alive_rows] = t + 1
            done |= torch.isin(chosen, self._stop)
            stopped[rows[done]] = True
            if bool(done.all()) or t + 1 == params.max_tokens:
                break
            if float((~done).float().mean()) <= self._compact_below:
                keep = (~done).nonzero().squeeze(1)
                cache = [(k[keep], v[keep]) for k, v in cache]
                rows, chosen, valid = rows[keep], chosen[keep], valid[keep]
                next_position, done = next_position[keep], done[keep]
            valid[:, width + t] = True
            state = self._decode(chosen, next_position + t, cache, valid, width + t)
        return _collect(tokens, logps, lengths, stopped, len(prompts), samples)

    def _prefill(
        self, requests: Sequence[Request], samples: int, room: int
    ) -> tuple[list[tuple[Tensor, Tensor]], Tensor, Tensor, Tensor]:
        """Run each prompt once; repeat its cache for its samples.

        Returns caches (R, K, P + C, E), validity (R, P + C), last states (R, D), positions (R).
        """
        policy, device = self._policy, self._policy.device
        prompts = [r.prompt for r in requests]
        lengths = [len(p.tokens) for p in prompts]
        width = max(lengths)
        # prompts lie behind each other, as in training; in the cache they end at one column
        packed = pack_rows([Row(p.tokens, p.positions, ()) for p in prompts]).to(device)
        column = torch.cat(
            [torch.arange(r * width - n, r * width) for r, n in enumerate(lengths, 1)]
        ).to(device)
        valid = torch.zeros(len(prompts) * width, dtype=torch.bool, device=device)
        valid[column] = True
        seen = policy.see([image for r in requests for image in r.images])
        x = policy.embed(packed.tokens_L, packed.prefix_L, seen)[None]
        positions = packed.positions_3L[:, None]
        cos, sin = policy.module.model.language_model.rotary_emb(x, positions)
        cache = []
        for layer in self._layers:
            q, k, v = self._qkv(layer, x, cos[:, None], sin[:, None])
            mixed = attend(packed.attention, q, k, v, self._head_dim**-0.5)
            x = self._finish(layer, x, mixed.flatten(2))
            pair = []
            for part in (k, v):
                full = part.new_zeros(
                    len(prompts) * samples, self._kv_heads, width + room, self._head_dim
                )
                grid = part.new_zeros(len(prompts) * width, self._kv_heads, self._head_dim)
                grid[column] = part[0].transpose(0, 1)
                grid = grid.view(len(prompts), width, *grid.shape[1:]).transpose(1, 2)
                full[:, :, :width] = grid.repeat_interleave(samples, dim=0)
                pair.append(full)
            cache.append((pair[0], pair[1]))
        ends = torch.tensor(lengths, device=device).cumsum(0) - 1
        last = self._rms(x[0, ends], self._norm).repeat_interleave(samples, dim=0)
        room_valid = torch.zeros((len(prompts), room), dtype=torch.bool, device=device)
        all_valid = torch.cat([valid.view(len(prompts), width), room_valid], dim=1)
        all_valid = all_valid.repeat_interleave(samples, dim=0)
        next_position = torch.tensor([int(p.positions[:, -1].max()) + 1 for p in prompts])
        return cache, all_valid, last, next_position.to(device).repeat_interleave(samples)

    def _decode(
        self,
        tokens: Tensor,
        positions: Tensor,
        cache: list[tuple[Tensor, Tensor]],
        valid: Tensor,
        column: int,
    ) -> Tensor:
        x = F.embedding(tokens, self._embedding)[:, None]
        three = positions[None, :, None].expand(3, -1, 1)
        cos, sin = self._policy.module.model.language_model.rotary_emb(x, three)
        cos, sin = cos[:, None], sin[:, None]
        mask = valid[:, None, None, : column + 1]
        for layer, (keys, values) in zip(self._layers, cache, strict=True):
            q, k, v = self._qkv(layer, x, cos, sin)
            keys[:, :, column] = k[:, :, 0]
            values[:, :, column] = v[:, :, 0]
            mixed = self._attend(q, keys[:, :, : column + 1], values[:, :, : column + 1], mask)
            x = self._finish(layer, x, mixed)
        return self._rms(x[:, 0], self._norm)

    def _qkv(
        self, layer: _Layer, x: Tensor, cos: Tensor, sin: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        h = self._rms(x, layer.norm_in)
        b, n, _ = h.shape
        fused = F.linear(h, layer.qkv_weight, layer.qkv_bias)
        fused = fused.view(b, n, self._heads + 2 * self._kv_heads, self._head_dim).transpose(1, 2)
        rotated = fused[:, : self._heads + self._kv_heads]
        half = self._head_dim // 2
        turned = torch.cat((-rotated[..., half:], rotated[..., :half]), dim=-1)
        rotated = rotated * cos + turned * sin
        return rotated[:, : self._heads], rotated[:, self._heads :], fused[:, -self._kv_heads :]

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """Grouped-query attention; q (B, H, n, E), k and v (B, K, m, E) -> (B, n, D)."""
        b, h, n, e = q.shape
        group = h // self._kv_heads
        # the queries of one key-value head stand together, so keys are never repeated
        grouped = q.reshape(b, self._kv_heads, group * n, e)
        scores = grouped @ k.transpose(2, 3) * e**-0.5
        scores = scores.view(b, self._kv_heads, group, n, -1)
        scores = scores.masked_fill(~mask[:, :, None], float("-inf")).softmax(-1)
        mixed: Tensor = scores.reshape(b, self._kv_heads, group * n, -1) @ v
        return mixed.view(b, h, n, e).transpose(1, 2).reshape(b, n, h * e)

    def _finish(self, layer: _Layer, x: Tensor, mixed: Tensor) -> Tensor:
        x = x + F.linear(mixed, layer.out)
        h = F.linear(self._rms(x, layer.norm_mlp), layer.gate_up)
        gate, up = h.chunk(2, dim=-1)
        return x + F.linear(F.silu(gate) * up, layer.down)

    def _rms(self, x: Tensor, weight: Tensor) -> Tensor:
        return F.rms_norm(x, (x.shape[-1],), weight, self._eps)


def _draw(logits: Tensor, uniform: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Next tokens (R) by inverse transform sampling, and their log-probabilities (R)."""
    if temperature == 0:
        logp = logits.log_softmax(-1)
        chosen = logits.argmax(-1)
    else:
        logp = (logits / temperature).log_softmax(-1)
        cumulative = logp.exp().cumsum(-1, dtype=torch.float64)
        # scaled by the total, so that rounding cannot leave a gap at the top
        point = uniform[:, None] * cumulative[:, -1:]
        chosen = torch.searchsorted(cumulative, point, right=True).squeeze(1)
        chosen = chosen.clamp_(max=logits.shape[-1] - 1)
    return chosen, logp.gather(1, chosen[:, None]).squeeze(1)


def _uniforms(seeds: Sequence[int], samples: int, tokens: int) -> Tensor:
    """Uniform numbers in [0, 1), (B * G, C): a hash of (seed, sample, token), no state."""
    key = np.array(seeds, dtype=np.uint64)[:, None, None]
    sample = np.arange(samples, dtype=np.uint64)[None, :, None]
    token = np.arange(tokens, dtype=np.uint64)[None, None, :]
    with np.errstate(over="ignore"):
        z = _mix(_mix(key + (sample + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)) ^ token)
    unit = (z >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return torch.from_numpy(unit.reshape(len(seeds) * samples, tokens))


def _mix(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64 (Steele, Lea, Flood 2014), with its increment."""
    z = z + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _collect(
    tokens: Tensor, logps: Tensor, lengths: Tensor, stopped: Tensor, prompts: int, samples: int
) -> list[list[Completion]]:
    ids, lps, ns, ends = tokens.tolist(), logps.tolist(), lengths.tolist(), stopped.tolist()
    flat = [
        Completion(tuple(ids[r][: ns[r]]), tuple(lps[r][: ns[r]]), truncated=not ends[r])
        for r in range(prompts * samples)
    ]
    return [flat[i * samples : (i + 1) * samples] for i in range(prompts)]
