"""Make `golden.safetensors`: guided attention and feature optimisation in float64 NumPy.

    python tests/data/guidance/make.py

Written from the equations with every matrix in full, and without anything of the package: the
gradients are derived by hand, the sampling and Adam are spelled out.
"""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

FRAMES, ROWS, COLS, HEADS, WIDTH = 3, 4, 5, 2, 4
COUNT = ROWS * COLS
CHANNELS, STEPS = 6, 4


def softmax(x):
    weights = np.exp(x - x.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def attention(rng):
    """One half; arrays `T N heads d`."""
    shape = (FRAMES, COUNT, HEADS, WIDTH)
    q, k, v, qr, kr = (rng.normal(size=shape) for _ in range(5))
    unique = rng.random((FRAMES, COUNT)) < 0.4
    unique[0] = True
    forward = np.stack([np.arange(COUNT)] + [rng.permutation(COUNT) for _ in range(FRAMES - 1)])
    broken = rng.random((COUNT, FRAMES)) < 0.3
    piece = broken.cumsum(axis=1)
    link = piece[:, :, None] == piece[:, None]
    out = np.zeros(shape)
    for h in range(HEADS):
        keys, values = k[:, :, h][unique], v[:, :, h][unique]
        read = np.zeros((FRAMES, COUNT, WIDTH))
        for t in range(FRAMES):
            guided = softmax(qr[t, :, h] @ kr[t, :, h].T / (5 * np.sqrt(WIDTH))) @ q[t, :, h]
            read[t] = softmax(guided @ keys.T / np.sqrt(WIDTH)) @ values
        for j in range(COUNT):
            path = (np.arange(FRAMES), forward[:, j])
            logits = q[:, :, h][path] @ k[:, :, h][path].T / (5 * np.sqrt(WIDTH))
            out[*path, h] = softmax(np.where(link[j], logits, -np.inf)) @ read[path]
    return {
        "attention.query": q,
        "attention.key": k,
        "attention.value": v,
        "attention.reference_query": qr,
        "attention.reference_key": kr,
        "attention.unique": unique,
        "attention.forward": forward,
        "attention.link": link,
        "attention.out": out,
    }


def sampling(flow):
    """The matrix `N N` that fetches along one flow `2 h w`, zero outside."""
    matrix = np.zeros((COUNT, COUNT))
    for y in range(ROWS):
        for x in range(COLS):
            u, v = x + flow[0, y, x], y + flow[1, y, x]
            for i in (int(np.floor(u)), int(np.floor(u)) + 1):
                for j in (int(np.floor(v)), int(np.floor(v)) + 1):
                    weight = (1 - abs(u - i)) * (1 - abs(v - j))
                    if 0 <= i < COLS and 0 <= j < ROWS:
                        matrix[y * COLS + x, j * COLS + i] += weight
    return matrix


def gradient(f, target, matrices, hidden):
    """Of 2 x the temporal and 100 x the spatial loss, for f `T N C`."""
    forth, back = matrices
    out = np.zeros_like(f)
    for i in range(FRAMES):
        n = (i + 1) % FRAMES
        sign = np.sign(f[n] - back[i] @ f[i]) * (1 - hidden[1, i])[:, None]
        out[n] += sign
        out[i] -= back[i].T @ sign
        sign = np.sign(f[i] - forth[i] @ f[n]) * (1 - hidden[0, i])[:, None]
        out[i] += sign
        out[n] -= forth[i].T @ sign
    out *= 2 / f.size
    length = np.linalg.norm(f, axis=-1, keepdims=True)
    unit = f / length
    wanted = target / np.linalg.norm(target, axis=-1, keepdims=True)
    sign = np.sign(unit @ unit.transpose(0, 2, 1) - wanted @ wanted.transpose(0, 2, 1))
    of_unit = 2 * sign @ unit * 100 / (FRAMES * COUNT**2)
    along = (of_unit * unit).sum(axis=-1, keepdims=True)
    return out + (of_unit - along * unit) / length


def features(rng):
    """One half; arrays `T C h w`, flow at the features' size."""
    start = rng.normal(size=(FRAMES, CHANNELS, ROWS, COLS))
    target = rng.normal(size=start.shape)
    flows = rng.normal(size=(2, FRAMES, 2, ROWS, COLS))
    occlusions = (rng.random((2, FRAMES, ROWS, COLS)) < 0.2).astype(float)
    matrices = [[sampling(flow) for flow in direction] for direction in flows]

    def tokens(x):
        return x.reshape(FRAMES, CHANNELS, COUNT).transpose(0, 2, 1)

    f, first, second = tokens(start).copy(), 0.0, 0.0
    hidden = occlusions.reshape(2, FRAMES, COUNT)
    for step in range(1, STEPS + 1):
        g = gradient(f, tokens(target), matrices, hidden)
        first, second = 0.9 * first + 0.1 * g, 0.999 * second + 0.001 * g**2
        mean, square = first / (1 - 0.9**step), second / (1 - 0.999**step)
        f -= 0.2 * mean / (np.sqrt(square) + 1e-8)
    out = f.transpose(0, 2, 1).reshape(start.shape)
    return {
        "features.start": start,
        "features.target": target,
        "features.out": out,
        "features.flow": flows,
        "features.occlusion": occlusions,
    }


def main():
    rng = np.random.default_rng(5)
    arrays = {**attention(rng), **features(rng)}
    kinds = {np.dtype(np.float64): np.float32}
    stored = {
        name: np.ascontiguousarray(x, dtype=kinds.get(x.dtype, x.dtype))
        for name, x in arrays.items()
    }
    save_file(stored, Path(__file__).with_name("golden.safetensors"))


if __name__ == "__main__":
    main()
