import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { AnnealError } from '../core/errors.js';
import { sizeOf } from '../core/shape.js';
import { type ByteSink, writeAtomically } from './atomic.js';
import { elementBytes } from './element-types.js';
import { fileError, fileSource } from './file-source.js';
import { SafetensorsFile, type StoredTensor } from './safetensors.js';
import type { TensorEntry } from './tensor-entry.js';
import type { TensorReader } from './tensor-file.js';

export { entryOf, type TensorEntry } from './tensor-entry.js';

function headerOf(tensors: readonly [string, TensorEntry][], metadata: Readonly<Record<string, string>>) {
  // No prototype: a tensor may be called "__proto__".
  const header: Record<string, unknown> = Object.create(null);
  if (Object.keys(metadata).length > 0) header.__metadata__ = metadata;
  let at = 0;
  for (const [name, { type, shape }] of tensors) {
    const end = at + sizeOf(shape) * elementBytes[type];
    header[name] = { dtype: type, shape, data_offsets: [at, end] };
    at = end;
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  // Padded with spaces so that the data begins on a boundary of 8, as other readers map it into memory.
  const padded = new Uint8Array(8 + Math.ceil(text.length / 8) * 8).fill(0x20);
  new DataView(padded.buffer).setBigUint64(0, BigInt(padded.length - 8), true);
  padded.set(text, 8);
  return padded;
}

async function writeTensor(sink: ByteSink, name: string, entry: TensorEntry): Promise<void> {
  const data = typeof entry.data === 'function' ? entry.data() : entry.data;
  const expected = sizeOf(entry.shape) * elementBytes[entry.type];
  if (data.byteLength !== expected) {
    throw new AnnealError(
      `tensor "${name}" of ${entry.type} [${entry.shape.join(', ')}] has ${data.byteLength} bytes, not ${expected}`,
    );
  }
  await sink.write(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
}

/**
 * Writes a safetensors file, tensor by tensor: atomically, and without a second copy of the model in memory.
 * Larger elements come first, so that every tensor lies on a boundary of its elements.
 * @throws AnnealError if a tensor's data does not fill its shape, or the file cannot be written (the old one stays).
 */
export async function writeSafetensors(
  file: string,
  tensors: ReadonlyMap<string, TensorEntry>,
  metadata: Readonly<Record<string, string>> = {},
): Promise<void> {
  const order = [...tensors].sort(([, a], [, b]) => elementBytes[b.type] - elementBytes[a.type]);
  if (tensors.has('__metadata__')) throw new AnnealError('no tensor can be called "__metadata__"; rename it');
  await writeAtomically(file, async (sink) => {
    await sink.write(headerOf(order, metadata));
    for (const [name, entry] of order) await writeTensor(sink, name, entry);
  });
}

/** Several safetensors files that hold one model. */
class ShardedReader implements TensorReader {
  readonly tensors = new Map<string, StoredTensor>();

  constructor(
    readonly name: string,
    private readonly shardOf: ReadonlyMap<string, SafetensorsFile>,
    private readonly shards: readonly SafetensorsFile[],
  ) {
    for (const [tensor, shard] of shardOf) this.tensors.set(tensor, shard.tensors.get(tensor)!);
  }

  async readFloat32(name: string): Promise<Float32Array> {
    const shard = this.shardOf.get(name);
    if (!shard) throw new AnnealError(`${this.name} has no tensor "${name}"`);
    return shard.readFloat32(name);
  }

  async close(): Promise<void> {
    await Promise.all(this.shards.map((shard) => shard.close()));
  }
}

async function readIndex(file: string): Promise<Map<string, string>> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    throw fileError('read', file, error);
  }
  const corrupt = (why: string) => new AnnealError(`${file} is no index of a sharded model: ${why}`);
  let index: unknown;
  try {
    index = JSON.parse(text);
  } catch {
    throw corrupt('it is no JSON');
  }
  const map = (index as { weight_map?: unknown } | null)?.weight_map;
  if (typeof map !== 'object' || map === null) throw corrupt('it has no "weight_map"');
  for (const [name, shard] of Object.entries(map)) {
    // A shard lies beside its index: an index from the network must not reach other files.
    if (typeof shard !== 'string' || shard !== path.basename(shard) || shard === '..')
      throw corrupt(`tensor "${name}" lies in ${JSON.stringify(shard)}, which is no file beside it`);
  }
  return new Map(Object.entries(map as Record<string, string>));
}

async function openShards(file: string): Promise<TensorReader> {
  const index = await readIndex(file);
  const shards = new Map<string, SafetensorsFile>();
  try {
    for (const shard of new Set(index.values())) {
      const source = await fileSource(path.join(path.dirname(file), shard));
      shards.set(shard, await SafetensorsFile.open(source));
    }
    const shardOf = new Map<string, SafetensorsFile>();
    for (const [name, shard] of index) {
      const opened = shards.get(shard)!;
      if (!opened.tensors.has(name))
        throw new AnnealError(`${file} places tensor "${name}" in ${shard}, which does not have it`);
      shardOf.set(name, opened);
    }
    return new ShardedReader(file, shardOf, [...shards.values()]);
  } catch (error) {
    for (const shard of shards.values()) await shard.close();
    throw error;
  }
}

/**
 * Opens a safetensors file, or the `….safetensors.index.json` of several. The caller closes it.
 * @throws AnnealError if a file is missing, truncated or corrupt; nothing stays open then.
 */
export async function openSafetensors(file: string): Promise<TensorReader> {
  return file.endsWith('.json') ? openShards(file) : openSafetensorsFile(file);
}

/** Opens one safetensors file, with its metadata. The caller closes it. */
export async function openSafetensorsFile(file: string): Promise<SafetensorsFile> {
  return SafetensorsFile.open(await fileSource(file));
}
