import { type OnnxExport, type OnnxInput, traceOnnx, writeOnnx } from '../../checkpoint/onnx-export.js';
import { AnnealError } from '../../core/errors.js';
import { rewrite, topological } from '../../core/graph.js';
import { attention } from '../../core/ops/attention.js';
import { add, cast, lessEqual, logicalAnd, where } from '../../core/ops/elementwise.js';
import { arange } from '../../core/ops/indexing.js';
import { concat } from '../../core/ops/join.js';
import { constant, scalar } from '../../core/ops/leaf.js';
import { maskedScore } from '../../core/ops/masks.js';
import { reshape } from '../../core/ops/view.js';
import type { Tensor } from '../../core/tensor.js';
import { currentTrace } from '../../core/variable.js';
import { KVCache } from '../../nn/cache.js';
import { parametersOf } from '../../nn/module.js';
import type { LanguageModelBundle } from './load.js';
import { modelFiles } from './save.js';
import type { Transformer } from './transformer.js';

/** Names of the dynamic sizes, as Hugging Face's own exports call them. */
const batch = 'batch_size';
const length = 'sequence_length';
const past = 'past_sequence_length';
const total = 'total_sequence_length';

/** Inputs of a decoder in the order and under the names that transformers.js and optimum expect. */
function decoderInputs({ layers, kvHeads, headDim }: ReturnType<Transformer['cacheShape']>) {
  const ids = (shape: readonly string[]): OnnxInput => ({ dtype: 'int32', shape, wide: true });
  const inputs: Record<string, OnnxInput> = {
    input_ids: ids([batch, length]),
    attention_mask: ids([batch, total]),
    position_ids: ids([batch, length]),
  };
  for (let i = 0; i < layers; i++) {
    for (const part of ['key', 'value'])
      inputs[`past_key_values.${i}.${part}`] = { shape: [batch, kvHeads, past, headDim] };
  }
  return inputs;
}

/** Added to scores [B, H, T, P+T]: query t sees what the caller marks, up to position P + t. */
function decoderMask(marks: Tensor, tokens: number, before: number): Tensor {
  const [b, s] = marks.shape as [number, number];
  const keys = reshape(arange(s), [1, 1, 1, s]);
  const queries = reshape(add(arange(tokens), scalar(before, 'int32')), [1, 1, tokens, 1]);
  const marked = cast(reshape(marks, [b, 1, 1, s]), 'bool');
  return where(logicalAnd(marked, lessEqual(keys, queries)), 0, scalar(maskedScore));
}

/**
 * The forward pass with a KV cache, whose fixed capacity becomes a growing one: each `cachedAttention` of the graph
 * turns into attention to the past, as an input, with the new keys and values behind it.
 */
function decoderBody(model: Transformer, inputs: Record<string, Tensor>): Record<string, Tensor> {
  const { input_ids: tokens, position_ids: positions, attention_mask: marks } = inputs;
  const [b, t] = tokens!.shape as [number, number];
  const s = marks!.shape[1]!;
  const cache = new KVCache(model.cacheShape(), b, s);
  // How full the cache is matters to its fixed form only.
  const lengths = constant(new Int32Array(b), [b], 'int32');
  const logits = model.forward(tokens!, { positions: positions!, cache: { cache, lengths } });
  const mask = decoderMask(marks!, t, s - t);
  const pastOf = new Map<Tensor, Tensor>();
  cache.layers.forEach(({ keys, values }, i) => {
    pastOf.set(keys, inputs[`past_key_values.${i}.key`]!);
    pastOf.set(values, inputs[`past_key_values.${i}.value`]!);
  });
  const assigned = currentTrace()!.assignments;
  const presents = cache.layers.flatMap(({ keys, values }) => [keys, values]);
  const roots = [logits, ...presents.map((v) => assigned.get(v)!)];
  const [grown, ...kept] = rewrite(roots, (node, nodeInputs) => {
    if (node.op.name !== 'cachedAttention') return undefined;
    const [q, k, v, keyCache, valueCache] = nodeInputs as [Tensor, Tensor, Tensor, Tensor, Tensor];
    const keys = concat([pastOf.get(keyCache)!, k], 2);
    const values = concat([pastOf.get(valueCache)!, v], 2);
    const { scale } = node.attributes as { scale: number };
    return [attention(q, keys, values, { mask, scale }), keys, values];
  });
  // What is left of the cache belongs to a mixer that keeps more than keys and values.
  const left = new Set<unknown>(parametersOf(cache).values());
  if (topological([grown!, ...kept]).some(({ payload }) => left.has(payload)))
    throw new AnnealError('this model keeps more than keys and values of the past; it cannot be exported');
  const outputs: Record<string, Tensor> = { logits: grown! };
  kept.forEach((tensor, i) => {
    outputs[`present.${i >> 1}.${i % 2 === 0 ? 'key' : 'value'}`] = tensor;
  });
  return outputs;
}

/**
 * A language model as an ONNX decoder of standard operators: `input_ids`, `attention_mask`, `position_ids` and
 * `past_key_values.N.key|value` → `logits` and `present.N.key|value`, for any batch, length and past.
 * Packed weights are unpacked by the graph, where they stay packed.
 * @throws AnnealError for a model that attends without a KV cache of keys and values.
 */
export function traceLanguageModel(model: Transformer): OnnxExport {
  if (model.config.attention !== 'softmax') {
    throw new AnnealError(
      `models with attention "${model.config.attention}" cannot be exported, only softmax`,
    );
  }
  // Weights get the names of their paths, where they have none.
  parametersOf(model);
  return traceOnnx(decoderInputs(model.cacheShape()), (inputs) => decoderBody(model, inputs), {
    sums: { [total]: [past, length] },
  });
}

/**
 * Writes a directory that transformers.js runs: `onnx/model.onnx` beside config.json and the tokenizer's files.
 * @throws AnnealError if the model cannot be exported or a file cannot be written.
 */
export async function exportLanguageModel(
  folder: string,
  bundle: Omit<LanguageModelBundle, 'name'>,
): Promise<void> {
  const path = await import('node:path');
  const { writeFileAtomically } = await import('../../checkpoint/atomic.js');
  await writeOnnx(path.join(folder, 'onnx', 'model.onnx'), traceLanguageModel(bundle.model));
  for (const [name, text] of modelFiles(bundle)) await writeFileAtomically(path.join(folder, name), text);
}
